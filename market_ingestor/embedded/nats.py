"""An embedded nats-server with JetStream on.

Owns its program, configuration and readiness. It must never know which streams or subjects exist
beyond the rights it is given for its users.
"""

import asyncio
import json
import secrets
import signal
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from market_ingestor.embedded.binaries import find_nats_server
from market_ingestor.embedded.child import Command
from market_ingestor.embedded.errors import started
from market_ingestor.embedded.folder import DataFolder, write_private
from market_ingestor.embedded.nats_config import (
    MAX_PAYLOAD_BYTES,
    MAX_STORE_BYTES,
    NatsSettings,
    NatsUser,
    render,
)
from market_ingestor.embedded.ports import LOOPBACK
from market_ingestor.embedded.server import START_TIMEOUT_S, EmbeddedServer


class EmbeddedNats(EmbeddedServer):
    """A nats-server whose streams survive stops and kills, in ``nats/`` of its folder."""

    name = "nats-server"
    stop_deadline_s = 15.0  # it writes its state and goes, in well under a second
    bind_refused = "address already in use"

    def __init__(
        self,
        folder: DataFolder,
        *,
        users: Sequence[NatsUser] = (),
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
        max_store_bytes: int = MAX_STORE_BYTES,
        program: Path | None = None,
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        """Describe the server; nothing runs before :meth:`start`.

        Args:
            folder: An open data folder.
            users: Who may connect; with none, everybody on this machine may.
            max_payload_bytes: The largest message it takes.
            max_store_bytes: How much the streams may be promised together on disk.
            program: The nats-server to run, None to look for it.
            start_timeout_s: How long a start may take, seconds.
        """
        super().__init__(folder, start_timeout_s=start_timeout_s)
        self._users = tuple(users)
        self._max_payload_bytes = max_payload_bytes
        self._max_store_bytes = max_store_bytes
        self._program = program
        # By this name an answer on the port is known to be ours.
        self._server_name = f"embedded-{secrets.token_hex(8)}"

    @property
    def url(self) -> str:
        """Where it is, with the name and password of the first user if there are users."""
        return self.url_for(self._users[0].name) if self._users else f"nats://{self.address}"

    @property
    def address(self) -> str:
        """Where it is, ``host:port``."""
        return f"{LOOPBACK}:{self.port}"

    def url_for(self, user: str) -> str:
        """Return where it is, with the name and password of ``user``.

        Raises:
            KeyError: There is no such user.
        """
        password = {one.name: one.password for one in self._users}[user]
        return f"nats://{quote(user, safe='')}:{quote(password, safe='')}@{self.address}"

    async def _prepare(self) -> None:
        if self._program is None:
            self._program = find_nats_server()
        (self._folder.path / "nats").mkdir(mode=0o700, exist_ok=True)

    def _command(self, port: int) -> Command:
        program = started(self._program, self.name)
        home = self._folder.path / "nats"
        settings = NatsSettings(
            host=LOOPBACK,
            port=port,
            server_name=self._server_name,
            store_dir=str(home),
            max_payload_bytes=self._max_payload_bytes,
            max_store_bytes=self._max_store_bytes,
            users=self._users,
        )
        config = home / "nats.conf"
        write_private(config, render(settings).encode())
        return Command(
            name=self.name,
            argv=(str(program), "--config", str(config)),
            stop_signal=signal.SIGTERM,
        )

    async def _answers(self, port: int) -> bool:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        try:
            greeting = await reader.readline()
        finally:
            writer.close()
        # INFO {"server_name":...}, sent unasked; streams are recovered before clients are let in.
        verb, _, facts = greeting.partition(b" ")
        return verb == b"INFO" and json.loads(facts).get("server_name") == self._server_name
