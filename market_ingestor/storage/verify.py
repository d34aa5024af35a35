"""Recomputes candles from the stored trades and compares. SHELL; the fold itself is SQL.

The proof of invariant 3: after any fault, once settled, the candles equal what SQL computes from
the trades, for every period. Deliberately shares no code with the processor that made them.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import msgspec

from market_ingestor.model.period import PERIOD_MS, WEEK_MS, closes, open_time
from market_ingestor.storage.queries import QUERIES
from market_ingestor.storage.times import at_ms, microseconds
from market_ingestor.storage.timescale import Database

SETTLE_S: Final = 30.0  # beyond lateness: corrections are gathered and both savers catch up
LATENESS_S: Final = 2.0  # the default of ``klines.lateness_s``


class Progress(Protocol):
    """How far what makes the candles has come (`storage.progress.Progress`)."""

    async def settle(self) -> None:
        """Return when what is on the bus now is in trades and candles."""

    async def closed_through(self) -> Mapping[tuple[str, str], int] | None:
        """Return per instrument up to when windows are closed, Unix ms; None when unknown."""


class Difference(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A candle that is not the fold of its trades.

    Attributes:
        open_time: Start of its window, Unix milliseconds.
        fields: What differs; empty when trades or candle are missing altogether.
        expected: What the trades say, None when there are none.
        actual: What is stored, None when no candle is.
    """

    exchange: str
    symbol: str
    period: str
    open_time: int
    fields: tuple[str, ...]
    expected: Mapping[str, str] | None
    actual: Mapping[str, str] | None

    def __str__(self) -> str:
        where = f"{self.exchange} {self.symbol} {self.period} {at_ms(self.open_time):%FT%TZ}"
        if self.actual is None:
            return f"{where}: no candle over {(self.expected or {}).get('trade_count')} trades"
        if self.expected is None:
            return (
                f"{where}: a candle of {self.actual.get('trade_count')} trades that are not there"
            )
        said = (f"{each} {self.actual[each]}, trades say {self.expected[each]}"
                for each in self.fields)  # fmt: skip
        return f"{where}: {'; '.join(said)}"


class VerifyReport(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What was compared.

    Attributes:
        differences: What is wrong.
        unclosed: Windows without a candle that nobody has closed yet: whoever makes candles is
            not running, or has not read so far.
    """

    compared: int
    differences: Sequence[Difference]
    unclosed: Sequence[Difference] = ()


class _Raw(msgspec.Struct, frozen=True, gc=False):
    period: str
    open_time: int
    fields: tuple[str, ...]
    expected: dict[str, msgspec.Raw] | None
    actual: dict[str, msgspec.Raw] | None


_differences: Final = msgspec.json.Decoder(list[_Raw])


async def verify(
    database: Database,
    *,
    exchange: str | None = None,
    symbol: str | None = None,
    from_time: datetime | None = None,
    to_time: datetime | None = None,
    periods: Sequence[str] = tuple(PERIOD_MS),
    lateness_s: float = LATENESS_S,
    trade_retention_s: float = 0,
    now: datetime | None = None,
    progress: Progress | None = None,
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
) -> VerifyReport:
    """Compare stored candles with stored trades, window by window.

    Only settled windows count: those wholly inside the range, ended longer ago than lateness
    and half a minute, and inside the retention of trades. What differs is read again once.

    Args:
        database: With a statement timeout that suits weeks of trades.
        exchange: All when None, like ``symbol``.
        from_time: Windows open at or after this.
        to_time: And end at or before this.
        now: Judges what is settled; the current time by default.
        progress: Asked before the second reading to wait, and after it which windows were
            closed; without it every window without a candle is wrong.
        on_step: Told how many instruments were looked at, of how many.

    Raises:
        StoreUnavailableError: The database cannot answer.
    """
    moment = now or datetime.now(UTC)
    last_ms = microseconds(moment - timedelta(seconds=lateness_s + SETTLE_S)) // 1000
    end_ms = last_ms if to_time is None else min(microseconds(to_time) // 1000, last_ms)
    start_ms = 0 if from_time is None else max(microseconds(from_time) // 1000, 0)
    if trade_retention_s:
        start_ms = max(start_ms, microseconds(moment) // 1000 - int(trade_retention_s * 1000))
    check = _Check(database, periods, start_ms, end_ms)
    compared = 0
    differences: list[Difference] = []
    suspects: list[tuple[str, str, int]] = []
    names = await instruments(database, exchange, symbol)
    for number, name in enumerate(names):
        on_step(number, len(names))
        for week in await check.weeks(*name):
            count, found = await check.week(*name, week)
            compared += count
            if found:
                suspects.append((*name, week))
    if not suspects:
        return VerifyReport(compared=compared, differences=[])
    if progress is not None:
        await progress.settle()
    for suspect in suspects:
        _, found = await check.week(*suspect)
        differences += found
    closed = None if progress is None else await progress.closed_through()
    unclosed = [each for each in differences if closed is not None and _is_open(each, closed)]
    return VerifyReport(
        compared=compared,
        differences=[each for each in differences if each not in unclosed],
        unclosed=unclosed,
    )


async def instruments(
    database: Database, exchange: str | None = None, symbol: str | None = None
) -> Sequence[tuple[str, str]]:
    """Return exchange and symbol of what is stored, restricted to one of either unless None."""
    rows = await database.fetch(QUERIES["verify_instruments"], exchange, symbol)
    return [(row["exchange"], row["symbol"]) for row in rows]


def _is_open(difference: Difference, closed: Mapping[tuple[str, str], int]) -> bool:
    """Return whether a window has no candle because it was not closed."""
    through = closed.get((difference.exchange, difference.symbol), 0)
    return difference.actual is None and closes(difference.period, difference.open_time) > through


class _Check:
    """One range and set of periods, looked at a week of one instrument at a time."""

    def __init__(
        self, database: Database, periods: Sequence[str], start_ms: int, end_ms: int
    ) -> None:
        self._database = database
        self._periods = list(periods)
        self._lengths = [timedelta(milliseconds=PERIOD_MS[each]) for each in periods]
        self._start_ms = start_ms
        self._end_ms = end_ms

    async def weeks(self, exchange: str, symbol: str) -> Sequence[int]:
        """Return the Mondays, Unix milliseconds, of the weeks there is something to compare in."""
        first: datetime | None = await self._database.value(
            QUERIES["verify_first"], exchange, symbol
        )
        if first is None:
            return ()
        begin = max(microseconds(first) // 1000, self._start_ms)
        return range(open_time(begin, "1w"), self._end_ms, WEEK_MS)

    async def week(self, exchange: str, symbol: str, week: int) -> tuple[int, list[Difference]]:
        """Return how many candles of a week were compared, and those that differ."""
        (row,) = await self._database.fetch(
            QUERIES["verify_candles"],
            exchange,
            symbol,
            at_ms(week),
            at_ms(week + WEEK_MS),
            self._periods,
            self._lengths,
            at_ms(self._start_ms),
            at_ms(self._end_ms),
        )
        found = [
            Difference(
                exchange=exchange,
                symbol=symbol,
                period=each.period,
                open_time=each.open_time,
                fields=each.fields,
                expected=_texts(each.expected),
                actual=_texts(each.actual),
            )
            for each in _differences.decode(row["differences"])
        ]
        return row["compared"], found


def _texts(values: Mapping[str, msgspec.Raw] | None) -> Mapping[str, str] | None:
    """Return the digits of JSON values as they are; a number type would lose some."""
    if values is None:
        return None
    return {name: bytes(value).decode().strip('"') for name, value in values.items()}
