"""What every kind of fault has in common."""

import abc
from typing import Final

import msgspec

from tests.faults.world import World

EVERYTHING: Final = "everything"  # touched by a fault that leaves room for no other


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Something that goes wrong, and is right again after a while.

    Attributes:
        seconds: Between its begin and its end.
    """

    seconds: float = 0.0

    @property
    @abc.abstractmethod
    def kind(self) -> str:
        """What it is called in the journal and counted as."""

    @property
    @abc.abstractmethod
    def touches(self) -> frozenset[str]:
        """Parts that no other fault may hurt at the same time."""

    @abc.abstractmethod
    async def begin(self, world: World) -> None:
        """Make it go wrong."""

    async def end(self, world: World) -> None:
        """Make it right again; nothing by default."""
