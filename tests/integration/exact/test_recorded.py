"""Candles of recorded trades against candles that others made of the same trades."""

import csv
import gzip
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import pytest

from market_ingestor.klines.aggregator import Aggregator
from market_ingestor.klines.columns import Columns
from market_ingestor.klines.facts import BatchFacts, Closing, Rules
from market_ingestor.klines.window import Fold
from market_ingestor.model.period import MINUTE_MS
from tests.support.recorded import DATA

TRADES = DATA / "binance-xrpeth-aggtrades-20191011.json.gz"
FRAMES = DATA / "binance-futures-aggtrade-kline-frames-20210722.txt.gz"
EIGHT_DIGITS = Decimal("1e-8")  # what the other builder kept
BATCH = 7  # trades; shares no factor with anything in the file
DAY_US = 86_400_000_000


def columns(rows: list[dict[str, Any]]) -> Columns:
    """Return the venue's aggregate trades; one counts as a single trade here."""
    return Columns(
        [row["a"] for row in rows],
        [row["T"] * 1_000 for row in rows],
        [Decimal(row["p"]) for row in rows],
        [Decimal(row["q"]) for row in rows],
        ["sell" if row["m"] else "buy" for row in rows],
    )


def closed(rows: list[dict[str, Any]]) -> list[Closing]:
    """Return everything the aggregator closes when the trades arrive as they did, a day on."""
    rules = Rules(periods=("1m", "5m"), lateness_us=2_000_000, hold_us=10_000_000)
    aggregator = Aggregator("binance", "XRPETH", rules)
    closings: list[Closing] = []
    for number, start in enumerate(range(0, len(rows), BATCH), start=1):
        part = rows[start : start + BATCH]
        received_us = part[-1]["T"] * 1_000 + 50_000
        facts = BatchFacts("f", number, "ws", received_us, part[0]["a"] - 1)
        closings += aggregator.batch(facts, columns(part), number)
    closings += aggregator.silence(DAY_US, len(rows))
    assert not aggregator.closed.dirty.windows
    return closings


@pytest.mark.skipif(not TRADES.exists(), reason=f"{TRADES.name} is not beside the project")
@pytest.mark.parametrize("period", ["1m", "5m"])
def test_every_candle_equals_that_of_an_independent_builder(period: str) -> None:
    with gzip.open(TRADES) as file:
        rows = [entry["info"] for entry in json.load(file)]
    found = {each.open_time: each.fold for each in closed(rows) if each.period == period}
    with gzip.open(DATA / f"binance-xrpeth-candles-{period}-20191011.csv.gz", "rt") as file:
        wanted = list(csv.DictReader(file))
    assert [int(row["open_time"]) for row in wanted] == sorted(found)
    names = ("open", "high", "low", "close", "volume")
    differing = [
        (row, {name: str(getattr(found[int(row["open_time"])], name)) for name in names})
        for row in wanted
        if any(
            Decimal(row[name]).quantize(EIGHT_DIGITS)
            != getattr(found[int(row["open_time"])], name).quantize(EIGHT_DIGITS)
            for name in names
        )
    ]
    assert differing == []


class Forming(NamedTuple):
    """One of the venue's own words about a minute that is still open."""

    symbol: str
    kline: dict[str, Any]


def captured() -> tuple[list[Forming], dict[str, list[dict[str, Any]]]]:
    """Return the forming candles and, per symbol, the aggregate trades of the capture."""
    klines: list[Forming] = []
    trades: dict[str, list[dict[str, Any]]] = {}
    with gzip.open(FRAMES, "rt") as lines:
        for line in lines:
            data = json.loads(line.partition(": ")[2])["data"]
            if data["e"] == "kline":
                klines.append(Forming(data["s"], data["k"]))
            elif data["e"] == "aggTrade":
                trades.setdefault(data["s"], []).append(data)
    return klines, trades


def covering(trades: list[dict[str, Any]], first: int, last: int) -> list[dict[str, Any]] | None:
    """Return the aggregates that are exactly the raw trades first..last, None without all."""
    inside = sorted((row for row in trades if first <= row["l"] and row["f"] <= last), key=_first)
    edges = [first - 1, *(row["l"] for row in inside)]
    is_whole = [row["f"] - 1 for row in inside] == edges[:-1] and edges[-1] == last
    return inside if inside and is_whole else None


def _first(row: dict[str, Any]) -> int:
    number: int = row["f"]
    return number


def comparable() -> Iterator[tuple[Forming, list[dict[str, Any]]]]:
    klines, trades = captured()
    for each in klines:
        rows = covering(trades.get(each.symbol, []), each.kline["f"], each.kline["L"])
        if rows is not None:
            yield each, rows


@pytest.mark.skipif(not FRAMES.exists(), reason=f"{FRAMES.name} is not beside the project")
def test_the_forming_candle_equals_the_venues_own() -> None:
    compared = 0
    for (symbol, kline), rows in comparable():
        assert {row["T"] // MINUTE_MS * MINUTE_MS for row in rows} == {kline["t"]}, symbol
        fold = Fold.of(columns(rows))
        found = (fold.open, fold.high, fold.low, fold.close, fold.volume)
        assert found == tuple(Decimal(kline[name]) for name in "ohlcv"), kline
        assert (fold.quote_volume, fold.buy_volume, fold.buy_quote_volume) == tuple(
            Decimal(kline[name]) for name in "qVQ"
        ), kline
        assert sum(row["l"] - row["f"] + 1 for row in rows) == kline["n"], kline
        compared += 1
    assert compared > 0
