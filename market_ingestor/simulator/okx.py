"""OKX v5: ``trades`` on ``/ws/v5/public``, ``trades-all`` on ``/ws/v5/business``, market REST.

Owns this venue's message formats and limits. Must never know about sockets or clocks. ``trades`` is
the aggregate of ``trades-all`` from the same tape: consecutive fills of one taker order at one
price. Where the documents leave open which channel is refused how, the text of 60018 is used.
"""

import hashlib
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from market_ingestor.simulator.markets import Market
from market_ingestor.simulator.protocol import (
    US_PER_MS,
    US_PER_S,
    BadRequestError,
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
    whole,
)
from market_ingestor.simulator.tape import Fill
from market_ingestor.simulator.world import World

_PUBLIC: Final = "/ws/v5/public"
_BUSINESS: Final = "/ws/v5/business"
_CHANNELS: Final = {_PUBLIC: frozenset({"trades"}), _BUSINESS: frozenset({"trades-all"})}
_SILENCE_S: Final = 30
_SILENT: Final = 4004
_BUFFER_FULL: Final = 4005
_TOO_LONG: Final = 1009
_ARGS_BYTES_MAX: Final = 65_536
_OPERATIONS_PER_HOUR: Final = 480
_HOUR_S: Final = 3_600
_NOTICE_LEAD_S: Final = 60.0
_NOTICE: Final = "The connection will soon be closed for a service upgrade. Please reconnect."

_FIRST_SEQUENCE: Final = 70_000_000_000
_IDS_PER_S: Final = 200_000  # ids between two starts a second apart: above any rate we reach
_ID_EPOCH_S: Final = 1_700_000_000
_WINDOW_S: Final = 2
_PATH_LIMITS: Final = {
    "/api/v5/market/trades": 100,
    "/api/v5/market/history-trades": 20,
    "/api/v5/market/candles": 40,
    "/api/v5/market/history-candles": 20,
    "/api/v5/public/instruments": 20,
}
_TRADES_PAGE: Final = 100
_TRADES_MAX: Final = 500
_HISTORY_MAX: Final = 100
_CANDLES_PAGE: Final = 100
_CANDLES_MAX: Final = 300
_CANDLES_KEPT: Final = 1_440
_BY_TIME: Final = "2"
_MINUTE_MS: Final = 60_000
_ID_END: Final = 2**63 - 1
# Bars of six hours and more open on UTC+8 unless their name ends in utc; only the latter are here.
_BARS: Final = {
    "1m": 1, "3m": 3, "5m": 5, "15m": 15, "30m": 30, "1H": 60, "2H": 120, "4H": 240,
    "6Hutc": 360, "12Hutc": 720, "1Dutc": 1_440, "1Wutc": 10_080,
}  # fmt: skip


class OkxSession(QuietSession):
    """One connection to one of the two endpoints."""

    def __init__(self, world: World, path: str, connection: str, now_us: int) -> None:
        super().__init__(now_us)
        self._world = world
        self._path = path
        self._connection = connection
        self._operations = Window(_OPERATIONS_PER_HOUR, _HOUR_S)

    def receive(self, message: str, now_us: int) -> list[Outgoing]:
        """Answer text pings and requests; one acknowledgement per argument."""
        self.last_received_us = now_us
        if message == "ping":
            return ["pong"]
        if len(message) > _ARGS_BYTES_MAX:
            return [Close(_TOO_LONG, "request too long")]
        return self._request(message, now_us)

    def tick(self, now_us: int) -> list[Outgoing]:
        """Cut after thirty seconds in which neither side said anything."""
        if now_us - max(self.last_sent_us, self.last_received_us) > _SILENCE_S * US_PER_S:
            return [Close(_SILENT, "No data received in 30s.")]
        return []

    def too_slow(self) -> Close:
        """Say that the buffer is full."""
        return Close(_BUFFER_FULL, "buffer full")

    def notice(self, now_us: int) -> tuple[str | None, float]:  # noqa: ARG002 - the seam's time
        """Warn a minute ahead."""
        event = {"event": "notice", "code": "64008", "msg": _NOTICE, "connId": self._connection}
        return compact(event), _NOTICE_LEAD_S

    def _request(self, message: str, now_us: int) -> list[Outgoing]:
        request = parse_object(message) or {}
        identity, operation = request.get("id"), request.get("op")
        if operation not in {"subscribe", "unsubscribe"}:
            return [self._error(identity, "60012", f"Invalid request: {message[:200]}")]
        arguments = request.get("args")
        if not isinstance(arguments, list) or not arguments:
            return [self._error(identity, "60013", "Invalid args")]
        if not self._operations.admits(now_us):
            text = "Requests too frequent. Please try again later."
            return [self._error(identity, "60014", text)]
        return [self._one(identity, str(operation), each) for each in arguments]

    def _one(self, identity: object, operation: str, argument: object) -> Outgoing:
        fields = argument if isinstance(argument, dict) else {}
        channel, instrument = fields.get("channel"), fields.get("instId")
        market = self._world.find(instrument) if isinstance(instrument, str) else None
        if channel not in _CHANNELS[self._path] or market is None:
            what = "Subscribe" if operation == "subscribe" else "Unsubscribe"
            text = (
                f"{what} failed, wrong URL or channel:{channel},instId:{instrument} doesn't exist."
                " Please use the correct URL, channel and parameters referring to API document."
            )
            return self._error(identity, "60018", text)
        if operation == "subscribe":
            self.want(str(channel), market.index)
        else:
            self.drop(str(channel), market.index)
        return self._event(identity, event=operation, arg=argument)

    def _error(self, identity: object, code: str, text: str) -> str:
        return self._event(identity, event="error", code=code, msg=text)

    def _event(self, identity: object, **fields: object) -> str:
        head = {} if identity is None else {"id": identity}
        return compact({**head, **fields, "connId": self._connection})


class OkxFront:
    """OKX v5."""

    name = "okx"
    time_step_us = US_PER_MS
    limits = Limits(connects=3, connects_window_s=1, compresses=True)

    def __init__(self, world: World) -> None:
        self._world = world
        self._connections = 0
        self._sequence = _FIRST_SEQUENCE
        self._limits = {path: Window(limit, _WINDOW_S) for path, limit in _PATH_LIMITS.items()}

    def accept(self, path: str, query: dict[str, str], now_us: int) -> OkxSession | None:  # noqa: ARG002 - the venue takes no query
        """Open the public or the business endpoint."""
        if path not in _CHANNELS:
            return None
        self._connections += 1
        seed = f"{now_us}/{self._connections}".encode()
        connection = hashlib.blake2b(seed, digest_size=4).hexdigest()
        return OkxSession(self._world, path, connection, now_us)

    def encode(self, variant: str, fills: Sequence[Fill], now_us: int) -> list[Frame]:  # noqa: ARG002 - pushes carry no push time
        """One trade a frame on ``trades-all``, one aggregate a frame on ``trades``."""
        if variant == "trades":
            return [self._aggregate(group) for group in _orders(fills)]
        markets = self._world.markets
        frames: list[Frame] = []
        for fill in fills:
            market = markets[fill.market]
            native = market.native
            text = (
                f'{{"arg":{{"channel":"trades-all","instId":"{native}"}},"data":[{{'
                f'"instId":"{native}","tradeId":"{fill.id}","px":"{market.price_text(fill.price)}",'
                f'"sz":"{market.amount_text(fill.amount)}",'
                f'"side":"{"buy" if fill.is_buy else "sell"}","source":"0",'
                f'"ts":"{fill.time_us // US_PER_MS}"}}]}}'
            )
            frames.append((fill.market, text.encode(), 1))
        return frames

    def rest(self, request: HttpRequest, now_us: int) -> HttpReply:
        """Answer the market and public data paths."""
        limit = self._limits.get(request.path)
        if limit is None:
            return reply({"msg": "Not Found", "code": "404"}, status=HTTPStatus.NOT_FOUND)
        if not limit.admits(now_us):
            return self.failure(HTTPStatus.TOO_MANY_REQUESTS, None)
        try:
            if request.path == "/api/v5/public/instruments":
                return self._instruments(request.query)
            return self._market_answer(request, now_us)
        except BadRequestError as error:
            return _envelope("51000", f"Parameter {error.parameter} error", status=400)

    def failure(self, status: int, retry_after_s: int | None) -> HttpReply:
        """Return the body that belongs to a status."""
        headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            return _envelope("50011", "Too Many Requests", status=status, headers=headers)
        text = "System error. Try again later"
        return _envelope("50026", text, status=status, headers=headers)

    def unknown_message(self, now_us: int) -> str:
        """Return an event no document lists."""
        event = {"event": "channel-novelty", "channel": "trades-all", "at": str(now_us)}
        return compact({**event, "nested": {"list": [None]}})

    def first_id(self, market: int, start_s: int) -> int:
        """Ids without pattern across restarts: seconds times more than any rate."""
        return (start_s - _ID_EPOCH_S) * _IDS_PER_S + (market + 1) * _IDS_PER_S**2

    def _aggregate(self, group: list[Fill]) -> Frame:
        last = group[-1]
        market = self._world.markets[last.market]
        self._sequence += len(group)
        text = compact(
            {
                "arg": {"channel": "trades", "instId": market.native},
                "data": [
                    {
                        "instId": market.native,
                        "tradeId": str(last.id),
                        "px": market.price_text(last.price),
                        "sz": market.amount_text(sum(fill.amount for fill in group)),
                        "side": _side(last),
                        "ts": str(last.time_us // US_PER_MS),
                        "count": str(len(group)),
                        "source": "0",
                        "seqId": self._sequence,
                    }
                ],
            }
        )
        return last.market, text.encode(), len(group)

    def _market_answer(self, request: HttpRequest, now_us: int) -> HttpReply:
        instrument = request.query.get("instId")
        if not instrument:
            return _envelope("50014", "Parameter instId can not be empty", status=400)
        market = self._world.find(instrument)
        if market is None:
            return _envelope("51001", "Instrument ID does not exist")
        match request.path:
            case "/api/v5/market/trades":
                return self._newest(market, request.query, now_us)
            case "/api/v5/market/history-trades":
                return self._history(market, request.query, now_us)
            case _:
                return self._candles(market, request, now_us)

    def _newest(self, market: Market, query: dict[str, str], now_us: int) -> HttpReply:
        limit = min(whole(query, "limit", _TRADES_PAGE), _TRADES_MAX)
        history = self._world.histories[market.index]
        return _trades(market, history.newest(limit, self._world.horizon_us(now_us)))

    def _history(self, market: Market, query: dict[str, str], now_us: int) -> HttpReply:
        limit = min(whole(query, "limit", _HISTORY_MAX), _HISTORY_MAX)
        history = self._world.histories[market.index]
        horizon_us = self._world.horizon_us(now_us)
        if query.get("type") == _BY_TIME:
            after_us = whole(query, "after", now_us // US_PER_MS + 1) * US_PER_MS - 1
            bound = after_us if horizon_us is None else min(after_us, horizon_us)
            return _trades(market, history.newest(limit, bound))
        after = whole(query, "after", 0)
        before = whole(query, "before", 0)
        if after:
            page = history.below(after, limit, horizon_us)
            return _trades(market, [fill for fill in page if fill.id > before])
        # ``before`` alone: the newest page, not the one next to the cursor.
        return _trades(market, history.above(before, limit, horizon_us))

    def _candles(self, market: Market, request: HttpRequest, now_us: int) -> HttpReply:
        query = request.query
        minutes = _BARS.get(query.get("bar", "1m"))
        if minutes is None:
            raise BadRequestError("bar")
        limit = min(whole(query, "limit", _CANDLES_PAGE), _CANDLES_MAX)
        now_ms = now_us // US_PER_MS
        length_ms = minutes * _MINUTE_MS
        rows = self._world.histories[market.index].candles(length_ms, is_flat=True, until_ms=now_ms)
        if request.path == "/api/v5/market/candles":
            rows = rows[-_CANDLES_KEPT:]
        after = whole(query, "after", _ID_END)
        before = whole(query, "before", 0)
        rows = [row for row in rows if before < row.open_ms < after][-limit:]
        lines = []
        for row in reversed(rows):
            prices = [market.price_text(each) for each in (row.open, row.high, row.low, row.close)]
            value = market.value_text(row.quote)
            volume = market.amount_text(row.volume)
            confirm = "1" if row.open_ms + length_ms <= now_ms else "0"
            lines.append([str(row.open_ms), *prices, volume, value, value, confirm])
        return reply({"code": "0", "msg": "", "data": lines})

    def _instruments(self, query: dict[str, str]) -> HttpReply:
        if query.get("instType") != "SPOT":
            return _envelope("51000", "Parameter instType error", status=400)
        wanted = query.get("instId")
        rows = [
            _instrument(market)
            for market in self._world.listed()
            if wanted is None or wanted == market.native
        ]
        if wanted is not None and not rows:
            return _envelope("51001", "Instrument ID does not exist")
        return reply({"code": "0", "msg": "", "data": rows})


def _orders(fills: Sequence[Fill]) -> list[list[Fill]]:
    """Group what one taker order did at one price: neighbours of equal market, time and price."""
    groups: list[list[Fill]] = []
    for fill in fills:
        last = groups[-1][-1] if groups else None
        if (
            last is not None
            and (last.market, last.time_us, last.price, last.is_buy, last.id + 1)
            == (fill.market, fill.time_us, fill.price, fill.is_buy, fill.id)
        ):  # fmt: skip
            groups[-1].append(fill)
        else:
            groups.append([fill])
    return groups


def _side(fill: Fill) -> str:
    return "buy" if fill.is_buy else "sell"


def _trades(market: Market, fills: list[Fill]) -> HttpReply:
    rows = [
        {
            "instId": market.native,
            "side": _side(fill),
            "sz": market.amount_text(fill.amount),
            "source": "0",
            "px": market.price_text(fill.price),
            "tradeId": str(fill.id),
            "ts": str(fill.time_us // US_PER_MS),
        }
        for fill in reversed(fills)
    ]
    return reply({"code": "0", "msg": "", "data": rows})


def _envelope(
    code: str, text: str, *, status: int = HTTPStatus.OK, headers: dict[str, str] | None = None
) -> HttpReply:
    return reply({"code": code, "msg": text, "data": []}, status=status, **(headers or {}))


def _instrument(market: Market) -> dict[str, object]:
    return {
        "instType": "SPOT",
        "instId": market.native,
        "baseCcy": market.base,
        "quoteCcy": market.quote,
        "tradeQuoteCcyList": [market.quote],
        "state": "live",
        "tickSz": market.tick_text,
        "lotSz": market.lot_text,
        "minSz": "0.00001",
        "listTime": "1600000000000",
        "contTdSwTime": "",
        "expTime": "",
        "openType": "",
        "ruleType": "normal",
        "instIdCode": 1_000_000_001 + market.index,
        "instCategory": "1",
        "upcChg": [],
    }
