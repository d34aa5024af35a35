"""What was read is never dropped: the bus away, the stream full, the process asked to end."""

import asyncio

import pytest

from market_ingestor.bus import streams, subjects
from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.making import ensure_streams
from market_ingestor.simulator import SimulatedVenue
from tests.integration.connectors.harness import (
    LIMITS,
    SETTINGS,
    configured,
    connected,
    ingesting,
    read_raw,
    until,
)
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio


async def test_a_killed_bus_costs_nothing(nats_server: NatsHandle) -> None:
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("okx", ["BTC-USDT"], rate=300) as venue,
        ingesting(bus, configured(venue)) as ingest,
    ):
        account = ingest.role.outbox.account("sim-okx")
        await until(lambda: account.published > 100)
        await nats_server.kill()
        before = account.received
        await until(lambda: account.received > before + 300)
        assert "NATS does not answer" in ingest.role.health().problems
        assert not ingest.role.health().is_ready
        assert account.in_flight > 200
        await nats_server.start()
        await until(lambda: account.in_flight < 50 and account.published > before + 300)
        await ingest.stop()
        assert ingest.account("sim-okx").in_flight == 0
        assert ingest.states == {}
        assert venue.stats.connections == 1
        assert (await read_raw(bus, in_order=False)).holes(("sim-okx", "BTCUSDT")) == []


async def test_a_bus_away_for_long_pauses_reading_and_then_lets_go_of_the_venue(
    nats_server: NatsHandle,
) -> None:
    settings = SETTINGS.model_copy(update={"buffer_trades": 100, "pause_max_s": 1.0})
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("okx", ["BTC-USDT"], rate=300) as venue,
        ingesting(bus, configured(venue), settings) as ingest,
    ):
        # A window of one message, so that the buffer is what fills.
        ingest.role.publisher._window.items_max = 1  # noqa: SLF001 - no test waits for 4,000
        account = ingest.role.outbox.account("sim-okx")
        await until(lambda: account.published > 20)
        await nats_server.pause()
        await until(lambda: venue.stats.connections_open == 0)
        assert account.balances
        received = account.received
        assert account.in_flight >= 50
        await asyncio.sleep(1)
        assert account.received == received  # nothing is read, nothing is dropped
        await nats_server.resume()
        await until(lambda: venue.stats.connections == 2)
        await until(lambda: ingest.states.get("filled", 0) >= 1)
        await until(lambda: ingest.states["filled"] == ingest.states["found"])
        await ingest.stop()
        assert ingest.account("sim-okx").in_flight == 0
        assert (await read_raw(bus, in_order=False)).holes(("sim-okx", "BTCUSDT")) == []


async def test_a_venue_without_history_is_paused_last(nats_server: NatsHandle) -> None:
    settings = SETTINGS.model_copy(update={"buffer_trades": 400, "pause_max_s": 0.5})
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("okx", ["BTC-USDT"], rate=100) as with_history,
        SimulatedVenue("bybit", ["BTC-USDT"], rate=100) as without,
        ingesting(bus, configured(with_history, without), settings) as ingest,
    ):
        ingest.role.publisher._window.items_max = 1  # noqa: SLF001 - no test waits for 4,000
        accounts = ingest.role.outbox.accounts
        await until(lambda: all(each.published > 20 for each in accounts.values()))
        await nats_server.pause()
        await until(lambda: with_history.stats.connections_open == 0)
        assert ingest.role.outbox.trades < 350  # half the buffer, and what came since
        before = accounts["sim-bybit"].received
        await until(lambda: accounts["sim-bybit"].received > before + 30)
        assert without.stats.connections_open == 1
        await until(lambda: without.stats.connections_open == 0)  # it is bounded nonetheless
        assert ingest.role.outbox.trades >= 400
        await nats_server.resume()
        await until(lambda: without.stats.connections == with_history.stats.connections == 2)
        await ingest.stop()
        for name in accounts:
            assert ingest.account(name).in_flight == 0


async def test_a_stream_nearly_full_holds_reading_and_loses_nothing(
    nats_server: NatsHandle,
) -> None:
    small = streams.StreamLimits(max_age_s=3_600, max_bytes=400_000, duplicate_window_s=30)
    settings = SETTINGS.model_copy(update={"pause_max_s": 0.5})
    async with (
        connected(nats_server, small) as bus,
        SimulatedVenue("okx", ["BTC-USDT"], rate=300) as venue,
        ingesting(bus, configured(venue), settings) as ingest,
    ):
        account = ingest.role.outbox.account("sim-okx")
        await until(lambda: "the raw stream is full" in ingest.role.health().problems)
        await until(lambda: venue.stats.connections_open == 0)
        assert account.balances
        assert ingest.role.publisher.refused == 0
        await widen(bus)
        before = account.published
        await until(lambda: venue.stats.connections == 2 and account.published > before + 100)
        await until(lambda: ingest.states.get("filled", 0) == ingest.states.get("found", -1))
        await ingest.stop()
        assert ingest.account("sim-okx").in_flight == 0
        assert (await read_raw(bus)).holes(("sim-okx", "BTCUSDT")) == []


async def test_what_the_server_refuses_waits_until_it_has_room(nats_server: NatsHandle) -> None:
    tiny = streams.StreamLimits(max_age_s=3_600, max_bytes=20_000, duplicate_window_s=30)
    settings = SETTINGS.model_copy(update={"pause_max_s": 1.0})
    async with (
        connected(nats_server, tiny) as bus,
        SimulatedVenue("okx", ["BTC-USDT"], rate=500) as venue,
        ingesting(bus, configured(venue), settings) as ingest,
    ):
        account = ingest.role.outbox.account("sim-okx")
        await until(lambda: ingest.role.publisher.is_held)
        assert "JetStream refuses messages" in ingest.role.health().problems
        await until(lambda: venue.stats.connections_open == 0)
        assert account.balances
        await widen(bus)
        before = account.published
        await until(lambda: venue.stats.connections == 2 and account.published > before + 100)
        await ingest.stop()
        assert ingest.account("sim-okx").in_flight == 0


async def widen(bus: Bus) -> None:
    """Make room in the raw stream."""
    config = streams.stream_config(
        subjects.RAW_STREAM, subjects.RAW_ALL, LIMITS, replicas=1, keeps_unread=True
    )
    await ensure_streams(bus, [config], update=True)


async def test_the_end_keeps_to_its_grace_with_the_bus_away(nats_server: NatsHandle) -> None:
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("okx", ["BTC-USDT"], rate=100) as venue,
        ingesting(bus, configured(venue)) as ingest,
    ):
        account = ingest.role.outbox.account("sim-okx")
        await until(lambda: account.published > 20)
        await nats_server.pause()
        await until(lambda: account.in_flight > 5)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await ingest.stop()
        assert loop.time() - began < 6
        assert ingest.account("sim-okx").in_flight > 0  # said, not hidden
        await nats_server.resume()
