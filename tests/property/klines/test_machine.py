"""A machine that trades, delays, repeats, saves, kills and corrects in any order.

The aggregator, its resume record and the rules of versions are the service's own. The stream, the
saver, the table and the loop around them are stood in for by lists, so that every step is a step.
"""

from collections.abc import Iterator
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import hypothesis.strategies as st
import msgspec
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from market_ingestor.bus import codec, subjects
from market_ingestor.klines import resume
from market_ingestor.klines.candle import emptied, fold_of, identity, merged
from market_ingestor.klines.columns import Columns
from market_ingestor.klines.dirty import Dirty, WindowKey
from market_ingestor.klines.facts import Closing, Rules
from market_ingestor.klines.flats import FlatVersion, Waiting, first_run, plan
from market_ingestor.klines.intake import Intake
from market_ingestor.klines.processor import owns_all
from market_ingestor.klines.publication import next_version
from market_ingestor.klines.resume import ResumeRecord
from market_ingestor.klines.versions import Version
from market_ingestor.klines.window import Fold
from market_ingestor.model.kline import Kline
from market_ingestor.model.partition import slot
from market_ingestor.model.period import BASE_PERIOD, MINUTE_MS, PERIOD_MS, open_time
from market_ingestor.model.trade import (
    FeedPosition,
    Mark,
    Side,
    Source,
    TextTrade,
    Trade,
    TradeBatch,
)

if TYPE_CHECKING:
    from market_ingestor.klines.aggregator import Aggregator

T0 = 1_763_675_820_000  # three minutes before a full hour
PERIODS = ("1m", "3m", "5m", "1h")
FAR = 1 << 62
ROUNDS_MAX = 1_000  # of corrections until nothing is left; three are usual, mixed runs take many
SYMBOL = ("binance", "BTCUSDT")
SLOT = slot(*SYMBOL)


class One(NamedTuple):
    """A trade; everything of it follows from its id and its time."""

    id: int
    time_us: int

    @property
    def price(self) -> Decimal:
        return Decimal(self.id * 7919 % 1000 + 1).scaleb(-2)

    @property
    def side(self) -> Side:
        return "buy" if self.id % 3 else "sell"

    def on_the_bus(self) -> TextTrade:
        return Trade(
            id=str(self.id), price=f"{self.price:f}", amount=str(self.id), side=self.side,
            time_us=self.time_us,
        )  # fmt: skip


class Sent(NamedTuple):
    """A message of the stream: a batch, or a mark when it has no trades."""

    feed: str
    n: int
    source: Source
    received_us: int
    prev_id: int | None
    last_id: int | None
    trades: tuple[One, ...]
    is_end: bool = False

    @property
    def subject(self) -> str:
        exchange, symbol = SYMBOL
        return subjects.raw(exchange, symbol) if self.trades else subjects.mark(exchange)

    @property
    def payload(self) -> bytes:
        exchange, symbol = SYMBOL
        if not self.trades:
            last_id = None if self.last_id is None else str(self.last_id)
            position = {symbol: FeedPosition(n=self.n, id=last_id)}
            return codec.encode(
                Mark(
                    v=1, exchange=exchange, feed=self.feed, received_us=self.received_us,
                    symbols=position, end=self.is_end,
                )
            )  # fmt: skip
        return codec.encode(
            TradeBatch[str](
                v=1, exchange=exchange, symbol=symbol, feed=self.feed, n=self.n,
                source=self.source, received_us=self.received_us,
                prev_id=None if self.prev_id is None else str(self.prev_id),
                trades=[each.on_the_bus() for each in self.trades],
            )
        )  # fmt: skip


class Begun(NamedTuple):
    """A correction whose content is computed and not published yet."""

    key: WindowKey
    sequence: int
    fold: Fold | None
    known: Kline | None
    wanted: Kline | None
    published: int


def columns(trades: tuple[One, ...] | list[One]) -> Columns:
    return Columns(
        [each.id for each in trades],
        [each.time_us for each in trades],
        [each.price for each in trades],
        [Decimal(each.id) for each in trades],
        [each.side for each in trades],
    )


class Market(RuleBasedStateMachine):
    """One symbol from the feed to the table."""

    def __init__(self) -> None:
        super().__init__()
        self.now_us = T0 * 1_000
        self.newest_id = 1_000
        self.held: list[One] = []
        self.stream: list[Sent] = []
        self.numbers: dict[str, int] = {}
        self.last_ids: dict[str, int] = {}
        self.published: list[Kline] = []
        self.versions: dict[WindowKey, list[Kline]] = {}
        self.winners: dict[int, One] = {}
        self.table: dict[int, One] = {}
        self.minutes: dict[int, Kline] = {}
        self.saved_raw = 0
        self.saved_klines = 0
        self.trimmed = 0
        self.feed = "f0"
        self.other: tuple[Intake, Aggregator, list[Closing], int] | None = None
        self.begun: Begun | None = None
        self.since = dict.fromkeys(PERIODS, 0)
        self.record: bytes | None = None
        self.choose(has_ids=True, fill_empty=False)

    @initialize(has_ids=st.booleans(), fill_empty=st.booleans())
    def choose(self, has_ids: bool, fill_empty: bool) -> None:
        self.has_ids = has_ids
        self.rules_ = Rules(
            periods=PERIODS, lateness_us=2_000_000, hold_us=10_000_000, fill_empty=fill_empty
        )
        self.other = None
        self._begin()

    # -- the feed

    def send(
        self, feed: str, source: Source, trades: tuple[One, ...], *, is_end: bool = False
    ) -> None:
        before = last_id = self.last_ids.get(feed)
        if trades:
            self.numbers[feed] = self.numbers.get(feed, 0) + 1
            self.last_ids[feed] = trades[-1].id
        for each in trades:
            self.winners.setdefault(each.id, each)
        prev_id = before if source == "ws" else trades[0].id - 1
        self.stream.append(
            Sent(
                feed, self.numbers.get(feed, 0), source, self.now_us,
                prev_id if self.has_ids else None, last_id, trades, is_end,
            )
        )  # fmt: skip

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

    def _begin(self, *, is_recreated: bool = False) -> None:
        """Begin a life of klines with what the record says, as its memory does."""
        record = None if self.record is None else resume.decode(self.record)
        is_lost = is_recreated if record is not None else bool(self.trimmed or self.table)
        self.intake = Intake(self.rules_, owns_all)
        self.intake.is_stream_cut = is_lost
        self.waiting: list[Closing] = []
        self.begun = None
        self.position = self.trimmed
        if record is None:
            self.aggregator = self.intake.aggregator(*SYMBOL)
        else:
            self.intake.recorded.add(SLOT)
            self.aggregator = self.intake.aggregator(*SYMBOL)
            known = record.symbols[".".join(SYMBOL)]
            resume.load(self.aggregator, known, lost_before=1 if is_lost else None)
            if not is_lost:
                self.intake.positions[SLOT] = record.position
                self.position = record.position - 1
        newest_us = self.aggregator.watermark.newest_us
        times = [each.time_us for each in self.table.values()]
        if is_lost and (times or newest_us is not None):
            self.aggregator.doubt_stored(max(*times, newest_us or 0, 0), self.trimmed + 1)

    @precondition(lambda self: self.position < len(self.stream))
    @rule(count=st.integers(1, 10))
    def read(self, count: int) -> None:
        for each in self.stream[self.position : self.position + count]:
            self.position += 1
            for update in self.intake.take(each.subject, each.payload, self.position):
                self.waiting += update.closings

    @precondition(lambda self: self.position == len(self.stream))
    @rule(silence_us=st.integers(10_000_000, 200_000_000))
    def silence(self, silence_us: int) -> None:
        self.waiting += self.aggregator.silence(silence_us, self.position)

    @precondition(lambda self: self.waiting)
    @rule(count=st.integers(1, 20))
    def publish(self, count: int) -> None:
        chosen, self.waiting = self.waiting[:count], self.waiting[count:]
        for closing in chosen:
            known = self._newest((closing.period, closing.open_time))
            wanted = next_version(
                self.aggregator, closing.period, closing.open_time, closing.fold,
                None if known is None else Version.of(known),
                evidence=closing.evidence, reason="close",
            )  # fmt: skip
            if wanted is not None and known is None:
                self._put(wanted)
            self.aggregator.closed.settle(
                closing, is_wrong=wanted is not None and known is not None
            )

    def _newest(self, key: WindowKey) -> Kline | None:
        found = self.versions.get(key)
        return found[-1] if found else None

    def _put(self, kline: Kline) -> None:
        before = self.versions.setdefault((kline.period, kline.open_time), [])
        assert kline.revision == len(before) + 1
        assert not before or identity(kline) != identity(before[-1])
        before.append(kline)
        self.published.append(kline)

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
        """Do what a healthy service does all the time, so that faults find something done."""
        self.read(len(self.stream))
        self.publish(len(self.waiting))
        self.save_trades(len(self.stream))
        self.save_klines(len(self.published))
        self.correct()

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
        record = ResumeRecord(
            stream="MARKET_RAW", created="once", written_us=0,
            position=resume.position([self.aggregator], self._next_sequence()),
            symbols={".".join(SYMBOL): resume.dump(self.aggregator)},
        )  # fmt: skip
        self.record = resume.encode(record)

    def _next_sequence(self) -> int:
        return max(self.position + 1, self.intake.positions.get(SLOT, 0))

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
        """Do what a healthy database allows soon after every start."""
        before = self.aggregator.longer.known_since
        self.aggregator.load_minutes(
            before,
            [
                (opened, fold_of(found[-1]))
                for (period, opened), found in sorted(self.versions.items())
                if period == BASE_PERIOD and opened < before
            ],
        )

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
        for sent in self.stream[self.saved_raw : self.saved_raw + count]:
            for each in sent.trades:
                self.table.setdefault(each.id, self.winners[each.id])
        self.saved_raw = min(self.saved_raw + count, len(self.stream))

    @rule(count=st.integers(1, 20))
    def save_klines(self, count: int) -> None:
        for kline in self.published[self.saved_klines : self.saved_klines + count]:
            if kline.period == BASE_PERIOD:
                self.minutes[kline.open_time] = kline
        self.saved_klines = min(self.saved_klines + count, len(self.published))

    @rule()
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

    @precondition(lambda self: self.rules_.fill_empty and self.aggregator.closed.dirty.windows)
    @rule(count=st.integers(1, 10))
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

    @precondition(lambda self: self.begun is None and self.aggregator.closed.dirty.windows)
    @rule()
    def begin_correction(self) -> None:
        """Compute a correction; anything may happen until it is published."""
        closed = self.aggregator.closed
        for key, dirty in closed.dirty.windows.items():
            if closed.is_ready(key, dirty, self.saved_raw, has_minutes=self._has_minutes()):
                self.begun = self._compute(key, dirty)
                return

    @rule()
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


def test_a_longer_window_closes_though_nothing_follows_a_restart() -> None:
    market = Market()
    market.trade([(0, 1)])
    market.mark(70_000_000)
    market.keep_up_and_die(is_loaded=False)
    market.teardown()


def test_flat_candles_follow_a_correction_whose_author_was_killed() -> None:
    """The next life finds the corrected minute right and must still look behind it."""
    market = Market()
    market.choose(has_ids=False, fill_empty=True)
    market.trade([(0, 1)])
    late = One(market.newest_id + 1, market.now_us)
    market.mark(400_000_000)
    market.newest_id += 1
    market.send("refill", "rest", (late,))
    market.keep_up()
    market.die(is_loaded=True)
    market.teardown()


def test_minutes_before_the_first_candle_are_filled_from_a_refill_on() -> None:
    market = Market()
    market.choose(has_ids=True, fill_empty=True)
    market.trade([(0, 0)])
    market.mark(400_000_000)
    market.trade([(0, 1)])
    market.teardown()


def test_a_late_trade_that_was_saved_and_not_read_before_its_stream_was_lost_counts() -> None:
    market = Market()
    market.choose(has_ids=True, fill_empty=False)
    market.trade([(0, 0), (40_000_000, 1), (30_000_000, 1)])
    market.keep_up()
    market.send("refill", "rest", (market.held.pop(),))
    market.save_trades(20)
    market.recreate_stream()
    market.teardown()


def test_a_candle_of_trades_that_were_lost_before_they_were_saved_does_not_stay() -> None:
    market = Market()
    market.choose(has_ids=True, fill_empty=False)
    market.trade([(0, 1)])
    market.trade([(130_000_000, 1)])
    market.read(2)
    market.publish(20)
    assert market.versions
    market.recreate_stream()
    market.teardown()


def test_trades_that_were_saved_and_never_read_get_a_candle_though_nothing_follows() -> None:
    market = Market()
    market.choose(has_ids=True, fill_empty=False)
    market.trade([(0, 1)])
    market.save_trades(20)
    market.recreate_stream()
    market.mark(0)
    market.read(20)
    market.silence(200_000_000)
    market.save_trades(20)
    for _ in range(20):
        market.keep_up()
    assert [key for key in market.versions if key[0] == BASE_PERIOD]
    market.teardown()
