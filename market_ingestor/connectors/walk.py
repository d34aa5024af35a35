"""The walk through a venue's history that fills a hole: what each page proves. Pure.

A page lists trades as neighbours; so it tells what lies in a hole and also what does not. Only
what is missing is published, each run with the neighbour on either side where the page has it, so
that whoever reads the stream sees the proof as well.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

import msgspec

from market_ingestor.connectors.account import Account
from market_ingestor.connectors.gaps import FoundGap, GapFinder
from market_ingestor.connectors.venue import HistoryPage
from market_ingestor.model.trade import TextTrade

# Ids, not times, order trades; neighbours may be this far out of order in time and no further.
TIME_SLACK_US: Final = 60 * 1_000_000


class Run(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Trades that the venue listed one after the other.

    Attributes:
        prev_id: The trade it listed before the first, None when the page does not tell.
        trades: At least one.
    """

    prev_id: str | None
    trades: list[TextTrade]


class GapWalk:
    """One walk over one hole.

    Args:
        gap: What is walked.
        finder: Of the instrument; learns what is settled.
        account: Counts every row.

    Attributes:
        absent: Holes so far of which the venue lists less than is missing.
    """

    def __init__(self, gap: FoundGap, finder: GapFinder, account: Account) -> None:
        self.gap = gap
        self._finder = finder
        self._account = account
        self._oldest_us = gap.from_time_us - TIME_SLACK_US
        self._latest_us = gap.to_time_us + TIME_SLACK_US
        self._highest: int | None = None
        self.absent = 0

    def page(self, page: HistoryPage) -> list[Run]:
        """Return the runs of a page that are to be published; they count as settled."""
        for rejected in page.rejected:
            self._account.reject(rejected.reason)
        rows = list(page.trades)
        if not rows:
            return []
        ids = [int(trade.id) for trade in rows]
        self._highest = ids[-1] if self._highest is None else max(self._highest, ids[-1])
        has_all_rows = not page.rejected
        runs: list[Run] = []
        used = 0
        holes = self._finder.missing(
            max(self.gap.after_id, ids[0] - 1), min(self.gap.before_id, ids[-1] + 1)
        )
        for first, last in holes:
            begin, end = bisect_left(ids, first), bisect_left(ids, last + 1)
            odd = [row for row in rows[begin:end] if not self._is_plausible(row)]
            for row in odd:
                self._account.reject(
                    "too_old" if row.time_us < self._oldest_us else "too_far_ahead"
                )
            used += len(odd)
            if has_all_rows and not odd:
                self.absent += end - begin <= last - first
                runs.append(self._whole(rows, ids, begin, end))
            else:
                fit = [row for row in rows[begin:end] if self._is_plausible(row)]
                runs += self._pieces(fit)
        published = sum(len(run.trades) for run in runs)
        self._account.take(published)
        self._account.drop(max(len(rows) - used - published, 0))
        return runs

    def _is_plausible(self, row: TextTrade) -> bool:
        return self._oldest_us <= row.time_us <= self._latest_us

    def _whole(self, rows: Sequence[TextTrade], ids: Sequence[int], begin: int, end: int) -> Run:
        """Return the rows of a hole with the neighbour behind them; what is between is absent."""
        stop = min(end + 1, len(rows))
        start = max(begin - 1, 0)
        self._finder.add(ids[start], ids[stop - 1])
        return Run(prev_id=rows[begin - 1].id if begin else None, trades=list(rows[begin:stop]))

    def _pieces(self, rows: Sequence[TextTrade]) -> list[Run]:
        """Return rows without a claim about what lies between those that do not touch."""
        runs: list[Run] = []
        for row in rows:
            trade_id = int(row.id)
            self._finder.add(trade_id, trade_id)
            if runs and int(runs[-1].trades[-1].id) + 1 == trade_id:
                runs[-1].trades.append(row)
            else:
                runs.append(Run(prev_id=None, trades=[row]))
        return runs

    def may_come(self, missing: Sequence[tuple[int, int]]) -> bool:
        """Return whether the venue's history may only be late with some of these ids.

        It is late with what lies above everything it listed. What lies below and was not listed
        it does not have any more.
        """
        return self._highest is None or any(last > self._highest for _, last in missing)
