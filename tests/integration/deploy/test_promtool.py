"""What Prometheus's own tool says of what we expose."""

import pytest

from market_ingestor import metrics
from tests.support.tools import needs, run

pytestmark = needs("promtool")


@pytest.mark.parametrize("role", sorted(metrics.ROLES))
def test_promtool_finds_nothing_wrong_with_the_metrics_of_a_role(role: str) -> None:
    metrics.ingest_latency_seconds.labels("sim-okx").observe(0.02)
    metrics.trades_rejected_total.labels("sim-okx", "bad_json").inc(0)
    metrics.save_batch_seconds.labels("market_trades").observe(0.2)
    metrics.dead_letters_total.labels(role="save", reason="row").inc(0)
    assert not run("promtool", "check", "metrics", text=metrics.exposition({role}).decode())
