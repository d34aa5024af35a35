"""The table of endpoints: what is answered where, from what, with what. Pure.

Routes and the OpenAPI document both come from it, so neither can know what the other does not. A
new endpoint is a row here and a method of that name on an object given to `app.make_app`.
"""

from typing import Any, Final, Literal, TypeAlias

import msgspec

from market_ingestor.api import cursors, schema
from market_ingestor.api.params import LIMIT_DEFAULT, LIMIT_MAX, CursorKind
from market_ingestor.api.span import SPAN_PATTERN
from market_ingestor.model.period import PERIOD_MS
from market_ingestor.model.stats import Stats

_TIME: Final = {
    "description": "Unix milliseconds or RFC 3339",
    "anyOf": [
        {"type": "string", "pattern": "^[0-9]{1,14}$"},
        {"type": "string", "format": "date-time"},
    ],
    "example": "2025-11-20T22:00:00Z",
}
_NOTHING: Final = {"type": "string", "maxLength": 0}


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """One query parameter: its JSON schema, and whether it must be there."""

    schema: dict[str, Any]
    text: str
    is_required: bool = False


def _word(*words: str, default: str | None = None) -> dict[str, Any]:
    """Return the schema of one of a few words; an empty one counts as absent."""
    known: dict[str, Any] = {"type": "string", "enum": [*words, ""]}
    return known if default is None else known | {"default": default}


def _optional(*schemas: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a parameter that may be empty, which counts as absent."""
    return {"anyOf": [*schemas, _NOTHING]}


def _cursor(kind: CursorKind[Any]) -> Parameter:
    return Parameter(
        schema=_optional({"type": "string", "pattern": kind.pattern}),
        text="The `next_cursor` of the page before",
    )


_YES_OR_NO: Final = _word("false", "true", "0", "1", default="false")
_LIMIT: Final = Parameter(
    schema={"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT},
    text="How many items at most",
)
EXCHANGE: Final = Parameter(
    schema={"type": "string", "pattern": "^[a-z0-9-]{1,24}$", "example": "binance"},
    text="Name of an exchange",
)
SYMBOL: Final = Parameter(
    schema={"type": "string", "pattern": "^[-_]*([A-Za-z0-9][-_]*){1,64}$", "example": "BTCUSDT"},
    text="`BTCUSDT`, also written `btc-usdt` or `BTC_USDT`",
)
_SYMBOL_IN_QUERY: Final = Parameter(
    schema=SYMBOL.schema | {"pattern": "^[-_/]*([A-Za-z0-9][-_/]*){1,64}$"},
    text="`BTCUSDT`, also as the venue writes it: `BTC-USDT`, `XBT/USD`",
)
_SOME_EXCHANGE: Final = Parameter(schema=_optional(EXCHANGE.schema), text=EXCHANGE.text)
_FROM: Final = Parameter(schema=_optional(_TIME), text="From this time on, inclusive")
_TO: Final = Parameter(schema=_optional(_TIME), text="Up to this time, exclusive")
_PERIOD: Final = {"type": "string", "enum": list(PERIOD_MS), "example": "1m"}
_REQUIRED_INSTRUMENT: Final = {
    "exchange": Parameter(schema=EXCHANGE.schema, text=EXCHANGE.text, is_required=True),
    "symbol": Parameter(
        schema=_SYMBOL_IN_QUERY.schema, text=_SYMBOL_IN_QUERY.text, is_required=True
    ),
}

# Any request may end so, whatever it asks.
COMMON_ERRORS: Final = (400, 401, 404, 413, 429, 503, 504)
# Those of requests that change something come on top.
CONTROL_ERRORS: Final = (403, 409)
CONTROL_TIMEOUT_S: Final = 20.0  # it answers or gives up long before
_SUBSCRIBING: Final[tuple[tuple[Literal["PUT", "DELETE"], str, str], ...]] = (
    ("PUT", "subscribe", "Add"),
    ("DELETE", "unsubscribe", "Drop"),
)


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
        timeout_s: Most the answer may take; None: as long as any.
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
    timeout_s: float | None = None

    @property
    def wraps(self) -> bool:
        """Return whether success is wrapped."""
        return self.path.startswith("/api/v1/") if self.is_wrapped is None else self.is_wrapped

    @property
    def parameters(self) -> frozenset[str]:
        """Return the names of the query parameters."""
        return frozenset(self.query)


_SPAN: Final = Parameter(
    schema={"type": "string", "pattern": SPAN_PATTERN, "example": "5m"},
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
            query={"exchange": _SOME_EXCHANGE, "period": _SPAN},
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
            **_REQUIRED_INSTRUMENT,
            "period": Parameter(schema=_word(*PERIOD_MS, default="1m"), text="Length of a candle"),
            "interval": Parameter(schema=_word(*PERIOD_MS), text="Another name for `period`"),
            "from": _FROM,
            "to": _TO,
            "limit": _LIMIT,
            "order": Parameter(
                schema=_word("asc", "desc", default="asc"),
                text="By opening time",
            ),
            "cursor": _cursor(cursors.KLINES),
            "open": Parameter(schema=_YES_OR_NO, text="Also candles still open"),
            "fill": Parameter(
                schema=_YES_OR_NO,
                text="A flat candle for every window without trades between candles",
            ),
            "format": Parameter(
                schema=_word("json", "csv", default="json"),
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
            "trades": Parameter(schema=_YES_OR_NO, text="Also all its trades, by page"),
            "limit": _LIMIT,
            "cursor": _cursor(cursors.TRADES),
        },
    ),
    Endpoint(
        path="/api/v1/trades/{symbol}",
        handler="trades",
        summary="Stored trades, newest first",
        answer=schema.TradeList,
        query={
            "exchange": _SOME_EXCHANGE,
            "limit": _LIMIT,
            "cursor": _cursor(cursors.TRADES),
            "before": Parameter(
                schema=_optional(_TIME, {"type": "string", "pattern": cursors.TRADES.pattern}),
                text="A time or a `next_cursor`",
            ),
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
            "exchange": _SOME_EXCHANGE,
            "symbol": Parameter(
                schema=_optional(_SYMBOL_IN_QUERY.schema), text=_SYMBOL_IN_QUERY.text
            ),
            "state": Parameter(
                schema=_word("open", "filled", "unfillable"),
                text="What became of them",
            ),
            "from": _FROM,
            "to": _TO,
            "limit": _LIMIT,
            "cursor": _cursor(cursors.GAPS),
        },
    ),
    Endpoint(
        path="/api/v1/completeness",
        handler="completeness",
        summary="Which stretches are whole, of the last day without `from`; 7 days a page",
        answer=schema.CompletenessList,
        weight="scan",
        query={
            **_REQUIRED_INSTRUMENT,
            "from": _FROM,
            "to": _TO,
            "limit": _LIMIT,
            "cursor": _cursor(cursors.STRETCHES),
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
        path="/mode",
        handler="mode",
        summary="Simulated or real exchanges, and which processes follow",
        answer=schema.ModeAnswer,
        weight="none",
    ),
    *(
        Endpoint(
            path=f"/mode/{mode}",
            handler=f"switch_to_{mode}",
            summary=f"Let every ingest process run the {kind} exchanges; answers when all do",
            answer=schema.ModeAnswer,
            method="POST",
            errors=CONTROL_ERRORS,
            timeout_s=CONTROL_TIMEOUT_S,
            weight="none",
        )
        for mode, kind in (("test", "simulated"), ("live", "real"))
    ),
    Endpoint(
        path="/api/v1/subscriptions",
        handler="subscriptions",
        summary="What is carried, and by which process",
        answer=schema.SubscriptionList,
        weight="none",
    ),
    *(
        Endpoint(
            path="/api/v1/subscriptions/{exchange}/{symbol}",
            handler=handler,
            summary=f"{verb} a symbol while everything runs; answers when it is done",
            answer=schema.SubscriptionChange,
            method=method,
            errors=CONTROL_ERRORS,
            timeout_s=CONTROL_TIMEOUT_S,
            weight="none",
        )
        for method, handler, verb in _SUBSCRIBING
    ),
    Endpoint(
        path="/openapi.json",
        handler="openapi",
        summary="This document",
        answer=None,
        weight="none",
    ),
)
