"""Rules of `klines.columns`."""

from decimal import Decimal

import pytest

from market_ingestor.errors import DecodeError
from market_ingestor.klines import columns
from market_ingestor.model.fitness import TIME_US_MAX
from market_ingestor.model.trade import TextTrade, Trade


def trade(**fields: object) -> TextTrade:
    values = {"id": "1", "price": "1", "amount": "1", "side": None, "time_us": 1_000} | fields
    return Trade[str](**values)  # type: ignore[arg-type] # wrong types are what is tested


def test_numbers_keep_every_digit() -> None:
    long = "1" * 39 + "." + "2" * 20
    found = columns.of_batch("s", [trade(price="0.10", amount=long)])
    assert str(found.prices[0]) == "0.10"
    assert str(found.amounts[0]) == long


@pytest.mark.parametrize(
    "text",
    ["", ".", "1.2.3", "-1", "NaN", "Infinity", "1e50", "1" * 61, "0." + "1" * 41, " 1", "1_0",
     "1e5", "+1"],
)  # fmt: skip
@pytest.mark.parametrize("field", ["price", "amount"])
def test_a_number_that_is_not_fit_to_use_is_left_out_alone(field: str, text: str) -> None:
    bad = trade(id="2", **{field: text})
    assert columns.of_batch("s", [trade(), bad, trade(id="3")]).ids == [1, 3]
    with pytest.raises(DecodeError, match=field):
        columns.of_batch("s", [bad])


@pytest.mark.parametrize("text", ["0", "0.00"])
def test_a_price_of_zero_is_left_out(text: str) -> None:
    assert columns.of_batch("s", [trade(price=text), trade(id="3")]).ids == [3]


def test_a_number_longer_than_most_is_taken_within_its_bounds() -> None:
    text = "1" * 39 + ".5"
    assert columns.of_batch("s", [trade(price=text)]).prices == [Decimal(text)]


def test_a_zero_amount_is_taken() -> None:
    assert columns.of_batch("s", [trade(amount="0")]).amounts == [Decimal(0)]


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "007", " 7", "1_0", "1.0", "٣", str(2**63), "1" * 5_000]
)
def test_an_id_that_is_not_plain_digits_within_64_bits_is_refused(text: str) -> None:
    with pytest.raises(DecodeError, match="an id"):
        columns.of_batch("s", [trade(id=text)])


@pytest.mark.parametrize("time_us", [-1, TIME_US_MAX])
def test_a_time_out_of_bounds_is_refused(time_us: int) -> None:
    with pytest.raises(DecodeError, match="time"):
        columns.of_batch("s", [trade(time_us=time_us)])


def test_pick_keeps_the_order_asked_for() -> None:
    rows = columns.of_batch("s", [trade(id=str(each)) for each in (5, 6, 7)])
    assert rows.pick([2, 0]).ids == [7, 5]
