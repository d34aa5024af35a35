"""The library the page draws with: which one, and how it is known to be that one. Pure.

TradingView's Lightweight Charts, as npm has it. It is not in the repository: the set-up puts it
beside the page's own files; where it is missing, browsers load it from a public address and
compare it with the same hash.
"""

import base64
import hashlib
from typing import Final

PACKAGE: Final = "lightweight-charts"
VERSION: Final = "5.2.1"
FILE: Final = "dist/lightweight-charts.standalone.production.js"  # inside the package
ADDRESS: Final = f"https://unpkg.com/{PACKAGE}@{VERSION}/{FILE}"
# Of that file; browsers and the set-up compare it.
INTEGRITY: Final = "sha384-KkYqTZlM13Zya6fVUF3IGCBOQ1ehFeJVVgxaVvD/0MebineF9EI8Jkd3NnWNChqN"
LOCAL_NAME: Final = "vendor/lightweight-charts.js"  # among the page's files


def integrity(content: bytes) -> str:
    """Return the hash of a script as browsers want it."""
    return f"sha384-{base64.b64encode(hashlib.sha384(content).digest()).decode()}"
