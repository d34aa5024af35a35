"""The fixed hash slots that symbols belong to, whoever works on them. Pure.

Slots never change, so a resume record stays valid whatever the number of processes; shards are
sets of slots.
"""

import zlib
from typing import Final

SLOTS: Final = 64  # also the most processes a stage can be spread over


def slot(exchange: str, symbol: str) -> int:
    """Return the slot, 0 to 63, of a symbol: the same for ever and in every process."""
    return zlib.crc32(f"{exchange}.{symbol}".encode()) % SLOTS
