"""What `/metrics` shows: the golden list, and who shows what."""

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from market_ingestor import metrics
from tests.support.metrics import exposed, labels_of

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics" / "names.txt"
OURS = re.compile(
    r"market_ingestor_|(?:ingest_latency_seconds|db_insert|trade_process|ws_connections)(?:_|$)"
)
# Each has few values, or as many as configuration names.
BOUNDED_LABELS = {
    "exchange", "period", "queue", "reason", "role", "state", "stream", "table", "version",
}  # fmt: skip


NOW_US = 1_800_000_000_000_000


def described() -> list[str]:
    """Return one line for each of our metrics: name, type, labels, and the roles that export it."""
    lines = []
    for name, kind in exposed():
        if not OURS.match(name):
            continue
        roles = [role for role in sorted(metrics.ROLES) if name in dict(exposed(frozenset({role})))]
        labels = ",".join(sorted(labels_of(name))) or "-"
        lines.append(f"{name} {kind} {labels} {','.join(roles)}")
    return sorted(lines)


def test_names_types_labels_and_roles_are_those_of_the_golden_list() -> None:
    assert described() == GOLDEN.read_text().splitlines()


def test_every_name_is_declared_once() -> None:
    names = [name for name, _ in exposed()]
    assert len(names) == len(set(names))


def test_there_are_no_created_series() -> None:
    metrics.trades_published_total.labels("sim-okx").inc(0)
    metrics.save_batch_seconds.labels("market_trades").observe(0.01)
    assert not re.search(r"^\w+_created\b", metrics.exposition().decode(), re.MULTILINE)


def test_labels_have_a_bounded_number_of_values() -> None:
    for name, _ in exposed():
        if OURS.match(name):
            assert set(labels_of(name)) <= BOUNDED_LABELS, name


@pytest.mark.parametrize(
    ("role", "foreign"),
    [
        ("api", "trades_published_total"),
        ("ingest", "push_clients"),
        ("gateway", "save_last_commit_timestamp_seconds"),
        ("klines", "stream_bytes"),
        ("save", "klines_dirty"),
    ],
)
def test_a_role_does_not_export_what_another_one_does(role: str, foreign: str) -> None:
    assert f"market_ingestor_{foreign}" not in dict(exposed(frozenset({role})))
    assert f"market_ingestor_{foreign}" in dict(exposed())


def test_push_clients_have_their_old_name_as_well() -> None:
    metrics.push_clients.set(3)
    lines = metrics.exposition({"gateway"}).decode().splitlines()
    assert "# TYPE ws_connections_total untyped" in lines
    assert "ws_connections_total 3.0" in lines
    assert "market_ingestor_push_clients 3.0" in lines
    metrics.push_clients.set(0)


def test_ages_of_a_batch_are_counted_like_single_ones() -> None:
    registry = CollectorRegistry()
    many = metrics.BatchHistogram("many", "", buckets=(1, 2, 5), registry=registry)
    single = metrics.BatchHistogram("single", "", buckets=(1, 2, 5), registry=registry)
    for batch in ([0.5], [0.0, 1.0, 1.5, 2.0, 3.0, 9.0], [1.2, 1.3], [7.0, 8.0]):
        many.observe_ages(NOW_US, [NOW_US - int(each * 1e6) for each in batch])
        for each in batch:
            single.observe(each)
    text = generate_latest(registry).decode()
    lines = [line.split("_", 1)[1] for line in text.splitlines() if not line.startswith("#")]
    assert lines[: len(lines) // 2] == lines[len(lines) // 2 :]
