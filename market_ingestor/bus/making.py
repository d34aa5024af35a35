"""How streams, and what buckets are kept in, come to be as configured. SHELL."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import structlog

from market_ingestor.bus import streams
from market_ingestor.bus.jetstream import STREAM_NOT_FOUND, UNREADY, ApiError, Bus
from market_ingestor.errors import StreamSetupError

_log = structlog.get_logger(__name__)


async def ensure_streams(bus: Bus, configs: Iterable[dict[str, Any]], *, update: bool) -> None:
    """Create missing streams, bring existing ones to their configuration, read them back.

    Args:
        update: Change streams that exist; otherwise only create.

    Raises:
        StreamSetupError: The server refused a stream.
    """
    for config in configs:
        name = config["name"]
        try:
            actual = await _ensured(bus, config, update=update)
        except ApiError as problem:
            if problem.code in UNREADY:
                raise
            raise StreamSetupError(f"stream {name}: {problem}") from problem
        ignored = streams.differences(config, actual)
        if ignored:
            _log.warning("stream_setting_ignored", stream=name, actual=ignored)


async def _ensured(bus: Bus, config: dict[str, Any], *, update: bool) -> dict[str, Any]:
    """Return a stream's configuration as it is once it exists, and is up to date if it may be.

    Whether it exists is asked first: servers reserve room for a stream that is created before
    they see that they have it, so one promised most of the disk could never be created twice.
    """
    name = config["name"]
    actual = await _config(bus, name)
    if actual is None:
        try:
            return await _answered_config(
                bus, f"STREAM.CREATE.{name}", streams.dated(config, datetime.now(UTC))
            )
        except ApiError:
            actual = await _config(bus, name)
            if actual is None:
                raise
            # Another process was faster.
    if update and streams.differences(config, actual):
        said = {"description": actual.get("description", "")}
        actual = await _answered_config(bus, f"STREAM.UPDATE.{name}", config | said)
    return actual


async def _config(bus: Bus, name: str) -> dict[str, Any] | None:
    try:
        return await _answered_config(bus, f"STREAM.INFO.{name}")
    except ApiError as problem:
        if problem.code == STREAM_NOT_FOUND:
            return None
        raise


async def _answered_config(
    bus: Bus, subject: str, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    config: dict[str, Any] = (await bus.api(subject, body))["config"]
    return config


async def ensure_settings(bus: Bus, stream: str, **settings: int) -> None:
    """Bring some settings of an existing stream, such as a bucket's, to what is wanted.

    Raises:
        StreamSetupError: The server refused it.
    """
    config = await _answered_config(bus, f"STREAM.INFO.{stream}")
    if config | settings == config:
        return
    try:
        await bus.api(f"STREAM.UPDATE.{stream}", config | settings)
    except ApiError as problem:
        if problem.code in UNREADY:
            raise
        raise StreamSetupError(f"stream {stream}: {problem}") from problem
