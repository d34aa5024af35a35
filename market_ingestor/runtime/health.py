"""Health and metrics of a process over HTTP (contract, section 3). SHELL.

Live says the event loop turns. Ready says every role of the process can do its own work; what
another role lacks never makes a process unready, it only degrades ``/health``.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from market_ingestor import __version__, metrics
from market_ingestor.runtime.role import Role

OK = 200
UNAVAILABLE = 503


def _json(body: Mapping[str, Any], status: int) -> Response:
    return Response(
        msgspec.json.encode(body),
        status_code=status,
        media_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


class HealthReport:
    """What a process says of itself, from its roles' own judgement.

    Attributes:
        is_stopping: Set first of all when the process is told to end.
        names: The roles this process is for, also before they run.
    """

    def __init__(self, roles: Sequence[Role] = (), *, names: Collection[str] = ()) -> None:
        self.roles: Sequence[Role] = roles
        self.names = tuple(names) or tuple(role.name for role in roles)
        self.is_started = False
        self.is_stopping = False
        self._leans_on: list[tuple[str, Callable[[], bool]]] = []

    def leans_on(self, kind: str, is_up: Callable[[], bool]) -> None:
        """Add a connection of the process; ``kind`` is ``nats`` or ``database``."""
        self._leans_on.append((kind, is_up))

    @property
    def is_ready(self) -> bool:
        """Return whether every role can do its work."""
        if not self.is_started or self.is_stopping:
            return False
        return all(role.health().is_ready for role in self.roles)

    def as_dict(self) -> dict[str, Any]:
        """Return the body of ``/health``."""
        judged = {role.name: role.health() for role in self.roles}
        problems = [f"{name}: {each}" for name, one in judged.items() for each in one.problems]
        answers = defaultdict(list)
        for kind, is_up in self._leans_on:
            answers[kind].append(is_up())
        for one in judged.values():
            for kind, is_usable in one.dependencies.items():
                answers[kind].append(is_usable)
        is_well = not problems and all(all(each) for each in answers.values())
        status = "stopping" if self.is_stopping else "ok" if is_well else "degraded"
        if not self.is_started:
            status = "starting"
        return {
            "status": status,
            "ready": self.is_ready,
            "version": __version__,
            "problems": problems,
            "dependencies": {kind: "up" if all(all_) else "down" for kind, all_ in answers.items()},
            "feeds": {name: feed for one in judged.values() for name, feed in one.feeds.items()},
            "roles": {name: {"ready": one.is_ready, **one.details} for name, one in judged.items()},
        }


def health_routes(report: HealthReport) -> list[Route]:
    """Return the routes that every role's port answers."""

    async def live(_: Request) -> Response:
        return _json({"status": "ok"}, OK)

    async def ready(_: Request) -> Response:
        is_ready = report.is_ready
        return _json({"ready": is_ready}, OK if is_ready else UNAVAILABLE)

    async def health(_: Request) -> Response:
        return _json(report.as_dict(), OK)

    async def scrape(_: Request) -> Response:
        text = metrics.exposition(report.names)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    handlers: dict[str, Callable[[Request], Any]] = {
        "/health/live": live,
        "/health/ready": ready,
        "/health": health,
        "/metrics": scrape,
    }
    return [Route(path, handler, methods=["GET"]) for path, handler in handlers.items()]


def health_app(report: HealthReport) -> Starlette:
    """Return the application behind a process's own port."""
    routes = health_routes(report)
    (scrape,) = [route.endpoint for route in routes if route.path == "/metrics"]
    return Starlette(routes=[*routes, Route("/", scrape, methods=["GET"])])
