"""Topics, patterns, and the index from a concrete topic to whoever wants it. Pure.

A pattern in use has one `Log`, shared by all clients that subscribed it. An update touches the
few logs that match its topic, however many clients read them; a client catches up with a log
when its socket can take more. So a wildcard costs per message sent, not per update.
"""

from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from itertools import product
from typing import TYPE_CHECKING, Final, TypeAlias

from market_ingestor.model.exchange import is_exchange_name, is_symbol_name
from market_ingestor.model.period import PERIOD_MS
from market_ingestor.push.messages import TEXT_MAX, BadRequestError
from market_ingestor.push.names import ANY
from market_ingestor.push.ring import Candle

if TYPE_CHECKING:
    from market_ingestor.push.outbox import Outbox  # which knows the logs it reads

Topic: TypeAlias = tuple[str, ...]  # family and tokens; in a pattern a token may be ``*``
Key: TypeAlias = Hashable  # of one value in the table of newest values

KLINE: Final = "kline"
CLOSED: Final = "closed"
TRADE: Final = "trade"
STATS: Final = "stats"
EVENT: Final = "event"
CANDLE_FAMILIES: Final = frozenset({KLINE, CLOSED})

_TOKENS: Final = {KLINE: 3, CLOSED: 3, TRADE: 2, STATS: 2, EVENT: 2}
WHOLE_FEED: Final = "_"  # the symbol of events that concern a feed


def parse_topic(text: str) -> Topic:
    """Return a topic or pattern as a client wrote it.

    Raises:
        BadRequestError: Unknown family, wrong number of tokens, or characters that no subject
            may have.
    """
    if len(text) > TEXT_MAX:
        raise BadRequestError("bad_topic", "topic too long")
    family, *tokens = text.split(".")
    wanted = _TOKENS.get(family)
    if wanted is None:
        raise BadRequestError("bad_topic", f"unknown kind of topic: {family[:32]!r}")
    if len(tokens) != wanted:
        raise BadRequestError("bad_topic", f"{family} topics have {wanted} parts behind the kind")
    exchange, symbol = tokens[:2]
    # A name is taken though nothing is known of it yet, one that can never be is not.
    if exchange != ANY and not is_exchange_name(exchange):
        raise BadRequestError("bad_topic", f"cannot be an exchange: {exchange[:32]!r}")
    is_whole_feed = family == EVENT and symbol == WHOLE_FEED
    if symbol != ANY and not is_whole_feed and not is_symbol_name(symbol):
        raise BadRequestError("bad_topic", f"cannot be a symbol: {symbol[:32]!r}")
    if family in CANDLE_FAMILIES and tokens[2] != ANY and tokens[2] not in PERIOD_MS:
        raise BadRequestError("bad_topic", f"unknown period: {tokens[2][:32]!r}")
    return (family, *tokens)


def text_of(topic: Topic) -> str:
    """Return a topic as clients write it."""
    return ".".join(topic)


def matches(pattern: Topic, topic: Topic) -> bool:
    """Return whether ``pattern`` stands for the concrete ``topic``."""
    return len(pattern) == len(topic) and all(
        want in {ANY, have} for want, have in zip(pattern, topic, strict=True)
    )


def is_wildcard(pattern: Topic) -> bool:
    """Return whether a pattern may stand for several topics."""
    return ANY in pattern


def patterns_of(topic: Topic) -> Iterator[Topic]:
    """Yield every pattern that matches a concrete topic: at most eight."""
    family, *tokens = topic
    for chosen in product(*((token, ANY) for token in tokens)):
        yield (family, *chosen)


def common_pattern(patterns: Iterable[Topic]) -> Topic:
    """Return the narrowest pattern that covers all of ``patterns``, families left aside.

    Raises:
        ValueError: There are none.
    """
    columns = list(zip(*(pattern[1:] for pattern in patterns), strict=True))
    if not columns:
        raise ValueError("no patterns")
    return tuple(column[0] if len(set(column)) == 1 else ANY for column in columns)


class Log:
    """What happened under one pattern.

    Attributes:
        readers: Clients that subscribed the pattern.
        candles: Its closed candles that the ring still holds, in stream order.
        first_index: How many were before ``candles[0]``: the ring let go of them.
        end_index: The index the next candle will have.
        changes: Keys of newest values under the pattern, with the number of their last
            update; ordered by it.
        updates: How often any value under the pattern changed.
        newest_change: Number of the last update under the pattern, 0 before the first.
    """

    __slots__ = (
        "candles",
        "changes",
        "end_index",
        "family",
        "first_index",
        "newest_change",
        "pattern",
        "readers",
        "updates",
    )

    def __init__(self, pattern: Topic) -> None:
        self.pattern = pattern
        self.family = pattern[0]
        self.readers: dict[Outbox, None] = {}
        self.candles: deque[Candle] = deque()
        self.first_index = 0
        self.end_index = 0
        self.changes: dict[Key, int] = {}
        self.updates = 0
        self.newest_change = 0

    def append(self, candle: Candle) -> None:
        """Take the next candle."""
        self.candles.append(candle)
        self.end_index += 1

    def change(self, key: Key, number: int) -> None:
        """Note that the value of ``key`` changed, by the update ``number``."""
        self.changes.pop(key, None)
        self.changes[key] = number
        self.updates += 1
        self.newest_change = number

    def changed_since(self, number: int) -> list[Key]:
        """Return the keys that changed after the update ``number``, the newest first."""
        keys: list[Key] = []
        for key in reversed(self.changes):
            if self.changes[key] <= number:
                break
            keys.append(key)
        return keys

    def let_go(self, candle: Candle) -> None:
        """Forget ``candle`` if it is the oldest here."""
        if self.candles and self.candles[0] is candle:
            self.candles.popleft()
            self.first_index += 1


class SubscriptionIndex:
    """The logs of all patterns in use."""

    def __init__(self) -> None:
        self._logs: dict[Topic, Log] = {}
        self._routes: dict[Topic, tuple[Log, ...]] = {}

    def __len__(self) -> int:
        return len(self._logs)

    def get(self, pattern: Topic) -> Log | None:
        """Return the log of a pattern, None when nobody subscribed it."""
        return self._logs.get(pattern)

    def open(self, pattern: Topic) -> tuple[Log, bool]:
        """Return the log of a pattern, and whether it was made just now."""
        log = self._logs.get(pattern)
        if log is not None:
            return log, False
        log = self._logs[pattern] = Log(pattern)
        self._routes.clear()
        return log, True

    def leave(self, log: Log, reader: "Outbox") -> None:
        """Take a reader from a log; a log nobody reads is forgotten."""
        log.readers.pop(reader, None)
        if not log.readers and self._logs.get(log.pattern) is log:
            del self._logs[log.pattern]
            self._routes.clear()

    def route(self, topic: Topic) -> tuple[Log, ...]:
        """Return the logs of all patterns that match a concrete topic."""
        found = self._routes.get(topic)
        if found is None:
            logs = (self._logs.get(pattern) for pattern in patterns_of(topic))
            found = self._routes[topic] = tuple(log for log in logs if log is not None)
        return found

    def patterns(self, family: str) -> list[Topic]:
        """Return the patterns of a family that somebody subscribed."""
        return [pattern for pattern in self._logs if pattern[0] == family]
