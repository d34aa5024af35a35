"""Rules of `klines.versions`."""

from market_ingestor.klines.candle import identity, kline_of
from market_ingestor.klines.versions import MEMORY_MS, SPARE, Unknown, Version, Versions
from market_ingestor.klines.window import Fold
from market_ingestor.model.kline import Kline
from tests.unit.klines.build import MINUTE, T0, columns

SUBJECT = "market.kline.okx.BTCUSDT.1m"
FOLD = Fold.of(columns((1, 0)))


def kline(opened: int = T0, revision: int = 1) -> Kline:
    return kline_of(FOLD, "okx", "BTCUSDT", "1m", opened, complete=True, revision=revision)


def lookup(versions: Versions, opened: int = T0, *, is_new: bool = False) -> object:
    return versions.lookup(SUBJECT, opened, "1m", is_new=is_new)


def test_the_newest_version_of_a_window_counts() -> None:
    versions = Versions()
    versions.note(SUBJECT, kline(), 3)
    versions.note(SUBJECT, kline(revision=2), 8)
    assert versions.last_sequence(SUBJECT) == 8
    assert lookup(versions) == Version(8, 2, identity(kline()), complete=True)


def test_what_was_noted_at_its_acknowledgement_is_read_again_without_effect() -> None:
    versions = Versions()
    versions.note(SUBJECT, kline(revision=2), 8)
    versions.note(SUBJECT, kline(), 3)
    assert versions.last_sequence(SUBJECT) == 8


def test_a_window_without_a_version_has_none_when_everything_was_read() -> None:
    assert lookup(Versions(has_all=True)) is None


def test_a_window_older_than_what_was_read_is_unknown() -> None:
    versions = Versions(since_ms=T0 + 10 * MINUTE, has_all=False)
    versions.note(SUBJECT, kline(T0 + 20 * MINUTE), 3)
    assert lookup(versions, T0) is Unknown.UNKNOWN
    assert lookup(versions, T0 + 10 * MINUTE) is None
    assert lookup(versions, T0, is_new=True) is None


def test_a_subject_never_met_is_unknown_until_it_is_known_to_be_empty() -> None:
    versions = Versions(since_ms=0, has_all=False)
    assert versions.last_sequence(SUBJECT) is None
    assert lookup(versions) is Unknown.UNKNOWN
    versions.note_empty(SUBJECT, "1m")
    assert versions.last_sequence(SUBJECT) == 0
    assert lookup(versions) is None


def test_memory_is_bounded_and_what_is_forgotten_is_unknown() -> None:
    versions = Versions()
    kept = MEMORY_MS // MINUTE + SPARE
    for number in range(kept + 5):
        versions.note(SUBJECT, kline(T0 + number * MINUTE), number + 1)
    assert lookup(versions, T0 + 4 * MINUTE) is Unknown.UNKNOWN
    assert isinstance(lookup(versions, T0 + 5 * MINUTE), Version)
    assert lookup(versions, T0 - MINUTE) is Unknown.UNKNOWN
    assert lookup(versions, T0 + (kept + 5) * MINUTE) is None


def test_versions_behind_a_sequence_are_those_not_saved() -> None:
    versions = Versions()
    for number in range(4):
        versions.note(SUBJECT, kline(T0 + number * MINUTE), number + 1)
    assert [opened for opened, _ in versions.behind(SUBJECT, 2)] == [
        T0 + 2 * MINUTE,
        T0 + 3 * MINUTE,
    ]
