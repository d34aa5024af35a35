"""What is installed is pinned to the byte, and the threat table leads somewhere."""

import re
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]
LOCKS = sorted((PROJECT / "deploy").glob("requirements*.lock"))
HASH = r"--hash=sha256:[0-9a-f]{64}"


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(path: Path) -> dict[str, str]:
    """Return each requirement's version; anything but pinned and hashed fails here."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        match = re.fullmatch(rf"([\w.-]+)==([\w.]+)( ; [^\\]+?)?((?:\s+{HASH})+)\s*", line)
        assert match, f"{path.name}: {line[:80]}"
        found[normal(match[1])] = match[2]
    return found


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_every_requirement_is_pinned_with_hashes_and_without_an_address(path: Path) -> None:
    assert len(locked(path)) > 3
    assert "://" not in path.read_text()


def test_the_locks_hold_what_the_project_asks_for() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    wanted = project["project"]["dependencies"]
    names = {normal(re.split(r"[^\w.-]", each)[0]) for each in wanted}
    development = {
        normal(re.split(r"[^\w.-]", each)[0]) for each in project["dependency-groups"]["dev"]
    }
    runtime = locked(PROJECT / "deploy" / "requirements.lock")
    everything = locked(PROJECT / "deploy" / "requirements-dev.lock")
    assert names <= set(runtime)
    assert names | development <= set(everything)
    assert {name: everything[name] for name in runtime} == runtime  # tests run what ships
    build = {normal(re.split(r"[^\w.-]", each)[0]) for each in project["build-system"]["requires"]}
    assert build <= set(locked(PROJECT / "deploy" / "requirements-build.lock"))


def test_every_threat_leads_to_tests_that_exist() -> None:
    table = (PROJECT / "deploy" / "SECURITY.md").read_text().split("## Threats")[1].split("##")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 10
    for row in rows:
        shown = re.findall(r"`(tests/[\w/.]+)`", row.rsplit("|", 2)[1])
        assert shown, row
        for path in shown:
            assert (PROJECT / path).is_file(), path
