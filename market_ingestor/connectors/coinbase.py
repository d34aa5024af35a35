"""Coinbase Exchange: the ``matches`` channel, with ``heartbeat`` to see what was dropped.

Owns Coinbase's addresses, limits, frames and pages. Must never know who connects or when. Every
side a match names is the maker's; it is inverted here and nowhere else.
Documents: https://docs.cdp.coinbase.com/exchange/
"""

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

import msgspec

from market_ingestor.connectors.fields import (
    DECODE_ERRORS,
    NonEmpty,
    TradeIdNumber,
    checked_id,
    checked_trade,
    event_of,
    open_frame,
    open_object,
    text_of,
    trade_of,
    us_from_instant,
    us_from_rfc3339,
)
from market_ingestor.connectors.pages import decode_body, page_backward, read_instruments, step
from market_ingestor.connectors.venue import (
    Event,
    Gap,
    Heartbeat,
    HistoryPage,
    Ignored,
    Limits,
    Rejected,
    RestRequest,
    RestResponse,
    Subscribed,
    SubscriptionRefused,
)
from market_ingestor.errors import excerpt
from market_ingestor.model.instrument import VenueInstrument
from market_ingestor.model.trade import Side, TextTrade

CHANNELS: Final = ("matches", "heartbeat")
PAGE_ROWS: Final = 1000  # most that the trades endpoint gives
NOT_A_PRODUCT: Final = " is not a valid product"
_HEADERS: Final = {"User-Agent": "market-ingestor"}  # requests without one are refused

_LIMITS: Final = Limits(
    subscribe_batch=100,  # no limit is documented; the answer lists the whole state each time
    symbols_per_connection=200,  # none is documented; each costs a heartbeat a second
    message_interval_s=0.1,  # a bucket of 10 a second
    connect_interval_s=0.125,  # 8 a second and address
    ping_interval_s=None,  # the heartbeat channel keeps the connection busy
    connection_life_s=None,
    frame_bytes_max=1 << 20,  # a match is 400 bytes, the list of 200 subscriptions 6 KB
    rest_requests_per_s=8.0,  # 10 a second and address
    bans_s={403: 60, 418: 60, 429: 2},  # 10 a second, burst 15; 403 and 418 not documented
    has_contiguous_ids=True,  # per product; ``sequence`` is of another feed and jumps
)


class _Channel(msgspec.Struct, gc=False):
    name: str = ""
    product_ids: list[str] = []


class _Match(msgspec.Struct, gc=False, tag_field="type", tag="match"):
    """A trade; ``side`` is the maker's.

    exchange/websocket-feed/channels, "Match"::

        {"type":"match","trade_id":712345678,"maker_order_id":"...","taker_order_id":"...",
         "side":"sell","size":"0.01200000","price":"91234.57","product_id":"BTC-USD",
         "sequence":90012345689,"time":"2026-11-20T00:00:00.540212Z"}
    """

    trade_id: TradeIdNumber
    side: Side
    size: str
    price: str
    product_id: NonEmpty
    time: str


class _Frame(msgspec.Struct, gc=False):
    """Every other message of the feed; which fields count depends on ``type``.

    exchange/websocket-feed/channels. ``last_match`` is the trade before the subscription::

        {"type":"last_match", and otherwise like a match}
        {"type":"heartbeat","sequence":90012345700,"last_trade_id":712345678,
         "product_id":"BTC-USD","time":"2026-11-20T00:00:01.000123Z"}
        {"type":"subscriptions","channels":[{"name":"matches","product_ids":["BTC-USD"]}]}
        {"type":"error","message":"Failed to subscribe","reason":"FOO-USD is not a valid product"}
    """

    type: str = ""
    trade_id: int | None = None
    product_id: str = ""
    last_trade_id: int | None = None
    channels: list[_Channel] = []
    message: str = ""
    reason: str = ""


class _Product(msgspec.Struct, gc=False):
    """A product.

    exchange/rest-api, "Get all known trading pairs"::

        {"id":"BTC-USD","base_currency":"BTC","quote_currency":"USD","quote_increment":"0.01",
         "base_increment":"0.00000001","status":"online","trading_disabled":false,
         "auction_mode":false}
    """

    id: str
    base_currency: str
    quote_currency: str
    quote_increment: str = ""
    base_increment: str = ""
    status: str = ""
    trading_disabled: bool = False


_MATCHES: Final = msgspec.json.Decoder(_Match)
_FRAMES: Final = msgspec.json.Decoder(_Frame)
_PRODUCTS: Final = msgspec.json.Decoder(_Product)
_LISTS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_TAKERS: Final[Mapping[str, Side]] = {"sell": "buy", "buy": "sell"}  # of the maker's side


class Coinbase(msgspec.Struct, frozen=True, gc=False):
    """Coinbase's exchange feed."""

    name: str = "coinbase"
    ws_url: str = "wss://ws-feed.exchange.coinbase.com"
    rest_url: str = "https://api.exchange.coinbase.com"
    limits: Limits = _LIMITS

    def connect_url(self, base: str) -> str:
        """Return the base address; the server cuts who does not subscribe within 5 s."""
        return base

    def subscribe(self, venue_symbols: Sequence[str], request_id: int) -> str:  # noqa: ARG002 - of the protocol
        """Return the frame that subscribes matches and heartbeats."""
        return _request("subscribe", venue_symbols)

    def unsubscribe(self, venue_symbols: Sequence[str], request_id: int) -> str:  # noqa: ARG002 - of the protocol
        """Return the frame that unsubscribes both."""
        return _request("unsubscribe", venue_symbols)

    def ping(self, request_id: int) -> str | None:  # noqa: ARG002 - of the protocol
        """Return None: there is no ping."""
        return None

    def decode(self, frame: bytes | str) -> Sequence[Event]:
        """Return what a frame means; every match comes in a frame of its own."""
        try:
            wire = _MATCHES.decode(frame)
        except DECODE_ERRORS:
            return _decode_other(frame)
        trade = trade_of(
            wire.trade_id,
            wire.price,
            wire.size,
            _TAKERS[wire.side],
            us_from_instant(wire.time),
        )
        return event_of(wire.product_id, trade)

    def instruments_request(self) -> RestRequest:
        """Return the request for the products."""
        return RestRequest(path="/products", headers=_HEADERS)

    def decode_instruments(self, response: RestResponse) -> Sequence[VenueInstrument]:
        """Return the listed products."""
        rows = decode_body(self.name, response, _LISTS, _LIMITS.bans_s)
        return read_instruments(self.name, rows, _instrument)

    def history_request(self, gap: Gap) -> RestRequest | None:
        """Return the request for the trades up to ``gap.before_id``, itself included.

        Backward: a walk upward in steps of 1,000 ids would stand still before a larger hole.
        """
        return _older_than(gap, gap.before_id + 1)

    def newest_request(self, instrument: VenueInstrument) -> RestRequest | None:  # noqa: ARG002 - of the protocol
        """Return None: ``last_match`` follows every subscription, and heartbeats tell."""
        return None

    def decode_history(self, gap: Gap, response: RestResponse) -> HistoryPage:
        """Return a page."""
        rows = decode_body(self.name, response, _LISTS, _LIMITS.bans_s)
        return page_backward(gap, rows, _trade, limit=PAGE_ROWS, older_than=_older_than)


def _request(kind: str, venue_symbols: Sequence[str]) -> str:
    request = {"type": kind, "product_ids": venue_symbols, "channels": CHANNELS}
    return msgspec.json.encode(request).decode()


def _decode_other(frame: bytes | str) -> Sequence[Event]:
    try:
        wire = _FRAMES.decode(frame)
    except DECODE_ERRORS:
        return _decode_odd(frame)
    return _decode_odd(frame) if wire.type == "match" else [_control(wire, frame)]


def _control(wire: _Frame, frame: bytes | str) -> Event:
    """Return what a frame other than a match means."""
    match wire.type:
        case "heartbeat":
            return _heartbeat(wire.product_id, wire.last_trade_id, frame)
        case "last_match":
            # Not live: it is the trade before the subscription. Its id shows a hole before the
            # first match.
            return _heartbeat(wire.product_id, wire.trade_id, frame)
        case "subscriptions":
            confirmed = [channel for channel in wire.channels if channel.name == CHANNELS[0]]
            return Subscribed(None, tuple(id_ for each in confirmed for id_ in each.product_ids))
        case "error":
            reason = wire.reason or wire.message
            product, found, _ = wire.reason.partition(NOT_A_PRODUCT)
            return SubscriptionRefused(None, (product,) if found else (), excerpt(reason))
        case _:
            return Ignored()


def _heartbeat(product_id: str, last_id: int | None, frame: bytes | str) -> Event:
    if not product_id:
        return Rejected("bad_type", excerpt(frame))
    if last_id is None:
        return Heartbeat(product_id)
    checked = checked_id(last_id)
    return Rejected("bad_id", excerpt(frame)) if checked is None else Heartbeat(product_id, checked)


def _decode_odd(frame: bytes | str) -> Sequence[Event]:
    """Decode a match with a field of the wrong type, another channel's message, or garbage."""
    body = open_frame(frame)
    if isinstance(body, Rejected):
        return [body]
    kind, product_id = text_of(body.get("type")), text_of(body.get("product_id"))
    if kind == "match" and product_id:
        return event_of(product_id, _trade_of(body))
    if kind in {"match", "last_match", "heartbeat", "subscriptions", "error"}:
        return [Rejected("bad_type", excerpt(frame))]
    return [Ignored()]


def _trade(row: msgspec.Raw) -> TextTrade | Rejected:
    """Read a row of the trades endpoint; the side is the maker's here too.

    exchange/rest-api, "Get product trades"::

        {"trade_id":712345678,"side":"sell","size":"0.01200000","price":"91234.57",
         "time":"2026-11-20T00:00:00.540212Z"}
    """
    return _trade_of(open_object(row))


def _trade_of(row: Mapping[str, object]) -> TextTrade | Rejected:
    return checked_trade(
        id=row.get("trade_id"),
        price=row.get("price"),
        amount=row.get("size"),
        side=_TAKERS.get(text_of(row.get("side"))),
        time_us=us_from_rfc3339(row.get("time")),
    )


def _older_than(gap: Gap, trade_id: int) -> RestRequest:
    return RestRequest(
        path=f"/products/{quote(gap.instrument.rest_symbol, safe='')}/trades",
        params={"limit": PAGE_ROWS, "after": trade_id},
        headers=_HEADERS,
    )


def _instrument(row: msgspec.Raw) -> VenueInstrument:
    listed = _PRODUCTS.decode(row)
    return VenueInstrument(
        venue_symbol=listed.id,
        rest_symbol=listed.id,
        base=listed.base_currency,
        quote=listed.quote_currency,
        price_step=step(listed.quote_increment),
        amount_step=step(listed.base_increment),
        is_active=listed.status == "online" and not listed.trading_disabled,
    )
