"""Who may talk to us: tokens, origins and the address behind a proxy. Pure.

Owns the comparison of tokens and must never log, store or return one.
"""

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import urlsplit

import msgspec

HEADER_CHARS_MAX: Final = 4096  # longer credentials are refused before they are decoded
_LOOPBACK_NAMES: Final = frozenset({"localhost"})
_PORTS: Final = {"http": 80, "https": 443}


class AccessPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What a listener demands of its callers.

    Attributes:
        tokens: Any one of them opens the door; empty means that reads are open.
        control_tokens: Any one of them may change something, and read; empty takes ``tokens``.
            With neither, callers of this machine may.
        origins: Values of ``Origin`` that browsers may come from; empty allows pages of the
            host they call, on any port.
        trusted_proxies: Addresses whose ``X-Forwarded-For`` is believed.
    """

    tokens: tuple[str, ...] = ()
    control_tokens: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()


def is_token(candidate: str, tokens: Collection[str]) -> bool:
    """Return whether ``candidate`` is one of ``tokens``, in time that tells nothing of them."""
    given = candidate.encode("utf-8", "surrogateescape")
    found = False
    for token in tokens:
        found |= hmac.compare_digest(given, token.encode("utf-8", "surrogateescape"))
    return found


def presented_token(headers: Mapping[str, str]) -> str | None:
    """Return the token a request carries in its headers, None when it carries none.

    Looks at ``Authorization: Bearer T``, the password of ``Authorization: Basic``, and
    ``X-MBX-APIKEY``. A header that cannot be read is an empty token, which opens nothing.
    """
    value = headers.get("Authorization")
    if value is None:
        return headers.get("X-MBX-APIKEY")
    scheme, _, rest = value.partition(" ")
    rest = rest.strip()
    if len(rest) > HEADER_CHARS_MAX:
        return ""
    if scheme.lower() == "bearer":
        return rest
    if scheme.lower() != "basic":
        return ""
    try:
        decoded = base64.b64decode(rest, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return decoded.partition(":")[2]


def is_origin_allowed(origin: str | None, host: str | None, allowed: Collection[str]) -> bool:
    """Return whether a browser's page may talk to us.

    Args:
        origin: The ``Origin`` header; None for programs, which are always allowed.
        host: The ``Host`` header of the same request.
        allowed: Exact origins; empty falls back to pages of the same host.
    """
    if origin is None:
        return True
    if allowed:
        return origin in allowed
    if host is None:
        return False
    try:
        return urlsplit(origin).hostname == urlsplit(f"//{host}").hostname is not None
    except ValueError:
        return False


def is_same_origin(origin: str | None, host: str | None, allowed: Collection[str]) -> bool:
    """Return whether a browser's page may change something here: it came from here itself.

    Stricter than `is_origin_allowed`: another port is another page.
    """
    if origin is None or origin in allowed:
        return True
    try:
        page = urlsplit(origin)
        if page.scheme not in _PORTS or host is None:
            return False
        own = urlsplit(f"//{host}")
        usual = _PORTS[page.scheme]
        pair = (page.hostname, page.port or usual), (own.hostname, own.port or usual)
    except ValueError:
        return False
    return page.hostname is not None and pair[0] == pair[1]


def is_own_host(host: str | None, names: Collection[str]) -> bool:
    """Return whether a ``Host`` header can mean us: an address, ``localhost`` or one of ``names``.

    A page whose name was made to point at this machine (DNS rebinding) sends its own name.
    """
    try:
        named = urlsplit(f"//{host or ''}").hostname
        if named is None or named in _LOOPBACK_NAMES or named in names:
            return named is not None
        ipaddress.ip_address(named)
    except ValueError:
        return False
    return True


def is_loopback(address: str) -> bool:
    """Return whether an address or host name can only mean this machine."""
    if address in _LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def client_address(peer: str, forwarded_for: str | None, trusted: Collection[str]) -> str:
    """Return the address a request came from.

    ``X-Forwarded-For`` is believed only from a trusted proxy, and only back to the first
    address, read from the right, that is not one itself: everything left of it is hearsay.
    """
    if peer not in trusted or not forwarded_for:
        return peer
    for hop in reversed([each.strip() for each in forwarded_for.split(",")]):
        if hop and hop not in trusted:
            return hop
    return peer
