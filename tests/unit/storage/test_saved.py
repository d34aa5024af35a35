"""What the record of what was saved says of a message."""

import pytest

from market_ingestor.bus.reader import Delivery
from market_ingestor.storage.saved import Saved

STORED_US = 1_000_000


def saved(*, created: str = "then", since: int = 10, through: int = 20) -> Saved:
    return Saved(stream="S", created=created, since=since, through=through, stored_us=STORED_US)


def delivery(sequence: int, stored_us: int) -> Delivery:
    return Delivery(
        subject="s",
        payload=b"",
        sequence=sequence,
        consumer_sequence=1,
        stored_us=stored_us,
        pending=0,
        reply="r",
    )


@pytest.mark.parametrize(
    ("sequence", "stored_us", "is_covered"),
    [
        (10, 1, False),  # before the record was begun
        (11, 1, True),
        (20, STORED_US, True),
        (20, STORED_US + 1, False),  # the sequence was given out a second time
        (21, STORED_US, False),
    ],
)
def test_a_message_is_covered_by_its_sequence_and_its_time(
    sequence: int, stored_us: int, is_covered: bool
) -> None:
    assert saved().covers(delivery(sequence, stored_us)) is is_covered


def test_a_lower_floor_is_no_news_unless_it_is_of_another_stream() -> None:
    assert saved().is_news_to(None)
    assert saved(through=21).is_news_to(saved())
    assert not saved(through=20).is_news_to(saved())
    assert not saved(through=19).is_news_to(saved())
    assert saved(created="now", through=19).is_news_to(saved())
