"""Rules of `klines.feeds`."""

from market_ingestor.klines.feeds import FEEDS_MAX, Feeds

S = 1_000_000


def heard(feeds: Feeds, name: str, *seconds: int) -> None:
    for second in seconds:
        feeds.heard(name, second * S)


def test_a_feed_covers_what_it_was_up_through() -> None:
    feeds = Feeds()
    heard(feeds, "a", *range(61))
    assert feeds.cover(0, 60 * S)
    assert not feeds.cover(0, 61 * S)


def test_three_seconds_of_silence_are_no_interruption_four_are() -> None:
    feeds = Feeds()
    heard(feeds, "a", 0, 3, 6, 10, 11, 12)
    assert not feeds.cover(0, 12 * S)
    assert feeds.cover(10 * S, 12 * S)


def test_two_feeds_in_turn_cover_nothing_together() -> None:
    feeds = Feeds()
    heard(feeds, "a", *range(31))
    heard(feeds, "b", *range(30, 61))
    assert not feeds.cover(0, 60 * S)


def test_a_feed_is_gone_when_it_ended_or_was_silent() -> None:
    feeds = Feeds()
    heard(feeds, "a", 0)
    heard(feeds, "b", 9)
    assert not feeds.is_gone("a", 9 * S, 10 * S)
    assert feeds.is_gone("a", 10 * S, 10 * S)
    feeds.end("b")
    assert feeds.is_gone("b", 9 * S, 10 * S)
    assert feeds.is_gone("never heard", 0, 10 * S)


def test_it_forgets_the_feed_not_heard_for_longest() -> None:
    feeds = Feeds()
    for number in range(FEEDS_MAX + 5):
        heard(feeds, f"f{number}", number)
    assert len(feeds.dump()) == FEEDS_MAX
    assert feeds.is_gone("f4", 5 * S, 10 * S)
    assert not feeds.is_gone("f5", 5 * S, 10 * S)


def test_it_survives_dump_and_load() -> None:
    feeds, other = Feeds(), Feeds()
    heard(feeds, "a", *range(10))
    feeds.end("a")
    other.load(feeds.dump())
    assert other.cover(0, 9 * S)
    assert other.is_gone("a", 9 * S, 10 * S)
