"""Messages that cannot be used stop nothing."""

import pytest

from market_ingestor.bus import codec, subjects
from market_ingestor.bus.reader import Delivery, OrderedReader
from tests.integration.klines.harness import (
    MINUTE,
    brief,
    made,
    processing,
    until_async,
    wait_versions,
)
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio


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
