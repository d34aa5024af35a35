"""The newest value of everything that is conflated: open candles and statistics. Pure.

One table for all clients. The message around a value is built when the first client takes it;
a value replaced before that costs nothing more.
"""

from collections.abc import Sequence
from typing import Final

from market_ingestor.model.kline import Kline
from market_ingestor.push.messages import Message, data_text, message
from market_ingestor.push.names import Names
from market_ingestor.push.ring import Instrument
from market_ingestor.push.subscriptions import Key

WINDOWS_MAX: Final = 2  # around a boundary the old and the new candle are both open


class Value:
    """One state of an open candle, or of the statistics of a symbol.

    Attributes:
        payload: As it came over the bus.
        received_us: When it came, UTC microseconds.
    """

    __slots__ = ("built", "kind", "payload", "received_us", "topic")

    def __init__(self, kind: str, topic: str, payload: bytes, received_us: int) -> None:
        self.kind = kind
        self.topic = topic
        self.payload = payload
        self.received_us = received_us
        self.built: Message | None = None


class Latest:
    """Newest values by key; an open candle's key holds its opening time.

    Attributes:
        instruments: Exchange, symbol and period of all open candles.
    """

    def __init__(self) -> None:
        self._values: dict[Key, Value] = {}
        self._open: dict[Instrument, list[int]] = {}
        self.instruments: Names[Instrument] = Names()
        self._closed_through: dict[Instrument, int] = {}

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: Key) -> bool:
        return key in self._values

    def open_keys(self, instrument: Instrument) -> list[Key]:
        """Return the keys of an instrument's open candles, oldest window first."""
        return [(instrument, opened) for opened in self._open.get(instrument, ())]

    def open_times(self, instrument: Instrument) -> Sequence[int]:
        """Return the opening times of an instrument's open candles, ascending."""
        return self._open.get(instrument, ())

    def closed_through(self, instrument: Instrument) -> int:
        """Return the opening time of the last window known to be closed, -1 for none."""
        return self._closed_through.get(instrument, -1)

    def value(self, key: Key) -> Value | None:
        """Return the newest value of a key, None when it is gone."""
        return self._values.get(key)

    def put_open(
        self, kline: Kline, payload: bytes, received_us: int
    ) -> tuple[Key | None, list[Key]]:
        """Take an open candle.

        Returns:
            Its key, None when its window closed already; and the keys that went for it.
        """
        instrument = (kline.exchange, kline.symbol, kline.period)
        if kline.open_time <= self._closed_through.get(instrument, -1):
            return None, []
        windows = self._open.setdefault(instrument, [])
        gone: list[Key] = []
        if kline.open_time not in windows:
            windows.append(kline.open_time)
            self.instruments.add(instrument)
            windows.sort()
            gone = self._forget(instrument, windows[:-WINDOWS_MAX])
        if kline.open_time not in windows:
            return None, gone
        key: Key = (instrument, kline.open_time)
        topic = ".".join(("kline", *instrument))
        self._values[key] = Value("kline", topic, payload, received_us)
        return key, gone

    def close(self, instrument: Instrument, open_time: int) -> list[Key]:
        """Note that a window closed; returns the keys of open candles that thereby went."""
        through = max(open_time, self._closed_through.get(instrument, -1))
        self._closed_through[instrument] = through
        windows = self._open.get(instrument)
        if not windows or windows[0] > through:
            return []
        return self._forget(instrument, [each for each in windows if each <= through])

    def _forget(self, instrument: Instrument, windows: list[int]) -> list[Key]:
        left = self._open[instrument]
        for opened in windows:
            left.remove(opened)
            self._values.pop((instrument, opened), None)
        if not left:
            del self._open[instrument]
            self.instruments.discard(instrument)
        return [(instrument, opened) for opened in windows]

    def put(self, kind: str, topic: str, payload: bytes, received_us: int) -> Key:
        """Take the newest value of a topic that has one value; returns its key."""
        self._values[topic] = Value(kind, topic, payload, received_us)
        return topic

    def message(self, key: Key) -> Message | None:
        """Return the message with the newest value of a key, None when it is gone."""
        value = self._values.get(key)
        if value is None:
            return None
        if value.built is None:
            value.built = message(data_text(value.kind, value.topic, None, value.payload))
        return value.built
