"""Subjects are built and taken apart in one place, and unsafe tokens never reach one."""

import pytest

from market_ingestor.bus import subjects
from market_ingestor.errors import DecodeError


def test_subjects_are_those_of_the_contract() -> None:
    assert subjects.raw("binance", "BTCUSDT") == "market.raw.binance.BTCUSDT"
    assert subjects.mark("sim-okx") == "market.raw.sim-okx._"
    assert subjects.kline("kraken", "BTCUSD", "1m") == "market.kline.kraken.BTCUSD.1m"
    assert subjects.live("kraken", "BTCUSD", "1w") == "market.live.kraken.BTCUSD.1w"
    assert subjects.event("bybit", "_") == "market.event.bybit._"
    assert subjects.dead("save") == "market.dead.save"


@pytest.mark.parametrize(
    ("exchange", "symbol"),
    [("Binance", "A"), ("a.b", "A"), ("a", "*"), ("a", "A>"), ("a", "btc"), ("a", ""), ("", "A")],
)
def test_unsafe_tokens_are_refused(exchange: str, symbol: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        subjects.raw(exchange, symbol)


def test_unknown_periods_are_refused() -> None:
    with pytest.raises(ValueError, match="not a period"):
        subjects.kline("a", "A", "2m")


def test_parsing_returns_what_was_built() -> None:
    assert subjects.parse_raw(subjects.raw("okx", "ETHUSDT")) == ("okx", "ETHUSDT")
    assert subjects.parse_raw(subjects.mark("okx")) == ("okx", None)
    assert subjects.parse_kline(subjects.live("okx", "ETHUSDT", "5m")) == ("okx", "ETHUSDT", "5m")


@pytest.mark.parametrize(
    "subject", ["market.raw.okx", "market.kline.a.B.1m.x", "other.raw.a.B", ""]
)
def test_foreign_subjects_are_decode_errors(subject: str) -> None:
    with pytest.raises(DecodeError):
        subjects.parse_raw(subject)
    with pytest.raises(DecodeError):
        subjects.parse_kline(subject)


def test_a_batch_id_names_feed_symbol_and_number() -> None:
    assert subjects.batch_id("i0-7", "BTCUSDT", 412) == "i0-7.BTCUSDT.412"


def test_a_kline_id_changes_with_its_revision() -> None:
    one = subjects.kline_id("market.kline.a.B.1m", 60_000, 1, "ff")
    assert one != subjects.kline_id("market.kline.a.B.1m", 60_000, 2, "ff")


@pytest.mark.parametrize(
    "subject",
    [
        "market.live.okx.BTCUSDT",
        "market.live.okx.BTCUSDT.1m.x",
        "market.live.okx.BTCUSDT.7m",
        "market.live.okx._.1m",
        "market.live.OKX!.BTCUSDT.1m",
        "market.raw.okx.BTCUSDT.1m",
    ],
)
def test_a_candle_is_taken_from_subjects_that_tables_could_hold_only(subject: str) -> None:
    assert subjects.candle_of("market.live.okx.BTCUSDT.1m") == ("okx", "BTCUSDT", "1m")
    with pytest.raises(DecodeError):
        subjects.candle_of(subject)


@pytest.mark.parametrize(
    "subject",
    ["market.stats.okx", "market.stats.okx._", "market.stats.okx.BTCUSDT.x", "market.raw.okx.A"],
)
def test_statistics_are_taken_from_subjects_as_we_make_them_only(subject: str) -> None:
    assert subjects.instrument_of("market.stats.okx.BTCUSDT") == ("okx", "BTCUSDT")
    with pytest.raises(DecodeError):
        subjects.instrument_of(subject)
