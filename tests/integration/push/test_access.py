"""Who may connect: tokens, origins and the number of clients."""

import pytest
import websockets.exceptions
from websockets.asyncio.client import connect

from market_ingestor.access import AccessPolicy
from tests.integration.push.harness import TOPIC, PushClient, client, gateway, market
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio


class TestAccess:
    TOKENS = AccessPolicy(tokens=("secret", "other"))

    async def test_token_in_a_header_opens(self, nats_server: NatsHandle) -> None:
        async with market(nats_server.url), gateway(nats_server.url, access=self.TOKENS) as push:
            for headers in (
                {"Authorization": "Bearer secret"},
                {"X-MBX-APIKEY": "other"},
                {"Authorization": "Basic OnNlY3JldA=="},
            ):
                async with client(push.port, additional_headers=headers) as reader:
                    assert (await reader.ask(action="ping"))["type"] == "pong"

    async def test_token_in_the_first_message_opens(self, nats_server: NatsHandle) -> None:
        async with (
            market(nats_server.url),
            gateway(nats_server.url, access=self.TOKENS) as push,
            client(push.port) as reader,
        ):
            assert (await reader.ask(token="secret"))["type"] == "authorized"
            assert (await reader.ask(action="ping"))["type"] == "pong"

    async def test_without_a_token_nothing_is_told(self, nats_server: NatsHandle) -> None:
        async with (
            market(nats_server.url),
            gateway(nats_server.url, access=self.TOKENS) as push,
            client(push.port) as reader,
        ):
            answer = await reader.ask(action="subscribe", topics=[TOPIC], id=3)
            assert answer["code"] == "unauthorized"
            with pytest.raises(websockets.exceptions.ConnectionClosed):
                await reader.receive()

    async def test_token_in_an_address_opens_nothing(self, nats_server: NatsHandle) -> None:
        async with market(nats_server.url), gateway(nats_server.url, access=self.TOKENS) as push:
            address = f"ws://127.0.0.1:{push.port}/ws?token=secret"
            async with connect(address, proxy=None) as connection:
                answer = await PushClient(connection).ask(action="list", id=1)
                assert answer["code"] == "unauthorized"

    async def test_wrong_tokens_are_refused(self, nats_server: NatsHandle) -> None:
        async with market(nats_server.url), gateway(nats_server.url, access=self.TOKENS) as push:
            with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
                async with client(push.port, additional_headers={"Authorization": "Bearer no"}):
                    pass
            assert refused.value.response.status_code == 401
            async with client(push.port) as reader:
                assert (await reader.ask(token="no"))["code"] == "unauthorized"
                with pytest.raises(websockets.exceptions.ConnectionClosed):
                    await reader.receive()

    async def test_foreign_pages_are_refused(self, nats_server: NatsHandle) -> None:
        async with market(nats_server.url), gateway(nats_server.url) as push:
            async with client(push.port, origin="http://127.0.0.1:8080") as reader:
                assert (await reader.ask(action="ping"))["type"] == "pong"
            with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
                async with client(push.port, origin="http://evil.example"):
                    pass
            assert refused.value.response.status_code == 403

    async def test_too_many_clients_are_refused(self, nats_server: NatsHandle) -> None:
        async with (
            market(nats_server.url),
            gateway(nats_server.url, max_clients=1) as push,
            client(push.port) as reader,
        ):
            with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
                async with client(push.port):
                    pass
            assert refused.value.response.status_code == 503
            assert (await reader.ask(action="ping"))["type"] == "pong"
