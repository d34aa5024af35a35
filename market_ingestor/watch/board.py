"""What the terminal view knows of every market, from push messages. Pure.

Owns nothing but the newest: statistics, the last candles of a minute, what was said of feeds and
holes. Must know neither sockets nor terminals.
"""

from typing import Final

import msgspec

from market_ingestor.model.event import WHOLE_FEED, MarketEvent
from market_ingestor.model.kline import Kline
from market_ingestor.model.stats import Stats

CANDLES_MAX: Final = 240  # a market; more than the widest terminal shows
MARKETS_MAX: Final = 5_000  # further ones are not shown
SILENT_US: Final = 15_000_000  # without a word of a market: its feed's state is not known
PERIOD: Final = "1m"

_FEED_WORDS: Final = {"feed_up": "up", "feed_down": "down", "feed_stale": "stale"}
_GAP_STATES: Final = {"gap_found": "open", "gap_filled": "filled", "gap_unfillable": "lost"}


class Envelope(msgspec.Struct, frozen=True):
    """A message of the push protocol; ``data`` is read by ``type``."""

    type: str
    topic: str = ""
    position: str | None = None
    code: str = ""
    message: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


class Market:
    """One market.

    Attributes:
        stats: The newest statistics.
        heard_us: When something came of it, by our clock.
        feed: What the last event said of its feed; None while there was none.
    """

    def __init__(self, exchange: str, symbol: str) -> None:
        self.exchange = exchange
        self.symbol = symbol
        self.stats: Stats | None = None
        self.heard_us = 0
        self.feed: str | None = None
        self._candles: dict[int, Kline] = {}

    @property
    def name(self) -> str:
        """Return what it is called in the table."""
        return f"{self.exchange} {self.symbol}"

    @property
    def candles(self) -> list[Kline]:
        """Return the newest version of each candle, oldest first."""
        return [self._candles[opened] for opened in sorted(self._candles)]

    @property
    def trades_per_s(self) -> float:
        """Return trades a second over the last five."""
        window = self.stats.windows.get("5s") if self.stats else None
        return window.trade_count / 5 if window else 0.0

    @property
    def change_percent(self) -> float | None:
        """Return the change over a day."""
        text = self.stats.day.change_percent if self.stats else None
        return None if text is None else float(text)

    def feed_word(self, now_us: int) -> str:
        """Return what is known of the feed: ``up``, ``stale``, ``down`` or ``?``."""
        if self.feed in {"down", "stale"}:
            return self.feed
        return "up" if now_us - self.heard_us < SILENT_US else "?"

    def take(self, kline: Kline) -> None:
        """Keep a version of a candle if it is newer than the one known."""
        known = self._candles.get(kline.open_time)
        if known is not None and (known.closed, known.revision) > (kline.closed, kline.revision):
            return
        self._candles[kline.open_time] = kline
        if len(self._candles) > CANDLES_MAX:
            del self._candles[min(self._candles)]


class Board:
    """All markets, and what concerns none alone.

    Attributes:
        gaps: How many holes were said to be open, filled or lost since we look.
        position: Where to resume closed candles.
        lag_us: How old the newest statistics were when they came, microseconds.
        problem: What the gateway refused, None when nothing.
    """

    def __init__(self) -> None:
        self._markets: dict[tuple[str, str], Market] = {}
        self.gaps = dict.fromkeys(_GAP_STATES.values(), 0)
        self.position: str | None = None
        self.lag_us: int | None = None
        self.problem: str | None = None

    @property
    def markets(self) -> list[Market]:
        """Return every market that prices are known of, by exchange and symbol."""
        return [self._markets[key] for key in sorted(self._markets) if self._markets[key].stats]

    @property
    def is_simulated(self) -> bool:
        """Return whether any of it is made up."""
        return any(each.stats is not None and each.stats.simulated for each in self.markets)

    def take(self, payload: bytes, now_us: int) -> None:
        """Take a message or an array of them; what is unknown or unreadable is left out."""
        try:
            envelopes = _decode(payload)
            for each in envelopes:
                self._take(each, now_us)
        except msgspec.MsgspecError:
            return

    def _take(self, envelope: Envelope, now_us: int) -> None:
        match envelope.type:
            case "stats":
                self._take_stats(_stats.decode(envelope.data), now_us)
            case "kline":
                kline = _kline.decode(envelope.data)
                self.position = envelope.position or self.position
                market = self._market(kline.exchange, kline.symbol)
                if market is not None and kline.period == PERIOD:
                    market.take(kline)
            case "event":
                self._take_event(_event.decode(envelope.data))
            case "subscribed":
                self.position = self.position or envelope.position
                self.problem = None
            case "error":
                self.problem = envelope.message or envelope.code
                if envelope.code == "position_gone":
                    self.position = None
            case _:
                pass

    def _market(self, exchange: str, symbol: str) -> Market | None:
        key = (exchange, symbol)
        if key not in self._markets and len(self._markets) >= MARKETS_MAX:
            return None
        return self._markets.setdefault(key, Market(exchange, symbol))

    def _take_stats(self, stats: Stats, now_us: int) -> None:
        market = self._market(stats.exchange, stats.symbol)
        if market is None:
            return
        market.stats = stats
        market.heard_us = now_us
        self.lag_us = max(0, now_us - stats.time_us)

    def _take_event(self, event: MarketEvent) -> None:
        state = _GAP_STATES.get(event.type)
        if state is not None:
            self.gaps[state] += 1
        word = _FEED_WORDS.get(event.type)
        if word is None:
            return
        for market in self._markets.values():
            if market.exchange == event.exchange and event.symbol in {market.symbol, WHOLE_FEED}:
                market.feed = word


_one: Final = msgspec.json.Decoder(Envelope)
_many: Final = msgspec.json.Decoder(list[Envelope])
_stats: Final = msgspec.json.Decoder(Stats)
_kline: Final = msgspec.json.Decoder(Kline)
_event: Final = msgspec.json.Decoder(MarketEvent)


def _decode(payload: bytes) -> list[Envelope]:
    return _many.decode(payload) if payload.startswith(b"[") else [_one.decode(payload)]
