"""The table of endpoints, and the OpenAPI document made from it. Pure.

Routes and document come from one table, so neither can know what the other does not.
"""

from typing import Any, Final

import msgspec

from market_ingestor import __version__
from market_ingestor.api import schema
from market_ingestor.api.params import LIMIT_DEFAULT, LIMIT_MAX
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
_EXCHANGE: Final = Parameter(schema={"type": "string"}, text="Name of an exchange")
_SYMBOL: Final = Parameter(
    schema={"type": "string"}, text="`BTCUSDT`, also written `btc-usdt`, `BTC_USDT`, `BTC/USDT`"
)
_FROM: Final = Parameter(schema=_TIME, text="From this time on, inclusive")
_TO: Final = Parameter(schema=_TIME, text="Up to this time, exclusive")
_PAGE: Final = Parameter(schema=_CURSOR, text="Go on with an earlier answer")
_PERIOD: Final = {"type": "string", "enum": list(PERIOD_MS), "default": "1m"}


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One path: which handler answers it, with what, from which parameters.

    Attributes:
        answer: Type of the body's ``data``, or of the body itself outside ``/api/v1``; None
            for this document.
    """

    path: str
    handler: str
    summary: str
    answer: type | None
    query: dict[str, Parameter] = {}

    @property
    def parameters(self) -> frozenset[str]:
        """Return the names of the query parameters."""
        return frozenset(self.query)


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    Endpoint(
        path="/api/v1/klines",
        handler="klines",
        summary="Candles in their newest versions; without `from` the newest",
        answer=schema.KlineList,
        query={
            "exchange": Parameter(schema={"type": "string"}, text="Exchange", is_required=True),
            "symbol": Parameter(schema=_SYMBOL.schema, text=_SYMBOL.text, is_required=True),
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
            "format": Parameter(
                schema={"type": "string", "enum": ["json", "csv"], "default": "json"},
                text="CSV has the cursor in the header `X-Next-Cursor`",
            ),
        },
    ),
    Endpoint(
        path="/api/v1/trades/{symbol}",
        handler="trades",
        summary="Stored trades, newest first",
        answer=schema.TradeList,
        query={
            "exchange": _EXCHANGE,
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
    ),
    Endpoint(
        path="/api/v1/gaps",
        handler="gaps",
        summary="Holes in the trades, the newest first",
        answer=schema.GapList,
        query={
            "exchange": _EXCHANGE,
            "symbol": _SYMBOL,
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
        path="/api/v1/stats/{exchange}/{symbol}",
        handler="stats",
        summary="Rolling statistics as they were last published",
        answer=Stats,
    ),
    Endpoint(
        path="/api/v1/info", handler="info", summary="Version and addresses", answer=schema.Info
    ),
    Endpoint(
        path="/prices/latest/{symbol}",
        handler="latest_price",
        summary="Newest price over the exchanges of the current mode",
        answer=schema.Price,
        query={"exchange": _EXCHANGE},
    ),
    Endpoint(
        path="/prices/latest/{exchange}/{symbol}",
        handler="latest_price",
        summary="Newest price on one exchange",
        answer=schema.Price,
    ),
    Endpoint(path="/openapi.json", handler="openapi", summary="This document", answer=None),
)

_ERRORS: Final = {
    "400": "A parameter is missing or wrong",
    "401": "A valid token is needed",
    "404": "Unknown symbol, or no data",
    "429": "Too many requests",
    "503": "The database cannot answer now",
    "504": "The answer took too long",
}


def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    types = [each.answer for each in ENDPOINTS if each.answer is not None]
    found, components = msgspec.json.schema_components(
        [*types, schema.ErrorBody], ref_template="#/components/schemas/{name}"
    )
    references = dict(zip([*types, schema.ErrorBody], found, strict=True))
    components["Failure"] = {
        "type": "object",
        "required": ["data", "error", "message"],
        "properties": {
            "data": {"type": "null"},
            "error": references[schema.ErrorBody],
            "message": {"type": "string"},
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "market-ingestor", "version": __version__},
        "paths": {each.path: {"get": _operation(each, references)} for each in ENDPOINTS},
        "components": {
            "schemas": dict(sorted(components.items())),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(endpoint: Endpoint, references: dict[Any, Any]) -> dict[str, Any]:
    in_path = [part[1:-1] for part in endpoint.path.split("/") if part.startswith("{")]
    described = [_described("path", name, _in_path(name)) for name in in_path]
    described += [_described("query", name, each) for name, each in endpoint.query.items()]
    return {
        "operationId": endpoint.path.strip("/").translate(str.maketrans("/.", "__", "{}")),
        "summary": endpoint.summary,
        "parameters": described,
        "responses": {
            "200": {"description": "Success", "content": _content(endpoint, references)},
            **{status: _failure(text) for status, text in _ERRORS.items()},
        },
    }


def _in_path(name: str) -> Parameter:
    known = _SYMBOL if name == "symbol" else _EXCHANGE
    return Parameter(schema=known.schema, text=known.text, is_required=True)


def _described(where: str, name: str, parameter: Parameter) -> dict[str, Any]:
    return {
        "name": name,
        "in": where,
        "required": parameter.is_required,
        "description": parameter.text,
        "schema": parameter.schema,
    }


def _content(endpoint: Endpoint, references: dict[Any, Any]) -> dict[str, Any]:
    if endpoint.answer is None:
        return {"application/json": {"schema": {"type": "object"}}}
    body = references[endpoint.answer]
    if endpoint.path.startswith("/api/v1/"):
        body = {
            "type": "object",
            "required": ["data", "error", "message"],
            "properties": {
                "data": body,
                "error": {"type": "null"},
                "message": {"type": "null"},
            },
        }
    content: dict[str, Any] = {"application/json": {"schema": body}}
    if "format" in endpoint.query:
        content["text/csv"] = {"schema": {"type": "string"}}
    return content


def _failure(text: str) -> dict[str, Any]:
    reference = {"$ref": "#/components/schemas/Failure"}
    return {"description": text, "content": {"application/json": {"schema": reference}}}
