"""Binance spot: combined and raw streams, and the public part of ``/api/v3``.

Owns this venue's message formats and limits. Must never know about sockets or clocks. Every trade
is its own aggregate here (``f`` = ``l``), with aggregate ids in a number space of their own.
"""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

import msgspec

from market_ingestor.simulator.history import Candle
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
    texts,
    whole,
)
from market_ingestor.simulator.tape import Fill
from market_ingestor.simulator.world import World

_CLIENT_MESSAGES_PER_S: Final = 5
_STREAMS_MAX: Final = 1_024
_STREAM_NAME: Final = re.compile(
    r"[^@\s/]+@(trade|aggTrade|blockTrade|kline_\w+|miniTicker|ticker|bookTicker|avgPrice"
    r"|depth(5|10|20)?(@100ms|@1000ms)?)|!\w+(@\w+)*"
)
_POLICY_VIOLATION: Final = 1008
_NORMAL: Final = 1000
_SHUTDOWN_LEAD_S: Final = 10.0  # the venue promises none; ten seconds lets a client act
_BAD_REQUEST: Final = 2
_BAD_JSON: Final = 3
_VARIANT: Final = "{}|{}|{}"  # channel, dialect, time unit
_CARRIED: Final = frozenset({"trade", "aggTrade"})  # streams that bring data

_AGGREGATE_OFFSET: Final = 1_000_000_000  # aggregate ids run above trade ids by this much
_IDS_PER_S: Final = 200_000  # ids between two starts a second apart: above any rate we reach
_ID_EPOCH_S: Final = 1_700_000_000
_PAGE: Final = 500
_PAGE_MAX: Final = 1_000
_WEIGHT_PER_MINUTE: Final = 6_000
_MINUTE_S: Final = 60
_STRIKES_MAX: Final = 5  # refused requests before 429 turns into the ban 418
_BAN_S: Final = 120
_WEIGHTS: Final = {"historicalTrades": 25, "trades": 25, "aggTrades": 4, "exchangeInfo": 20}
_WEIGHT: Final = 2
_MINUTE_MS: Final = 60_000
_INTERVALS: Final = {
    "1m": 1, "3m": 3, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "2h": 120, "4h": 240, "6h": 360,
    "8h": 480, "12h": 720, "1d": 1_440, "3d": 4_320, "1w": 10_080,
}  # fmt: skip


class BinanceSession(QuietSession):
    """One connection; ``streams`` holds every name asked for, with or without data behind it."""

    def __init__(self, front: "BinanceFront", dialect: str, unit: str, now_us: int) -> None:
        super().__init__(now_us)
        self._front = front
        self._dialect = dialect
        self._unit = unit
        self._messages = Window(_CLIENT_MESSAGES_PER_S, 1)
        self.streams: dict[str, None] = {}

    def subscribe(self, streams: list[str]) -> None:
        """Add stream names; those that name nothing listed stay silent."""
        self.streams.update(dict.fromkeys(streams))
        self._rebuild()

    def receive(self, message: str, now_us: int) -> list[Outgoing]:
        """Answer SUBSCRIBE and its relatives."""
        if not self._messages.admits(now_us):
            return [Close(_POLICY_VIOLATION, "Too many requests")]
        request = parse_object(message)
        if request is None:
            return [_error(_BAD_JSON, "Invalid JSON: expected value at line 1 column 1", None)]
        identity = request.get("id")
        method = request.get("method")
        params = request.get("params")
        match method:
            case "SUBSCRIBE" | "UNSUBSCRIBE":
                return self._change(method, texts(params), identity)
            case "LIST_SUBSCRIPTIONS":
                return [compact({"result": list(self.streams), "id": identity})]
            case "SET_PROPERTY" | "GET_PROPERTY":
                return self._property(params, identity, is_set=method == "SET_PROPERTY")
            case _:
                return [_error(_BAD_REQUEST, _method_problem(method), identity)]

    def notice(self, now_us: int) -> tuple[str | None, float]:
        """Send ``serverShutdown``, wrapped on combined sockets."""
        event = {"e": "serverShutdown", "E": now_us // US_PER_MS}
        if self._dialect == "raw":
            return compact(event), _SHUTDOWN_LEAD_S
        return compact({"stream": "!serverShutdown", "data": event}), _SHUTDOWN_LEAD_S

    def replay_variant(self) -> str:
        """Unwrap recorded frames for raw sockets."""
        return "raw" if self._dialect == "raw" else "wrapped"

    def _change(self, method: str, names: list[str] | None, identity: object) -> list[Outgoing]:
        if names is None:
            return [_error(_BAD_REQUEST, "Invalid request: params must be an array", identity)]
        if any(_STREAM_NAME.fullmatch(name) is None for name in names):
            refusal = _error(_BAD_REQUEST, "Invalid request: invalid stream", identity)
            return [refusal, Close(_NORMAL)]
        if method == "UNSUBSCRIBE":
            for name in names:
                self.streams.pop(name, None)
            self._rebuild()
        elif len(self.streams.keys() | set(names)) > _STREAMS_MAX:
            return [_error(_BAD_REQUEST, "Invalid request: too many parameters", identity)]
        else:
            self.subscribe(names)
        return [compact({"result": None, "id": identity})]

    def _property(self, params: object, identity: object, *, is_set: bool) -> list[Outgoing]:
        values = params if isinstance(params, list) else []
        if not values or values[0] != "combined":
            return [_error(0, "Unknown property", identity)]
        if not is_set:
            return [compact({"result": self._dialect == "combined", "id": identity})]
        if len(values) != 2 or not isinstance(values[1], bool):  # noqa: PLR2004 - name and value
            return [_error(1, "Invalid value type: expected Boolean", identity)]
        self._dialect = "combined" if values[1] else "raw"
        self._rebuild()
        return [compact({"result": None, "id": identity})]

    def _rebuild(self) -> None:
        self.wanted = {}
        for name in self.streams:
            native, _, channel = name.partition("@")
            market = self._front.by_stream.get(native)
            if market is not None and channel in _CARRIED:
                self.want(_VARIANT.format(channel, self._dialect, self._unit), market.index)


class BinanceFront:
    """Binance spot."""

    name = "binance"
    time_step_us = US_PER_MS
    limits = Limits(
        connects=300,
        connects_window_s=300,
        life_max_s=86_400,
        ping_interval_s=20,
        pong_deadline_s=60,
    )

    def __init__(self, world: World) -> None:
        self._world = world
        self.by_stream = {market.native.lower(): market for market in world.markets}
        self._weight = Window(_WEIGHT_PER_MINUTE, _MINUTE_S)
        self._strikes = 0
        self._banned_until_us = 0

    def accept(self, path: str, query: dict[str, str], now_us: int) -> BinanceSession | None:
        """Open ``/ws``, ``/ws/<stream>`` or ``/stream``."""
        root, _, rest = path.strip("/").partition("/")
        unit = "us" if query.get("timeUnit", "").lower() == "microsecond" else "ms"
        if root == "ws":
            session = BinanceSession(self, "raw", unit, now_us)
            names = rest.split("/")
        elif root == "stream" and not rest:
            session = BinanceSession(self, "combined", unit, now_us)
            names = query.get("streams", "").split("/")
        else:
            return None
        session.subscribe([name for name in names if _STREAM_NAME.fullmatch(name)])
        return session

    def encode(self, variant: str, fills: Sequence[Fill], now_us: int) -> list[Frame]:
        """One frame a trade."""
        channel, dialect, unit = variant.split("|")
        divisor = US_PER_MS if unit == "ms" else 1
        is_trade = channel == "trade"
        heads = self._heads(channel, dialect, now_us // divisor)
        tail = "}}" if dialect == "combined" else "}"
        markets = self._world.markets
        frames: list[Frame] = []
        for fill in fills:
            number = fill.market
            market = markets[number]
            trade_id = fill.id
            ids = trade_id if is_trade else trade_id + _AGGREGATE_OFFSET
            covered = "" if is_trade else f'"f":{trade_id},"l":{trade_id},'
            text = (
                f'{heads[number]}{ids},"p":"{market.price_text(fill.price)}",'
                f'"q":"{market.amount_text(fill.amount)}",{covered}"T":{fill.time_us // divisor},'
                f'"m":{"false" if fill.is_buy else "true"},"M":true{tail}'
            )
            frames.append((number, text.encode(), 1))
        return frames

    def rest(self, request: HttpRequest, now_us: int) -> HttpReply:
        """Answer ``/api/v3``, counting weight and banning as the venue does."""
        _, _, name = request.path.partition("/api/v3/")
        refusal = self._refusal(_WEIGHTS.get(name, _WEIGHT), now_us)
        if refusal is not None:
            return refusal
        try:
            answer = self._answer(name, request, now_us)
        except BadRequestError as error:
            answer = _failure(-1102, _missing(error.parameter))
        used = {**answer.headers, "X-MBX-USED-WEIGHT-1M": str(int(self._weight.used(now_us)))}
        return msgspec.structs.replace(answer, headers=used)

    def failure(self, status: int, retry_after_s: int | None) -> HttpReply:
        """Return the body that belongs to a status."""
        headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
        if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.IM_A_TEAPOT}:
            return reply(_body(-1003, "Too many requests."), status=status, **headers)
        if status == HTTPStatus.FORBIDDEN:
            page = b"<html><head><title>403 Forbidden</title></head></html>"
            return HttpReply(status=status, body=page, content_type="text/html", headers=headers)
        return reply(_body(-1001, "Internal error."), status=status, **headers)

    def unknown_message(self, now_us: int) -> str:
        """Return an event type no document lists."""
        event = {"e": "novelty", "E": now_us // US_PER_MS, "x": [1, {"y": None}]}
        return compact({"stream": "!novelty@arr", "data": event})

    def first_id(self, market: int, start_s: int) -> int:
        """Ids without pattern across restarts: seconds times more than any rate."""
        return (start_s - _ID_EPOCH_S) * _IDS_PER_S + (market + 1) * _AGGREGATE_OFFSET * 10

    def _heads(self, channel: str, dialect: str, event_time: int) -> list[str]:
        """Return, by market, everything in front of the id."""
        name = "t" if channel == "trade" else "a"
        bare = f'{{"e":"{channel}","E":{event_time},"s":"'
        if dialect == "raw":
            return [f'{bare}{each.native}","{name}":' for each in self._world.markets]
        return [
            f'{{"stream":"{stream}@{channel}","data":{bare}{market.native}","{name}":'
            for stream, market in self.by_stream.items()
        ]

    def _refusal(self, weight: int, now_us: int) -> HttpReply | None:
        if now_us < self._banned_until_us:
            left_s = (self._banned_until_us - now_us) // US_PER_S + 1
            return self.failure(HTTPStatus.IM_A_TEAPOT, left_s)
        if self._weight.admits(now_us, weight):
            self._strikes = 0
            return None
        self._strikes += 1
        if self._strikes > _STRIKES_MAX:
            self._banned_until_us = now_us + _BAN_S * US_PER_S
            return self.failure(HTTPStatus.IM_A_TEAPOT, _BAN_S)
        return self.failure(HTTPStatus.TOO_MANY_REQUESTS, _MINUTE_S)

    def _answer(self, name: str, request: HttpRequest, now_us: int) -> HttpReply:
        match name:
            case "ping":
                return reply({})
            case "time":
                return reply({"serverTime": now_us // US_PER_MS})
            case "exchangeInfo":
                return self._instruments(request, now_us)
            case "historicalTrades" | "trades" | "aggTrades" | "klines":
                return self._market_answer(name, request, now_us)
            case _:
                page = b"<html><body><h2>404 Not found</h2></body></html>"
                return HttpReply(
                    status=HTTPStatus.NOT_FOUND, body=page, content_type="text/html;charset=UTF-8"
                )

    def _market_answer(self, name: str, request: HttpRequest, now_us: int) -> HttpReply:
        query = request.query
        if not query.get("symbol"):
            return _failure(-1102, _missing("symbol"))
        market = self._world.find(query["symbol"])
        if market is None:
            return _failure(-1121, "Invalid symbol.")
        if name == "klines":
            return self._klines(market, query, now_us)
        is_us = request.headers.get("x-mbx-time-unit", "").upper() == "MICROSECOND"
        divisor = 1 if is_us else US_PER_MS
        fills = self._page(name, market, query, now_us)
        if name == "aggTrades":
            return reply([_aggregate(market, fill, divisor) for fill in fills])
        return reply([_row(market, fill, divisor) for fill in fills])

    def _page(self, name: str, market: Market, query: dict[str, str], now_us: int) -> list[Fill]:
        limit = min(whole(query, "limit", _PAGE), _PAGE_MAX)
        history = self._world.histories[market.index]
        horizon_us = self._world.horizon_us(now_us)
        if name != "trades" and query.get("fromId"):
            offset = _AGGREGATE_OFFSET if name == "aggTrades" else 0
            return history.starting(max(whole(query, "fromId", 0) - offset, 0), limit, horizon_us)
        if name == "aggTrades" and query.get("startTime"):
            start_us = whole(query, "startTime", 0) * US_PER_MS
            end_us = (whole(query, "endTime", now_us // US_PER_MS) + 1) * US_PER_MS - 1
            bound = end_us if horizon_us is None else min(end_us, horizon_us)
            return history.since(start_us - 1, limit, bound)
        return history.newest(limit, horizon_us)

    def _klines(self, market: Market, query: dict[str, str], now_us: int) -> HttpReply:
        minutes = _INTERVALS.get(query.get("interval", ""))
        if minutes is None:
            return _failure(-1120, "Invalid interval.")
        length_ms = minutes * _MINUTE_MS
        now_ms = now_us // US_PER_MS
        rows = self._world.histories[market.index].candles(length_ms, is_flat=True, until_ms=now_ms)
        limit = min(whole(query, "limit", _PAGE), _PAGE_MAX)
        start = whole(query, "startTime", 0)
        end = whole(query, "endTime", now_ms)
        rows = [row for row in rows if start <= row.open_ms <= end]
        rows = rows[:limit] if query.get("startTime") else rows[-limit:]
        return reply([_kline(market, row, length_ms) for row in rows])

    def _instruments(self, request: HttpRequest, now_us: int) -> HttpReply:
        asked = request.query.get("symbol")
        names = [asked] if asked else _listed_names(request.query.get("symbols"))
        markets = self._world.listed()
        if names is not None:
            found = [self._world.find(name) for name in names]
            if None in found:
                return _failure(-1121, "Invalid symbol.")
            markets = [market for market in found if market is not None]
        limit = {"interval": "MINUTE", "intervalNum": 1, "limit": _WEIGHT_PER_MINUTE}
        return reply(
            {
                "timezone": "UTC",
                "serverTime": now_us // US_PER_MS,
                "rateLimits": [{"rateLimitType": "REQUEST_WEIGHT", **limit}],
                "exchangeFilters": [],
                "symbols": [_instrument(market) for market in markets],
            }
        )


def _listed_names(text: str | None) -> list[str] | None:
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=list[str])
    except msgspec.MsgspecError:
        raise BadRequestError("symbols") from None


def _body(code: int, message: str) -> dict[str, object]:
    return {"code": code, "msg": message}


def _failure(code: int, message: str) -> HttpReply:
    return reply(_body(code, message), status=HTTPStatus.BAD_REQUEST)


def _missing(name: str) -> str:
    return f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."


def _method_problem(method: object) -> str:
    if method is None:
        return "Invalid request: missing field `method`"
    return (
        f"Invalid request: unknown variant `{method}`, expected one of `SUBSCRIBE`, "
        "`UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY`"
    )


def _error(code: int, message: str, identity: object) -> str:
    return compact({"error": {"code": code, "msg": message}, "id": identity})


def _row(market: Market, fill: Fill, divisor: int) -> dict[str, object]:
    return {
        "id": fill.id,
        "price": market.price_text(fill.price),
        "qty": market.amount_text(fill.amount),
        "quoteQty": _eight(market, fill.price * fill.amount),
        "time": fill.time_us // divisor,
        "isBuyerMaker": not fill.is_buy,
        "isBestMatch": True,
    }


def _aggregate(market: Market, fill: Fill, divisor: int) -> dict[str, object]:
    return {
        "a": fill.id + _AGGREGATE_OFFSET,
        "p": market.price_text(fill.price),
        "q": market.amount_text(fill.amount),
        "f": fill.id,
        "l": fill.id,
        "T": fill.time_us // divisor,
        "m": not fill.is_buy,
        "M": True,
    }


def _eight(market: Market, value: int) -> str:
    """Write a product with the venue's eight digits; further ones are cut, as there."""
    whole_part, _, fraction = market.value_text(value).partition(".")
    return f"{whole_part}.{fraction[:8]:0<8}"


def _kline(market: Market, row: Candle, length_ms: int) -> list[object]:
    return [
        row.open_ms,
        market.price_text(row.open),
        market.price_text(row.high),
        market.price_text(row.low),
        market.price_text(row.close),
        market.amount_text(row.volume),
        row.open_ms + length_ms - 1,
        _eight(market, row.quote),
        row.count,
        market.amount_text(row.buy_volume),
        _eight(market, row.buy_quote),
        "0",
    ]


def _instrument(market: Market) -> dict[str, object]:
    price = {
        "filterType": "PRICE_FILTER",
        "minPrice": market.tick_text,
        "maxPrice": "1000000.00000000",
        "tickSize": market.tick_text,
    }
    lot = {
        "filterType": "LOT_SIZE",
        "minQty": market.lot_text,
        "maxQty": "9000.00000000",
        "stepSize": market.lot_text,
    }
    return {
        "symbol": market.native,
        "status": "TRADING",
        "baseAsset": market.base,
        "baseAssetPrecision": 8,
        "quoteAsset": market.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "isSpotTradingAllowed": True,
        "filters": [price, lot],
        "permissions": [],
        "permissionSets": [["SPOT"]],
    }
