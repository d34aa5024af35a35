"""Rules of `klines.watermark`."""

from market_ingestor.klines.watermark import ANCHORS_MAX, JUMP_US, Watermark

S = 1_000_000
HOUR = 3_600 * S
START = 1_000 * HOUR


def made(lateness_us: int = 2 * S) -> Watermark:
    watermark = Watermark(lateness_us)
    watermark.trades("a", START, [START], [1])
    return watermark


def test_there_is_none_before_the_first_trade() -> None:
    watermark = Watermark(0)
    watermark.elapse(5 * S)
    assert watermark.value_us is None


def test_the_first_trade_sets_it_behind_its_time() -> None:
    assert made().value_us == START - 2 * S


def test_a_newer_trade_moves_it_an_older_one_does_not() -> None:
    watermark = made()
    watermark.trades("a", START + 9 * S, [START + 8 * S, START + 3 * S], [2, 3])
    assert watermark.value_us == START + 6 * S
    assert watermark.newest_id == 2
    watermark.trades("a", START + 9 * S, [START + 5 * S], [4])
    assert watermark.value_us == START + 6 * S


def test_time_elapsed_since_the_newest_trade_moves_it() -> None:
    watermark = made()
    watermark.elapse(10 * S)
    assert watermark.value_us == START + 8 * S
    watermark.elapse(5 * S)
    assert watermark.value_us == START + 8 * S


def test_an_older_trade_of_the_same_feed_shows_time_passing() -> None:
    watermark = made()
    watermark.trades("a", START + 30 * S, [START - S], [2])
    assert watermark.value_us == START + 28 * S


def test_an_older_trade_of_another_feed_shows_nothing() -> None:
    watermark = made()
    watermark.trades("b", START + 30 * S, [START - S], [2])
    assert watermark.value_us == START - 2 * S


def test_a_feed_that_brought_the_same_trade_counts_from_when_it_did() -> None:
    watermark = made()
    watermark.trades("b", START + 5 * S, [START], [1])
    assert watermark.anchors == {"a": START, "b": START + 5 * S}


def test_it_never_goes_back() -> None:
    watermark = made()
    watermark.elapse(60 * S)
    watermark.trades("a", START + 61 * S, [START + 20 * S], [2])
    assert watermark.value_us == START + 58 * S


def test_a_trade_six_hours_ahead_moves_nothing_until_a_second_one_confirms_it() -> None:
    watermark = made()
    watermark.trades("a", START, [START + 6 * HOUR], [2])
    assert watermark.value_us == START - 2 * S
    watermark.trades("a", START + 2 * S, [START + 2 * S], [3])
    assert watermark.value_us == START
    watermark.trades("a", START + 3 * S, [START + 6 * HOUR + S], [4])
    assert watermark.value_us == START + 6 * HOUR + S - 2 * S


def test_a_copy_of_a_suspect_trade_confirms_nothing() -> None:
    watermark = made()
    for feed in ("a", "b", "a"):
        watermark.trades(feed, START, [START + 6 * HOUR], [2])
    assert watermark.value_us == START - 2 * S


def test_of_two_suspects_far_apart_only_the_nearer_is_confirmed() -> None:
    watermark = made()
    watermark.trades("a", START, [START + 48 * HOUR], [2])
    watermark.trades("a", START, [START + 5 * HOUR], [3])
    assert watermark.newest_us == START + 5 * HOUR
    assert watermark.suspect == (START + 48 * HOUR, 2)


def test_a_suspect_hides_among_good_trades_of_its_batch() -> None:
    watermark = made()
    watermark.trades(
        "a", START + 4 * S, [START + 3 * S, START + 9 * HOUR, START + 4 * S], [2, 3, 4]
    )
    assert watermark.newest_us == START + 4 * S


def test_a_long_pause_explains_a_jump() -> None:
    watermark = made()
    watermark.trades("b", START + 17 * HOUR, [START + 17 * HOUR], [2])
    assert watermark.newest_us == START + 17 * HOUR


def test_a_jump_of_up_to_an_hour_needs_no_explanation() -> None:
    watermark = made()
    watermark.trades("a", START, [START + JUMP_US], [2])
    assert watermark.newest_us == START + JUMP_US


def test_feeds_that_brought_the_newest_trade_are_bounded() -> None:
    watermark = made()
    for number in range(ANCHORS_MAX + 5):
        watermark.trades(f"f{number}", START + number, [START], [1])
    assert len(watermark.anchors) == ANCHORS_MAX
    assert "a" not in watermark.anchors
