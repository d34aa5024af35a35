"""The trades of one venue on disk, so that ids and REST history go on after a restart.

Owns the files ``<venue>-<n>.journal`` in a folder. Every trade is handed to the operating system
before any socket sees it, so a killed simulator never reuses an id that was sent. Bounded: old
files go when all together pass a limit. Must never know about sockets or venues' formats.
"""

import fcntl
import os
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from market_ingestor.errors import ConfigError
from market_ingestor.simulator.markets import Market
from market_ingestor.simulator.tape import Fill, Position

BYTES_MAX: Final = 64 * 1024 * 1024  # 1.8 million trades: more than is kept in memory
_SEGMENTS: Final = 4  # files the limit is cut into: what goes at once is a quarter
_FILES_MAX: Final = 64  # every start opens a file; this bounds a folder that is restarted often
_RECORD: Final = struct.Struct("<Iqqqq")  # market, id, price, amount (negative: sold), time
_FORMAT: Final = 1


class _Header(msgspec.Struct, kw_only=True):
    """First line of a file: what market numbers mean in it, and where every market stood."""

    v: int
    markets: list[tuple[str, int, int]]  # native name, digits of price and amount
    positions: dict[str, tuple[int, int]]  # native name -> last id, last price


class Journal:
    """Append-only log of one venue's trades. Use from one process at a time: it is locked."""

    def __init__(
        self, folder: Path, venue: str, markets: Sequence[Market], *, bytes_max: int = BYTES_MAX
    ) -> None:
        """Lock the venue's files in ``folder``, making it when it is missing.

        Raises:
            ConfigError: Another simulator uses the folder.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._venue = venue
        self._markets = list(markets)
        self._segment_bytes = bytes_max // _SEGMENTS
        self._positions: dict[str, tuple[int, int]] = {}
        self._file = -1
        self._written = 0
        self._lock = os.open(folder / f"{venue}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise ConfigError(str(folder), f"another simulator of {venue} uses it") from None

    def load(self) -> tuple[list[Fill], list[Fill]]:
        """Read everything there is, oldest first, and open a new file behind it.

        Returns:
            The trades of the current markets, and those of them that faults took out of REST.
        """
        fills: list[Fill] = []
        removed: list[Fill] = []
        for path in self._paths():
            self._read(path, fills, removed)
        self._rotate()
        return fills, removed

    def positions(self) -> dict[int, Position]:
        """Return where each current market stood, by index; after `load`."""
        return {
            market.index: Position(last_id=last_id, price=max(price, 1))
            for market in self._markets
            for last_id, price in [self._positions.get(market.native, (-1, 0))]
            if last_id >= 0
        }

    def append(self, fills: Iterable[Fill]) -> None:
        """Hand trades to the operating system; they survive the death of this process."""
        last: dict[int, Fill] = {}
        parts = []
        for fill in fills:
            amount = fill.amount if fill.is_buy else -fill.amount
            parts.append(_RECORD.pack(fill.market, fill.id, fill.price, amount, fill.time_us))
            last[fill.market] = fill
        for index, fill in last.items():
            self._positions[self._markets[index].native] = (fill.id, fill.price)
        self._write(b"".join(parts))

    def remove(self, fills: Iterable[Fill]) -> None:
        """Record that faults took these trades out of REST."""
        self._write(b"".join(_RECORD.pack(each.market, each.id, 0, 0, 0) for each in fills))

    def close(self) -> None:
        """Close the file and give up the lock."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        os.close(self._lock)

    def _write(self, data: bytes) -> None:
        if not data:
            return
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
        self._written += len(data)
        if self._written >= self._segment_bytes:
            self._rotate()

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob(f"{self._venue}-*.journal"))

    def _rotate(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        paths = self._paths()
        number = int(paths[-1].stem.rpartition("-")[2]) + 1 if paths else 1
        header = _Header(
            v=_FORMAT,
            markets=[
                (each.native, each.price_places, each.amount_places) for each in self._markets
            ],
            positions=self._positions,
        )
        path = self._folder / f"{self._venue}-{number:08d}.journal"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o600)
        self._written = 0
        self._write(msgspec.json.encode(header) + b"\n")
        self._forget([*paths, path])

    def _forget(self, paths: list[Path]) -> None:
        # One file less than the limit: the newest is about to grow.
        room = self._segment_bytes * (_SEGMENTS - 1)
        total = sum(path.stat().st_size for path in paths)
        while len(paths) > 1 and (total > room or len(paths) > _FILES_MAX):
            oldest = paths.pop(0)
            total -= oldest.stat().st_size
            oldest.unlink()

    def _read(self, path: Path, fills: list[Fill], removed: list[Fill]) -> None:
        data = path.read_bytes()
        line, _, body = data.partition(b"\n")
        try:
            header = msgspec.json.decode(line, type=_Header)
        except msgspec.MsgspecError:
            return  # killed while the header was written: nothing was sent from this file
        self._positions.update(header.positions)
        known = {
            (each.native, each.price_places, each.amount_places): each.index
            for each in self._markets
        }
        indexes = [known.get((market[0], market[1], market[2])) for market in header.markets]
        whole = len(body) - len(body) % _RECORD.size  # a torn record was never sent
        for market, trade_id, price, amount, time_us in _RECORD.iter_unpack(body[:whole]):
            index = indexes[market]
            if amount:
                self._positions[header.markets[market][0]] = (trade_id, price)
            if index is None:
                continue
            fill = Fill(index, trade_id, price, abs(amount), amount > 0, time_us)
            (fills if amount else removed).append(fill)
