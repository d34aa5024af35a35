"""Trades that are missing, are refilled or cannot be had: which candles are complete."""

import pytest

from market_ingestor.klines.completeness import HOLES_MAX
from tests.integration.klines.harness import (
    MINUTE,
    T0,
    Feed,
    brief,
    made,
    processing,
    until,
    until_async,
    versions,
    wait_versions,
)
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio


async def test_a_hole_makes_a_candle_incomplete_and_its_refill_complete(
    nats_server: NatsHandle,
) -> None:
    async with made(nats_server) as setting, processing(setting.bus, setting.store):
        await setting.begin()
        await setting.feed.trades((5, MINUTE + 30_000))
        await setting.feed.trades((6, 2 * MINUTE + 5_000))
        found = await wait_versions(setting.bus, 2)
        assert brief(found)[1] == (1, 1, "close", False, 2)
        refill = Feed(setting.publisher, "refill", source="rest")
        await refill.trades((3, MINUTE + 10_000), (4, MINUTE + 20_000), prev_id="2")
        found = await wait_versions(setting.bus, 3)
        assert brief(found)[2] == (1, 2, "repair", True, 4)


async def test_more_holes_than_are_kept_still_end_in_complete_candles(
    nats_server: NatsHandle,
) -> None:
    """Every second trade is missing for five minutes; a refill brings all but one of them."""
    count = 2 * HOLES_MAX + 40
    step = 5 * MINUTE // count
    refill_ids = [number for number in range(3, count + 2, 2) if number != 101]
    async with made(nats_server) as setting, processing(setting.bus, setting.store) as processor:
        await setting.feed.trades((1, 1_000))
        for number in range(2, count + 2, 2):
            await setting.feed.trades((number, MINUTE + (number - 2) * step))
        await setting.feed.mark(7 * MINUTE)
        await wait_versions(setting.bus, 6)
        (aggregator,) = processor.intake.aggregators.values()
        assert aggregator.completeness.forgotten is not None
        refill = Feed(setting.publisher, "refill", source="rest")
        for number in refill_ids:
            await refill.trades(
                (number, MINUTE + (number - 2) * step), received=7 * MINUTE, prev_id=str(number - 1)
            )
        await until(lambda: aggregator.completeness.forgotten is None)
        await setting.settled(processor)
        found = setting.store.candles["binance", "BTCUSDT", "1m"]
        holed = MINUTE + 99 * step
        assert [(opened - T0) // MINUTE for opened, each in found.items() if not each.complete] == [
            0,
            holed // MINUTE,
        ]
        assert sum(each.trade_count for each in found.values()) == count + 1 - 1
        await refill.trades((101, holed), received=7 * MINUTE, prev_id="100")
        await until(lambda: found[T0 + holed // MINUTE * MINUTE].complete)
        await setting.settled(processor)


async def test_ids_the_venue_does_not_have_complete_a_candle_without_new_trades(
    nats_server: NatsHandle,
) -> None:
    async with made(nats_server) as setting, processing(setting.bus, setting.store):
        await setting.begin()
        await setting.feed.trades((5, MINUTE + 30_000))
        await setting.feed.trades((6, 2 * MINUTE + 5_000))
        await wait_versions(setting.bus, 2)
        refill = Feed(setting.publisher, "refill", source="rest")
        await refill.trades((5, MINUTE + 30_000), prev_id="2")
        found = await wait_versions(setting.bus, 3)
        assert brief(found)[2] == (1, 2, "repair", True, 2)


async def test_a_hole_found_later_takes_completeness_back(nats_server: NatsHandle) -> None:
    async with made(nats_server) as setting, processing(setting.bus, setting.store):
        await setting.begin()
        await setting.feed.mark(2 * MINUTE + 5_000)
        assert brief(await wait_versions(setting.bus, 2))[1] == (1, 1, "close", True, 1)
        await setting.feed.trades((9, 3 * MINUTE))
        assert brief(await wait_versions(setting.bus, 3))[2] == (1, 2, "gap", False, 1)


async def test_a_trade_the_database_refuses_is_taken_out_again(nats_server: NatsHandle) -> None:
    async with made(nats_server) as setting, processing(setting.bus, setting.store) as processor:
        setting.store.refused.add("3")
        await setting.begin()
        await setting.feed.trades((3, MINUTE + 20_000, "99"))
        await setting.feed.trades((4, 2 * MINUTE + 5_000))
        assert brief(await wait_versions(setting.bus, 2))[1] == (1, 1, "close", True, 2)
        await setting.give_up(2, 4, MINUTE + 20_000)
        found = await wait_versions(setting.bus, 3)
        assert brief(found)[2] == (1, 2, "gap", False, 1)
        assert found[2].high == "11"
        await setting.settled(processor)


@pytest.mark.parametrize("comes", ["before", "between", "behind"])
async def test_what_one_process_gives_up_and_another_delivers_is_not_missing(
    nats_server: NatsHandle, comes: str
) -> None:
    """Neighbours of the same instant make it look like a trade that the database refused."""
    async with made(nats_server) as setting, processing(setting.bus, setting.store) as processor:
        other = Feed(setting.publisher, "f2")
        at = MINUTE + 20_000

        async def deliver() -> None:
            await other.trades((2, at), (3, at), (4, at), prev_id="1")

        await setting.feed.trades((1, 1_000))
        if comes == "before":
            await deliver()
        await setting.feed.trades((2, at), (4, at))
        await setting.give_up(2, 4, at)
        if comes == "between":
            await deliver()
        await setting.feed.trades((5, 2 * MINUTE + 5_000))
        if comes == "behind":
            found = await wait_versions(setting.bus, 2)
            assert brief(found)[1] == (1, 1, "close", False, 2)
            await deliver()

        async def is_complete() -> bool:
            newest = {each.open_time: each for each in await versions(setting.bus)}
            candle = newest.get(T0 + MINUTE)
            return candle is not None and candle.complete and candle.trade_count == 3

        await until_async(is_complete)
        await setting.settled(processor)
        assert await is_complete()
        (aggregator,) = processor.intake.aggregators.values()
        await until(lambda: not aggregator.completeness.lost)
