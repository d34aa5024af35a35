"""What Prometheus's own tool says of what we expose."""

import json
from pathlib import Path

import pytest

from market_ingestor import metrics
from tests.support.tools import needs, run

pytestmark = needs("promtool")

PROMETHEUS = Path(__file__).parents[3] / "deploy" / "prometheus"


@pytest.mark.parametrize("role", sorted(metrics.ROLES))
def test_promtool_finds_nothing_wrong_with_the_metrics_of_a_role(role: str) -> None:
    metrics.ingest_latency_seconds.labels("sim-okx").observe(0.02)
    metrics.trades_rejected_total.labels("sim-okx", "bad_json").inc(0)
    metrics.save_batch_seconds.labels("market_trades").observe(0.2)
    metrics.dead_letters_total.labels(role="save", reason="row").inc(0)
    assert not run("promtool", "check", "metrics", text=metrics.exposition({role}).decode())


def test_alerts_fire_when_they_should_and_only_then() -> None:
    assert "SUCCESS" in run("promtool", "test", "rules", str(PROMETHEUS / "alerts_test.yaml"))


def test_the_configuration_of_prometheus_is_valid() -> None:
    assert "SUCCESS" in run("promtool", "check", "config", str(PROMETHEUS / "prometheus.yaml"))


def test_expressions_of_the_dashboards_can_be_parsed(tmp_path: Path) -> None:
    expressions = [
        target["expr"].replace("$exchange", "okx")
        for path in (PROMETHEUS.parent / "grafana" / "dashboards").glob("*.json")
        for panel in json.loads(path.read_text())["panels"]
        for target in panel.get("targets", ())
    ]
    rules = [{"record": f"r{i}", "expr": each} for i, each in enumerate(expressions)]
    file = tmp_path / "rules.json"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "dashboards", "rules": rules}]}))
    assert f"{len(rules)} rules found" in run("promtool", "check", "rules", str(file))
