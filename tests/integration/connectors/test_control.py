"""A running ingest role follows what is wanted, and says what it does."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from market_ingestor.bus import subjects
from market_ingestor.bus.control import ControlBoard
from market_ingestor.bus.jetstream import Bus
from market_ingestor.config import ExchangeSettings
from market_ingestor.model.control import (
    ControlState,
    Member,
    Mode,
    SymbolAnswer,
    SymbolQuestion,
)
from market_ingestor.model.event import MarketEvent
from market_ingestor.runtime.shard import Shard
from market_ingestor.simulator import SimulatedVenue
from market_ingestor.simulator.faults import Fault
from tests.integration.connectors.harness import (
    POLL_S,
    SETTINGS,
    WAIT_S,
    Ingest,
    configured,
    connected,
    events,
    ingesting,
    read_raw,
    truth,
    until,
    until_whole,
)
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio

SLOW = Fault(fault="slow_handshake", at_s=0, delay_s=2)
LIVE = SETTINGS.model_copy(update={"mode": "live"})


def section(venue: SimulatedVenue, *symbols: str) -> ExchangeSettings:
    return ExchangeSettings(symbols=symbols, ws_url=venue.ws_url, rest_url=venue.rest_url)


async def want(board: ControlBoard, state: ControlState) -> ControlState:
    await board.write(state, await board.read())
    return state


async def living(board: ControlBoard) -> list[Member]:
    return [each for each in (await board.members()).values() if each is not None]


async def until_member(board: ControlBoard, is_so: Callable[[Member], bool]) -> Member:
    async with asyncio.timeout(WAIT_S):
        while True:
            for each in await living(board):
                if is_so(each):
                    return each
            await asyncio.sleep(POLL_S)


async def until_applied(board: ControlBoard, state: ControlState) -> Member:
    return await until_member(board, lambda member: member.has_applied(state))


async def ask(bus: Bus, exchange: str, spelling: str) -> SymbolAnswer:
    question = msgspec.json.encode(SymbolQuestion(exchange=exchange, symbol=spelling))
    answer = await bus.ask_core(subjects.CONTROL_SYMBOL, question, timeout_s=WAIT_S)
    assert answer is not None
    return msgspec.json.decode(answer, type=SymbolAnswer)


async def until_traded(ingest: Ingest, exchange: str, more: int = 50) -> None:
    account = ingest.role.outbox.account(exchange)
    before = account.published
    await until(lambda: account.published > before + more)


async def test_a_switch_loses_and_mislabels_no_trade(
    nats_server: NatsHandle, tmp_path: Path
) -> None:
    # Both are simulators; the name of its section makes one the real venue.
    real_folder, sim_folder = tmp_path / "real", tmp_path / "sim"
    real_folder.mkdir()
    sim_folder.mkdir()
    with truth(real_folder) as (real_log, real_made), truth(sim_folder) as (sim_log, sim_made):
        async with (
            connected(nats_server) as bus,
            SimulatedVenue("binance", seed=1, rate=150, truth=real_log) as real,
            SimulatedVenue("okx", seed=2, rate=150, truth=sim_log) as simulated,
        ):
            board, state = ControlBoard(bus), ControlState.initial()
            exchanges = {
                "binance": section(real, "BTCUSDT"),
                "sim-okx": section(simulated, "BTCUSDT"),
            }
            async with ingesting(bus, exchanges, LIVE) as ingest:
                await until_traded(ingest, "binance")
                modes: dict[Mode, str] = {"test": "sim-okx", "live": "binance"}
                for mode, exchange in modes.items():
                    state = await want(board, state.with_mode(mode))
                    member = await until_applied(board, state)
                    assert (member.mode, list(member.feeds)) == (mode, [exchange])
                    await until_traded(ingest, exchange)
                await until(lambda: ingest.states.get("filled") == 1)
            raw = await read_raw(bus)
        made = {"binance": real_made(), "sim-okx": sim_made()}
    assert raw.keys == {("binance", "BTCUSDT"), ("sim-okx", "BTCUSDT")}
    for exchange, symbol in raw.keys:
        ids = set(raw.ids((exchange, symbol)))
        (told,) = [ids for (_, name), ids in made[exchange].items() if name == "BTCUSDT"]
        assert ids == {each for each in told if min(ids) <= each <= max(ids)}


async def test_the_feeds_of_before_stay_until_the_new_ones_are_up(
    nats_server: NatsHandle,
) -> None:
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("binance", rate=100) as real,
        SimulatedVenue("okx", rate=100, faults=[SLOW]) as sim,
    ):
        board = ControlBoard(bus)
        exchanges = {"binance": section(real, "BTCUSDT"), "sim-okx": section(sim, "BTCUSDT")}
        async with ingesting(bus, exchanges, LIVE) as ingest:
            await until_traded(ingest, "binance")
            state = await want(board, ControlState.initial().with_mode("test"))
            await until(lambda: len(ingest.role.fleets) == 2)
            old, new = ingest.role.fleets
            looks = 0
            while not new.is_up:
                assert ingest.role.fleets == [old, new]
                looks += 1
                await asyncio.sleep(POLL_S)
            assert looks * POLL_S > 1
            await until_applied(board, state)
            assert ingest.role.fleets == [new]
            assert old.context.exchange == "binance"


async def test_what_nothing_is_configured_for_stops_nothing(nats_server: NatsHandle) -> None:
    async with connected(nats_server) as bus, SimulatedVenue("okx", rate=100) as venue:
        board = ControlBoard(bus)
        async with ingesting(bus, configured(venue)) as ingest:
            await until_traded(ingest, "sim-okx")
            state = await want(board, ControlState.initial().with_mode("live"))
            member = await until_member(board, lambda each: each.problem is not None)
            assert not member.has_applied(state)
            assert "live" in str(member.problem)
            await until_traded(ingest, "sim-okx")
            assert any("live" in problem for problem in ingest.role.health().problems)
            state = await want(board, state.with_mode("test"))
            await until_applied(board, state)
            assert ingest.role.health().problems == ()


async def test_a_symbol_comes_and_goes_without_touching_other_feeds(
    nats_server: NatsHandle,
) -> None:
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("okx", rate=60) as okx,
        SimulatedVenue("kraken", rate=60) as kraken,
    ):
        board = ControlBoard(bus)
        exchanges = {
            "sim-okx": section(okx, "BTC-USDT", "ETHUSDT"),
            "sim-kraken": section(kraken, "BTC/USD"),
        }
        async with ingesting(bus, exchanges) as ingest:
            await until_traded(ingest, "sim-kraken", 10)
            before = kraken.stats.connections
            state = ControlState.initial().with_symbol("sim-okx", "SOLUSDT")
            member = await until_applied(board, await want(board, state))
            assert member.feeds["sim-okx"].up == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
            state = state.without_symbol("sim-okx", "BTCUSDT")
            state = state.without_symbol("sim-kraken", "BTCUSD")
            member = await until_applied(board, await want(board, state))
            assert member.feeds["sim-okx"].up == ["ETHUSDT", "SOLUSDT"]
            assert member.feeds["sim-kraken"].up == []
            assert kraken.stats.connections == before
            assert kraken.stats.connections_open == 0
        async with ingesting(bus, exchanges):  # it survives a restart
            member = await until_applied(board, state)
            assert member.feeds["sim-okx"].up == ["ETHUSDT", "SOLUSDT"]
        assert await living(board) == []


async def test_ingest_knows_what_a_person_means(nats_server: NatsHandle) -> None:
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("okx") as okx,
        SimulatedVenue("kraken") as kraken,
    ):
        exchanges = {"sim-okx": section(okx, "BTC-USDT", "GONEUSDT"), "kraken": section(kraken)}
        async with ingesting(bus, exchanges) as ingest:
            await until(lambda: ingest.role.fleets[0].is_up)
            for spelling in ("eth-usdt", "ETH_USDT", "ETHUSDT", "ETH-USDT"):
                assert (await ask(bus, "sim-okx", spelling)).symbol == "ETHUSDT", spelling
            assert (await ask(bus, "sim-okx", "gone-usdt")).symbol == "GONEUSDT"
            assert (await ask(bus, "sim-okx", "nope")).problem == "unknown_symbol"
            assert (await ask(bus, "sim-nope", "ETHUSDT")).problem == "unknown_exchange"
            # Of the other mode, so its list is fetched for the question.
            assert (await ask(bus, "kraken", "BTC/USD")).symbol == "BTCUSD"


async def test_exactly_the_owner_carries_an_added_symbol(nats_server: NatsHandle) -> None:
    async with connected(nats_server) as bus, SimulatedVenue("okx") as venue:
        board, state = ControlBoard(bus), ControlState.initial()
        exchanges = {"sim-okx": section(venue)}
        async with (
            ingesting(bus, exchanges, shard=Shard(index=1, count=2)),
            ingesting(bus, exchanges, shard=Shard(index=2, count=2)),
        ):
            for name in ("BTCUSDT", "ETHUSDT", "SOLUSDT"):
                state = state.with_symbol("sim-okx", name)
            await want(board, state)
            await until_member(board, lambda each: each.shard == "1/2" and each.has_applied(state))
            await until_member(board, lambda each: each.shard == "2/2" and each.has_applied(state))
            first, second = (set(each.feeds["sim-okx"].up) for each in await living(board))
        assert first | second == {"BTCUSDT", "ETHUSDT", "SOLUSDT"}
        assert not first & second


async def test_the_refill_of_a_dropped_symbol_ends_and_goes_on_when_it_is_back(
    nats_server: NatsHandle,
) -> None:
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("okx", ["BTC-USDT"], rate=1_000) as venue,
    ):
        board = ControlBoard(bus)
        async with ingesting(bus, configured(venue)) as ingest:
            await until_traded(ingest, "sim-okx")
            venue.inject(Fault(fault="rest_slow", delay_s=0.5, duration_s=0))
            venue.inject(Fault(fault="gap", count=3_000))  # more pages than fit into the test
            await until(lambda: ingest.states.get("found") == 1)
            asked = venue.stats.rest_requests
            await until(lambda: venue.stats.rest_requests > asked + 1)
            state = ControlState.initial().without_symbol("sim-okx", "BTCUSDT")
            await until_applied(board, await want(board, state))
            (fleet,) = ingest.role.fleets
            asked = venue.stats.rest_requests
            # The answer to the request on its way is the last one, and is not thrown away.
            await asyncio.sleep(4 * 0.5)
            assert venue.stats.rest_requests == asked
            assert fleet.refiller.open_holes == 0
            assert {each.type for each in await gap_events(bus)} == {"gap_found"}
            venue.inject(Fault(fault="rest_slow", delay_s=0, duration_s=0))
            state = state.with_symbol("sim-okx", "BTCUSDT")
            await until_applied(board, await want(board, state))
            await until_traded(ingest, "sim-okx")
            await until(lambda: ingest.states.get("filled", 0) >= 1)
            await until_whole(bus)
        assert "gap_unfillable" not in {each.type for each in await gap_events(bus)}


async def gap_events(bus: Bus) -> list[MarketEvent]:
    return [each for each in await events(bus) if each.type.startswith("gap_")]


async def test_garbage_and_an_emptied_bucket_change_nothing(nats_server: NatsHandle) -> None:
    async with connected(nats_server) as bus, SimulatedVenue("okx", rate=50) as venue:
        board = ControlBoard(bus)
        async with ingesting(bus, {"sim-okx": section(venue, "BTCUSDT")}) as ingest:
            state = ControlState.initial().with_symbol("sim-okx", "ETHUSDT")
            await until_applied(board, await want(board, state))
            subject = subjects.bucket_subject(subjects.CONTROL_BUCKET, "state")
            for garbage in (b"\xff", b"[]", b'{"v":2,"epoch":"e","revision":9}', b"[" * 100_000):
                await bus.put_fenced(subject, garbage, None)
                await until(lambda: bool(ingest.role.health().problems))
                assert (await board.read()).state is None
                await want(board, state)
                await until(lambda: not ingest.role.health().problems)
            await bus.put_fenced(subject, b"", None)
            await until_back(board, state)
            for bucket in (subjects.CONTROL_BUCKET, subjects.MEMBERS_BUCKET):
                await bus.api(f"STREAM.DELETE.{subjects.bucket_stream(bucket)}")
            await until_back(board, state)
            await until_applied(board, state)
            assert ingest.role.fleets[0].symbols == ["BTCUSDT", "ETHUSDT"]


async def until_back(board: ControlBoard, state: ControlState) -> None:
    async with asyncio.timeout(WAIT_S):
        while (await board.read()).state != state:  # noqa: ASYNC110 - another connection writes it
            await asyncio.sleep(POLL_S)
