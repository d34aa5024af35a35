"""What the candle processor asks of the database, without knowing which one it is. Pure.

`storage` implements it; `runtime` hands it over. All calls may be slow and may fail: first
versions of candles never wait for them, corrections do.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Protocol

from market_ingestor.model.kline import Kline
from market_ingestor.model.trade import DecimalTrade


class CandleStore(Protocol):
    """Committed trades and candles."""

    async def holds(self) -> tuple[bool, bool]:
        """Return whether there is any trade, and whether there is any candle.

        Raises:
            StoreUnavailableError: The database cannot answer now.
        """

    async def trades(
        self, exchange: str, symbol: str, from_ms: int, to_ms: int
    ) -> Sequence[DecimalTrade]:
        """Return the stored trades with ``from_ms <= time < to_ms``, in the venue's id order.

        Raises:
            StoreUnavailableError: The database cannot answer now.
        """

    async def minutes(self, exchange: str, symbol: str, from_ms: int, to_ms: int) -> Sequence[int]:
        """Return the minutes in ``[from_ms, to_ms)`` that have trades or a candle, in no order.

        Raises:
            StoreUnavailableError: The database cannot answer now.
        """

    async def traded(self, exchange: str, symbol: str, from_ms: int, to_ms: int) -> Sequence[int]:
        """Return the minutes in ``[from_ms, to_ms)`` that have trades, in no order.

        Raises:
            StoreUnavailableError: The database cannot answer now.
        """

    async def price_before(
        self, exchange: str, symbol: str, from_ms: int, to_ms: int
    ) -> Decimal | None:
        """Return the close of the newest 1m candle that opens in ``[from_ms, to_ms)``.

        One with trades counts before one without, however old. None without any.

        Raises:
            StoreUnavailableError: The database cannot answer now.
        """

    async def unlike(
        self, exchange: str, symbol: str, from_ms: int, to_ms: int, price: Decimal
    ) -> Sequence[tuple[int, bool]]:
        """Return in which minutes of ``[from_ms, to_ms)`` no candle says a price.

        Returns:
            Open time and whether it has trades, ascending, up to the first with trades.

        Raises:
            StoreUnavailableError: The database cannot answer now.
        """

    async def unclosed(self) -> Sequence[tuple[str, str, int]]:
        """Return the symbols whose newest trade is in no candle, with its UTC microseconds.

        Raises:
            StoreUnavailableError: The database cannot answer now.
        """

    async def gaps(
        self,
        exchange: str,
        symbol: str,
        after_id: int,
        before_id: int,
        from_us: int,
        to_us: int,
        *,
        limit: int,
    ) -> Sequence[tuple[int, int, int, int]]:
        """Return the first stretches of ids between two that are not stored.

        Args:
            from_us: Time of the trade ``after_id``, UTC microseconds; ``to_us`` of ``before_id``.

        Returns:
            The stored, or given, ids on both sides of each with their times: (after id, before
            id, from, to), ascending.

        Raises:
            StoreUnavailableError: The database cannot answer now.
        """

    async def klines(
        self, exchange: str, symbol: str, period: str, from_ms: int, to_ms: int
    ) -> Sequence[Kline]:
        """Return the newest stored version of each candle that opens in ``[from_ms, to_ms)``.

        Ascending by ``open_time``; numbers in canonical plain text (`model.decimals.canonical`).

        Raises:
            StoreUnavailableError: The database cannot answer now.
        """
