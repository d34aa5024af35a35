"""Puts the chart library beside the page's files, when run as a program.

Does nothing when it is there. Needs npm, which checks what it downloads; the file's own hash is
checked once more here. SHELL.
"""

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from shutil import which
from typing import Final

from market_ingestor.api.dashboard import charts

TARGET: Final = Path(__file__).parent / "static" / charts.LOCAL_NAME
NPM_WAIT_S: Final = 120.0


def is_installed() -> bool:
    """Return whether the right file is in place."""
    return TARGET.is_file() and charts.integrity(TARGET.read_bytes()) == charts.INTEGRITY


def _packed(npm: str, folder: Path) -> bytes:
    """Return the library out of its npm package."""
    wanted = f"{charts.PACKAGE}@{charts.VERSION}"
    subprocess.run(  # noqa: S603 - a fixed command line
        [npm, "pack", "--silent", "--ignore-scripts", wanted],
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=NPM_WAIT_S,
    )
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as package:
        member = package.extractfile(f"package/{charts.FILE}")
        if member is None:
            raise FileNotFoundError(charts.FILE)
        return member.read()


def install() -> str | None:
    """Install what is missing; return why that was not possible, None when all is well."""
    if is_installed():
        return None
    npm = which("npm")
    if npm is None:
        return "npm is missing"
    with tempfile.TemporaryDirectory() as folder:
        try:
            content = _packed(npm, Path(folder))
        except (OSError, subprocess.SubprocessError, tarfile.TarError, KeyError, ValueError) as why:
            return f"npm pack failed: {why}"
    if charts.integrity(content) != charts.INTEGRITY:
        return f"npm's {charts.PACKAGE} {charts.VERSION} is not the file that is pinned"
    TARGET.parent.mkdir(exist_ok=True)
    new = TARGET.with_suffix(".new")
    new.write_bytes(content)
    new.replace(TARGET)
    return None


if __name__ == "__main__":
    problem = install()
    if problem is not None:
        sys.stderr.write(f"set-up: {problem}; browsers load the charts from {charts.ADDRESS}\n")
