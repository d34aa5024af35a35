"""The benchmarks' load, read as ingest reads it: from a venue's socket, by its decoder."""

import time
from collections import defaultdict

import pytest
from websockets.asyncio.client import connect

from benchmarks.load import STAMP_US, LoadFeed, PrebuiltFeed, StampedFeed, age_us, load_symbols
from market_ingestor.connectors.registry import VENUES
from market_ingestor.connectors.venue import Trades
from market_ingestor.model.trade import TextTrade
from market_ingestor.simulator import SimulatedVenue

pytestmark = pytest.mark.anyio

SYMBOLS = load_symbols(5)
RATE = 4_000
TRADES = 200


async def read(make_feed: type[LoadFeed]) -> dict[str, list[TextTrade]]:
    """Return the first trades that a subscriber of every symbol gets, by symbol."""
    found: dict[str, list[TextTrade]] = defaultdict(list)
    streams = "/".join(f"{name.replace('-', '').lower()}@trade" for name in SYMBOLS)
    async with (
        SimulatedVenue("binance", SYMBOLS, rate=RATE, make_feed=make_feed) as venue,
        connect(f"{venue.ws_url}/stream?streams={streams}", proxy=None) as socket,
    ):
        for _ in range(TRADES):
            (event,) = VENUES["binance"].decode(await socket.recv(decode=False))
            assert isinstance(event, Trades)
            found[event.venue_symbol] += event.trades
    return found


@pytest.mark.parametrize("make_feed", [StampedFeed, PrebuiltFeed])
async def test_ids_are_consecutive_and_times_are_now(make_feed: type[LoadFeed]) -> None:
    began_us = time.time_ns() // 1_000_000 * 1_000
    found = await read(make_feed)
    assert len(found) == len(SYMBOLS)
    for trades in found.values():
        ids = [int(each.id) for each in trades]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
        assert all(began_us <= each.time_us <= time.time_ns() // 1_000 for each in trades)


async def test_a_stamped_trade_tells_when_it_was_sent() -> None:
    began_us = time.time_ns() // 1_000
    found = await read(StampedFeed)
    now_us = time.time_ns() // 1_000
    ages = [age_us(each.amount, now_us) for trades in found.values() for each in trades]
    assert all(0 <= age <= now_us - began_us + STAMP_US for age in ages)
