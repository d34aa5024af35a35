"""A publisher's counts as metrics, under the name of its role."""

from market_ingestor import metrics
from market_ingestor.bus.publisher import Publisher


class PublisherMetrics:
    """Brings the metrics of one publisher up to date whenever its role says so."""

    def __init__(self, publisher: Publisher, role: str) -> None:
        self._publisher = publisher
        self._in_flight = metrics.publish_in_flight.labels(role)
        self._resent = metrics.publish_resent_total.labels(role)
        self._refused = metrics.publish_rejected_total.labels(role)
        self._resent_seen = 0
        self._refused_seen = 0

    def export(self) -> None:
        """Bring them up to date."""
        publisher = self._publisher
        self._in_flight.set(publisher.in_flight)
        self._resent.inc(publisher.resent - self._resent_seen)
        self._refused.inc(publisher.refused - self._refused_seen)
        self._resent_seen, self._refused_seen = publisher.resent, publisher.refused
