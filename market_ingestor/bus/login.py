"""How a connection to NATS proves who it is, and makes sure whom it talks to. SHELL."""

import contextlib
import ssl
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import nats.errors
from nats.aio.client import DEFAULT_BUFFER_SIZE, Client, Srv
from nats.aio.transport import TcpTransport

from market_ingestor.errors import ConfigError

TLS_SCHEME: Final = "tls"
PLAIN_SCHEMES: Final = ("nats", TLS_SCHEME)  # TLS begins after the server has said hello


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """Credentials and certificates, besides user and password in a server's address.

    Attributes:
        creds: Path of a credentials file (a JWT and its seed).
        nkey_seed: Seed of an NKey, the text itself.
        tls_ca: Path of the CA that signed the server's certificate; None takes the system's.
        tls_cert: Path of our own certificate, for servers that want one.
        tls_key: Path of its key.
    """

    creds: str | None = None
    nkey_seed: str | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None

    def wants_tls(self, servers: Sequence[str]) -> bool:
        """Return whether every connection must be encrypted."""
        is_named = any(urlsplit(each).scheme == TLS_SCHEME for each in servers)
        return is_named or self.tls_ca is not None or self.tls_cert is not None

    def options(self, servers: Sequence[str]) -> dict[str, Any]:
        """Return arguments for nats-py's ``connect``.

        Raises:
            ConfigError: A file cannot be read, or is not what it should be.
        """
        options: dict[str, Any] = {
            "user_credentials": self.creds,
            "nkeys_seed_str": self.nkey_seed,
        }
        if self.wants_tls(servers):
            options["tls"] = self._context()
        return options

    def _context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.tls_ca)
        except (OSError, ssl.SSLError) as problem:
            raise ConfigError("nats.tls_ca", f"cannot be used: {problem}") from problem
        if self.tls_cert is not None:
            try:
                context.load_cert_chain(self.tls_cert, self.tls_key)
            except (OSError, ssl.SSLError) as problem:
                raise ConfigError("nats.tls_cert", f"cannot be used: {problem}") from problem
        return context


class LossTellingTransport(TcpTransport):
    """A socket whose loss is a `ConnectionResetError` for whoever writes.

    On uvloop it is a RuntimeError: nats-py's flusher takes that for the end of the process and
    stops without a word, and the next to publish is hit by it.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # nats-py has no types there

    def write(self, payload: bytes) -> None:
        """Write bytes.

        Raises:
            ConnectionResetError: The connection is gone.
        """
        with _telling_loss():
            super().write(payload)  # type: ignore[no-untyped-call] # nats-py has no types there

    def writelines(self, payload: Sequence[bytes]) -> None:
        """Write pieces, as `write`."""
        with _telling_loss():
            super().writelines(payload)  # type: ignore[no-untyped-call] # as above


@contextlib.contextmanager
def _telling_loss() -> Iterator[None]:
    try:
        yield
    except RuntimeError as problem:
        raise ConnectionResetError(str(problem)) from problem


class GuardedClient(Client):
    """A client that sends nothing in clear text to a server that should speak TLS.

    nats-py leaves that to the server: one that says it has no TLS, or somebody between us and it
    who says so, is given the password. Its transport tells when it is lost.
    """

    def __init__(self) -> None:
        super().__init__()
        self.must_encrypt = False

    def abandon(self) -> None:
        """Close the sockets of a connection that never came about; nats-py leaves them behind."""
        for name in ("_io_writer", "_bare_io_writer"):  # the second one is from before TLS
            writer = getattr(self._transport, name, None)
            if writer is not None and not writer.is_closing():
                writer.close()

    async def _connect_to_server(self, s: Srv) -> None:
        if self._transport or s.uri.scheme not in PLAIN_SCHEMES:
            await super()._connect_to_server(s)
            return
        # The first time; later connections are made with the same transport.
        s.last_attempt = time.monotonic()
        self._transport = LossTellingTransport()
        await self._transport.connect(
            s.uri,
            buffer_size=DEFAULT_BUFFER_SIZE,
            connect_timeout=self.options["connect_timeout"],
        )

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and self.must_encrypt and not info.get("tls_required"):
            self.abandon()
            raise nats.errors.Error("the server offers no TLS")
        await super()._process_info(info, initial_connection)
