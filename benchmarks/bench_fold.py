"""Fold: messages of MARKET_RAW into open windows of all periods, every field of a candle.

The floor decodes the same messages and takes minimum, maximum and the four sums of the same
lists. Peers fold the same bytes: cryptofeed's OHLCV (one window, no buy volume, no ids) and
nautilus_trader's time bars (one period).
"""

import asyncio
from decimal import Decimal
from operator import mul
from pathlib import Path
from typing import Final

import msgspec
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.batches import Message, batches
from benchmarks.frames import START_US
from benchmarks.race import peer, race, timed
from market_ingestor.klines.facts import Rules
from market_ingestor.klines.intake import Intake
from market_ingestor.klines.stats_book import StatsBook
from market_ingestor.model.period import PERIOD_MS
from market_ingestor.storage.candle_store import DatabaseCandleStore
from market_ingestor.storage.timescale import Database

TRADES: Final = 40_000
RULES: Final = Rules(periods=tuple(PERIOD_MS), lateness_us=2_000_000, hold_us=10_000_000)
SHAPES: Final = {86: 20, 17: 100, 4: 100, 1: 100}  # trades a message: symbols
GOALS: Final = {"floor": 0.6, "cryptofeed": 1.0, "nautilus_trader": 1.0}


class _Trade(msgspec.Struct, gc=False):
    id: str
    price: Decimal
    amount: Decimal
    side: str
    time_us: int


class _Batch(msgspec.Struct, gc=False):
    trades: list[_Trade]


_bare = msgspec.json.Decoder(_Batch)
ZERO: Final = Decimal(0)


def floor(messages: list[Message]) -> None:
    """Decode, and fold what a candle needs without knowing where it belongs."""
    for message in messages:
        trades = _bare.decode(message.payload).trades
        prices = [each.price for each in trades]
        amounts = [each.amount for each in trades]
        quotes = list(map(mul, prices, amounts))
        is_buy = [each.side == "buy" for each in trades]
        max(prices)
        min(prices)
        sum(amounts, ZERO)
        sum(quotes, ZERO)
        sum((each for each, buy in zip(amounts, is_buy, strict=True) if buy), ZERO)
        sum((each for each, buy in zip(quotes, is_buy, strict=True) if buy), ZERO)


def fold(messages: list[Message]) -> Intake:
    """Fold as the processor does, without statistics."""
    intake = Intake(RULES, lambda _: True)
    for sequence, message in enumerate(messages, 1):
        intake.take(message.subject, message.payload, sequence)
    return intake


async def fold_with_statistics(messages: list[Message]) -> None:
    """Fold as the processor does."""
    intake = Intake(RULES, lambda _: True)
    store = DatabaseCandleStore(Database("postgresql://127.0.0.1/bench", name="bench"))
    book = StatsBook(store, intake.aggregators)  # asks the store only in its `run`
    for sequence, message in enumerate(messages, 1):
        for update in intake.take(message.subject, message.payload, sequence):
            book.follow(*update)


def count(intake: Intake) -> int:
    """Return the trades folded."""
    return sum(each.folded for each in intake.aggregators.values())


@pytest.mark.parametrize("per_message", SHAPES)
def test_fold(benchmark: BenchmarkFixture, tmp_path: Path, per_message: int) -> None:
    messages = batches(TRADES, per_message, symbol_count=SHAPES[per_message], span_s=40)
    work = sum(message.payload.count(b'"id"') for message in messages)
    assert count(fold(messages)) == work
    told = {"payloads": [each.payload.decode() for each in messages], "start_us": START_US}
    with (
        peer("cryptofeed_ohlcv", told, tmp_path) as cryptofeed,
        peer("nautilus_bars", told, tmp_path) as nautilus,
    ):
        race(
            benchmark,
            stage=f"fold, {per_message} a message",
            work=work,
            ours=lambda: fold(messages),
            floor=timed(lambda: floor(messages)),
            peers={"cryptofeed": cryptofeed, "nautilus_trader": nautilus},
            goals=GOALS,
        )


@pytest.mark.parametrize("per_message", SHAPES)
def test_fold_with_statistics(benchmark: BenchmarkFixture, per_message: int) -> None:
    messages = batches(TRADES, per_message, symbol_count=SHAPES[per_message], span_s=40)
    work = sum(message.payload.count(b'"id"') for message in messages)
    race(
        benchmark,
        stage=f"statistics, {per_message} a message",
        work=work,
        ours=lambda: asyncio.run(fold_with_statistics(messages)),
        floor=timed(lambda: fold(messages)),
    )
