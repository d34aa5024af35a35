"""Short ways to make the values that tests of candles need."""

from collections.abc import Sequence
from decimal import Decimal

from market_ingestor.klines.aggregator import Aggregator
from market_ingestor.klines.columns import Columns
from market_ingestor.klines.facts import BatchFacts, Closing, Rules
from market_ingestor.model.trade import Side, Source

T0 = 1_763_676_000_000  # a full hour, Unix milliseconds
SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

Row = tuple[int, int] | tuple[int, int, str] | tuple[int, int, str, str]


def rules(
    *periods: str, lateness_s: float = 2, hold_s: float = 10, fill_empty: bool = False
) -> Rules:
    return Rules(
        periods=periods or ("1m", "5m"),
        lateness_us=int(lateness_s * 1e6),
        hold_us=int(hold_s * 1e6),
        fill_empty=fill_empty,
    )


def columns(*rows: Row) -> Columns:
    """Return trades of (id, milliseconds after T0[, price[, amount]]); odd ids buy."""
    sides: list[Side | None] = ["buy" if row[0] % 2 else "sell" for row in rows]
    return Columns(
        [row[0] for row in rows],
        [(T0 + row[1]) * 1_000 for row in rows],
        [Decimal(row[2]) if len(row) > 2 else Decimal(100) for row in rows],
        [Decimal(row[3]) if len(row) > 3 else Decimal(1) for row in rows],
        sides,
    )


class Course:
    """Drives one aggregator by hand; times are milliseconds after T0, sequences count up."""

    def __init__(self, settings: Rules | None = None, *, has_lost: bool = False) -> None:
        self.aggregator = Aggregator("binance", "BTCUSDT", settings or rules(), has_lost=has_lost)
        self.sequence = 0
        self.closed: list[Closing] = []
        self._n: dict[str, int] = {}
        self._last: dict[str, int] = {}

    def trades(
        self,
        *rows: Row,
        feed: str = "a",
        source: Source = "ws",
        received: int | None = None,
        prev: int | None = None,
        contiguous: bool = True,
    ) -> list[Closing]:
        """Read one batch, by default received 100 ms after its last trade."""
        self.sequence += 1
        self._n[feed] = self._n.get(feed, 0) + 1
        at = rows[-1][1] + 100 if received is None else received
        before = prev if prev is not None else self._last.get(feed)
        self._last[feed] = rows[-1][0]
        facts = BatchFacts(
            feed, self._n[feed], source, (T0 + at) * 1_000, before if contiguous else None
        )
        return self._keep(self.aggregator.batch(facts, columns(*rows), self.sequence))

    def mark(
        self, at: int, *, feed: str = "a", n: int | None = None, last: int | None = None,
        end: bool = False,
    ) -> list[Closing]:  # fmt: skip
        """Read one mark, by default saying that the feed has sent all it had."""
        self.sequence += 1
        closings = self.aggregator.mark(
            feed,
            (T0 + at) * 1_000,
            n=self._n.get(feed, 0) if n is None else n,
            last_id=self._last.get(feed) if last is None else last,
            is_end=end,
            sequence=self.sequence,
        )
        return self._keep(closings)

    def marks(self, first: int, last: int, *, feed: str = "a") -> list[Closing]:
        """Read a mark a second from ``first`` to ``last``."""
        return [each for at in range(first, last + 1, SECOND) for each in self.mark(at, feed=feed)]

    def silence(self, ms: int) -> list[Closing]:
        return self._keep(self.aggregator.silence(ms * 1_000, self.sequence))

    def _keep(self, closings: list[Closing]) -> list[Closing]:
        self.closed += closings
        for each in closings:
            self.aggregator.closed.settle(each, is_wrong=False)
        return closings

    @property
    def dirty(self) -> dict[tuple[str, int], str]:
        """Return the dirty windows, as period and milliseconds after T0, with their reasons."""
        return {
            (period, opened - T0): each.reason
            for (period, opened), each in self.aggregator.closed.dirty.windows.items()
        }


def begun() -> Course:
    """Return a course with a cut minute 0 behind it and one trade in minute 1."""
    course = Course()
    course.trades((1, 30 * SECOND))
    course.trades((2, MINUTE + SECOND))
    course.mark(MINUTE + 3 * SECOND)
    course.closed.clear()
    return course


def windows(closings: Sequence[Closing], period: str = "1m") -> list[tuple[int, int, str]]:
    """Return start after T0, trade count and evidence of the closed windows of a period."""
    return [
        (each.open_time - T0, each.fold.count, each.evidence.name)
        for each in closings
        if each.period == period
    ]
