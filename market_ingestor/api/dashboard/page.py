"""The page's HTML and what it may load: one text for every caller, but for addresses. Pure."""

import html
import re
from string import Template
from typing import Final
from urllib.parse import urlsplit

import msgspec

from market_ingestor.api.dashboard import charts

# What a Host header may say; anything else never gets into a header or the page.
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]")


class PushAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where the gateway is: an address as browsers see it, or the port it has on this host."""

    public_url: str | None = None
    port: int = 8081

    def url(self, host: str | None) -> str:
        """Return the address for a page that was asked for with this ``Host`` header.

        A page from ``localhost`` subscribes at ``localhost``: browsers tell the gateway where a
        page is from, and by default it admits those of its own host.
        """
        if self.public_url is not None:
            return self.public_url
        return f"ws://{_host_name(host)}:{self.port}/ws"


def _host_name(host: str | None) -> str:
    """Return a host name or address without its port, brackets around IPv6."""
    name = re.sub(r":[0-9]{1,5}$", "", host or "")
    return name if _HOST_NAME.fullmatch(name) else "127.0.0.1"


def push_sources(url: str) -> str:
    """Return what a content security policy calls a push address, plain and with TLS."""
    place = urlsplit(url).netloc.rpartition("@")[2]
    if "[" in place:
        return "ws: wss:"  # the policy's grammar has no IPv6 addresses
    return f"ws://{place} wss://{place}"


def policy(push_url: str, *, has_local_charts: bool) -> str:
    """Return the page's content security policy: its own files, its push address, nothing else."""
    scripts = "'self'" if has_local_charts else f"'self' {charts.ADDRESS}"
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {scripts}",
            "style-src 'self'",
            "img-src 'self' data:",
            f"connect-src 'self' {push_sources(push_url)}",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


def rendered(template: str, push_url: str, *, has_local_charts: bool) -> str:
    """Return the page."""
    if has_local_charts:
        source = f'src="dashboard/{charts.LOCAL_NAME}"'
    else:
        source = f'src="{charts.ADDRESS}" crossorigin="anonymous"'
    return Template(template).substitute(
        charts=f'{source} integrity="{charts.INTEGRITY}"', push_url=html.escape(push_url)
    )
