"""What each role may publish and subscribe to on NATS: the least it needs. Pure.

Whoever may publish ``market.raw.>`` can forge candles, so only ingest may.
"""

from typing import Final, NamedTuple

from market_ingestor.bus import subjects

_READ: Final = (
    "$JS.API.INFO",
    "$JS.API.STREAM.INFO.>",
    "$JS.API.STREAM.MSG.GET.>",
    "$JS.API.DIRECT.GET.>",
    "$JS.API.CONSUMER.CREATE.>",
    "$JS.API.CONSUMER.DELETE.>",
    "$JS.API.CONSUMER.INFO.>",
    "$JS.API.CONSUMER.MSG.NEXT.>",
    "$JS.FC.>",  # flow control of the consumers behind key-value reads
)
_INBOX: Final = "_INBOX.>"
_ANSWERS: Final = f"{subjects.ANSWERS}.>"


class RoleRights(NamedTuple):
    """Subjects a role may publish to and subscribe to."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def _bucket(name: str) -> str:
    return subjects.bucket_subject(name, ">")


# Of the command that makes streams and buckets.
SETUP_RIGHTS: Final = RoleRights(("$JS.API.>",), (_INBOX,))


def _making(name: str) -> str:
    """Return the subject of making a bucket anew that was deleted."""
    return f"$JS.API.STREAM.CREATE.{subjects.bucket_stream(name)}"


ROLE_RIGHTS: Final[dict[str, RoleRights]] = {
    "ingest": RoleRights(
        (
            *_READ,
            subjects.RAW_ALL,
            subjects.EVENT_ALL,
            subjects.dead("ingest"),
            _ANSWERS,
            _bucket(subjects.CONTROL_BUCKET),
            _bucket(subjects.MEMBERS_BUCKET),
            _bucket(subjects.INSTRUMENTS_BUCKET),
            _making(subjects.CONTROL_BUCKET),
            _making(subjects.MEMBERS_BUCKET),
        ),
        (_INBOX, _bucket(subjects.CONTROL_BUCKET), subjects.CONTROL_ALL),
    ),
    "klines": RoleRights(
        (
            *_READ,
            subjects.KLINE_ALL,
            subjects.LIVE_ALL,
            subjects.STATS_ALL,
            subjects.EVENT_ALL,
            subjects.dead("klines"),
            _bucket(subjects.STATE_BUCKET),
        ),
        (_INBOX,),
    ),
    "save": RoleRights(
        (
            *_READ,
            "$JS.API.CONSUMER.DURABLE.CREATE.>",
            f"$JS.API.CONSUMER.LIST.{subjects.RAW_STREAM}",
            f"$JS.API.STREAM.PURGE.{subjects.RAW_STREAM}",
            f"$JS.API.STREAM.MSG.DELETE.{subjects.RAW_STREAM}",
            "$JS.ACK.>",
            subjects.EVENT_ALL,
            subjects.dead("save"),
        ),
        (_INBOX,),
    ),
    "gateway": RoleRights(
        _READ,
        (_INBOX, subjects.LIVE_ALL, subjects.STATS_ALL, _bucket(subjects.CONTROL_BUCKET)),
    ),
    "api": RoleRights(
        (
            *_READ,
            _bucket(subjects.CONTROL_BUCKET),
            _making(subjects.CONTROL_BUCKET),
            subjects.CONTROL_ALL,
        ),
        (
            _INBOX,
            _ANSWERS,
            subjects.LIVE_ALL,
            subjects.STATS_ALL,
            _bucket(subjects.CONTROL_BUCKET),
        ),
    ),
}
