"""What the candle processor asks of the database (`klines.ports.CandleStore`). SHELL.

Owns two queries and the way from rows back to the model. Never writes.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from market_ingestor.model.exchange import is_simulated
from market_ingestor.model.kline import Kline
from market_ingestor.model.period import close_time
from market_ingestor.model.trade import WIRE_VERSION, DecimalTrade, Trade
from market_ingestor.storage.queries import QUERIES
from market_ingestor.storage.times import at, at_ms, microseconds
from market_ingestor.storage.timescale import Database, Record

KLINES_MAX: Final = 2**31 - 1  # a window asks for all it needs; LIMIT must say something


class DatabaseCandleStore:
    """Committed trades and candles, read from PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def holds(self) -> tuple[bool, bool]:
        """Return whether there is any trade, and whether there is any candle.

        Raises:
            StoreUnavailableError: The database cannot answer now.
        """
        (row,) = await self._database.fetch(QUERIES["holds"])
        return row["trades"], row["candles"]

    async def trades(
        self, exchange: str, symbol: str, from_ms: int, to_ms: int
    ) -> Sequence[DecimalTrade]:
        """Return the stored trades with ``from_ms <= time < to_ms``, in the venue's id order.

        Raises:
            StoreUnavailableError: The database cannot answer now.
        """
        rows = await self._database.fetch(
            QUERIES["window_trades"], exchange, symbol, at_ms(from_ms), at_ms(to_ms)
        )
        return [
            Trade(
                id=row["trade_id"],
                price=row["price"],
                amount=row["amount"],
                side=row["side"],
                time_us=microseconds(row["time"]),
            )
            for row in rows
        ]

    async def minutes(self, exchange: str, symbol: str, from_ms: int, to_ms: int) -> Sequence[int]:
        """Return the minutes in ``[from_ms, to_ms)`` that have trades or a candle, in no order.

        Raises:
            StoreUnavailableError: The database cannot answer now.
        """
        rows = await self._database.fetch(
            QUERIES["minutes"], exchange, symbol, at_ms(from_ms), at_ms(to_ms)
        )
        return [microseconds(row["minute"]) // 1000 for row in rows]

    async def traded(self, exchange: str, symbol: str, from_ms: int, to_ms: int) -> Sequence[int]:
        """Return the minutes in ``[from_ms, to_ms)`` that have trades, in no order.

        Raises:
            StoreUnavailableError: The database cannot answer now.
        """
        rows = await self._database.fetch(
            QUERIES["traded"], exchange, symbol, at_ms(from_ms), at_ms(to_ms)
        )
        return [microseconds(row["minute"]) // 1000 for row in rows]

    async def price_before(
        self, exchange: str, symbol: str, from_ms: int, to_ms: int
    ) -> Decimal | None:
        """Return the close of the newest 1m candle that opens in ``[from_ms, to_ms)``.

        One with trades counts before one without, however old. None without any.

        Raises:
            StoreUnavailableError: The database cannot answer now.
        """
        rows = await self._database.fetch(
            QUERIES["price_before"], exchange, symbol, at_ms(from_ms), at_ms(to_ms)
        )
        return rows[0]["close"] if rows else None

    async def unlike(
        self, exchange: str, symbol: str, from_ms: int, to_ms: int, price: Decimal
    ) -> Sequence[tuple[int, bool]]:
        """Return in which minutes of ``[from_ms, to_ms)`` no candle says a price.

        Returns:
            Open time and whether it has trades, ascending, up to the first with trades.

        Raises:
            StoreUnavailableError: The database cannot answer now.
        """
        rows = await self._database.fetch(
            QUERIES["unlike"], exchange, symbol, at_ms(from_ms), at_ms(to_ms), price
        )
        return [(microseconds(row["minute"]) // 1000, row["has_trades"]) for row in rows]

    async def unclosed(self) -> Sequence[tuple[str, str, int]]:
        """Return the symbols whose newest trade is in no candle, with its UTC microseconds.

        Raises:
            StoreUnavailableError: The database cannot answer now.
        """
        rows = await self._database.fetch(QUERIES["unclosed"])
        return [(row["exchange"], row["symbol"], microseconds(row["newest"])) for row in rows]

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
            The ids on both sides of each with their times: (after id, before id, from, to).

        Raises:
            StoreUnavailableError: The database cannot answer now.
        """
        rows = await self._database.fetch(
            QUERIES["missing_ids"],
            exchange,
            symbol,
            after_id,
            before_id,
            at(from_us),
            at(to_us),
            limit,
        )
        return [
            (row["id"], row["next_id"], microseconds(row["time"]), microseconds(row["next_time"]))
            for row in rows
        ]

    async def klines(
        self, exchange: str, symbol: str, period: str, from_ms: int, to_ms: int
    ) -> Sequence[Kline]:
        """Return the newest stored version of each candle that opens in ``[from_ms, to_ms)``.

        Ascending by ``open_time``; numbers in canonical plain text.

        Raises:
            StoreUnavailableError: The database cannot answer now.
        """
        rows = await self._database.fetch(
            QUERIES["window_klines"],
            exchange,
            symbol,
            period,
            at_ms(from_ms),
            at_ms(to_ms),
            KLINES_MAX,
        )
        return [kline_of(row) for row in rows]


def kline_of(row: Record) -> Kline:
    """Return the candle of a row of ``window_klines`` or ``kline_revisions``."""
    opened = microseconds(row["open_time"]) // 1000
    exchange: str = row["exchange"]
    period: str = row["period"]
    return Kline(
        v=WIRE_VERSION,
        exchange=exchange,
        symbol=row["symbol"],
        period=period,
        open_time=opened,
        close_time=close_time(opened, period),
        open=row["open"],
        high=row["high"],
        low=row["low"],
        close=row["close"],
        volume=row["volume"],
        quote_volume=row["quote_volume"],
        buy_volume=row["buy_volume"],
        buy_quote_volume=row["buy_quote_volume"],
        trade_count=row["trade_count"],
        first_trade_id=row["first_trade_id"],
        last_trade_id=row["last_trade_id"],
        closed=True,
        complete=row["complete"],
        revision=row["revision"],
        reason=row["reason"],
        simulated=is_simulated(exchange),
    )
