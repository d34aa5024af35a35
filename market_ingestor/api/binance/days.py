"""What was traded in the last 24 hours, from candles or from what was published of it. SHELL."""

from collections.abc import Sequence
from typing import Final

from market_ingestor.api.binance.rows import Day, day_of
from market_ingestor.api.candles import KlineQueries, KlineQuery
from market_ingestor.api.errors import ApiProblemError
from market_ingestor.api.memory import Memory
from market_ingestor.model.kline import Kline
from market_ingestor.model.period import BASE_PERIOD, DAY_MS, HOUR_MS, MINUTE_MS, open_time
from market_ingestor.model.stats import Stats

COUNTED_MAX: Final = 20  # instruments of a request whose candles are read: three queries each
FRESH_US: Final = 60_000_000  # statistics published longer ago may hold what is a day old by now
MINUTES_MAX: Final = DAY_MS // MINUTE_MS + 2


class Days:
    """Answers the last 24 hours of instruments; what that costs is bounded."""

    def __init__(self, candles: KlineQueries, memory: Memory) -> None:
        self._candles = candles
        self._memory = memory

    async def of(self, exchange: str, symbols: Sequence[str], now_us: int) -> list[Day | None]:
        """Return the day of each symbol, None where it would cost too much to find out.

        Of a few, candles are read. Of many, what was published lately serves, and candles of as
        many as may be for the others.

        Args:
            exchange: As it is recorded.

        Raises:
            StoreUnavailableError: The table cannot be read.
        """
        found: dict[str, Day] = {}
        if len(symbols) > COUNTED_MAX:
            for symbol in symbols:
                stats = self._memory.stats.get(exchange, symbol)
                if stats is not None and now_us - stats.time_us < FRESH_US:
                    found[symbol] = _published(stats)
        for symbol in [each for each in symbols if each not in found][:COUNTED_MAX]:
            found[symbol] = await self._counted(exchange, symbol, now_us)
        return [found.get(symbol) for symbol in symbols]

    async def _counted(self, exchange: str, symbol: str, now_us: int) -> Day:
        """Sum up whole hours, and the minutes before and behind them."""
        start = open_time(now_us // 1_000 - DAY_MS + MINUTE_MS - 1, BASE_PERIOD)
        first_hour = open_time(start + HOUR_MS - 1, "1h")
        hours = await self._klines(exchange, symbol, "1h", first_hour, None)
        if not hours:
            return day_of(await self._klines(exchange, symbol, BASE_PERIOD, start, None))
        before = await self._klines(exchange, symbol, BASE_PERIOD, start, first_hour)
        last = hours[-1].close_time + 1
        behind = await self._klines(exchange, symbol, BASE_PERIOD, last, None)
        return day_of([*before, *hours, *behind])

    async def _klines(
        self, exchange: str, symbol: str, period: str, from_ms: int, to_ms: int | None
    ) -> list[Kline]:
        query = KlineQuery(
            exchange=exchange,
            symbol=symbol,
            period=period,
            from_ms=from_ms,
            to_ms=to_ms,
            limit=MINUTES_MAX,
            is_descending=False,
            cursor=None,
            with_open=period == BASE_PERIOD,
            fill=False,
        )
        try:
            page, _ = await self._candles.klines(query)
        except ApiProblemError:
            return []  # nothing is known of it but its name
        return page.data


def _published(stats: Stats) -> Day:
    day = stats.day
    return Day(
        open=day.open,
        high=day.high,
        low=day.low,
        last=stats.last_price,
        volume=day.volume or "0",
        quote_volume=day.quote_volume or "0",
        trade_count=day.trade_count or 0,
    )
