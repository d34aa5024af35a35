"""The corrections of the model: what a processor does with windows that are marked dirty."""

from collections.abc import Iterator
from decimal import Decimal
from itertools import islice

from market_ingestor.klines.candle import emptied, fold_of, merged
from market_ingestor.klines.dirty import Dirty, WindowKey
from market_ingestor.klines.flats import FlatVersion, Waiting, first_run, plan
from market_ingestor.klines.publication import next_version
from market_ingestor.klines.versions import Version
from market_ingestor.klines.window import Fold
from market_ingestor.model.period import BASE_PERIOD, MINUTE_MS, PERIOD_MS, open_time
from tests.property.klines.model import Begun, Model
from tests.property.klines.sent import columns


class CorrectedModel(Model):
    """The model with corrections, which wait for the savers."""

    def keep_up(self) -> None:
        """Do what a healthy service does all the time, so that faults find something done."""
        self.read(len(self.stream))
        self.publish(len(self.waiting))
        self.save_trades(len(self.stream))
        self.save_klines(len(self.published))
        self.correct()

    def correct(self) -> None:
        closed = self.aggregator.closed
        self.finish_correction()
        self.correct_flats(len(closed.dirty.windows))
        for key, dirty in list(closed.dirty.windows.items()):
            if closed.is_ready(key, dirty, self.saved_raw, has_minutes=self._has_minutes()):
                self._correct(key, dirty)
        piece, scan = closed.next_search(self.saved_raw), closed.dirty.rescan
        if piece is not None and scan is not None:
            times = [each.time_us // 1_000 for each in self.table.values()]
            times += [opened for period, opened in self.versions if period == BASE_PERIOD]
            found = {open_time(each, BASE_PERIOD) for each in times if piece[0] <= each < piece[1]}
            closed.searched(scan, piece[1], found)

    def correct_flats(self, count: int) -> None:
        """Correct so many neighbours without trades, as a process that is killed behind them."""
        closed = self.aggregator.closed
        if not self.rules_.fill_empty or not self._has_minutes():
            return
        ready = {
            key[1]: Waiting(key[1], dirty.sequence, dirty.reason)
            for key, dirty in closed.dirty.windows.items()
            if key[0] == BASE_PERIOD
            and closed.is_ready(key, dirty, self.saved_raw, has_minutes=True)
        }
        run = first_run(ready)
        if not run:
            return
        traded = {each.time_us // 1_000 // MINUTE_MS * MINUTE_MS for each in self.table.values()}
        planned = plan(
            self.aggregator, [ready[opened] for opened in run], self.minutes, traded,
            self._price_before(run[0]),
        )  # fmt: skip
        for each in islice(planned, count):
            if isinstance(each, FlatVersion):
                (opened, sequence, _), fold, known, wanted = each
                self._finish(Begun((BASE_PERIOD, opened), sequence, fold, known, wanted, 0))

    def begin_correction(self) -> None:
        """Compute a correction; anything may happen until it is published."""
        closed = self.aggregator.closed
        for key, dirty in closed.dirty.windows.items():
            if closed.is_ready(key, dirty, self.saved_raw, has_minutes=self._has_minutes()):
                self.begun = self._compute(key, dirty)
                return

    def finish_correction(self) -> None:
        """Publish it, unless somebody came before: then it is computed again."""
        begun, self.begun = self.begun, None
        if begun is not None and begun.published == self._count(begun.key[0]):
            self._finish(begun)

    def _count(self, period: str) -> int:
        return sum(each.period == period for each in self.published)

    def _has_minutes(self) -> bool:
        unsaved = self.published[self.saved_klines :]
        return all(kline.period != BASE_PERIOD for kline in unsaved)

    def _correct(self, key: WindowKey, dirty: Dirty) -> None:
        begun = self._compute(key, dirty)
        if begun is not None:
            self._finish(begun)

    def _compute(self, key: WindowKey, dirty: Dirty) -> Begun | None:
        period, opened = key
        sequence, known = dirty.sequence, self._newest(key)
        if self.rules_.fill_empty and not self._has_minutes():
            return None
        fold = self._stored_fold(key, sequence)
        wanted = None
        if fold is None and known is not None:
            fold = emptied(known)
        if fold is not None and (fold.count or known is not None or self.rules_.fill_empty):
            wanted = next_version(
                self.aggregator, period, opened, fold,
                None if known is None else Version.of(known),
                evidence=self.aggregator.closed.judge(period, opened), reason=dirty.reason,
            )  # fmt: skip
        return Begun(key, sequence, fold, known, wanted, self._count(period))

    def _finish(self, begun: Begun) -> None:
        (period, opened), sequence, fold, known, wanted, _ = begun
        dirty = self.aggregator.closed.dirty.windows.get(begun.key)
        if dirty is None:
            return
        if wanted is not None:
            self._put(wanted)
        if period == BASE_PERIOD:
            if wanted is not None:
                old = None if known is None else fold_of(known)
                self.aggregator.correct(opened, old, fold_of(wanted))
            self.aggregator.closed.soil_longer(opened, dirty.reason, sequence)
            if fold is not None and self.rules_.fill_empty and not self._carry(begun, fold):
                return
        self.aggregator.closed.dirty.settle(period, opened, sequence, 0.0)

    def _carry(self, begun: Begun, fold: Fold) -> bool:
        closed, opened = self.aggregator.closed, begun.key[1]
        if closed.awaits_next(opened):
            return True
        if closed.is_publishing_behind(opened) or not self._has_minutes():
            return False
        self.aggregator.carry_price(fold.close, self._unlike(opened, fold.close), begun.sequence)
        return True

    def _unlike(self, opened: int, price: Decimal) -> Iterator[tuple[int, bool]]:
        through = self.aggregator.closed.through
        for minute in range(opened + MINUTE_MS, through or 0, MINUTE_MS):
            row = self.minutes.get(minute)
            if row is None or row.trade_count or Decimal(row.close) != price:
                yield minute, row is not None and row.trade_count > 0
            if row is not None and row.trade_count:
                return

    def _stored_fold(self, key: WindowKey, sequence: int) -> Fold | None:
        period, opened = key
        ends = opened + PERIOD_MS[period]
        if period != BASE_PERIOD:
            held = range(opened, ends, MINUTE_MS)
            return merged(self.minutes[each] for each in held if each in self.minutes)
        inside = [each for each in self.table.values() if opened <= each.time_us // 1_000 < ends]
        if inside:
            self.aggregator.closed.stored(columns(sorted(inside)), sequence)
            return Fold.of(columns(sorted(inside)))
        price = self._price_before(opened) if self.rules_.fill_empty else None
        return None if price is None else Fold.flat(price)

    def _price_before(self, opened: int) -> Decimal | None:
        before = [(row.trade_count > 0, at) for at, row in self.minutes.items() if at < opened]
        return fold_of(self.minutes[max(before)[1]]).close if before else None
