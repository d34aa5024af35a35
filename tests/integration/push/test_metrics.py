"""The metrics of the gateway count its clients and messages."""

import asyncio

import pytest

from market_ingestor import metrics
from market_ingestor.push import gateway as gateway_module
from tests.integration.push.harness import TOPIC, client, gateway, kline, market
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio


def value_of(name: str) -> float | None:
    """Return a metric without labels as Prometheus would read it."""
    for line in metrics.exposition().decode().splitlines():
        if line.startswith(f"{name} "):
            return float(line.split()[1])
    return None


async def test_metrics_tell_of_clients_and_messages(
    nats_server: NatsHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_module, "POLL_S", 0.05)
    prefix = "market_ingestor_push"
    sent = value_of(f"{prefix}_messages_sent_total") or 0
    async with (
        market(nats_server.url) as bus,
        gateway(nats_server.url) as push,
        client(push.port) as one,
        client(push.port) as two,
    ):
        _, writer = await asyncio.open_connection("127.0.0.1", push.tcp_port)
        for each in (one, two):
            await each.ask(action="subscribe", topics=[TOPIC])
        await bus.closed(kline(0))
        for each in (one, two):
            await each.receive()
        async with asyncio.timeout(5):
            while True:
                so_far = value_of(f"{prefix}_messages_sent_total") or 0
                if value_of(f"{prefix}_clients") == 3 and so_far >= sent + 4:
                    break
                await asyncio.sleep(0.01)
        assert value_of("ws_connections_total") == 3
        assert value_of(f"{prefix}_queue_bytes") == 0
        writer.close()
    text = metrics.exposition().decode()
    assert "# TYPE ws_connections_total untyped" in text
    assert value_of("ws_connections_total") == value_of(f"{prefix}_clients") == 0
    for kind in ("conflated", "dropped"):
        assert f"# TYPE {prefix}_messages_{kind}_total counter" in text
