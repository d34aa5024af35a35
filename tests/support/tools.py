"""Programs that tests use and the service does not; a test is skipped where they are absent."""

import shutil
import subprocess

import pytest


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skip a test, and say why, unless all of ``programs`` are installed."""
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def run(*command: str, text: str = "") -> str:
    """Run a program and return what it wrote; an exit status above 0 is a failure."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr
