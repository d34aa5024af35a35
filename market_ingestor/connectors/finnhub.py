"""Finnhub: trades of US stocks, without ids, sides or acknowledgements.

Owns Finnhub's addresses, limits and frames. Must never know who connects or when. The key stands
in the address of the socket: that address must never reach a log. Prices and volumes are JSON
numbers; their text is taken from the frame, digit for digit.
Documents: https://finnhub.io/docs/api/websocket-trades
"""

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

import msgspec

from market_ingestor.connectors.fields import (
    DECODE_ERRORS,
    checked_number,
    checked_trade,
    events_of,
    number_text,
    open_frame,
    open_object,
    text_of,
    us_from_ms,
)
from market_ingestor.connectors.pages import decode_body, read_instruments
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
    SubscriptionRefused,
)
from market_ingestor.errors import VenueProtocolError, excerpt
from market_ingestor.model.instrument import VenueInstrument
from market_ingestor.model.trade import TextTrade

TRADE: Final = "trade"

_LIMITS: Final = Limits(
    subscribe_batch=1,  # a message names one symbol
    symbols_per_connection=10_000,  # a key has one connection: what its plan lacks is refused
    message_interval_s=0.1,  # no limit is documented
    connect_interval_s=1.0,  # too many attempts bring a 429; no number is documented
    ping_interval_s=None,  # the server pings, and asks for no answer
    connection_life_s=None,
    frame_bytes_max=1 << 20,  # a row has 70 bytes; frames of some hundred rows were seen
    rest_requests_per_s=1.0,  # 60 a minute with a free key
    bans_s={403: 60, 418: 60, 429: 60},  # free keys have 60 calls a minute; none is documented
    has_contiguous_ids=False,
    has_ids=False,
    refills=False,  # free keys have no history, and without ids no hole is seen
    repeats_frames=True,  # frames sent two or three times were reported
    # A symbol counts as confirmed with its first trade, or so long after it was asked for: there
    # is no answer, quiet stocks are the rule, and a refusal takes well below a second.
    confirms_after_s=2.0,
    answers_pings=True,  # a pong is every WebSocket server's duty; theirs come once a minute
    silence_max_s=150.0,  # a ping comes about every 60 s; two in a row may be late
    trades_always=False,  # 04:00 to 20:00 New York time, on trading days
    lists_for_all=False,  # some plans get a 403
)


class _Row(msgspec.Struct, gc=False):
    s: str = ""
    p: msgspec.Raw = msgspec.Raw()
    v: msgspec.Raw = msgspec.Raw()
    t: int | None = None


class _Frame(msgspec.Struct, gc=False):
    """Every message of the socket; rows are of mixed symbols and in no order of time.

    docs/api/websocket-trades; ``c`` are conditions, null or absent at times::

        {"data":[{"c":["1","12"],"p":231.455,"s":"AAPL","t":1795186200123,"v":10}],"type":"trade"}
        {"type":"ping"}
        {"type":"error","msg":"Subscribing to too many symbols"}
    """

    type: str = ""
    data: list[_Row] = []
    msg: str = ""


class _Rows(msgspec.Struct, gc=False):
    """The same push, each row to be judged by itself."""

    data: list[msgspec.Raw]


class _Numbers(msgspec.Struct, gc=False):
    """The numbers of a row whose other fields are of the wrong type."""

    p: msgspec.Raw = msgspec.Raw()
    v: msgspec.Raw = msgspec.Raw()


class _Stock(msgspec.Struct, gc=False):
    """A stock.

    docs/api/stock-symbols; classes of shares have a dot (``BRK.B``)::

        {"currency":"USD","description":"APPLE INC","displaySymbol":"AAPL","figi":"BBG000B9XRY4",
         "mic":"XNAS","symbol":"AAPL","type":"Common Stock"}
    """

    symbol: str


_FRAMES: Final = msgspec.json.Decoder(_Frame)
_ROWS: Final = msgspec.json.Decoder(_Rows)
_NUMBERS: Final = msgspec.json.Decoder(_Numbers)
_STOCKS: Final = msgspec.json.Decoder(_Stock)
_LISTS: Final = msgspec.json.Decoder(list[msgspec.Raw])

_Results = dict[str, list[TextTrade | Rejected]]


class Finnhub(msgspec.Struct, frozen=True, gc=False):
    """Finnhub's feed of US stocks.

    Attributes:
        token: The API key; a key has one connection at a time.
    """

    name: str = "finnhub"
    ws_url: str = "wss://ws.finnhub.io"
    rest_url: str = "https://finnhub.io/api/v1"
    limits: Limits = _LIMITS
    token: str = ""

    def __repr__(self) -> str:
        """Return text without the key."""
        return "Finnhub()"

    def connect_url(self, base: str) -> str:
        """Return the address with the key in it; without one the handshake is refused."""
        return f"{base}?token={quote(self.token, safe='')}" if self.token else base

    def subscribe(self, venue_symbols: Sequence[str], request_id: int) -> str:  # noqa: ARG002 - of the protocol
        """Return the frame that subscribes one symbol."""
        return _request("subscribe", venue_symbols)

    def unsubscribe(self, venue_symbols: Sequence[str], request_id: int) -> str:  # noqa: ARG002 - of the protocol
        """Return the frame that unsubscribes one symbol."""
        return _request("unsubscribe", venue_symbols)

    def ping(self, request_id: int) -> str | None:  # noqa: ARG002 - of the protocol
        """Return None: the server pings."""
        return None

    def decode(self, frame: bytes | str) -> Sequence[Event]:
        """Return what a frame means; rows without volume are price updates, not trades."""
        try:
            wire = _FRAMES.decode(frame)
        except DECODE_ERRORS:
            return _decode_odd(frame)
        if wire.type in {"ping", "error"}:
            return [_control(wire)]
        if wire.type != TRADE:
            return _decode_odd(frame)
        results: _Results = {}
        for row in wire.data:
            _take(results, row.s, number_text(row.p), number_text(row.v), row.t)
        return _events(results)

    def instruments_request(self) -> RestRequest:
        """Return the request for the stocks listed in the US."""
        headers = {"X-Finnhub-Token": self.token} if self.token else {}
        return RestRequest(path="/stock/symbol", params={"exchange": "US"}, headers=headers)

    def decode_instruments(self, response: RestResponse) -> Sequence[VenueInstrument]:
        """Return the listed stocks; the ticker is the symbol, US dollars go without saying."""
        rows = decode_body(self.name, response, _LISTS, _LIMITS.bans_s)
        return read_instruments(self.name, rows, _instrument)

    def history_request(self, gap: Gap) -> RestRequest | None:  # noqa: ARG002 - of the protocol
        """Return None: without ids no gap can be seen, and free keys get no past trades."""
        return None

    def newest_request(self, instrument: VenueInstrument) -> RestRequest | None:  # noqa: ARG002 - of the protocol
        """Return None: without ids there is nothing to learn from it."""
        return None

    def decode_history(self, gap: Gap, response: RestResponse) -> HistoryPage:  # noqa: ARG002 - of the protocol
        """Refuse: nothing was asked for."""
        raise VenueProtocolError(self.name, "an answer about history, which nobody asked for")


def _request(kind: str, venue_symbols: Sequence[str]) -> str:
    (symbol,) = venue_symbols
    return msgspec.json.encode({"type": kind, "symbol": symbol}).decode()


def _control(wire: _Frame) -> Event:
    """Return what a ping or an error means, which does not say which symbol it is about."""
    if wire.type == "error":
        return SubscriptionRefused(None, (), excerpt(wire.msg))
    return Heartbeat()


def _take(results: _Results, symbol: str, price: str, volume: str, time_ms: object) -> None:
    """Judge a row and put it with the others of its symbol."""
    if checked_number(volume) is None and checked_number(volume, may_be_zero=True) is not None:
        return  # zero
    trade = checked_trade(
        id=None,
        price=price,
        amount=volume,
        side=None,
        time_us=us_from_ms(time_ms),
        has_ids=False,
        has_sides=False,
    )
    if not symbol:
        trade = Rejected("bad_type", "a trade without symbol")
    results.setdefault(symbol, []).append(trade)


def _events(results: Mapping[str, Sequence[TextTrade | Rejected]]) -> Sequence[Event]:
    """Return the events of the rows of each symbol."""
    events = [event for symbol, rows in results.items() for event in events_of(symbol, rows)]
    return events or [Ignored()]


def _decode_odd(frame: bytes | str) -> Sequence[Event]:
    """Decode what is not a well-formed message: bad rows, garbage."""
    body = open_frame(frame)
    if isinstance(body, Rejected):
        return [body]
    kind = text_of(body.get("type"))
    if kind in {"ping", "error"}:
        return [_control(_Frame(type=kind, msg=text_of(body.get("msg"))))]
    if kind != TRADE:
        return [Ignored()]
    try:
        rows = _ROWS.decode(frame).data
    except DECODE_ERRORS:
        return [Rejected("bad_type", excerpt(frame))]
    results: _Results = {}
    odd: list[Event] = []
    for raw in rows:
        try:
            row, numbers = open_object(raw), _NUMBERS.decode(raw)
        except DECODE_ERRORS:
            odd.append(Rejected("bad_type", excerpt(bytes(raw))))
            continue
        _take(
            results,
            text_of(row.get("s")),
            number_text(numbers.p),
            number_text(numbers.v),
            row.get("t"),
        )
    events = [event for symbol, each in results.items() for event in events_of(symbol, each)]
    return [*events, *odd] or [Ignored()]


def _instrument(row: msgspec.Raw) -> VenueInstrument:
    symbol = _STOCKS.decode(row).symbol
    return VenueInstrument(venue_symbol=symbol, rest_symbol=symbol, base=symbol, quote="")
