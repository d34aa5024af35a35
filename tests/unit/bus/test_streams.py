"""Settings are compared with what the server says it took."""

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
