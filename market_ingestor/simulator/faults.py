"""Which misbehaviour is due when, and what it does to a stretch of trades.

Owns the fault language (file and control socket), its timetable and the pure part of every fault:
what is dropped, doubled, reordered or spoiled. Cutting sockets and answering late is the server's.
Must never know about sockets, tasks or a venue's formats; time is passed in as seconds since the
simulator started.
"""

import random
import tomllib
from collections.abc import Iterable, Sequence
from typing import Final, Generic, Literal, Protocol, TypeAlias, TypeVar

import msgspec

FaultName: TypeAlias = Literal[
    # to sockets, at once
    "cut",  # close frame with ``code``
    "abort",  # TCP reset, no close frame
    "half_open",  # for ``duration_s`` neither read nor send, then reset
    "stall",  # for ``duration_s`` no data, pings and heartbeats go on
    "garbage",  # bytes that are no text
    "truncated",  # a JSON text cut in the middle
    "unknown",  # a well-formed message of a kind no document lists
    "notice",  # the venue's warning, the cut follows after ``delay_s`` (default: the venue's lead)
    # to trades
    "gap",  # ``count`` trades never reach a socket; ``rest`` says whether REST has them
    "duplicate",  # each of ``count`` trades is sent twice
    "reorder",  # ``count`` trades are sent in reverse
    "absurd",  # the price of ``count`` trades reads ``value`` on the socket
    "hold",  # for ``duration_s`` the trades of one symbol stay off the sockets
    "skew",  # for ``duration_s`` trade times are ``skew_s`` off
    # to handshakes and subscriptions
    "refuse",  # handshakes fail with ``status`` for ``duration_s``
    "slow_handshake",  # handshakes take ``delay_s``
    "deaf",  # subscriptions are acknowledged, but bring no data
    "max_life",  # connections end at ``delay_s`` of age
    # to REST
    "rest_error",  # requests fail with ``status``
    "rest_slow",  # answers take ``delay_s``
    "rest_delay",  # trades appear in REST ``delay_s`` late
    # to the list of instruments
    "delist",
    "relist",
    "stop",  # the market is listed but does not trade
    "start",
]


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One misbehaviour and its cue.

    Without a cue it happens at once. Windows end after ``duration_s`` (0: never).

    Attributes:
        fault: What happens.
        venue: On which venue; None for all.
        at_s: Once, this long after the start.
        every_s: Again and again, with this period.
        every_trades: Whenever so many more trades have been made.
        probability: Chance in every second.
        symbol: Which market, normalised; None for all (first come for counted faults).
        sockets: ``all``, or ``one``: the connection that has been open longest.
    """

    fault: FaultName
    venue: str | None = None
    at_s: float | None = None
    every_s: float | None = None
    every_trades: int | None = None
    probability: float | None = None
    symbol: str | None = None
    sockets: Literal["all", "one"] = "all"
    count: int = 1
    duration_s: float = 5.0
    delay_s: float | None = None
    skew_s: float = 0.0
    status: int = 429
    retry_after_s: int | None = None
    code: int = 1001
    value: str = "NaN"
    rest: Literal["keep", "gone"] = "keep"

    def __post_init__(self) -> None:
        """Refuse cues that would fire for ever at once."""
        for name in ("every_s", "every_trades", "count"):
            number = getattr(self, name)
            if number is not None and number <= 0:
                raise ValueError(f"{name} must be positive")


def parse(text: str) -> list[Fault]:
    """Read a fault file: TOML with ``[[fault]]`` tables, or one JSON object a line.

    Raises:
        ValueError: The text is neither, or a fault is misspelt; the message says where.
    """
    if text.lstrip().startswith("{"):
        return [
            _one(line, f"line {number}")
            for number, line in enumerate(text.splitlines(), 1)
            if line.strip()
        ]
    try:
        tables = tomllib.loads(text).get("fault", [])
        return msgspec.convert(tables, list[Fault])
    except msgspec.ValidationError as error:
        raise ValueError(f"fault file: {error}") from error


def _one(line: str, where: str) -> Fault:
    try:
        return msgspec.json.decode(line, type=Fault)
    except msgspec.MsgspecError as error:
        raise ValueError(f"fault file, {where}: {error}") from error


class _Entry:
    __slots__ = ("fault", "next_s", "next_trades", "second")

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.next_s: float | None = fault.at_s if fault.at_s is not None else fault.every_s
        self.next_trades = fault.every_trades
        self.second = 0
        has_cue = (self.next_s, self.next_trades, fault.probability) != (None, None, None)
        if not has_cue:
            self.next_s = 0.0


class Timetable:
    """Says which faults are due; deterministic from its seed."""

    def __init__(self, faults: Iterable[Fault], seed: str) -> None:
        self._entries = [_Entry(fault) for fault in faults]
        self._random = random.Random(f"{seed}/faults")

    def due(self, elapsed_s: float, trades: int) -> list[Fault]:
        """Return the faults whose cue has come since the last call.

        A cue that came several times since then counts once: a simulator that was paused does
        not catch up on its misdeeds.
        """
        return [entry.fault for entry in self._entries if self._is_due(entry, elapsed_s, trades)]

    def _is_due(self, entry: _Entry, elapsed_s: float, trades: int) -> bool:
        is_due = False
        if entry.next_s is not None and elapsed_s >= entry.next_s:
            period = entry.fault.every_s
            entry.next_s = None if period is None else elapsed_s - elapsed_s % period + period
            is_due = True
        if entry.next_trades is not None and trades >= entry.next_trades:
            entry.next_trades = trades + (entry.fault.every_trades or trades)
            is_due = True
        if entry.fault.probability is not None and int(elapsed_s) > entry.second:
            entry.second = int(elapsed_s)
            is_due = self._random.random() < entry.fault.probability or is_due
        return is_due


class Routable(Protocol):
    """What a fault needs to know about a trade or a recorded frame; id 0 is not a trade."""

    @property
    def market(self) -> int:
        """Index of the market."""
        ...

    @property
    def id(self) -> int:
        """Trade id."""
        ...


T = TypeVar("T", bound=Routable)

COUNTED: Final[frozenset[FaultName]] = frozenset({"gap", "duplicate", "reorder", "absurd"})

_PARKED_MAX_S: Final = 2.0  # reordered trades of a market that fell silent go out anyway


class Routed(Generic[T]):
    """What becomes of a stretch of trades: sent, spoiled, or kept off the sockets."""

    __slots__ = ("lost", "removed", "send", "spoiled")

    def __init__(self, send: Sequence[T] = ()) -> None:
        self.send: list[T] = list(send)
        self.spoiled: list[tuple[T, str]] = []
        self.lost: list[T] = []
        self.removed: list[T] = []


class _Counted:
    __slots__ = ("fault", "left", "market")

    def __init__(self, fault: Fault, market: int | None) -> None:
        self.fault = fault
        self.market = market
        self.left = fault.count


class Windows:
    """The lasting faults in force at one venue."""

    def __init__(self) -> None:
        self._open: dict[tuple[FaultName, int | None], tuple[float, Fault]] = {}

    def __bool__(self) -> bool:
        return bool(self._open)

    def begin(self, fault: Fault, market: int | None, now_s: float) -> None:
        """Put a fault into force for its duration.

        Args:
            fault: One that lasts.
            market: Index of ``fault.symbol``, None for all.
            now_s: Seconds since the start.
        """
        until_s = now_s + fault.duration_s if fault.duration_s else float("inf")
        self._open[fault.fault, market] = (until_s, fault)

    def active(self, name: FaultName, now_s: float, market: int | None = None) -> Fault | None:
        """Return the fault of this kind in force now, for one market or for all."""
        for key in {(name, market), (name, None)}:
            entry = self._open.get(key)
            if entry is not None and now_s < entry[0]:
                return entry[1]
            self._open.pop(key, None)
        return None


class Router(Generic[T]):
    """Decides what becomes of the trades of one source, in order."""

    def __init__(self, windows: Windows) -> None:
        self._windows = windows
        self._counted: list[_Counted] = []
        self._parked: list[T] = []
        self._parked_since_s = 0.0

    def add(self, fault: Fault, market: int | None) -> None:
        """Apply a fault to the next ``fault.count`` trades of ``market`` (None: of any)."""
        self._counted.append(_Counted(fault, market))

    def route(self, items: Sequence[T], now_s: float) -> Routed[T]:
        """Decide what becomes of the next trades; the order of the rest is kept."""
        if not self._counted and not self._parked and not self._windows:
            return Routed(items)
        routed: Routed[T] = Routed()
        if not self._parked:
            self._parked_since_s = now_s
        for item in items:
            if item.id and self._windows.active("hold", now_s, item.market) is not None:
                routed.lost.append(item)
            else:
                self._apply(item, routed)
        if self._parked and now_s - self._parked_since_s > _PARKED_MAX_S:
            self._release(routed)
        return routed

    def abandon(self) -> list[T]:
        """Give up what is still parked and return it."""
        parked, self._parked = self._parked, []
        return parked

    def _release(self, routed: Routed[T]) -> None:
        routed.send += reversed(self._parked)
        self._parked.clear()
        self._counted = [entry for entry in self._counted if entry.fault.fault != "reorder"]

    def _apply(self, item: T, routed: Routed[T]) -> None:
        entry = next(
            (each for each in self._counted if item.id and each.market in {None, item.market}), None
        )
        if entry is None:
            routed.send.append(item)
            return
        entry.left -= 1
        if not entry.left:
            self._counted.remove(entry)
        match entry.fault.fault:
            case "gap":
                routed.lost.append(item)
                if entry.fault.rest == "gone":
                    routed.removed.append(item)
            case "duplicate":
                routed.send += [item, item]
            case "absurd":
                routed.spoiled.append((item, entry.fault.value))
            case _:
                self._parked.append(item)
                if not entry.left:
                    self._release(routed)
