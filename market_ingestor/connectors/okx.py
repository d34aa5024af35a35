"""OKX v5: the ``trades-all`` channel of the business socket, one raw trade per push.

Owns OKX's addresses, limits, frames and pages. Must never know who connects or when. The
``trades`` channel is not used: its rows are aggregates, so ids and counts would be off.
Documents: https://www.okx.com/docs-v5/en/
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
    events_of,
    open_frame,
    open_object,
    request_number,
    text_of,
    trade_of,
    us_from_ms_text,
)
from market_ingestor.connectors.pages import (
    decode_body,
    page_backward,
    read_instruments,
    read_row,
    step,
)
from market_ingestor.connectors.venue import (
    ClosingSoon,
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

CHANNEL: Final = "trades-all"
PAGE_ROWS: Final = 100  # most that history-trades gives
NOTICE_CLOSING: Final = "64008"  # 60 s before the connection is cut for an upgrade

CODE_RATE_LIMIT: Final = "50011"
CODES_BUSY: Final = frozenset({"50013", "50026"})
_LIMITS: Final = Limits(
    subscribe_batch=100,  # about 6 KB of the 64 KB that all channels together may take
    symbols_per_connection=500,  # about 30 KB of them
    message_interval_s=1.0,  # 480 an hour would be 7.5 s; a start needs a burst of five
    connect_interval_s=0.34,  # 3 per second and address
    ping_interval_s=20.0,  # the server cuts after 30 s without a push or a ping
    connection_life_s=None,
    frame_bytes_max=1 << 20,  # a trade is 250 bytes; errors echo the request
    rest_requests_per_s=8.0,  # history-trades: 20 per 2 s
    bans_s={403: 60, 418: 60, 429: 2},  # limits count per 2 s; 403 and 418 are not documented
    has_contiguous_ids=True,  # the aggregation rule of ``trades`` counts ids one by one
)


class _Arg(msgspec.Struct, gc=False, tag_field="channel", tag=CHANNEL):
    instId: NonEmpty  # noqa: N815 - the venue's own word


class _Row(msgspec.Struct, gc=False):
    tradeId: TradeIdNumber  # noqa: N815 - the venue's own word
    px: str
    sz: str
    side: Side
    ts: int


class _Push(msgspec.Struct, gc=False):
    """A push of the channel; without one of these fields it needs a closer look.

    docs-v5/en/#order-book-trading-market-data-ws-all-trades-channel; ``side`` is the taker's::

        {"arg":{"channel":"trades-all","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT",
         "tradeId":"812345678","px":"91234.5","sz":"0.00123","side":"buy","source":"0",
         "ts":"1795132800125"}]}
    """

    arg: _Arg
    data: list[_Row]


class _Rows(msgspec.Struct, gc=False):
    """The same push, each row to be judged by itself."""

    data: list[msgspec.Raw]


class _Listed(msgspec.Struct, gc=False):
    """An instrument.

    docs-v5/en/#public-data-rest-api-get-instruments; fields are "" where they do not apply::

        {"instType":"SPOT","instId":"BTC-USDT","baseCcy":"BTC","quoteCcy":"USDT",
         "tradeQuoteCcyList":["USDT"],"state":"live","tickSz":"0.1","lotSz":"0.00000001",
         "minSz":"0.00001","listTime":"1600000000000"}
    """

    instId: str  # noqa: N815 - the venue's own word
    baseCcy: str  # noqa: N815 - as above
    quoteCcy: str  # noqa: N815 - as above
    state: str = ""
    tickSz: str = ""  # noqa: N815 - as above
    lotSz: str = ""  # noqa: N815 - as above


class _Envelope(msgspec.Struct, gc=False):
    """Every REST answer; ``code`` counts, not the HTTP status."""

    code: str
    msg: str = ""
    data: list[msgspec.Raw] = []


_PUSHES: Final = msgspec.json.Decoder(_Push, strict=False)  # integers in text
_ROWS: Final = msgspec.json.Decoder(_Rows)
_LISTED: Final = msgspec.json.Decoder(_Listed)
_ENVELOPES: Final = msgspec.json.Decoder(_Envelope)
_SIDES: Final[Mapping[str, Side]] = {"buy": "buy", "sell": "sell"}


class Okx(msgspec.Struct, frozen=True, gc=False):
    """OKX's spot market."""

    name: str = "okx"
    ws_url: str = "wss://ws.okx.com:8443"
    rest_url: str = "https://www.okx.com"
    limits: Limits = _LIMITS

    def connect_url(self, base: str) -> str:
        """Return the address of the business socket, the only one with ``trades-all``."""
        return base + "/ws/v5/business"

    def subscribe(self, venue_symbols: Sequence[str], request_id: int) -> str:
        """Return the frame that subscribes; each symbol is answered by itself."""
        return _request("subscribe", venue_symbols, request_id)

    def unsubscribe(self, venue_symbols: Sequence[str], request_id: int) -> str:
        """Return the frame that unsubscribes."""
        return _request("unsubscribe", venue_symbols, request_id)

    def ping(self, request_id: int) -> str | None:  # noqa: ARG002 - of the protocol
        """Return the text ``ping``, which is not JSON."""
        return "ping"

    def decode(self, frame: bytes | str) -> Sequence[Event]:
        """Return what a frame means."""
        try:
            push = _PUSHES.decode(frame)
        except DECODE_ERRORS:
            return _decode_odd(frame)
        return events_of(
            push.arg.instId,
            [trade_of(row.tradeId, row.px, row.sz, row.side, row.ts * 1000) for row in push.data],
        )

    def instruments_request(self) -> RestRequest:
        """Return the request for the spot instruments."""
        return RestRequest(path="/api/v5/public/instruments", params={"instType": "SPOT"})

    def decode_instruments(self, response: RestResponse) -> Sequence[VenueInstrument]:
        """Return the listed instruments."""
        return read_instruments(self.name, _data(self.name, response), _instrument)

    def history_request(self, gap: Gap) -> RestRequest | None:
        """Return the request for the trades below ``gap.before_id``.

        Backward, because ``before`` alone gives the newest page and not the one next to the
        cursor. An id that exists is the cursor: nothing is said of others.
        """
        return _older_than(gap, gap.before_id)

    def newest_request(self, instrument: VenueInstrument) -> RestRequest | None:
        """Return the request for the newest trade: without ``after`` the page begins with it."""
        return RestRequest(
            path="/api/v5/market/history-trades",
            params={"instId": instrument.rest_symbol, "limit": 1},
        )

    def decode_history(self, gap: Gap, response: RestResponse) -> HistoryPage:
        """Return a page; the venue keeps three months."""
        rows = _data(self.name, response)
        return page_backward(gap, rows, _trade, limit=PAGE_ROWS, older_than=_older_than)


def _request(op: str, venue_symbols: Sequence[str], request_id: int) -> str:
    args = [{"channel": CHANNEL, "instId": symbol} for symbol in venue_symbols]
    request = {"id": str(request_id), "op": op, "args": args}
    return msgspec.json.encode(request).decode()


def _decode_odd(frame: bytes | str) -> Sequence[Event]:
    """Decode what is not a well-formed push: pongs, answers, notices, errors, garbage.

    docs-v5/en/#overview-websocket-subscribe and -notification; an answer per arg::

        {"id":"1","event":"subscribe","arg":{"channel":"trades-all","instId":"BTC-USDT"},
         "connId":"a1b2c3d4"}
        {"event":"error","code":"60018","msg":"Subscribe failed, wrong URL or
         channel:trades-all,instId:FOO-USDT doesn't exist. Please use ...","connId":"a1b2c3d4"}
        {"event":"notice","code":"64008","msg":"The connection will soon be closed for a service
         upgrade. Please reconnect.","connId":"a1b2c3d4"}
    """
    body = open_frame(frame)
    if isinstance(body, Rejected):
        return [Heartbeat() if frame in {b"pong", "pong"} else body]
    arg = as_mapping(body.get("arg"))
    symbol = text_of(arg.get("instId"))
    message = excerpt(text_of(body.get("msg")))
    request_id = request_number(body.get("id"))
    match body.get("event"):
        case "subscribe" if symbol and arg.get("channel") == CHANNEL:
            return [Subscribed(request_id, (symbol,))]
        case "error":
            return [SubscriptionRefused(request_id, _named_in(message), message)]
        case "notice" if body.get("code") == NOTICE_CLOSING:
            return [ClosingSoon(message)]
        case None if arg.get("channel") == CHANNEL:
            return _decode_rows(frame, symbol)
        case _:
            return [Ignored()]


def _named_in(message: str) -> tuple[str, ...]:
    """Return the instrument that an error of code 60018 names, nothing if it names none."""
    _, found, rest = message.partition("instId:")
    words = rest.replace(",", " ").split(maxsplit=1)
    return (words[0],) if found and words else ()


def _decode_rows(frame: bytes | str, symbol: str) -> Sequence[Event]:
    """Decode a push with a field of the wrong type: what is good in it is kept."""
    try:
        rows = _ROWS.decode(frame).data
    except DECODE_ERRORS:
        return [Rejected("bad_type", excerpt(frame))]
    if not symbol:
        return [Rejected("bad_type", excerpt(frame))]
    return events_of(symbol, [read_row(row, _trade) for row in rows])


def _trade(raw: msgspec.Raw) -> TextTrade | Rejected:
    """Read a row of a push or of ``history-trades``: they have the same fields.

    docs-v5/en/#order-book-trading-market-data-get-trades-history::

        {"instId":"BTC-USDT","side":"sell","sz":"0.00001","source":"0","px":"91234.4",
         "tradeId":"812345679","ts":"1795132800130"}
    """
    row = open_object(raw)
    return checked_trade(
        id=row.get("tradeId"),
        price=row.get("px"),
        amount=row.get("sz"),
        side=_SIDES.get(text_of(row.get("side"))),
        time_us=us_from_ms_text(row.get("ts")),
    )


def _data(exchange: str, response: RestResponse) -> list[msgspec.Raw]:
    """Return the rows of an answer whose code is 0.

    Raises:
        VenueError: The venue is not well; `VenueRefusedError` for this request alone,
            `VenueBannedError` for too many.
    """
    envelope = decode_body(exchange, response, _ENVELOPES, _LIMITS.bans_s)
    if envelope.code == CODE_RATE_LIMIT:
        raise VenueBannedError(
            exchange, excerpt(envelope.msg), retry_after_s=float(_LIMITS.bans_s[429])
        )
    if envelope.code != "0":
        wait_s = float(_LIMITS.bans_s[429]) if envelope.code in CODES_BUSY else None
        error = VenueError if wait_s else VenueRefusedError
        raise error(exchange, excerpt(f"{envelope.code} {envelope.msg}"), retry_after_s=wait_s)
    return envelope.data


def _older_than(gap: Gap, trade_id: int) -> RestRequest:
    return RestRequest(
        path="/api/v5/market/history-trades",
        params={"instId": gap.instrument.rest_symbol, "after": trade_id, "limit": PAGE_ROWS},
    )


def _instrument(row: msgspec.Raw) -> VenueInstrument:
    listed = _LISTED.decode(row)
    return VenueInstrument(
        venue_symbol=listed.instId,
        rest_symbol=listed.instId,
        base=listed.baseCcy,
        quote=listed.quoteCcy,
        price_step=step(listed.tickSz),
        amount_step=step(listed.lotSz),
        is_active=listed.state == "live",
    )
