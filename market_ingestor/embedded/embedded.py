"""Both servers over one folder, started and stopped together.

Owns the order of start and end, and the passwords of the NATS users. It must never know what the
users' rights mean.
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from market_ingestor.embedded.errors import started
from market_ingestor.embedded.folder import DataFolder
from market_ingestor.embedded.nats import EmbeddedNats
from market_ingestor.embedded.nats_config import NatsUser
from market_ingestor.embedded.passwords import password_for
from market_ingestor.embedded.postgres import EmbeddedPostgres

ADMIN = "admin"  # the user who may do everything, first in the list and so the one of `nats_url`


class NatsRights(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one NATS user may do; the password is made here.

    Attributes:
        publish: Subjects (wildcards allowed) to publish to; none means nothing may be published.
        subscribe: Subjects to subscribe to; none means nothing may be.
    """

    publish: Sequence[str]
    subscribe: Sequence[str]


class Embedded:
    """nats-server and PostgreSQL over one folder; use it as an async context manager.

    A second start on the same folder finds everything the first one kept, with the same passwords,
    on other ports.

    Attributes:
        folder: The data folder, open between start and stop.
    """

    def __init__(
        self,
        path: Path,
        *,
        nats_rights: Mapping[str, NatsRights] | None = None,
        postgres_settings: Mapping[str, str] | None = None,
    ) -> None:
        """Describe both servers; nothing runs before :meth:`start`.

        Args:
            path: The data folder, made if it is not there.
            nats_rights: The NATS users besides ``admin``, by name.
            postgres_settings: Settings of ``postgresql.conf`` that differ from ours.
        """
        self.folder = DataFolder(path)
        self._nats_rights = dict(nats_rights or {})
        self._postgres_settings = postgres_settings
        self._nats: EmbeddedNats | None = None
        self._postgres: EmbeddedPostgres | None = None

    @property
    def nats(self) -> EmbeddedNats:
        """The nats-server; it always asks for a password."""
        return started(self._nats, "nats-server")

    @property
    def postgres(self) -> EmbeddedPostgres:
        """The PostgreSQL."""
        return started(self._postgres, "postgres")

    @property
    def nats_url(self) -> str:
        """Where nats-server is, for the user who may do everything, password included."""
        return self.nats.url

    def nats_url_for(self, user: str) -> str:
        """Return where nats-server is, for one of the users with rights, password included."""
        return self.nats.url_for(user)

    @property
    def dsn(self) -> str:
        """Where the database is, password included."""
        return self.postgres.dsn

    async def start(self) -> None:
        """Lock the folder and start both servers; on any failure nothing of them stays.

        Raises:
            FolderInUseError: Another process works in the folder.
            BinaryMissingError: A program is not installed.
            EmbeddedError: A server could not be started.
        """
        await self.folder.open()
        try:
            self._nats = EmbeddedNats(self.folder, users=self._users())
            await self._nats.start()
            self._postgres = EmbeddedPostgres(self.folder, settings=self._postgres_settings)
            await self._postgres.start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop both servers in order, killing what takes too long, and give the folder free."""
        try:
            for server in (self._nats, self._postgres):
                if server is not None:
                    await server.stop()
        finally:
            await self.folder.close()

    async def watch(self) -> None:
        """Wait until both servers have ended; return if that was asked for.

        Raises:
            ServerEndedError: One ended by itself.
        """
        watches = [asyncio.ensure_future(one.watch()) for one in (self.nats, self.postgres)]
        try:
            await asyncio.gather(*watches)
        finally:
            for one in watches:
                one.cancel()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    def _users(self) -> list[NatsUser]:
        path = self.folder.path
        admin = NatsUser(name=ADMIN, password=password_for(path, f"nats/{ADMIN}"))
        others = [
            NatsUser(
                name=name,
                password=password_for(path, f"nats/{name}"),
                publish=rights.publish,
                subscribe=rights.subscribe,
            )
            for name, rights in self._nats_rights.items()
        ]
        return [admin, *others]
