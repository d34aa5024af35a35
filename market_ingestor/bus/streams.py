"""What each stream and consumer must look like, and how to tell whether it does. Pure.

Old servers ignore settings they do not know, without a word; so everything created is read back
and compared.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from market_ingestor.bus import subjects

MADE_AT: Final = "market-ingestor made it at "
GOES_ON: Final = "market-ingestor goes on here in the stream made at "
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NS: Final = 1_000_000_000  # JetStream's durations are integer nanoseconds


class StreamLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one stream.

    Attributes:
        max_age_s: Messages older than this go, 0 keeps them for ever.
        max_bytes: Size at which the stream is full.
        duplicate_window_s: How long a ``Nats-Msg-Id`` is remembered.
    """

    max_age_s: float
    max_bytes: int
    duplicate_window_s: float


def stream_config(
    name: str, subject: str, limits: StreamLimits, *, replicas: int, keeps_unread: bool
) -> dict[str, Any]:
    """Return the JetStream configuration of a stream.

    Args:
        keeps_unread: Refuse new messages when full instead of deleting old ones.
    """
    return {
        "name": name,
        "subjects": [subject],
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas,
        "max_age": int(limits.max_age_s * _NS),
        "max_bytes": limits.max_bytes,
        "discard": "new" if keeps_unread else "old",
        "duplicate_window": int(limits.duplicate_window_s * _NS),
        "allow_direct": True,
    }


def market_streams(
    *,
    raw: StreamLimits,
    kline: StreamLimits,
    event: StreamLimits,
    dead: StreamLimits,
    replicas: int,
) -> list[dict[str, Any]]:
    """Return the four streams of the contract. Only MARKET_RAW refuses when it is full."""
    return [
        stream_config(
            subjects.RAW_STREAM, subjects.RAW_ALL, raw, replicas=replicas, keeps_unread=True
        ),
        stream_config(
            subjects.KLINE_STREAM, subjects.KLINE_ALL, kline, replicas=replicas, keeps_unread=False
        ),
        stream_config(
            subjects.EVENT_STREAM, subjects.EVENT_ALL, event, replicas=replicas, keeps_unread=False
        ),
        stream_config(
            subjects.DEAD_STREAM, subjects.DEAD_ALL, dead, replicas=replicas, keeps_unread=False
        ),
    ]


def dated(config: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Return the configuration of a stream that is made now, which says so.

    Servers like 2.9.10 forget when a stream was made: after a restart, a change of its
    configuration and another restart they say it was at the first of them.
    """
    return {**config, "description": f"{MADE_AT}{now.isoformat()}"}


def created(info: Mapping[str, Any]) -> str:
    """Return when a stream was made, ISO 8601: by itself, or else as the server reports it."""
    return _made_at(info) or str(info["created"])


def is_dated(info: Mapping[str, Any]) -> bool:
    """Return whether a stream itself says when it was made, so that no restart changes that."""
    return _made_at(info) is not None


def _made_at(info: Mapping[str, Any]) -> str | None:
    description: str = info["config"].get("description") or ""
    if not description.startswith(MADE_AT):
        return None
    made_at = description.removeprefix(MADE_AT)
    try:
        datetime.fromisoformat(made_at)
    except ValueError:
        return None
    return made_at


def time_us(text: str) -> int:
    """Return a time of the server, UTC microseconds; 0 for the year 1 that an empty stream says."""
    return max((datetime.fromisoformat(text) - _EPOCH) // timedelta(microseconds=1), 0)


def durable_config(
    name: str, *, ack_wait_s: float, max_ack_pending: int, filter_subject: str | None = None
) -> dict[str, Any]:
    """Return the configuration of a durable pull consumer with explicit acks.

    ``max_deliver`` is -1: with any other value the server stops delivering a message for good,
    silently, after a database outage long enough.
    """
    config: dict[str, Any] = {
        "durable_name": name,
        "name": name,
        "ack_policy": "explicit",
        "deliver_policy": "all",
        "replay_policy": "instant",
        "ack_wait": int(ack_wait_s * _NS),
        "max_ack_pending": max_ack_pending,
        "max_deliver": -1,
    }
    if filter_subject is not None:
        config["filter_subject"] = filter_subject
    return config


def goes_on(created: str) -> str:
    """Return how a durable is described that goes on within the stream made at a time."""
    return f"{GOES_ON}{created}"


def moved_config(config: Mapping[str, Any], *, behind: int, created: str) -> dict[str, Any]:
    """Return the configuration of a durable that goes on behind a sequence.

    Args:
        created: When the stream was made, as `created` tells it.
    """
    return {
        **config,
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": behind + 1,
        "description": goes_on(created),
    }


def begins_behind(config: Mapping[str, Any]) -> int | None:
    """Return the sequence up to which nobody needs what a durable leaves out.

    Returns:
        0 for one that gets all, None for one that was made by hand to begin anywhere.
    """
    if config["deliver_policy"] == "all":
        return 0
    was_moved = config.get("description", "").startswith(GOES_ON)
    return config["opt_start_seq"] - 1 if was_moved else None


def ack_floor(info: Mapping[str, Any]) -> int:
    """Return the sequence up to which all is acknowledged that a durable ever had to give out.

    Two answers are not believed. Servers up to 2.10.0 at least may count an acknowledgement that
    was meant for an earlier durable of the same name, and say a floor beyond what they gave out.
    And up to 2.12.1 at least they say 0 of one that was moved until something is acknowledged.
    """
    delivered = info["delivered"]
    floor: int = info["ack_floor"]["stream_seq"]
    if floor > delivered["stream_seq"] and info["num_ack_pending"]:
        return 0
    if floor == 0 and is_placed(info):
        return begins_behind(info["config"]) or 0
    return floor


def is_placed(info: Mapping[str, Any]) -> bool:
    """Return whether a durable that was moved did begin there, as far as that can be told.

    One that the server forgot begins at the first message, whatever its configuration says.
    """
    delivered = info["delivered"]
    begins = begins_behind(info["config"]) or 0
    return bool(delivered["stream_seq"] - delivered["consumer_seq"] >= begins)


def ordered_config(
    name: str, *, start_sequence: int, filter_subject: str | None, inactive_s: float
) -> dict[str, Any]:
    """Return the configuration of a throw-away consumer that needs no acks.

    Args:
        name: Unique per consumer.
        start_sequence: First stream sequence wanted, >= 1.
        inactive_s: The server forgets the consumer after this long without a request.
    """
    config: dict[str, Any] = {
        "name": name,
        "ack_policy": "none",
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": max(start_sequence, 1),
        "replay_policy": "instant",
        "inactive_threshold": int(inactive_s * _NS),
        "mem_storage": True,
        "num_replicas": 1,
        "max_deliver": -1,
    }
    if filter_subject is not None:
        config["filter_subject"] = filter_subject
    return config


def differences(wanted: Mapping[str, Any], actual: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings whose value read back is not the one asked for, with that value."""
    return {
        key: actual.get(key)
        for key, value in wanted.items()
        if actual.get(key) != value and (value or actual.get(key))
    }
