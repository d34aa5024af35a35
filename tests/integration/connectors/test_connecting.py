"""Connecting again: never a storm, never without cause, and before a planned end."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, serve

from market_ingestor.bus.jetstream import Bus
from market_ingestor.config import ExchangeSettings
from market_ingestor.connectors import fleet, registry, subscriptions
from market_ingestor.connectors.binance import Binance
from market_ingestor.connectors.transport import WebSocket
from market_ingestor.simulator import SimulatedVenue
from market_ingestor.simulator.connection import Connection
from market_ingestor.simulator.faults import Fault
from tests.integration.connectors.conftest import Slammed
from tests.integration.connectors.harness import (
    SETTINGS,
    Ingest,
    configured,
    connected,
    events,
    ingesting,
    read_raw,
    until,
)
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def streaming(bus: Bus, venue: SimulatedVenue, **settings: float) -> AsyncIterator[Ingest]:
    chosen = SETTINGS.model_copy(update=settings)
    async with ingesting(bus, configured(venue), chosen) as ingest:
        account = ingest.role.outbox.account(f"sim-{venue.name}")
        await until(lambda: account.published > 10)
        yield ingest


async def test_a_connection_is_replaced_before_the_venue_ends_it(
    nats_server: NatsHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    life_s = 4.0
    limits = msgspec.structs.replace(Binance().limits, connection_life_s=life_s)
    short = Binance(limits=limits)
    monkeypatch.setattr(registry, "VENUES", {**registry.VENUES, "binance": short})
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("binance", ["BTC-USDT", "ETH-USDT"], rate=200) as venue,
    ):
        venue.front.limits = msgspec.structs.replace(venue.front.limits, life_max_s=life_s)
        async with streaming(bus, venue) as ingest:
            await until(lambda: venue.stats.connections == 3 and venue.stats.connections_open == 1)
            account = ingest.role.outbox.account("sim-binance")
            before = account.published
            await until(lambda: account.published > before + 50)
            await ingest.stop()
            assert ingest.states == {}  # nothing was ever missing
            raw = await read_raw(bus)
            reasons = [event.detail for event in await events(bus) if event.type == "feed_down"]
    for key in raw.keys:
        assert raw.holes(key) == []
    assert [each.partition(": ")[2] for each in reasons[:2]] == [
        "replaced by the next connection"
    ] * 2  # and not cut by the venue


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.xdist_group("minute")
async def test_a_server_that_accepts_and_closes_is_not_stormed(slammed: Slammed) -> None:
    await until(slammed.is_over, 90)
    await asyncio.to_thread(slammed.end)  # its jitter would disturb tests that mind random numbers
    for exchange in slammed.times:
        times = slammed.first_minute(exchange)
        assert 4 <= len(times) < 10, (exchange, times)  # half of 1, 2, 4 .. seconds apart, or all
        waits = [later - sooner for sooner, later in itertools.pairwise(times)]
        assert all(wait >= 2**n / 2 for n, wait in enumerate(waits)), (exchange, waits)


@pytest.mark.parametrize(
    ("said_s", "documented_s"),
    [(2, 60), (None, 2)],
    ids=["as the answer says", "as the documents say"],
)
async def test_a_refused_handshake_is_tried_again_when_the_venue_said(
    nats_server: NatsHandle,
    monkeypatch: pytest.MonkeyPatch,
    said_s: int | None,
    documented_s: int,
) -> None:
    limits = msgspec.structs.replace(Binance().limits, bans_s={429: documented_s})
    monkeypatch.setattr(registry, "VENUES", {**registry.VENUES, "binance": Binance(limits=limits)})
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("binance", ["BTC-USDT"], rate=50) as venue,
        streaming(bus, venue) as ingest,
    ):
        venue.inject(Fault(fault="refuse", status=429, retry_after_s=said_s, duration_s=1))
        venue.inject(Fault(fault="abort"))
        cut_at = time.monotonic()
        await until(lambda: venue.stats.connections == 2)
        assert 2 <= time.monotonic() - cut_at < 10
        await until(lambda: ingest.states.get("filled") == 1)


async def test_a_warning_brings_the_next_connection_before_the_end(
    nats_server: NatsHandle,
) -> None:
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("okx", rate=200) as venue,
        streaming(bus, venue) as ingest,
    ):
        venue.inject(Fault(fault="notice", delay_s=5))
        await until(lambda: venue.stats.connections == 2 and venue.stats.connections_open == 1)
        account = ingest.role.outbox.account("sim-okx")
        before = account.published
        await until(lambda: account.published > before + 100)
        await ingest.stop()
        assert ingest.states == {}  # nothing was ever missing
        raw = await read_raw(bus)
        kinds = [event.type for event in await events(bus)]
    for key in raw.keys:
        assert raw.holes(key) == []
    assert kinds == ["feed_up", "feed_up", "feed_down", "feed_down"]


async def test_a_successor_that_ends_at_once_does_not_take_its_predecessor_along(
    nats_server: NatsHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Connection] = []
    read, close = SimulatedVenue._read, WebSocket.close  # noqa: SLF001 - no fault cuts the second alone

    async def cut_the_second(venue: SimulatedVenue, connection: Connection) -> None:
        opened.append(connection)
        if len(opened) == 2:
            connection.abort()
        await read(venue, connection)

    async def close_slowly(socket: WebSocket) -> None:
        await asyncio.sleep(0.3)  # for an answer that does not come
        await close(socket)

    monkeypatch.setattr(SimulatedVenue, "_read", cut_the_second)
    monkeypatch.setattr(WebSocket, "close", close_slowly)
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("okx", ["BTC-USDT"], rate=200) as venue,
        streaming(bus, venue) as ingest,
    ):
        venue.inject(Fault(fault="notice", delay_s=10))
        await until(lambda: venue.stats.connections == 3 and venue.stats.connections_open == 1)
        account = ingest.role.outbox.account("sim-okx")
        before = account.published
        await until(lambda: account.published > before + 50)
        await ingest.stop()
        assert ingest.states == {}
        assert (await read_raw(bus)).holes(("sim-okx", "BTCUSDT")) == []


async def test_a_silent_connection_is_cut_and_replaced(nats_server: NatsHandle) -> None:
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("okx", rate=50) as venue,
        streaming(bus, venue, read_timeout_s=1.5) as ingest,
    ):
        venue.inject(Fault(fault="half_open", duration_s=60))
        await until(lambda: venue.stats.connections == 2)
        await until(lambda: ingest.states.get("found", 0) > 0)
        await until(lambda: ingest.states.get("filled") == ingest.states["found"])
        await ingest.stop()
        assert ingest.account("sim-okx").in_flight == 0
        reasons = [event.detail for event in await events(bus) if event.type == "feed_down"]
    assert "silent for" in reasons[0]


async def test_one_symbol_the_venue_dropped_goes_and_comes_back_alone(
    nats_server: NatsHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "AGAIN_FIRST_S", 1.0)
    monkeypatch.setattr(subscriptions, "AGAIN_PAUSE_S", 0.1)
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("bybit", ["BTC-USDT", "ETH-USDT", "SOL-USDT"], rate=50) as venue,
        streaming(bus, venue) as ingest,
    ):
        # Its next subscription of the three is refused as a whole.
        venue.inject(Fault(fault="delist", symbol="ETHUSDT"))
        venue.inject(Fault(fault="abort"))
        await until(lambda: venue.stats.connections == 2)
        await until(lambda: any("ETHUSDT" in each for each in ingest.role.health().problems))
        account = ingest.role.outbox.account("sim-bybit")
        before = account.published
        await until(lambda: account.published > before + 50)
        assert venue.stats.connections == 2
        assert ingest.role.health().problems == ("sim-bybit: refused: ETHUSDT",)
        venue.inject(Fault(fault="relist", symbol="ETHUSDT"))
        await until(lambda: ingest.role.health().problems == ())
        before = account.published
        await until(lambda: account.published > before + 50)
        assert venue.stats.connections == 2  # on the same connection
        await ingest.stop()
        raw = await read_raw(bus)
    second = raw.batches[-1].feed
    marks = [set(mark.symbols) for mark in raw.marks if mark.feed == second]
    assert {"BTCUSDT", "SOLUSDT"} in marks
    assert marks[-1] == {"BTCUSDT", "ETHUSDT", "SOLUSDT"}
    assert "ETHUSDT" in {batch.symbol for batch in raw.batches if batch.feed == second}


async def test_a_symbol_listed_later_is_subscribed_by_itself(
    nats_server: NatsHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "UNKNOWN_FIRST_S", 0.5)
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("binance", ["BTC-USDT", "ETH-USDT"], rate=100) as venue,
    ):
        exchanges = configured(venue)
        venue.inject(Fault(fault="delist", symbol="ETHUSDT"))
        async with ingesting(bus, exchanges) as ingest:
            await until(lambda: ingest.role.outbox.account("sim-binance").published > 20)
            assert ingest.role.health().problems == ("sim-binance: not listed: ETHUSDT",)
            venue.inject(Fault(fault="relist", symbol="ETHUSDT"))
            await until(lambda: ingest.role.fleets[0].symbols == ["BTCUSDT", "ETHUSDT"])
            account = ingest.role.outbox.account("sim-binance")
            before = account.published
            await until(lambda: account.published > before + 100)
            assert ingest.role.health().problems == ()
            assert "ETHUSDT" in {batch.symbol for batch in (await read_raw(bus)).batches}
            # It vanishes from the list, but for all we know its trades go on.
            venue.inject(Fault(fault="delist", symbol="ETHUSDT"))
            running = ingest.role.fleets[0]
            running._table = await running._load()  # noqa: SLF001 - or wait for an hour
            running.apply(["BTCUSDT", "ETHUSDT"])
            assert ingest.role.health().problems == ("sim-binance: not listed: ETHUSDT",)
            assert ingest.role.fleets[0].symbols == ["BTCUSDT", "ETHUSDT"]


async def test_an_exchange_without_instruments_does_not_hold_up_the_others(
    nats_server: NatsHandle,
) -> None:
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("okx", ["BTC-USDT"], rate=50) as well,
        SimulatedVenue("kraken", ["BTC-USD"], rate=50) as ill,
    ):
        ill.inject(Fault(fault="rest_error", status=503, duration_s=0))
        async with ingesting(bus, configured(well, ill)) as ingest:
            accounts = ingest.role.outbox.accounts
            await until(lambda: accounts["sim-okx"].published > 20)
            assert accounts["sim-kraken"].published == 0
            assert ingest.role.health().is_ready
            await until(lambda: ill.stats.rest_requests > 1)  # again and again
            (problem,) = ingest.role.health().problems
            assert problem.startswith("sim-kraken: instruments not loaded yet: ")
            assert "EService" in problem  # what the venue said
            ill.inject(Fault(fault="rest_error", status=503, duration_s=0.01))
            await until(lambda: accounts["sim-kraken"].published > 20)


async def test_a_symbol_that_is_not_listed_is_named_and_the_rest_runs(
    nats_server: NatsHandle,
) -> None:
    async with connected(nats_server) as bus, SimulatedVenue("okx", ["BTC-USDT"]) as venue:
        exchanges = {
            "sim-okx": ExchangeSettings(
                symbols=("BTCUSDT", "NOSUCH"), ws_url=venue.ws_url, rest_url=venue.rest_url
            )
        }
        async with ingesting(bus, exchanges) as ingest:
            await until(lambda: ingest.role.fleets[0].is_up)
            assert ingest.role.health().problems == ("sim-okx: not listed: NOSUCH",)


async def test_a_frame_beyond_the_bound_costs_one_counter_and_the_connection(
    nats_server: NatsHandle,
) -> None:
    async def flood(socket: ServerConnection) -> None:
        await socket.send(b"x" * (2 << 20))
        await socket.wait_closed()

    async with (
        connected(nats_server) as bus,
        SimulatedVenue("okx", ["BTC-USDT"]) as venue,
        serve(flood, "127.0.0.1", 0, compression=None) as server,
    ):
        port = server.sockets[0].getsockname()[1]
        exchanges = {
            "sim-okx": ExchangeSettings(
                symbols=("BTCUSDT",), ws_url=f"ws://127.0.0.1:{port}", rest_url=venue.rest_url
            )
        }
        async with ingesting(bus, exchanges) as ingest:
            account = ingest.role.outbox.account("sim-okx")
            await until(lambda: account.rejected["bad_type"] == 1)
            assert account.balances


async def test_one_symbol_that_falls_silent_alone_is_subscribed_again(
    nats_server: NatsHandle,
) -> None:
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("coinbase", ["BTC-USD", "ETH-USD"], rate=200) as venue,
        streaming(bus, venue, read_timeout_s=2) as ingest,
    ):
        account = ingest.role.outbox.account("sim-coinbase")
        await until(lambda: account.published > 200)
        (connection,) = venue._hub.connections  # noqa: SLF001 - no fault mutes one symbol of a socket
        connection.muted.add(0)
        await until(lambda: venue.stats.connections == 2)
        await until(lambda: venue.stats.connections_open == 1)
        before = account.published
        await until(lambda: account.published > before + 200)
        await asyncio.sleep(3)  # the next silence would be due
        assert venue.stats.connections == 2
        assert ingest.role.health().problems == ()
        await ingest.stop()
        raw = await read_raw(bus)
        kinds = [event.type for event in await events(bus)]
    assert kinds.count("feed_stale") == 1
    for key in raw.keys:
        assert raw.holes(key) == []


async def test_what_one_of_two_sockets_loses_the_other_has(nats_server: NatsHandle) -> None:
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("binance", ["BTC-USDT", "ETH-USDT"], rate=200) as venue,
    ):
        exchanges = {
            name: each.model_copy(update={"sockets": 2}) for name, each in configured(venue).items()
        }
        async with ingesting(bus, exchanges) as ingest:
            account = ingest.role.outbox.account("sim-binance")
            (fleet,) = ingest.role.fleets
            await until(lambda: fleet.details()["connections"] == 2 and account.published > 100)
            venue.inject(Fault(fault="gap", count=20, sockets="one"))
            venue.inject(Fault(fault="abort", sockets="one"))
            await until(lambda: venue.stats.connections == 3)
            assert fleet.is_up
            before = account.published
            await until(lambda: account.published > before + 200)
            await ingest.stop()
            assert ingest.states == {}  # the venue's history was not needed
            assert ingest.account("sim-binance").in_flight == 0
        raw = await read_raw(bus)
    for key in raw.keys:
        assert raw.holes(key) == []
        assert len(raw.ids(key)) > len(set(raw.ids(key)))
