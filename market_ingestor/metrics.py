"""Every metric of the service, defined once (contract, section 6).

Counters count effects, after they happened: rows committed, acknowledgements received. Symbol
labels appear only where configuration bounds them.
"""

from collections.abc import Iterator
from typing import Final

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import UntypedMetricFamily
from prometheus_client.registry import Collector

from market_ingestor import __version__

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call] # the library's gap

REGISTRY: Final = CollectorRegistry(auto_describe=True)
prometheus_client.ProcessCollector(registry=REGISTRY)
prometheus_client.PlatformCollector(registry=REGISTRY)
prometheus_client.GCCollector(registry=REGISTRY)

_NS: Final = "market_ingestor"
_LATENCY_BUCKETS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
)  # fmt: skip


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(f"{_NS}_{name}", text, labels, registry=REGISTRY)


def _gauge(name: str, text: str, *labels: str) -> Gauge:
    return Gauge(f"{_NS}_{name}", text, labels, registry=REGISTRY)


def _histogram(name: str, text: str, *labels: str) -> Histogram:
    return Histogram(f"{_NS}_{name}", text, labels, buckets=_LATENCY_BUCKETS, registry=REGISTRY)


# -- process

build_info = _gauge("build_info", "Always 1; the version is the label", "version")
build_info.labels(version=__version__).set(1)
event_loop_lag_seconds = _gauge(
    "event_loop_lag_seconds", "How late the event loop ran its newest timer"
)

# -- ingest

ingest_latency_seconds = Histogram(
    "ingest_latency_seconds",
    "From the venue's trade time to the acknowledgement by JetStream",
    ("exchange",),
    buckets=_LATENCY_BUCKETS,
    registry=REGISTRY,
)
clock_skew_total = _counter(
    "clock_skew_total", "Trades whose time lay ahead of our clock when acknowledged", "exchange"
)
trades_received_total = _counter("trades_received_total", "Trades read from a venue", "exchange")
trades_published_total = _counter(
    "trades_published_total", "Trades acknowledged by JetStream", "exchange"
)
trades_duplicate_total = _counter(
    "trades_duplicate_total", "Trades dropped because their feed had delivered them", "exchange"
)
trades_rejected_total = _counter(
    "trades_rejected_total", "Frames or trades not fit to use", "exchange", "reason"
)
trades_in_flight = _gauge(
    "trades_in_flight", "Trades read and not yet acknowledged by JetStream", "exchange"
)
feed_up = _gauge("feed_up", "1 while a feed is connected and confirmed", "exchange")
feed_last_trade_timestamp_seconds = _gauge(
    "feed_last_trade_timestamp_seconds", "Receive time of the newest trade", "exchange"
)
feed_reconnects_total = _counter(
    "feed_reconnects_total", "Connections opened after the first", "exchange"
)
gaps_total = _counter(
    "gaps_total", "Holes in trade ids by what became of them", "exchange", "state"
)

# -- bus

publish_in_flight = _gauge("publish_in_flight", "Messages not yet acknowledged", "role")
publish_resent_total = _counter("publish_resent_total", "Messages sent again", "role")
publish_rejected_total = _counter(
    "publish_rejected_total", "Answers by which JetStream refused a message for now", "role"
)
consumer_pending_messages = _gauge(
    "consumer_pending_messages",
    "Messages of a stream not yet delivered to this role",
    "role",
    "stream",
)
stream_bytes = _gauge("stream_bytes", "Bytes a stream holds", "stream")
stream_bytes_max = _gauge("stream_bytes_max", "Bytes a stream may hold", "stream")
dead_letters_total = _counter(
    "dead_letters_total", "Messages that could not be processed", "role", "reason"
)
queue_items = _gauge("queue_items", "Items in a bounded queue", "queue")
queue_items_max = _gauge("queue_items_max", "Bound of a queue", "queue")

# -- klines

trade_process_total = Counter(
    "trade_process_total", "Trades folded into candles", ("exchange",), registry=REGISTRY
)
klines_published_total = _counter(
    "klines_published_total", "Versions of closed candles published", "period", "reason"
)
kline_close_delay_seconds = _histogram(
    "kline_close_delay_seconds", "From the end of a window to the publication of its candle"
)
klines_incomplete_total = _counter(
    "klines_incomplete_total", "First versions published with something known to be missing"
)
klines_dirty = _gauge("klines_dirty", "Closed windows waiting for a correction")

# -- save

db_insert_total = Counter(
    "db_insert_total", "Rows committed, duplicates not counted", ("table",), registry=REGISTRY
)
trades_stored_total = _counter("trades_stored_total", "Trades committed, duplicates not counted")
trades_conflicting_total = _counter(
    "trades_conflicting_total", "Trades whose id was stored with another time, price or amount"
)
trades_dead_lettered_total = _counter(
    "trades_dead_lettered_total", "Trades the database refused for their own fault"
)
save_batch_seconds = _histogram("save_batch_seconds", "Time to commit one batch", "table")
save_last_commit_timestamp_seconds = _gauge(
    "save_last_commit_timestamp_seconds", "When the newest batch was committed"
)
raw_unsaved_oldest_timestamp_seconds = _gauge(
    "raw_unsaved_oldest_timestamp_seconds",
    "Store time of the oldest trade not yet saved, 0 for none",
)

# -- push

push_clients = _gauge("push_clients", "Push clients connected now")
push_messages_sent_total = _counter("push_messages_sent_total", "Messages handed to sockets")
push_messages_conflated_total = _counter(
    "push_messages_conflated_total", "Open values replaced by newer ones before they were sent"
)
push_messages_dropped_total = _counter(
    "push_messages_dropped_total", "Messages a client missed because it read too slowly"
)
push_queue_bytes = _gauge("push_queue_bytes", "Bytes queued for push clients")


class _PushClients(Collector):
    """The source documents' name for the number of push clients: a gauge called a total."""

    def collect(self) -> Iterator[UntypedMetricFamily]:
        value = next(iter(push_clients.collect())).samples[0].value
        yield UntypedMetricFamily("ws_connections_total", "Push clients connected now", value)


REGISTRY.register(_PushClients())


def exposition() -> bytes:
    """Return all metrics in the text format Prometheus scrapes."""
    return prometheus_client.generate_latest(REGISTRY)
