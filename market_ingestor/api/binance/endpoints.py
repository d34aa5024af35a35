"""The table of Binance's endpoints. Pure.

Each stands under ``/binance/{exchange}`` and once without, which means Binance itself.
"""

from typing import Any, Final

from market_ingestor.api.binance import rows
from market_ingestor.api.binance.params import LIMIT_DEFAULT, LIMIT_MAX
from market_ingestor.api.binance.problems import BinanceFailure
from market_ingestor.api.endpoints import Endpoint, Parameter, Weight
from market_ingestor.model.period import PERIOD_MS

PREFIX: Final = "/binance/{exchange}"
PATHS: Final = ("/binance/", "/api/v3/", "/fapi/", "/dapi/")  # beginnings whose failures look so


def _time(text: str) -> Parameter:
    schema = {"type": "integer", "minimum": 0}
    return Parameter(schema=schema, text=f"{text}, Unix milliseconds or microseconds")


def _words(text: str, *words: str) -> Parameter:
    return Parameter(schema={"type": "string", "enum": list(words)}, text=text)


_SYMBOL: Final = {"type": "string", "minLength": 1}
_UNIT: Final = {"timeUnit": _words("Of times in the answer", "MILLISECOND", "MICROSECOND")}
_ONE: Final = {"symbol": Parameter(schema=_SYMBOL, text="Symbol", is_required=True)}
_SOME: Final = {
    "symbol": Parameter(schema=_SYMBOL, text="One symbol; the answer is then no list"),
    "symbols": Parameter(schema=_SYMBOL, text='Several: `["BTCUSDT","ETHUSDT"]`'),
}
_STATUS: Final = {
    "symbolStatus": _words("Leave out the others", "TRADING", "HALT", "BREAK"),
}
_LIMIT: Final = {
    "limit": Parameter(
        schema={"type": "integer", "minimum": 1, "default": LIMIT_DEFAULT},
        text=f"How many at most; more than {LIMIT_MAX} count as {LIMIT_MAX}",
    )
}
_FROM_ID: Final = {
    "fromId": Parameter(schema={"type": "integer", "minimum": 0}, text="First id wanted")
}
_RANGE: Final = {
    "startTime": _time("From this time on, inclusive"),
    "endTime": _time("Up to this time, inclusive"),
}
_KLINES: Final = {
    **_ONE,
    "interval": Parameter(
        schema={"type": "string", "enum": list(PERIOD_MS)},
        text="Length of a candle",
        is_required=True,
    ),
    **_RANGE,
    "timeZone": Parameter(schema=_SYMBOL, text="Only where candles open at the same times as UTC"),
    **_LIMIT,
}
_KLINES_TEXT: Final = (
    "Candles, the open one included: with `startTime` the oldest from there, else the newest"
)


def _rows(
    path: str,
    name: str,
    summary: str,
    answer: Any,
    query: dict[str, Parameter] | None = None,
    weight: Weight = "list",
) -> tuple[Endpoint, ...]:
    return tuple(
        Endpoint(
            path=beginning + path,
            handler=f"binance_{name}",
            summary=summary,
            answer=answer,
            query={**(query or {}), **_UNIT},
            failure=BinanceFailure,
            is_wrapped=False,
            weight=weight,
        )
        for beginning in (PREFIX, "")
    )


BINANCE_ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    *_rows("/api/v3/ping", "ping", "Whether the service is there", rows.Nothing, weight="none"),
    *_rows("/api/v3/time", "time", "The time here", rows.ServerTime, weight="none"),
    *_rows(
        "/api/v3/exchangeInfo",
        "exchange_info",
        "The instruments that are recorded",
        rows.ExchangeInfo,
        {
            **_SOME,
            "permissions": Parameter(schema=_SYMBOL, text="`SPOT`, or a list with it"),
            "showPermissionSets": _words("Whether to list them", "true", "false"),
            **_STATUS,
        },
        weight="light",
    ),
    *_rows("/api/v3/klines", "klines", _KLINES_TEXT, list[rows.KlineRow], _KLINES),
    *_rows("/api/v3/uiKlines", "klines", _KLINES_TEXT, list[rows.KlineRow], _KLINES),
    *_rows(
        "/api/v3/trades", "trades", "The newest trades", list[rows.TradeRow], {**_ONE, **_LIMIT}
    ),
    *_rows(
        "/api/v3/historicalTrades",
        "historical_trades",
        "Trades from an id on, else the newest",
        list[rows.TradeRow],
        {**_ONE, **_LIMIT, **_FROM_ID},
    ),
    *_rows(
        "/api/v3/aggTrades",
        "aggregate_trades",
        "Trades, each as an aggregate of its own",
        list[rows.AggregateRow],
        {**_ONE, **_LIMIT, **_FROM_ID, **_RANGE},
    ),
    *_rows(
        "/api/v3/ticker/price",
        "ticker_price",
        "The newest prices",
        rows.PriceRow | list[rows.PriceRow],
        {**_SOME, **_STATUS},
        weight="light",
    ),
    *_rows(
        "/api/v3/ticker/24hr",
        "ticker_day",
        "The last 24 hours, from candles; what an order book would tell is null",
        rows.Ticker | list[rows.Ticker],
        {**_SOME, **_STATUS, "type": _words("Which fields", "FULL", "MINI")},
        weight="scan",
    ),
    *_rows(
        "/api/v3/avgPrice",
        "average_price",
        "The average of five minutes",
        rows.AverageRow,
        _ONE,
        weight="light",
    ),
    *_rows(
        "/fapi/v1/exchangeInfo",
        "no_markets",
        "No futures are recorded",
        rows.NoMarkets,
        weight="none",
    ),
    *_rows(
        "/dapi/v1/exchangeInfo",
        "no_markets",
        "No futures are recorded",
        rows.NoMarkets,
        weight="none",
    ),
)
