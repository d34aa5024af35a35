"""Rules of `model.fitness`."""

import pytest

from market_ingestor.model.fitness import is_trade_id, unfit
from market_ingestor.model.trade import Trade


@pytest.mark.parametrize(
    ("text", "is_id"),
    [("1", True), ("0", True), ("9223372036854775807", True), ("9223372036854775808", False),
     ("", False), ("-1", False), ("+1", False), ("1.0", False), ("¹", False), (" 1", False),
     ("01", False), ("00", False)],
)  # fmt: skip
def test_what_a_trade_id_is(text: str, is_id: bool) -> None:
    assert is_trade_id(text) is is_id


@pytest.mark.parametrize(
    ("price", "amount", "is_fit"),
    [
        ("1", "1", True),
        ("1", "0", True),
        ("0", "1", False),
        ("0.00", "1", False),
        ("1", "-0", False),
    ],
)
def test_a_price_is_never_zero_but_an_amount_may_be(price: str, amount: str, is_fit: bool) -> None:
    trade = Trade[str](id="1", price=price, amount=amount, side=None, time_us=0)
    assert (unfit(trade) is None) is is_fit
