"""Recorded frames of a venue, cut into one tape per symbol, and how far each has been played.

Owns reading a recording (plain or gzip text, one frame a line, an optional leading receive time)
and the small file that remembers positions. What a frame holds is decided by one parser per venue;
there is one for Binance. Sending is the server's.
"""

import gzip
import hashlib
import os
import re
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final

import msgspec

from market_ingestor.errors import ConfigError
from market_ingestor.simulator.markets import Market, recorded, split
from market_ingestor.simulator.tape import Fill

_GZIP_MAGIC: Final = b"\x1f\x8b"
# ``1680652800004107 {...}`` (microseconds) or ``1626992742.2895691: {...}`` (seconds).
_LEAD: Final = re.compile(rb"(\d{10,19}(?:\.\d+)?):?\s+(.*)", re.DOTALL)
_PLACES: Final = 8
_US_PER_MS: Final = 1_000
# A time without unit is told by its length, which holds from 2001 to 2286.
_US_PER_UNIT: Final = {10: Decimal(10**6), 13: Decimal(10**3), 16: Decimal(1), 19: Decimal("0.001")}


class RecordedFrame(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One line of a recording.

    Attributes:
        market: Whose tape it stands on.
        id: Trade id, 0 when it is not a trade.
        received_us: When it was recorded.
        wrapped: The frame for a combined socket, verbatim.
        raw: The frame for a raw socket.
        fill: The trade in it.
    """

    market: int
    id: int
    received_us: int
    wrapped: bytes
    raw: bytes
    fill: Fill | None = None


class Recording(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A recording: markets, and per market its frames in recorded order."""

    digest: str
    markets: list[Market]
    tapes: list[list[RecordedFrame]]


class _Trade(msgspec.Struct):
    """Binance ``trade`` event, as far as it matters here."""

    t: int
    p: str
    q: str
    T: int
    m: bool


class _Data(msgspec.Struct):
    e: str = ""
    s: str = ""
    E: int = 0


class _Wrapped(msgspec.Struct):
    stream: str
    data: msgspec.Raw


def load(venue: str, path: Path, first_index: int = 0) -> Recording:
    """Read a recording of ``venue``; its markets are numbered from ``first_index``.

    Raises:
        ConfigError: No parser for the venue, no such file, or nothing in it names a symbol.
    """
    if venue != "binance":
        raise ConfigError("frames", f"recorded frames of {venue} cannot be read, only of binance")
    try:
        data = path.read_bytes()
        text = gzip.decompress(data) if data.startswith(_GZIP_MAGIC) else data
    except (OSError, EOFError) as error:
        raise ConfigError("frames", f"{path}: {error}") from error
    reader = _BinanceReader(first_index)
    for line in text.splitlines():
        if line.strip():
            reader.add(line.strip())
    if not reader.tapes:
        raise ConfigError("frames", f"{path} holds no frame that names a symbol")
    digest = hashlib.blake2b(text, digest_size=16).hexdigest()
    return Recording(digest=digest, markets=reader.markets(), tapes=reader.tapes)


class _BinanceReader:
    """Sorts lines onto tapes; a frame that names no symbol stays behind its predecessor."""

    def __init__(self, first_index: int) -> None:
        self._first_index = first_index
        self._names: dict[str, int] = {}
        self._start_prices: list[int] = []
        self._leading: list[tuple[int, bytes]] = []  # before the first symbol is named
        self._tape = -1
        self._received_us = 0
        self.tapes: list[list[RecordedFrame]] = []

    def add(self, line: bytes) -> None:
        """Put one line onto a tape."""
        lead = _LEAD.fullmatch(line)
        frame = line
        if lead is not None:
            self._received_us, frame = _instant_us(lead[1].decode()), lead[2]
        raw, wrapped, data = _unwrap(frame)
        if lead is None and data.E:
            self._received_us = data.E * _US_PER_MS
        if data.s:
            self._select(data.s)
        if self._tape < 0:
            self._leading.append((self._received_us, frame))
            return
        fill = self._fill(raw) if data.e == "trade" else None
        if fill is not None and not self._start_prices[self._tape]:
            self._start_prices[self._tape] = fill.price
        self._append(raw, wrapped, fill)

    def markets(self) -> list[Market]:
        """Return the markets named so far."""
        return [
            recorded(self._first_index + index, *split(name), self._start_prices[index] or 1)
            for name, index in self._names.items()
        ]

    def _append(self, raw: bytes, wrapped: bytes, fill: Fill | None) -> None:
        self.tapes[self._tape].append(
            RecordedFrame(
                market=self._first_index + self._tape,
                id=0 if fill is None else fill.id,
                received_us=self._received_us,
                wrapped=wrapped,
                raw=raw,
                fill=fill,
            )
        )

    def _select(self, name: str) -> None:
        index = self._names.get(name)
        if index is None:
            index = self._names[name] = len(self._names)
            self.tapes.append([])
            self._start_prices.append(0)
        self._tape = index
        leading, self._leading = self._leading, []
        for _, frame in leading:
            self._append(frame, frame, None)

    def _fill(self, raw: bytes) -> Fill | None:
        """Return the trade, None when it is not one that REST could give back."""
        try:
            trade = msgspec.json.decode(raw, type=_Trade)
            price, amount = _units(trade.p), _units(trade.q)
        except (msgspec.MsgspecError, InvalidOperation, ValueError):
            return None
        market = self._first_index + self._tape
        return Fill(market, trade.t, price, amount, not trade.m, trade.T * _US_PER_MS)


def _unwrap(frame: bytes) -> tuple[bytes, bytes, _Data]:
    """Return the raw and the wrapped form of a frame, and what its data names."""
    try:
        inner = bytes(msgspec.json.decode(frame, type=_Wrapped).data)
        return inner, frame, msgspec.json.decode(inner, type=_Data)
    except msgspec.MsgspecError:
        pass
    try:
        data = msgspec.json.decode(frame, type=_Data)
    except (msgspec.MsgspecError, UnicodeError):
        return frame, frame, _Data()
    if not data.s:
        return frame, frame, data
    stream = f"{data.s.lower()}@{data.e}".encode()
    return frame, b'{"stream":"' + stream + b'","data":' + frame + b"}", data


def _instant_us(text: str) -> int:
    digits = len(text.partition(".")[0])
    unit = _US_PER_UNIT.get(digits, Decimal(1))
    return int(Decimal(text) * unit)


def _units(text: str) -> int:
    """Return a number in units of the eighth digit.

    Raises:
        ValueError: It has more digits, is not finite or not positive.
    """
    value = Decimal(text)
    if not value.is_finite() or value <= 0:
        raise ValueError("not a positive number")
    scaled = value.scaleb(_PLACES)
    if scaled != int(scaled) or int(scaled) >= 2**63:
        raise ValueError("not in steps of the eighth digit")
    return int(scaled)


class Positions:
    """How many frames of each tape have been played; kept in a file when there is a folder."""

    def __init__(self, recording: Recording, folder: Path | None) -> None:
        """Take up the positions left by an earlier run over the same recording."""
        self._recording = recording
        self._path = None if folder is None else folder / "binance-frames.json"
        self.played = [0] * len(recording.tapes)
        self._saved: list[int] = list(self.played)
        if self._path is not None and self._path.exists():
            self._take_up(self._path.read_bytes())

    def save(self) -> None:
        """Write the positions, all or nothing."""
        if self._path is None or self.played == self._saved:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        named = {
            market.native: played
            for market, played in zip(self._recording.markets, self.played, strict=True)
        }
        state = {"v": 1, "digest": self._recording.digest, "played": named}
        fresh = self._path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(state))
        os.replace(fresh, self._path)  # noqa: PTH105 - atomic, which is the point
        self._saved = list(self.played)

    def _take_up(self, data: bytes) -> None:
        state = msgspec.json.decode(data)
        if state.get("digest") != self._recording.digest:
            return  # another recording: from the beginning
        for index, market in enumerate(self._recording.markets):
            played = int(state["played"].get(market.native, 0))
            self.played[index] = self._saved[index] = min(played, len(self._recording.tapes[index]))
