"""What the API knows before the database does: candles, prices, statistics, feeds. Pure.

The table lags the stream by a batch, by minutes when the database is slow; answers overlay it
with the tail of the stream, so a candle is never in neither.
"""

import contextlib
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias

from market_ingestor.bus import codec
from market_ingestor.errors import DecodeError
from market_ingestor.model import decimals
from market_ingestor.model.kline import Kline
from market_ingestor.model.stats import Stats
from market_ingestor.model.trade import TextTrade

Key: TypeAlias = tuple[str, str, str]  # exchange, symbol, period

OVERHEAD_BYTES: Final = 500  # of the objects around one candle
FEED_SILENCE_US: Final = 5_000_000  # five marks missed: the feed is down
FEED_BREAK_US: Final = 2_500_000  # two missed: whoever must know whether it was up cannot say so
OPEN_BEHIND_US_MAX: Final = 5_000_000  # a candle still open so long after its end is left behind
WINDOWS_OPEN_MAX: Final = 2  # around a boundary the old and the new candle are both open


class _Held(NamedTuple):
    sequence: int
    revision: int
    payload: bytes


class KlineTail:
    """Closed candles the database may not have yet, newest version of each window.

    Args:
        bytes_max: Limit of `size`; beyond it the oldest go.

    Attributes:
        size: Bytes taken.
        overflowed: Candles that went before the database was known to have them.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._by_key: dict[Key, dict[int, _Held]] = {}
        self._order: deque[tuple[int, Key, int, int]] = deque()  # sequence, key, window, bytes
        self.size = 0
        self.overflowed = 0

    def __len__(self) -> int:
        return len(self._order)

    def clear(self) -> None:
        """Forget everything: the stream was made anew."""
        self._by_key.clear()
        self._order.clear()
        self.size = 0

    def add(self, kline: Kline, payload: bytes, sequence: int) -> None:
        """Take the next version of the stream."""
        key = (kline.exchange, kline.symbol, kline.period)
        windows = self._by_key.setdefault(key, {})
        known = windows.get(kline.open_time)
        if known is not None and known.revision > kline.revision:
            return
        windows[kline.open_time] = _Held(sequence, kline.revision, payload)
        cost = len(payload) + OVERHEAD_BYTES
        self._order.append((sequence, key, kline.open_time, cost))
        self.size += cost
        while self.size > self._bytes_max and len(self._order) > 1:
            self._drop_oldest()
            self.overflowed += 1

    def saved_through(self, sequence: int) -> None:
        """Forget versions up to ``sequence``: whoever asks the table now finds them there."""
        while self._order and self._order[0][0] <= sequence:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        sequence, key, opened, cost = self._order.popleft()
        self.size -= cost
        windows = self._by_key[key]
        held = windows.get(opened)
        if held is not None and held.sequence == sequence:
            del windows[opened]
            if not windows:
                del self._by_key[key]

    def klines(self, key: Key, from_ms: int, to_ms: int) -> list[Kline]:
        """Return the candles of a key that open in ``[from_ms, to_ms)``, in no order."""
        return [
            codec.kline(".".join(key), held.payload)
            for opened, held in self._by_key.get(key, {}).items()
            if from_ms <= opened < to_ms
        ]

    def known(self) -> Iterable[Key]:
        """Return what there are candles of."""
        return self._by_key.keys()


class TradeTail:
    """Batches of trades the database may not have yet.

    Args:
        bytes_max: Limit of `size`; beyond it the oldest go.

    Attributes:
        size: Bytes taken.
        lost_through: Sequence of the newest batch that went before the database had it, or that
            was never here: until that is saved, trades may be in neither.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._by_instrument: dict[tuple[str, str], deque[bytes]] = {}
        self._order: deque[tuple[int, tuple[str, str], int]] = deque()  # sequence, whose, bytes
        self._saved_through = 0
        self.size = 0
        self.lost_through = 0

    def __len__(self) -> int:
        return len(self._order)

    @property
    def is_whole(self) -> bool:
        """Return whether every trade is here or in the database."""
        return self.lost_through <= self._saved_through

    def begin(self, sequence: int) -> None:
        """Forget everything: the next batch will be that of ``sequence`` or a later one."""
        self._by_instrument.clear()
        self._order.clear()
        self.size = 0
        self._saved_through = 0
        self.lost_through = sequence - 1

    def add(self, exchange: str, symbol: str, payload: bytes, sequence: int) -> None:
        """Take the next batch of the stream."""
        if sequence <= self._saved_through:
            return
        instrument = (exchange, symbol)
        self._by_instrument.setdefault(instrument, deque()).append(payload)
        cost = len(payload) + OVERHEAD_BYTES
        self._order.append((sequence, instrument, cost))
        self.size += cost
        while self.size > self._bytes_max and len(self._order) > 1:
            self.lost_through = self._drop_oldest()

    def saved_through(self, sequence: int) -> None:
        """Forget batches up to ``sequence``: whoever asks the table from now on finds them."""
        self._saved_through = max(self._saved_through, sequence)
        while self._order and self._order[0][0] <= sequence:
            self._drop_oldest()

    def _drop_oldest(self) -> int:
        sequence, instrument, cost = self._order.popleft()
        self.size -= cost
        payloads = self._by_instrument[instrument]
        payloads.popleft()
        if not payloads:
            del self._by_instrument[instrument]
        return sequence

    def trades(
        self, exchange: str, symbol: str, ranges: Sequence[tuple[int, int]]
    ) -> list[TextTrade]:
        """Return an instrument's trades with ``start < time_us <= end`` of any range, each once.

        What no saver would store is left out.
        """
        found: dict[str, TextTrade] = {}
        for payload in self._by_instrument.get((exchange, symbol), ()):
            with contextlib.suppress(DecodeError):
                for each in codec.text_batch(f"{exchange}.{symbol}", payload).trades:
                    is_wanted = any(start < each.time_us <= end for start, end in ranges)
                    if is_wanted and _is_storable(each):
                        found.setdefault(each.id, each)
        return list(found.values())


def _is_storable(trade: TextTrade) -> bool:
    try:
        decimals.checked(trade.price)
        decimals.checked(trade.amount)
    except decimals.BadNumberError:
        return False
    return True


class OpenKlines:
    """The newest state of open candles."""

    def __init__(self) -> None:
        self._by_key: dict[Key, dict[int, Kline]] = {}

    def put(self, kline: Kline) -> None:
        """Take the newest state of an open candle."""
        windows = self._by_key.setdefault((kline.exchange, kline.symbol, kline.period), {})
        windows[kline.open_time] = kline
        if len(windows) > WINDOWS_OPEN_MAX:
            del windows[min(windows)]

    def close(self, kline: Kline) -> None:
        """Forget the windows up to one that closed."""
        key = (kline.exchange, kline.symbol, kline.period)
        windows = self._by_key.get(key)
        if windows is not None:
            for opened in [each for each in windows if each <= kline.open_time]:
                del windows[opened]

    def klines(self, key: Key, from_ms: int, to_ms: int) -> list[Kline]:
        """Return the open candles of a key that open in ``[from_ms, to_ms)``."""
        windows = self._by_key.get(key, {})
        return [each for opened, each in windows.items() if from_ms <= opened < to_ms]

    def known(self) -> Iterable[Key]:
        """Return what there are or were open candles of."""
        return self._by_key.keys()


class LastTrade(NamedTuple):
    """A trade by which newer ones are told: compare ``(time_us, len(id), id)``."""

    time_us: int
    id_length: int
    id: str
    price: str


class LatestPrices:
    """The trade with the greatest (time, id) of every instrument: never the last to arrive."""

    def __init__(self) -> None:
        self._by_symbol: dict[str, dict[str, LastTrade]] = {}
        self._before: dict[str, dict[str, LastTrade]] = {}
        self._settled: dict[str, dict[str, LastTrade]] = {}

    def age(self) -> None:
        """Make what was newest at the call before settled: others had that long to read it."""
        self._settled = self._before
        self._before = {symbol: dict(known) for symbol, known in self._by_symbol.items()}

    def settled(self, exchange: str, symbol: str) -> LastTrade | None:
        """Return the trade that was the newest of an instrument at the last `age` but one."""
        return self._settled.get(symbol, {}).get(exchange)

    def put(self, exchange: str, symbol: str, time_us: int, trade_id: str, price: str) -> None:
        """Take a trade; an older one than known changes nothing."""
        trade = LastTrade(time_us, len(trade_id), trade_id, price)
        by_exchange = self._by_symbol.setdefault(symbol, {})
        known = by_exchange.get(exchange)
        if known is None or trade[:3] > known[:3]:
            by_exchange[exchange] = trade

    def get(self, exchange: str, symbol: str) -> LastTrade | None:
        """Return the newest trade of an instrument."""
        return self._by_symbol.get(symbol, {}).get(exchange)

    def symbols(self, exchange: str) -> list[str]:
        """Return the symbols seen on an exchange."""
        return [symbol for symbol, known in self._by_symbol.items() if exchange in known]

    def exchanges(self, symbol: str) -> list[str]:
        """Return the exchanges a symbol was seen on."""
        return list(self._by_symbol.get(symbol, {}))


class LatestStats:
    """The newest rolling statistics of every instrument."""

    def __init__(self) -> None:
        self._by_instrument: dict[tuple[str, str], Stats] = {}

    def put(self, stats: Stats) -> None:
        """Take statistics as they were published last."""
        self._by_instrument[stats.exchange, stats.symbol] = stats

    def get(self, exchange: str, symbol: str) -> Stats | None:
        """Return the newest statistics of an instrument."""
        return self._by_instrument.get((exchange, symbol))


class Feeds:
    """When each instrument was last said to be subscribed by a living feed, and since when."""

    def __init__(self) -> None:
        self._heard_us: dict[tuple[str, str], int] = {}
        self._since_us: dict[tuple[str, str], int] = {}

    def mark(self, exchange: str, symbols: Iterable[str], received_us: int) -> None:
        """Take a feed's mark. A last one is no news: another feed may carry the symbol."""
        for symbol in symbols:
            key = (exchange, symbol)
            heard = self._heard_us.get(key, 0)
            if received_us - heard > FEED_BREAK_US:
                self._since_us[key] = received_us
            self._heard_us[key] = max(received_us, heard)

    def state(self, exchange: str, symbol: str, now_us: int, silence_us: int) -> str | None:
        """Return ``up``, ``down`` after ``silence_us`` without a mark, None when never heard."""
        heard = self._heard_us.get((exchange, symbol))
        if heard is None:
            return None
        return "up" if now_us - heard <= silence_us else "down"

    def up_since(self, exchange: str, symbol: str, now_us: int) -> int | None:
        """Return since when a feed has been up without a break, as far as was heard; None now."""
        if self.state(exchange, symbol, now_us, FEED_SILENCE_US) != "up":
            return None
        return self._since_us.get((exchange, symbol))


def is_behind(kline: Kline, settled: LastTrade | None) -> bool:
    """Return whether an open candle lacks a trade that whoever makes it should have read."""
    if settled is None or settled.time_us < kline.open_time * 1_000:
        return False
    if settled.time_us >= (kline.close_time + 1) * 1_000:  # it may have been its last one or not
        return settled.time_us >= (kline.close_time + 1) * 1_000 + OPEN_BEHIND_US_MAX
    last_id = kline.last_trade_id or ""
    return (len(last_id), last_id) < (settled.id_length, settled.id)


def overlay(stored: Iterable[Kline], newer: Iterable[Kline]) -> dict[int, Kline]:
    """Return candles by opening time; of several versions of one the newest revision."""
    found: dict[int, Kline] = {}
    for each in (*stored, *newer):
        known = found.get(each.open_time)
        if known is None or each.revision >= known.revision:
            found[each.open_time] = each
    return found
