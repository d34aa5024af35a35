"""Alert rules and dashboards speak of metrics that exist, and lead to what to do."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.metrics import exposed

DEPLOY = Path(__file__).parents[3] / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yaml"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
SERIES = re.compile(r"\b(?:market_ingestor|ingest_latency|db_insert|trade_process|ws_conn)\w*")


def known_series() -> set[str]:
    names = set()
    for name, kind in exposed():
        names |= {name}
        if kind == "histogram":
            names |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"}
    return names


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in board["panels"]:
        yield panel
        yield from panel.get("panels", ())


def test_alerts_ask_for_metrics_that_exist() -> None:
    for rule in rules():
        assert set(SERIES.findall(rule["expr"])) <= known_series(), rule["alert"]


def test_every_alert_leads_to_its_entry_in_the_runbook() -> None:
    headings = set(re.findall(r"^### (\w+)$", (DEPLOY / "RUNBOOK.md").read_text(), re.MULTILINE))
    for rule in rules():
        name = rule["alert"]
        assert rule["annotations"]["runbook_url"] == f"deploy/RUNBOOK.md#{name.lower()}"
        assert name in headings
        assert rule["labels"]["severity"] in {"page", "ticket"}
    assert headings == {rule["alert"] for rule in rules()}


def test_every_alert_is_seen_to_fire_in_its_tests() -> None:
    tests = yaml.safe_load((DEPLOY / "prometheus" / "alerts_test.yaml").read_text())["tests"]
    fired = {
        found
        for test in tests
        for each in test["promql_expr_test"]
        for sample in each["exp_samples"]
        for found in re.findall(r'alertname="(\w+)"', sample["labels"])
    }
    assert fired == {rule["alert"] for rule in rules()}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_whole(path: Path) -> None:
    board = json.loads(path.read_text())
    assert board["uid"]
    assert board["schemaVersion"] >= 30
    ids = [panel["id"] for panel in panels(board)]
    assert len(ids) == len(set(ids)) > 5
    variables = {each["name"] for each in board["templating"]["list"]}
    for panel in panels(board):
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        assert panel["title"]
        if panel["type"] == "row":
            continue
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            expression = target["expr"]
            assert set(SERIES.findall(expression)) <= known_series(), expression
            assert set(re.findall(r"\$(\w+)", expression)) <= variables | {"__interval"}
            assert target["datasource"] == panel["datasource"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_do_not_overlap(path: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(path.read_text())["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_dashboards_use_the_datasource_that_is_provisioned() -> None:
    file = DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yaml"
    (source,) = yaml.safe_load(file.read_text())["datasources"]
    for path in DASHBOARDS:
        used = set(re.findall(r'"uid": "([\w-]+prometheus)"', path.read_text()))
        assert used == {source["uid"]}


def test_every_metric_of_ours_is_on_a_dashboard_or_in_an_alert() -> None:
    shown = ALERTS.read_text() + "".join(path.read_text() for path in DASHBOARDS)
    unseen = {name for name, _ in exposed() if SERIES.match(name) and name not in shown}
    assert unseen <= {
        "market_ingestor_build_info",
        "market_ingestor_push_clients",  # under its other name
        "market_ingestor_trades_stored_total",  # as db_insert_total
    }


def test_words_of_logs_metrics_and_settings_in_the_runbook_are_those_of_the_code() -> None:
    package = DEPLOY.parent / "market_ingestor"
    code = "".join(path.read_text() for path in package.rglob("*.py"))
    code += "".join(path.read_text() for path in (DEPLOY.parent / "sql").glob("*.sql"))
    for word in set(
        re.findall(r"`((?!timescaledb)[a-z]+(?:_[a-z]+)+)\b", (DEPLOY / "RUNBOOK.md").read_text())
    ):
        assert word.removeprefix("market_ingestor_") in code, word
