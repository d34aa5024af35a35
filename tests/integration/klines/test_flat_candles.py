"""Minutes without trades, where they get candles."""

import pytest

from market_ingestor.config import KlinesSettings
from tests.integration.klines.harness import (
    MINUTE,
    T0,
    brief,
    made,
    processing,
    versions,
    wait_versions,
)
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio


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
