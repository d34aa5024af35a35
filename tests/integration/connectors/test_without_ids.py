"""Venues without ids: every equal trade counts, no copy does, and one connection at a time."""

import asyncio
import contextlib
import json
import logging
import socket as sockets
from collections import Counter
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from market_ingestor.bus.jetstream import Bus
from market_ingestor.config import ExchangeSettings
from market_ingestor.connectors.outbox import now_us
from market_ingestor.connectors.transport import KEEPALIVE, open_transport
from market_ingestor.simulator import Fault, PriceFeed, SimulatedVenue
from market_ingestor.simulator.finnhub import SYMBOLS_MAX, FinnhubFront
from market_ingestor.simulator.truth import TruthLog
from tests.integration.connectors.harness import (
    POLL_S,
    SETTINGS,
    WAIT_S,
    Raw,
    configured,
    connected,
    events,
    ingesting,
    longest_silence_s,
    read_raw,
    stored,
    until,
)
from tests.support.servers import NatsHandle

pytestmark = pytest.mark.anyio

KEY = "k3y-that/nobody+sees"
FINNHUB = "sim-finnhub"
FEED = "sim-exchange1"
Content = tuple[str, str, str, int]


def stocks(venue: SimulatedVenue, *symbols: str) -> dict[str, ExchangeSettings]:
    return {
        FINNHUB: ExchangeSettings.model_validate(
            {
                "symbols": symbols or tuple(venue.symbols),
                "ws_url": venue.ws_url,
                "rest_url": venue.rest_url,
                "token": KEY,
            }
        )
    }


def feed_of(feed: PriceFeed, **values: object) -> dict[str, ExchangeSettings]:
    settings = {"kind": "tcp", "port": feed.port, "symbols": feed.symbols, **values}
    return {FEED: ExchangeSettings.model_validate(settings)}


def front(venue: SimulatedVenue) -> FinnhubFront:
    assert isinstance(venue.front, FinnhubFront)
    return venue.front


def assert_unique(raw: Raw) -> None:
    for key in raw.keys:
        ids = raw.ids(key)
        assert len(set(ids)) == len(ids)
        assert all(len(str(each)) == 19 for each in ids)
    assert {batch.prev_id for batch in raw.batches} == {None}


def contents(raw: Raw) -> Counter[Content]:
    return Counter(
        (batch.symbol, trade.price, trade.amount, trade.time_us)
        for batch in raw.batches
        for trade in batch.trades
    )


async def test_every_equal_trade_counts_and_no_repeated_frame_does(
    nats_server: NatsHandle, tmp_path: Path
) -> None:
    path = tmp_path / "truth.jsonl"
    with TruthLog(path) as log:
        async with (
            connected(nats_server) as bus,
            SimulatedVenue("finnhub", ["AAPL", "BRK.B", "TSLA"], rate=300, truth=log) as venue,
            ingesting(bus, stocks(venue)) as ingest,
        ):
            account = ingest.role.outbox.account(FINNHUB)
            await until(lambda: account.published > 100)
            front(venue).repeats = 20
            await until(lambda: front(venue).repeats == 0 and account.published > 1_000)
            venue.set_rate(0)
            made = venue.stats.trades_made
            await asyncio.sleep(0.5)
            assert venue.stats.trades_made == made
            await ingest.stop()
            ingest.account(FINNHUB)
            assert account.duplicates >= 20
            assert not account.rejected
            raw = await read_raw(bus, has_prev_ids=False)
        log.flush()
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    sent = Counter(
        (line["symbol"], line["price"], line["amount"], line["time_us"])
        for line in lines
        if line["sent"]
    )
    seen = contents(raw)
    assert max(seen.values()) > 1, "the simulator made no equal trades"
    # Symbols are subscribed one after the other: what was sent to the first alone counts as sent.
    assert not seen - sent
    assert not sent - seen
    assert_unique(raw)
    assert {batch.trades[0].side for batch in raw.batches} == {None}


async def test_ids_stay_unique_over_connections_that_never_overlap(
    nats_server: NatsHandle, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with capture_logs() as logs:
        async with (
            connected(nats_server) as bus,
            SimulatedVenue("finnhub", ["AAPL", "TSLA", "MSFT"], rate=200) as venue,
            ingesting(bus, stocks(venue)) as ingest,
        ):
            account, fleet = ingest.role.outbox.account(FINNHUB), ingest.role.fleets[0]
            await until(lambda: account.published > 50)
            fleet.apply(["AAPL", "TSLA"])  # a planned change
            await until(lambda: venue.stats.connections == 2 and fleet.is_up)
            fleet.apply(["MSFT"])  # all go, another comes
            await until(lambda: venue.stats.connections == 3 and fleet.is_up)
            before = account.published
            await until(lambda: account.published > before + 50)
            venue.inject(Fault(fault="abort"))
            await until(lambda: venue.stats.connections == 4 and fleet.is_up)
            venue.inject(Fault(fault="refuse", status=401, duration_s=1))
            venue.inject(Fault(fault="abort"))
            await until(lambda: venue.stats.connections == 5 and fleet.is_up)
            await ingest.stop()
            assert front(venue).clashes == 0
            raw = await read_raw(bus, has_prev_ids=False)
            told = await events(bus)
    assert_unique(raw)
    assert len({batch.feed for batch in raw.batches}) >= 4
    text = f"{logs} {caplog.text} {told}"
    assert "401" in text
    assert KEY not in text
    assert "k3y-that" not in text


async def test_a_second_connection_of_the_key_ends_both(nats_server: NatsHandle) -> None:
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("finnhub", ["AAPL"], rate=50) as venue,
        ingesting(bus, stocks(venue)) as first,
    ):
        await until(lambda: first.role.fleets[0].is_up)
        async with ingesting(bus, stocks(venue)) as second:
            await until(lambda: front(venue).clashes > 0)
            await second.stop()
        await until(lambda: first.role.fleets[0].is_up)


async def test_more_symbols_than_the_plan_has_are_refused_by_name(
    nats_server: NatsHandle,
) -> None:
    symbols = [f"S{number:02d}" for number in range(SYMBOLS_MAX + 2)]
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("finnhub", symbols, rate=20) as venue,
        ingesting(bus, stocks(venue)) as ingest,
    ):
        await until(lambda: any("refused" in each for each in ingest.role.health().problems))
        await until(lambda: "S50, S51" in str(ingest.role.health().problems))
        assert venue.stats.connections == 1


async def test_without_the_list_symbols_are_as_configured(nats_server: NatsHandle) -> None:
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("finnhub", ["AAPL", "BRK.B"], rate=50) as venue,
    ):
        front(venue).lists_symbols = False
        async with ingesting(bus, stocks(venue, "AAPL", "BRK.B")) as ingest:
            await until(lambda: ingest.role.outbox.account(FINNHUB).published > 20)
            assert ingest.role.fleets[0].symbols == ["AAPL", "BRKB"]
            await until(lambda: ingest.role.health().problems == ())


async def test_a_wrong_key_is_not_shown(nats_server: NatsHandle) -> None:
    with capture_logs() as logs:
        async with connected(nats_server) as bus, SimulatedVenue("finnhub") as venue:
            exchanges = configured(venue)  # without a key
            async with ingesting(bus, exchanges) as ingest:
                await until(lambda: "401" in str(ingest.role.health().problems))
            broken = stocks(venue)[FINNHUB].model_copy(update={"ws_url": "ws://[broken"})
            async with ingesting(bus, {FINNHUB: broken}) as ingest:
                await asyncio.sleep(1)
                problems = str(ingest.role.health().problems)
    assert "k3y-that" not in f"{logs} {problems}"


async def test_every_line_of_a_feed_counts(nats_server: NatsHandle) -> None:
    async with (
        connected(nats_server) as bus,
        PriceFeed(rate=500) as feed,
        ingesting(bus, feed_of(feed, default_amount="2.50")) as ingest,
    ):
        account = ingest.role.outbox.account(FEED)
        await until(lambda: ingest.role.fleets[0].is_up)
        await until(lambda: account.published > 1_000)
        feed.set_rate(0)
        await asyncio.sleep(0.5)
        equal = b'{"symbol":"BTCUSDT","price":1.50,"timestamp":1763676000123,"amount":7}\n'
        feed.write(equal * 3)
        feed.sent["BTCUSDT"] += 3
        await until(lambda: account.rejected.total() == 3)  # they are too old
        await ingest.stop()
        ingest.account(FEED)
        assert account.rejected == {"too_old": 3}
        raw = await read_raw(bus, has_prev_ids=False)
    counts = {symbol: len(raw.ids((FEED, symbol))) for symbol in feed.symbols}
    feed.sent["BTCUSDT"] -= 3
    assert counts == dict(feed.sent)
    assert_unique(raw)
    assert {trade.amount for batch in raw.batches for trade in batch.trades} == {"2.50"}
    marks = [mark for mark in raw.marks if not mark.end]
    assert set(marks[-1].symbols) == set(feed.symbols)


async def test_a_feed_that_drops_is_connected_again(nats_server: NatsHandle) -> None:
    async with (
        connected(nats_server) as bus,
        PriceFeed(rate=200, has_amounts=True) as feed,
        ingesting(bus, feed_of(feed)) as ingest,
    ):
        account, fleet = ingest.role.outbox.account(FEED), ingest.role.fleets[0]
        for number in range(1, 4):
            before = account.published
            await until(lambda: account.published > before + 50)  # noqa: B023 - used at once
            assert feed.stats.connections == number
            assert feed.stats.connections_open == 1
            feed.drop()
            await until(lambda: feed.stats.connections == number + 1)  # noqa: B023 - as above
        await until(lambda: fleet.is_up)
        await ingest.stop()
        ingest.account(FEED)
        assert_unique(await read_raw(bus, has_prev_ids=False))
        kinds = [event.type for event in await events(bus)]
        assert kinds.count("feed_up") == kinds.count("feed_down") == 4


async def test_garbage_lines_cost_one_counter_each(nats_server: NatsHandle) -> None:
    async with (
        connected(nats_server) as bus,
        PriceFeed(symbols=["BTCUSDT"], rate=100) as feed,
        ingesting(bus, feed_of(feed)) as ingest,
    ):
        account = ingest.role.outbox.account(FEED)
        await until(lambda: account.published > 20)
        feed.write(b"\x00\xff garbage\n\n{\n[]\n")
        feed.write(b"x" * 1_000_000 + b"\n")  # without end, as far as we care
        feed.write(b'{"symbol":"BTCUSDT","price":"NaN","timestamp":1763676000123}\n')
        feed.write(b'{"symbol":"XRPUSDT","price":1,"timestamp":1763676000123}\n')
        feed.write(b'{"type":"heartbeat"}\n')
        before = account.published
        await until(lambda: account.rejected.total() >= 6 and account.published > before + 50)
        await ingest.stop()
        ingest.account(FEED)
        assert dict(account.rejected) == {
            "bad_json": 3, "bad_type": 1, "bad_price": 1, "unknown_symbol": 1,
        }  # fmt: skip
        assert feed.stats.connections == 1


async def until_marked(bus: Bus, count: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while True:
            if len((await stored(bus)).marks) >= count:
                return
            await asyncio.sleep(POLL_S)


async def test_no_mark_says_more_than_what_was_heard(nats_server: NatsHandle) -> None:
    settings = SETTINGS.model_copy(update={"read_timeout_s": 60.0})
    async with (
        connected(nats_server) as bus,
        SimulatedVenue("finnhub", ["AAPL"], rate=50) as venue,
        ingesting(bus, stocks(venue), settings) as ingest,
    ):
        account = ingest.role.outbox.account(FINNHUB)
        await until(lambda: account.published > 10)
        venue.set_rate(0)  # a market without trades, on a connection that is well
        await until_marked(bus, 3)
        half_open_us = now_us()
        venue.inject(Fault(fault="half_open", duration_s=2.5))  # and then a reset
        await until(lambda: venue.stats.connections == 2)
        await ingest.stop()
        raw = await read_raw(bus, has_prev_ids=False)
    first = [mark for mark in raw.marks if mark.feed == raw.marks[0].feed]
    assert first[-1].end
    assert longest_silence_s(raw, first[0].feed) < 2  # readers take three seconds for a loss
    assert half_open_us - 1_500_000 < first[-1].received_us < half_open_us + 200_000


async def test_answers_to_our_pings_do_not_count_as_heard() -> None:
    async with SimulatedVenue("finnhub", rate=0) as venue:
        url = f"{venue.ws_url}/?token={KEY}"
        socket = await open_transport(url, frame_bytes_max=1 << 20)
        await socket.probe()
        socket.heard = False
        await socket.probe()
        assert not socket.heard
        await socket.send('{"type":"subscribe","symbol":"AAPL"}')
        venue.set_rate(100)
        await until(lambda: socket.heard)
        await socket.close()


async def test_the_kernel_asks_whether_a_feed_of_lines_is_there() -> None:
    async with PriceFeed() as feed:
        socket = await open_transport(f"tcp://127.0.0.1:{feed.port}", frame_bytes_max=1 << 16)
        below = socket.transport.get_extra_info("socket")
        assert below.getsockopt(sockets.SOL_SOCKET, sockets.SO_KEEPALIVE)
        told = {
            name: below.getsockopt(sockets.IPPROTO_TCP, getattr(sockets, name))
            for name in KEEPALIVE
            if hasattr(sockets, name)
        }
        assert set(told.items()) <= set(KEEPALIVE.items())
        await socket.close()


async def test_a_silent_feed_is_cut_and_a_dead_one_waited_for(nats_server: NatsHandle) -> None:
    settings = SETTINGS.model_copy(update={"read_timeout_s": 1.0})
    async with connected(nats_server) as bus, contextlib.AsyncExitStack() as stack:
        async with PriceFeed(rate=100) as feed:
            exchanges = feed_of(feed)
            ingest = await stack.enter_async_context(ingesting(bus, exchanges, settings))
            account = ingest.role.outbox.account(FEED)
            await until(lambda: account.published > 20)
            feed.set_rate(0)
            await until(lambda: feed.stats.connections > 1)
            port = feed.port
        await until(lambda: "cannot connect" in str(ingest.role.health().problems))
        async with PriceFeed(rate=100, port=port):
            before = account.published
            await until(lambda: account.published > before + 20)
            await ingest.stop()
        assert_unique(await read_raw(bus, has_prev_ids=False))
        reasons = [each.detail for each in await events(bus) if each.type == "feed_down"]
    assert "silent for" in reasons[0]
