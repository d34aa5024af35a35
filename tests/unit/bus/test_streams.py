"""Settings are compared with what the server says it took."""

import pytest

from market_ingestor.bus import streams

LIMITS = streams.StreamLimits(max_age_s=60, max_bytes=1_000, duplicate_window_s=30)


def test_only_raw_refuses_when_it_is_full() -> None:
    configs = streams.market_streams(
        raw=LIMITS, kline=LIMITS, event=LIMITS, dead=LIMITS, replicas=1
    )
    assert {config["name"]: config["discard"] for config in configs} == {
        "MARKET_RAW": "new",
        "MARKET_KLINE": "old",
        "MARKET_EVENT": "old",
        "MARKET_DEAD": "old",
    }


def test_durables_are_delivered_for_ever() -> None:
    config = streams.durable_config("save", ack_wait_s=60, max_ack_pending=10)
    assert config["max_deliver"] == -1
    assert config["ack_wait"] == 60_000_000_000


def test_a_setting_the_server_dropped_is_named() -> None:
    wanted = {"name": "A", "compression": "s2", "max_bytes": 5}
    assert streams.differences(wanted, {"name": "A", "max_bytes": 5}) == {"compression": None}


def test_unset_and_absent_are_the_same() -> None:
    assert streams.differences({"max_age": 0}, {}) == {}


@pytest.mark.parametrize(
    ("delivered", "messages", "floor", "begins_behind", "believed"),
    [
        (70, 70, 60, None, 60),
        (70, 70, 0, None, 0),
        (60, 60, 61, None, 0),  # an acknowledgement meant for an earlier durable of that name
        (50, 0, 0, 50, 50),  # just moved, old servers
        (50, 0, 50, 50, 50),  # just moved, new servers
        (60, 10, 0, 50, 50),
        (60, 12, 0, 50, 0),  # something was given out twice, or all of the stream: who knows
        (60, 10, 55, 50, 55),
        (3, 3, 0, 50, 0),  # the server forgot, and began at the first message
        (60, 60, 0, 50, 0),
        (3, 3, 2, 50, 2),
        (3, 3, 52, 50, 0),
    ],
)
def test_only_a_floor_that_can_be_is_believed(
    delivered: int, messages: int, floor: int, begins_behind: int | None, believed: int
) -> None:
    config = streams.durable_config("save", ack_wait_s=6, max_ack_pending=10)
    if begins_behind is not None:
        config = streams.moved_config(config, behind=begins_behind, created="then")
    info = {
        "config": config,
        "delivered": {"stream_seq": delivered, "consumer_seq": messages},
        "ack_floor": {"stream_seq": floor},
        "num_ack_pending": 1,
    }
    assert streams.ack_floor(info) == believed


def test_a_floor_beyond_what_was_given_out_is_right_when_all_of_that_is_acknowledged() -> None:
    """Messages that expired before they were given out are no longer waited for."""
    info = {
        "config": streams.durable_config("save", ack_wait_s=6, max_ack_pending=10),
        "delivered": {"stream_seq": 60, "consumer_seq": 60},
        "ack_floor": {"stream_seq": 90},
        "num_ack_pending": 0,
    }
    assert streams.ack_floor(info) == 90


def test_a_durable_made_by_hand_to_begin_later_is_told_from_one_that_was_moved() -> None:
    config = streams.durable_config("save", ack_wait_s=6, max_ack_pending=10)
    assert streams.begins_behind(config) == 0
    assert streams.begins_behind(streams.moved_config(config, behind=7, created="then")) == 7
    by_hand = {**config, "deliver_policy": "by_start_sequence", "opt_start_seq": 8}
    assert streams.begins_behind(by_hand) is None
    assert streams.begins_behind({**config, "deliver_policy": "new"}) is None
