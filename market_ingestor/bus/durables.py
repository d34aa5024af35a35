"""How durable consumers come to be as configured, and go on elsewhere. SHELL."""

import asyncio
from typing import Any, Final

import structlog

from market_ingestor.bus import streams
from market_ingestor.bus.jetstream import CONSUMER_NOT_FOUND, ApiError, Bus
from market_ingestor.errors import StreamSetupError

_log = structlog.get_logger(__name__)

MOVES_MAX: Final = 3  # whoever shares the durable may make it anew while it is being moved
CLUSTER_WAIT_S: Final = 1.5  # for a leader that has just been chosen to catch up
_PLACE: Final = ("deliver_policy", "opt_start_seq", "description")


async def ensure_durable(bus: Bus, stream: str, config: dict[str, Any]) -> str:
    """Create a durable consumer or bring it to its configuration; reads it back.

    One that `move_durable` made for this very stream stays where it is. One that has given out
    more than there is, as of a stream that lost its end, is made anew: it would give out nothing
    of what takes that place.

    Returns:
        When it was made: another time, another durable of the same name.

    Raises:
        StreamSetupError: The server refused it.
    """
    name = config["durable_name"]
    try:
        place = await _place(bus, stream, name)
        answer = await _create(bus, stream, config | place)
        while place and (seen := await _place(bus, stream, name)) != place:
            place = seen  # the stream was made anew since it was asked
            answer = await _create(bus, stream, config | place)
    except ApiError as problem:
        raise StreamSetupError(f"consumer {stream}.{name}: {problem}") from problem
    ignored = streams.differences(config | place, answer["config"])
    if ignored:
        _log.warning("consumer_setting_ignored", stream=stream, consumer=name, actual=ignored)
    return str(answer["created"])


async def move_durable(
    bus: Bus, stream: str, config: dict[str, Any], *, behind: int, created: str
) -> None:
    """Let a durable go on behind a sequence, unless it is there or further already.

    Servers can only make it anew: what was given out behind that sequence and not acknowledged
    comes again.

    Args:
        config: As for `ensure_durable`.
        created: Which stream the sequence is one of, as `streams.created` tells it; one that was
            made meanwhile is given out whole.

    Raises:
        ApiError: The server refused it; what there is by now is for `ensure_durable` to find out.
    """
    name = config["durable_name"]
    moved = streams.moved_config(config, behind=behind, created=created)
    for attempt in range(1, MOVES_MAX + 1):
        if await _has_moved(bus, stream, moved):
            break
        await _delete(bus, stream, name)
        try:
            await _create(bus, stream, moved)
            break
        except ApiError:
            if attempt == MOVES_MAX:
                raise
    await ensure_durable(bus, stream, config)


async def _has_moved(bus: Bus, stream: str, moved: dict[str, Any]) -> bool:
    """Return whether somebody else has moved a durable there, or further."""
    info = await bus.consumer_info(stream, moved["durable_name"])
    if info is None or info["config"].get("description") != moved["description"]:
        return False
    begins = streams.begins_behind(info["config"]) or 0
    return begins >= moved["opt_start_seq"] - 1 and streams.is_placed(info)


async def _place(bus: Bus, stream: str, name: str) -> dict[str, Any]:
    """Return what of a durable's configuration says where it goes on, nothing if it gets all.

    Deletes one whose place is none of this stream.
    """
    durable = await bus.consumer_info(stream, name)
    if durable is None:
        return {}
    found = durable["config"]
    begins = streams.begins_behind(found)
    if begins is None:
        return {}  # made by hand, and refused as such
    info = await bus.api(f"STREAM.INFO.{stream}")
    is_elsewhere = begins and found["description"] != streams.goes_on(streams.created(info))
    if is_elsewhere or (_is_ahead(durable, info) and await _stays_ahead(bus, stream, info, name)):
        _log.warning("consumer_made_anew", stream=stream, consumer=name, begins_behind=begins)
        await _delete(bus, stream, name)
        return {}
    return {key: found[key] for key in _PLACE} if begins else {}


def _is_ahead(durable: dict[str, Any], info: dict[str, Any]) -> bool:
    return bool(durable["delivered"]["stream_seq"] > info["state"]["last_seq"])


async def _stays_ahead(bus: Bus, stream: str, info: dict[str, Any], name: str) -> bool:
    """Ask a cluster again: who answers for the stream may not have read its end yet."""
    if info["config"].get("num_replicas", 1) <= 1:
        return True
    await asyncio.sleep(CLUSTER_WAIT_S)
    durable = await bus.consumer_info(stream, name)
    return durable is not None and _is_ahead(durable, await bus.api(f"STREAM.INFO.{stream}"))


async def _create(bus: Bus, stream: str, config: dict[str, Any]) -> dict[str, Any]:
    subject = f"CONSUMER.DURABLE.CREATE.{stream}.{config['durable_name']}"
    answer = await bus.api(subject, {"stream_name": stream, "config": config})
    if "config" not in answer:
        raise ApiError(subject, CONSUMER_NOT_FOUND, "consumer was deleted again")
    return answer


async def _delete(bus: Bus, stream: str, name: str) -> None:
    try:
        await bus.api(f"CONSUMER.DELETE.{stream}.{name}")
    except ApiError as problem:
        if problem.code != CONSUMER_NOT_FOUND:
            raise
