"""History that is late, refused or gone is asked for again, or said to be lost."""

import msgspec
import pytest

from market_ingestor.bus import codec, subjects
from market_ingestor.connectors import gap_news, refill
from market_ingestor.model.event import MarketEvent
from market_ingestor.simulator import SimulatedVenue
from market_ingestor.simulator.faults import Fault
from market_ingestor.simulator.markets import default_symbols
from tests.integration.connectors.harness import (
    configured,
    connected,
    ingesting,
    read_raw,
    stored,
    until,
)
from tests.integration.connectors.losses import gap_events
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio


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


async def test_what_was_given_up_is_never_said_to_be_filled(
    nats_server: NatsHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gap_news, "LOOK_S", 0.2)
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("bybit", ["BTC-USDT"], rate=200) as venue,
        ingesting(bus, configured(venue)) as ingest,
    ):
        account = ingest.role.outbox.account("sim-bybit")
        await until(lambda: account.published > 20)
        venue.inject(Fault(fault="gap", count=200))  # its history ends after 60 trades
        await until(lambda: ingest.states.get("unfillable") == 1)
        found, lost = await gap_events(bus)
        wider = msgspec.structs.replace(found, after_id=str(int(found.after_id or 0) - 5))
        for each in (found, wider):  # from processes that did not live to say more
            await bus.client.request(
                subjects.event("sim-bybit", "BTCUSDT"), codec.encode(each), timeout=5
            )
        await until(lambda: ingest.states.get("unfillable") == 3)
        await ingest.stop()
        events = await gap_events(bus)
    assert [each.type for each in events].count("gap_filled") == 0
    assert {each.missing for each in events if each.type == "gap_unfillable"} == {lost.missing}


async def test_of_an_old_hole_no_more_is_given_up_than_was_missing(
    nats_server: NatsHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gap_news, "LOOK_S", 0.2)
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("bybit", ["BTC-USDT"], rate=200) as venue,
        ingesting(bus, configured(venue)) as ingest,
    ):
        account = ingest.role.outbox.account("sim-bybit")
        await until(lambda: account.published > 200)
        lowest = min((await stored(bus)).ids(("sim-bybit", "BTCUSDT")))
        found = MarketEvent(
            v=1, exchange="sim-bybit", symbol="BTCUSDT", type="gap_found", time_us=0,
            after_id=str(lowest - 900), before_id=str(lowest - 800), missing=3,
            from_time=0, to_time=0, detail="of a process that knew which of these were there",
        )  # fmt: skip
        await bus.client.request(
            subjects.event("sim-bybit", "BTCUSDT"), codec.encode(found), timeout=5
        )
        await until(lambda: ingest.states.get("unfillable") == 1)
        await ingest.stop()
        (lost,) = [each for each in await gap_events(bus) if each.type == "gap_unfillable"]
    assert (lost.after_id, lost.missing) == (found.after_id, 3)


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
