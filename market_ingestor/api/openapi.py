"""The OpenAPI document, made from the table of endpoints. Pure."""

from http import HTTPStatus
from typing import Any, Final

import msgspec

from market_ingestor import __version__
from market_ingestor.api.endpoints import (
    COMMON_ERRORS,
    EXCHANGE,
    SYMBOL,
    Endpoint,
    Parameter,
)
from market_ingestor.api.table import ALL_ENDPOINTS

JSON: Final = "application/json"

_ERRORS: Final = {
    400: "A parameter, the body or the URL is wrong",
    401: "A valid token is needed",
    403: "Not from there, or not with this token",
    404: "Unknown symbol, or no data",
    405: "Not with this method",
    409: "Not in the present state",
    413: "The body is too large",
    429: "Too many requests",
    503: "What the answer needs is not there now",
    504: "The answer took too long",
}
_RETRIES: Final = frozenset({429, 503})
_RETRY_AFTER: Final = {
    "Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer", "minimum": 1}}
}


def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    types = _types()
    found, components = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    found, components = _without_tuples(found), _without_tuples(components)
    references = list(zip(types, found, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for each in ALL_ENDPOINTS:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each, references)
    return {
        "openapi": "3.1.0",
        "info": {"title": "market-ingestor", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": dict(sorted(components.items())),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _without_tuples(schema: Any) -> Any:
    """Return a JSON schema with tuples as lists of their length, which more tools understand."""
    if isinstance(schema, list | tuple):
        return [_without_tuples(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: _without_tuples(each) for name, each in schema.items()}
    if "prefixItems" in made:
        kinds = made.pop("prefixItems")
        made["items"] = {"anyOf": [each for n, each in enumerate(kinds) if each not in kinds[:n]]}
    return made


def _types() -> list[Any]:
    """Return every type that bodies have, each once."""
    types: list[Any] = []
    for each in ALL_ENDPOINTS:
        types += [kind for kind in (each.answer, each.body, each.failure) if kind not in types]
    return [each for each in types if each is not None]


def _reference(kind: Any, references: list[tuple[Any, Any]]) -> Any:
    return next(schema for known, schema in references if known == kind)


def _operation(endpoint: Endpoint, references: list[tuple[Any, Any]]) -> dict[str, Any]:
    in_path = [part[1:-1] for part in endpoint.path.split("/") if part.startswith("{")]
    described = [_described("path", name, _in_path(endpoint, name)) for name in in_path]
    described += [_described("query", name, each) for name, each in endpoint.query.items()]
    success: dict[str, Any] = {
        "description": "Success",
        "content": _content(endpoint, references),
    }
    failure = _reference(endpoint.failure, references)
    operation: dict[str, Any] = {
        "operationId": _operation_id(endpoint),
        "summary": endpoint.summary,
        "parameters": described,
        "responses": {
            str(endpoint.status): success,
            **{
                str(status): _failure(status, failure)
                for status in sorted({*COMMON_ERRORS, *endpoint.errors})
            },
        },
    }
    if endpoint.body is not None:
        operation["requestBody"] = {
            "required": endpoint.is_body_required,
            "content": {JSON: {"schema": _reference(endpoint.body, references)}},
        }
    return operation


def _operation_id(endpoint: Endpoint) -> str:
    name = endpoint.path.strip("/").translate(str.maketrans("/.-", "___", "{}"))
    return name if endpoint.method == "GET" else f"{endpoint.method.lower()}_{name}"


def _in_path(endpoint: Endpoint, name: str) -> Parameter:
    known = endpoint.in_path.get(name) or {"symbol": SYMBOL, "exchange": EXCHANGE}[name]
    return Parameter(schema=known.schema, text=known.text, is_required=True)


def _described(where: str, name: str, parameter: Parameter) -> dict[str, Any]:
    return {
        "name": name,
        "in": where,
        "required": parameter.is_required,
        "description": parameter.text,
        "schema": parameter.schema,
    }


def _content(endpoint: Endpoint, references: list[tuple[Any, Any]]) -> dict[str, Any]:
    body: Any = {"type": "object"}
    if endpoint.answer is not None:
        body = _reference(endpoint.answer, references)
    if endpoint.wraps:
        body = {
            "type": "object",
            "required": ["data", "error", "message"],
            "properties": {
                "data": body,
                "error": {"type": "null"},
                "message": {"type": ["string", "null"]},
            },
        }
    content: dict[str, Any] = {JSON: {"schema": body}}
    content.update({media: {"schema": {"type": "string"}} for media in endpoint.media})
    return content


def _failure(status: int, reference: Any) -> dict[str, Any]:
    text = _ERRORS.get(status) or HTTPStatus(status).phrase
    failure = {"description": text, "content": {JSON: {"schema": reference}}}
    return failure | ({"headers": _RETRY_AFTER} if status in _RETRIES else {})
