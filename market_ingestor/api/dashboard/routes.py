"""Serves the page at ``/`` and its files below ``/dashboard/``. SHELL."""

from collections.abc import Mapping
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from market_ingestor.api.dashboard import charts
from market_ingestor.api.dashboard.files import StaticFile, load, static_file
from market_ingestor.api.dashboard.page import PushAddress, policy, rendered

PAGE: Final = "index.html"
NOT_FOUND: Final = 404
NOT_MODIFIED: Final = 304
HEADERS: Final = {
    "Cache-Control": "no-cache",  # kept, and asked about each time: a new version shows at once
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Vary": "Accept-Encoding",
}


def _answer(request: Request, file: StaticFile, more: Mapping[str, str]) -> Response:
    headers = {**HEADERS, **more, "ETag": file.tag}
    if request.headers.get("if-none-match") == file.tag:
        return Response(status_code=NOT_MODIFIED, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(file.compressed, media_type=file.media_type, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)


def dashboard_routes(
    push: PushAddress, files: Mapping[str, StaticFile] | None = None
) -> list[Route]:
    """Return the routes of the page.

    Args:
        push: Where the page subscribes.
        files: Those of the page, as `load` found them.
    """
    files = load() if files is None else files
    has_local_charts = charts.LOCAL_NAME in files
    template = files[PAGE].content.decode()

    async def page(request: Request) -> Response:
        url = push.url(request.headers.get("host"))
        text = rendered(template, url, has_local_charts=has_local_charts)
        security = policy(url, has_local_charts=has_local_charts)
        made = static_file(text.encode(), files[PAGE].media_type)
        return _answer(request, made, {"Content-Security-Policy": security})

    async def static(request: Request) -> Response:
        file = files.get(request.path_params["name"])
        if file is None or request.path_params["name"] == PAGE:
            raise HTTPException(NOT_FOUND, "no such file")
        return _answer(request, file, {})

    return [
        Route("/", page, methods=["GET"]),
        Route("/dashboard/{name:path}", static, methods=["GET"]),
    ]
