"""A market in lists: the stream, a processor that reads it, the saver and its table."""

from typing import TYPE_CHECKING, NamedTuple

from market_ingestor.klines import resume
from market_ingestor.klines.candle import fold_of, identity
from market_ingestor.klines.dirty import WindowKey
from market_ingestor.klines.facts import Closing, Rules
from market_ingestor.klines.intake import Intake
from market_ingestor.klines.processor import owns_all
from market_ingestor.klines.publication import next_version
from market_ingestor.klines.resume import ResumeRecord
from market_ingestor.klines.versions import Version
from market_ingestor.klines.window import Fold
from market_ingestor.model.kline import Kline
from market_ingestor.model.partition import slot
from market_ingestor.model.period import BASE_PERIOD
from market_ingestor.model.trade import Source
from tests.property.klines.sent import SYMBOL, One, Sent

if TYPE_CHECKING:
    from market_ingestor.klines.aggregator import Aggregator

T0 = 1_763_675_820_000  # three minutes before a full hour
PERIODS = ("1m", "3m", "5m", "1h")
SLOT = slot(*SYMBOL)


class Begun(NamedTuple):
    """A correction whose content is computed and not published yet."""

    key: WindowKey
    sequence: int
    fold: Fold | None
    known: Kline | None
    wanted: Kline | None
    published: int


class Model:
    """One symbol from the feed to the table, without corrections."""

    def __init__(self) -> None:
        super().__init__()  # the machine that has this as its other base
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

    def read(self, count: int) -> None:
        for each in self.stream[self.position : self.position + count]:
            self.position += 1
            for update in self.intake.take(each.subject, each.payload, self.position):
                self.waiting += update.closings

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

    def remember(self) -> None:
        record = ResumeRecord(
            stream="MARKET_RAW", created="once", written_us=0,
            position=resume.position([self.aggregator], self._next_sequence()),
            symbols={".".join(SYMBOL): resume.dump(self.aggregator)},
        )  # fmt: skip
        self.record = resume.encode(record)

    def _next_sequence(self) -> int:
        return max(self.position + 1, self.intake.positions.get(SLOT, 0))

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

    # -- the savers

    def save_trades(self, count: int) -> None:
        for sent in self.stream[self.saved_raw : self.saved_raw + count]:
            for each in sent.trades:
                self.table.setdefault(each.id, self.winners[each.id])
        self.saved_raw = min(self.saved_raw + count, len(self.stream))

    def save_klines(self, count: int) -> None:
        for kline in self.published[self.saved_klines : self.saved_klines + count]:
            if kline.period == BASE_PERIOD:
                self.minutes[kline.open_time] = kline
        self.saved_klines = min(self.saved_klines + count, len(self.published))
