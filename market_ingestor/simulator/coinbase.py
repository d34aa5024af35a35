"""Coinbase Exchange: ``matches`` and ``heartbeat``, ``/products`` REST.

Owns this venue's message formats and limits. Must never know about sockets or clocks. ``side`` is
the maker's side everywhere on this venue.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
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

_MATCHES: Final = "matches"
_HEARTBEAT: Final = "heartbeat"
_CHANNELS: Final = frozenset({_MATCHES, _HEARTBEAT})
_FIRST_SUBSCRIBE_S: Final = 5
_MESSAGES_PER_S: Final = 100
_POLICY_VIOLATION: Final = 1008

_IDS_PER_S: Final = 200_000  # ids between two starts a second apart: above any rate we reach
_ID_EPOCH_S: Final = 1_700_000_000
_SEQUENCE_PER_TRADE: Final = 89  # the order feed has about as many messages between two matches

_PAGE_MAX: Final = 1_000
_REQUESTS: Final = 15  # the burst; the venue refills ten a second
_REQUESTS_WINDOW_S: Final = 1.5
_CANDLES_MAX: Final = 300
_GRANULARITIES: Final = frozenset({60, 300, 900, 3_600, 21_600, 86_400})
_ID_END: Final = 2**63 - 1


class CoinbaseSession(QuietSession):
    """One connection; the acknowledgement always lists everything subscribed."""

    def __init__(self, front: "CoinbaseFront", now_us: int) -> None:
        super().__init__(now_us)
        self._front = front
        self._opened_us = now_us
        self._has_subscribed = False
        self._messages = Window(_MESSAGES_PER_S, 1)
        self._heartbeats: set[int] = set()
        self._beat_us = now_us

    def receive(self, message: str, now_us: int) -> list[Outgoing]:
        """Answer subscribe and unsubscribe."""
        if not self._messages.admits(now_us):
            return [Close(_POLICY_VIOLATION, "Rate limit exceeded")]
        request = parse_object(message)
        if request is None:
            return [_error("Malformed JSON", None)]
        kind = request.get("type")
        if kind not in {"subscribe", "unsubscribe"}:
            return [_error("Unknown message type", f"{kind} is not a valid message type")]
        wishes = _wishes(request)
        if wishes is None:
            return [_error("Failed to subscribe", "channels must be an array")]
        is_added = kind == "subscribe"
        self._has_subscribed = self._has_subscribed or is_added
        return self._change(wishes, is_added=is_added)

    def tick(self, now_us: int) -> list[Outgoing]:
        """Cut who never subscribed; beat once a second for every product."""
        if not self._has_subscribed:
            if now_us - self._opened_us > _FIRST_SUBSCRIBE_S * US_PER_S:
                return [Close(_POLICY_VIOLATION, "")]
            return []
        if now_us - self._beat_us < US_PER_S:
            return []
        # Keep to the second of the connection, but do not make up for beats that were missed.
        self._beat_us += (now_us - self._beat_us) // US_PER_S * US_PER_S
        return [self._front.heartbeat(index, now_us) for index in sorted(self._heartbeats)]

    def _change(self, wishes: list[tuple[str, str]], *, is_added: bool) -> list[Outgoing]:
        errors: list[Outgoing] = []
        fresh: list[int] = []
        for channel, product in wishes:
            market = self._front.world.find(product)
            if channel not in _CHANNELS:
                errors.append(_error("Failed to subscribe", f"{channel} is not a valid channel"))
            elif market is None:
                errors.append(_error("Failed to subscribe", f"{product} is not a valid product"))
            elif channel == _HEARTBEAT:
                (self._heartbeats.add if is_added else self._heartbeats.discard)(market.index)
            elif is_added:
                if market.index not in self.wanted.get(_MATCHES, ()):
                    fresh.append(market.index)
                self.want(_MATCHES, market.index)
            else:
                self.drop(_MATCHES, market.index)
        anchors = [self._front.last_match(index) for index in fresh]
        return [*dict.fromkeys(errors), self._state(), *(each for each in anchors if each)]

    def _state(self) -> str:
        channels = ((_MATCHES, self.wanted.get(_MATCHES, set())), (_HEARTBEAT, self._heartbeats))
        listed = [
            {"name": name, "product_ids": self._front.names(markets), "account_ids": None}
            for name, markets in channels
            if markets
        ]
        return compact({"type": "subscriptions", "channels": listed})


class CoinbaseFront:
    """Coinbase Exchange."""

    name = "coinbase"
    time_step_us = 1
    limits = Limits(connects=20, connects_window_s=2.5, compresses=True)

    def __init__(self, world: World) -> None:
        self.world = world
        self._requests = Window(_REQUESTS, _REQUESTS_WINDOW_S)
        self._time = TimeText()

    def accept(self, path: str, query: dict[str, str], now_us: int) -> CoinbaseSession | None:  # noqa: ARG002 - the venue takes no query
        """Open the feed at the root."""
        return CoinbaseSession(self, now_us) if path in {"", "/"} else None

    def encode(self, variant: str, fills: Sequence[Fill], now_us: int) -> list[Frame]:  # noqa: ARG002 - one variant, no push time
        """One match a frame."""
        return [(fill.market, self._match("match", fill).encode(), 1) for fill in fills]

    def last_match(self, market: int) -> str | None:
        """Return the newest trade as the anchor of a subscription."""
        last = self.world.histories[market].last()
        return None if last is None else self._match("last_match", last)

    def heartbeat(self, market: int, now_us: int) -> str:
        """Return the beat that names the newest trade."""
        last = self.world.histories[market].last_id or 0
        return (
            f'{{"type":"heartbeat","sequence":{last * _SEQUENCE_PER_TRADE + 1},'
            f'"last_trade_id":{last},"product_id":"{self.world.markets[market].native}",'
            f'"time":"{self._time.text(now_us)}"}}'
        )

    def names(self, markets: Iterable[int]) -> list[str]:
        """Return product names in listing order."""
        return [self.world.markets[index].native for index in sorted(markets)]

    def rest(self, request: HttpRequest, now_us: int) -> HttpReply:
        """Answer ``/products`` and below."""
        if not self._requests.admits(now_us):
            return self.failure(HTTPStatus.TOO_MANY_REQUESTS, None)
        if not request.headers.get("user-agent"):
            return _problem("User-Agent header is required.", HTTPStatus.BAD_REQUEST)
        try:
            return self._answer(request, now_us)
        except BadRequestError as error:
            return _problem(f"Invalid {error.parameter}", HTTPStatus.BAD_REQUEST)

    def failure(self, status: int, retry_after_s: int | None) -> HttpReply:
        """Return the body that belongs to a status."""
        headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
        text = "Public rate limit exceeded"
        if status != HTTPStatus.TOO_MANY_REQUESTS:
            text = "Internal server error"
        return reply({"message": text}, status=status, **headers)

    def unknown_message(self, now_us: int) -> str:
        """Return a message type no document lists."""
        return compact({"type": "novelty", "time": self._time.text(now_us), "data": [None]})

    def first_id(self, market: int, start_s: int) -> int:
        """Ids without pattern across restarts: seconds times more than any rate."""
        return (start_s - _ID_EPOCH_S) * _IDS_PER_S + (market + 1)

    def _match(self, kind: str, fill: Fill) -> str:
        market = self.world.markets[fill.market]
        maker = _order(fill.id, 1)
        taker = _order(fill.id, 2)
        return (
            f'{{"type":"{kind}","trade_id":{fill.id},"maker_order_id":"{maker}",'
            f'"taker_order_id":"{taker}","side":"{_maker_side(fill)}",'
            f'"size":"{market.amount_text(fill.amount)}",'
            f'"price":"{market.price_text(fill.price)}","product_id":"{market.native}",'
            f'"sequence":{fill.id * _SEQUENCE_PER_TRADE},"time":"{self._time.text(fill.time_us)}"}}'
        )

    def _answer(self, request: HttpRequest, now_us: int) -> HttpReply:
        match request.path.strip("/").split("/"):
            case ["time"]:
                return reply({"iso": self._time.text(now_us), "epoch": now_us / US_PER_S})
            case ["products"]:
                return reply([_instrument(market) for market in self.world.listed()])
            case ["products", product, *rest]:
                market = self.world.find(product)
                if market is not None:
                    return self._product(market, rest, request.query, now_us)
        return _problem("NotFound", HTTPStatus.NOT_FOUND)

    def _product(
        self, market: Market, rest: list[str], query: dict[str, str], now_us: int
    ) -> HttpReply:
        match rest:
            case []:
                return reply(_instrument(market))
            case ["trades"]:
                return self._trades(market, query, now_us)
            case ["candles"]:
                return self._candles(market, query, now_us)
            case _:
                return _problem("NotFound", HTTPStatus.NOT_FOUND)

    def _trades(self, market: Market, query: dict[str, str], now_us: int) -> HttpReply:
        limit = min(whole(query, "limit", _PAGE_MAX) or _PAGE_MAX, _PAGE_MAX)
        after = whole(query, "after", _ID_END)
        before = whole(query, "before", 0)
        history = self.world.histories[market.index]
        page = history.below(after, limit, self.world.horizon_us(now_us))
        page = [fill for fill in page if fill.id > before]
        rows = [
            {
                "trade_id": fill.id,
                "side": _maker_side(fill),
                "size": market.amount_text(fill.amount),
                "price": market.price_text(fill.price),
                "time": self._time.text(fill.time_us),
            }
            for fill in reversed(page)
        ]
        if not page:
            return reply(rows)
        return reply(rows, cb_before=str(page[-1].id), cb_after=str(page[0].id))

    def _candles(self, market: Market, query: dict[str, str], now_us: int) -> HttpReply:
        granularity = whole(query, "granularity", 60)
        if granularity not in _GRANULARITIES:
            return _problem("Unsupported granularity", HTTPStatus.BAD_REQUEST)
        rows = self.world.histories[market.index].candles(
            granularity * 1_000, is_flat=False, until_ms=now_us // US_PER_MS
        )
        if query.get("start") and query.get("end"):  # one of them alone is ignored
            start_s, end_s = _instant_s(query["start"]), _instant_s(query["end"])
            if end_s - start_s > _CANDLES_MAX * granularity:
                text = "granularity too small for the requested time range. Count of aggregations"
                return _problem(f"{text} requested exceeds {_CANDLES_MAX}", HTTPStatus.BAD_REQUEST)
            rows = [row for row in rows if start_s <= row.open_ms // US_PER_MS <= end_s]
        return reply([_candle(market, row) for row in reversed(rows[-_CANDLES_MAX:])])


def _wishes(request: dict[str, object]) -> list[tuple[str, str]] | None:
    """Return every (channel, product) a request names, in order."""
    common = texts(request.get("product_ids", []))
    channels = request.get("channels")
    if common is None or not isinstance(channels, list):
        return None
    wishes: list[tuple[str, str]] = []
    for channel in channels:
        if isinstance(channel, dict):
            products = texts(channel.get("product_ids", common))
            name = str(channel.get("name"))
        else:
            products, name = common, str(channel)
        wishes += [(name, product) for product in products or []]
    return wishes


def _error(message: str, reason: str | None) -> str:
    body = {"type": "error", "message": message}
    return compact(body if reason is None else {**body, "reason": reason})


def _problem(message: str, status: int) -> HttpReply:
    return reply({"message": message}, status=status)


def _maker_side(fill: Fill) -> str:
    return "sell" if fill.is_buy else "buy"


def _order(trade_id: int, kind: int) -> str:
    return f"{kind:08x}-0000-4000-8000-{trade_id % 2**48:012x}"


def _instant_s(text: str) -> int:
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise BadRequestError("start or end") from None
    return int((instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp())


def _candle(market: Market, row: Candle) -> list[object]:
    low, high, opened, close = (
        msgspec.Raw(market.price_text(each).encode())
        for each in (row.low, row.high, row.open, row.close)
    )
    volume = msgspec.Raw(market.amount_text(row.volume).encode())
    return [row.open_ms // US_PER_MS, low, high, opened, close, volume]


def _instrument(market: Market) -> dict[str, object]:
    return {
        "id": market.native,
        "base_currency": market.base,
        "quote_currency": market.quote,
        "quote_increment": market.tick_text,
        "base_increment": market.lot_text,
        "display_name": market.native,
        "min_market_funds": "1",
        "margin_enabled": False,
        "post_only": False,
        "limit_only": False,
        "cancel_only": False,
        "status": "online",
        "status_message": "",
        "trading_disabled": False,
        "fx_stablecoin": False,
        "auction_mode": False,
    }
