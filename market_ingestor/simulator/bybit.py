"""Bybit v5 spot: ``publicTrade`` on ``/v5/public/spot`` and the public market REST.

Owns this venue's message formats and limits. Must never know about sockets or clocks.
"""

import uuid
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final

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

_PATH: Final = "/v5/public/spot"
_TRADES: Final = "publicTrade"
_ARGS_MAX: Final = 10
_ARGS_CHARS_MAX: Final = 21_000
_TRADES_PER_FRAME: Final = 1_024
_SILENCE_S: Final = 600
_NORMAL: Final = 1000

# Nineteen digits, as seen on the venue: a shard number, then the sequence.
_SHARD: Final = 2_290 * 10**15
_IDS_PER_S: Final = 200_000  # ids between two starts a second apart: above any rate we reach
_ID_EPOCH_S: Final = 1_700_000_000
_SEQUENCE_PER_TRADE: Final = 7  # the cross sequence has holes
_SEQUENCE_MASK: Final = 10**11

_RECENT_MAX: Final = 60
_KLINES_PAGE: Final = 200
_KLINES_MAX: Final = 1_000
_REQUESTS: Final = 600
_REQUESTS_WINDOW_S: Final = 5
_BAN_S: Final = 600
_MINUTE_MS: Final = 60_000
_INTERVALS: Final = {
    "1": 1, "3": 3, "5": 5, "15": 15, "30": 30, "60": 60, "120": 120, "240": 240, "360": 360,
    "720": 720, "D": 1_440, "W": 10_080,
}  # fmt: skip


class BybitSession(QuietSession):
    """One connection to the spot endpoint."""

    def __init__(self, world: World, connection: str, now_us: int) -> None:
        super().__init__(now_us)
        self._world = world
        self._connection = connection

    def receive(self, message: str, now_us: int) -> list[Outgoing]:
        """Answer pings and requests; one acknowledgement for the whole request."""
        self.last_received_us = now_us
        request = parse_object(message)
        if request is None:
            return [self._answer("", "", problem="Params Error")]
        identity = str(request.get("req_id", ""))
        match request.get("op"):
            case "ping":
                pong = {"success": True, "ret_msg": "pong", "conn_id": self._connection}
                return [compact({**pong, "req_id": identity, "op": "ping"})]
            case ("subscribe" | "unsubscribe") as operation:
                topics = texts(request.get("args"))
                problem = "Params Error" if not topics else self._problem(operation, topics)
                if problem is None and topics is not None:
                    self._apply(operation, topics)
                return [self._answer(identity, operation, problem=problem)]
            case operation:
                return [self._answer(identity, str(operation), problem="error:unknown op")]

    def tick(self, now_us: int) -> list[Outgoing]:
        """Cut after ten minutes without a message in either direction."""
        if now_us - max(self.last_sent_us, self.last_received_us) > _SILENCE_S * US_PER_S:
            return [Close(_NORMAL, "")]
        return []

    def _problem(self, operation: str, topics: list[str]) -> str | None:
        """Return why the batch is refused; one bad topic refuses all of them."""
        if len(topics) > _ARGS_MAX:
            return f"args size >{_ARGS_MAX}"
        if operation == "unsubscribe":
            return None
        held = self.wanted.get(_TRADES, set())
        chars = sum(len(topic) for topic in topics) + sum(
            len(f"{_TRADES}.{self._world.markets[index].native}") for index in held
        )
        if chars > _ARGS_CHARS_MAX:
            return f"args length >{_ARGS_CHARS_MAX}"
        for topic in topics:
            market = self._market(topic)
            if market is None:
                return f"error:handler not found,topic:{topic}"
            if market.index in held:
                return f"error:already subscribed,topic:{topic}"
        return None

    def _apply(self, operation: str, topics: list[str]) -> None:
        for market in filter(None, map(self._market, topics)):
            if operation == "subscribe":
                self.want(_TRADES, market.index)
            else:
                self.drop(_TRADES, market.index)

    def _market(self, topic: str) -> Market | None:
        channel, _, native = topic.partition(".")
        return self._world.find(native) if channel == _TRADES else None

    def _answer(self, identity: str, operation: str, *, problem: str | None) -> str:
        return compact(
            {
                "success": problem is None,
                "ret_msg": operation if problem is None else problem,
                "conn_id": self._connection,
                "req_id": identity if problem is None else "",
                "op": operation,
            }
        )


class BybitFront:
    """Bybit v5 spot."""

    name = "bybit"
    time_step_us = US_PER_MS
    limits = Limits(connects=500, connects_window_s=300, connect_refusal=HTTPStatus.FORBIDDEN)

    def __init__(self, world: World) -> None:
        self._world = world
        self._connections = 0
        self._requests = Window(_REQUESTS, _REQUESTS_WINDOW_S)
        self._banned_until_us = 0

    def accept(self, path: str, query: dict[str, str], now_us: int) -> BybitSession | None:  # noqa: ARG002 - the venue takes no query
        """Open the spot endpoint."""
        if path != _PATH:
            return None
        self._connections += 1
        name = str(uuid.uuid5(uuid.NAMESPACE_URL, f"bybit/{now_us}/{self._connections}"))
        return BybitSession(self._world, name, now_us)

    def encode(self, variant: str, fills: Sequence[Fill], now_us: int) -> list[Frame]:  # noqa: ARG002 - one variant only
        """Gather what is ready of a symbol into frames of at most 1,024 trades."""
        by_market: dict[int, list[Fill]] = {}
        for fill in fills:
            by_market.setdefault(fill.market, []).append(fill)
        frames: list[Frame] = []
        for index, group in by_market.items():
            market = self._world.markets[index]
            for start in range(0, len(group), _TRADES_PER_FRAME):
                part = group[start : start + _TRADES_PER_FRAME]
                data = ",".join([_trade(market, fill) for fill in part])
                text = (
                    f'{{"topic":"{_TRADES}.{market.native}","type":"snapshot",'
                    f'"ts":{now_us // US_PER_MS},"data":[{data}]}}'
                )
                frames.append((index, text.encode(), len(part)))
        return frames

    def rest(self, request: HttpRequest, now_us: int) -> HttpReply:
        """Answer ``/v5/market`` and count requests; over the limit the address is banned."""
        if now_us < self._banned_until_us:
            return self.failure(HTTPStatus.FORBIDDEN, None)
        if not self._requests.admits(now_us):
            self._banned_until_us = now_us + _BAN_S * US_PER_S
            return self.failure(HTTPStatus.FORBIDDEN, None)
        try:
            return self._answer(request, now_us)
        except BadRequestError as error:
            return _envelope(10_001, f"params error: {error.parameter} invalid", {}, now_us)

    def failure(self, status: int, retry_after_s: int | None) -> HttpReply:
        """Return the body that belongs to a status."""
        headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
        if status == HTTPStatus.FORBIDDEN:
            text = b"403, access too frequent"
            return HttpReply(status=status, body=text, content_type="text/plain", headers=headers)
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            body: dict[str, object] = {"retCode": 10_006, "retMsg": "Too many visits!"}
        else:
            body = {"retCode": 10_016, "retMsg": "Server error."}
        body |= {"result": {}, "retExtInfo": {}, "time": 0}
        return reply(body, status=status, **headers)

    def unknown_message(self, now_us: int) -> str:
        """Return a topic no document lists."""
        return compact({"topic": "novelty.ALL", "type": "delta", "ts": now_us, "data": {"x": None}})

    def first_id(self, market: int, start_s: int) -> int:
        """Nineteen digits that start with the shard and never come back after a restart."""
        return _SHARD + (start_s - _ID_EPOCH_S) * _IDS_PER_S + (market + 1)

    def _answer(self, request: HttpRequest, now_us: int) -> HttpReply:
        _, _, name = request.path.partition("/v5/market/")
        match name:
            case "time":
                now = {"timeSecond": str(now_us // US_PER_S), "timeNano": str(now_us * US_PER_MS)}
                return _envelope(0, "OK", now, now_us)
            case "instruments-info" | "recent-trade" | "kline":
                return self._spot(name, request.query, now_us)
            case _:
                return HttpReply(status=HTTPStatus.NOT_FOUND, body=b"", content_type="text/plain")

    def _spot(self, name: str, query: dict[str, str], now_us: int) -> HttpReply:
        # Without a category klines are those of the derivative: that market is not simulated.
        if query.get("category", "linear" if name == "kline" else "") != "spot":
            return _envelope(10_001, "params error: Category is invalid", {}, now_us)
        if name == "instruments-info":
            return self._instruments(query, now_us)
        market = self._world.find(query.get("symbol", ""))
        if market is None:
            return _envelope(10_001, "Not supported symbols", {}, now_us)
        answer = self._klines if name == "kline" else self._recent
        return answer(market, query, now_us)

    def _recent(self, market: Market, query: dict[str, str], now_us: int) -> HttpReply:
        limit = min(max(whole(query, "limit", _RECENT_MAX), 1), _RECENT_MAX)
        history = self._world.histories[market.index]
        rows = [
            {
                "execId": str(fill.id),
                "symbol": market.native,
                "price": market.price_text(fill.price),
                "size": market.amount_text(fill.amount),
                "side": _side(fill),
                "time": str(fill.time_us // US_PER_MS),
                "isBlockTrade": False,
                "isRPITrade": False,
                "seq": str(_sequence(fill)),
            }
            for fill in reversed(history.newest(limit, self._world.horizon_us(now_us)))
        ]
        return _envelope(0, "OK", {"category": "spot", "list": rows}, now_us)

    def _klines(self, market: Market, query: dict[str, str], now_us: int) -> HttpReply:
        minutes = _INTERVALS.get(query.get("interval", ""))
        if minutes is None:
            raise BadRequestError("interval")
        limit = min(whole(query, "limit", _KLINES_PAGE), _KLINES_MAX)
        now_ms = now_us // US_PER_MS
        start, end = whole(query, "start", 0), whole(query, "end", now_ms)
        rows = self._world.histories[market.index].candles(
            minutes * _MINUTE_MS, is_flat=True, until_ms=now_ms
        )
        rows = [row for row in rows if start <= row.open_ms <= end]
        rows = rows[-limit:] if not query.get("start") or query.get("end") else rows[:limit]
        lines = [_kline(market, row) for row in reversed(rows)]
        result = {"category": "spot", "symbol": market.native, "list": lines}
        return _envelope(0, "OK", result, now_us)

    def _instruments(self, query: dict[str, str], now_us: int) -> HttpReply:
        wanted = query.get("symbol")
        rows = [
            _instrument(market)
            for market in self._world.listed()
            if wanted is None or wanted == market.native
        ]
        return _envelope(0, "OK", {"category": "spot", "list": rows}, now_us)


def _trade(market: Market, fill: Fill) -> str:
    return (
        f'{{"T":{fill.time_us // US_PER_MS},"s":"{market.native}",'
        f'"S":"{"Buy" if fill.is_buy else "Sell"}","v":"{market.amount_text(fill.amount)}",'
        f'"p":"{market.price_text(fill.price)}","i":"{fill.id}","BT":false,"RPI":false,'
        f'"seq":{_sequence(fill)}}}'
    )


def _side(fill: Fill) -> str:
    return "Buy" if fill.is_buy else "Sell"


def _sequence(fill: Fill) -> int:
    return fill.id % _SEQUENCE_MASK * _SEQUENCE_PER_TRADE


def _envelope(code: int, text: str, result: Mapping[str, object], now_us: int) -> HttpReply:
    return reply(
        {
            "retCode": code,
            "retMsg": text,
            "result": result,
            "retExtInfo": {},
            "time": now_us // US_PER_MS,
        }
    )


def _kline(market: Market, row: Candle) -> list[str]:
    prices = [market.price_text(each) for each in (row.open, row.high, row.low, row.close)]
    volume = market.amount_text(row.volume) if row.count else "0"
    return [str(row.open_ms), *prices, volume, market.value_text(row.quote)]


def _instrument(market: Market) -> dict[str, object]:
    return {
        "symbolId": market.index + 1,
        "symbol": market.native,
        "baseCoin": market.base,
        "quoteCoin": market.quote,
        "innovation": "0",
        "symbolType": "",
        "status": "Trading",
        "marginTrading": "utaOnly",
        "stTag": "0",
        "lotSizeFilter": {
            "basePrecision": market.lot_text,
            "quotePrecision": "0.0000001",
            "minOrderQty": market.lot_text,
            "maxOrderQty": "70",
            "minOrderAmt": "6",
            "maxOrderAmt": "5000000",
        },
        "priceFilter": {"tickSize": market.tick_text},
        "riskParameters": {"priceLimitRatioX": "0.005", "priceLimitRatioY": "0.01"},
    }
