"""Positions: where in the sequence of closed candles a client stands. Pure.

A position names a sequence of MARKET_KLINE and the life of that stream, so it means the same on
every gateway and nothing at all once the stream was made anew. To clients it is opaque.
"""

import hashlib
import re
from typing import Final, NamedTuple

_FORM: Final = re.compile(r"([0-9a-f]{8})-([0-9]{1,19})")


class Position(NamedTuple):
    """Everything stored up to and with ``sequence`` in the stream's life ``epoch``."""

    epoch: str
    sequence: int


def epoch_of(created: str) -> str:
    """Return the short name of a stream's life, from the creation time the server reports."""
    return hashlib.blake2s(created.encode(), digest_size=4).hexdigest()


def encode(epoch: str, sequence: int) -> str:
    """Return the text clients get; it needs no escaping in JSON."""
    return f"{epoch}-{sequence}"


def parse(text: str) -> Position | None:
    """Return the position a client gave back, None when it is none."""
    match = _FORM.fullmatch(text)
    return Position(match[1], int(match[2])) if match else None
