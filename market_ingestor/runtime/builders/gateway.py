"""gateway: streams to push clients."""

import asyncio
from collections.abc import Callable

from market_ingestor.bus.control import ControlFollower
from market_ingestor.bus.jetstream import Bus
from market_ingestor.config import GatewaySettings
from market_ingestor.push.gateway import Gateway, GatewayOptions
from market_ingestor.runtime.builders.access import access_policy
from market_ingestor.runtime.parts import Parts
from market_ingestor.storage.read_store import kline_history


async def build(parts: Parts) -> Gateway:
    """Return the role, connected and not started."""
    bus = await parts.bus("gateway")
    return Gateway(
        bus,
        gateway_options(parts.settings.gateway),
        history=kline_history(await parts.database("gateway")),
        is_test_mode=is_test_mode(parts, bus),
    )


def is_test_mode(parts: Parts, bus: Bus) -> Callable[[], bool]:
    """Return how a role that changes nothing learns whether it is test mode."""
    follower = ControlFollower(parts.board(bus), puts_back=False)
    following = asyncio.create_task(follower.run(), name="control")
    parts.stack.callback(following.cancel)
    configured = parts.settings.ingest.mode
    return lambda: follower.mode(configured) == "test"


def gateway_options(gateway: GatewaySettings) -> GatewayOptions:
    """Return the push gateway's options as configured."""
    return GatewayOptions(
        host=gateway.host,
        port=gateway.port,
        tcp_port=gateway.tcp_port,
        send_buffer=gateway.send_buffer,
        send_buffer_bytes=gateway.send_buffer_bytes,
        ring_bytes=gateway.ring_bytes,
        max_clients=gateway.max_clients,
        max_clients_per_address=gateway.max_clients_per_address,
        limit_loopback=gateway.limit_loopback,
        access=access_policy(gateway, trusted_proxies=gateway.trusted_proxies),
    )
