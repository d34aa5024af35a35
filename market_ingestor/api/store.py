"""`ReadStore` over PostgreSQL, by the reading functions of `storage`. SHELL."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, cast

from market_ingestor.api.ports import GapKey, StoredGap, StoredSymbol, StoredTrade, TradeKey
from market_ingestor.model.kline import Kline
from market_ingestor.storage import reads
from market_ingestor.storage.times import microseconds
from market_ingestor.storage.timescale import Database

if TYPE_CHECKING:
    from market_ingestor.storage.rows import GapState

GAPS_MAX: Final = 100_000  # looked at for one page; holes are rare


class SqlReadStore:
    """Committed data in PostgreSQL."""

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
        """Return the newest version of up to ``limit`` candles that open in the range."""
        found = await reads.klines(
            self._database,
            exchange,
            symbol,
            period,
            from_ms=from_ms,
            to_ms=to_ms,
            limit=limit,
            order="desc" if newest_first else "asc",
        )
        return [each.kline for each in found]

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
        after = None
        if before is not None:
            after = reads.TradeCursor(
                time_us=before.time_us, trade_id=before.id, exchange=before.exchange
            )
        found = await reads.trades(
            self._database,
            symbol,
            exchanges=exchanges,
            from_ms=from_ms,
            to_ms=to_ms,
            limit=limit,
            after=after,
        )
        return [_trade(each) for each in found]

    async def latest_trade(self, exchange: str, symbol: str) -> StoredTrade | None:
        """Return the trade with the greatest (time, id)."""
        found = await reads.latest_trade(self._database, symbol, exchanges=[exchange])
        return None if found is None else _trade(found)

    async def symbols(self) -> Sequence[StoredSymbol]:
        """Return every instrument stored, by exchange and symbol."""
        return [
            StoredSymbol(
                exchange=each.exchange,
                symbol=each.symbol,
                trade_count=each.trade_count,
                first_trade_at=each.first_trade_at,
                last_trade_at=each.last_trade_at,
                volume_kind=each.volume_kind,
            )
            for each in await reads.symbols(self._database)
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
        asked = limit if before is None else GAPS_MAX
        found = await reads.gaps(
            self._database,
            exchange=exchange,
            symbol=symbol,
            from_ms=from_ms,
            to_ms=to_ms,
            state=cast("GapState | None", state),
            limit=asked,
        )
        page = [_gap(each) for each in found]
        if before is not None:
            page = [each for each in page if _is_behind(each, before)]
        return page[:limit]


def _is_behind(gap: StoredGap, before: GapKey) -> bool:
    """Return whether a hole follows ``before``: the newest first, then by its key."""
    if gap.detected_at != before.detected_at:
        return gap.detected_at < before.detected_at
    return (gap.exchange, gap.symbol, gap.after_id, gap.before_id) > before[1:]


def _trade(row: reads.StoredTrade) -> StoredTrade:
    return StoredTrade(
        exchange=row.exchange,
        symbol=row.symbol,
        id=row.id,
        price=row.price,
        amount=row.amount,
        side=row.side,
        time_us=row.time_us,
    )


def _gap(row: reads.StoredGap) -> StoredGap:
    return StoredGap(
        exchange=row.exchange,
        symbol=row.symbol,
        detected_at=row.detected_at,
        after_id=row.after_id,
        before_id=row.before_id,
        from_time=None if row.from_time is None else microseconds(row.from_time) // 1_000,
        to_time=None if row.to_time is None else microseconds(row.to_time) // 1_000,
        missing=row.missing,
        state=row.state,
        filled_at=row.filled_at,
    )
