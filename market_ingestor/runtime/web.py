"""A small HTTP server inside our own event loop, without its own ideas about signals. SHELL."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from market_ingestor.errors import ConfigError
from market_ingestor.runtime.http import HEAD_BYTES_MAX, BoundedProtocol


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `runtime.supervisor`."""
        yield


def listen(key: str, host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes a free one.

    Args:
        key: The setting that named the port, for the error.

    Raises:
        ConfigError: The address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as problem:
        listener.close()
        raise ConfigError(key, f"cannot listen on {host}:{port}: {problem.strerror}") from problem
    listener.setblocking(False)
    return listener


class WebServer:
    """Serves one ASGI application on a socket that already listens."""

    def __init__(self, app: ASGIApp, listener: socket.socket) -> None:
        self._listener = listener
        self._server = _Server(
            uvicorn.Config(
                app,
                http=BoundedProtocol,
                ws="none",
                h11_max_incomplete_event_size=HEAD_BYTES_MAX,
                log_config=None,
                log_level="error",  # a warning per bad request would let anybody fill the log
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=2,
                server_header=False,
                # Or whoever reaches us through this machine's proxy could name any address.
                proxy_headers=False,
            )
        )

    @property
    def port(self) -> int:
        """Return the port that is listened on."""
        return int(self._listener.getsockname()[1])

    async def run(self) -> None:
        """Serve until `stop`; requests under way get two seconds."""
        try:
            await self._server.serve(sockets=[self._listener])
        except asyncio.CancelledError:
            self._server.should_exit = True
            raise
        finally:
            self._listener.close()

    def stop(self) -> None:
        """Take no new requests and return from `run` soon."""
        self._server.should_exit = True
