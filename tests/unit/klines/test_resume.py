"""Rules of `klines.resume`: a restart knows what was known."""

import msgspec
import pytest

from market_ingestor.errors import DecodeError
from market_ingestor.klines import resume
from market_ingestor.klines.aggregator import LOOK_BACK_MS
from market_ingestor.klines.forgotten import Forgotten
from market_ingestor.klines.holes import Hole, Run
from market_ingestor.klines.resume import ResumeRecord
from tests.unit.klines.build import MINUTE, SECOND, T0, Course, windows


def record(course: Course) -> ResumeRecord:
    return ResumeRecord(
        stream="MARKET_RAW",
        created="2026-01-01T00:00:00Z",
        position=course.aggregator.first_sequence() or course.sequence + 1,
        written_us=1,
        symbols={"binance.BTCUSDT": resume.dump(course.aggregator)},
    )


def again(course: Course, *, lost_before: int | None = None) -> Course:
    """Return a course that resumes where another was, through bytes."""
    read = resume.decode(resume.encode(record(course)))
    other = Course()
    resume.load(other.aggregator, read.symbols["binance.BTCUSDT"], lost_before=lost_before)
    return other


def busy() -> Course:
    course = Course()
    course.trades((1, 30 * SECOND))
    course.trades((2, MINUTE + SECOND))
    course.trades((7, MINUTE + 5 * SECOND), prev=2)
    course.trades((8, 2 * MINUTE + 5 * SECOND))
    course.trades((4, MINUTE + 4 * SECOND), feed="r", source="rest", prev=3)
    course.trades((9, 12 * 60 * MINUTE), received=2 * MINUTE + 6 * SECOND)
    return course


def test_a_record_survives_its_bytes() -> None:
    course = busy()
    dumped = resume.dump(course.aggregator)
    assert resume.dump(again(course).aggregator) == msgspec.structs.replace(
        dumped, deferred={T0 + 12 * 60 * MINUTE: 6}
    )
    assert dumped.holes == [
        Hole(2, 4, (T0 + MINUTE + SECOND) * 1_000, (T0 + MINUTE + 4 * SECOND) * 1_000),
        Hole(4, 7, (T0 + MINUTE + 4 * SECOND) * 1_000, (T0 + MINUTE + 5 * SECOND) * 1_000),
    ]
    assert [row.open_time for row in dumped.dirty] == [T0 + MINUTE]


def test_a_resumed_symbol_closes_what_the_first_one_would_have() -> None:
    course = Course()
    course.trades((1, 30 * SECOND))
    course.trades((2, MINUTE + SECOND))
    course.mark(MINUTE + 3 * SECOND)
    other = again(course)
    for each in (course, other):
        each.closed.clear()
        each.trades((2, MINUTE + SECOND), received=MINUTE + SECOND + 100)  # read again
        each.trades((3, MINUTE + 9 * SECOND))
        each.trades((4, 2 * MINUTE + 9 * SECOND))
    assert windows(other.closed) == windows(course.closed) == [(MINUTE, 2, "PROVEN")]


def test_a_quiet_symbol_closes_by_the_first_mark_after_a_restart() -> None:
    course = Course()
    course.trades((1, 30 * SECOND))
    course.mark(40 * SECOND)
    other = again(course)
    # Read again, at whatever time: how long ago that was is what the stream says.
    other.trades((1, 30 * SECOND))
    other.mark(40 * SECOND)
    for each in (course, other):
        each.mark(MINUTE + SECOND)
        assert not each.closed  # inside the lateness
        each.mark(MINUTE + 3 * SECOND)
    assert windows(other.closed) == windows(course.closed) == [(0, 1, "UNKNOWN")]


def test_a_trade_read_again_for_a_closed_minute_costs_nothing() -> None:
    course = Course()
    course.trades((1, 30 * SECOND))
    course.trades((2, MINUTE + 5 * SECOND))
    course.trades((3, 2 * MINUTE + 5 * SECOND))
    other = again(course)
    other.trades((2, MINUTE + 5 * SECOND))
    assert other.dirty == {}


def test_a_copy_in_another_minute_is_known_after_a_restart() -> None:
    course = Course()
    course.trades((1, -MINUTE))
    course.trades((2, 59 * SECOND + 999))
    course.trades((3, MINUTE + 5 * SECOND))
    other = again(course)
    other.trades((3, MINUTE + 5 * SECOND))  # read again: its minute is open
    other.trades((2, MINUTE), feed="r", source="rest", received=MINUTE + 8 * SECOND)
    other.trades((4, 3 * MINUTE))
    assert windows(other.closed) == []
    assert other.dirty == {("1m", 0): "recompute", ("1m", MINUTE): "close"}


def test_a_record_that_forgot_ids_leaves_minutes_read_again_to_the_database() -> None:
    course = Course()
    course.trades((1, -MINUTE))
    course.trades((2, SECOND))
    course.trades((3, 2 * SECOND))
    known = resume.dump(course.aggregator)
    assert known.seen == [(1, 1)]
    other = Course()
    resume.load(other.aggregator, msgspec.structs.replace(known, seen=None, minutes=[]))
    other.trades((2, SECOND), (3, 2 * SECOND), prev=1)
    other.trades((4, MINUTE + SECOND))
    other.trades((5, 2 * MINUTE + 5 * SECOND))
    assert windows(other.closed) == [(MINUTE, 1, "PROVEN")]
    assert other.dirty == {("1m", 0): "close"}


def test_a_first_version_under_way_counts_as_dirty() -> None:
    course = Course()
    course.trades((1, 30 * SECOND))
    course.sequence += 1
    closing = course.trades((2, MINUTE + 5 * SECOND))[0]
    course.aggregator.closed.outstanding["1m", T0] = closing
    assert course.aggregator.first_sequence() == 1
    assert again(course).dirty == {("1m", 0): "close"}


def test_a_longer_window_that_ends_before_it_is_loaded_is_recomputed() -> None:
    course = Course()
    course.trades((1, -MINUTE))
    course.trades((2, SECOND))
    course.marks(3 * SECOND, 70 * SECOND)
    other = again(course)
    before = other.aggregator.longer.known_since
    other.trades((3, 5 * MINUTE + 5 * SECOND))  # nothing in the window since the restart
    assert windows(other.closed, "5m") == []
    assert other.dirty == {("5m", 0): "close"}
    other.aggregator.load_minutes(before, [(T0, course.closed[-1].fold)])
    assert ("5m", T0) not in other.aggregator.longer.windows


def test_a_longer_window_without_trades_is_not_closed_by_a_restart() -> None:
    course = Course()
    course.trades((1, -MINUTE))
    course.trades((2, -SECOND))
    course.marks(3 * SECOND, 70 * SECOND)
    other = again(course)
    other.aggregator.load_minutes(other.aggregator.longer.known_since, [])
    other.trades((3, 5 * MINUTE + 5 * SECOND))
    assert windows(other.closed, "5m") == []
    assert other.dirty == {}


def test_a_record_written_before_the_replay_caught_up_begins_where_it_is() -> None:
    course = Course()
    course.trades((1, 30 * SECOND))
    course.trades((2, MINUTE + 5 * SECOND))
    course.trades((9, SECOND), prev=8)  # late: waits for sequence 3
    other = again(course)
    assert resume.position([course.aggregator], 4) == 2
    assert other.aggregator.first_sequence() == 3
    assert resume.position([other.aggregator], 2) == 2


def test_after_a_loss_everything_since_the_record_is_in_doubt() -> None:
    course = busy()
    other = again(course, lost_before=50)
    other.sequence = 50
    other.trades((20, 9 * MINUTE + SECOND), prev=8)
    other.trades((21, 10 * MINUTE + 5 * SECOND))
    rescan = other.aggregator.closed.dirty.rescan
    assert rescan is not None
    assert (rescan.from_ms - T0, rescan.to_ms - T0) == (2 * MINUTE - LOOK_BACK_MS, 10 * MINUTE)
    assert windows(other.closed) == []
    assert other.dirty[("1m", 9 * MINUTE)] == "close"
    assert other.aggregator.closed.dirty.windows["1m", T0 + MINUTE].first_sequence == 50
    assert other.aggregator.first_sequence() == 50


@pytest.mark.parametrize("payload", [b"", b"{}", b'{"v":2}', b"\xff"])
def test_a_record_that_cannot_be_read_is_one_clear_error(payload: bytes) -> None:
    with pytest.raises(DecodeError):
        resume.decode(payload)


def test_a_record_of_another_version_is_refused() -> None:
    other = msgspec.structs.replace(record(busy()), v=2)
    with pytest.raises(DecodeError, match="version 2"):
        resume.decode(msgspec.json.encode(other))


def test_a_record_too_large_forgets_holes_and_proves_less() -> None:
    known = resume.dump(busy().aggregator)
    holes = [Hole(n, n + 2, n, n + 1) for n in range(0, 512, 2)]
    symbols = {
        f"binance.S{number}": msgspec.structs.replace(known, holes=holes) for number in range(400)
    }
    large = msgspec.structs.replace(record(busy()), symbols=symbols)
    payload = resume.encode(large)
    assert len(payload) <= resume.RECORD_BYTES_MAX
    read = resume.decode(payload).symbols["binance.S0"]
    assert read.holes == []
    assert read.forgotten == Hole(0, 512, 0, 511)
    assert read.seen is None


def test_keys_name_their_slot() -> None:
    assert resume.key_of(7) == "slot-07"


def test_what_was_forgotten_of_holes_comes_back() -> None:
    course = busy()
    completeness = course.aggregator.completeness
    completeness.forgotten = Forgotten(Hole(2, 7, 20, 70))
    completeness.forgotten.note(Run(4, 5, 40, 50))
    read = again(course).aggregator.completeness.forgotten
    assert read is not None
    assert read.span == Hole(2, 7, 20, 70)
    assert list(read.accounted) == [(4, 5)]


def test_a_loss_is_not_forgotten_by_a_restart_before_anything_was_read() -> None:
    lost = again(busy(), lost_before=50)
    assert again(lost).aggregator.has_lost


def test_after_a_loss_a_refill_of_old_trades_ends_no_doubt() -> None:
    lost = again(busy(), lost_before=50)
    lost.trades((20, SECOND), prev=8, source="rest", received=9 * MINUTE + SECOND)
    rescan = lost.aggregator.closed.dirty.rescan
    assert rescan is not None
    assert (rescan.from_ms - T0, rescan.to_ms - T0) == (2 * MINUTE - LOOK_BACK_MS, 10 * MINUTE)
