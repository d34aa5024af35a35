"""What somebody who mistyped a name may have meant. Pure."""

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a clause that names the likest of the known words, empty when none is alike."""
    by_folded = {each.casefold(): each for each in known}
    likest = difflib.get_close_matches(word.casefold(), by_folded, n=1)
    return f"; did you mean {by_folded[likest[0]]!r}?" if likest else ""
