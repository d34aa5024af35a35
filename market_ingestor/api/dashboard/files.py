"""The page's files, read once: what they are, compressed, and how browsers know them again."""

import gzip
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from market_ingestor.api.dashboard import charts

FOLDER: Final = Path(__file__).parent / "static"
TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


class StaticFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file as it is sent."""

    content: bytes
    compressed: bytes
    media_type: str
    tag: str


def static_file(content: bytes, media_type: str) -> StaticFile:
    """Return content ready to be sent."""
    return StaticFile(
        content=content,
        compressed=gzip.compress(content, mtime=0),
        media_type=media_type,
        tag=f'"{hashlib.sha256(content).hexdigest()[:32]}"',
    )


def load(folder: Path = FOLDER) -> Mapping[str, StaticFile]:
    """Return every file of the page by its path below ``folder``.

    A chart library that is not the pinned one is left out: browsers would refuse it.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix not in TYPES or not path.is_file():
            continue
        content = path.read_bytes()
        if name == charts.LOCAL_NAME and charts.integrity(content) != charts.INTEGRITY:
            continue
        found[name] = static_file(content, TYPES[path.suffix])
    return found
