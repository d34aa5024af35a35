"""What a role is to the process that runs it. Pure.

A role is constructed with ready dependencies and starts nothing before `Role.run`.
"""

from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec

LAG_MAX_S: Final = 10.0  # a role that works on older messages says so


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """A role's own judgement, taken from what it last saw; asking it costs nothing.

    Attributes:
        is_ready: Started, not stopping, and able to do this role's work.
        problems: One clause each: what is wrong, also when it does not stop this role.
        details: Facts for ``/health``, JSON-encodable.
        dependencies: Whether each thing this role alone leans on can be used now (``cache``).
        feeds: What is known of the feeds of each exchange.
    """

    is_ready: bool
    problems: tuple[str, ...] = ()
    details: Mapping[str, Any] = {}
    dependencies: Mapping[str, bool] = {}
    feeds: Mapping[str, Any] = {}


def lag_problems(
    stream: str, oldest_us: int | None, now_us: int, *, rests_s: float = 0.0
) -> tuple[str, ...]:
    """Return what there is to say of a role whose work on a stream lags.

    Args:
        oldest_us: When the oldest message that waits for this role was stored, UTC microseconds;
            None when none waits.
        rests_s: How long a message may wait on purpose.
    """
    late_s = 0.0 if oldest_us is None else (now_us - oldest_us) / 1e6
    return (f"{stream} is {late_s:.0f} s behind",) if late_s > LAG_MAX_S + rests_s else ()


class Role(Protocol):
    """One stage of the flow as a long-running task."""

    @property
    def name(self) -> str:
        """``ingest``, ``klines``, ``save``, ``gateway`` or ``api``."""

    async def run(self) -> None:
        """Work until `stop`, then drain in flow order and return.

        Raises:
            Exception: What we did wrong ends the process; what the world does is retried inside.
        """

    def stop(self) -> None:
        """Begin to drain: take nothing new, finish what was taken, make it durable, return.

        Callable any number of times, from the event loop's thread.
        """

    def health(self) -> Health:
        """Return how this role is."""
