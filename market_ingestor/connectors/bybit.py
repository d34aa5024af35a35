"""Bybit v5 spot: the ``publicTrade`` topics.

Owns Bybit's addresses, limits, frames and pages. Must never know who connects or when.
Documents: https://bybit-exchange.github.io/docs/v5/
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

from market_ingestor.connectors.fields import (
    DECODE_ERRORS,
    TradeIdNumber,
    checked_trade,
    events_of,
    open_frame,
    open_object,
    request_number,
    text_of,
    trade_of,
    us_from_ms,
    us_from_ms_text,
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
from market_ingestor.errors import VenueBannedError, VenueError, VenueRefusedError, excerpt
from market_ingestor.model.instrument import VenueInstrument
from market_ingestor.model.trade import Side, TextTrade

TOPIC: Final = "publicTrade."
PAGE_ROWS: Final = 60  # most that recent-trade gives for spot; there is no older page

ALREADY_SUBSCRIBED: Final = "error:already subscribed"  # the subscription exists: no refusal
CODE_TOO_MANY_VISITS: Final = 10006
CODE_SERVER_ERROR: Final = 10016
_LIMITS: Final = Limits(
    subscribe_batch=10,  # "spot can input up to 10 args for each subscription request"
    symbols_per_connection=500,  # 21,000 characters of args; a long topic takes 30
    message_interval_s=0.1,  # none is documented; 500 symbols take 5 s
    connect_interval_s=1.0,  # 500 per 5 minutes
    ping_interval_s=20.0,  # "send the ping every 20 seconds"
    connection_life_s=None,
    frame_bytes_max=1 << 20,  # 1,024 trades of 180 bytes
    rest_requests_per_s=10.0,  # 600 per 5 s, but 60 rows do not repay haste
    bans_s={403: 600, 418: 600, 429: 5},  # "access too frequent": 10 minutes; 429: 5 s window
    has_contiguous_ids=True,  # seen in spot captures, not promised
    refills=False,  # 60 rows: about a second of a busy symbol
)


class _Row(msgspec.Struct, gc=False):
    time_ms: int = msgspec.field(name="T")
    side: Literal["Buy", "Sell"] = msgspec.field(name="S")
    volume: str = msgspec.field(name="v")
    price: str = msgspec.field(name="p")
    trade_id: TradeIdNumber = msgspec.field(name="i")


class _Push(msgspec.Struct, gc=False):
    """A push of a topic: 1 to 1,024 trades, ascending, live in spite of its ``type``.

    v5/websocket/public/trade; ``S`` is the taker's side. Block trades (``BT``) count::

        {"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1795132800130,"data":[
         {"T":1795132800125,"s":"BTCUSDT","S":"Buy","v":"0.0012","p":"91234.5",
          "i":"2290000000912345678","BT":false,"RPI":false,"seq":98765432101}]}
    """

    topic: str
    data: list[_Row]


class _Rows(msgspec.Struct, gc=False):
    """The same push, each row to be judged by itself."""

    data: list[msgspec.Raw]


class _PriceFilter(msgspec.Struct, frozen=True, gc=False):
    tickSize: str = ""  # noqa: N815 - the venue's own word


class _LotSizeFilter(msgspec.Struct, frozen=True, gc=False):
    basePrecision: str = ""  # noqa: N815 - the venue's own word


class _Listed(msgspec.Struct, gc=False):
    """An instrument.

    v5/market/instrument; spot has one page, without what is delisted::

        {"symbol":"BTCUSDT","baseCoin":"BTC","quoteCoin":"USDT","status":"Trading",
         "lotSizeFilter":{"basePrecision":"0.000001","quotePrecision":"0.0000001"},
         "priceFilter":{"tickSize":"0.1"}}
    """

    symbol: str
    baseCoin: str  # noqa: N815 - the venue's own word
    quoteCoin: str  # noqa: N815 - as above
    status: str = ""
    priceFilter: _PriceFilter = _PriceFilter()  # noqa: N815 - as above
    lotSizeFilter: _LotSizeFilter = _LotSizeFilter()  # noqa: N815 - as above


class _List(msgspec.Struct, frozen=True, gc=False):
    rows: list[msgspec.Raw] = msgspec.field(name="list", default=[])


class _Envelope(msgspec.Struct, gc=False):
    """Every REST answer; ``retCode`` counts, not the HTTP status."""

    retCode: int  # noqa: N815 - the venue's own word
    retMsg: str = ""  # noqa: N815 - as above
    result: _List = _List()


_PUSHES: Final = msgspec.json.Decoder(_Push, strict=False)  # ids are integers in text
_ROWS: Final = msgspec.json.Decoder(_Rows)
_LISTED: Final = msgspec.json.Decoder(_Listed)
_ENVELOPES: Final = msgspec.json.Decoder(_Envelope)
_SIDES: Final[Mapping[str, Side]] = {"Buy": "buy", "Sell": "sell"}


class Bybit(msgspec.Struct, frozen=True, gc=False):
    """Bybit's spot market."""

    name: str = "bybit"
    ws_url: str = "wss://stream.bybit.com"
    rest_url: str = "https://api.bybit.com"
    limits: Limits = _LIMITS

    def connect_url(self, base: str) -> str:
        """Return the address of the public spot socket: the path chooses the market."""
        return base + "/v5/public/spot"

    def subscribe(self, venue_symbols: Sequence[str], request_id: int) -> str:
        """Return the frame that subscribes; it is answered, and refused, as a whole."""
        return _request("subscribe", venue_symbols, request_id)

    def unsubscribe(self, venue_symbols: Sequence[str], request_id: int) -> str:
        """Return the frame that unsubscribes."""
        return _request("unsubscribe", venue_symbols, request_id)

    def ping(self, request_id: int) -> str | None:
        """Return the JSON ping."""
        return msgspec.json.encode({"req_id": str(request_id), "op": "ping"}).decode()

    def decode(self, frame: bytes | str) -> Sequence[Event]:
        """Return what a frame means."""
        try:
            push = _PUSHES.decode(frame)
        except DECODE_ERRORS:
            return _decode_odd(frame)
        topic = push.topic
        if not topic.startswith(TOPIC):
            return [Ignored()]
        if topic == TOPIC:
            return [Rejected("bad_type", excerpt(frame))]
        return events_of(
            topic.removeprefix(TOPIC),
            [
                trade_of(row.trade_id, row.price, row.volume, _SIDES[row.side], row.time_ms * 1000)
                for row in push.data
            ],
        )

    def instruments_request(self) -> RestRequest:
        """Return the request for the spot instruments; the default category is another."""
        return RestRequest(path="/v5/market/instruments-info", params={"category": "spot"})

    def decode_instruments(self, response: RestResponse) -> Sequence[VenueInstrument]:
        """Return the listed instruments."""
        return read_instruments(self.name, _rows(self.name, response), _instrument)

    def history_request(self, gap: Gap) -> RestRequest | None:
        """Return the request for the newest 60 trades: nothing older can be had."""
        return RestRequest(
            path="/v5/market/recent-trade",
            params={"category": "spot", "symbol": gap.instrument.rest_symbol, "limit": PAGE_ROWS},
        )

    def newest_request(self, instrument: VenueInstrument) -> RestRequest | None:
        """Return the request for the newest trade."""
        return RestRequest(
            path="/v5/market/recent-trade",
            params={"category": "spot", "symbol": instrument.rest_symbol, "limit": 1},
        )

    def decode_history(self, gap: Gap, response: RestResponse) -> HistoryPage:  # noqa: ARG002 - of the protocol
        """Return the only page there is; it may lie wholly behind the gap."""
        trades, rejected = history_rows(_rows(self.name, response), _recent_trade)
        return HistoryPage(trades=trades, rejected=rejected, next=None)


def _request(op: str, venue_symbols: Sequence[str], request_id: int) -> str:
    topics = [TOPIC + symbol for symbol in venue_symbols]
    request = {"req_id": str(request_id), "op": op, "args": topics}
    return msgspec.json.encode(request).decode()


def _decode_odd(frame: bytes | str) -> Sequence[Event]:
    """Decode what is not a well-formed push: pongs, answers, garbage.

    v5/ws/connect; the pong of spot repeats ``op: ping``, that of other markets says ``pong``. One
    unknown topic leaves the whole request without data, and ``req_id`` may come back empty::

        {"success":true,"ret_msg":"subscribe","conn_id":"0b1c...","req_id":"1","op":"subscribe"}
        {"success":false,"ret_msg":"error:handler not found,topic:publicTrade.NOTASYMBOL",
         "conn_id":"0b1c...","req_id":"","op":"subscribe"}
        {"success":true,"ret_msg":"pong","conn_id":"0b1c...","op":"ping"}
    """
    body = open_frame(frame)
    if isinstance(body, Rejected):
        return [body]
    match body.get("op"):
        case "ping" | "pong":
            return [Heartbeat()]
        case "subscribe":
            return [_answer(body)]
        case None if text_of(body.get("topic")).startswith(TOPIC):
            return _decode_rows(frame, text_of(body["topic"]).removeprefix(TOPIC))
        case _:
            return [Ignored()]


def _answer(body: Mapping[str, object]) -> Event:
    """Return what the answer to a subscribe request means."""
    request_id = request_number(body.get("req_id"))
    if body.get("success") is True:
        return Subscribed(request_id)
    message = text_of(body.get("ret_msg"))
    _, found, topic = message.partition("topic:" + TOPIC)
    if found and topic and message.startswith(ALREADY_SUBSCRIBED):
        # Asked again alone after a refusal whose other topics were served after all.
        return Subscribed(request_id, (topic,))
    return SubscriptionRefused(request_id, (), excerpt(message))


def _decode_rows(frame: bytes | str, symbol: str) -> Sequence[Event]:
    """Decode a push with a field of the wrong type: what is good in it is kept."""
    try:
        rows = _ROWS.decode(frame).data
    except DECODE_ERRORS:
        return [Rejected("bad_type", excerpt(frame))]
    if not symbol:
        return [Rejected("bad_type", excerpt(frame))]
    return events_of(symbol, [read_row(row, _pushed_trade) for row in rows])


def _pushed_trade(raw: msgspec.Raw) -> TextTrade | Rejected:
    row = open_object(raw)
    return checked_trade(
        id=row.get("i"),
        price=row.get("p"),
        amount=row.get("v"),
        side=_SIDES.get(text_of(row.get("S"))),
        time_us=us_from_ms(row.get("T")),
    )


def _recent_trade(raw: msgspec.Raw) -> TextTrade | Rejected:
    """Read a row of ``recent-trade``: its time is text, and ``execId`` is the push's ``i``.

    v5/market/recent-trade::

        {"execId":"2290000000912345680","symbol":"BTCUSDT","price":"91234.4","size":"0.0005",
         "side":"Sell","time":"1795132800140","isBlockTrade":false,"isRPITrade":false,
         "seq":"98765432110"}
    """
    row = open_object(raw)
    return checked_trade(
        id=row.get("execId"),
        price=row.get("price"),
        amount=row.get("size"),
        side=_SIDES.get(text_of(row.get("side"))),
        time_us=us_from_ms_text(row.get("time")),
    )


def _rows(exchange: str, response: RestResponse) -> list[msgspec.Raw]:
    """Return the rows of an answer whose code is 0.

    Raises:
        VenueError: The venue is not well; `VenueRefusedError` for this request alone,
            `VenueBannedError` for too many.
    """
    envelope = decode_body(exchange, response, _ENVELOPES, _LIMITS.bans_s)
    if envelope.retCode == CODE_TOO_MANY_VISITS:
        raise VenueBannedError(
            exchange, excerpt(envelope.retMsg), retry_after_s=float(_LIMITS.bans_s[429])
        )
    if envelope.retCode != 0:
        error = VenueError if envelope.retCode == CODE_SERVER_ERROR else VenueRefusedError
        raise error(exchange, excerpt(f"{envelope.retCode} {envelope.retMsg}"))
    return envelope.result.rows


def _instrument(row: msgspec.Raw) -> VenueInstrument:
    listed = _LISTED.decode(row)
    return VenueInstrument(
        venue_symbol=listed.symbol,
        rest_symbol=listed.symbol,
        base=listed.baseCoin,
        quote=listed.quoteCoin,
        price_step=step(listed.priceFilter.tickSize),
        amount_step=step(listed.lotSizeFilter.basePrecision),
        is_active=listed.status == "Trading",
    )
