"""What a feed loses is seen by its ids and fetched from the venue's history, or said to be lost."""

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from market_ingestor.bus import codec, subjects
from market_ingestor.bus.jetstream import Bus
from market_ingestor.connectors import gap_news, history, intake, refill, registry
from market_ingestor.connectors.absences import Absences
from market_ingestor.connectors.history import KnownTrade
from market_ingestor.connectors.kraken import Kraken
from market_ingestor.model.event import EventType, MarketEvent
from market_ingestor.model.trade import TextTrade, TradeBatch
from market_ingestor.simulator import SimulatedVenue
from market_ingestor.simulator import kraken as simulated_kraken
from market_ingestor.simulator.faults import Fault
from market_ingestor.simulator.markets import VENUES, default_symbols
from market_ingestor.simulator.truth import TruthLog
from tests.integration.connectors.harness import (
    POLL_S,
    SETTINGS,
    WAIT_S,
    Ingest,
    configured,
    connected,
    events,
    ingesting,
    proved,
    read_raw,
    stored,
    truth,
    until,
    until_whole,
)
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio

SYMBOLS = 3  # each costs a walk, and venues answer no more than one to ten requests a second


def is_old(trade: TextTrade, batch: TradeBatch[str]) -> bool:
    """Return whether a trade was more than five seconds old when it was read."""
    return batch.received_us - trade.time_us > 5_000_000


def is_filled(ingest: Ingest, holes: int) -> bool:
    return ingest.states.get("filled") == holes


async def gap_events(bus: Bus) -> list[MarketEvent]:
    return [event for event in await events(bus) if event.type.startswith("gap_")]


@contextlib.asynccontextmanager
async def venues(log: TruthLog, rate: float) -> AsyncIterator[list[SimulatedVenue]]:
    """Run every venue; their waits then overlap."""
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                SimulatedVenue(name, default_symbols(name)[:SYMBOLS], rate=rate, truth=log)
            )
            for name in VENUES
        ]


async def until_published(ingest: Ingest, trades: int) -> None:
    """Wait until so many more trades of every venue are published."""
    accounts = ingest.role.outbox.accounts
    enough = {name: accounts[name].published + trades for name in accounts}
    await until(lambda: all(accounts[name].published > count for name, count in enough.items()))


async def until_told(bus: Bus, kind: EventType, of: MarketEvent) -> None:
    """Return when an event of this kind names the hole of another event."""
    async with asyncio.timeout(WAIT_S):
        while True:
            told = [(each.type, each.after_id, each.before_id) for each in await gap_events(bus)]
            if (kind, of.after_id, of.before_id) in told:
                return
            await asyncio.sleep(POLL_S)


async def test_a_cut_connection_is_opened_again_and_its_hole_refilled(
    nats_server: NatsHandle, tmp_path: Path
) -> None:
    with truth(tmp_path) as (log, made):
        async with (
            connected(nats_server) as bus,
            venues(log, rate=20) as running,  # for the 60 rows that are all one venue's history
            ingesting(bus, configured(*running)) as ingest,
        ):
            await until_published(ingest, 10)
            for venue in running:
                venue.inject(Fault(fault="abort"))
            await until(lambda: all(each.stats.connections_open == 0 for each in running))
            await until(lambda: all(fleet.is_up for fleet in ingest.role.fleets))
            await until_published(ingest, 40)
            await until(lambda: ingest.states.get("filled") == ingest.states.get("found"))
            await ingest.stop()
            raw = await read_raw(bus)
            gaps = await gap_events(bus)
        for key in raw.keys:
            assert raw.holes(key) == []
            assert set(raw.ids(key)) <= made()[key]
        for name in VENUES:
            exchange = f"sim-{name}"
            assert ingest.account(exchange).in_flight == 0
            kinds = {event.type for event in gaps if event.exchange == exchange}
            # One venue's new subscription begins with the last 50 trades: no hole to refill.
            assert kinds == (set() if name == "kraken" else {"gap_found", "gap_filled"})
            sources = {batch.source for batch in raw.batches if batch.exchange == exchange}
            assert ("rest" in sources) == bool(kinds)
        assert {mark.feed for mark in raw.marks if mark.end} == {each.feed for each in raw.batches}


async def test_what_the_socket_skipped_is_refilled_next_to_its_neighbours(
    nats_server: NatsHandle,
) -> None:
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("binance", ["BTC-USDT"], rate=100) as venue,
        ingesting(bus, configured(venue)) as ingest,
    ):
        account = ingest.role.outbox.account("sim-binance")
        await until(lambda: account.published > 20)
        venue.inject(Fault(fault="gap", count=7))
        await until(lambda: ingest.states.get("filled") == 1)
        await ingest.stop()
        raw = await read_raw(bus)
        found, filled = await gap_events(bus)
    assert (found.type, found.missing, filled.type) == ("gap_found", 7, "gap_filled")
    assert (found.after_id, found.before_id) == (filled.after_id, filled.before_id)
    assert found.from_time is not None
    assert found.to_time is not None
    assert found.from_time <= found.to_time
    (refill,) = [batch for batch in raw.batches if batch.source == "rest"]
    assert refill.prev_id == found.after_id
    assert refill.trades[-1].id == found.before_id
    assert len(refill.trades) == 8


async def test_ids_that_the_venue_does_not_list_are_proved_absent(nats_server: NatsHandle) -> None:
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("okx", ["BTC-USDT"], rate=100) as venue,
        ingesting(bus, configured(venue)) as ingest,
    ):
        account = ingest.role.outbox.account("sim-okx")
        await until(lambda: account.published > 20)
        venue.inject(Fault(fault="gap", count=5, rest="gone"))
        await until(lambda: ingest.states.get("filled") == 1)
        requests = venue.stats.rest_requests
        before = account.published
        await until(lambda: account.published > before + 50)  # many looks at the ids
        assert venue.stats.rest_requests == requests  # absent once, never asked again
        await ingest.stop()
        raw = await read_raw(bus)
    (refill,) = [batch for batch in raw.batches if batch.source == "rest"]
    assert len(proved(refill)) == 7
    assert raw.holes(("sim-okx", "BTCUSDT")) == []


async def test_a_symbol_whose_ids_have_holes_by_nature_is_asked_about_no_more(
    nats_server: NatsHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "Absences", lambda: Absences(holes_max=2))
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("binance", ["BTC-USDT"], rate=200) as venue,
        ingesting(bus, configured(venue)) as ingest,
    ):
        account = ingest.role.outbox.account("sim-binance")
        await until(lambda: account.published > 20)
        for number in range(1, 4):
            venue.inject(Fault(fault="gap", rest="gone"))
            await until(functools.partial(is_filled, ingest, number))
        requests = venue.stats.rest_requests
        venue.inject(Fault(fault="gap", count=5, rest="gone"))
        before = account.published
        await until(lambda: account.published > before + 100)
        assert venue.stats.rest_requests == requests
        await ingest.stop()
        told = await gap_events(bus)
        raw = await read_raw(bus, has_prev_ids=None)
    assert [event.type for event in told].count("gap_found") == 3
    (last,) = [event for event in told if event.type == "gap_unfillable"]
    assert last.missing is None
    assert "by nature" in last.detail
    live = [batch for batch in raw.batches if batch.source == "ws"]
    has_prev_id = [batch.prev_id is not None for batch in live[1:]]
    assert has_prev_id[0]
    assert not has_prev_id[-1]  # readers are told that from then on ids prove nothing
    assert has_prev_id == sorted(has_prev_id, reverse=True)


async def test_what_the_venue_no_longer_has_is_said_to_be_lost_and_asked_for_once(
    nats_server: NatsHandle,
) -> None:
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("bybit", ["BTC-USDT"], rate=200) as venue,
    ):
        async with ingesting(bus, configured(venue)) as ingest:
            account = ingest.role.outbox.account("sim-bybit")
            await until(lambda: account.published > 20)
            venue.inject(Fault(fault="gap", count=200))  # its history ends after 60 trades
            await until(lambda: ingest.states.get("unfillable") == 1)
            await ingest.stop()
        raw = await read_raw(bus)
        found, lost = await gap_events(bus)
        async with ingesting(bus, configured(venue)) as ingest:
            refiller = ingest.role.fleets[0].refiller
            # What happened between the two is a hole of its own.
            await until(lambda: refiller.states["found"] > 0 and not refiller.open_holes)
            await ingest.stop()
        later = (await gap_events(bus))[2:]
    assert (found.type, found.missing) == ("gap_found", 200)
    assert lost.type == "gap_unfillable"
    assert (lost.after_id, lost.before_id) == (found.after_id, found.before_id)
    assert lost.missing == len(raw.holes(("sim-bybit", "BTCUSDT")))
    assert 100 < lost.missing <= 200
    assert all(int(each.after_id or 0) >= int(lost.before_id or 0) for each in later)


async def test_a_clock_that_jumps_makes_no_trade_absent(
    nats_server: NatsHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurried = Kraken(limits=msgspec.structs.replace(Kraken().limits, rest_requests_per_s=5))
    monkeypatch.setattr(registry, "VENUES", {**registry.VENUES, "kraken": hurried})
    monkeypatch.setattr(simulated_kraken, "_REQUESTS", 30)  # and it lets us be
    with truth(tmp_path) as (log, made):
        async with (
            connected(nats_server) as bus,
            SimulatedVenue("kraken", ["BTC-USD"], rate=300, truth=log) as venue,
            ingesting(bus, configured(venue)) as ingest,
        ):
            account = ingest.role.outbox.account("sim-kraken")
            await until(lambda: account.published > 50)
            # Too far ahead for a socket; and its history lists them where they do not belong.
            before = venue.stats.trades_made
            venue.inject(Fault(fault="rest_error", status=503, duration_s=3.0))
            venue.inject(Fault(fault="skew", skew_s=8.0, duration_s=0.2))
            await until(lambda: account.rejected["too_far_ahead"] > 20)
            venue.set_rate(600)  # a page of history then ends before the time they have
            await until(lambda: venue.stats.trades_made > before + 1_500)
            venue.inject(Fault(fault="gap", count=5, rest="gone"))  # these do not exist
            await until(lambda: ingest.states.get("found", 0) >= 2)
            await until(lambda: ingest.states.get("filled") == ingest.states["found"])
            await ingest.stop()
            assert ingest.account("sim-kraken").in_flight == 0
            raw = await read_raw(bus)
        ids = set(raw.ids(("sim-kraken", "BTCUSD")))
        seen = range(min(ids), max(ids))
        missing = {each for each in made()["sim-kraken", "BTCUSD"] if each in seen} - ids
        assert raw.holes(("sim-kraken", "BTCUSD")) == []
    assert len(missing) == 5


async def test_history_that_is_late_is_asked_for_again(nats_server: NatsHandle) -> None:
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("coinbase", ["BTC-USD"], rate=100) as venue,
        ingesting(bus, configured(venue)) as ingest,
    ):
        account = ingest.role.outbox.account("sim-coinbase")
        await until(lambda: account.published > 20)
        venue.inject(Fault(fault="rest_delay", delay_s=2.0, duration_s=0))
        venue.inject(Fault(fault="gap", count=5))
        await until(lambda: ingest.states.get("filled") == 1)
        assert ingest.states.get("unfillable") is None
        await ingest.stop()
        assert (await read_raw(bus)).holes(("sim-coinbase", "BTCUSD")) == []


@pytest.mark.parametrize("status", [500, 429, 418])
async def test_a_refill_survives_errors_and_bans(nats_server: NatsHandle, status: int) -> None:
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("binance", ["BTC-USDT"], rate=100) as venue,
        ingesting(bus, configured(venue)) as ingest,
    ):
        account = ingest.role.outbox.account("sim-binance")
        await until(lambda: account.published > 20)
        venue.inject(Fault(fault="rest_error", status=status, retry_after_s=1, duration_s=1.5))
        venue.inject(Fault(fault="gap", count=5))
        await until(lambda: ingest.states.get("filled") == 1)
        await ingest.stop()
        assert (await read_raw(bus)).holes(("sim-binance", "BTCUSDT")) == []


@pytest.mark.parametrize("name", ["binance", "coinbase"])  # which answer with 400 and with 404
async def test_refused_history_of_some_symbols_holds_up_no_other(
    nats_server: NatsHandle, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(refill, "REFUSED_WAIT_S", 0.1)
    symbols = default_symbols(name)[:6]
    async with (
        connected(nats_server) as bus,
        SimulatedVenue(name, symbols, rate=200) as venue,
        ingesting(bus, configured(venue)) as ingest,
    ):
        account = ingest.role.outbox.account(f"sim-{name}")
        (fleet,) = ingest.role.fleets
        await until(lambda: account.published > 200)
        first, *others = venue.symbols
        venue.inject(Fault(fault="rest_error", status=500, duration_s=0))
        venue.inject(Fault(fault="gap", count=3, symbol=first))
        await until(lambda: ingest.states.get("found", 0) > 0)
        for symbol in others:  # newer holes, which are tried first
            venue.inject(Fault(fault="gap", count=3, symbol=symbol))
        await until(lambda: ingest.states.get("found", 0) >= len(symbols))
        for symbol in others:
            venue.inject(Fault(fault="delist", symbol=symbol))
        venue.inject(Fault(fault="rest_error", status=500, duration_s=0.01))
        await until(lambda: fleet.refiller.states["filled"] > 0)
        await ingest.stop()
        filled = [event.symbol for event in await gap_events(bus) if event.type == "gap_filled"]
        assert set(filled) == {first}
        assert ingest.states.get("unfillable") is None  # they may be listed again


async def test_age_counts_for_live_trades_and_not_for_refilled_ones(
    nats_server: NatsHandle,
) -> None:
    settings = SETTINGS.model_copy(update={"max_trade_age_s": 2.0})
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("binance", ["BTC-USDT"], rate=100) as venue,
        ingesting(bus, configured(venue), settings) as ingest,
    ):
        account = ingest.role.outbox.account("sim-binance")
        await until(lambda: account.published > 20)
        venue.inject(Fault(fault="skew", skew_s=-10.0, duration_s=0.2))
        await until(lambda: account.rejected["too_old"] > 5)
        await until(lambda: ingest.states.get("found", 0) > 0)
        await until(lambda: ingest.states.get("filled") == ingest.states["found"])
        await ingest.stop()
        raw = await read_raw(bus)
    assert account.rejected.keys() == {"too_old"}
    assert raw.holes(("sim-binance", "BTCUSDT")) == []
    old = {
        batch.source: {trade.id for trade in batch.trades if is_old(trade, batch)}
        for batch in raw.batches
    }
    assert len(old["rest"]) == account.rejected["too_old"]
    assert not old["ws"]


async def test_after_a_death_the_hole_up_to_the_first_live_id_is_refilled(
    nats_server: NatsHandle, tmp_path: Path
) -> None:
    with truth(tmp_path) as (log, made):
        async with connected(nats_server) as bus, venues(log, rate=60) as running:
            async with ingesting(bus, configured(*running)) as ingest:
                await until_published(ingest, 100)
                await ingest.kill()
            dead_at = [venue.stats.trades_made for venue in running]
            for venue in running:
                venue.set_rate(300)  # more than the 50 trades of one venue's snapshot
            await until(
                lambda: all(
                    venue.stats.trades_made > before + 100 * SYMBOLS
                    for venue, before in zip(running, dead_at, strict=True)
                )
            )
            for venue in running:
                venue.set_rate(60)
            async with ingesting(bus, configured(*running)) as ingest:
                await until_published(ingest, 200)
                await until(
                    lambda: all(fleet.refiller.states["found"] for fleet in ingest.role.fleets)
                )
                await until(
                    lambda: not any(each.refiller.open_holes for each in ingest.role.fleets)
                )
                await until_whole(bus, {f"sim-{name}" for name in VENUES} - {"sim-bybit"})
                await ingest.stop()
                for name in VENUES:
                    assert ingest.account(f"sim-{name}").in_flight == 0
            raw = await read_raw(bus)
            lost = [event for event in await gap_events(bus) if event.type == "gap_unfillable"]
        for key in raw.keys:
            assert set(raw.ids(key)) <= made()[key]
            said = {
                each
                for event in lost
                if (event.exchange, event.symbol) == key
                for each in range(int(event.after_id or 0) + 1, int(event.before_id or 0))
            }
            assert set(raw.holes(key)) <= said
        assert {event.exchange for event in lost} == {"sim-bybit"}  # which keeps 60 trades


async def test_what_the_bus_and_then_the_process_lost_below_the_newest_id_is_refilled(
    nats_server: NatsHandle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = ("sim-okx", "BTCUSDT")
    with truth(tmp_path) as (log, made):
        async with (
            connected(nats_server) as bus,
            SimulatedVenue("okx", ["BTC-USDT"], rate=300, truth=log) as venue,
        ):
            async with ingesting(bus, configured(venue)) as ingest:
                account, publisher = ingest.role.outbox.account("sim-okx"), ingest.role.publisher
                await until(lambda: account.published > 50)
                # The process will die before it sends again what the server did not take.
                monkeypatch.setattr(publisher._window, "deadline_s", 60.0)  # noqa: SLF001 - as said
                monkeypatch.setattr(publisher._window, "everything", lambda _now: [])  # noqa: SLF001 - as said
                await nats_server.pause()
                in_flight = publisher.in_flight
                await until(lambda: publisher.in_flight > in_flight + 5)  # sent, and read by nobody
                await nats_server.kill()
                await nats_server.start()
                before = account.published
                await until(lambda: account.published > before)
                await ingest.kill()
            assert (await stored(bus)).holes(key)  # newer trades are there
            async with ingesting(bus, configured(venue)) as ingest:
                await until_whole(bus)
                await ingest.stop()
            ids = set((await stored(bus)).ids(key))
        assert ids == {each for each in made()[key] if min(ids) <= each <= max(ids)}


async def test_a_hole_whose_refill_outlived_its_finder_is_settled_under_its_name(
    nats_server: NatsHandle,
) -> None:
    async with connected(nats_server) as bus, SimulatedVenue("okx", rate=60) as venue:
        async with ingesting(bus, configured(venue)) as ingest:
            account = ingest.role.outbox.account("sim-okx")
            await until(lambda: account.published > 100)
            await ingest.kill()
        key = ("sim-okx", "BTCUSDT")
        ids = (await read_raw(bus)).ids(key)
        found = MarketEvent(
            v=1, exchange=key[0], symbol=key[1], type="gap_found", time_us=0,
            after_id=str(min(ids)), before_id=str(max(ids)), missing=3,
            from_time=0, to_time=0, detail="its refill was published, and then its finder died",
        )  # fmt: skip
        await bus.client.request(subjects.event(*key), codec.encode(found), timeout=5)
        async with ingesting(bus, configured(venue)):
            await until_told(bus, "gap_filled", found)


async def test_a_hole_that_its_finder_left_behind_is_settled_by_who_lives(
    nats_server: NatsHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gap_news, "LOOK_S", 0.2)
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("okx", rate=60) as venue,
        ingesting(bus, configured(venue)) as ingest,
    ):
        account = ingest.role.outbox.account("sim-okx")
        await until(lambda: account.published > 100)
        key = ("sim-okx", "BTCUSDT")
        ids = (await stored(bus)).ids(key)
        found = MarketEvent(
            v=1, exchange=key[0], symbol=key[1], type="gap_found", time_us=0,
            after_id=str(min(ids)), before_id=str(max(ids)), missing=3,
            from_time=0, to_time=0, detail="another process has found it, and is dead",
        )  # fmt: skip
        await bus.client.request(subjects.event(*key), codec.encode(found), timeout=5)
        await until_told(bus, "gap_filled", found)
        await ingest.stop()


async def test_two_processes_side_by_side_store_every_trade_at_least_once(
    nats_server: NatsHandle,
) -> None:
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("kraken", ["BTC-USD"], rate=100) as venue,
        ingesting(bus, configured(venue)) as one,
        ingesting(bus, configured(venue)) as other,
    ):
        accounts = [each.role.outbox.account("sim-kraken") for each in (one, other)]
        await until(lambda: all(account.published > 50 for account in accounts))
        venue.inject(Fault(fault="gap", count=20, sockets="one"))  # the other socket has them
        await until(lambda: any(each.states.get("filled") for each in (one, other)))
        await one.stop()
        await other.stop()
        raw = await read_raw(bus)
    assert raw.holes(("sim-kraken", "BTCUSD")) == []
    assert len({batch.feed.partition("-")[0] for batch in raw.batches}) == 2


async def test_an_absence_longer_than_the_scan_is_refilled(
    nats_server: NatsHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "RESUME_SCAN", timedelta(seconds=0.5))
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("binance", ["BTC-USDT"], rate=100) as venue,
    ):
        async with ingesting(bus, configured(venue)) as ingest:
            account = ingest.role.outbox.account("sim-binance")
            await until(lambda: account.published > 50)
            await ingest.kill()
        await asyncio.sleep(1.5)
        async with ingesting(bus, configured(venue)) as ingest:
            await until(lambda: ingest.states.get("filled", 0) > 0)
            await ingest.stop()
        assert (await read_raw(bus)).holes(("sim-binance", "BTCUSDT")) == []


async def test_the_newest_ids_are_read_back_first(
    nats_server: NatsHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "STAGES", (timedelta(seconds=0.5), history.RESUME_SCAN))
    async with connected(nats_server) as bus:
        async with (
            SimulatedVenue("okx", ["BTC-USDT"], rate=100) as venue,
            ingesting(bus, configured(venue)) as ingest,
        ):
            account = ingest.role.outbox.account("sim-okx")
            await until(lambda: account.published > 200)
            await ingest.stop()
        ids = (await stored(bus)).ids(("sim-okx", "BTCUSDT"))
        stages = [
            list(read["BTCUSDT"].intervals)
            async for read in history.read_back(bus, "sim-okx", ["BTCUSDT"])
        ]
    assert stages[-1] == [(min(ids), max(ids))]
    ((first, last),) = stages[0]
    assert min(ids) < first < last == max(ids)


async def test_where_the_stream_holds_nothing_the_saved_ids_count(
    nats_server: NatsHandle, tmp_path: Path
) -> None:
    asked: list[tuple[str, str]] = []

    async def known_ids(exchange: str, symbol: str) -> KnownTrade | None:
        asked.append((exchange, symbol))
        if symbol != "BTCUSDT":
            raise OSError("no database")
        return KnownTrade(id=first, time_us=time.time_ns() // 1000)

    with truth(tmp_path) as (log, made):
        async with (
            connected(nats_server) as bus,
            SimulatedVenue("okx", ["BTC-USDT", "ETH-USDT"], rate=200, truth=log) as venue,
        ):
            await until(lambda: venue.stats.trades_made > 100)
            first = min(made()["sim-okx", "BTCUSDT"])
            async with ingesting(bus, configured(venue), known_ids=known_ids) as ingest:
                account = ingest.role.outbox.account("sim-okx")
                await until(lambda: account.published > 100)
                await until(lambda: ingest.states.get("filled", 0) > 0)
                await ingest.stop()
            ids = set((await read_raw(bus)).ids(("sim-okx", "BTCUSDT")))
    assert set(asked) == {("sim-okx", "BTCUSDT"), ("sim-okx", "ETHUSDT")}
    assert min(ids) == first + 1
    assert ids == set(range(first + 1, max(ids) + 1))


@pytest.mark.parametrize("is_killed", [False, True], ids=["cut", "killed"])
async def test_a_loss_at_the_end_of_a_tape_is_found_without_a_trade_behind_it(
    nats_server: NatsHandle, tmp_path: Path, *, is_killed: bool
) -> None:
    with truth(tmp_path) as (log, made):
        async with connected(nats_server) as bus, venues(log, rate=100) as running:
            async with ingesting(bus, configured(*running)) as ingest:
                await until_published(ingest, 30)
                if is_killed:
                    await ingest.kill()
                before = [venue.stats.trades_made for venue in running]
                for venue in running:
                    venue.inject(Fault(fault="hold", duration_s=0))
                await until(
                    lambda: all(
                        venue.stats.trades_made > count + 50
                        for venue, count in zip(running, before, strict=True)
                    )
                )
                for venue in running:
                    venue.set_rate(0)
                    venue.inject(Fault(fault="abort"))
                if not is_killed:
                    await until(lambda: all(whole(venue, ingest) for venue in running))
                    await ingest.stop()
            if is_killed:
                async with ingesting(bus, configured(*running)) as ingest:
                    await until(lambda: all(whole(venue, ingest) for venue in running))
                    await ingest.stop()
            raw = await read_raw(bus)
        for key in raw.keys:
            ids = set(raw.ids(key))
            assert {each for each in made()[key] if each >= min(ids)} <= ids


def whole(venue: SimulatedVenue, ingest: Ingest) -> bool:
    """Return whether every symbol that was ever seen is known up to its newest trade."""
    (fleet,) = [each for each in ingest.role.fleets if each.context.venue.name == venue.name]
    newest = {
        market.symbol: venue.world.histories[market.index].last_id for market in venue.world.markets
    }
    finders = {symbol: track.finder for symbol, track in fleet._tracks.items()}  # noqa: SLF001 - no count tells it
    return (
        bool(finders)
        and not fleet.refiller.open_holes
        and all(
            finder.newest in {None, newest[symbol]} and not finder.needs_look
            for symbol, finder in finders.items()
        )
        and any(finder.newest for finder in finders.values())
    )
