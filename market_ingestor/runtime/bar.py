"""A bar for long work, on terminals only and never among the results. SHELL."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Step: TypeAlias = Callable[[int, int], None]  # (done, of how many)


@contextmanager
def progress_bar(text: str) -> Iterator[Step]:
    """Give what draws progress on stderr; draws nothing where that is no terminal."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    redirects = sys.stdout.isatty()  # what is printed then appears above the bar
    with Progress(*columns, console=console, transient=True, redirect_stdout=redirects) as drawn:
        task = drawn.add_task(text, total=None)
        yield lambda done, total: drawn.update(task, completed=done, total=total)
