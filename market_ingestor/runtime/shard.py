"""Which part of the symbols a process works on. Pure but for the host name."""

import socket
from typing import Self

import msgspec

from market_ingestor.errors import ConfigError


class Shard(msgspec.Struct, frozen=True, kw_only=True):
    """Part ``index`` of ``count``, counted from 1: symbols whose slot says so."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``2/8``, or ``auto/8``: the ordinal at the end of the host name (StatefulSet).

        Raises:
            ConfigError: Neither form, or the index lies outside ``1..count``.
        """
        left, _, right = text.partition("/")
        if left == "auto":
            ordinal = socket.gethostname().rpartition("-")[2]
            left = str(int(ordinal) + 1) if ordinal.isdigit() else ""
        if not left.isdigit() or not right.isdigit():
            raise ConfigError("--shard", f"{text!r} is neither I/N nor auto/N with an ordinal")
        shard = cls(index=int(left), count=int(right))
        if not 1 <= shard.index <= shard.count:
            raise ConfigError("--shard", f"{text!r} lies outside 1/N .. N/N")
        return shard

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def owns(self, slot: int) -> bool:
        """Return whether a hash slot belongs to this part."""
        return slot % self.count == self.index - 1
