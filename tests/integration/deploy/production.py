"""All roles as in production: TLS, a NATS user per role, tokens, secrets from the environment."""

import json
import re
import secrets
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from market_ingestor.bus.login import Login
from market_ingestor.bus.rights import ROLE_RIGHTS
from market_ingestor.embedded.binaries import find_nats_server
from market_ingestor.simulator import SimulatedVenue
from tests.support.ports import free_ports
from tests.support.processes import Command, command, program
from tests.support.tools import run

DEPLOY = Path(__file__).parents[3] / "deploy"
ROLES = tuple(ROLE_RIGHTS)
VENUE = "sim-binance"
START_S = 120  # five interpreters at once, on a machine that may have other work


def marked(name: str) -> str:
    """Return a secret that is found again wherever it went."""
    return f"s3cr3t{name}{secrets.token_hex(8)}"


class GuardedNats:
    """A nats-server under the configuration in ``deploy/nats``.

    Attributes:
        ca: Path of the CA that signed its certificate.
        passwords: By user.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self.ca = folder / "tls" / "ca.pem"
        self.passwords = {name: marked(name) for name in ("setup", *ROLES)}
        self._folder = folder
        run(str(DEPLOY / "nats" / "make-certificates.sh"), str(folder / "tls"), "127.0.0.1")
        text = (DEPLOY / "nats" / "nats-server.conf").read_text()
        text = text.replace("/etc/nats/tls", str(folder / "tls")).replace("/data", f"{folder}/data")
        text = re.sub(r"^http:.*$", "", text, flags=re.MULTILINE)
        (folder / "nats-server.conf").write_text(text)
        shutil.copy(DEPLOY / "nats" / "users.conf", folder)

    @property
    def login(self) -> Login:
        return Login(tls_ca=str(self.ca))

    def url(self, user: str, password: str | None = None) -> str:
        return f"tls://{user}:{password or self.passwords[user]}@127.0.0.1:{self.port}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Command]:
        env = {f"NATS_PASSWORD_{name.upper()}": word for name, word in self.passwords.items()}
        arguments = [str(find_nats_server()), "-c", str(self._folder / "nats-server.conf")]
        arguments += ["-a", "127.0.0.1", "-p", str(self.port)]
        async with program(*arguments, log=self._folder / "nats.log", env=env) as process:
            await process.until(lambda: "Server is ready" in process.output, 20)
            yield process


class Production:
    """The running stack.

    Attributes:
        secrets: Everything that must be seen nowhere.
    """

    def __init__(self, ports: dict[str, int], logs: Path, hidden: Sequence[str]) -> None:
        self.ports = ports
        self.logs = logs
        self.secrets = hidden
        self.roles: dict[str, Command] = {}

    async def get(self, role: str, path: str) -> httpx2.Response:
        async with httpx2.AsyncClient() as client:
            return await client.get(f"http://127.0.0.1:{self.ports[role]}{path}")

    async def ready(self, role: str) -> bool:
        try:
            return (await self.get(role, "/health/ready")).status_code == 200
        except httpx2.HTTPError:
            return False

    def output(self) -> dict[str, str]:
        """Return what every process has written."""
        return {path.stem: path.read_text(errors="replace") for path in self.logs.glob("*.log")}


@asynccontextmanager
async def production(dsn: str, folder: Path) -> AsyncIterator[Production]:
    """Run everything on the database at ``dsn``."""
    names = (*ROLES, "nats", "api-port", "push-port", "tcp-port")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    nats = GuardedNats(folder, ports["nats"])
    token, control, key = marked("token"), marked("control"), marked("key")
    logs = folder / "logs"
    logs.mkdir()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(nats.running())
        venue = await stack.enter_async_context(SimulatedVenue("binance", seed=3, rate=100))
        config = folder / "config.toml"
        config.write_text(
            f'[nats]\ntls_ca = "{nats.ca}"\nmanage_streams = "never"\n'
            '[ingest]\nmode = "test"\n'
            f"[gateway]\nport = {ports['push-port']}\ntcp_port = {ports['tcp-port']}\n"
            f"[api]\nport = {ports['api-port']}\n"
            f"[exchanges.{VENUE}]\nsymbols = {json.dumps(venue.symbols[:2])}\n"
            f'ws_url = "{venue.ws_url}"\nrest_url = "{venue.rest_url}"\n'
        )
        dsn_file = folder / "dsn"
        dsn_file.write_text(dsn)
        common = {
            "MARKET_INGESTOR_DATABASE__DSN_FILE": str(dsn_file),
            "MARKET_INGESTOR_GATEWAY__TOKENS": token,
            "MARKET_INGESTOR_API__TOKENS": token,
            "MARKET_INGESTOR_API__CONTROL_TOKENS": control,
            "MARKET_INGESTOR_EXCHANGES__SIM_BINANCE__TOKEN": key,
        }

        def started(
            *arguments: str, user: str, log: str, port: int = 0
        ) -> AbstractAsyncContextManager[Command]:
            env = {
                **common,
                "MARKET_INGESTOR_NATS__SERVERS": nats.url(user),
                "MARKET_INGESTOR_METRICS__PORT": str(port),
            }
            return command(*arguments, "--config", str(config), log=logs / log, env=env)

        password = urlsplit(dsn).password
        assert password
        hidden = [token, control, key, password, *nats.passwords.values()]
        running = Production(ports, logs, hidden)
        # Roles first: they must wait for streams that somebody else makes.
        for role in ROLES:
            process = started("run", role, user=role, log=f"{role}.log", port=ports[role])
            running.roles[role] = await stack.enter_async_context(process)
        klines = running.roles["klines"]
        await klines.until(lambda: "streams_awaited" in klines.output, START_S)
        for word in ("migrate", "streams"):
            async with started(word, user="setup", log=f"{word}.log") as making:
                assert await making.ended(START_S) == 0, making.output
        for role in ROLES:
            await running.roles[role].until(partial(running.ready, role), START_S)
        yield running
