"""How a connection to NATS proves who it is. SHELL."""

import ssl
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from market_ingestor.errors import ConfigError

TLS_SCHEME: Final = "tls"


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
