"""Binance spot: the ``@trade`` streams of one combined connection.

Owns Binance's addresses, limits, frames and pages. Must never know who connects or when.
Documents: https://github.com/binance/binance-spot-api-docs (web-socket-streams.md, rest-api.md).
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from market_ingestor.connectors.fields import (
    DECODE_ERRORS,
    NonEmpty,
    TradeIdNumber,
    as_mapping,
    checked_trade,
    event_of,
    open_frame,
    open_object,
    request_number,
    text_of,
    trade_of,
    us_from_ms,
)
from market_ingestor.connectors.pages import decode_body, history_rows, read_instruments, step
from market_ingestor.connectors.venue import (
    ClosingSoon,
    Event,
    Gap,
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

PAGE_ROWS: Final = 1000  # most that historicalTrades gives

_LIMITS: Final = Limits(
    subscribe_batch=200,  # no limit is documented; 200 names make a frame of about 4 KiB
    symbols_per_connection=1024,  # "maximum of 1024 streams"
    message_interval_s=0.25,  # 5 messages a second, and our pongs count too
    connect_interval_s=1.0,  # 300 attempts per 5 minutes and address
    ping_interval_s=None,  # the server pings; pings of ours have ended healthy connections
    connection_life_s=86_400,  # "only valid for 24 hours"
    frame_bytes_max=1 << 20,  # a trade is 200 bytes; an error echoes the request
    rest_requests_per_s=3.0,  # weight 25 of 6,000 a minute would be 4
    # 429: the weight window is a minute. 418: bans start at two minutes. 403: the firewall, no time
    # documented, so as long as the shortest ban.
    bans_s={403: 120, 418: 120, 429: 60},
    has_contiguous_ids=True,  # seen in every recording, not promised
)


class _Data(msgspec.Struct, gc=False, tag_field="e", tag="trade"):
    """The payload of a trade stream; without one of these it needs a closer look.

    web-socket-streams.md, "Trade Streams". ``m``, "is the buyer the market maker?", makes the
    taker the seller::

        {"stream":"btcusdt@trade","data":{"e":"trade","E":1680652800000,"s":"BTCUSDT",
         "t":3071245454,"p":"28165.47000000","q":"0.00056000","b":20720542158,"a":20720542592,
         "T":1680652799999,"m":true,"M":true}}
    """

    symbol: NonEmpty = msgspec.field(name="s")
    trade_id: TradeIdNumber = msgspec.field(name="t")
    price: str = msgspec.field(name="p")
    quantity: str = msgspec.field(name="q")
    time_ms: int = msgspec.field(name="T")
    is_buyer_maker: bool = msgspec.field(name="m")


class _Frame(msgspec.Struct, gc=False):
    """A wrapped payload."""

    data: _Data


class _Filter(msgspec.Struct, gc=False):
    """One of a symbol's trading rules; only two kinds matter here."""

    filterType: str = ""  # noqa: N815 - the venue's own word
    tickSize: str = ""  # noqa: N815 - as above
    stepSize: str = ""  # noqa: N815 - as above


class _Symbol(msgspec.Struct, gc=False):
    """A symbol of ``exchangeInfo``.

    rest-api.md, "Exchange information"::

        {"symbol":"BTCUSDT","status":"TRADING","baseAsset":"BTC","quoteAsset":"USDT",
         "isSpotTradingAllowed":true,"filters":[{"filterType":"PRICE_FILTER",
         "minPrice":"0.01","maxPrice":"1000000.00","tickSize":"0.01"}]}
    """

    symbol: str
    baseAsset: str  # noqa: N815 - the venue's own word
    quoteAsset: str  # noqa: N815 - as above
    status: str = ""
    isSpotTradingAllowed: bool = True  # noqa: N815 - as above
    filters: list[_Filter] = []


class _ExchangeInfo(msgspec.Struct, gc=False):
    symbols: list[msgspec.Raw]


_FRAMES: Final = msgspec.json.Decoder(_Frame)
_SYMBOLS: Final = msgspec.json.Decoder(_Symbol)
_EXCHANGE_INFO: Final = msgspec.json.Decoder(_ExchangeInfo)
_HISTORY: Final = msgspec.json.Decoder(list[msgspec.Raw])


class Binance(msgspec.Struct, frozen=True, gc=False):
    """Binance's spot market."""

    name: str = "binance"
    ws_url: str = "wss://stream.binance.com:9443"
    rest_url: str = "https://api.binance.com"
    limits: Limits = _LIMITS

    def connect_url(self, base: str) -> str:
        """Return the address of a combined connection without streams."""
        return base + "/stream"

    def subscribe(self, venue_symbols: Sequence[str], request_id: int) -> str:
        """Return the frame that subscribes; stream names are lower case, fields are not."""
        return _request("SUBSCRIBE", venue_symbols, request_id)

    def unsubscribe(self, venue_symbols: Sequence[str], request_id: int) -> str:
        """Return the frame that unsubscribes; its answer looks like a subscription's."""
        return _request("UNSUBSCRIBE", venue_symbols, request_id)

    def ping(self, request_id: int) -> str | None:  # noqa: ARG002 - of the protocol
        """Return None: the server pings."""
        return None

    def decode(self, frame: bytes | str) -> Sequence[Event]:
        """Return what a frame means; every trade comes in a frame of its own."""
        try:
            data = _FRAMES.decode(frame).data
        except DECODE_ERRORS:
            return _decode_odd(frame)
        side: Side = "sell" if data.is_buyer_maker else "buy"
        trade = trade_of(data.trade_id, data.price, data.quantity, side, data.time_ms * 1000)
        return event_of(data.symbol, trade)

    def instruments_request(self) -> RestRequest:
        """Return the request for ``exchangeInfo`` (weight 20) without the long permission sets."""
        return RestRequest(path="/api/v3/exchangeInfo", params={"showPermissionSets": "false"})

    def decode_instruments(self, response: RestResponse) -> Sequence[VenueInstrument]:
        """Return the listed symbols."""
        body = decode_body(self.name, response, _EXCHANGE_INFO, _LIMITS.bans_s)
        return read_instruments(self.name, body.symbols, _instrument)

    def history_request(self, gap: Gap) -> RestRequest | None:
        """Return the request for the trades from ``gap.after_id`` on, itself included."""
        return _trades_from(gap, gap.after_id)

    def newest_request(self, instrument: VenueInstrument) -> RestRequest | None:
        """Return the request for the newest trade: without ``fromId`` the page ends with it."""
        return RestRequest(
            path="/api/v3/historicalTrades",
            params={"symbol": instrument.rest_symbol, "limit": 1},
        )

    def decode_history(self, gap: Gap, response: RestResponse) -> HistoryPage:
        """Return a page, ascending; the next one starts with the last trade of this one."""
        rows = decode_body(self.name, response, _HISTORY, _LIMITS.bans_s)
        trades, rejected = history_rows(rows, _historical_trade)
        request = None
        if len(rows) >= PAGE_ROWS and trades:
            last = int(trades[-1].id)
            if gap.after_id < last < gap.before_id:
                request = _trades_from(gap, last)
        return HistoryPage(trades=trades, rejected=rejected, next=request)


def _request(method: str, venue_symbols: Sequence[str], request_id: int) -> str:
    streams = [f"{symbol.lower()}@trade" for symbol in venue_symbols]
    request = {"method": method, "params": streams, "id": request_id}
    return msgspec.json.encode(request).decode()


def _taker(is_buyer_maker: object) -> Side | None:
    """Return the taker's side: whoever was not the maker."""
    if is_buyer_maker is True:
        return "sell"
    return "buy" if is_buyer_maker is False else None


def _decode_odd(frame: bytes | str) -> Sequence[Event]:
    """Decode what is not a well-formed wrapped payload: answers, events, errors, garbage.

    web-socket-streams.md, "Live Subscribing/Unsubscribing"; the errors are printed flat there and
    come nested, at times without ``id``; ``serverShutdown`` comes raw or wrapped::

        {"result":null,"id":7}
        {"code":2,"msg":"Invalid request: unknown variant `SUB`, ...","id":7}
        {"error":{"code":2,"msg":"Invalid request: invalid stream"},"id":7}
        {"e":"serverShutdown","E":1795132800000}
    """
    body = open_frame(frame)
    if isinstance(body, Rejected):
        return [body]
    event = as_mapping(body.get("data", body))
    if event.get("e") == "serverShutdown":
        return [ClosingSoon("serverShutdown")]
    if event.get("e") == "trade":  # with a field of the wrong type, or from an unwrapped stream
        symbol = text_of(event.get("s"))
        return event_of(symbol, _loose_trade(event)) if symbol else [_bad_type(frame)]
    request_id = request_number(body.get("id"))
    failure = as_mapping(body.get("error")) or body
    if "code" in failure:
        return [SubscriptionRefused(request_id, (), excerpt(text_of(failure.get("msg"))))]
    if request_id is not None and body.get("result", body) is None:
        return [Subscribed(request_id)]
    return [Ignored()]


def _bad_type(frame: bytes | str) -> Rejected:
    return Rejected("bad_type", excerpt(frame))


def _loose_trade(event: Mapping[str, object]) -> TextTrade | Rejected:
    return checked_trade(
        id=event.get("t"),
        price=event.get("p"),
        amount=event.get("q"),
        side=_taker(event.get("m")),
        time_us=us_from_ms(event.get("T")),
    )


def _trades_from(gap: Gap, trade_id: int) -> RestRequest:
    return RestRequest(
        path="/api/v3/historicalTrades",
        params={"symbol": gap.instrument.rest_symbol, "fromId": trade_id, "limit": PAGE_ROWS},
    )


def _historical_trade(row: msgspec.Raw) -> TextTrade | Rejected:
    """Read a row of ``historicalTrades``.

    rest-api.md, "Old trade lookup"::

        {"id":5400123457,"price":"91234.50000000","qty":"0.00200000","quoteQty":"182.46900000",
         "time":1795132800131,"isBuyerMaker":false,"isBestMatch":true}
    """
    trade = open_object(row)
    return checked_trade(
        id=trade.get("id"),
        price=trade.get("price"),
        amount=trade.get("qty"),
        side=_taker(trade.get("isBuyerMaker")),
        time_us=us_from_ms(trade.get("time")),
    )


def _instrument(row: msgspec.Raw) -> VenueInstrument:
    listed = _SYMBOLS.decode(row)
    steps = {each.filterType: each for each in listed.filters}
    price, lot = steps.get("PRICE_FILTER"), steps.get("LOT_SIZE")
    return VenueInstrument(
        venue_symbol=listed.symbol,
        rest_symbol=listed.symbol,
        base=listed.baseAsset,
        quote=listed.quoteAsset,
        price_step=step(price.tickSize) if price else None,
        amount_step=step(lot.stepSize) if lot else None,
        is_active=listed.status == "TRADING" and listed.isSpotTradingAllowed,
    )
