"""The role that feeds the bus from the venues. SHELL.

Owns the publisher of the process, one fleet per configured exchange, and the order of stopping:
sockets first, then what was read, then its acknowledgements.
"""

import asyncio
import contextlib
import functools
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import prometheus_client
import structlog

from market_ingestor import metrics
from market_ingestor.bus.control import ControlBoard, ControlFollower
from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.listings import ListingWriter
from market_ingestor.bus.publisher import Publisher
from market_ingestor.bus.publisher_metrics import PublisherMetrics
from market_ingestor.config import ExchangeSettings, IngestSettings
from market_ingestor.connectors.batcher import Batcher
from market_ingestor.connectors.context import ExchangeContext
from market_ingestor.connectors.feed import FeedNames
from market_ingestor.connectors.fleet import Fleet
from market_ingestor.connectors.history import KnownIds
from market_ingestor.connectors.membership import Membership, member_name
from market_ingestor.connectors.outbox import Outbox
from market_ingestor.connectors.refill_queue import HOLES_MAX
from market_ingestor.connectors.registry import configured_venue, ws_base
from market_ingestor.connectors.roster import Roster
from market_ingestor.connectors.stream_guard import StreamGuard
from market_ingestor.model.control import feed_health
from market_ingestor.model.event import WHOLE_FEED
from market_ingestor.model.partition import slot
from market_ingestor.runtime.role import Health

_log = structlog.get_logger(__name__)

EXPORT_S: Final = 1.0  # how often counts become metrics
GRACE_S: Final = 4.5  # below half the process's default, which is what its first role gets
TOKEN_BYTES: Final = 5  # 40 random bits tell the feeds of this process from any other's
GAP_STATES: Final = ("found", "filled", "unfillable")
CLOSE_SHARE: Final = 0.4  # of the grace, for closing sockets; the rest is for acknowledgements


class Slots(Protocol):
    """A set of hash slots."""

    def owns(self, slot: int) -> bool:
        """Return whether a slot belongs to it."""


class IngestRole:
    """Streams the trades of the configured exchanges into MARKET_RAW.

    Args:
        bus: Connected; stays open until `run` has returned.
        exchanges: ``[exchanges]``.
        settings: ``[ingest]``; its mode chooses simulated or real exchanges.
        shard: The hash slots of this process; None for all.
        grace_s: Most that `run` may take after `stop`.
        known_ids: Tells what was saved, for instruments of which the stream holds nothing.
        board: Where the operator's wishes are; None takes one over ``bus``.
    """

    name = "ingest"

    def __init__(
        self,
        bus: Bus,
        exchanges: Mapping[str, ExchangeSettings],
        settings: IngestSettings,
        *,
        shard: Slots | None = None,
        grace_s: float = GRACE_S,
        known_ids: KnownIds | None = None,
        board: ControlBoard | None = None,
    ) -> None:
        self._bus = bus
        self._settings = settings
        self._grace_s = grace_s
        self._known_ids = known_ids
        self._stopping = asyncio.Event()
        self._is_started = False
        self.publisher = Publisher(bus)
        self._guard = StreamGuard(bus)
        self._listings = ListingWriter(bus)
        self.outbox = Outbox(
            self.publisher,
            Batcher(
                messages_per_s=settings.max_messages_per_s,
                linger_max_s=settings.linger_ms_max / 1000,
            ),
            self._guard,
            buffer_trades=settings.buffer_trades,
            on_latency=_observe_latency,
        )
        self._shard = shard
        token = secrets.token_hex(TOKEN_BYTES)
        self._names = FeedNames(token)
        self._exporter = _Exporter(self)
        board = board or ControlBoard(bus)
        self._follower = ControlFollower(board)
        self._roster = Roster(
            {name: each for name, each in exchanges.items() if configured_venue(name, each)},
            mode=settings.mode,
            make_fleet=self._fleet,
            follower=self._follower,
            on_retired=self._exporter.retire,
        )
        self._membership = Membership(
            bus,
            board,
            self._roster,
            name=member_name(token),
            shard=str(shard) if shard is not None else "1/1",
            make_fleet=self._fleet,
        )

    @property
    def fleets(self) -> list[Fleet]:
        """Return the fleets that run."""
        return self._roster.fleets

    def _fleet(self, name: str, exchange: ExchangeSettings) -> Fleet:
        venue = configured_venue(name, exchange)
        assert venue is not None  # noqa: S101 - the others are not given to the roster
        context = ExchangeContext(
            name,
            venue,
            ws_url=ws_base(venue, exchange),
            settings=self._settings,
            outbox=self.outbox,
            names=self._names,
            hidden=() if exchange.token is None else (exchange.token.get_secret_value(),),
        )
        return Fleet(
            context,
            rest_url=exchange.rest_url or venue.rest_url,
            symbols=exchange.symbols,
            sockets=1 if venue.limits.is_exclusive else exchange.sockets,
            bus=self._bus,
            owns=self._owns_feed if venue.limits.is_exclusive else self._owns,
            known_ids=self._known_ids,
            listings=self._listings,
        )

    def _owns(self, exchange: str, symbol: str) -> bool:
        return self._shard is None or self._shard.owns(slot(exchange, symbol))

    def _owns_feed(self, exchange: str, symbol: str) -> bool:  # noqa: ARG002 - all or none
        """Return whether this process carries a feed that only one may carry."""
        return self._owns(exchange, WHOLE_FEED)

    async def run(self) -> None:
        """Feed the bus until `stop`, then close, send what was read and wait for its acks."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            services = [
                tasks.create_task(self.publisher.run()),
                tasks.create_task(self._guard.run()),
                tasks.create_task(self.outbox.run()),
                tasks.create_task(self._listings.run()),
                tasks.create_task(self._export()),
                tasks.create_task(self._follower.run()),
                tasks.create_task(self._membership.run()),
            ]
            feeds = tasks.create_task(self._roster.run())
            self._is_started = True
            await self._stopping.wait()
            deadline = loop.time() + self._grace_s
            feeds.cancel()
            await asyncio.wait({feeds}, timeout=self._grace_s * CLOSE_SHARE)
            is_drained = await self.outbox.drain(max(deadline - loop.time(), 0.0))
            for service in services:
                service.cancel()
        await self._membership.retire()
        self._exporter.export()
        in_flight = sum(each.in_flight for each in self.outbox.accounts.values())
        _log.info("ingest_stopped", drained=is_drained, trades_in_flight=in_flight)

    def stop(self) -> None:
        """Begin to drain."""
        self._stopping.set()

    def health(self) -> Health:
        """Return how this role is; a feed that is down makes it degraded, never unready."""
        problems = [problem for fleet in self.fleets for problem in fleet.problems]
        if not self._bus.is_up:
            problems.append("NATS does not answer")
        elif self.publisher.is_held:
            problems.append("JetStream refuses messages")
        if self._guard.is_full:
            problems.append("the raw stream is full")
        if not self.fleets and self._is_started:
            problems.append(f"no exchange is enabled for mode {self._roster.mode!r}")
        if self._roster.problem is not None:
            problems.append(f"control is not followed: {self._roster.problem}")
        return Health(
            is_ready=self._is_started and self._bus.is_up and not self._stopping.is_set(),
            problems=tuple(problems),
            details={fleet.context.exchange: fleet.details() for fleet in self.fleets},
            feeds={fleet.context.exchange: feed_health(fleet.carried()) for fleet in self.fleets},
        )

    async def _export(self) -> None:
        while True:
            await asyncio.sleep(EXPORT_S)
            self._exporter.export()


# Finding it anew costs 1 us, and this happens for every message.
_latency_of: Final = functools.cache(metrics.ingest_latency_seconds.labels)


def _observe_latency(exchange: str, acknowledged_us: int, times_us: Sequence[int]) -> None:
    if max(times_us) > acknowledged_us:
        ahead = sum(each > acknowledged_us for each in times_us)
        metrics.clock_skew_total.labels(exchange).inc(ahead)
        times_us = [min(each, acknowledged_us) for each in times_us]
    _latency_of(exchange).observe_ages(acknowledged_us, times_us)


class _Exporter:
    """Turns counts into metrics, all at one instant, so that the loss account balances there."""

    def __init__(self, role: IngestRole) -> None:
        self._role = role
        self._exported: Counter[tuple[object, ...]] = Counter()
        self._published = PublisherMetrics(role.publisher, role.name)

    def retire(self, fleet: Fleet) -> None:
        """Forget a fleet that has ended; another of the same exchange begins at nothing."""
        self._export_exchange(fleet)
        exchange = fleet.context.exchange
        for key in [key for key in self._exported if key[-1] is fleet]:
            del self._exported[key]
        for gauge in (metrics.feed_up, metrics.feed_last_trade_timestamp_seconds):
            with contextlib.suppress(KeyError):
                gauge.remove(exchange)

    def export(self) -> None:
        """Bring every metric of this role up to date."""
        for fleet in self._role.fleets:
            self._export_exchange(fleet)
        outbox = self._role.outbox
        metrics.queue_items.labels("ingest_trades").set(outbox.trades)
        metrics.queue_items_max.labels("ingest_trades").set(outbox.trades_max)
        self._published.export()

    def _export_exchange(self, fleet: Fleet) -> None:
        exchange, account = fleet.context.exchange, fleet.context.account
        self._count(metrics.trades_received_total, account.received, exchange)
        self._count(metrics.trades_published_total, account.published, exchange)
        self._count(metrics.trades_duplicate_total, account.duplicates, exchange)
        for reason, count in account.rejected.items():
            self._count(metrics.trades_rejected_total, count, exchange, reason)
        metrics.trades_in_flight.labels(exchange).set(account.in_flight)
        metrics.feed_up.labels(exchange).set(fleet.is_up)
        metrics.feed_last_trade_timestamp_seconds.labels(exchange).set(
            fleet.context.last_trade_us / 1e6
        )
        self._count(metrics.feed_reconnects_total, fleet.context.reconnects, exchange, of=fleet)
        refills = f"ingest_refills_{exchange}"
        metrics.queue_items.labels(refills).set(fleet.refiller.open_holes)
        metrics.queue_items_max.labels(refills).set(HOLES_MAX)
        for state in GAP_STATES:  # from zero on: the first one must be seen to happen
            count = fleet.refiller.states[state]
            self._count(metrics.gaps_total, count, exchange, state, of=fleet)

    def _count(
        self, counter: prometheus_client.Counter, total: int, *labels: str, of: Fleet | None = None
    ) -> None:
        """Raise a counter by what ``total`` has grown; ``of`` is whose total it is."""
        key = (counter, *labels, of)
        counter.labels(*labels).inc(total - self._exported[key])
        self._exported[key] = total
