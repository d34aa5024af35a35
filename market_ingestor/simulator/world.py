"""What all parts of one simulated venue agree on: its markets, their past, what REST may show.

Pure state without I/O: the server appends to it, the venue's protocol reads from it, faults
change what is visible. Must never know a venue's message formats.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from market_ingestor.simulator.history import History
from market_ingestor.simulator.markets import Market, by_name
from market_ingestor.simulator.tape import Fill

TRADES_KEPT: Final = 1_000_000  # per venue, 32 MB: 100 s at 10,000 trades/s
_TRADES_KEPT_MIN: Final = 2_000  # per market, however many there are: more than one REST page


class World:
    """One venue's markets and their history.

    Attributes:
        markets: All of them, by index.
        histories: What each remembers, by index.
        delisted: Indexes of markets that vanished from the venue.
        rest_delay_us: REST shows only trades at least this old.
    """

    def __init__(self, markets: Sequence[Market], *, trades_kept: int = TRADES_KEPT) -> None:
        keep = max(trades_kept // max(len(markets), 1), _TRADES_KEPT_MIN)
        self.markets = list(markets)
        self.histories = [History(market.index, keep) for market in markets]
        self.delisted: set[int] = set()
        self.rest_delay_us = 0
        self._by_name = by_name(markets)

    def append(self, fills: Iterable[Fill]) -> None:
        """Remember trades, each with an id above all before it in its market."""
        histories = self.histories
        for fill in fills:
            histories[fill.market].append(fill)

    def find(self, name: str) -> Market | None:
        """Return the listed market with this exact venue spelling."""
        market = self._by_name.get(name)
        return None if market is None or market.index in self.delisted else market

    def by_symbol(self, symbol: str) -> Market | None:
        """Return the market with this normalised symbol, delisted or not."""
        return next((market for market in self.markets if market.symbol == symbol), None)

    def listed(self) -> list[Market]:
        """Return the markets in the venue's instrument list."""
        return [market for market in self.markets if market.index not in self.delisted]

    def horizon_us(self, now_us: int) -> int | None:
        """Return the newest trade time REST shows, None for no bound."""
        return now_us - self.rest_delay_us if self.rest_delay_us else None
