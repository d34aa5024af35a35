"""Every metric of the service, defined once (contract, section 6).

Counters count effects, after they happened: rows committed, acknowledgements received. Labels have
few values, or as many as configuration names. A process exports what belongs to its roles: the
zeros of a stage that runs elsewhere would look like a stage that stands still.
"""

from bisect import bisect_left
from collections import Counter as Counting
from collections.abc import Collection, Iterator, Sequence
from typing import Final

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import UntypedMetricFamily
from prometheus_client.registry import Collector

from market_ingestor import __version__

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call] # the library's gap

ROLES: Final = frozenset({"ingest", "klines", "save", "gateway", "api"})
_NS: Final = "market_ingestor_"
_LATENCY_BUCKETS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
)  # fmt: skip


class BatchHistogram(Histogram):
    """A histogram that takes the times of a batch at once: one by one each costs about 1 us."""

    def observe_ages(self, now_us: int, times_us: Sequence[int]) -> None:
        """Count how many seconds ago each of these times is, mostly about as many.

        Args:
            now_us: Microseconds, none of ``times_us`` above it.
        """
        bounds = self._upper_bounds
        first = bisect_left(bounds, (now_us - max(times_us)) / 1e6)
        if first == bisect_left(bounds, (now_us - min(times_us)) / 1e6):
            self._buckets[first].inc(len(times_us))
        else:
            ages = ((now_us - each) / 1e6 for each in times_us)
            for index, count in Counting(bisect_left(bounds, each) for each in ages).items():
                self._buckets[index].inc(count)
        self._sum.inc((now_us * len(times_us) - sum(times_us)) / 1e6)


class _Family:
    """Metrics that the same roles export, in a registry of their own.

    Args:
        roles: Who exports them; a process does when it runs any one of these.
    """

    def __init__(self, *roles: str) -> None:
        self.roles = frozenset(roles)
        self.registry = CollectorRegistry(auto_describe=True)
        _families.append(self)

    def counter(self, name: str, text: str, *labels: str, prefix: str = _NS) -> Counter:
        return Counter(prefix + name, text, labels, registry=self.registry)

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(_NS + name, text, labels, registry=self.registry)

    def histogram(self, name: str, text: str, *labels: str, prefix: str = _NS) -> BatchHistogram:
        return BatchHistogram(
            prefix + name, text, labels, buckets=_LATENCY_BUCKETS, registry=self.registry
        )


_families: Final[list[_Family]] = []
_process: Final = _Family(*ROLES)
_publishers: Final = _Family("ingest", "klines", "save")
_readers: Final = _Family("klines", "save")
_decoders: Final = _Family("klines", "save", "gateway", "api")
_ingest: Final = _Family("ingest")
_klines: Final = _Family("klines")
_save: Final = _Family("save")
_gateway: Final = _Family("gateway")

prometheus_client.ProcessCollector(registry=_process.registry)
prometheus_client.PlatformCollector(registry=_process.registry)
prometheus_client.GCCollector(registry=_process.registry)

# -- every process

build_info = _process.gauge("build_info", "Always 1; the version is the label", "version")
build_info.labels(version=__version__).set(1)
event_loop_lag_seconds = _process.gauge(
    "event_loop_lag_seconds", "How late the event loop ran its newest timer"
)

# -- ingest

ingest_latency_seconds = _ingest.histogram(
    "ingest_latency_seconds",
    "From the venue's trade time to the acknowledgement by JetStream",
    "exchange",
    prefix="",
)
clock_skew_total = _ingest.counter(
    "clock_skew_total", "Trades whose time lay ahead of our clock when acknowledged", "exchange"
)
trades_received_total = _ingest.counter(
    "trades_received_total", "Trades read from a venue", "exchange"
)
trades_published_total = _ingest.counter(
    "trades_published_total", "Trades acknowledged by JetStream", "exchange"
)
trades_duplicate_total = _ingest.counter(
    "trades_duplicate_total", "Trades dropped because their feed had delivered them", "exchange"
)
trades_rejected_total = _ingest.counter(
    "trades_rejected_total", "Frames or trades not fit to use", "exchange", "reason"
)
trades_in_flight = _ingest.gauge(
    "trades_in_flight", "Trades read and not yet acknowledged by JetStream", "exchange"
)
feed_up = _ingest.gauge("feed_up", "1 while a feed is connected and confirmed", "exchange")
feed_last_trade_timestamp_seconds = _ingest.gauge(
    "feed_last_trade_timestamp_seconds", "Receive time of the newest trade", "exchange"
)
feed_reconnects_total = _ingest.counter(
    "feed_reconnects_total", "Connections opened after the first", "exchange"
)
gaps_total = _ingest.counter(
    "gaps_total", "Holes in trade ids by what became of them", "exchange", "state"
)

# -- bus

publish_in_flight = _publishers.gauge("publish_in_flight", "Messages not yet acknowledged", "role")
publish_resent_total = _publishers.counter("publish_resent_total", "Messages sent again", "role")
publish_rejected_total = _publishers.counter(
    "publish_rejected_total", "Answers by which JetStream refused a message for now", "role"
)
consumer_pending_messages = _readers.gauge(
    "consumer_pending_messages",
    "Messages of a stream not yet delivered to this role",
    "role",
    "stream",
)
stream_bytes = _save.gauge("stream_bytes", "Bytes a stream holds", "stream")
stream_bytes_max = _save.gauge("stream_bytes_max", "Bytes a stream may hold", "stream")
dead_letters_total = _decoders.counter(
    "dead_letters_total", "Messages that could not be processed", "role", "reason"
)
queue_items = _publishers.gauge("queue_items", "Items in a bounded queue", "queue")
queue_items_max = _publishers.gauge("queue_items_max", "Bound of a queue", "queue")

# -- klines

trade_process_total = _klines.counter(
    "trade_process_total", "Trades folded into candles", "exchange", prefix=""
)
klines_published_total = _klines.counter(
    "klines_published_total", "Versions of closed candles published", "period", "reason"
)
kline_close_delay_seconds = _klines.histogram(
    "kline_close_delay_seconds", "From the end of a window to the publication of its candle"
)
klines_incomplete_total = _klines.counter(
    "klines_incomplete_total", "First versions published with something known to be missing"
)
klines_dirty = _klines.gauge("klines_dirty", "Closed windows waiting for a correction")

# -- save

db_insert_total = _save.counter(
    "db_insert_total", "Rows committed, duplicates not counted", "table", prefix=""
)
trades_stored_total = _save.counter(
    "trades_stored_total", "Trades committed, duplicates not counted"
)
trades_conflicting_total = _save.counter(
    "trades_conflicting_total", "Trades whose id was stored with another time, price or amount"
)
trades_dead_lettered_total = _save.counter(
    "trades_dead_lettered_total", "Trades the database refused for their own fault"
)
save_batch_seconds = _save.histogram("save_batch_seconds", "Time to commit one batch", "table")
save_last_commit_timestamp_seconds = _save.gauge(
    "save_last_commit_timestamp_seconds", "When the newest batch was committed"
)
raw_unsaved_oldest_timestamp_seconds = _save.gauge(
    "raw_unsaved_oldest_timestamp_seconds",
    "Store time of the oldest trade not yet saved, 0 for none",
)

# -- push

push_clients = _gateway.gauge("push_clients", "Push clients connected now")
push_messages_sent_total = _gateway.counter(
    "push_messages_sent_total", "Messages handed to sockets"
)
push_messages_conflated_total = _gateway.counter(
    "push_messages_conflated_total", "Open values replaced by newer ones before they were sent"
)
push_messages_dropped_total = _gateway.counter(
    "push_messages_dropped_total", "Messages a client missed because it read too slowly"
)
push_queue_bytes = _gateway.gauge("push_queue_bytes", "Bytes queued for push clients")


class _PushClients(Collector):
    """The source documents' name for the number of push clients: a gauge called a total."""

    def collect(self) -> Iterator[UntypedMetricFamily]:
        value = next(iter(push_clients.collect())).samples[0].value
        yield UntypedMetricFamily("ws_connections_total", "Push clients connected now", value)


_gateway.registry.register(_PushClients())


def exposition(roles: Collection[str] = ROLES) -> bytes:
    """Return the metrics of these roles in the text format Prometheus scrapes."""
    return b"".join(
        prometheus_client.generate_latest(family.registry)
        for family in _families
        if not family.roles.isdisjoint(roles)
    )
