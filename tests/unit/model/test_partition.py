"""Rules of `model.partition`."""

from market_ingestor.model.partition import SLOTS, slot

BTC_SLOT = 10  # written down: a change would orphan every resume record


def test_slots_never_change() -> None:
    assert slot("binance", "BTCUSDT") == BTC_SLOT


def test_symbols_spread_over_all_slots() -> None:
    assert {slot("binance", f"S{number}") for number in range(2_000)} == set(range(SLOTS))
