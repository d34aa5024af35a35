"""Finnhub: trades of US stocks on a socket per key, ``/stock/symbol`` REST.

Owns this venue's message formats and limits. Must never know about sockets or clocks. Nothing is
acknowledged and trades have no ids; a second connection with a key ends both.
"""

import random
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from market_ingestor.simulator.protocol import (
    US_PER_MS,
    US_PER_S,
    Close,
    Frame,
    HttpReply,
    HttpRequest,
    Limits,
    Outgoing,
    QuietSession,
    Window,
    compact,
    parse_object,
    reply,
)
from market_ingestor.simulator.tape import Fill
from market_ingestor.simulator.world import World

SYMBOLS_MAX: Final = 50  # of the free plan
PING_S: Final = 60

_POLICY_VIOLATION: Final = 1008
_CALLS: Final = 60  # a minute, of the free plan
_CALLS_WINDOW_S: Final = 60
_CONDITIONS: Final = ('["1"]', '["1","12"]', "null")
_TOO_MANY: Final = "Subscribing to too many symbols"
_NO_ACCESS: Final = "You don't have access to this resource."


class FinnhubSession(QuietSession):
    """One connection; its only variant is the set of its symbols, as frames mix them."""

    def __init__(self, front: "FinnhubFront", token: str, now_us: int) -> None:
        super().__init__(now_us)
        self.token = token
        self.is_doomed = False
        self._front = front
        self._markets: set[int] = set()
        self._pinged_us = now_us

    def greet(self, now_us: int) -> list[Outgoing]:  # noqa: ARG002 - the seam passes the time
        """Say nothing; end every connection of the key when there is another one."""
        return [Close(_POLICY_VIOLATION, "token in use")] if self._front.opened(self) else []

    def closed(self) -> None:
        """Give the key back."""
        self._front.closed(self)

    def receive(self, message: str, now_us: int) -> list[Outgoing]:  # noqa: ARG002 - as above
        """Subscribe or unsubscribe one symbol, without an answer unless they are too many."""
        request = parse_object(message) or {}
        kind, name = request.get("type"), request.get("symbol")
        if kind not in {"subscribe", "unsubscribe"} or not isinstance(name, str):
            return [_error("Invalid message")]
        market = self._front.world.find(name)
        if kind == "unsubscribe":
            self._markets.discard(-1 if market is None else market.index)
        elif market is not None and market.index not in self._markets:
            if len(self._markets) >= SYMBOLS_MAX:
                return [_error(_TOO_MANY)]
            self._markets.add(market.index)
        variant = " ".join(str(index) for index in sorted(self._markets))
        self.wanted = {variant: set(self._markets)} if self._markets else {}
        return []

    def tick(self, now_us: int) -> list[Outgoing]:
        """Ping once a minute; go when another connection has taken the key."""
        if self.is_doomed:
            return [Close(_POLICY_VIOLATION, "token in use")]
        if now_us - self._pinged_us < PING_S * US_PER_S:
            return []
        self._pinged_us = now_us
        return [compact({"type": "ping"})]


class FinnhubFront:
    """Finnhub.

    Attributes:
        lists_symbols: Whether the plan of every key includes the list of symbols.
        repeats: How many of the next frames are sent twice.
        clashes: How often a second connection of a key ended both.
    """

    name = "finnhub"
    time_step_us = US_PER_MS
    limits = Limits(
        connects=10, connects_window_s=10, bad_handshake=HTTPStatus.UNAUTHORIZED, compresses=True
    )

    def __init__(self, world: World) -> None:
        self.world = world
        self.lists_symbols = True
        self.repeats = 0
        self.clashes = 0
        self._open: dict[str, list[FinnhubSession]] = {}
        self._calls = Window(_CALLS, _CALLS_WINDOW_S)

    def accept(self, path: str, query: dict[str, str], now_us: int) -> FinnhubSession | None:
        """Open the feed for whoever has a key; any text is one."""
        token = query.get("token")
        return FinnhubSession(self, token, now_us) if path in {"", "/"} and token else None

    def opened(self, session: FinnhubSession) -> bool:
        """Take note of an open connection; return whether its key is in use already."""
        others = self._open.setdefault(session.token, [])
        for other in others:
            other.is_doomed = True
        self.clashes += bool(others)
        others.append(session)
        return len(others) > 1

    def closed(self, session: FinnhubSession) -> None:
        """Take note of a connection's end."""
        sessions = self._open.get(session.token, [])
        if session in sessions:
            sessions.remove(session)

    def encode(self, variant: str, fills: Sequence[Fill], now_us: int) -> list[Frame]:  # noqa: ARG002 - no push time
        """Put what is ready into one frame, in no order of time."""
        wanted = {int(index) for index in variant.split()}
        chosen = [fill for fill in fills if fill.market in wanted]
        if not chosen:
            return []
        random.Random(chosen[0].id).shuffle(chosen)
        data = f'{{"data":[{",".join(map(self._row, chosen))}],"type":"trade"}}'.encode()
        frames = [(chosen[0].market, data, len(chosen))]
        if self.repeats > 0:
            self.repeats -= 1
            frames.append((chosen[0].market, data, 0))
        return frames

    def rest(self, request: HttpRequest, now_us: int) -> HttpReply:
        """Answer ``/stock/symbol``, and nothing without a key."""
        if not (request.headers.get("x-finnhub-token") or request.query.get("token")):
            return _problem("Please use an API key.", HTTPStatus.UNAUTHORIZED)
        if not self._calls.admits(now_us):
            return self.failure(HTTPStatus.TOO_MANY_REQUESTS, None)
        if request.path.removeprefix("/api/v1") != "/stock/symbol" or not self.lists_symbols:
            return _problem(_NO_ACCESS, HTTPStatus.FORBIDDEN)
        return reply([_stock(market.native) for market in self.world.listed()])

    def failure(self, status: int, retry_after_s: int | None) -> HttpReply:
        """Return the body that belongs to a status."""
        headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
        return reply({"error": "API limit reached."}, status=status, **headers)

    def unknown_message(self, now_us: int) -> str:
        """Return a message type no document lists."""
        return compact({"data": [{"datetime": now_us // US_PER_S}], "type": "novelty"})

    def first_id(self, market: int, start_s: int) -> int:  # noqa: ARG002 - every market alike
        """Ids never leave the simulator; the record of the truth has them."""
        return start_s * US_PER_S

    def _row(self, fill: Fill) -> str:
        market = self.world.markets[fill.market]
        return (
            f'{{"c":{_CONDITIONS[fill.amount % len(_CONDITIONS)]},'
            f'"p":{market.price_text(fill.price)},"s":"{market.native}",'
            f'"t":{fill.time_us // US_PER_MS},"v":{market.amount_text(fill.amount)}}}'
        )


def _error(message: str) -> str:
    return compact({"type": "error", "msg": message})


def _problem(message: str, status: int) -> HttpReply:
    return reply({"error": message}, status=status)


def _stock(name: str) -> dict[str, str]:
    return {
        "currency": "USD",
        "description": name,
        "displaySymbol": name,
        "figi": "",
        "mic": "XNAS",
        "symbol": name,
        "type": "Common Stock",
    }
