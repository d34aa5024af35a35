"""What the API and the push gateway ask of the database (`api.ports.ReadStore`). SHELL.

Owns the paging: a page goes on behind the last row of the one before, by the whole order, so it
skips and repeats nothing of what was there, however many rows come in meanwhile. Never writes.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from market_ingestor.model.kline import Kline
from market_ingestor.model.stored import (
    GapKey,
    GapSpan,
    MinuteMark,
    StoredGap,
    StoredSymbol,
    StoredTrade,
    TradeKey,
    TradeStart,
    TradeSum,
)
from market_ingestor.model.trade import TextTrade
from market_ingestor.storage.candle_store import kline_of
from market_ingestor.storage.queries import QUERIES
from market_ingestor.storage.times import (
    FAR_FUTURE,
    FAR_PAST,
    at,
    at_ms,
    microseconds,
    probe_bounds,
)
from market_ingestor.storage.timescale import Database, Record

_FIRST_GAPS: Final = GapKey(FAR_FUTURE, "", "", "", "")  # before the newest gap there is


class DatabaseReadStore:
    """Committed data, read from PostgreSQL.

    Every method raises `StoreUnavailableError` when the database cannot answer now.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def klines(
        self,
        exchange: str,
        symbol: str,
        period: str,
        *,
        from_ms: int,
        to_ms: int,
        limit: int,
        newest_first: bool,
    ) -> Sequence[Kline]:
        """Return up to ``limit`` candles with ``from_ms <= open_time < to_ms``, newest versions.

        Args:
            newest_first: Count from the end of the range, and return them in that order.
        """
        rows = await self._database.fetch(
            QUERIES["window_klines_newest" if newest_first else "window_klines"],
            exchange, symbol, period, at_ms(from_ms), at_ms(to_ms), limit,
        )  # fmt: skip
        return [kline_of(row) for row in rows]

    async def kline_revisions(
        self, exchange: str, symbol: str, period: str, open_time: int
    ) -> Sequence[Kline]:
        """Return every stored version of one candle, first to last."""
        rows = await self._database.fetch(
            QUERIES["kline_revisions"], exchange, symbol, period, at_ms(open_time)
        )
        return [kline_of(row) for row in rows]

    async def deciding_trades(self, kline: Kline) -> Mapping[str, StoredTrade]:
        """Return the trades that decide a candle's ``open``, ``high``, ``low`` and ``close``.

        One that is not stored yet is not among them.
        """
        rows = await self._database.fetch(
            QUERIES["deciding_trades"],
            kline.exchange, kline.symbol, at_ms(kline.open_time), at_ms(kline.close_time + 1),
            kline.first_trade_id, kline.last_trade_id, kline.high, kline.low,
        )  # fmt: skip
        return {row["decides"]: _trade(row) for row in rows}

    async def range_klines(
        self,
        exchange: str,
        symbol: str,
        period: str,
        ranges: Sequence[tuple[int, int]],
        limit: int,
    ) -> Sequence[Kline]:
        """Return up to ``limit`` candles that open in any of some ranges, in no order.

        Args:
            ranges: In order, from inclusive, to exclusive, Unix milliseconds.
        """
        starts = [at_ms(each[0]) for each in ranges]
        ends = [at_ms(each[1]) for each in ranges]
        rows = await self._database.fetch(
            QUERIES["range_klines"],
            exchange, symbol, period, starts, ends, starts[0], ends[-1], limit,
        )  # fmt: skip
        return [kline_of(row) for row in rows]

    async def range_trades(
        self,
        exchange: str,
        symbol: str,
        ranges: Sequence[tuple[int, int]],
        held: Sequence[TextTrade],
    ) -> TradeSum:
        """Sum up the trades of some ranges.

        Args:
            ranges: In order, from exclusive, to inclusive, Unix microseconds.
            held: Trades of these ranges that may not be stored yet, each once; what is stored
                is not counted again.
        """
        starts = [at(each[0]) for each in ranges]
        ends = [at(each[1]) for each in ranges]
        times = [each.time_us for each in held]
        (row,) = await self._database.fetch(
            QUERIES["range_trades"],
            exchange, symbol, starts, ends, starts[0], ends[-1],
            [each.id for each in held], times,
            [each.price for each in held], [each.amount for each in held],
            *probe_bounds(times),
        )  # fmt: skip
        return TradeSum(**dict(row))

    async def minute_marks(
        self, exchange: str, symbol: str, from_ms: int, to_ms: int
    ) -> Sequence[MinuteMark]:
        """Return what tells of 1m candles whether anything is missing, oldest first."""
        rows = await self._database.fetch(
            QUERIES["minute_marks"], exchange, symbol, at_ms(from_ms), at_ms(to_ms)
        )
        return [
            MinuteMark(
                open_time=microseconds(row["open_time"]) // 1000,
                complete=row["complete"],
                is_repaired=row["reason"] == "repair",
                first_id=row["first_trade_id"],
                last_id=row["last_trade_id"],
            )
            for row in rows
        ]

    async def complete_windows(
        self, exchange: str, symbol: str, from_ms: int, to_ms: int
    ) -> Sequence[tuple[str, int]]:
        """Return period and opening time of complete longer candles that may touch a range."""
        rows = await self._database.fetch(
            QUERIES["complete_windows"], exchange, symbol, at_ms(from_ms), at_ms(to_ms)
        )
        return [(row["period"], microseconds(row["open_time"]) // 1000) for row in rows]

    async def gap_spans(
        self, exchange: str, symbol: str, from_ms: int, to_ms: int
    ) -> Sequence[GapSpan]:
        """Return where holes touch a range, the earliest first."""
        rows = await self._database.fetch(
            QUERIES["gap_spans"], exchange, symbol, at_ms(from_ms), at_ms(to_ms)
        )
        return [
            GapSpan(
                from_ms=microseconds(row["start"]) // 1000,
                to_ms=microseconds(row["finish"]) // 1000,
                is_filled=row["state"] == "filled",
            )
            for row in rows
        ]

    async def trades(
        self,
        symbol: str,
        exchanges: Sequence[str],
        *,
        from_ms: int | None,
        to_ms: int | None,
        before: TradeKey | None,
        limit: int,
    ) -> Sequence[StoredTrade]:
        """Return trades newest first: ``from_ms <= time < to_ms``, strictly behind ``before``."""
        low = FAR_PAST if from_ms is None else at_ms(from_ms)
        high = FAR_FUTURE if to_ms is None else at_ms(to_ms)
        last = (high, 0, "") if before is None else (at(before.time_us), len(before.id), before.id)
        if len(exchanges) == 1:
            rows = await self._database.fetch(
                QUERIES["trades_page"], exchanges[0], symbol, low, high, *last, limit
            )
        else:
            rows = await self._database.fetch(
                QUERIES["trades_page_any"],
                list(exchanges), symbol, low, high, *last, limit,
                "" if before is None else before.exchange,
            )  # fmt: skip
        return [_trade(row) for row in rows]

    async def trades_from(
        self,
        exchange: str,
        symbol: str,
        start: TradeStart,
        *,
        to_ms: int | None,
        min_id: str,
        limit: int,
    ) -> Sequence[StoredTrade]:
        """Return trades oldest first, from ``start`` on, with ids not below ``min_id``."""
        rows = await self._database.fetch(
            QUERIES["trades_from"],
            exchange, symbol, at(start.time_us), FAR_FUTURE if to_ms is None else at_ms(to_ms),
            len(start.id), start.id, len(min_id), min_id, limit,
        )  # fmt: skip
        return [_trade(row) for row in rows]

    async def trade_by_id(
        self, exchange: str, symbol: str, trade_id: str, from_ms: int, to_ms: int
    ) -> StoredTrade | None:
        """Return the trade with an id among those of ``[from_ms, to_ms)``."""
        rows = await self._database.fetch(
            QUERIES["trade_by_id"], exchange, symbol, trade_id, at_ms(from_ms), at_ms(to_ms)
        )
        return _trade(rows[0]) if rows else None

    async def latest_trade(self, exchange: str, symbol: str) -> StoredTrade | None:
        """Return the trade with the greatest (time, id), None when there is none."""
        found = await self.trades(
            symbol, [exchange], from_ms=None, to_ms=None, before=None, limit=1
        )
        return found[0] if found else None

    async def symbols(self) -> Sequence[StoredSymbol]:
        """Return every instrument ever seen, by exchange and symbol; counts are seconds old."""
        return [
            StoredSymbol(**{name: row[name] for name in StoredSymbol.__struct_fields__})
            for row in await self._database.fetch(QUERIES["symbols"])
        ]

    async def gaps(
        self,
        *,
        exchange: str | None,
        symbol: str | None,
        state: str | None,
        from_ms: int | None,
        to_ms: int | None,
        before: GapKey | None,
        limit: int,
    ) -> Sequence[StoredGap]:
        """Return holes newest first, strictly behind ``before``, that touch the time range."""
        low = FAR_PAST if from_ms is None else at_ms(from_ms)
        high = FAR_FUTURE if to_ms is None else at_ms(to_ms)
        last = before or _FIRST_GAPS
        rows = await self._database.fetch(
            QUERIES["gaps"], exchange, symbol, low, high, state, *last, limit
        )
        return [_gap(row) for row in rows]


def kline_history(
    database: Database,
) -> Callable[[str, str, str, int], Awaitable[Sequence[tuple[Kline, str | None]]]]:
    """Return what reads the newest candles of an instrument, oldest first, for snapshots.

    Positions are not kept in the tables: the second of each pair is None.
    """
    store = DatabaseReadStore(database)

    async def newest(
        exchange: str, symbol: str, period: str, limit: int
    ) -> Sequence[tuple[Kline, str | None]]:
        found = await store.klines(
            exchange, symbol, period,
            from_ms=0, to_ms=_END_MS, limit=limit, newest_first=True,
        )  # fmt: skip
        return [(each, None) for each in reversed(found)]

    return newest


_END_MS: Final = microseconds(FAR_FUTURE) // 1000


def _trade(row: Record) -> StoredTrade:
    return StoredTrade(
        exchange=row["exchange"],
        symbol=row["symbol"],
        id=row["trade_id"],
        price=row["price"],
        amount=row["amount"],
        side=row["side"],
        time_us=microseconds(row["time"]),
    )


def _gap(row: Record) -> StoredGap:
    from_time, to_time = row["from_time"], row["to_time"]
    return StoredGap(
        exchange=row["exchange"],
        symbol=row["symbol"],
        detected_at=row["detected_at"],
        after_id=row["after_id"],
        before_id=row["before_id"],
        from_time=None if from_time is None else microseconds(from_time) // 1000,
        to_time=None if to_time is None else microseconds(to_time) // 1000,
        missing=row["missing"],
        state=row["state"],
        filled_at=row["filled_at"],
    )
