"""A second start on a folder that is in use."""

from tests.faults.kinds.fault import Fault
from tests.faults.world import World
from tests.support.processes import command


class SecondDemo(Fault, frozen=True, kw_only=True):
    """A demo on the folder of the running servers: it must leave them alone and say so."""

    @property
    def kind(self) -> str:
        return "second demo on the folder"

    @property
    def touches(self) -> frozenset[str]:
        return frozenset({"folder"})

    async def begin(self, world: World) -> None:
        log = world.folder / "second-demo.log"
        path = str(world.servers.folder.path)
        async with command("demo", "--data", path, "--duration", "1", log=log) as demo:
            status = await demo.ended(30 * world.size.patience)
            if status != 1 or "in use" not in demo.output:
                world.journal.problem(f"a second demo ended with {status}: {demo.output}")
