"""Price feeds over plain TCP: one JSON object a line, sent to whoever connects.

Owns the meaning of a line. Must never know who connects or when; lines are cut by
`connectors.tcp_lines`. A feed has a configured name, no list of symbols and no history; it says
neither ids nor sides, and most say no amounts.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from market_ingestor.connectors.fields import (
    DECODE_ERRORS,
    checked_trade,
    event_of,
    number_text,
    open_frame,
    us_from_seconds,
)
from market_ingestor.connectors.venue import (
    Event,
    Gap,
    HistoryPage,
    Ignored,
    Limits,
    Rejected,
    RestRequest,
    RestResponse,
)
from market_ingestor.errors import VenueProtocolError, excerpt
from market_ingestor.model.instrument import VenueInstrument

SCHEME: Final = "tcp"
DEFAULT_AMOUNT: Final = "1"  # volume then counts updates, and the average is the plain mean

_US_PER_MS: Final = 1_000
_MS_DIGITS: Final = 13  # of milliseconds from 2001 to 2286
_US_DIGITS: Final = 16  # of microseconds likewise
_SECOND_DIGITS: Final = 10  # of seconds likewise
_FIELDS: Final = frozenset({"symbol", "price", "timestamp"})

_LIMITS: Final = Limits(
    subscribe_batch=10_000,  # nothing is asked for
    symbols_per_connection=10_000,  # a connection carries all there is
    message_interval_s=0.0,
    connect_interval_s=0.1,
    ping_interval_s=None,
    connection_life_s=None,
    frame_bytes_max=1 << 16,  # a line has about 70 bytes
    rest_requests_per_s=1.0,  # there is no REST
    bans_s={},
    has_contiguous_ids=False,
    has_ids=False,
    volume_kind="updates",  # a line without an amount counts as one
    refills=False,
    # A line is a trade and TCP brings it once: of equal lines each counts.
    repeats_frames=False,
    confirms_after_s=0.0,  # who is connected gets everything
)


class _Line(msgspec.Struct, gc=False):
    """A line.

    Symbol, price and time are always there, ``amount`` or ``quantity`` at times::

        {"symbol":"BTCUSDT","price":67123.45,"timestamp":1763676000123}
    """

    symbol: str = ""
    price: msgspec.Raw = msgspec.Raw()
    timestamp: msgspec.Raw = msgspec.Raw()
    amount: msgspec.Raw = msgspec.Raw()
    quantity: msgspec.Raw = msgspec.Raw()


_LINES: Final = msgspec.json.Decoder(_Line)
_TEXTS: Final = msgspec.json.Decoder(str)


class TcpFeed(msgspec.Struct, frozen=True, gc=False):
    """A feed of lines.

    Attributes:
        default_amount: Amount of a trade that names none: a positive number in plain notation.
    """

    name: str = "tcp"
    ws_url: str = "tcp://127.0.0.1:40101"
    rest_url: str = ""
    limits: Limits = _LIMITS
    default_amount: str = DEFAULT_AMOUNT

    def connect_url(self, base: str) -> str:
        """Return the base address."""
        return base

    def subscribe(self, venue_symbols: Sequence[str], request_id: int) -> str | None:  # noqa: ARG002 - of the protocol
        """Return None: everything comes unasked."""
        return None

    def unsubscribe(self, venue_symbols: Sequence[str], request_id: int) -> str | None:  # noqa: ARG002 - of the protocol
        """Return None: nothing can be called off."""
        return None

    def ping(self, request_id: int) -> str | None:  # noqa: ARG002 - of the protocol
        """Return None: there is no ping."""
        return None

    def decode(self, frame: bytes | str) -> Sequence[Event]:
        """Return what a line means; an object with no field of a trade is ignored."""
        try:
            line = _LINES.decode(frame)
        except DECODE_ERRORS:
            return [_odd(frame)]
        if not line.symbol:
            return [_odd(frame)]
        trade = checked_trade(
            id=None,
            price=_text(line.price),
            amount=_amount(line) or self.default_amount,
            side=None,
            time_us=_time_us(_text(line.timestamp)),
            has_ids=False,
            has_sides=False,
        )
        return event_of(line.symbol, trade)

    def instruments_request(self) -> RestRequest | None:
        """Return None: symbols are as configured."""
        return None

    def decode_instruments(self, response: RestResponse) -> Sequence[VenueInstrument]:  # noqa: ARG002 - of the protocol
        """Refuse: nothing was asked for."""
        raise VenueProtocolError(self.name, "a feed of lines has no list of instruments")

    def history_request(self, gap: Gap) -> RestRequest | None:  # noqa: ARG002 - of the protocol
        """Return None: what was not read is gone."""
        return None

    def newest_request(self, instrument: VenueInstrument) -> RestRequest | None:  # noqa: ARG002 - of the protocol
        """Return None: without ids there is nothing to learn from it."""
        return None

    def decode_history(self, gap: Gap, response: RestResponse) -> HistoryPage:  # noqa: ARG002 - of the protocol
        """Refuse: nothing was asked for."""
        raise VenueProtocolError(self.name, "a feed of lines has no history")


def _text(raw: msgspec.Raw) -> str:
    """Return the text of a number, written as JSON number or as JSON string."""
    text = number_text(raw)
    if not text.startswith('"'):
        return text
    try:
        return _TEXTS.decode(raw)
    except DECODE_ERRORS:
        return ""


def _amount(line: _Line) -> str | None:
    """Return the text of the amount under either name, None when the line has none."""
    for raw in (line.amount, line.quantity):
        text = number_text(raw)
        if text and text != "null":
            return _text(raw) or "no number"
    return None


def _time_us(text: str) -> int | None:
    """Return microseconds for a time in milliseconds, or in seconds or microseconds; else None.

    The unit is told by the number of digits, which is unambiguous from 2001 to 2286. Only seconds
    may have a fraction.
    """
    if not text.isascii():
        return None
    if text.isdigit():
        match len(text):
            case n if n == _MS_DIGITS:
                return int(text) * _US_PER_MS
            case n if n == _US_DIGITS:
                return int(text)
    is_seconds = len(text.partition(".")[0]) == _SECOND_DIGITS
    return us_from_seconds(text) if is_seconds else None


def _odd(frame: bytes | str) -> Event:
    """Return what a line means that is no trade."""
    body = open_frame(frame)
    if isinstance(body, Rejected):
        return body
    if _FIELDS & body.keys():
        return Rejected("bad_type", excerpt(frame))
    return Ignored()
