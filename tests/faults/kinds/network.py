"""Faults of the connection between two parts."""

from tests.faults.kinds.fault import Fault
from tests.faults.world import World


class LinkCut(Fault, frozen=True, kw_only=True):
    """Every connection of a link is reset; a new one works."""

    link: str

    @property
    def kind(self) -> str:
        return f"cut {self.link}"

    @property
    def touches(self) -> frozenset[str]:
        return frozenset({self.link})

    async def begin(self, world: World) -> None:
        world.link(self.link).cut()

    async def end(self, world: World) -> None:
        world.link(self.link).restore()


class LinkRefused(LinkCut, frozen=True, kw_only=True):
    """Connections are reset, and new ones too, for a while."""

    @property
    def kind(self) -> str:
        return f"refuse {self.link}"

    async def begin(self, world: World) -> None:
        world.link(self.link).refuse()


class LinkStalled(LinkCut, frozen=True, kw_only=True):
    """Connections stay and carry nothing for a while."""

    @property
    def kind(self) -> str:
        return f"stall {self.link}"

    async def begin(self, world: World) -> None:
        world.link(self.link).stall()


class LinkSlow(LinkCut, frozen=True, kw_only=True):
    """Connections carry little for a while."""

    delay_s: float = 0.1

    @property
    def kind(self) -> str:
        return f"slow {self.link}"

    async def begin(self, world: World) -> None:
        world.link(self.link).slow(self.delay_s)
