"""What a venue's REST interface can do to the client that asks it."""

import asyncio
import socket
import struct
import threading
from collections.abc import Iterator

import httpx2
import pytest
import uvloop

from market_ingestor.connectors.rest import RestClient
from market_ingestor.connectors.venue import RestRequest

REQUESTS = 1_500  # one in some hundred is reset at the very moment that matters
RESET = struct.pack("ii", 1, 0)  # closing discards what was not sent and resets


@pytest.fixture
def resetting() -> Iterator[int]:
    """Give the port of a server that resets every connection as soon as it has it."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_connection_reset_at_once_is_an_answer_that_did_not_come(resetting: int) -> None:
    async def ask() -> None:
        client = RestClient("okx", f"http://127.0.0.1:{resetting}", requests_per_s=1e6)
        async with client:
            for _ in range(REQUESTS):
                with pytest.raises(httpx2.HTTPError):
                    await client.get(RestRequest(path="/"))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ask())
