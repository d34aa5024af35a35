"""The checks that every venue's trades pass, field by field.

Owns what a valid id, price, amount and time is, and how each notation of time becomes integer
microseconds. Must never know a venue, and never use a float: digits and instants stay exact.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, TypeAlias

import msgspec

from market_ingestor.connectors.venue import Event, Rejected, RejectReason, Trades
from market_ingestor.errors import excerpt
from market_ingestor.model.decimals import BadNumberError, checked, is_sure
from market_ingestor.model.trade import TRADE_ID_MAX, Side, TextTrade, Trade

# What msgspec raises for bytes or text of any kind: not JSON, of another shape, invalid UTF-8 (or
# a lone surrogate in a str), nested deeper than the interpreter's stack.
DECODE_ERRORS: Final = (msgspec.DecodeError, UnicodeError, RecursionError)

ID_DIGITS_MAX: Final = 19  # of 2**63 - 1
PRICES_MAX: Final = 4_096  # remembered, of all venues; then from the start again
SECONDS_MAX: Final = 64  # likewise
PLAIN_CHARS_MAX: Final = 39  # so many digits cannot break any bound of model.decimals
# Ids as numbers: what lies outside is refused before it becomes an integer of any size. A decoder
# that is not strict takes them from text as well.
TradeIdNumber: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=TRADE_ID_MAX)]
NonEmpty: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]

TIME_US_MIN: Final = 1_230_768_000_000_000  # 2009-01-01: no such market is older
TIME_US_MAX: Final = 7_258_118_400_000_000  # 2200-01-01: beyond it the unit was misread
VALUE_CHARS_MAX: Final = 40  # four values then fit an excerpt

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_US_DIGITS: Final = 6  # digits of a second's fraction that we keep
_SECOND_CHARS: Final = 20  # of ``2026-11-20T00:00:00.``
_INSTANT_CHARS: Final = 27  # of ``2026-11-20T00:00:00.540212Z``

# Prices come again and again: finding one here takes a tenth of matching it.
_prices: Final[set[str]] = set()
# Trades of one second come together: only the first reads its date. By what precedes the fraction.
_seconds: Final[dict[str, int]] = {}

# Numbers become Decimal: out-of-range ones then do not spoil what is around them.
_LOOSE: Final = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)


def open_object(payload: bytes | str | msgspec.Raw) -> dict[str, object]:
    """Decode a JSON object without a schema, to find out what a typed decoder disliked.

    Raises:
        One of `DECODE_ERRORS`.
    """
    return _LOOSE.decode(payload)


def open_frame(frame: bytes | str) -> dict[str, object] | Rejected:
    """Return the object in a frame, or why there is none."""
    try:
        return open_object(frame)
    except msgspec.ValidationError:
        return Rejected("bad_type", excerpt(frame))
    except DECODE_ERRORS:
        return Rejected("bad_json", excerpt(frame))


def as_mapping(value: object) -> Mapping[str, object]:
    """Return ``value`` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def text_of(value: object) -> str:
    """Return ``value`` if it is text, else nothing."""
    return value if isinstance(value, str) else ""


def request_number(value: object) -> int | None:
    """Return the number of a request that a venue echoed as number or text, None for others."""
    if isinstance(value, int):
        return None if isinstance(value, bool) else value
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value) if len(value) <= ID_DIGITS_MAX else None
    return None


def checked_id(value: object) -> str | None:
    """Return a trade id as 1-19 digits without leading zeros, None if it is none.

    Args:
        value: The venue's integer or text of digits, 0 .. 2**63-1.
    """
    if type(value) is int:
        return str(value) if 0 <= value <= TRADE_ID_MAX else None
    if not (isinstance(value, str) and value.isascii() and value.isdigit()):
        return None
    if len(value) < ID_DIGITS_MAX and value[0] != "0":
        return value
    if len(value) > ID_DIGITS_MAX:
        return None
    number = int(value)  # also strips leading zeros: order of ids is by length first
    return str(number) if number <= TRADE_ID_MAX else None


def checked_number(value: object, *, may_be_zero: bool = False) -> str | None:
    """Return a number's text in plain notation, None unless it is positive and within bounds.

    The digits stay as sent, trailing zeros included. `model.decimals.checked` decides; up to
    39 plain digits need no arithmetic to pass it, and so look nearly all of them.
    """
    if not isinstance(value, str):
        return None
    if len(value) <= PLAIN_CHARS_MAX and value.isascii():
        whole, point, fraction = value.partition(".")
        if whole.isdigit() and (fraction.isdigit() or not point):
            return value if may_be_zero or value.strip("0.") else None
    try:
        number, plain = checked(value)
    except BadNumberError:
        return None
    return plain.rstrip(".") if number or may_be_zero else None  # "12." is no JSON number


def us_from_ms(value: object) -> int | None:
    """Return microseconds for integer milliseconds, None if ``value`` is no integer."""
    return value * 1000 if type(value) is int else None


def us_from_ms_text(value: object) -> int | None:
    """Return microseconds for milliseconds written as digits, None if ``value`` is not that."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value) * 1000 if len(value) <= ID_DIGITS_MAX else None
    return None


def us_from_seconds(text: str) -> int | None:
    """Return microseconds for decimal seconds, digits beyond the microsecond cut; else None.

    Args:
        text: ``1795132800.7714021`` or ``1795132800``.
    """
    seconds, point, fraction = text.partition(".")
    if not (text.isascii() and seconds.isdigit() and len(text) <= PLAIN_CHARS_MAX):
        return None
    if point and not fraction.isdigit():
        return None
    return int(seconds + fraction[:_US_DIGITS].ljust(_US_DIGITS, "0"))


def us_from_rfc3339(value: object) -> int | None:
    """Return microseconds for an RFC 3339 instant, None if ``value`` is none.

    Zero to nine digits of a second's fraction; those beyond the microsecond are cut, not rounded,
    so that a time never moves into the next window.
    """
    return us_from_instant(value) if isinstance(value, str) else None


def us_from_instant(text: str) -> int | None:
    """Return what `us_from_rfc3339` does, in half of its time within a second seen before."""
    second_us = _seconds.get(text[:_SECOND_CHARS])
    if second_us is not None and len(text) == _INSTANT_CHARS and text[-1] == "Z":
        fraction = text[_SECOND_CHARS:-1]
        if fraction.isdecimal() and text.isascii():
            return second_us + int(fraction)
    time_us = _us_from_rfc3339(text)
    if time_us is not None and len(text) == _INSTANT_CHARS and text[-1] == "Z":
        if len(_seconds) >= SECONDS_MAX:
            _seconds.clear()
        _seconds[text[:_SECOND_CHARS]] = time_us - time_us % 1_000_000
    return time_us


def _us_from_rfc3339(value: str) -> int | None:
    if value[10:11] != "T" or value[19:20] not in {".", "Z", "+", "-"}:
        return None  # fromisoformat alone takes dates, week dates and local times too
    if value[4] != "-" or value[7] != "-" or value[13] != ":" or value[16] != ":":
        return None
    try:
        instant = datetime.fromisoformat(value)
        since = instant - _EPOCH
    except (ValueError, TypeError, OverflowError):  # no date; no offset; beyond year 1 or 9999
        return None
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def trade_of(
    trade_id: int, price: str, amount: str, side: Side, time_us: int | None
) -> TextTrade | Rejected:
    """Return what `checked_trade` does, in a third of its time for a trade without doubt.

    Args:
        trade_id: As `TradeIdNumber` admits it.
        price: Text; ``amount`` likewise. Otherwise as for `checked_trade`.
    """
    if (
        (price in _prices or _is_price(price))
        and is_sure(amount)
        and time_us is not None
        and TIME_US_MIN <= time_us < TIME_US_MAX
    ):
        return Trade(id=str(trade_id), price=price, amount=amount, side=side, time_us=time_us)
    return checked_trade(id=trade_id, price=price, amount=amount, side=side, time_us=time_us)


def _is_price(text: str) -> bool:
    """Return whether a price is beyond doubt, and remember it."""
    if not is_sure(text):
        return False
    if len(_prices) >= PRICES_MAX:
        _prices.clear()
    _prices.add(text)
    return True


def checked_trade(
    *,
    id: object,  # noqa: A002 - the word of the model
    price: object,
    amount: object,
    side: Side | None,
    time_us: int | None,
    has_amounts: bool = True,
    has_ids: bool = True,
    has_sides: bool = True,
) -> TextTrade | Rejected:
    """Return the trade if each field is fit to use, else one `Rejected` with the first reason.

    Args:
        id: The venue's trade id, integer or digits.
        price: The venue's text of the price; anything but text is refused.
        amount: Likewise; zero is accepted only without ``has_amounts``.
        side: The taker's side; None means that the venue's word for it was not understood.
        time_us: Trade time in microseconds, None if it could not be read.
        has_amounts: Whether the venue's trades carry amounts (`Limits.has_amounts`).
        has_ids: Whether they carry ids (`Limits.has_ids`); else the trade's is empty.
        has_sides: Whether the venue says who took; else None is what there is.
    """
    trade_id = checked_id(id) if has_ids else ""
    price_text = checked_number(price)
    amount_text = checked_number(amount, may_be_zero=not has_amounts)
    reason: RejectReason
    if trade_id is None:
        reason = "bad_id"
    elif price_text is None:
        reason = "bad_price"
    elif amount_text is None:
        reason = "bad_amount"
    elif side is None and has_sides:
        reason = "bad_side"
    elif time_us is None or not TIME_US_MIN <= time_us < TIME_US_MAX:
        reason = "bad_time"
    else:
        return Trade(id=trade_id, price=price_text, amount=amount_text, side=side, time_us=time_us)
    shown = (f"{name}={_short(value)}" for name, value in (
        ("id", id), ("price", price), ("amount", amount), ("time_us", time_us)
    ))  # fmt: skip
    return Rejected(reason, excerpt(" ".join(shown)))


def _short(value: object) -> str:
    """Return a bounded text of a value of any type, without walking through it."""
    if isinstance(value, str):
        return value[:VALUE_CHARS_MAX]
    if isinstance(value, int) and abs(value) <= TRADE_ID_MAX:
        return str(value)  # of a huge integer it takes quadratic time, or raises
    return type(value).__name__


def number_text(raw: msgspec.Raw) -> str:
    """Return the text of a JSON value as it stands; that of a string keeps its quotes."""
    return str(raw, "latin-1")  # any byte has a character: what is not ASCII fails the check


def event_of(venue_symbol: str, result: TextTrade | Rejected) -> list[Event]:
    """Return the event of a frame that carries one trade."""
    return [result] if isinstance(result, Rejected) else [Trades(venue_symbol, (result,))]


def events_of(venue_symbol: str, results: Sequence[TextTrade | Rejected]) -> list[Event]:
    """Return one `Trades` with what is good, in order, then each `Rejected`."""
    if len(results) == 1:  # nearly always
        return event_of(venue_symbol, results[0])
    trades: list[TextTrade] = []
    rejected: list[Event] = []
    for result in results:
        if isinstance(result, Rejected):
            rejected.append(result)
        else:
            trades.append(result)
    return [Trades(venue_symbol, trades), *rejected] if trades else rejected
