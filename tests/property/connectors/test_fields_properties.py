"""connectors.fields against slower, plainer ways to say the same."""

import string
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

from hypothesis import example, given, settings
from hypothesis import strategies as st

from market_ingestor.connectors.fields import (
    TIME_US_MAX,
    TIME_US_MIN,
    checked_id,
    checked_number,
    checked_trade,
    trade_of,
    us_from_rfc3339,
    us_from_seconds,
)
from market_ingestor.model.decimals import BadNumberError, checked

unhurried = settings(deadline=None)  # a busy machine is no failure
numberlike = st.text(alphabet=string.digits + ".eE+-_ \u0661", max_size=90)
scientific = st.tuples(st.integers(), st.integers(min_value=-90, max_value=90)).map(
    lambda parts: f"{parts[0]}E{parts[1]}"
)
decimal_texts = st.text(string.digits + ".", min_size=1, max_size=42)
times_us = st.integers(min_value=TIME_US_MIN, max_value=TIME_US_MAX - 1)


@unhurried
@given(st.one_of(numberlike, st.text(), scientific))
@example("0" * 39)
@example("9" * 39 + ".")
@example("." + "9" * 38)
@example("0." + "0" * 36 + "1")
def test_number_is_accepted_as_the_model_accepts_it(text: str) -> None:
    try:
        value, plain = checked(text)
    except BadNumberError:
        assert checked_number(text) is None
        assert checked_number(text, may_be_zero=True) is None
        return
    assert checked_number(text, may_be_zero=True) == plain.rstrip(".")
    assert checked_number(text) == (plain.rstrip(".") if value else None)
    assert Decimal(plain.rstrip(".")) == Decimal(text)


@unhurried
@given(st.integers(min_value=-(2**64), max_value=2**70))
def test_id_of_integer_and_of_text_agree(number: int) -> None:
    expected = str(number) if 0 <= number < 2**63 else None
    assert checked_id(number) == checked_id(str(number)) == expected


@unhurried
@given(times_us, st.integers(min_value=0, max_value=999), st.integers(min_value=0, max_value=9))
def test_rfc3339_is_cut_to_microseconds(time_us: int, extra_ns: int, digits: int) -> None:
    seconds, us = divmod(time_us, 1_000_000)
    fraction = f"{us:06d}{extra_ns:03d}"[:digits]
    whole = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    text = f"{whole}.{fraction}Z" if fraction else f"{whole}Z"
    expected = seconds * 1_000_000 + int(fraction[:6].ljust(6, "0"))
    assert us_from_rfc3339(text) == expected


@unhurried
@given(times_us, st.integers(min_value=-23 * 60, max_value=23 * 60))
def test_offset_does_not_change_the_instant(time_us: int, minutes: int) -> None:
    instant = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    local = instant.astimezone(timezone(timedelta(minutes=minutes)))
    assert us_from_rfc3339(local.isoformat()) == time_us


@unhurried
@given(st.one_of(st.text(max_size=40), st.text(alphabet="0123456789-T:.Z+W", max_size=40)))
def test_time_is_an_integer_or_none(text: str) -> None:
    assert isinstance(us_from_rfc3339(text), int | None)
    assert isinstance(us_from_seconds(text), int | None)


@unhurried
@given(st.integers(min_value=0, max_value=10**11), st.text(alphabet=string.digits, max_size=12))
def test_decimal_seconds_are_cut_to_microseconds(seconds: int, fraction: str) -> None:
    text = f"{seconds}.{fraction}" if fraction else str(seconds)
    assert us_from_seconds(text) == int(Decimal(text).scaleb(6))


@unhurried
@given(
    st.integers(min_value=0, max_value=2**63 - 1),
    st.one_of(numberlike, decimal_texts),
    st.one_of(numberlike, decimal_texts),
    st.one_of(st.none(), st.integers(), times_us),
)
@example(0, "0.10", "1", TIME_US_MIN)
@example(1, "0", "1", TIME_US_MIN)
@example(1, "1", "0.000", TIME_US_MIN)
@example(1, "1 2", "3", TIME_US_MIN)
@example(1, "1.", "3", TIME_US_MIN)
@example(1, "1", ".3", TIME_US_MIN)
@example(1, "1", "3\n", TIME_US_MIN)
@example(1, "9" * 21, "1." + "1" * 19, TIME_US_MIN)
@example(1, "1", "1", TIME_US_MAX)
def test_quick_check_says_what_the_full_one_says(
    number: int, price: str, amount: str, time_us: int | None
) -> None:
    for _ in range(2):  # a price seen before takes another way
        found = trade_of(number, price, amount, "buy", time_us)
        assert found == checked_trade(
            id=number, price=price, amount=amount, side="buy", time_us=time_us
        )


@unhurried
@given(times_us, st.text("0123456789.\u0663-", max_size=7))
@example(TIME_US_MIN, "540212")
@example(TIME_US_MIN, "00000\u0663")
@example(TIME_US_MIN, "00000\u00b2")
@example(TIME_US_MIN, "+12345")
def test_instant_is_the_same_within_a_second_seen_before(time_us: int, fraction: str) -> None:
    second = datetime.fromtimestamp(time_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
    assert us_from_rfc3339(f"{second}540212Z") == time_us // 1_000_000 * 1_000_000 + 540_212
    in_full = us_from_rfc3339(f"{second}{fraction}+00:00")  # only "Z" takes the quick way
    assert us_from_rfc3339(f"{second}{fraction}Z") == in_full
