"""Kraken spot: WebSocket v2 ``trade`` and ``instrument``, ``/0/public`` REST.

Owns this venue's message formats and limits. Must never know about sockets or clocks. Prices and
amounts on the WebSocket are JSON numbers with every digit kept, the smallest amount in exponent
notation. REST times have a seventh digit that the WebSocket cuts off.
"""

import itertools
from collections.abc import Mapping, Sequence
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
    TimeText,
    Window,
    compact,
    parse_object,
    reply,
    texts,
    whole,
)
from market_ingestor.simulator.tape import Fill
from market_ingestor.simulator.world import World

_TRADE: Final = "trade"
_INSTRUMENT: Final = "instrument"
_FIRST_CONNECTION: Final = 13_834_774_380_200_032_777  # above a signed 64-bit integer, as there
_SNAPSHOT: Final = 50
_IDLE_S: Final = 60
_NORMAL: Final = 1000
_TRADES_PER_FRAME: Final = 100
_ACK_US: Final = 60  # how long the venue says it took

_IDS_PER_S: Final = 200_000  # ids between two starts a second apart: above any rate we reach
_ID_EPOCH_S: Final = 1_700_000_000
_LIMIT_SHARE: Final = 3  # every third trade has a limit order as taker
_REST_PRICE_DIGITS: Final = 5
_AMOUNT_DIGITS: Final = 8
_EXPONENT_BELOW: Final = 100  # amount units: under 1e-06 the venue's numbers take an exponent
_NS_PER_US: Final = 1_000
_SUB_US: Final = 100  # the seventh digit, in nanoseconds
_CURSOR_DIGITS: Final = 15  # longer ``since`` values are nanoseconds, shorter ones seconds

_PAGE_MAX: Final = 1_000
_REQUESTS: Final = 5  # a short burst; about one a second in the long run
_REQUESTS_WINDOW_S: Final = 5
_OHLC_ROWS: Final = 720
_INTERVALS: Final = frozenset({1, 5, 15, 30, 60, 240, 1_440, 10_080})
_MINUTE_MS: Final = 60_000


class KrakenSession(QuietSession):
    """One connection to ``/v2``."""

    def __init__(self, front: "KrakenFront", connection: int, now_us: int) -> None:
        super().__init__(now_us)
        self._front = front
        self._connection = connection

    def greet(self, now_us: int) -> list[Outgoing]:  # noqa: ARG002 - the message has no time
        """Tell the state of the engine."""
        state = (
            f'{{"api_version":"v2","connection_id":{self._connection},"system":"online",'
            '"version":"2.0.10"}'
        )
        return [f'{{"channel":"status","type":"update","data":[{state}]}}']

    def receive(self, message: str, now_us: int) -> list[Outgoing]:
        """Answer pings and requests; one acknowledgement per symbol."""
        self.last_received_us = now_us
        request = parse_object(message)
        if request is None:
            return [self._outcome(None, None, now_us, error="Malformed message")]
        method, identity = request.get("method"), request.get("req_id")
        if method == "ping":
            return [self._outcome("pong", identity, now_us)]
        params = request.get("params")
        if method not in {"subscribe", "unsubscribe"} or not isinstance(params, dict):
            return [self._outcome(method, identity, now_us, error="Unsupported method")]
        if params.get("channel") == _INSTRUMENT:
            ack = self._outcome(
                method, identity, now_us, result={"channel": _INSTRUMENT, "snapshot": True}
            )
            return [ack, self._front.instruments()] if method == "subscribe" else [ack]
        symbols = texts(params.get("symbol"))
        if params.get("channel") != _TRADE or not symbols:
            return [self._outcome(method, identity, now_us, error="Unsupported channel")]
        change = self._subscribe if method == "subscribe" else self._unsubscribe
        has_snapshot = params.get("snapshot") is True
        answers: list[Outgoing] = []
        for symbol in symbols:
            answers += change(symbol, identity, now_us, has_snapshot=has_snapshot)
        return answers

    def tick(self, now_us: int) -> list[Outgoing]:
        """Beat while nothing else flows; cut who subscribed to nothing and says nothing."""
        if self.is_subscribed:
            is_due = now_us - self.last_sent_us >= US_PER_S
            return ['{"channel":"heartbeat"}'] if is_due else []
        if now_us - max(self.last_sent_us, self.last_received_us) > _IDLE_S * US_PER_S:
            return [Close(_NORMAL, "")]
        return []

    def _subscribe(
        self, symbol: str, identity: object, now_us: int, *, has_snapshot: bool
    ) -> list[Outgoing]:
        market = self._front.world.find(symbol)
        if market is None or market.native != symbol:
            text = f"Currency pair not supported {symbol}"
            return [self._refusal("subscribe", symbol, identity, now_us, text)]
        if market.index in self.wanted.get(_TRADE, ()):
            return [self._refusal("subscribe", symbol, identity, now_us, "Already subscribed")]
        self.want(_TRADE, market.index)
        result = {"channel": _TRADE, "snapshot": has_snapshot, "symbol": symbol}
        ack = self._outcome("subscribe", identity, now_us, result=result)
        return [ack, self._front.snapshot(market)] if has_snapshot else [ack]

    def _unsubscribe(
        self, symbol: str, identity: object, now_us: int, *, has_snapshot: bool
    ) -> list[Outgoing]:
        del has_snapshot  # the same call shape as subscribing
        market = self._front.world.find(symbol)
        if market is None or market.index not in self.wanted.get(_TRADE, ()):
            text = "Subscription Not Found"
            return [self._refusal("unsubscribe", symbol, identity, now_us, text)]
        self.drop(_TRADE, market.index)
        result = {"channel": _TRADE, "symbol": symbol}
        return [self._outcome("unsubscribe", identity, now_us, result=result)]

    def _refusal(
        self, method: str, symbol: str, identity: object, now_us: int, text: str
    ) -> Outgoing:
        return self._outcome(method, identity, now_us, error=text, symbol=symbol)

    def _outcome(
        self,
        method: object,
        identity: object,
        now_us: int,
        *,
        result: Mapping[str, object] | None = None,
        error: str | None = None,
        symbol: str | None = None,
    ) -> str:
        fields = {
            "error": error,
            "method": method,
            "req_id": identity,
            "result": result,
            "success": None if method == "pong" else error is None,
            "symbol": symbol,
            "time_in": self._front.time.text(now_us),
            "time_out": self._front.time.text(now_us + _ACK_US),
        }
        return compact({name: value for name, value in fields.items() if value is not None})


class KrakenFront:
    """Kraken spot, WebSocket v2."""

    name = "kraken"
    time_step_us = 1
    limits = Limits(connects=150, connects_window_s=600)

    def __init__(self, world: World) -> None:
        self.world = world
        self.time = TimeText()
        self._connections = itertools.count(_FIRST_CONNECTION)
        self._requests = {market.index: _limit() for market in world.markets}
        self._other_requests = _limit()

    def accept(self, path: str, query: dict[str, str], now_us: int) -> KrakenSession | None:  # noqa: ARG002 - the venue takes no query
        """Open version 2."""
        return KrakenSession(self, next(self._connections), now_us) if path == "/v2" else None

    def encode(self, variant: str, fills: Sequence[Fill], now_us: int) -> list[Frame]:  # noqa: ARG002 - one variant, no push time
        """Gather what is ready of a symbol into frames."""
        by_market: dict[int, list[Fill]] = {}
        for fill in fills:
            by_market.setdefault(fill.market, []).append(fill)
        return [
            (index, self._frame("update", part).encode(), len(part))
            for index, group in by_market.items()
            for part in (
                group[start : start + _TRADES_PER_FRAME]
                for start in range(0, len(group), _TRADES_PER_FRAME)
            )
        ]

    def snapshot(self, market: Market) -> str:
        """Return the newest fifty trades, oldest first."""
        page = self.world.histories[market.index].newest(_SNAPSHOT)
        return self._frame("snapshot", page)

    def instruments(self) -> str:
        """Return the snapshot of the instrument channel."""
        listed = self.world.listed()
        assets = dict.fromkeys(code for market in listed for code in (market.base, market.quote))
        pairs = [
            {
                "symbol": market.native,
                "base": market.base,
                "quote": market.quote,
                "status": "online",
                "price_precision": market.price_places,
                "price_increment": msgspec.Raw(market.tick_text.encode()),
                "qty_precision": market.amount_places,
                "qty_increment": msgspec.Raw(_number(market, 1).encode()),
                "qty_min": msgspec.Raw(b"0.00005"),
            }
            for market in listed
        ]
        data = {
            "assets": [{"id": code, "status": "enabled", "precision": 10} for code in assets],
            "pairs": pairs,
        }
        return compact({"channel": _INSTRUMENT, "type": "snapshot", "data": data})

    def rest(self, request: HttpRequest, now_us: int) -> HttpReply:
        """Answer ``/0/public``; errors come with status 200."""
        _, _, name = request.path.partition("/0/public/")
        market = self.world.find(request.query.get("pair", ""))
        if market is None:
            market = self._by_native(request.query.get("pair", ""))
        limit = self._other_requests if market is None else self._requests[market.index]
        if not limit.admits(now_us):
            return _failed("EGeneral:Too many requests")
        try:
            return self._answer(name, market, request.query, now_us)
        except BadRequestError:
            return _failed("EGeneral:Invalid arguments")

    def failure(self, status: int, retry_after_s: int | None) -> HttpReply:
        """Return the body that belongs to a status; too many requests is a 200 here."""
        headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            return _failed("EGeneral:Too many requests")
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            return _failed("EService:Unavailable")
        page = b"<html><head><title>error</title></head></html>"
        return HttpReply(status=status, body=page, content_type="text/html", headers=headers)

    def unknown_message(self, now_us: int) -> str:
        """Return a channel no document lists."""
        return compact({"channel": "novelty", "type": "update", "data": [{"at": now_us}]})

    def first_id(self, market: int, start_s: int) -> int:
        """Ids without pattern across restarts: seconds times more than any rate."""
        return (start_s - _ID_EPOCH_S) * _IDS_PER_S + (market + 1)

    def _by_native(self, name: str) -> Market | None:
        return next((each for each in self.world.listed() if each.native == name), None)

    def _frame(self, kind: str, fills: Sequence[Fill]) -> str:
        data = ",".join([self._trade(fill) for fill in fills])
        return f'{{"channel":"trade","type":"{kind}","data":[{data}]}}'

    def _trade(self, fill: Fill) -> str:
        market = self.world.markets[fill.market]
        return (
            f'{{"symbol":"{market.native}","side":"{"buy" if fill.is_buy else "sell"}",'
            f'"price":{market.price_text(fill.price)},"qty":{_number(market, fill.amount)},'
            f'"ord_type":"{_order_type(fill)}","trade_id":{fill.id},'
            f'"timestamp":"{self.time.text(fill.time_us)}"}}'
        )

    def _answer(
        self, name: str, market: Market | None, query: dict[str, str], now_us: int
    ) -> HttpReply:
        match name:
            case "Time":
                return _result({"unixtime": now_us // US_PER_S, "rfc1123": ""})
            case "SystemStatus":
                return _result({"status": "online", "timestamp": self.time.text(now_us)})
            case "AssetPairs":
                return self._pairs(query)
            case "Trades" | "OHLC":
                if market is None:
                    return _failed("EQuery:Unknown asset pair")
                answer = self._trades if name == "Trades" else self._candles
                return answer(market, query, now_us)
            case _:
                return _failed("EGeneral:Unknown method")

    def _trades(self, market: Market, query: dict[str, str], now_us: int) -> HttpReply:
        limit = min(max(whole(query, "count", _PAGE_MAX), 1), _PAGE_MAX)
        since_ns = _cursor_ns(query.get("since"))
        history = self.world.histories[market.index]
        horizon_us = self.world.horizon_us(now_us)
        if since_ns is None:
            page = history.newest(limit, horizon_us)
        else:
            # Two trades of one microsecond share the seventh digit too, so that times stay
            # ascending in nanoseconds; those at the cursor itself are left out.
            first_us = since_ns // _NS_PER_US - 1
            page = history.since(first_us, limit + 1, horizon_us)
            page = [fill for fill in page if _time_ns(fill) > since_ns][:limit]
        last_ns = _time_ns(page[-1]) if page else (since_ns or now_us * _NS_PER_US)
        rows = [_row(market, fill) for fill in page]
        return _result({market.rest_key: rows, "last": str(last_ns)})

    def _candles(self, market: Market, query: dict[str, str], now_us: int) -> HttpReply:
        minutes = whole(query, "interval", 1)
        if minutes not in _INTERVALS:
            raise BadRequestError("interval")
        rows = self.world.histories[market.index].candles(
            minutes * _MINUTE_MS, is_flat=True, until_ms=now_us // US_PER_MS
        )[-_OHLC_ROWS:]
        closed = [row.open_ms // US_PER_MS for row in rows[:-1]]
        since_s = whole(query, "since", 0)
        lines = [_candle(market, row) for row in rows if row.open_ms // US_PER_MS >= since_s]
        return _result({market.rest_key: lines, "last": closed[-1] if closed else 0})

    def _pairs(self, query: dict[str, str]) -> HttpReply:
        markets = self.world.listed()
        if query.get("pair"):
            found = [
                self.world.find(name) or self._by_native(name) for name in query["pair"].split(",")
            ]
            if None in found:
                return _failed("EQuery:Unknown asset pair")
            markets = [market for market in found if market is not None]
        return _result({market.rest_key: _instrument(market) for market in markets})


def _limit() -> Window:
    return Window(_REQUESTS, _REQUESTS_WINDOW_S)


def _number(market: Market, amount: int) -> str:
    """Write an amount as the venue's JSON number: fixed digits, an exponent when tiny."""
    if amount < _EXPONENT_BELOW and market.amount_places == _AMOUNT_DIGITS:
        digits = str(amount).rstrip("0")
        exponent = _AMOUNT_DIGITS - (len(str(amount)) - 1)
        mantissa = digits if len(digits) == 1 else f"{digits[0]}.{digits[1:]}"
        return f"{mantissa}e-{exponent:02d}"
    return market.amount_text(amount)


def _order_type(fill: Fill) -> str:
    return "market" if fill.id % _LIMIT_SHARE else "limit"


def _time_ns(fill: Fill) -> int:
    """Return the time with its seventh digit, the same for all trades of one microsecond."""
    return fill.time_us * _NS_PER_US + fill.time_us // 7 % 10 * _SUB_US


def _cursor_ns(text: str | None) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise BadRequestError("since")
    return int(text) if len(text) > _CURSOR_DIGITS else int(text) * US_PER_S * _NS_PER_US


def _row(market: Market, fill: Fill) -> list[object]:
    second, fraction = divmod(_time_ns(fill), US_PER_S * _NS_PER_US)
    price = market.price_text(fill.price)
    pad = "0" * max(_REST_PRICE_DIGITS - market.price_places, 0)
    return [
        price + pad,
        market.amount_text(fill.amount),
        msgspec.Raw(f"{second}.{fraction // _SUB_US:07d}".encode()),
        "b" if fill.is_buy else "s",
        "m" if _order_type(fill) == "market" else "l",
        "",
        fill.id,
    ]


def _candle(market: Market, row: Candle) -> list[object]:
    prices = [market.price_text(each) for each in (row.open, row.high, row.low, row.close)]
    vwap = market.price_text(row.quote // row.volume) if row.count else "0.0"
    return [row.open_ms // US_PER_MS, *prices, vwap, market.amount_text(row.volume), row.count]


def _result(result: dict[str, object]) -> HttpReply:
    return reply({"error": [], "result": result})


def _failed(text: str) -> HttpReply:
    return reply({"error": [text]})


def _instrument(market: Market) -> dict[str, object]:
    asset = market.rest_name[: -len(market.quote)]
    is_classed = market.rest_key != market.rest_name
    return {
        "altname": market.rest_name,
        "wsname": f"{asset}/{market.quote}",
        "aclass_base": "currency",
        "base": f"X{asset}" if is_classed else asset,
        "aclass_quote": "currency",
        "quote": f"Z{market.quote}" if market.quote in {"USD", "EUR"} else market.quote,
        "execution_venue": "international",
        "pair_decimals": market.price_places,
        "cost_decimals": 5,
        "lot_decimals": market.amount_places,
        "lot_multiplier": 1,
        "ordermin": "0.00005",
        "costmin": "0.5",
        "tick_size": market.tick_text,
        "status": "online",
    }
