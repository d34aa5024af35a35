"""Reaches NATS and sees to it that streams and buckets are there as configured. SHELL.

Waits for what comes by itself: a server that starts, a cluster without a leader, streams that
somebody else makes. Ends the process for what does not: rights that are missing, a server too old.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import structlog

from market_ingestor.bus import streams, subjects
from market_ingestor.bus.control import MEMBER_AGE_S
from market_ingestor.bus.jetstream import TROUBLE, Bus
from market_ingestor.bus.listings import BYTES_MAX as LISTING_BYTES_MAX
from market_ingestor.bus.login import Login
from market_ingestor.bus.making import ensure_settings, ensure_streams
from market_ingestor.config import NatsSettings
from market_ingestor.errors import BusError, NotPermittedError, StreamSetupError

_log = structlog.get_logger(__name__)

BUS_WAIT_S: Final = 5.0  # one attempt to reach NATS; attempts go on until the process is stopped
SETUP_RETRY_S: Final = 1.0
SERVER_VERSION_MIN: Final = (2, 9)  # older ones lack consumers that are created by name
BUCKETS: Final[dict[str, dict[str, Any]]] = {
    subjects.CONTROL_BUCKET: {},
    subjects.MEMBERS_BUCKET: {"max_age_s": MEMBER_AGE_S},
    subjects.STATE_BUCKET: {"history": subjects.STATE_HISTORY},
    subjects.INSTRUMENTS_BUCKET: {"max_bytes": LISTING_BYTES_MAX},
}


def stream_configs(nats: NatsSettings) -> list[dict[str, object]]:
    """Return the four streams as configured."""

    def bounded(max_bytes: int) -> streams.StreamLimits:
        return streams.StreamLimits(
            max_age_s=nats.derived_max_age,
            max_bytes=max_bytes,
            duplicate_window_s=nats.derived_duplicate_window,
        )

    return streams.market_streams(
        raw=streams.StreamLimits(
            max_age_s=nats.raw_max_age,
            max_bytes=nats.raw_max_bytes,
            duplicate_window_s=nats.raw_duplicate_window,
        ),
        kline=bounded(nats.kline_max_bytes),
        event=bounded(nats.event_max_bytes),
        dead=bounded(nats.dead_max_bytes),
        replicas=nats.replicas,
    )


def login(nats: NatsSettings) -> Login:
    """Return how the settings say to log in."""
    return Login(
        creds=nats.creds,
        nkey_seed=None if nats.nkey_seed is None else nats.nkey_seed.get_secret_value(),
        tls_ca=nats.tls_ca,
        tls_cert=nats.tls_cert,
        tls_key=nats.tls_key,
    )


async def connect_patiently(servers: Sequence[str], name: str, nats: NatsSettings) -> Bus:
    """Connect to NATS however long it takes; the first failure is logged.

    Raises:
        ConfigError: A certificate cannot be used.
    """
    is_logged = False
    while True:
        try:
            return await Bus.connect(servers, name=name, login=login(nats), timeout_s=BUS_WAIT_S)
        except BusError as problem:
            if not is_logged:
                _log.warning("bus_awaited", connection=name, error=str(problem))
                is_logged = True


async def prepare_bus(servers: Sequence[str], nats: NatsSettings) -> None:
    """Return when streams and buckets are as configured, or there, if others are to make them.

    Raises:
        StreamSetupError: They cannot be made by this server as configured.
        NotPermittedError: They cannot be made by our user.
    """
    bus = await connect_patiently(servers, "setup", nats)
    try:
        check_server(bus)
        if nats.manage_streams == "never":
            await _patiently(lambda: _inspect(bus, nats))
        else:
            await _patiently(lambda: make_streams(bus, nats))
    finally:
        await bus.close()


def check_server(bus: Bus) -> None:
    """Note which server this is.

    Raises:
        StreamSetupError: It is too old.
    """
    version, shown = bus.server_version
    if version < SERVER_VERSION_MIN:
        wanted = ".".join(str(each) for each in SERVER_VERSION_MIN)
        raise StreamSetupError(f"nats-server {shown} is too old, {wanted} or newer is needed")
    _log.info("bus_reached", server=shown)


async def make_streams(bus: Bus, nats: NatsSettings) -> None:
    """Create or update streams and buckets."""
    may_update = nats.manage_streams == "update"
    await ensure_streams(bus, stream_configs(nats), update=may_update)
    for name, limits in BUCKETS.items():
        await bus.bucket(name, replicas=nats.replicas, **limits)
        if may_update:
            await ensure_settings(
                bus,
                subjects.bucket_stream(name),
                num_replicas=nats.replicas,
                max_msgs_per_subject=limits.get("history", 1),
            )


async def _inspect(bus: Bus, nats: NatsSettings) -> None:
    """Read what others have made; what is not as configured here is logged."""
    for config in stream_configs(nats):
        answer = await bus.api(f"STREAM.INFO.{config['name']}")
        if different := streams.differences(config, answer["config"]):
            _log.warning("stream_differs", stream=config["name"], actual=different)
    for name in BUCKETS:
        await bus.api(f"STREAM.INFO.{subjects.bucket_stream(name)}")


async def _patiently(work: Callable[[], Awaitable[None]]) -> None:
    is_logged = False
    while True:
        try:
            return await work()
        except (StreamSetupError, NotPermittedError):
            raise
        except TROUBLE as problem:
            if not is_logged:
                _log.warning("streams_awaited", error=str(problem) or type(problem).__name__)
                is_logged = True
        await asyncio.sleep(SETUP_RETRY_S)
