"""What Binance streams show now, each changed at most once a second. Pure.

One board for all clients. A stream of candles shows one window at a time: while the candle
before is still open nothing is shown of the new one, so that whoever reads gets exactly one
closed event per window, in the order of time, and the new window only behind it.
"""

from typing import TYPE_CHECKING, Final

from market_ingestor.model.intervals import IdIntervals
from market_ingestor.model.period import PERIOD_MS
from market_ingestor.model.trade import TextTrade, TradeBatch
from market_ingestor.push.binance.cadence import Cadence
from market_ingestor.push.binance.streams import KLINE_FAMILIES, KLINES, VERSIONS, Form
from market_ingestor.push.latest import Latest, Value
from market_ingestor.push.ring import Candle, Instrument
from market_ingestor.push.subscriptions import STATS, Topic, text_of

if TYPE_CHECKING:
    from market_ingestor.push.messages import Message  # never made here, only kept

INTERVAL_S: Final = 1.0  # between two events of a stream
SETTLING_S: Final = 5.0  # after the start: windows of before, never seen open, have closed by then
ID_INTERVALS_MAX: Final = 64  # per symbol; one where ids run on
SYMBOLS_MAX: Final = 1_000  # whose trade ids are remembered; the longest unheard is forgotten


class Shown:
    """What a stream shows, and the messages made of it."""

    __slots__ = ("messages", "value")

    def __init__(self, value: Value) -> None:
        self.value = value
        self.messages: dict[Form, Message | None] = {}


class Board:
    """Holds what streams show.

    Args:
        latest: The newest values of everything.
    """

    def __init__(self, latest: Latest) -> None:
        self._latest = latest
        self._cadence = Cadence(INTERVAL_S)
        self._shown: dict[Topic, Shown] = {}
        self._through: dict[Topic, int] = {}
        self._ids: dict[tuple[str, str], IdIntervals] = {}
        self._settled_at: float | None = None

    @property
    def due_at(self) -> float | None:
        """Return when `release` is to be called again, None: when something changed."""
        return self._cadence.due_at

    def shown(self, topic: Topic) -> Shown | None:
        """Return what a stream shows, None for nothing."""
        return self._shown.get(topic)

    def note(self, topic: Topic) -> None:
        """Note that the value of a stream somebody reads changed."""
        self._cadence.note(topic)

    def tell(self, topic: Topic) -> None:
        """Note that a closed candle goes out to somebody who reads a stream."""
        self._cadence.tell(topic)

    def close(self, candle: Candle, *, is_first: bool) -> list[Topic]:
        """Note a version of a closed candle; returns the streams it is an event of.

        Args:
            candle: The version.
            is_first: The first of its window, and no later window closed before.
        """
        streams: list[Topic] = [(VERSIONS, *candle.key)]
        plain: Topic = (KLINES, *candle.key)
        if is_first and candle.open_time >= self._through.get(plain, candle.open_time):
            streams.append(plain)
        if is_first:
            for family in KLINE_FAMILIES:
                self._shown.pop((family, *candle.key), None)
        return streams

    def release(self, now: float) -> list[Topic]:
        """Show what changed and is due; returns the streams that show something new."""
        if self._settled_at is None:
            self._settled_at = now + SETTLING_S
        released = []
        for topic in self._cadence.due(now):
            value = self._current(topic, now)
            before = self._shown.get(topic)
            if value is None or (before is not None and before.value is value):
                continue
            self._shown[topic] = Shown(value)
            self._cadence.told(topic, now)
            released.append(topic)
        return released

    def _current(self, topic: Topic, now: float) -> Value | None:
        family, exchange, symbol, *period = topic
        if not period:
            return self._latest.value(text_of((STATS, exchange, symbol)))
        instrument: Instrument = (exchange, symbol, period[0])
        keys = self._latest.open_keys(instrument)
        if len(keys) != 1:
            return None  # noted again when the older window closes
        opened = self._latest.open_times(instrument)[0]
        is_next = self._latest.closed_through(instrument) >= opened - PERIOD_MS[period[0]]
        if not is_next and self._settled_at is not None and now < self._settled_at:
            self._cadence.defer(topic, self._settled_at)
            return None
        if family == KLINES:
            self._through[topic] = opened
        return self._latest.value(keys[0])

    def fresh(self, batch: TradeBatch[str]) -> list[TextTrade]:
        """Return the live trades of a batch that no feed brought before.

        Refilled trades are old and come out of order: a stream of the newest trades has no
        place for them, REST has.
        """
        if batch.source != "ws":
            return []
        key = (batch.exchange, batch.symbol)
        known = self._ids.pop(key, None) or IdIntervals(ID_INTERVALS_MAX)
        self._ids[key] = known
        if len(self._ids) > SYMBOLS_MAX:
            del self._ids[next(iter(self._ids))]
        return [trade for trade in batch.trades if known.add(int(trade.id))]
