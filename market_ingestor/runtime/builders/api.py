"""api: REST over tables and streams."""

from typing import Final

from market_ingestor.api.app import ApiOptions
from market_ingestor.api.control import Control
from market_ingestor.api.dashboard.page import PushAddress
from market_ingestor.api.dashboard.routes import dashboard_routes
from market_ingestor.api.lanes import CONNECTIONS
from market_ingestor.api.role import ApiRole
from market_ingestor.bus.jetstream import Bus
from market_ingestor.config import GatewaySettings, Settings
from market_ingestor.model.control import mode_of
from market_ingestor.runtime.builders.access import access_policy
from market_ingestor.runtime.health import health_routes
from market_ingestor.runtime.parts import Parts
from market_ingestor.storage.read_store import DatabaseReadStore

STATEMENT_GRACE_S: Final = 1.0  # a request is given up, and its statement cancelled, before that


async def build(parts: Parts) -> ApiRole:
    """Return the role, connected and not started."""
    settings = parts.settings
    bus = await parts.bus("api")
    database = await parts.database(
        "api",
        connections=CONNECTIONS,
        statement_timeout_s=settings.api.request_timeout_s + STATEMENT_GRACE_S,
    )
    return ApiRole(
        bus,
        DatabaseReadStore(database),
        api_options(settings),
        control=control(parts, bus),
        is_store_up=lambda: database.is_up,
        more_routes=[
            *health_routes(parts.report),
            *dashboard_routes(push_address(settings.gateway)),
        ],
    )


def control(parts: Parts, bus: Bus) -> Control:
    """Return what changes mode and symbols."""
    exchanges = parts.settings.exchanges.items()
    return Control(
        bus,
        parts.board(bus),
        mode=parts.settings.ingest.mode,
        modes={mode_of(name) for name, each in exchanges if each.enabled},
    )


def api_options(settings: Settings) -> ApiOptions:
    """Return the API's options as configured."""
    api, gateway = settings.api, settings.gateway
    return ApiOptions(
        host=api.host,
        port=api.port,
        request_timeout_s=api.request_timeout_s,
        rate_limit_rps=api.rate_limit_rps,
        access=access_policy(api, control_tokens=api.control_tokens),
        addresses={
            "push": gateway.public_url or f"ws://{gateway.host}:{gateway.port}/ws",
            "tcp": f"{gateway.host}:{gateway.tcp_port}",
        },
        exchanges=frozenset(name for name, each in settings.exchanges.items() if each.enabled),
    )


def push_address(gateway: GatewaySettings) -> PushAddress:
    """Return where the dashboard subscribes."""
    return PushAddress(public_url=gateway.public_url, port=gateway.port)
