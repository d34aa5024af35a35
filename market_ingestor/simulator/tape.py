"""The trades of one simulated venue, made up from a seed.

Owns the price walks, sizes, sides and ids. Pure: the caller says how many trades are due and
between which two instants; the same seed gives the same trades however they are cut into calls
(only their times differ). Must never know about sockets, files or a venue's spelling.
"""

import random
from bisect import bisect
from collections.abc import Collection, Mapping, Sequence
from math import log
from typing import Final

import msgspec

from market_ingestor.simulator.markets import Market

# Popular pairs trade more: weight 1 / (1 + rank / 4). Above this many symbols all are equal, so
# that a load test spreads evenly, which is the worst case for batching per symbol.
_RANKED_MARKETS_MAX: Final = 16
_RANK_SCALE: Final = 4

_SWEEP_CHANCE: Final = 0.45  # another fill of the same taker order follows
_STEP_CHANCE: Final = 0.35  # a fill of a sweep eats into the next price level
_MOVE_CHANCE: Final = 0.6  # the market moved between two orders
_MOVE_SPREAD: Final = 4_000  # a move is up to 1/4,000 of the price
_REVERSION: Final = 0.25  # pull back to the start, so that a week-long run keeps its digits
_ROUND_CHANCE: Final = 0.25  # people like round sizes; they give trailing zeros
_DUST_CHANCE: Final = 0.001  # the smallest lot, `1e-08` on venues that write JSON numbers
_BOUND_FACTOR: Final = 4  # a price stays between a quarter and four times its start


class Fill(msgspec.Struct, frozen=True, gc=False):
    """One trade in the units of its market.

    Attributes:
        market: Index of the market.
        id: The venue's trade id, +1 per market.
        price: In price units of the market, positive.
        amount: In amount units, positive.
        is_buy: Whether the taker bought.
        time_us: Trade time, UTC microseconds, on the venue's time step.
    """

    market: int
    id: int
    price: int
    amount: int
    is_buy: bool
    time_us: int


class Position(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where a market's tape stands: the last id given out and the last price."""

    last_id: int
    price: int


class _Walk:
    """Price, id and dice of one market."""

    __slots__ = ("dice", "high", "low", "market", "next_id", "price", "round_unit", "spread")

    def __init__(self, market: Market, position: Position | None, first_id: int, seed: str) -> None:
        self.market = market
        self.price = market.start_price if position is None else position.price
        self.next_id = first_id if position is None else position.last_id + 1
        self.low = max(market.start_price // _BOUND_FACTOR, 1)
        self.high = market.start_price * _BOUND_FACTOR
        self.spread = max(market.start_price // _MOVE_SPREAD, 1)
        self.round_unit: int = 10 ** max(len(str(market.typical_amount)) - 1, 0)
        resumed = "" if position is None else f"/{position.last_id}"
        self.dice = random.Random(f"{seed}/{market.native}{resumed}").random

    def move(self) -> None:
        """Let the market drift between two orders."""
        dice = self.dice
        if dice() < _MOVE_CHANCE:
            start = self.market.start_price
            up_chance = 0.5 + _REVERSION * (start - self.price) / start
            step = 1 + int(dice() * dice() * self.spread)
            self.step(step if dice() < up_chance else -step)

    def step(self, units: int) -> None:
        """Change the price, within its bounds."""
        self.price = min(max(self.price + units, self.low), self.high)

    def amount(self) -> int:
        """Draw the size of one fill, in amount units, at least 1."""
        dice = self.dice
        roll = dice()
        if roll < _DUST_CHANCE:
            return 1
        if roll < _ROUND_CHANCE:
            return self.round_unit * (1 + int(dice() * 5))
        return 1 + int(-log(1.0 - dice()) * self.market.typical_amount)


class Tape:
    """Makes the trades of all markets of one venue, order by order."""

    def __init__(
        self,
        markets: Sequence[Market],
        *,
        seed: str,
        time_step_us: int,
        first_ids: Sequence[int],
        positions: Mapping[int, Position] | None = None,
    ) -> None:
        """Prepare the tape.

        Args:
            markets: The venue's markets.
            seed: Decides everything but ids and times.
            time_step_us: The venue's time resolution, microseconds.
            first_ids: First id per market where no position is known.
            positions: Where earlier runs stopped, by market index.
        """
        known = positions or {}
        self._walks = [
            _Walk(market, known.get(market.index), first_ids[market.index], seed)
            for market in markets
        ]
        self._time_step_us = time_step_us
        self._picks = random.Random(f"{seed}/orders")
        ranked = len(markets) <= _RANKED_MARKETS_MAX
        total = 0.0
        self._weights = [
            total := total + (_RANK_SCALE / (_RANK_SCALE + rank) if ranked else 1.0)
            for rank in range(len(markets))
        ]
        self._walk: _Walk | None = None  # the order being filled
        self._is_buy = True

    def last_id(self, market: int) -> int:
        """Return the newest id given out for a market (one below the first before any trade)."""
        return self._walks[market].next_id - 1

    def take(
        self, count: int, from_us: int, until_us: int, stopped: Collection[int] = ()
    ) -> list[Fill]:
        """Return the next ``count`` trades, spread evenly over ``(from_us, until_us]``.

        All fills of one order carry the time of its first. Markets in ``stopped`` do not trade;
        with all of them stopped the list is empty.
        """
        if len(set(stopped)) >= len(self._walks):
            return []
        fills: list[Fill] = []
        step_us = self._time_step_us
        span_us = until_us - from_us
        time_us = 0
        walk = self._walk
        for done in range(1, count + 1):
            if walk is None:
                walk = self._next_order(stopped)
                time_us = 0
            elif walk.dice() < _STEP_CHANCE:
                walk.step(1 if self._is_buy else -1)
            if not time_us:
                time_us = from_us + span_us * done // count
                time_us -= time_us % step_us
            number = walk.market.index
            trade_id = walk.next_id
            walk.next_id = trade_id + 1
            fills.append(Fill(number, trade_id, walk.price, walk.amount(), self._is_buy, time_us))
            if walk.dice() >= _SWEEP_CHANCE:
                walk = None
        self._walk = walk
        return fills

    def _next_order(self, stopped: Collection[int]) -> _Walk:
        picks, total = self._picks, self._weights[-1]
        while True:
            index = bisect(self._weights, picks.random() * total, 0, len(self._weights) - 1)
            if index not in stopped:
                break
        walk = self._walks[index]
        walk.move()
        self._is_buy = walk.dice() < 0.5  # noqa: PLR2004 - a fair coin
        return walk
