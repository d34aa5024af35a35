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
        is_by_time: Whether pages list what happened between two times: then ids that one lacks may
            be on another, and only `absences`, at the end of all, tells what does not exist.

    Attributes:
        absent: Holes so far of which the venue lists less than is missing.
    """

    def __init__(
        self, gap: FoundGap, finder: GapFinder, account: Account, *, is_by_time: bool = False
    ) -> None:
        self.gap = gap
        self.finder = finder
        self._account = account
        self._is_by_time = is_by_time
        self._is_whole = True
        self._listed: dict[int, TextTrade] = {}
        self._oldest_us = gap.from_time_us - TIME_SLACK_US
        self._latest_us = gap.to_time_us + TIME_SLACK_US
        self._highest: int | None = None
        self.absent = 0

    def page(self, page: HistoryPage) -> list[Run]:
        """Return the runs of a page that are to be published; they count as settled."""
        for rejected in page.rejected:
            self._account.reject(rejected.reason)
        self._is_whole &= page.is_whole and not page.rejected
        rows = list(page.trades)
        if not rows:
            return []
        ids = [int(trade.id) for trade in rows]
        self._highest = ids[-1] if self._highest is None else max(self._highest, ids[-1])
        has_all_rows = not page.rejected and not self._is_by_time
        runs: list[Run] = []
        used = 0
        holes = self.finder.missing(
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
        if self._is_by_time:
            self._note_neighbours(rows, ids)
        published = sum(len(run.trades) for run in runs)
        self._account.take(published)
        self._account.drop(max(len(rows) - used - published, 0))
        return runs

    @property
    def missing(self) -> list[tuple[int, int]]:
        """Return the ids of the hole that are still missing, as intervals."""
        return self.finder.missing(self.gap.after_id, self.gap.before_id)

    def absences(self) -> list[Run]:
        """Return the proof of what does not exist, after all pages of a walk by time.

        What lies between two neighbours that it listed, and was on no page.
        """
        runs: list[Run] = []
        for first, last in self.missing if self._is_whole else ():
            before, after = self._listed.get(first - 1), self._listed.get(last + 1)
            if before is None or after is None:
                continue
            self.finder.add(first, last)
            self.absent += 1
            self._account.take(1)
            runs.append(Run(prev_id=before.id, trades=[after]))
        return runs

    def _note_neighbours(self, rows: Sequence[TextTrade], ids: Sequence[int]) -> None:
        """Remember the rows next to what is still missing."""
        for first, last in self.missing:
            for neighbour in (first - 1, last + 1):
                at = bisect_left(ids, neighbour)
                if at < len(ids) and ids[at] == neighbour:
                    self._listed[neighbour] = rows[at]

    def _is_plausible(self, row: TextTrade) -> bool:
        return self._oldest_us <= row.time_us <= self._latest_us

    def _whole(self, rows: Sequence[TextTrade], ids: Sequence[int], begin: int, end: int) -> Run:
        """Return the rows of a hole with the neighbour behind them; what is between is absent."""
        stop = min(end + 1, len(rows))
        start = max(begin - 1, 0)
        self.finder.add(ids[start], ids[stop - 1])
        return Run(prev_id=rows[begin - 1].id if begin else None, trades=list(rows[begin:stop]))

    def _pieces(self, rows: Sequence[TextTrade]) -> list[Run]:
        """Return rows without a claim about what lies between those that do not touch."""
        runs: list[Run] = []
        for row in rows:
            trade_id = int(row.id)
            self.finder.add(trade_id, trade_id)
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
