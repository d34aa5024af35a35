"""Rules of `klines.candle`."""

import msgspec
import pytest

from market_ingestor.klines.candle import fold_of, identity, kline_of
from market_ingestor.klines.window import Fold
from tests.unit.klines.build import T0, columns

FOLD = Fold.of(columns((1, 0, "10.50", "0.0000001"), (2, 1, "12.00", "3")))


def test_numbers_are_plain_and_without_trailing_zeros() -> None:
    kline = kline_of(FOLD, "sim-okx", "BTCUSDT", "1m", T0, complete=True, revision=3)
    assert (kline.open, kline.close, kline.volume) == ("10.5", "12", "3.0000001")
    assert kline.quote_volume == "36.00000105"
    assert (kline.open_time, kline.close_time) == (T0, T0 + 59_999)
    assert kline.simulated
    assert kline.closed


def test_an_open_candle_has_revision_zero() -> None:
    kline = kline_of(FOLD, "okx", "BTCUSDT", "1d", T0, complete=True)
    assert (kline.closed, kline.revision, kline.reason) == (False, 0, "open")


def test_a_flat_candle_names_no_trades() -> None:
    kline = kline_of(Fold.flat(FOLD.close), "okx", "BTCUSDT", "1m", T0, complete=True, revision=1)
    assert (kline.open, kline.close, kline.volume, kline.trade_count) == ("12", "12", "0", 0)
    assert kline.first_trade_id is None
    assert fold_of(kline).count == 0


def test_a_candle_turns_back_into_its_fold() -> None:
    kline = kline_of(FOLD, "okx", "BTCUSDT", "1m", T0, complete=True, revision=1)
    again = fold_of(kline)
    assert all(getattr(again, name) == getattr(FOLD, name) for name in Fold.__slots__)


def test_identity_ignores_how_a_version_came_about() -> None:
    kline = kline_of(FOLD, "okx", "BTCUSDT", "1m", T0, complete=True, revision=1, reason="close")
    other = kline_of(FOLD, "okx", "BTCUSDT", "1m", T0, complete=True, revision=9, reason="late")
    assert identity(kline) == identity(other)
    assert len(identity(kline)) == 32


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("complete", False),
        ("close", "13"),
        ("trade_count", 3),
        ("buy_volume", "9"),
        ("last_trade_id", "3"),
        ("open_time", T0 + 60_000),
        ("symbol", "ETHUSDT"),
    ],
)
def test_identity_covers_the_content(field: str, value: object) -> None:
    kline = kline_of(FOLD, "okx", "BTCUSDT", "1m", T0, complete=True, revision=1)
    assert identity(msgspec.structs.replace(kline, **{field: value})) != identity(kline)
