"""Rules for an embedded nats-server, with the real one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from nats.errors import Error as NatsError

from market_ingestor.embedded import (
    BinaryMissingError,
    DataFolder,
    EmbeddedNats,
    NatsUser,
    ServerEndedError,
    ServerStartError,
    server,
)
from market_ingestor.embedded.ports import free_port
from tests.support.servers import running_nats, short_folder

pytestmark = pytest.mark.anyio


@pytest.fixture
def path() -> Iterator[Path]:
    with short_folder() as path:
        yield path


@contextlib.asynccontextmanager
async def client(url: str) -> AsyncIterator[Client]:
    errors: list[Exception] = []

    async def note(error: Exception) -> None:
        errors.append(error)

    bus = await nats.connect(url, error_cb=note, allow_reconnect=False)
    try:
        yield bus
    finally:
        await bus.close()


async def store(url: str, payload: bytes) -> None:
    async with client(url) as bus:
        await bus.jetstream().add_stream(name="KEPT", subjects=["kept"])
        await bus.jetstream().publish("kept", payload)


async def stored(url: str) -> list[bytes]:
    async with client(url) as bus:
        state = (await bus.jetstream().stream_info("KEPT")).state
        numbers = range(state.first_seq, state.last_seq + 1)
        messages = [await bus.jetstream().get_msg("KEPT", number) for number in numbers]
    return [message.data or b"" for message in messages]


async def test_acknowledged_messages_survive_a_restart_and_a_kill(path: Path) -> None:
    async with running_nats(path) as bus:
        await store(bus.url, b"one")
        url = bus.url
        await bus.restart()
        await store(bus.url, b"two")
        await bus.kill()
        assert not bus.is_running
        await bus.start()
        assert bus.url == url
        assert await stored(bus.url) == [b"one", b"two"]


async def test_users_may_do_what_they_are_allowed_and_nothing_else(path: Path) -> None:
    users = (
        NatsUser(name="admin", password="a"),
        NatsUser(name="role", password="r", publish=("mine.>",), subscribe=("_INBOX.>",)),
    )
    async with (
        running_nats(path, users) as server,
        client(server.url) as admin,
        client(server.url_for("role")) as role,
    ):
        heard = await admin.subscribe(">")
        await admin.flush()
        await role.publish("other.subject", b"refused")
        await role.publish("mine.subject", b"allowed")
        assert (await heard.next_msg(timeout=5)).subject == "mine.subject"
        unheard = await role.subscribe("mine.>")
        await role.flush()
        await admin.publish("mine.subject", b"not for the role")
        await admin.flush()
        with pytest.raises((NatsError, TimeoutError)):
            await unheard.next_msg(timeout=0.3)


async def test_without_a_password_nobody_gets_in(path: Path) -> None:
    users = (NatsUser(name="admin", password="a"),)
    async with running_nats(path, users) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"CONNECT {}\r\nPING\r\n")
        async with asyncio.timeout(5):
            answers = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert b"Authorization Violation" in answers
    assert b"PONG" not in answers


async def test_the_configuration_with_its_passwords_is_for_the_owner_only(path: Path) -> None:
    async with running_nats(path, (NatsUser(name="admin", password="a"),)):
        assert (path / "nats" / "nats.conf").stat().st_mode & 0o777 == 0o600


async def test_a_paused_server_answers_again_after_it_is_resumed(path: Path) -> None:
    async with running_nats(path) as server, client(server.url) as bus:
        await server.pause()
        flush = asyncio.create_task(bus.flush(timeout=5))
        done, _ = await asyncio.wait([flush], timeout=0.3)
        assert not done
        await server.resume()
        await flush


async def test_a_first_start_takes_another_port_when_the_chosen_one_is_lost(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_nats(path / "first") as first:
        ports = iter([first.port, free_port()])
        monkeypatch.setattr(server, "free_port", lambda: next(ports))
        async with running_nats(path / "second") as second:
            assert second.port != first.port


async def test_a_server_that_ends_by_itself_is_noticed(path: Path) -> None:
    async with running_nats(path) as bus:
        watch = asyncio.create_task(bus.watch())
        process = await asyncio.create_subprocess_exec("kill", "-9", str(bus.pid))
        await process.wait()
        with pytest.raises(ServerEndedError, match="status -9"):
            async with asyncio.timeout(5):
                await watch


async def test_what_the_server_said_is_in_the_error_of_a_failed_start(path: Path) -> None:
    failing = path / "failing"
    failing.write_text("#!/bin/sh\necho it is broken\nexit 3\n", encoding="utf-8")
    failing.chmod(0o755)
    folder = DataFolder(path / "data")
    await folder.open()
    try:
        bus = EmbeddedNats(folder, program=failing)
        with pytest.raises(ServerStartError, match="status 3: it is broken"):
            await bus.start()
    finally:
        await folder.close()


async def test_a_missing_program_is_told_before_anything_is_started(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARKET_INGESTOR_NATS_SERVER", str(path / "absent"))
    folder = DataFolder(path)
    await folder.open()
    try:
        with pytest.raises(BinaryMissingError, match="nats-server not found"):
            await EmbeddedNats(folder).start()
    finally:
        await folder.close()
