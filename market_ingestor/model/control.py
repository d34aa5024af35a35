"""What the operator wants and what each process says it does. Pure.

One small document in the bucket ``market_control``, changed by compare-and-set; one record per
living process in ``market_members``. Whoever holds an older document tells it from a newer one by
``epoch`` and ``revision``: the epoch is drawn when a document is made where none was.
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal

import msgspec

from market_ingestor.model.exchange import is_exchange_name, is_simulated, is_symbol_name

Mode = Literal["live", "test"]

CONTROL_VERSION: Final = 1
CHANGES_MAX: Final = 20_000  # symbols added and dropped; some 300 KiB, a third of a message
EPOCH_BYTES: Final = 6
NAMED_MAX: Final = 10  # symbols of a feed named in a health answer

Symbols = Mapping[str, Sequence[str]]


class TooManyChangesError(ValueError):
    """The document would name more than `CHANGES_MAX` symbols."""


class ControlState(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted, beyond what each process is configured for.

    Attributes:
        epoch: The same along the life of the document.
        revision: Grows by one with every change.
        mode: None leaves it to the configuration.
        added: Symbols, in our spelling, to be carried besides the configured ones, by exchange.
        dropped: Symbols not to be carried although they are configured, by exchange.
    """

    v: int = CONTROL_VERSION
    epoch: str
    revision: int
    mode: Mode | None = None
    added: dict[str, list[str]] = {}
    dropped: dict[str, list[str]] = {}

    @classmethod
    def initial(cls) -> "ControlState":
        """Return a document that asks for nothing."""
        return cls(epoch=secrets.token_hex(EPOCH_BYTES), revision=0)

    def with_mode(self, mode: Mode) -> "ControlState":
        """Return the next document with this mode; this one if it has it already."""
        return self if self.mode == mode else self._next(mode=mode)

    def with_symbol(self, exchange: str, symbol: str) -> "ControlState":
        """Return the next document that asks for a symbol; this one if it does already.

        Raises:
            TooManyChangesError: There are too many.
        """
        return self._moved(exchange, symbol, self.dropped, self.added)

    def without_symbol(self, exchange: str, symbol: str) -> "ControlState":
        """Return the next document that asks for no such symbol; this one if it does already.

        Raises:
            TooManyChangesError: There are too many.
        """
        return self._moved(exchange, symbol, self.added, self.dropped)

    def _moved(
        self, exchange: str, symbol: str, source: dict[str, list[str]], to: dict[str, list[str]]
    ) -> "ControlState":
        if symbol in to.get(exchange, ()):
            return self
        left = {
            name: kept
            for name, each in source.items()
            if (kept := [one for one in each if (name, one) != (exchange, symbol)])
        }
        grown = to | {exchange: [*to.get(exchange, ()), symbol]}
        if sum(map(len, (*left.values(), *grown.values()))) > CHANGES_MAX:
            raise TooManyChangesError(f"more than {CHANGES_MAX} symbols added and dropped")
        if to is self.added:
            return self._next(added=grown, dropped=left)
        return self._next(added=left, dropped=grown)

    def _next(self, **changes: object) -> "ControlState":
        return msgspec.structs.replace(self, revision=self.revision + 1, **changes)

    @property
    def is_sound(self) -> bool:
        """Return whether names and sizes are what they must be, whoever wrote this."""
        names = [*self.added.items(), *self.dropped.items()]
        return (
            self.v == CONTROL_VERSION
            and self.revision >= 0
            and all(is_exchange_name(exchange) for exchange, _ in names)
            and all(is_symbol_name(symbol) for _, symbols in names for symbol in symbols)
            and sum(len(symbols) for _, symbols in names) <= CHANGES_MAX
        )


class MemberFeed(msgspec.Struct, frozen=True, kw_only=True):
    """What a process carries of one exchange.

    Attributes:
        up: Symbols whose subscription is confirmed.
        pending: Symbols asked for and not confirmed, or refused.
        stale: Symbols silent for longer than their own rate explains.
    """

    up: list[str] = []
    pending: list[str] = []
    stale: list[str] = []


def feed_health(feed: MemberFeed) -> dict[str, object]:
    """Return what ``/health`` says of the feed of an exchange."""
    status = "up" if feed.up or not feed.pending else "down"
    if status == "up" and (feed.pending or feed.stale):
        status = "degraded"
    return {
        "status": status,
        "symbols": len(feed.up) + len(feed.pending),
        "pending": feed.pending[:NAMED_MAX],
        "stale": feed.stale[:NAMED_MAX],
    }


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A living ingest process, in its own words.

    Attributes:
        name: Unique; host name and a token that its feeds' names begin with.
        shard: ``1/2``.
        mode: Of the feeds that run.
        modes: Those it has exchanges for.
        epoch: Of the document it has applied, empty before the first.
        revision: Likewise, 0 before the first.
        feeds: By exchange.
        problem: Why it does not apply the newest document, None when nothing is wrong.
        delay: What the change it is making waits for, None when nothing is known.
    """

    v: int = CONTROL_VERSION
    name: str
    shard: str
    mode: Mode
    modes: list[Mode]
    epoch: str
    revision: int
    feeds: dict[str, MemberFeed] = {}
    problem: str | None = None
    delay: str | None = None

    def has_applied(self, state: ControlState) -> bool:
        """Return whether it is in line with a document or a later one."""
        return self.epoch == state.epoch and self.revision >= state.revision


class SymbolQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """Asks an ingest process which symbol a person means on an exchange."""

    exchange: str
    symbol: str


class SymbolAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The symbol in our spelling, or why there is none."""

    symbol: str | None = None
    problem: Literal["unknown_exchange", "unknown_symbol", "not_ready"] | None = None


def mode_of(exchange: str) -> Mode:
    """Return the mode in which an exchange runs."""
    return "test" if is_simulated(exchange) else "live"


def changes(state: ControlState | None, exchange: str) -> tuple[list[str], frozenset[str]]:
    """Return the symbols added to and dropped from an exchange."""
    if state is None:
        return [], frozenset()
    return state.added.get(exchange, []), frozenset(state.dropped.get(exchange, ()))


def carried(members: Mapping[str, Member]) -> Iterator[tuple[str, str, str, Member]]:
    """Yield (exchange, symbol, state, member) of everything that living members carry."""
    for member in members.values():
        for exchange, feed in member.feeds.items():
            stale = set(feed.stale)
            for symbol in feed.up:
                yield exchange, symbol, "stale" if symbol in stale else "up", member
            for symbol in feed.pending:
                yield exchange, symbol, "pending", member


def merged(members: Mapping[str, Member]) -> dict[str, MemberFeed]:
    """Return what all processes together carry of each exchange."""
    feeds: dict[str, MemberFeed] = {}
    for member in members.values():
        for exchange, feed in member.feeds.items():
            known = feeds.get(exchange, MemberFeed())
            feeds[exchange] = MemberFeed(
                up=known.up + feed.up,
                pending=known.pending + feed.pending,
                stale=known.stale + feed.stale,
            )
    return feeds
