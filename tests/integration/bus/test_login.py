"""Every way to log in to NATS, and that nothing secret is said to the wrong server."""

import asyncio
import base64
import hashlib
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nkeys
import pytest

from market_ingestor.bus import streams
from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.login import Login
from market_ingestor.bus.making import ensure_streams
from market_ingestor.embedded import NatsUser
from market_ingestor.embedded.binaries import find_nats_server
from market_ingestor.errors import BusError, ConfigError, NotPermittedError
from tests.integration.deploy.production import GuardedNats
from tests.support.ports import free_ports
from tests.support.processes import Command, program
from tests.support.servers import NatsHandle, short_folder
from tests.support.tools import needs

pytestmark = pytest.mark.anyio

LIMITS = streams.StreamLimits(max_age_s=3_600, max_bytes=64 * 1024**2, duplicate_window_s=30)


@asynccontextmanager
async def guarded_nats() -> AsyncIterator[GuardedNats]:
    (port,) = free_ports(1)
    with short_folder() as folder:
        nats = GuardedNats(folder, port)
        async with nats.running():
            yield nats


@asynccontextmanager
async def serving(config: str, tmp_path: Path) -> AsyncIterator[tuple[str, Command]]:
    """Run a nats-server under ``config`` and give its address and process."""
    (port,) = free_ports(1)
    (tmp_path / "nats.conf").write_text(f"listen: 127.0.0.1:{port}\n{config}")
    arguments = (str(find_nats_server()), "-c", str(tmp_path / "nats.conf"))
    async with program(*arguments, log=tmp_path / "nats.log") as server:
        await server.until(lambda: "Server is ready" in server.output, 20)
        yield f"nats://127.0.0.1:{port}", server


@needs("openssl")
async def test_a_server_is_believed_only_with_a_certificate_of_the_configured_ca() -> None:
    async with guarded_nats() as nats:
        bus = await Bus.connect([nats.url("save")], name="save", login=nats.login)
        assert bus.is_connected
        await bus.close()
        with pytest.raises(BusError, match="certificate"):
            await Bus.connect([nats.url("save")], name="save", timeout_s=1)
        with pytest.raises(BusError, match=r"(?i)authorization"):
            await Bus.connect(
                [nats.url("save", "wrong")], name="save", login=nats.login, timeout_s=1
            )


class PlainServer:
    """Pretends to be a NATS server without TLS, and notes what it is told."""

    def __init__(self) -> None:
        self.told = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.9.10","max_payload":1048576}\r\n')
        while line := await reader.readline():
            self.told += line
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
        writer.close()


@needs("openssl")
@pytest.mark.parametrize("scheme", ["tls", "nats"])
async def test_a_password_is_never_sent_in_clear_text_where_tls_is_wanted(
    scheme: str, tmp_path: Path
) -> None:
    plain = PlainServer()
    server = await asyncio.start_server(plain.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    ca = GuardedNats(tmp_path, 1).ca
    login = Login() if scheme == "tls" else Login(tls_ca=str(ca))
    with pytest.raises(BusError, match="no TLS"):
        await Bus.connect(
            [f"{scheme}://save:s3cr3t@127.0.0.1:{port}"], name="save", login=login, timeout_s=1
        )
    assert plain.told == b""
    server.close()
    await server.wait_closed()


async def test_a_certificate_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nats\.tls_ca"):
        await Bus.connect(["tls://127.0.0.1:1"], name="x", login=Login(tls_ca=str(tmp_path / "x")))


def new_key(prefix: int) -> tuple[str, nkeys.KeyPair]:
    """Return a seed and its key pair."""
    seed = nkeys.encode_seed(os.urandom(32), prefix)
    return seed.decode(), nkeys.from_seed(bytearray(seed))


async def test_an_nkey_opens(tmp_path: Path) -> None:
    seed, pair = new_key(nkeys.PREFIX_BYTE_USER)
    stranger, _ = new_key(nkeys.PREFIX_BYTE_USER)
    user = f"authorization {{ users: [{{ nkey: {pair.public_key.decode()} }}] }}"
    async with serving(user, tmp_path) as (url, _):
        bus = await Bus.connect([url], name="x", login=Login(nkey_seed=seed))
        assert bus.is_connected
        await bus.close()
        with pytest.raises(BusError, match=r"(?i)authorization"):
            await Bus.connect([url], name="x", login=Login(nkey_seed=stranger), timeout_s=1)


def signed(claims: dict[str, Any], issuer: nkeys.KeyPair, subject: str) -> str:
    """Return a JWT as NATS has them."""

    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    body = {
        "iat": 1,
        "iss": issuer.public_key.decode(),
        "name": "x",
        "sub": subject,
        "nats": claims,
    }
    digest = hashlib.sha512(json.dumps(body).encode()).digest()[:32]
    body["jti"] = base64.b32encode(digest).rstrip(b"=").decode()
    head = json.dumps({"typ": "JWT", "alg": "ed25519-nkey"}).encode()
    text = f"{part(head)}.{part(json.dumps(body).encode())}"
    return f"{text}.{part(issuer.sign(text.encode()))}"


async def test_a_credentials_file_opens(tmp_path: Path) -> None:
    _, operator = new_key(nkeys.PREFIX_BYTE_OPERATOR)
    _, account = new_key(nkeys.PREFIX_BYTE_ACCOUNT)
    seed, user = new_key(nkeys.PREFIX_BYTE_USER)
    account_id = account.public_key.decode()
    limits = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
    accounts = {"type": "account", "version": 2, "limits": {**limits, "wildcards": True}}
    users = {"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1}
    operators = {"type": "operator", "version": 2}
    creds = tmp_path / "user.creds"
    creds.write_text(
        "-----BEGIN NATS USER JWT-----\n"
        f"{signed(users, account, user.public_key.decode())}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
    config = (
        f"operator: {signed(operators, operator, operator.public_key.decode())}\n"
        f"resolver: MEMORY\nresolver_preload: {{ {account_id}: "
        f"{signed(accounts, operator, account_id)} }}\n"
    )
    async with serving(config, tmp_path) as (url, _):
        bus = await Bus.connect([url], name="x", login=Login(creds=str(creds)))
        assert bus.is_connected
        await bus.close()
        with pytest.raises(BusError):
            await Bus.connect([url], name="x", timeout_s=1)


async def test_what_is_not_permitted_says_so_at_once(
    make_nats_server: Callable[..., NatsHandle],
) -> None:
    mine = NatsUser(name="u", password="p", publish=["$JS.API.INFO"], subscribe=["_INBOX.>"])
    server = make_nats_server([mine])
    bus = await Bus.connect([server.url], name="u")
    wanted = streams.market_streams(raw=LIMITS, kline=LIMITS, event=LIMITS, dead=LIMITS, replicas=1)
    with pytest.raises(NotPermittedError, match=r"(?i)not permitted.*STREAM\.INFO\.MARKET_RAW"):
        await ensure_streams(bus, wanted, update=True)
    await bus.close()


async def test_a_connection_that_is_ended_for_good_says_so(tmp_path: Path) -> None:
    def users(password: str) -> str:
        return f"authorization {{ users: [{{ user: u, password: {password} }}] }}"

    async with serving(users("before"), tmp_path) as (url, server):
        bus = await Bus.connect([url.replace("//", "//u:before@")], name="u")
        config = tmp_path / "nats.conf"
        config.write_text(config.read_text().replace("before", "after"))
        server.send(signal.SIGHUP)  # read the configuration again
        async with asyncio.timeout(20):
            with pytest.raises(BusError, match=r"ended the connection of u for good"):
                await bus.until_ended()
        await bus.close()
