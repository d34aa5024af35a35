"""What a peer's script does: prepare once, then run a round each time it is told to.

Peers live in an environment of their own, because their dependencies contradict ours. A script
gets its data as a JSON file; for every line on standard input it runs one round and answers with
the seconds it took.
"""

import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def data() -> Any:
    """Return the content of the data file."""
    return json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))


def serve(run: Callable[[], None]) -> None:
    """Run a round per line of standard input and answer with its seconds."""
    run()  # caches and lazy imports
    gc.disable()
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        run()
        print(time.perf_counter() - began, flush=True)
        gc.collect()
