"""The statements of ``queries.sql`` by name. Pure but for reading that file once, at import.

Knows how the file is divided, nothing of what the statements do.
"""

from collections.abc import Mapping
from importlib import resources
from typing import Final

_MARK: Final = "\n-- name: "


def parse(text: str) -> dict[str, str]:
    """Return the named statements of ``text``, without their comments.

    Raises:
        ValueError: A name is given twice, or has no statement.
    """
    statements: dict[str, str] = {}
    for block in ("\n" + text).split(_MARK)[1:]:
        name, _, rest = block.partition("\n")
        lines = [line for line in rest.splitlines() if not line.startswith("--")]
        statement = "\n".join(lines).strip()
        if name in statements or not statement:
            raise ValueError(f"statement {name!r} is empty or there twice")
        statements[name] = statement
    return statements


QUERIES: Final[Mapping[str, str]] = parse(
    resources.files(__package__).joinpath("queries.sql").read_text(encoding="utf-8")
)
