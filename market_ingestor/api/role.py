"""The role ``api``: follows the bus and serves REST. SHELL."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Final

import structlog
from starlette.routing import BaseRoute

from market_ingestor.api.app import ApiOptions, failure_headers, make_app
from market_ingestor.api.binance.endpoints import PATHS as BINANCE_PATHS
from market_ingestor.api.binance.handlers import BinanceHandlers
from market_ingestor.api.binance.handlers import failure_response as refused
from market_ingestor.api.candles import KlineQueries
from market_ingestor.api.catalog import Catalog
from market_ingestor.api.control import Control
from market_ingestor.api.control_handlers import ControlHandlers
from market_ingestor.api.filled import FilledKlines
from market_ingestor.api.handlers import DataHandlers
from market_ingestor.api.history import TradeHistory
from market_ingestor.api.memory import Memory
from market_ingestor.api.ports import ReadStore
from market_ingestor.api.prices import PriceQueries
from market_ingestor.api.queries import Queries
from market_ingestor.bus.jetstream import Bus
from market_ingestor.model.control import feed_health, merged
from market_ingestor.runtime.role import Health
from market_ingestor.runtime.web import WebServer, listen

_log = structlog.get_logger(__name__)

WARM_UP_S: Final = 5.0  # to read what memory needs; then requests are answered all the same
STORE_WAIT_SHARE: Final = 0.6  # of a request's time; the rest is for an answer from memory
TAIL_BYTES: Final = 64 * 1024 * 1024  # of candles kept while the database lags
TRADE_BYTES: Final = 64 * 1024 * 1024  # of trades, likewise


class ApiRole:
    """The role ``api``.

    Args:
        bus: A connection of its own.
        store: Committed data.
        options: What an operator may choose.
        control: What the operator wants, and who follows.
        is_store_up: Whether the database answered when it was last asked.
        more_routes: Of the process: health and metrics.

    Attributes:
        port: Where it is served, once it runs.
    """

    name = "api"

    def __init__(
        self,
        bus: Bus,
        store: ReadStore,
        options: ApiOptions,
        *,
        control: Control,
        is_store_up: Callable[[], bool] = lambda: False,
        more_routes: Sequence[BaseRoute] = (),
    ) -> None:
        self._bus = bus
        self._is_store_up = is_store_up
        self._options = options
        self._memory = Memory(bus, tail_bytes=TAIL_BYTES, trade_bytes=TRADE_BYTES)
        self._control = control
        catalog = Catalog(store, self._memory, self._is_test_mode, options.exchanges)
        queries = Queries(store, self._memory, catalog)
        klines = KlineQueries(
            store,
            self._memory,
            catalog,
            store_wait_s=options.request_timeout_s * STORE_WAIT_SHARE,
        )
        prices = PriceQueries(store, self._memory, catalog)
        quiet = FilledKlines(klines, store, self._memory, catalog)
        handlers = [
            DataHandlers(queries, klines, prices, options.addresses, self._is_test_mode),
            BinanceHandlers(
                queries, klines, prices, quiet, TradeHistory(store), self._memory, catalog
            ),
            ControlHandlers(control, catalog),
        ]
        self._app = make_app(
            options,
            handlers,
            more_routes,
            dict.fromkeys(
                BINANCE_PATHS, lambda problem: refused(problem, failure_headers(problem))
            ),
        )
        self._stopping = asyncio.Event()
        self._server: WebServer | None = None
        self.port = options.port

    def stop(self) -> None:
        """Take no new requests; those under way are answered."""
        self._stopping.set()

    def health(self) -> Health:
        """Return how it is: ready while it can answer from memory or from the database."""
        problems = []
        if not self._bus.is_up:
            problems.append("NATS does not answer")
        if not self._memory.is_warm:
            problems.append("memory is not read yet")
        if self._memory.tail.overflowed:
            problems.append("candles waited for the database too long and are not shown")
        if self._control.problem is not None:
            problems.append(f"control cannot be read: {self._control.problem}")
        living = self._control.living
        if living is not None and not living:
            problems.append("no ingest process reports")
        feeds = {name: feed_health(each) for name, each in merged(living or {}).items()}
        for name, each in feeds.items():
            if each["status"] != "up":
                problems.append(f"feed {name} is {each['status']}")
        can_answer = self._memory.is_warm or self._is_store_up()
        is_serving = self._server is not None and not self._stopping.is_set()
        return Health(
            is_ready=is_serving and can_answer,
            problems=tuple(problems),
            details={"tail_candles": len(self._memory.tail), "tail_bytes": self._memory.tail.size},
            dependencies={"cache": self._memory.is_warm},
            feeds=feeds,
        )

    def _is_test_mode(self) -> bool:
        return self._control.mode == "test"

    async def run(self) -> None:
        """Answer requests until `stop`."""
        async with asyncio.TaskGroup() as tasks:
            following = [
                tasks.create_task(each) for each in (self._memory.run(), self._control.run())
            ]
            try:
                await self._serve()
            finally:
                for each in following:
                    each.cancel()

    async def _serve(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WARM_UP_S):
                await self._memory.warm()
                await self._control.read()
        listener = listen("api.port", self._options.host, self._options.port)
        server = self._server = WebServer(self._app, listener)
        self.port = server.port
        _log.info("api_serving", host=self._options.host, port=self.port)
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server.run())
            await self._stopping.wait()
            server.stop()
            await serving
