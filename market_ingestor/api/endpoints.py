"""The table of endpoints: what is answered where, from what, with what. Pure.

Routes and the OpenAPI document both come from it, so neither can know what the other does not. A
new endpoint is a row here and a method of that name on an object given to `app.make_app`.
"""

from typing import Any, Final, Literal, TypeAlias

import msgspec

from market_ingestor.api import schema
from market_ingestor.api.params import LIMIT_DEFAULT, LIMIT_MAX
from market_ingestor.api.span import SPAN_PATTERN
from market_ingestor.model.period import PERIOD_MS
from market_ingestor.model.stats import Stats

_TIME: Final = {"type": "string", "description": "Unix milliseconds or RFC 3339"}
_CURSOR: Final = {"type": "string", "description": "The `next_cursor` of the page before"}


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """One query parameter: its JSON schema, and whether it must be there."""

    schema: dict[str, Any]
    text: str
    is_required: bool = False


_LIMIT: Final = Parameter(
    schema={"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT},
    text="How many items at most",
)
EXCHANGE: Final = Parameter(schema={"type": "string"}, text="Name of an exchange")
SYMBOL: Final = Parameter(
    schema={"type": "string"}, text="`BTCUSDT`, also written `btc-usdt`, `BTC_USDT`, `BTC/USDT`"
)
_FROM: Final = Parameter(schema=_TIME, text="From this time on, inclusive")
_TO: Final = Parameter(schema=_TIME, text="Up to this time, exclusive")
_PAGE: Final = Parameter(schema=_CURSOR, text="Go on with an earlier answer")
_PERIOD: Final = {"type": "string", "enum": list(PERIOD_MS), "default": "1m"}


# Any request may end so, whatever it asks.
COMMON_ERRORS: Final = (400, 401, 404, 413, 429, 503, 504)
# Those of requests that change something come on top.
CONTROL_ERRORS: Final = (403, 409)


# What an answer costs the database: nothing, a look or two, a page of rows, a walk over many.
Weight: TypeAlias = Literal["none", "light", "list", "scan"]


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One method on one path: which handler answers it, with what, from what.

    Attributes:
        path: Parts in braces are path parameters.
        handler: Name of the method that answers.
        answer: Type of the body's ``data``, or of the body itself where it is not wrapped; None
            for a body of any shape.
        method: Of HTTP.
        status: Of success.
        query: Query parameters; any other is refused.
        in_path: Path parameters other than ``exchange`` and ``symbol``.
        body: Type of the JSON body; None where a body is ignored.
        is_body_required: Whether the body must be there.
        errors: Statuses of failure besides `COMMON_ERRORS`.
        failure: Type of the body of a failure.
        is_wrapped: Whether ``answer`` stands in ``{"data":..,"error":null,"message":null}``; None:
            under ``/api/v1/`` only.
        media: Further content types of success beside JSON.
        weight: How many may be answered at once (`api.lanes`).
    """

    path: str
    handler: str
    summary: str
    answer: Any
    method: Literal["GET", "POST", "PUT", "DELETE"] = "GET"
    status: int = 200
    query: dict[str, Parameter] = {}
    in_path: dict[str, Parameter] = {}
    body: Any = None
    is_body_required: bool = True
    errors: tuple[int, ...] = ()
    failure: type = schema.Failure
    is_wrapped: bool | None = None
    media: tuple[str, ...] = ()
    weight: Weight = "list"

    @property
    def wraps(self) -> bool:
        """Return whether success is wrapped."""
        return self.path.startswith("/api/v1/") if self.is_wrapped is None else self.is_wrapped

    @property
    def parameters(self) -> frozenset[str]:
        """Return the names of the query parameters."""
        return frozenset(self.query)


_SPAN: Final = Parameter(
    schema={"type": "string", "pattern": SPAN_PATTERN},
    text="Length, as `30s`, `5m`, `1h30m`; `1m` when absent, and any age for the latest price",
)


def _prices(kind: str, summary: str, answer: type) -> tuple[Endpoint, Endpoint]:
    """Return the two paths of a price: over all exchanges of the mode, and on one."""
    common: dict[str, Any] = {
        "handler": f"{kind}_price",
        "summary": summary,
        "answer": answer,
        "weight": "light",
    }
    return (
        Endpoint(
            path=f"/prices/{kind}/{{symbol}}",
            query={"exchange": EXCHANGE, "period": _SPAN},
            **common,
        ),
        Endpoint(
            path=f"/prices/{kind}/{{exchange}}/{{symbol}}",
            query={"period": _SPAN},
            **common,
        ),
    )


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    Endpoint(
        path="/api/v1/klines",
        handler="klines",
        summary="Candles in their newest versions; without `from` the newest",
        answer=schema.KlineList,
        query={
            "exchange": Parameter(schema={"type": "string"}, text="Exchange", is_required=True),
            "symbol": Parameter(schema=SYMBOL.schema, text=SYMBOL.text, is_required=True),
            "period": Parameter(schema=_PERIOD, text="Length of a candle"),
            "interval": Parameter(schema=_PERIOD, text="Another name for `period`"),
            "from": _FROM,
            "to": _TO,
            "limit": _LIMIT,
            "order": Parameter(
                schema={"type": "string", "enum": ["asc", "desc"], "default": "asc"},
                text="By opening time",
            ),
            "cursor": _PAGE,
            "open": Parameter(
                schema={"type": "boolean", "default": False}, text="Also candles still open"
            ),
            "fill": Parameter(
                schema={"type": "boolean", "default": False},
                text="A flat candle for every window without trades between candles",
            ),
            "format": Parameter(
                schema={"type": "string", "enum": ["json", "csv"], "default": "json"},
                text="CSV has the cursor in the header `X-Next-Cursor`",
            ),
        },
        media=("text/csv",),
    ),
    Endpoint(
        path="/api/v1/klines/{exchange}/{symbol}/{period}/{open_time}",
        handler="kline",
        summary="One candle, its versions, and the trades it was made of",
        answer=schema.KlineDetail,
        in_path={
            "period": Parameter(schema=_PERIOD, text="Length of a candle"),
            "open_time": Parameter(schema=_TIME, text="When it opens"),
        },
        query={
            "trades": Parameter(
                schema={"type": "boolean", "default": False}, text="Also all its trades, by page"
            ),
            "limit": _LIMIT,
            "cursor": _PAGE,
        },
    ),
    Endpoint(
        path="/api/v1/trades/{symbol}",
        handler="trades",
        summary="Stored trades, newest first",
        answer=schema.TradeList,
        query={
            "exchange": EXCHANGE,
            "limit": _LIMIT,
            "cursor": _PAGE,
            "before": Parameter(schema={"type": "string"}, text="A time or a `next_cursor`"),
            "from": _FROM,
            "to": _TO,
        },
    ),
    Endpoint(
        path="/api/v1/symbols",
        handler="symbols",
        summary="What is recorded",
        answer=schema.SymbolList,
        weight="light",
    ),
    Endpoint(
        path="/api/v1/gaps",
        handler="gaps",
        summary="Holes in the trades, the newest first",
        answer=schema.GapList,
        query={
            "exchange": EXCHANGE,
            "symbol": SYMBOL,
            "state": Parameter(
                schema={"type": "string", "enum": ["open", "filled", "unfillable"]},
                text="What became of them",
            ),
            "from": _FROM,
            "to": _TO,
            "limit": _LIMIT,
            "cursor": _PAGE,
        },
    ),
    Endpoint(
        path="/api/v1/completeness",
        handler="completeness",
        summary="Which stretches are whole, of at most 7 days; of the last day without `from`",
        answer=schema.CompletenessList,
        weight="scan",
        query={
            "exchange": Parameter(schema={"type": "string"}, text="Exchange", is_required=True),
            "symbol": Parameter(schema=SYMBOL.schema, text=SYMBOL.text, is_required=True),
            "from": _FROM,
            "to": _TO,
            "limit": _LIMIT,
            "cursor": _PAGE,
        },
    ),
    Endpoint(
        path="/api/v1/stats/{exchange}/{symbol}",
        handler="stats",
        summary="Rolling statistics as they were last published",
        answer=Stats,
        weight="light",
    ),
    Endpoint(
        path="/api/v1/info",
        handler="info",
        summary="Version and addresses",
        answer=schema.Info,
        weight="none",
    ),
    *_prices("latest", "Newest price, however old; `period` bounds its age", schema.Price),
    *_prices("highest", "Highest price of a period that ends now", schema.Price),
    *_prices("lowest", "Lowest price of a period that ends now", schema.Price),
    *_prices("average", "Price of a period that ends now, weighted by volume", schema.Price),
    *_prices("aggregate", "Average, lowest and highest at once", schema.PriceAggregate),
    Endpoint(
        path="/openapi.json",
        handler="openapi",
        summary="This document",
        answer=None,
        weight="none",
    ),
)
