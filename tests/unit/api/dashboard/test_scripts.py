"""The page's scripts: their syntax, and what they decide without a browser."""

from pathlib import Path

import pytest

from market_ingestor.api.dashboard.files import FOLDER
from tests.support.tools import needs, run

pytestmark = needs("node")

SCRIPTS = sorted(FOLDER.glob("*.js"))


def test_scripts_are_valid() -> None:
    # One process for all: node looks at the first file only, so each is imported by name.
    for script in SCRIPTS:
        run("node", "--check", "--input-type=module", text=script.read_text())


def test_what_decides_without_drawing() -> None:
    tests = sorted(str(path) for path in (Path(__file__).parent / "scripts").glob("*.test.mjs"))
    assert tests
    run("node", "--no-warnings", "--test", *tests)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_keep_to_their_size(script: Path) -> None:
    text = script.read_text()
    assert text.startswith("//"), "says what it is for"
    assert len(text.splitlines()) <= 400
