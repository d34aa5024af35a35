"""A NATS cluster of three real nodes on loopback, any of which may be killed and started again."""

import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

from market_ingestor.embedded.binaries import find_nats_server
from tests.support.ports import free_ports
from tests.support.processes import Command, program

NODES = ("n1", "n2", "n3")


class Cluster:
    """Nodes by name; each keeps its data when it is killed."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        ports = free_ports(2 * len(NODES))
        self._clients = dict(zip(NODES, ports, strict=False))
        self._folder = folder
        self._stack = stack
        self.nodes: dict[str, Command] = {}
        routes = dict(zip(NODES, ports[len(NODES) :], strict=True))
        listed = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes.values())
        for name in NODES:
            (folder / f"{name}.conf").write_text(
                f"server_name: {name}\nlisten: 127.0.0.1:{self._clients[name]}\n"
                f'jetstream {{ store_dir: "{folder / name}", max_file_store: 100GB }}\n'
                f"cluster {{ name: market, listen: 127.0.0.1:{routes[name]},"
                f" routes: [{listed}] }}\n"
            )

    @property
    def servers(self) -> list[str]:
        return [f"nats://127.0.0.1:{port}" for port in self._clients.values()]

    async def start(self, name: str) -> None:
        """Start a node, or start it again."""
        config = str(self._folder / f"{name}.conf")
        log = self._folder / f"{name}.log"
        node = program(str(find_nats_server()), "-c", config, log=log)
        self.nodes[name] = await self._stack.enter_async_context(node)

    async def kill(self, name: str) -> None:
        """End a node with SIGKILL."""
        self.nodes[name].process.kill()
        await self.nodes[name].process.wait()


@contextlib.asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[Cluster]:
    """Run three nodes for the length of the block."""
    async with AsyncExitStack() as stack:
        running = Cluster(folder, stack)
        for name in NODES:
            await running.start(name)
        yield running
