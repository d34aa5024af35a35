"""Kraken spot, WebSocket v2: the ``trade`` channel.

Owns Kraken's addresses, limits, frames and pages, and its three spellings of one pair. Must never
know who connects or when. Prices and quantities are JSON numbers here: their text is taken from
the frame as it stands, so no digit is lost, trailing zeros included.
Documents: https://docs.kraken.com/api/docs/
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

import msgspec

from market_ingestor.connectors.fields import (
    DECODE_ERRORS,
    NonEmpty,
    TradeIdNumber,
    as_mapping,
    checked_trade,
    event_of,
    events_of,
    number_text,
    open_frame,
    open_object,
    request_number,
    text_of,
    trade_of,
    us_from_instant,
    us_from_rfc3339,
    us_from_seconds,
)
from market_ingestor.connectors.pages import (
    decode_body,
    history_rows,
    read_instruments,
    read_row,
    step,
)
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
from market_ingestor.errors import (
    VenueBannedError,
    VenueError,
    VenueProtocolError,
    VenueRefusedError,
    excerpt,
)
from market_ingestor.model.decimals import SCALE_MAX, plain
from market_ingestor.model.instrument import VenueInstrument
from market_ingestor.model.trade import Side, TextTrade

CHANNEL: Final = "trade"
PAGE_ROWS: Final = 1000  # most that Trades gives
OVERLAP_US: Final = 1000  # whether ``since`` includes its instant is not documented
NS_PER_US: Final = 1000

# Old codes that v2 has renamed. X and Z prefixes are of REST keys only and are never cut by hand.
RENAMED: Final[Mapping[str, str]] = {"XBT": "BTC", "XDG": "DOGE"}
TRADING: Final = frozenset({"online", "limit_only", "reduce_only"})
TOO_FAST: Final = ("EGeneral:Too many requests", "EAPI:Rate limit exceeded", "EService:Throttled")

_LIMITS: Final = Limits(
    subscribe_batch=200,  # no limit is documented, and few large requests are advised
    symbols_per_connection=1000,  # "all pairs fit"
    message_interval_s=1.0,  # depends on load, no number; what exceeds it is silently missing
    connect_interval_s=5.0,  # 150 per 10 minutes; "no faster than every 5 s" after maintenance
    ping_interval_s=30.0,  # the server cuts after a minute of inactivity
    connection_life_s=None,
    frame_bytes_max=4 << 20,  # a snapshot of instruments comes near 1 MiB
    rest_requests_per_s=0.9,  # clients use 1, no number is documented; an offence costs 5 s
    # 403: the ban for too many attempts lasts 10 minutes. 429 and the errors above give no time;
    # clients live with a request a second.
    bans_s={403: 600, 418: 600, 429: 5},
    has_contiguous_ids=True,  # documented as a sequence number, unique per book
    history_slack_s=60.0,  # clocks of a venue are set, but not by more
)


class _Row(msgspec.Struct, gc=False):
    symbol: NonEmpty
    side: Side
    price: msgspec.Raw
    qty: msgspec.Raw
    trade_id: TradeIdNumber
    timestamp: str


class _Push(msgspec.Struct, gc=False, tag_field="channel", tag=CHANNEL):
    """A push of the trade channel: one trade or more, ``side`` being the taker's.

    Without one of these fields it needs a closer look.

    websocket-v2/trade; a ``snapshot`` holds the newest 50, oldest first::

        {"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"sell",
         "price":91230.1,"qty":0.50000000,"ord_type":"market","trade_id":98765432,
         "timestamp":"2026-11-20T00:00:00.771402Z"}]}
    """

    data: list[_Row]


class _Rows(msgspec.Struct, gc=False):
    """The same push, each row to be judged by itself."""

    data: list[msgspec.Raw]


class _Numbers(msgspec.Struct, gc=False):
    """The numbers of a row whose other fields are of the wrong type."""

    price: msgspec.Raw = msgspec.Raw()
    qty: msgspec.Raw = msgspec.Raw()


class _Deal(msgspec.Struct, gc=False, array_like=True):
    """A row of ``Trades``; the time is a JSON number of seconds with seven digits or more.

    rest-api/get-recent-trades::

        ["91230.10000","0.50000000",1795132800.7714021,"s","m","",98765432]
    """

    price: msgspec.Raw
    volume: msgspec.Raw
    time: msgspec.Raw
    side: msgspec.Raw
    order_type: msgspec.Raw
    misc: msgspec.Raw
    trade_id: msgspec.Raw


class _Pair(msgspec.Struct, gc=False):
    """A pair of ``AssetPairs``.

    rest-api/get-tradable-asset-pairs::

        "XXBTZUSD":{"altname":"XBTUSD","wsname":"XBT/USD","base":"XXBT","quote":"ZUSD",
         "pair_decimals":1,"lot_decimals":8,"tick_size":"0.1","status":"online"}
    """

    altname: str
    wsname: str = ""
    lot_decimals: int | None = None
    tick_size: str = ""
    status: str = ""


class _Answer(msgspec.Struct, gc=False):
    """Every REST answer; errors come with HTTP status 200."""

    error: list[str] = []
    result: dict[str, msgspec.Raw] = {}


_PUSHES: Final = msgspec.json.Decoder(_Push)
_ROWS: Final = msgspec.json.Decoder(_Rows)
_NUMBERS: Final = msgspec.json.Decoder(_Numbers)
_DEALS: Final = msgspec.json.Decoder(_Deal)
_PAIRS: Final = msgspec.json.Decoder(_Pair)
_ANSWERS: Final = msgspec.json.Decoder(_Answer)
_LISTS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_TEXTS: Final = msgspec.json.Decoder(str)
_SIDES: Final[Mapping[str, Side]] = {"buy": "buy", "sell": "sell"}
_DEAL_SIDES: Final[Mapping[str, Side]] = {"b": "buy", "s": "sell"}


class Kraken(msgspec.Struct, frozen=True, gc=False):
    """Kraken's spot market."""

    name: str = "kraken"
    ws_url: str = "wss://ws.kraken.com"
    rest_url: str = "https://api.kraken.com"
    limits: Limits = _LIMITS

    def connect_url(self, base: str) -> str:
        """Return the address of version 2; the trades of version 1 have no ids."""
        return base + "/v2"

    def subscribe(self, venue_symbols: Sequence[str], request_id: int) -> str:
        """Return the frame that subscribes; the snapshot of 50 trades fills short gaps."""
        return _request("subscribe", venue_symbols, request_id, snapshot=True)

    def unsubscribe(self, venue_symbols: Sequence[str], request_id: int) -> str:
        """Return the frame that unsubscribes."""
        return _request("unsubscribe", venue_symbols, request_id)

    def ping(self, request_id: int) -> str | None:
        """Return the JSON ping."""
        return msgspec.json.encode({"method": "ping", "req_id": request_id}).decode()

    def decode(self, frame: bytes | str) -> Sequence[Event]:
        """Return what a frame means."""
        try:
            push = _PUSHES.decode(frame)
        except DECODE_ERRORS:
            return _decode_odd(frame)
        rows = push.data
        if len(rows) == 1:  # nearly always
            return event_of(rows[0].symbol, _trade(rows[0]))
        trades = [_trade(row) for row in rows]
        symbols = {row.symbol for row in rows}
        if len(symbols) == 1:
            return events_of(rows[0].symbol, trades)
        return [
            event
            for symbol in dict.fromkeys(row.symbol for row in rows)
            for event in events_of(
                symbol,
                [trade for row, trade in zip(rows, trades, strict=True) if row.symbol == symbol],
            )
        ]

    def instruments_request(self) -> RestRequest:
        """Return the request for the pairs."""
        return RestRequest(path="/0/public/AssetPairs")

    def decode_instruments(self, response: RestResponse) -> Sequence[VenueInstrument]:
        """Return the listed pairs without dark pools (``.d``)."""
        result = _result(self.name, response)
        rows = [row for key, row in result.items() if not key.endswith(".d")]
        return read_instruments(self.name, rows, _instrument)

    def history_request(self, gap: Gap) -> RestRequest | None:
        """Return the request for the trades from just before ``gap.from_time_us`` on."""
        return _trades_since(gap, (gap.from_time_us - OVERLAP_US) * NS_PER_US)

    def newest_request(self, instrument: VenueInstrument) -> RestRequest | None:  # noqa: ARG002 - of the protocol
        """Return None: the snapshot of a subscription ends with the newest trade."""
        return None

    def decode_history(self, gap: Gap, response: RestResponse) -> HistoryPage:
        """Return a page; the next one starts at the instant this one ends."""
        result = _result(self.name, response)
        last = result.pop("last", None)
        if len(result) != 1 or last is None:
            raise VenueProtocolError(self.name, f"odd result: {excerpt(response.body)}")
        try:
            rows = _LISTS.decode(next(iter(result.values())))
        except DECODE_ERRORS:
            raise VenueProtocolError(self.name, f"odd rows: {excerpt(response.body)}") from None
        trades, rejected = history_rows(rows, _deal)
        if len(rows) < PAGE_ROWS:
            return HistoryPage(trades=trades, rejected=rejected, next=None)
        last_ns = request_number(_text(last))
        if last_ns is None or len({trade.time_us for trade in trades}) <= 1:
            # No cursor, or a whole page of one instant that none leads past.
            return HistoryPage(trades=trades, rejected=rejected, next=None, is_whole=False)
        request = _following(gap, last_ns)
        return HistoryPage(trades=trades, rejected=rejected, next=request)


def _trade(row: _Row) -> TextTrade | Rejected:
    price = str(row.price, "latin-1")  # `number_text` without the call
    amount = str(row.qty, "latin-1")
    return trade_of(row.trade_id, price, amount, row.side, us_from_instant(row.timestamp))


def _request(method: str, venue_symbols: Sequence[str], request_id: int, **options: bool) -> str:
    params = {"channel": CHANNEL, "symbol": venue_symbols, **options}
    request = {"method": method, "params": params, "req_id": request_id}
    return msgspec.json.encode(request).decode()


def _text(raw: msgspec.Raw) -> str:
    """Return the text in a JSON string, nothing for any other value."""
    try:
        return _TEXTS.decode(raw)
    except DECODE_ERRORS:
        return ""


def _events(results: Mapping[str, Sequence[TextTrade | Rejected]]) -> Sequence[Event]:
    """Return the events of the rows of each symbol."""
    events: list[Event] = []
    for symbol, of_symbol in results.items():
        if symbol:
            events += events_of(symbol, of_symbol)
        else:
            events += [Rejected("bad_type", "a trade without symbol")] * len(of_symbol)
    return events


def _control(channel: object) -> Event:
    return Heartbeat() if channel == "heartbeat" else Ignored()


def _decode_odd(frame: bytes | str) -> Sequence[Event]:
    """Decode what is not a well-formed push: answers, heartbeats, errors, garbage.

    websocket-v2/trade, /heartbeat, /ping, /status; an answer per symbol, failures without
    ``result``; ``connection_id`` may exceed 63 bits::

        {"method":"subscribe","req_id":11,"result":{"channel":"trade","snapshot":true,
         "symbol":"BTC/USD"},"success":true,"time_in":"...","time_out":"..."}
        {"error":"Currency pair not supported XBT/USD","method":"subscribe","req_id":11,
         "success":false,"symbol":"XBT/USD","time_in":"...","time_out":"..."}
        {"channel":"heartbeat"}
        {"method":"pong","req_id":5,"time_in":"...","time_out":"..."}
        {"Error":"Exceeded msg rate"}
    """
    body = open_frame(frame)
    if isinstance(body, Rejected):
        return [body]
    if body.get("channel") == CHANNEL:
        return _decode_rows(frame)
    match body.get("method"):
        case "subscribe":
            return [_answer(body)]
        case "pong":
            return [Heartbeat()]
        case None if "Error" in body:  # some request was dropped, it does not say which
            return [SubscriptionRefused(None, (), excerpt(text_of(body["Error"])))]
        case _:
            return [_control(body.get("channel"))]


def _answer(body: Mapping[str, object]) -> Event:
    """Return what the answer to a subscribe request means for one symbol."""
    request_id = request_number(body.get("req_id"))
    result = as_mapping(body.get("result"))
    symbol = text_of(result.get("symbol")) or text_of(body.get("symbol"))
    if body.get("success") is not True:
        message = excerpt(text_of(body.get("error")))
        return SubscriptionRefused(request_id, (symbol,) if symbol else (), message)
    if symbol and result.get("channel") == CHANNEL:
        return Subscribed(request_id, (symbol,))
    return Ignored()


def _decode_rows(frame: bytes | str) -> Sequence[Event]:
    """Decode a push with a field of the wrong type: what is good in it is kept."""
    try:
        rows = _ROWS.decode(frame).data
    except DECODE_ERRORS:
        return [Rejected("bad_type", excerpt(frame))]
    results: dict[str, list[TextTrade | Rejected]] = {}
    events: list[Event] = []
    for row in rows:
        try:
            symbol = text_of(open_object(row).get("symbol"))
        except DECODE_ERRORS:
            events.append(Rejected("bad_type", excerpt(bytes(row))))
            continue
        results.setdefault(symbol, []).append(read_row(row, _loose_trade))
    return [*_events(results), *events]


def _loose_trade(raw: msgspec.Raw) -> TextTrade | Rejected:
    row, numbers = open_object(raw), _NUMBERS.decode(raw)
    return checked_trade(
        id=row.get("trade_id"),
        price=number_text(numbers.price),
        amount=number_text(numbers.qty),
        side=_SIDES.get(text_of(row.get("side"))),
        time_us=us_from_rfc3339(row.get("timestamp")),
    )


def _result(exchange: str, response: RestResponse) -> dict[str, msgspec.Raw]:
    """Return the result of an answer without errors; warnings begin with W.

    Raises:
        VenueError: The venue is not well; `VenueRefusedError` for this request alone,
            `VenueBannedError` for too many.
    """
    answer = decode_body(exchange, response, _ANSWERS, _LIMITS.bans_s)
    errors = [error for error in answer.error if not error.startswith("W")]
    if any(error.startswith(TOO_FAST) for error in errors):
        raise VenueBannedError(
            exchange, excerpt(errors[0]), retry_after_s=float(_LIMITS.bans_s[429])
        )
    if errors:
        is_of_request = all(error.startswith("EQuery") for error in errors)
        error = VenueRefusedError if is_of_request else VenueError
        raise error(exchange, excerpt(", ".join(errors)))
    return answer.result


def _following(gap: Gap, last_ns: int) -> RestRequest | None:
    """Return the request for the page behind a full one, None at the end of the gap.

    The end is told by times, in whose order the venue lists: ids need not follow them. The page
    starts a nanosecond before ``last``, so that the last trade comes again whether ``since``
    includes its instant or not: trades that share the instant are not skipped.
    """
    if last_ns // NS_PER_US > gap.to_time_us + OVERLAP_US:
        return None
    return _trades_since(gap, last_ns - 1)


def _trades_since(gap: Gap, since_ns: int) -> RestRequest:
    return RestRequest(
        path="/0/public/Trades",
        params={"pair": gap.instrument.rest_symbol, "since": since_ns, "count": PAGE_ROWS},
    )


def _deal(raw: msgspec.Raw) -> TextTrade | Rejected:
    row = _DEALS.decode(raw)
    return checked_trade(
        id=number_text(row.trade_id),
        price=_text(row.price),
        amount=_text(row.volume),
        side=_DEAL_SIDES.get(_text(row.side)),
        time_us=us_from_seconds(number_text(row.time)),
    )


def _instrument(row: msgspec.Raw) -> VenueInstrument | None:
    pair = _PAIRS.decode(row)
    base, slash, quote = pair.wsname.partition("/")
    if not (base and slash and quote) or "/" in quote:
        return None
    base, quote = RENAMED.get(base, base), RENAMED.get(quote, quote)
    decimals = pair.lot_decimals
    return VenueInstrument(
        venue_symbol=f"{base}/{quote}",
        rest_symbol=pair.altname,
        base=base,
        quote=quote,
        price_step=step(pair.tick_size),
        amount_step=(
            plain(Decimal(1).scaleb(-decimals))
            if decimals is not None and 0 <= decimals <= SCALE_MAX
            else None
        ),
        is_active=pair.status in TRADING,
    )
