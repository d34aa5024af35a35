"""What the documents say is what the code does."""

import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from click.testing import CliRunner
from pydantic import BaseModel

from market_ingestor import metrics
from market_ingestor.cli import main
from market_ingestor.config import ExchangeSettings, Settings, load

PROJECT = Path(__file__).parents[2]
EXAMPLE = PROJECT / "deploy" / "config.example.toml"


def given(tree: dict[str, object], above: str = "") -> set[str]:
    keys: set[str] = set()
    for name, value in tree.items():
        keys |= given(value, f"{above}{name}.") if isinstance(value, dict) else {above + name}
    return keys


def known() -> set[str]:
    keys = set()
    for section, field in Settings.model_fields.items():
        model = field.annotation
        if section == "exchanges":
            keys |= {f"exchanges.{name}" for name in ExchangeSettings.model_fields}
            continue
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        keys |= {f"{section}.{name}" for name in model.model_fields}
    return keys


def test_the_example_has_every_setting_with_its_default() -> None:
    example = load(EXAMPLE, env={}).settings
    commented = set(re.findall(r"^# (\w+) =", EXAMPLE.read_text(), re.MULTILINE))
    shown = given(tomllib.loads(EXAMPLE.read_text()))
    shown |= {
        f"exchanges.{key.rpartition('.')[2]}" for key in shown if key.startswith("exchanges.")
    }
    missing = known() - shown
    assert {key.rpartition(".")[2] for key in missing} <= commented
    defaults = Settings.model_validate({"database": {"dsn": "postgresql://h/d"}})
    for section in ("nats", "ingest", "klines", "save", "gateway", "api", "metrics", "run"):
        assert getattr(example, section) == getattr(defaults, section), section


@pytest.mark.parametrize("document", ["README.md", "deploy/RUNBOOK.md"])
def test_documents_name_only_metrics_that_exist(document: str) -> None:
    names = set(re.findall(r"market_ingestor_\w+", (PROJECT / document).read_text()))
    exposed = metrics.exposition().decode()
    for name in names:
        assert f"# TYPE {name} " in exposed or f"# TYPE {name.removesuffix('_total')} " in exposed


@pytest.mark.parametrize("document", ["README.md", "tests/README.md", "CHANGELOG.md"])
def test_paths_in_documents_exist(document: str) -> None:
    text = (PROJECT / document).read_text()
    folder = (PROJECT / document).parent
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (folder / target).exists(), target
    if document == "tests/README.md":
        for target in re.findall(r"`((?:unit|property|integration)/[\w/.]+)`", text):
            assert (folder / target).exists(), target


def test_every_command_in_the_readme_is_known() -> None:
    text = (PROJECT / "README.md").read_text()
    for command in set(re.findall(r"market-ingestor (\w+)", text)):
        assert CliRunner().invoke(main, [command, "--help"]).exit_code == 0, command
    for script in set(re.findall(r"(?:\./)(cmd/[\w-]+)", text)):
        assert (PROJECT / script).stat().st_mode & 0o111, script


def test_modes_in_the_example_are_those_of_the_code() -> None:
    manage = Settings.model_fields["nats"].annotation
    assert isinstance(manage, type)
    assert issubclass(manage, BaseModel)
    options = get_args(manage.model_fields["manage_streams"].annotation)
    for option in options:
        assert f'"{option}"' in EXAMPLE.read_text()
