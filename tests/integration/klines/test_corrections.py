"""Trades that come late: revisions of closed candles, and what those wait for."""

from decimal import Decimal

import pytest

from market_ingestor.bus.jetstream import ConsumerState
from market_ingestor.klines.dirty import DirtyWindows
from market_ingestor.model.trade import Trade
from tests.integration.klines.harness import (
    MINUTE,
    T0,
    Feed,
    brief,
    connected,
    made,
    processing,
    publishing,
    until,
    versions,
    wait_versions,
)
from tests.integration.klines.memory_store import MemoryStore, saving
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio


async def test_late_trade_gives_revision_two(nats_server: NatsHandle) -> None:
    store = MemoryStore()
    async with connected(nats_server) as bus, publishing(bus) as publisher, saving(bus, store):
        feed = Feed(publisher)
        async with processing(bus, store) as processor:
            await feed.trades((1, 1_000))
            await feed.trades((2, MINUTE + 1_000), (3, MINUTE + 59_000))
            await feed.trades((4, 2 * MINUTE + 5_000))
            await wait_versions(bus, 2)
            await feed.trades((5, MINUTE + 59_500, "50"), received=2 * MINUTE + 6_000)
            found = await wait_versions(bus, 3)
            await until(lambda: processor.corrections.waiting == 0)
    assert brief(found)[2] == (1, 2, "late", True, 3)
    assert found[2].close == "50"


async def test_a_late_trade_reaches_the_longer_periods(nats_server: NatsHandle) -> None:
    async with made(nats_server) as setting, processing(setting.bus, setting.store) as processor:
        await setting.begin()
        for minute in range(2, 7):
            await setting.feed.trades((minute + 1, minute * MINUTE + 1_000))
        await wait_versions(setting.bus, 1, "5m")
        await setting.feed.trades((8, 3 * MINUTE + 2_000, "500"), received=6 * MINUTE + 2_000)
        found = await wait_versions(setting.bus, 2, "5m")
        assert brief(found)[1] == (0, 2, "late", False, 6)
        assert found[1].high == "500"
        await setting.settled(processor)


async def test_first_versions_do_not_wait_for_the_database_corrections_do(
    nats_server: NatsHandle,
) -> None:
    async with made(nats_server) as setting, processing(setting.bus, setting.store) as processor:
        await setting.begin()
        await setting.feed.trades((3, 2 * MINUTE + 5_000))
        await wait_versions(setting.bus, 2)
        setting.store.is_back.clear()
        await setting.feed.trades((4, MINUTE + 50_000), received=2 * MINUTE + 6_000)
        await setting.feed.trades((5, 3 * MINUTE + 5_000))
        found = await wait_versions(setting.bus, 3)
        assert brief(found)[2][:3] == (2, 1, "close")
        await until(lambda: processor.corrections.waiting == 1)
        assert len(await versions(setting.bus)) == 3
        setting.store.is_back.set()
        found = await wait_versions(setting.bus, 4)
        assert brief(found)[3] == (1, 2, "late", True, 2)
        await setting.settled(processor)
        assert not processor.corrections.is_store_away


async def test_a_correction_waits_until_the_saver_has_what_it_is_for(
    nats_server: NatsHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with made(nats_server) as setting, processing(setting.bus, setting.store) as processor:
        await setting.begin()
        await setting.feed.trades((3, 2 * MINUTE + 5_000))
        await wait_versions(setting.bus, 2)
        await setting.settled(processor)
        setting.store.is_saving.clear()
        await setting.feed.trades((4, MINUTE + 50_000), received=2 * MINUTE + 6_000)
        await until(lambda: processor.corrections.waiting == 1)
        questions = setting.store.questions
        looks, look = 0, setting.bus.consumer_state

        async def counted(stream: str, durable: str) -> ConsumerState | None:
            nonlocal looks
            looks += 1
            return await look(stream, durable)

        monkeypatch.setattr(setting.bus, "consumer_state", counted)
        # Two looks a round: in the first after the count it would have been asked about.
        await until(lambda: looks >= 6)
        assert setting.store.questions == questions
        setting.store.is_saving.set()
        found = await wait_versions(setting.bus, 3)
        assert brief(found)[2] == (1, 2, "late", True, 2)
        await setting.settled(processor)


async def test_what_is_read_while_a_correction_waits_for_its_turn_is_another(
    nats_server: NatsHandle,
) -> None:
    async with made(nats_server) as setting, processing(setting.bus, setting.store) as processor:
        await setting.begin()
        await setting.feed.trades((5, 2 * MINUTE + 1_000), (6, 3 * MINUTE + 5_000))
        await wait_versions(setting.bus, 3)
        await setting.settled(processor)
        store, dirty = setting.store, processor.corrections
        store.is_answering.clear()
        await setting.feed.trades((3, MINUTE + 50_000), received=3 * MINUTE + 6_000)
        await until(lambda: store.asked >= 1)  # the first correction, which keeps its turn
        await setting.feed.trades((7, MINUTE * 2 + 50_000), received=3 * MINUTE + 7_000)
        (state,) = processor.intake.aggregators.values()
        second = ("1m", T0 + 2 * MINUTE)
        await until(lambda: second in state.closed.dirty.windows)
        await until(lambda: state.closed.dirty.windows[second].is_taken)
        store.is_saving.clear()
        last = await setting.feed.trades((8, MINUTE * 2 + 55_000), received=3 * MINUTE + 8_000)
        await until(lambda: state.read_to >= last)
        store.is_answering.set()
        await until(lambda: dirty.corrected >= 2)
        store.is_saving.set()
        await setting.settled(processor)
        found = await versions(setting.bus)
    newest = {each.open_time: each for each in found}
    assert newest[T0 + 2 * MINUTE].trade_count == 3


async def test_a_copy_stored_before_its_original_moves_the_trade(nats_server: NatsHandle) -> None:
    """What a killed saver left behind: the table has the copy, with the time of the copy."""
    async with made(nats_server) as setting, processing(setting.bus, setting.store) as processor:
        copy = Trade(
            id="3",
            price=Decimal(100),
            amount=Decimal(1),
            side="buy",
            time_us=(T0 + 3 * MINUTE) * 1_000,
        )
        setting.store.rows["binance", "BTCUSDT"] = {"3": copy}
        await setting.begin()
        await setting.feed.trades((3, 3 * MINUTE - 1))
        await setting.feed.trades((4, 3 * MINUTE + 5_000))
        found = await wait_versions(setting.bus, 3)
        assert brief(found)[2] == (2, 1, "close", True, 1)
        refill = Feed(setting.publisher, "r1", source="rest")
        await refill.trades((3, 3 * MINUTE), prev_id="2")
        await setting.feed.trades((5, 5 * MINUTE + 5_000))
        await setting.settled(processor)
        await wait_versions(setting.bus, 1, "5m")
        await setting.settled(processor)
    newest = setting.store.candles["binance", "BTCUSDT", "1m"]
    assert [newest[T0 + each * MINUTE].trade_count for each in range(4)] == [1, 1, 0, 2]
    assert newest[T0 + 2 * MINUTE].revision == 2
    assert newest[T0 + 2 * MINUTE].volume == "0"
    assert setting.store.candles["binance", "BTCUSDT", "5m"][T0].trade_count == 4


async def test_longer_windows_are_marked_before_their_minute_is_settled(
    nats_server: NatsHandle,
) -> None:
    """A resume record is written at any moment, and knows only what is marked."""
    settled: list[tuple[str, bool]] = []

    class Watched(DirtyWindows):
        def settle(self, period: str, open_time: int, sequence: int, due_at: float) -> None:
            settled.append((period, ("5m", T0) in self.windows))
            super().settle(period, open_time, sequence, due_at)

    async with made(nats_server) as setting, processing(setting.bus, setting.store) as processor:
        await setting.begin()
        await setting.feed.trades((4, 5 * MINUTE + 5_000), prev_id="2")
        await wait_versions(setting.bus, 1, "5m")
        await setting.settled(processor)
        (aggregator,) = processor.intake.aggregators.values()
        aggregator.closed.dirty = Watched()
        refill = Feed(setting.publisher, "r1", source="rest")
        await refill.trades((3, MINUTE + 9_000), prev_id="2")
        await wait_versions(setting.bus, 2, "5m")
    assert settled[0] == ("1m", True)
