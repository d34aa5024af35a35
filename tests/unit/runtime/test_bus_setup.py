"""Streams are what the settings say."""

from market_ingestor.config import NatsSettings
from market_ingestor.runtime.bus_setup import stream_configs

SECOND = 1_000_000_000  # JetStream counts nanoseconds


def windows(settings: NatsSettings) -> dict[object, object]:
    return {each["name"]: each["duplicate_window"] for each in stream_configs(settings)}


def test_message_ids_are_remembered_as_long_as_configured() -> None:
    others = ("MARKET_KLINE", "MARKET_EVENT", "MARKET_DEAD")
    usual = {"MARKET_RAW": 30 * SECOND} | dict.fromkeys(others, 120 * SECOND)
    assert windows(NatsSettings()) == usual
    chosen = NatsSettings(raw_duplicate_window=60, derived_duplicate_window=90)
    longer = {"MARKET_RAW": 60 * SECOND} | dict.fromkeys(others, 90 * SECOND)
    assert windows(chosen) == longer
