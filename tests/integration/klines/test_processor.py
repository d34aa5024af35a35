"""The klines role against a real nats-server."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from itertools import pairwise

import pytest

from market_ingestor import metrics
from market_ingestor.bus import codec, streams, subjects
from market_ingestor.bus.jetstream import Bus, ConsumerState
from market_ingestor.bus.publisher import Publisher
from market_ingestor.bus.reader import Delivery, OrderedReader
from market_ingestor.config import KlinesSettings
from market_ingestor.klines.completeness import HOLES_MAX
from market_ingestor.klines.dirty import DirtyWindows
from market_ingestor.klines.processor import KlineProcessor
from market_ingestor.klines.resume import decode, key_of
from market_ingestor.model.event import MarketEvent
from market_ingestor.model.kline import Kline
from market_ingestor.model.partition import slot
from market_ingestor.model.period import PERIOD_MS
from market_ingestor.model.trade import Trade
from tests.integration.klines.harness import (
    LIMITS,
    MINUTE,
    SETTINGS,
    T0,
    Feed,
    brief,
    connected,
    processing,
    publishing,
    until,
    until_async,
    versions,
    wait_versions,
)
from tests.integration.klines.memory_store import MemoryStore, saving
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio

SLOT = slot("binance", "BTCUSDT")


class Setting:
    """A bus, a feed of BTCUSDT and a store that is kept current."""

    def __init__(self, bus: Bus, publisher: Publisher, store: MemoryStore) -> None:
        self.bus = bus
        self.publisher = publisher
        self.store = store
        self.feed = Feed(publisher)

    async def begin(self) -> None:
        """Publish a minute cut by the start and the first trade of minute 1."""
        await self.feed.trades((1, 1_000, "10"))
        await self.feed.trades((2, MINUTE + 1_000, "11"))

    async def give_up(self, after_id: int, before_id: int, at: int) -> None:
        """Say that the trade between two ids cannot be had, ``at`` milliseconds after `T0`."""
        event = MarketEvent(
            v=1,
            exchange="binance",
            symbol="BTCUSDT",
            type="gap_unfillable",
            time_us=T0 * 1_000,
            after_id=str(after_id),
            before_id=str(before_id),
            missing=1,
            from_time=T0 + at,
            to_time=T0 + at,
            detail="",
        )
        await self.publisher.publish(
            subjects.event("binance", "BTCUSDT"), codec.encode(event), f"lost.{after_id}"
        )

    async def record(self) -> bytes | None:
        return await (await self.bus.bucket(subjects.STATE_BUCKET)).get(key_of(SLOT))

    async def is_recorded(self) -> bool:
        return await self.record() is not None

    async def settled(self, *processors: KlineProcessor) -> None:
        """Wait until processors have read everything and have nothing left to correct."""

        async def is_settled() -> bool:
            raw = await self.bus.stream_state(subjects.RAW_STREAM)
            kline = await self.bus.stream_state(subjects.KLINE_STREAM)
            saved = await self.bus.consumer_state(subjects.KLINE_STREAM, subjects.SAVE_DURABLE)
            return (
                saved is not None
                and saved.ack_floor == kline.last_sequence
                and all(
                    each.health().details["position"] > raw.last_sequence
                    and each.health().details["publications"] == 0
                    and not any(len(one.closed.dirty) for one in each.intake.aggregators.values())
                    for each in processors
                )
            )

        await until_async(is_settled)


@asynccontextmanager
async def made(server: NatsHandle) -> AsyncIterator[Setting]:
    store = MemoryStore()
    async with connected(server) as bus, publishing(bus) as publisher, saving(bus, store):
        yield Setting(bus, publisher, store)


def incomplete() -> float:
    """Return how many first versions were counted as incomplete."""
    (family,) = metrics.klines_incomplete_total.collect()
    return family.samples[0].value


async def test_marks_close_a_minute(nats_server: NatsHandle) -> None:
    store = MemoryStore()
    async with connected(nats_server) as bus, publishing(bus) as publisher, saving(bus, store):
        feed = Feed(publisher)
        async with processing(bus, store):
            await feed.trades((1, 1_000, "10", "2"), (2, 2_000, "12"))
            await feed.trades((3, MINUTE + 1_000, "11"), (4, MINUTE + 30_000, "9", "0.5"))
            for second in range(31, 64):
                await feed.mark(MINUTE + second * 1_000)
            found = await wait_versions(bus, 2)
    assert brief(found) == [(0, 1, "close", False, 2), (1, 1, "close", True, 2)]
    whole = found[1]
    assert (whole.open, whole.high, whole.low, whole.close) == ("11", "11", "9", "9")
    assert (whole.volume, whole.quote_volume) == ("1.5", "15.5")
    assert (whole.buy_volume, whole.buy_quote_volume) == ("1", "11")
    assert (whole.first_trade_id, whole.last_trade_id) == ("3", "4")


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


async def test_longer_periods_are_published_too(nats_server: NatsHandle) -> None:
    async with made(nats_server) as setting, processing(setting.bus, setting.store):
        await setting.begin()
        for minute in range(2, 12):
            await setting.feed.trades((minute + 1, minute * MINUTE + 1_000, str(10 + minute)))
        found = await wait_versions(setting.bus, 2, "5m")
    assert brief(found) == [(0, 1, "close", False, 5), (5, 1, "close", True, 5)]
    assert (found[1].open, found[1].close, found[1].volume) == ("15", "19", "5")
    assert (found[1].first_trade_id, found[1].last_trade_id) == ("6", "10")


async def test_first_versions_that_lack_something_are_counted_in_every_period(
    nats_server: NatsHandle,
) -> None:
    """Also those that the tables decide, because nothing is recorded of what was before."""
    before = incomplete()
    async with made(nats_server) as setting:
        await setting.begin()
        async with processing(setting.bus, setting.store) as processor:
            for minute in range(2, 7):
                await setting.feed.trades((minute + 1, minute * MINUTE + 1_000))
            await wait_versions(setting.bus, 1, "5m")
            await setting.settled(processor)
        found = [each for period in PERIOD_MS for each in await versions(setting.bus, period)]
    lacking = [each.period for each in found if each.revision == 1 and not each.complete]
    assert set(lacking) == {"1m", "5m"}
    assert incomplete() - before == len(lacking)


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


async def test_a_killed_processor_is_replaced_without_another_version(
    nats_server: NatsHandle,
) -> None:
    async with made(nats_server) as setting:
        async with processing(setting.bus, setting.store):
            await setting.begin()
            for minute in range(2, 5):
                await setting.feed.trades((minute + 1, minute * MINUTE + 5_000))
            await wait_versions(setting.bus, 4)
            await until_async(setting.is_recorded)  # else all would be in doubt
        await setting.feed.trades((6, 5 * MINUTE + 5_000))
        await setting.feed.trades((7, 6 * MINUTE + 5_000))
        async with processing(setting.bus, setting.store) as second:
            found = await wait_versions(setting.bus, 6)
            await setting.settled(second)
            found = await versions(setting.bus)
            long = await versions(setting.bus, "5m")
    assert brief(found) == [(0, 1, "close", False, 1)] + [
        (minute, 1, "close", True, 1) for minute in range(1, 6)
    ]
    assert brief(long) == [(0, 1, "close", False, 5)]


async def test_a_stopped_processor_leaves_a_record_that_is_up_to_date(
    nats_server: NatsHandle,
) -> None:
    async with made(nats_server) as setting:
        processor = KlineProcessor(setting.bus, setting.store, SETTINGS)
        running = asyncio.create_task(processor.run())
        await until(lambda: processor.health().is_ready)  # it begins with nothing stored
        await setting.begin()
        await setting.feed.trades((3, 2 * MINUTE + 5_000))
        last = await setting.feed.mark(2 * MINUTE + 6_000)
        await until(lambda: processor.health().details["position"] > last)
        processor.stop()
        async with asyncio.timeout(5):
            await running
        assert not processor.health().is_ready
        assert len(await versions(setting.bus)) == 2
        payload = await setting.record()
        assert payload is not None
        record = decode(payload)
        assert record.position == 3  # the batch of the minute that is still open
        assert record.symbols["binance.BTCUSDT"].closed_through == T0 + 2 * MINUTE


async def test_stop_works_while_the_server_is_away(nats_server: NatsHandle) -> None:
    async with made(nats_server) as setting:
        processor = KlineProcessor(setting.bus, setting.store, SETTINGS)
        running = asyncio.create_task(processor.run())
        await until(lambda: processor.health().is_ready)
        await nats_server.kill()
        await until(lambda: not processor.health().is_ready)
        processor.stop()
        async with asyncio.timeout(8):
            await running
        await nats_server.start()


async def test_two_processors_publish_each_content_once(nats_server: NatsHandle) -> None:
    async with (
        made(nats_server) as setting,
        connected(nats_server, "second") as other,
        processing(setting.bus, setting.store) as first,
        processing(other, setting.store) as second,
    ):
        await setting.begin()
        for minute in range(2, 8):
            await setting.feed.trades((minute + 10, minute * MINUTE + 1_000), prev_id="2")
            await setting.feed.trades((100 + minute, (minute - 1) * MINUTE + 30_000))
        await setting.feed.mark(9 * MINUTE)
        await wait_versions(setting.bus, 8)
        await setting.settled(first, second)
        found = await versions(setting.bus)
    by_window = defaultdict[int, list[Kline]](list)
    for each in found:
        by_window[each.open_time].append(each)
    for several in by_window.values():
        assert [each.revision for each in several] == list(range(1, len(several) + 1))
        contents = [(each.complete, each.trade_count, each.volume) for each in several]
        assert all(left != right for left, right in pairwise(contents))


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


async def test_a_silent_stream_is_closed_by_the_own_clock_and_incomplete(
    nats_server: NatsHandle,
) -> None:
    settings = KlinesSettings(periods=("1m",), lateness_s=1, hold_max_s=2, live_interval_ms=10)
    async with made(nats_server) as setting, processing(setting.bus, setting.store, settings):
        await setting.begin()
        await setting.feed.trades((3, 2 * MINUTE - 1_000))
        found = await wait_versions(setting.bus, 2)
        assert brief(found)[1] == (1, 1, "close", False, 2)
        await setting.feed.trades((4, 2 * MINUTE + 30_000))
        found = await wait_versions(setting.bus, 3)
        assert brief(found)[2] == (1, 2, "repair", True, 2)


async def test_a_longer_window_is_closed_when_its_feed_falls_silent_between_minutes(
    nats_server: NatsHandle,
) -> None:
    settings = KlinesSettings(periods=("1m", "5m"), lateness_s=1, hold_max_s=2, live_interval_ms=10)
    async with made(nats_server) as setting, processing(setting.bus, setting.store, settings):
        await setting.begin()
        for at in range(MINUTE + 2_000, 5 * MINUTE, 1_000):
            await setting.feed.mark(at)
        found = await wait_versions(setting.bus, 1, "5m")
    assert brief(found) == [(0, 1, "close", False, 2)]


async def test_what_cannot_be_used_becomes_a_dead_letter(nats_server: NatsHandle) -> None:
    async with made(nats_server) as setting, processing(setting.bus, setting.store) as processor:
        subject = subjects.raw("binance", "BTCUSDT")
        bad = [b"{", b"x" * 100_000, b'{"v":1}']
        sequences = [
            (await setting.publisher.publish(subject, payload, f"bad{number}")).sequence
            for number, payload in enumerate(bad)
        ]
        await setting.feed.trades((1, 1_000, "1e99"))
        await setting.begin()
        await setting.feed.trades((3, 2 * MINUTE + 5_000))
        assert brief(await wait_versions(setting.bus, 2))[1] == (1, 1, "close", True, 1)
        assert processor.health().details["dead_letters"] == 4
        letters: list[Delivery] = []
        async with OrderedReader(setting.bus, subjects.DEAD_STREAM, start_sequence=1) as reader:
            while len(letters) < 4:
                letters += await reader.next(5)
    assert {each.subject for each in letters} == {"market.dead.klines"}
    assert [len(each.payload) for each in letters[:3]] == [1, codec.DEAD_LETTER_BYTES_MAX, 7]
    assert sequences == [1, 2, 3]


async def test_what_is_no_candle_on_a_candle_subject_stops_nothing(
    nats_server: NatsHandle,
) -> None:
    async with made(nats_server) as setting:
        subject = subjects.kline("binance", "BTCUSDT", "1m")
        await setting.publisher.publish(subject, b"{", "poison1")
        async with processing(setting.bus, setting.store):
            await setting.begin()
            await setting.publisher.publish(subject, b"[]", "poison2")
            await setting.feed.trades((3, 2 * MINUTE + 5_000))

            async def stored() -> bool:
                state = await setting.bus.stream_state(subjects.KLINE_STREAM)
                return state.last_sequence == 4

            await until_async(stored)


async def test_open_candles_are_told_at_once_and_then_throttled(nats_server: NatsHandle) -> None:
    settings = KlinesSettings(periods=("1m", "5m"), live_interval_ms=200)
    heard: list[tuple[float, Kline]] = []
    loop = asyncio.get_running_loop()

    async def hear(subject: str, payload: bytes) -> None:
        heard.append((loop.time(), codec.kline(subject, payload)))

    async with made(nats_server) as setting, processing(setting.bus, setting.store, settings):
        await setting.bus.subscribe_core(subjects.LIVE_ALL, hear)
        await setting.bus.client.flush()
        began = loop.time()
        for number in range(1, 120):
            await setting.feed.trades((number, number * 10))
        await until(lambda: bool(heard) and heard[-1][1].trade_count == 119)
        took = loop.time() - began
    minutes = [(at, kline) for at, kline in heard if kline.period == "1m"]
    assert len(minutes) == len(heard) - len(minutes)
    assert 2 <= len(minutes) <= took / 0.2 + 2
    assert minutes[0][1].trade_count < 10
    assert {kline.revision for _, kline in minutes} == {0}


async def test_a_recreated_stream_leaves_nothing_wrong(nats_server: NatsHandle) -> None:
    async with made(nats_server) as setting:
        async with processing(setting.bus, setting.store) as first:
            await setting.begin()
            await setting.feed.trades((3, 2 * MINUTE + 5_000))
            await wait_versions(setting.bus, 2)
            await setting.settled(first)
            await asyncio.sleep(1.2)  # a record is written once a second
        await setting.feed.trades((4, 2 * MINUTE + 6_000, "70"))
        await setting.feed.trades((5, 3 * MINUTE + 6_000, "80"))
        await until(lambda: len(setting.store.rows["binance", "BTCUSDT"]) == 5)
        await recreate(setting, subjects.RAW_STREAM)
        async with processing(setting.bus, setting.store) as second:
            feed = Feed(setting.publisher, "new")
            await feed.trades((6, 5 * MINUTE + 1_000), prev_id="5")
            await feed.trades((7, 6 * MINUTE + 5_000))
            await wait_versions(setting.bus, 5)
            await setting.settled(second)
        assert contents(setting) == [
            (0, 1, "10"), (1, 1, "11"), (2, 2, "70"), (3, 1, "80"), (5, 1, "100"),
        ]  # fmt: skip


async def recreate(setting: Setting, *names: str) -> None:
    """Delete streams and make them again, as an operator may."""
    for name in names:
        await setting.bus.api(f"STREAM.DELETE.{name}")
    configs = streams.market_streams(
        raw=LIMITS, kline=LIMITS, event=LIMITS, dead=LIMITS, replicas=1
    )
    await setting.bus.ensure_streams(configs, update=True)


def contents(setting: Setting, period: str = "1m") -> list[tuple[int, int, str]]:
    """Return minute, trade count and close of each stored candle."""
    rows = setting.store.candles["binance", "BTCUSDT", period]
    return [
        ((opened - T0) // MINUTE, row.trade_count, row.close)
        for opened, row in sorted(rows.items())
    ]


async def test_a_raw_stream_recreated_under_a_running_processor_leaves_nothing_wrong(
    nats_server: NatsHandle,
) -> None:
    async with made(nats_server) as setting, processing(setting.bus, setting.store) as processor:
        await setting.begin()
        await setting.feed.trades((3, 2 * MINUTE + 5_000))
        await wait_versions(setting.bus, 2)
        late = await setting.feed.trades((4, MINUTE + 50_000, "70"), received=2 * MINUTE + 6_000)
        await setting.feed.trades((5, 2 * MINUTE + 7_000, "71"))
        await until(lambda: processor.health().details["position"] == late + 2)
        await until(lambda: len(setting.store.rows["binance", "BTCUSDT"]) == 5)
        await recreate(setting, subjects.RAW_STREAM)
        await setting.feed.trades((6, 3 * MINUTE + 5_000))
        await setting.feed.trades((7, 6 * MINUTE + 5_000))
        await wait_versions(setting.bus, 1, "5m")
        assert processor.lives == 2
        await setting.feed.mark(7 * MINUTE + 5_000)
        await setting.settled(processor)
    assert contents(setting) == [
        (0, 1, "10"), (1, 2, "70"), (2, 2, "71"), (3, 1, "100"), (6, 1, "100"),
    ]  # fmt: skip
    assert contents(setting, "5m") == [(0, 6, "100")]


async def test_a_symbol_that_only_gives_marks_after_a_loss_gets_its_candle(
    nats_server: NatsHandle,
) -> None:
    async with made(nats_server) as setting, processing(setting.bus, setting.store) as processor:
        await setting.begin()
        last = await setting.feed.trades((3, 2 * MINUTE + 5_000, "12"))
        await until(lambda: processor.health().details["position"] > last)
        await until(lambda: len(setting.store.rows["binance", "BTCUSDT"]) == 3)
        await recreate(setting, subjects.RAW_STREAM)
        await setting.feed.mark(4 * MINUTE)
        await wait_versions(setting.bus, 3)
        await setting.feed.mark(5 * MINUTE + 5_000)
        await setting.settled(processor)
    assert contents(setting) == [(0, 1, "10"), (1, 1, "11"), (2, 1, "12")]


async def test_a_symbol_that_was_saved_and_never_read_before_a_loss_gets_its_candles(
    nats_server: NatsHandle,
) -> None:
    async with made(nats_server) as setting:
        async with processing(setting.bus, setting.store):
            await until_async(setting.is_recorded)  # of a symbol that is not known yet
        await setting.begin()
        await until(lambda: len(setting.store.rows.get(("binance", "BTCUSDT"), {})) == 2)
        await recreate(setting, subjects.RAW_STREAM)
        async with processing(setting.bus, setting.store) as second:
            feed = Feed(setting.publisher, "new")
            await feed.mark(3 * MINUTE)
            await wait_versions(setting.bus, 2)
            await feed.mark(4 * MINUTE + 5_000)
            await setting.settled(second)
    assert contents(setting) == [(0, 1, "10"), (1, 1, "11")]


async def test_a_candle_stream_recreated_under_a_running_processor_goes_on_with_revisions(
    nats_server: NatsHandle,
) -> None:
    store = MemoryStore()
    async with (
        connected(nats_server) as bus,
        publishing(bus) as publisher,
        processing(bus, store) as processor,
    ):
        setting = Setting(bus, publisher, store)
        async with saving(bus, store):
            await setting.begin()
            await setting.feed.trades((3, 2 * MINUTE + 5_000))
            await setting.feed.trades((4, MINUTE + 50_000, "70"), received=2 * MINUTE + 6_000)
            await wait_versions(bus, 3)
            await setting.settled(processor)
        await setting.feed.trades((5, 3 * MINUTE + 5_000))
        await wait_versions(bus, 4)  # of minute 2: nobody saves it before its stream goes
        await recreate(setting, subjects.KLINE_STREAM)
        await setting.feed.trades((6, MINUTE + 55_000, "71"), received=3 * MINUTE + 6_000)
        async with saving(bus, store):
            found = await wait_versions(bus, 2)
            await setting.settled(processor)
        assert processor.lives == 2
    assert sorted(brief(found)) == [(1, 3, "late", True, 3), (2, 1, "close", True, 1)]
    assert contents(setting) == [(0, 1, "10"), (1, 3, "71"), (2, 1, "100")]


async def test_a_database_older_than_the_streams_decides_what_they_begin_with(
    nats_server: NatsHandle,
) -> None:
    """The files of NATS are gone: half a minute and a candle are known to the database alone."""
    async with made(nats_server) as setting:
        async with processing(setting.bus, setting.store) as first:
            await setting.begin()
            await setting.feed.trades((3, 2 * MINUTE + 5_000, "12"))
            await wait_versions(setting.bus, 2)
            await until(lambda: len(setting.store.rows["binance", "BTCUSDT"]) == 3)
            await setting.settled(first)
        await recreate(setting, subjects.RAW_STREAM, subjects.KLINE_STREAM)
        await setting.bus.api(f"STREAM.DELETE.KV_{subjects.STATE_BUCKET}")
        async with processing(setting.bus, setting.store) as second:
            feed = Feed(setting.publisher, "new")
            await feed.trades((4, 2 * MINUTE + 20_000, "13"), prev_id="3")
            await feed.trades((5, MINUTE + 30_000, "14"), received=2 * MINUTE + 21_000)
            await feed.trades((6, 3 * MINUTE + 5_000))
            await feed.trades((7, 5 * MINUTE + 5_000))
            found = await wait_versions(setting.bus, 3)
            await wait_versions(setting.bus, 1, "5m")
            await setting.settled(second)
    assert [each[:2] for each in sorted(brief(found))] == [(1, 2), (2, 1), (3, 1)]
    assert contents(setting) == [(0, 1, "10"), (1, 2, "14"), (2, 2, "13"), (3, 1, "100")]
    assert contents(setting, "5m") == [(0, 6, "100")]


async def test_candles_go_on_after_the_server_was_killed(nats_server: NatsHandle) -> None:
    async with made(nats_server) as setting, processing(setting.bus, setting.store) as processor:
        await setting.begin()
        for minute in range(2, 20):
            if minute == 10:
                await nats_server.kill()
                await nats_server.start()
            await setting.feed.trades((minute + 1, minute * MINUTE + 5_000))
        found = await wait_versions(setting.bus, 19)
        await setting.settled(processor)
        found = await versions(setting.bus)
    assert brief(found)[1:] == [(minute, 1, "close", True, 1) for minute in range(1, 19)]


async def test_flat_candles_fill_quiet_minutes_and_follow_corrections(
    nats_server: NatsHandle,
) -> None:
    settings = KlinesSettings(periods=("1m", "5m"), fill_empty=True)
    async with made(nats_server) as setting, processing(setting.bus, setting.store, settings):
        await setting.begin()
        await setting.feed.trades((3, 4 * MINUTE + 5_000, "12"))
        found = await wait_versions(setting.bus, 4)
        assert [(each.close, each.trade_count) for each in found[1:]] == [
            ("11", 1), ("11", 0), ("11", 0),
        ]  # fmt: skip
        await setting.feed.trades((4, MINUTE + 50_000, "15"), received=4 * MINUTE + 6_000)
        found = await wait_versions(setting.bus, 7)
    newest = {each.open_time: each for each in found}
    assert [newest[T0 + n * MINUTE].close for n in (1, 2, 3)] == ["15", "15", "15"]
    assert [newest[T0 + n * MINUTE].revision for n in (1, 2, 3)] == [2, 2, 2]


async def test_flat_candles_behind_a_late_trade_are_corrected_together(
    nats_server: NatsHandle,
) -> None:
    settings = KlinesSettings(periods=("1m", "5m"), fill_empty=True)
    quiet = 100
    async with (
        made(nats_server) as setting,
        processing(setting.bus, setting.store, settings) as processor,
    ):
        await setting.begin()
        await setting.feed.mark((quiet + 2) * MINUTE + 3_000)
        await wait_versions(setting.bus, quiet + 2)
        await setting.settled(processor)
        setting.store.delay_s = 0.3
        commits = setting.store.commits
        late = (quiet + 2) * MINUTE + 4_000
        await setting.feed.trades((3, MINUTE + 50_000, "15"), received=late)
        found = await wait_versions(setting.bus, 2 * quiet + 3)
        assert setting.store.commits - commits < quiet / 5
        await setting.settled(processor)
        long = await versions(setting.bus, "5m")
    assert brief(found)[-quiet:] == [
        (minute, 2, "recompute", True, 0) for minute in range(2, quiet + 2)
    ]
    assert {each.close for each in found[-quiet:]} == {"15"}
    newest = {each.open_time: each for each in long}
    assert {each.close for each in newest.values()} == {"15"}
    assert {each.revision for each in newest.values()} == {2}


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


async def test_long_windows_are_whole_after_a_restart(nats_server: NatsHandle) -> None:
    settings = KlinesSettings(periods=("1m", "5m", "1h"), live_interval_ms=10)
    async with made(nats_server) as setting:
        async with processing(setting.bus, setting.store, settings) as first:
            await setting.begin()
            for minute in range(2, 33):
                await setting.feed.trades((minute + 1, minute * MINUTE + 5_000))
            await wait_versions(setting.bus, 32)
            await setting.settled(first)
            await until_async(lambda: has_record(setting, 32 * MINUTE))
        async with processing(setting.bus, setting.store, settings) as second:
            await until(lambda: second.health().details["long_windows_waiting"] == 0)
            await setting.feed.trades((34, 33 * MINUTE + 5_000))
            await setting.feed.trades((35, 60 * MINUTE + 5_000))
            (hour,) = await wait_versions(setting.bus, 1, "1h")
            await setting.settled(second)
    assert brief([hour]) == [(0, 1, "close", False, 34)]


async def has_record(setting: Setting, closed_through: int) -> bool:
    """Return whether a resume record of this minute was written."""
    payload = await setting.record()
    if payload is None:
        return False
    known = decode(payload).symbols["binance.BTCUSDT"]
    return known.closed_through == T0 + closed_through


async def test_long_windows_wait_for_a_database_that_is_away_at_a_restart(
    nats_server: NatsHandle,
) -> None:
    async with made(nats_server) as setting:
        async with processing(setting.bus, setting.store) as first:
            await setting.begin()
            for minute in range(2, 4):
                await setting.feed.trades((minute + 1, minute * MINUTE + 5_000))
            await wait_versions(setting.bus, 3)
            await setting.settled(first)
            await until_async(lambda: has_record(setting, 3 * MINUTE))
        setting.store.is_back.clear()
        async with processing(setting.bus, setting.store) as second:
            await setting.feed.trades((5, 4 * MINUTE + 5_000))
            await setting.feed.trades((6, 5 * MINUTE + 5_000))
            found = await wait_versions(setting.bus, 5)
            assert brief(found)[4] == (4, 1, "close", True, 1)
            assert await versions(setting.bus, "5m") == []
            setting.store.is_back.set()
            (long,) = await wait_versions(setting.bus, 1, "5m")
            await setting.settled(second)
    assert brief([long]) == [(0, 1, "close", False, 5)]
