"""Exact decimal arithmetic and the check every price and amount passes once.

Owns the one decimal context of the process and the plain notation of numbers. Must never round
silently: the context traps `decimal.Inexact`, so an operation that would round raises instead.

Bounds: at most 60 digits, absolute values below 1e40, at most 40 digits behind the point. A
product then has at most 160 digits, which leaves 40 digits of the context for sums: no fold of
accepted trades can ever be inexact.
"""

import decimal
import re
from decimal import Decimal
from typing import Final

DIGITS_MAX: Final = 60  # more than any venue sends; bounds what a hostile frame can make us keep
SCALE_MAX: Final = 40  # digits behind the decimal point
EXPONENT_MAX: Final = 40  # values stay below 1e40
TEXT_CHARS_MAX: Final = 128  # refuse before parsing: Decimal() of a megabyte of digits is slow

EXACT: Final = decimal.Context(
    prec=200,  # see the module docstring
    rounding=decimal.ROUND_HALF_EVEN,
    Emin=-999_999,
    Emax=999_999,
    traps=[decimal.Inexact, decimal.InvalidOperation, decimal.Overflow, decimal.DivisionByZero],
)
AVERAGE: Final = decimal.Context(prec=20, rounding=decimal.ROUND_HALF_EVEN)  # the contract's digits
_SHOWN: Final = decimal.Context(prec=200, rounding=decimal.ROUND_HALF_EVEN, traps=[])

ZERO: Final = Decimal(0)

# Matches a text that is beyond doubt: a positive number in plain notation, so short that no bound
# above is near. What it does not match may still be fit: `checked` decides. One pattern takes a
# third of the time of string methods that say the same.
is_sure: Final = re.compile(r"(?=[0.]*+[1-9])[0-9]{1,20}+(?:\.[0-9]{1,18}+)?+").fullmatch


class BadNumberError(ValueError):
    """A price or amount is not a finite, plain number within the bounds."""


def install() -> None:
    """Make `EXACT` the context of this thread and of every thread started later.

    Must run before any thread starts: a thread copies `decimal.DefaultContext` at birth.
    """
    for name in ("prec", "rounding", "Emin", "Emax"):
        setattr(decimal.DefaultContext, name, getattr(EXACT, name))
    for signal, trapped in EXACT.traps.items():
        decimal.DefaultContext.traps[signal] = trapped
    decimal.setcontext(EXACT.copy())


def plain(value: Decimal) -> str:
    """Return ``value`` in plain notation: no exponent, every digit kept.

    ``str()`` is not enough: it writes ``Decimal("1.2E-7")`` with an exponent.
    """
    text = str(value)
    return text if "E" not in text else format(value, "f")


def canonical(value: Decimal) -> str:
    """Return ``value`` in plain notation without trailing zeros behind the point.

    Two writers that computed the same number thus write the same text.
    """
    text = plain(value)
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def checked(text: str) -> tuple[Decimal, str]:
    """Parse one number of a venue and return it with its plain text.

    Args:
        text: The venue's own text, or the text of its JSON number.

    Returns:
        The value, and ``text`` itself where it is plain already (digits as the venue sent them),
        otherwise its plain notation.

    Raises:
        BadNumberError: Not a number, not finite, negative, or outside the module's bounds.
    """
    if len(text) > TEXT_CHARS_MAX or not text.isascii() or "_" in text or text != text.strip():
        raise BadNumberError("not a plain number")
    try:
        value = Decimal(text)
    except decimal.InvalidOperation:
        raise BadNumberError("not a number") from None
    check(value)
    whole, _, fraction = text.partition(".")
    is_plain = whole.isdigit() and (fraction.isdigit() or whole == text)
    return value, text if is_plain else plain(value)


def is_fit(text: str) -> bool:
    """Return whether `checked` takes a text; what venues usually send needs no parsing."""
    if is_sure(text):
        return True
    try:
        checked(text)
    except BadNumberError:
        return False
    return True


def check(value: Decimal) -> None:
    """Raise `BadNumberError` unless ``value`` is finite, not negative and within the bounds."""
    if not value.is_finite():
        raise BadNumberError("not finite")
    if value.is_signed():
        raise BadNumberError("negative")
    _, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)  # finite numbers have one  # noqa: S101 - narrows the type
    if len(digits) > DIGITS_MAX or exponent < -SCALE_MAX or value.adjusted() >= EXPONENT_MAX:
        raise BadNumberError("out of bounds")


def rounded(value: Decimal, step: Decimal) -> str:
    """Return ``value`` to the nearest multiple of a power of ten, half-even, in plain notation."""
    return format(value.quantize(step, context=_SHOWN), "f")


def average(total: Decimal, weight: Decimal) -> str | None:
    """Return ``total / weight`` with 20 significant digits, half-even; None for zero weight."""
    if not weight:
        return None
    return canonical(AVERAGE.divide(total, weight))
