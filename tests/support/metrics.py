"""What this process's metrics are, as a scrape would see them."""

from collections.abc import Iterator

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from market_ingestor import metrics


def exposed(roles: frozenset[str] = metrics.ROLES) -> Iterator[tuple[str, str]]:
    """Yield (name, type) as `/metrics` declares them."""
    for line in metrics.exposition(roles).decode().splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            yield name, kind


def labels_of(name: str) -> tuple[str, ...]:
    """Return the names of the labels of a metric of ours, by the name it is exposed under."""
    for each in vars(metrics).values():
        if isinstance(each, Counter | Gauge | Histogram):
            (family,) = each.describe()
            if name in {family.name, f"{family.name}_total"}:
                return tuple(each._labelnames)  # noqa: SLF001 - the library has no public word for it
    return ()


def value(sample: str, **labels: str) -> float:
    """Return the value of one series, 0 while it does not exist."""
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for each in family.samples:
            if each.name == sample and each.labels == labels:
                return float(each.value)
    return 0.0
