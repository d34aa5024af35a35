"""Plain HTTP on the WebSocket port: from the library's request to a front's and back. Pure."""

from http import HTTPStatus
from urllib.parse import parse_qsl, unquote, urlsplit

from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from market_ingestor.simulator.protocol import HttpReply, HttpRequest


def is_upgrade(request: Request) -> bool:
    """Return whether a request wants a WebSocket."""
    return "websocket" in request.headers.get("Upgrade", "").lower()


def parsed(request: Request) -> HttpRequest:
    """Return path, first value of each query name, and headers in lower case."""
    url = urlsplit(request.path)
    query: dict[str, str] = {}
    for name, value in parse_qsl(url.query, keep_blank_values=True):
        query.setdefault(name, value)
    headers = {name.lower(): value for name, value in request.headers.raw_items()}
    return HttpRequest(path=unquote(url.path), query=query, headers=headers)


def response(answer: HttpReply) -> Response:
    """Return an answer for the wire; the connection closes behind it."""
    headers = Headers()
    headers["Content-Type"] = answer.content_type
    headers["Content-Length"] = str(len(answer.body))
    headers["Connection"] = "close"
    for name, value in answer.headers.items():
        headers[name] = value
    status = HTTPStatus(answer.status)
    return Response(status, status.phrase, headers, answer.body)
