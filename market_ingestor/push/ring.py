"""The newest closed candles, once for all clients. Pure.

Owns them in the order of their stream, within a limit of bytes; knows nothing of clients. When
it is full the oldest candle goes, whoever has not read it yet: such a client resumes from the
stream by its position.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from operator import attrgetter
from typing import Final, TypeAlias

from market_ingestor.model.kline import Kline
from market_ingestor.push import positions
from market_ingestor.push.messages import Message, data_text, message, one_line
from market_ingestor.push.names import Names

Instrument: TypeAlias = tuple[str, str, str]  # exchange, symbol, period

_FAMILY_END: Final = len(b'{"type":"kline","topic":"kline')
OVERHEAD_BYTES: Final = 700  # of the objects around one candle, measured with sys.getsizeof


class Candle:
    """One version of a closed candle, with the messages made from it.

    Attributes:
        sequence: Its place in MARKET_KLINE.
        stored_us: When it was stored there, UTC microseconds.
        key: Exchange, symbol and period.
    """

    __slots__ = (
        "_closed",
        "_kline",
        "_payload_start",
        "key",
        "open_time",
        "revision",
        "sequence",
        "stored_us",
    )

    def __init__(
        self, kline: Kline, payload: bytes, sequence: int, position: str, stored_us: int
    ) -> None:
        self.sequence = sequence
        self.stored_us = stored_us
        self.key: Instrument = (kline.exchange, kline.symbol, kline.period)
        self.open_time = kline.open_time
        self.revision = kline.revision
        topic = ".".join(self.key)
        payload = one_line(payload)
        text = data_text("kline", f"kline.{topic}", position, payload)
        self._payload_start = len(text) - 1 - len(payload)
        self._kline = message(text)
        self._closed: Message | None = None

    @property
    def cost(self) -> int:
        """Return the bytes it may take here, its second message included."""
        return 2 * self._kline.size + OVERHEAD_BYTES

    @property
    def payload(self) -> bytes:
        """Return the candle as it came over the bus, on one line."""
        return self._kline.text[self._payload_start : -1]

    def message(self, family: str) -> Message:
        """Return the message for topics of ``family``, ``kline`` or ``closed``."""
        if family == "kline":
            return self._kline
        if self._closed is None:
            rest = self._kline.text[_FAMILY_END:]
            self._closed = message(b'{"type":"kline","topic":"closed' + rest)
        return self._closed


class Ring:
    """Closed candles in stream order, bounded by bytes.

    Args:
        bytes_max: Limit of `size`; the newest candle is kept even if it alone is larger.

    Attributes:
        epoch: Life of the stream that the sequences belong to.
        first_sequence: From here on nothing the stream has is missing here.
        last_sequence: Up to here the stream was read.
        keys: Exchange, symbol and period of everything here.
        size: Bytes taken, as `Candle.cost` counts them.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._candles: deque[Candle] = deque()
        self._by_key: dict[Instrument, deque[Candle]] = {}
        self.keys: Names[Instrument] = Names()
        self.epoch = "00000000"
        self.first_sequence = 1
        self.last_sequence = 0
        self.size = 0

    def __len__(self) -> int:
        return len(self._candles)

    def __iter__(self) -> Iterator[Candle]:
        return iter(self._candles)

    def begin(self, epoch: str, first_sequence: int) -> None:
        """Forget everything; the stream will be read from ``first_sequence`` on."""
        self._candles.clear()
        self._by_key.clear()
        self.keys = Names()
        self.epoch = epoch
        self.first_sequence = first_sequence
        self.last_sequence = first_sequence - 1
        self.size = 0

    def position(self, sequence: int) -> str:
        """Return the position of a sequence of this stream."""
        return positions.encode(self.epoch, sequence)

    def skip(self, sequence: int) -> None:
        """Note that the stream was read up to ``sequence``, which holds no candle."""
        self.last_sequence = max(self.last_sequence, sequence)

    def append(
        self, kline: Kline, payload: bytes, sequence: int, stored_us: int
    ) -> tuple[Candle, list[Candle]]:
        """Take the next candle of the stream; returns it and those that had to go for it.

        Raises:
            ValueError: ``sequence`` does not grow.
        """
        if sequence <= self.last_sequence:
            raise ValueError(f"sequence {sequence} after {self.last_sequence}")
        candle = Candle(kline, payload, sequence, self.position(sequence), stored_us)
        self._candles.append(candle)
        self._by_key.setdefault(candle.key, deque()).append(candle)
        self.keys.add(candle.key)
        self.last_sequence = sequence
        self.size += candle.cost
        gone: list[Candle] = []
        while self.size > self._bytes_max and len(self._candles) > 1:
            gone.append(self._let_go())
        return candle, gone

    def _let_go(self) -> Candle:
        oldest = self._candles.popleft()
        same = self._by_key[oldest.key]
        same.popleft()
        if not same:
            del self._by_key[oldest.key]
            self.keys.discard(oldest.key)
        # The messages may have been completed since it came; the cost counted both from the start.
        self.size -= oldest.cost
        self.first_sequence = oldest.sequence + 1
        return oldest

    def covers(self, sequence: int) -> bool:
        """Return whether everything from ``sequence`` on that was read is still here."""
        return sequence >= self.first_sequence

    def after(self, sequence: int, limit: int) -> list[Candle]:
        """Return up to ``limit`` candles behind ``sequence``, in stream order."""
        start = bisect_right(self._candles, sequence, key=attrgetter("sequence"))
        stop = min(start + limit, len(self._candles))
        return [self._candles[index] for index in range(start, stop)]

    def newest(self, key: Instrument, limit: int) -> list[Candle]:
        """Return the newest version of the last ``limit`` windows here, by opening time."""
        by_window: dict[int, Candle] = {}
        for candle in self._by_key.get(key, ()):
            known = by_window.get(candle.open_time)
            if known is None or known.revision <= candle.revision:
                by_window[candle.open_time] = candle
        return [by_window[opened] for opened in sorted(by_window)[-limit:]]
