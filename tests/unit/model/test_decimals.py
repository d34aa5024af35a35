"""Numbers are exact, plain and bounded."""

import decimal
import subprocess
import sys
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_ingestor.model import decimals


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("91234.56000000", "91234.56000000"),
        ("0.000000000001", "0.000000000001"),
        ("1e-08", "0.00000001"),
        ("1E+3", "1000"),
        ("123456789012345678901234567890.5", "123456789012345678901234567890.5"),
        ("0", "0"),
        ("0.00", "0.00"),
        (".5", "0.5"),
        ("12.", "12"),
    ],
)
def test_numbers_keep_the_venues_digits(text: str, plain: str) -> None:
    value, forwarded = decimals.checked(text)
    assert forwarded == plain
    assert value == Decimal(text)


@pytest.mark.parametrize(
    "text",
    ["NaN", "sNaN", "Infinity", "-1", "-0", "1e999", "1e40", "1e-41", "", " 1", "1_0", "٣", "x",
     "1" * 61, "9" * 10_000, "0x1"],
)  # fmt: skip
def test_absurd_numbers_are_refused(text: str) -> None:
    with pytest.raises(decimals.BadNumberError):
        decimals.checked(text)


@pytest.mark.parametrize(
    ("value", "text"), [("1.2E-7", "0.00000012"), ("0E-8", "0"), ("100", "100"), ("1.50", "1.5")]
)
def test_canonical_text_has_no_exponent_and_no_trailing_zeros(value: str, text: str) -> None:
    assert decimals.canonical(Decimal(value)) == text


def test_averages_have_twenty_digits() -> None:
    assert decimals.average(Decimal(1), Decimal(3)) == "0.33333333333333333333"
    assert decimals.average(Decimal(1), Decimal(0)) is None


@given(st.lists(st.tuples(st.integers(1, 10**30), st.integers(1, 10**30)), max_size=20))
def test_sums_of_products_do_not_depend_on_order(pairs: list[tuple[int, int]]) -> None:
    with decimal.localcontext(decimals.EXACT):
        products = [Decimal(a).scaleb(-15) * Decimal(b).scaleb(-20) for a, b in pairs]
        assert sum(products, Decimal(0)) == sum(reversed(products), Decimal(0))


def test_rounding_raises_under_the_exact_context() -> None:
    with decimal.localcontext(decimals.EXACT), pytest.raises(decimal.Inexact):
        Decimal(1) / Decimal(3)


def test_every_thread_of_a_process_computes_exactly() -> None:
    # In a process of its own: here the context was set before the first test.
    program = """
import decimal
from concurrent.futures import ThreadPoolExecutor
from market_ingestor.model import decimals

def product():
    try:
        return decimal.Decimal("0." + "7" * 40) * decimal.Decimal("0." + "3" * 40)
    except decimal.Inexact:
        return "inexact"

def third():
    try:
        return decimal.Decimal(1) / 3
    except decimal.Inexact:
        return "inexact"

decimals.install()
with ThreadPoolExecutor(1) as threads:
    print(threads.submit(product).result(), threads.submit(third).result())
"""
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    product = int("7" * 40) * int("3" * 40)
    assert ran.stdout.decode().split() == [f"0.{product:080d}", "inexact"]
