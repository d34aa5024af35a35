"""A push client that keeps every closed candle it is told, resuming by position."""

import asyncio
import json
from typing import Any, Final, TypeAlias

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

TOPIC: Final = "closed.*.*.*"
RETRY_S: Final = 0.2
SILENCE_S: Final = 5.0  # a connection that answers no ping for so long is given up

Window: TypeAlias = tuple[str, str, str, int]  # exchange, symbol, period, open time in ms


class Collector:
    """Stays subscribed to all closed candles, whatever happens to the gateway.

    Attributes:
        versions: Every candle received, by window and revision.
        connects: How often it connected.
        missed: Notices that it was too slow.
        wrong: What it was told that must not be.
        is_subscribed: Whether the gateway has confirmed the topic on the present connection.
    """

    def __init__(self, port: int) -> None:
        self.versions: dict[tuple[Window, int], dict[str, Any]] = {}
        self.connects = 0
        self.missed = 0
        self.wrong: list[str] = []
        self.is_subscribed = False
        self._address = f"ws://127.0.0.1:{port}/ws"
        self._position: str | None = None

    async def run(self) -> None:
        """Collect until cancelled."""
        while True:
            try:
                async with connect(
                    self._address, proxy=None, max_size=None, open_timeout=SILENCE_S,
                    ping_interval=SILENCE_S / 2, ping_timeout=SILENCE_S / 2, close_timeout=1,
                ) as client:  # fmt: skip
                    self.connects += 1
                    await self._collect(client)
            except (OSError, TimeoutError, WebSocketException):
                pass  # the gateway or the link is away: that is what is being tried
            self.is_subscribed = False
            await asyncio.sleep(RETRY_S)

    async def _collect(self, client: ClientConnection) -> None:
        ask: dict[str, Any] = {"action": "subscribe", "topics": [TOPIC], "id": 1}
        if self._position is not None:
            ask["since"] = self._position
        await client.send(json.dumps(ask))
        async for frame in client:
            message = json.loads(frame)
            match message["type"]:
                case "subscribed":
                    self.is_subscribed = True
                    if self._position is None:
                        self._position = message["position"]
                case "kline":
                    self._keep(message)
                case "missed":
                    self.missed += 1
                    return  # resume from the last position that was kept
                case _:
                    self.wrong.append(json.dumps(message)[:500])
                    return

    def _keep(self, message: dict[str, Any]) -> None:
        candle = message["data"]
        window = candle["exchange"], candle["symbol"], candle["period"], candle["open_time"]
        known = self.versions.setdefault((window, candle["revision"]), candle)
        if known != candle:
            self.wrong.append(f"two candles are revision {candle['revision']} of {window}")
        self._position = message["position"]
