"""A machine that trades, delays, repeats, saves, kills and corrects in any order.

The aggregator, its resume record and the rules of versions are the service's own. The stream, the
saver, the table and the loop around them are stood in for by lists, so that every step is a step.
"""

from typing import TYPE_CHECKING

import hypothesis.strategies as st
import msgspec
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from market_ingestor.klines import resume
from market_ingestor.klines.candle import fold_of
from market_ingestor.klines.dirty import WindowKey
from market_ingestor.klines.window import Fold
from market_ingestor.model.period import BASE_PERIOD, MINUTE_MS, PERIOD_MS, open_time
from market_ingestor.model.trade import Source
from tests.property.klines.corrections import CorrectedModel
from tests.property.klines.model import PERIODS
from tests.property.klines.sent import One, columns

if TYPE_CHECKING:
    from market_ingestor.model.kline import Kline

FAR = 1 << 62
ROUNDS_MAX = 1_000  # of corrections until nothing is left; three are usual, mixed runs take many


class Market(CorrectedModel, RuleBasedStateMachine):
    """One symbol from the feed to the table."""

    @initialize(has_ids=st.booleans(), fill_empty=st.booleans())
    def choose(self, has_ids: bool, fill_empty: bool) -> None:
        super().choose(has_ids=has_ids, fill_empty=fill_empty)

    # -- the feed

    @rule(
        steps=st.lists(
            st.tuples(st.integers(0, 40_000_000), st.integers(0, 3)), min_size=1, max_size=12
        )
    )
    def trade(self, steps: list[tuple[int, int]]) -> None:
        trades: list[One] = []
        for step_us, fate in steps:
            self.now_us += step_us
            self.newest_id += 1
            (trades if fate else self.held).append(One(self.newest_id, self.now_us))
        if trades:
            self.send(self.feed, "ws", tuple(trades))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), source=st.sampled_from(("ws", "rest")))
    def late(self, data: st.DataObject, source: Source) -> None:
        each = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.send("second" if source == "ws" else "refill", source, (each,))

    @precondition(lambda self: self.stream)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        each = data.draw(st.sampled_from(self.stream))
        if each.trades:
            self.send("third", "ws", each.trades)

    @precondition(lambda self: self.has_ids and self.winners)
    @rule(data=st.data(), shift_us=st.integers(-59_000_000, 59_000_000), is_first=st.booleans())
    def misdate(self, data: st.DataObject, shift_us: int, is_first: bool) -> None:
        """Send a copy with another time; a killed saver may store it before the original."""
        ids = sorted(self.winners)
        original = self.winners[data.draw(st.sampled_from(ids))]
        copy = One(original.id, original.time_us + shift_us)
        if is_first and copy.id not in self.table:
            self.winners[copy.id] = copy
        self.send("other", "rest", (copy,))

    @rule(elapsed_us=st.sampled_from((0, 1_000_000, 3_000_000, 70_000_000, 400_000_000)))
    def mark(self, elapsed_us: int) -> None:
        self.now_us += elapsed_us
        self.send(self.feed, "ws", ())

    @rule(is_said=st.booleans())
    def end_feed(self, is_said: bool) -> None:
        """Lose the connection; the mark that says so may be lost with it."""
        if is_said:
            self.send(self.feed, "ws", (), is_end=True)
        self.feed = f"f{int(self.feed[1:]) + 1}"

    # -- the processor

    @precondition(lambda self: self.position < len(self.stream))
    @rule(count=st.integers(1, 10))
    def read(self, count: int) -> None:
        super().read(count)

    @precondition(lambda self: self.position == len(self.stream))
    @rule(silence_us=st.integers(10_000_000, 200_000_000))
    def silence(self, silence_us: int) -> None:
        self.waiting += self.aggregator.silence(silence_us, self.position)

    @precondition(lambda self: self.waiting)
    @rule(count=st.integers(1, 20))
    def publish(self, count: int) -> None:
        super().publish(count)

    @rule()
    def turn_to_the_other(self) -> None:
        """Let the other of two processors side by side work; both write the same record."""
        this = (self.intake, self.aggregator, self.waiting, self.position)
        self.begun = None
        if self.other is None:
            self._begin()
        else:
            self.intake, self.aggregator, self.waiting, self.position = self.other
        self.other = this

    @precondition(lambda self: self.other is not None)
    @rule()
    def lose_the_other(self) -> None:
        self.other = None

    @rule()
    def keep_up(self) -> None:
        super().keep_up()

    @rule(is_loaded=st.booleans())
    def keep_up_and_die(self, is_loaded: bool) -> None:
        self.keep_up()
        self.remember()
        self.die(is_loaded)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def late_and_read(self, data: st.DataObject) -> None:
        self.late(data, "rest")
        self.read(len(self.stream))

    @rule()
    def remember(self) -> None:
        super().remember()

    @rule(back=st.integers(1, 30), is_loaded=st.booleans(), is_rolling=st.booleans())
    def change_shards(self, back: int, is_loaded: bool, is_rolling: bool) -> None:
        """Begin in a process that owns other slots as well and reads from where those need it.

        The one that had this slot before may still be there.
        """
        if is_rolling:
            self.other = (self.intake, self.aggregator, self.waiting, self.position)
        self._begin()
        self.position = max(self.position - back, self.trimmed)
        if is_loaded:
            self.load()

    @rule(is_loaded=st.booleans())
    def die(self, is_loaded: bool) -> None:
        self._begin()
        if is_loaded:
            self.load()

    @rule(periods=st.sets(st.sampled_from(PERIODS[1:])), is_loaded=st.booleans())
    def configure(self, periods: set[str], is_loaded: bool) -> None:
        """Begin again with other periods; windows that closed without one never get candles."""
        self.other = None
        before = set(self.rules_.periods)
        periods |= {BASE_PERIOD}
        self.rules_ = msgspec.structs.replace(
            self.rules_, periods=tuple(each for each in PERIODS if each in periods)
        )
        self._begin()
        for period in before ^ periods:
            self.since[period] = self.aggregator.closed.through or FAR
        if is_loaded:
            self.load()

    @precondition(lambda self: self.aggregator.needs_loading)
    @rule()
    def load(self) -> None:
        super().load()

    @precondition(lambda self: self.record is not None and any(s.trades for s in self.stream))
    @precondition(lambda self: self.aggregator.closed.dirty.rescan is None)  # one loss at a time
    @rule(data=st.data())
    def lose_record(self, data: st.DataObject) -> None:
        """Begin without any record on a stream that no longer has what nobody needed.

        The janitor leaves a cushion: the newest trades are still there.
        """
        assert self.record is not None
        newest = max(at for at, sent in enumerate(self.stream) if sent.trades)
        unneeded = min(resume.decode(self.record).position - 1, self.saved_raw, newest)
        self.record = self.other = None
        self.trimmed = max(self.trimmed, data.draw(st.integers(0, unneeded)))
        self._begin()

    @rule()
    def recreate_stream(self) -> None:
        """Lose what nobody saved; klines writes a last record and begins anew."""
        self.remember()
        self.stream.clear()
        self.saved_raw = self.trimmed = 0
        self.winners = dict(self.table)
        self.other = None
        self._begin(is_recreated=True)
        self.remember()  # the old one is of another stream

    # -- the savers, and what waits for them

    @rule(count=st.integers(1, 20))
    def save_trades(self, count: int) -> None:
        super().save_trades(count)

    @rule(count=st.integers(1, 20))
    def save_klines(self, count: int) -> None:
        super().save_klines(count)

    @rule()
    def correct(self) -> None:
        super().correct()

    @precondition(lambda self: self.rules_.fill_empty and self.aggregator.closed.dirty.windows)
    @rule(count=st.integers(1, 10))
    def correct_flats(self, count: int) -> None:
        super().correct_flats(count)

    @precondition(lambda self: self.begun is None and self.aggregator.closed.dirty.windows)
    @rule()
    def begin_correction(self) -> None:
        super().begin_correction()

    @rule()
    def finish_correction(self) -> None:
        super().finish_correction()

    # -- what must hold

    @invariant()
    def nothing_is_open_behind_the_watermark(self) -> None:
        through = self.aggregator.closed.through
        assert through is None or all(opened >= through for opened in self.aggregator.open.windows)

    def teardown(self) -> None:
        """Let everything come to rest: the candles are then those of the trades."""
        while self.held:
            self.send("refill", "rest", (self.held.pop(),))
        if not self.newest_id > 1_000:
            return
        self.now_us += 2 * PERIOD_MS["1h"] * 1_000
        self.send(self.feed, "ws", ())
        for _ in range(4):  # each may have to correct what the other published
            self._settle()
            if self.other is not None:
                self.turn_to_the_other()
                self._settle()
        self._check_candles()

    def _settle(self) -> None:
        for _ in range(ROUNDS_MAX):
            self.read(len(self.stream))
            self.waiting += self.aggregator.silence(3 * PERIOD_MS["1h"] * 1_000, self.position)
            self.keep_up()
            if not len(self.aggregator.closed.dirty) and not self.waiting:
                break
        assert not len(self.aggregator.closed.dirty)
        assert not self.aggregator.open.windows

    def _check_candles(self) -> None:
        trades = set(self.winners.values())
        wanted = {
            (period, opened): _content(Fold.of(columns(sorted(inside))))
            for period in PERIODS
            for opened, inside in _windows(trades, period).items()
        }
        newest = {key: _content(fold_of(found[-1])) for key, found in self.versions.items()}
        newest = {key: content for key, content in newest.items() if content[_COUNT]}
        assert self._watched(newest) == self._watched(wanted)
        if self.rules_.fill_empty:
            self._check_flat()

    def _watched(self, candles: dict[WindowKey, tuple[object, ...]]) -> dict[WindowKey, object]:
        """Leave out periods that are not made now, and windows that closed when they were not."""
        return {
            (period, opened): content
            for (period, opened), content in candles.items()
            if period in self.rules_.periods and opened + PERIOD_MS[period] > self.since[period]
        }

    def _check_flat(self) -> None:
        """No minute is left out, and those without trades say the price before."""
        minutes = {key[1]: each[-1] for key, each in self.versions.items() if key[0] == BASE_PERIOD}
        if not minutes:
            return
        through = self.aggregator.closed.through
        assert through is not None
        before: Kline | None = None
        for opened in range(min(minutes), through, MINUTE_MS):
            kline = minutes[opened]
            if not kline.trade_count and before is not None:
                assert {kline.open, kline.high, kline.low, kline.close} == {before.close}
            before = kline


def _windows(trades: set[One], period: str) -> dict[int, list[One]]:
    windows: dict[int, list[One]] = {}
    for each in trades:
        minute = each.time_us // 1_000 // MINUTE_MS * MINUTE_MS
        windows.setdefault(open_time(minute, period), []).append(each)
    return windows


def _content(fold: Fold) -> tuple[object, ...]:
    return tuple(getattr(fold, name) for name in Fold.__slots__)


_COUNT = Fold.__slots__.index("count")

TestMarket = Market.TestCase
TestMarket.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, derandomize=True
)
