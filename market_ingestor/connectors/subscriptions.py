"""The subscriptions of one connection, each from asked to confirmed or refused. Pure.

A subscription that was never confirmed looks exactly like a quiet market, so each has a deadline.
A refusal that does not name its symbol puts every symbol of that request under suspicion; they
are asked for one by one, on this connection and, should the venue cut it, on the next.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

CONFIRM_S: Final = 10.0  # venues answer within a second; after this the answer is lost
ATTEMPTS_MAX: Final = 3  # unanswered requests for one symbol on one connection
REQUEST_IDS: Final = 2**31 - 1
AGAIN_FIRST_S: Final = 60.0  # after a refusal; then 2, 4, 8 minutes and so on
AGAIN_MAX_S: Final = 1_800.0  # a listing is not a matter of seconds
AGAIN_PAUSE_S: Final = 10.0  # between two such questions: one venue allows 480 requests an hour


class Memory:
    """What one connection learned for the next one of the same symbols.

    Attributes:
        refused: Symbols the venue refused by name or alone, with its words; not to be asked for
            before their time has come.
        retried: Of these, what is being asked for again.
        unanswered: Symbols given up after `ATTEMPTS_MAX` requests without an answer.
        suspects: Symbols of refused requests, to be asked for alone.
    """

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}
        self.retried: dict[str, str] = {}
        self.unanswered: set[str] = set()
        self.suspects: set[str] = set()
        self._again: dict[str, tuple[float, float]] = {}
        self._free_at = 0.0

    @property
    def missing(self) -> list[str]:
        """Return the symbols that the venue does not give us, whatever it says or does not."""
        return sorted({*self.refused, *self.retried, *self.unanswered})

    @property
    def again_at(self) -> float | None:
        """Return when the next refused symbol may be asked for, None when none is refused."""
        at = min((self._again[symbol][1] for symbol in self.refused), default=None)
        return None if at is None else max(at, self._free_at)

    def refuse(self, symbol: str, message: str, now: float) -> None:
        """Note a refusal; each one of a symbol doubles the time until it is asked for again."""
        self.refused[symbol] = message
        self.retried.pop(symbol, None)
        self.unanswered.discard(symbol)
        self.suspects.discard(symbol)
        self._put_off(symbol, now)

    def give_up(self, symbol: str, now: float) -> None:
        """Note that a symbol gets no answer."""
        self.unanswered.add(symbol)
        self._put_off(symbol, now)

    def confirm(self, symbol: str) -> None:
        """Note that a symbol is served."""
        self.suspects.discard(symbol)
        self.unanswered.discard(symbol)
        self.refused.pop(symbol, None)
        self.retried.pop(symbol, None)
        self._again.pop(symbol, None)

    def forget(self, wanted: Iterable[str]) -> None:
        """Forget every symbol but these."""
        for symbol in {*self._again, *self.suspects} - set(wanted):
            self.confirm(symbol)

    def due(self, now: float) -> str | None:
        """Return a symbol that is to be asked for again now, alone."""
        if now < self._free_at:
            return None
        for symbol, (wait_s, at) in self._again.items():
            if at <= now and (symbol in self.refused or symbol in self.unanswered):
                self._free_at = now + AGAIN_PAUSE_S
                self._again[symbol] = (wait_s, now + wait_s)
                if symbol in self.refused:
                    self.retried[symbol] = self.refused.pop(symbol)
                self.suspects.add(symbol)
                return symbol
        return None

    def _put_off(self, symbol: str, now: float) -> None:
        wait_s, _ = self._again.get(symbol, (AGAIN_FIRST_S / 2, 0.0))
        wait_s = min(wait_s * 2, AGAIN_MAX_S)
        self._again[symbol] = (wait_s, now + wait_s)


class Request(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A subscribe message to send."""

    request_id: int
    venue_symbols: tuple[str, ...]


class Subscriptions:
    """What is to be asked for, what was asked, and what the venue said.

    Args:
        venue_symbols: Everything this connection is for.
        batch_max: Symbols in one request.
        memory: Shared with the connections before and after.
        confirms_after_s: Of a venue that answers refusals only: how long after its request a
            symbol without one counts as confirmed. None for venues that answer.

    Attributes:
        confirmed: Symbols the venue confirmed, or sent trades of.
    """

    def __init__(
        self,
        venue_symbols: Iterable[str],
        *,
        batch_max: int,
        memory: Memory,
        confirms_after_s: float | None = None,
    ) -> None:
        self._batch_max = batch_max
        self._confirms_after_s = confirms_after_s
        self._memory = memory
        self._wanted = set(venue_symbols)
        self._queue = deque(sorted(self._wanted - memory.refused.keys()))
        self._asked: dict[int, tuple[float, tuple[str, ...]]] = {}
        self._attempts: dict[str, int] = {}
        self._request_id = 0
        self.confirmed: set[str] = set()

    def add(self, venue_symbols: Iterable[str]) -> None:
        """Ask for these as well."""
        news = set(venue_symbols) - self._wanted
        self._wanted |= news
        self._queue.extend(sorted(news - self._memory.refused.keys()))

    @property
    def is_settled(self) -> bool:
        """Return whether every symbol was confirmed, refused or given up."""
        return not self._queue and not self._asked

    def next_request(self, now: float) -> Request | None:
        """Return the next subscribe message, None when there is nothing to ask for now."""
        batch: list[str] = []
        while self._queue and len(batch) < self._batch_max:
            symbol = self._queue[0]
            if symbol in self.confirmed:  # it traded before its answer came
                self._queue.popleft()
                continue
            if symbol in self._memory.suspects and batch:
                break
            batch.append(self._queue.popleft())
            if symbol in self._memory.suspects:
                break
        if not batch:
            return None
        request_id = self.number()
        wait_s = CONFIRM_S if self._confirms_after_s is None else self._confirms_after_s
        self._asked[request_id] = (now + wait_s, tuple(batch))
        return Request(request_id=request_id, venue_symbols=tuple(batch))

    def number(self) -> int:
        """Return a request number that is not in use; pings take theirs here too."""
        self._request_id = self._request_id % REQUEST_IDS + 1
        return self._request_id

    def confirm(self, request_id: int | None, venue_symbols: Sequence[str]) -> list[str]:
        """Take a confirmation; return the symbols that it newly confirms."""
        if not venue_symbols:
            venue_symbols = self._take(request_id)
        news = [each for each in venue_symbols if each in self._wanted - self.confirmed]
        for symbol in news:
            self.confirmed.add(symbol)
            self._memory.confirm(symbol)
        self._close_answered()
        return news

    def refuse(
        self, request_id: int | None, venue_symbols: Sequence[str], message: str, now: float
    ) -> list[str]:
        """Take a refusal; return the symbols that are refused.

        Symbols of a request refused as a whole are queued again, each to be asked for alone.
        """
        named = [each for each in venue_symbols if each in self._wanted]
        if not named:
            asked = self._take(request_id)
            named = [each for each in asked if each not in self.confirmed]
            if len(asked) > 1:
                self._memory.suspects.update(named)
                self._queue.extend(named)
                return []
        for symbol in named:
            self.confirmed.discard(symbol)
            self._memory.refuse(symbol, message, now)
        self._close_answered()
        return named

    def unrefused(self, now: float) -> list[str]:
        """Return the symbols that count as confirmed now, none had they to be answered."""
        if self._confirms_after_s is None:
            return []
        asked = list(self._asked.items())
        due = [(number, each) for number, (deadline, each) in asked if deadline <= now]
        for number, _ in due:
            del self._asked[number]
        symbols = [symbol for _, each in due for symbol in each if self._is_open(symbol)]
        return self.confirm(None, symbols) if symbols else []

    def expire(self, now: float) -> list[str]:
        """Queue again what got no answer in time; return the symbols concerned."""
        late: list[str] = []
        for request_id, (deadline, symbols) in list(self._asked.items()):
            if deadline <= now:
                del self._asked[request_id]
                late += [each for each in symbols if self._is_open(each)]
        for symbol in late:
            self._attempts[symbol] = self._attempts.get(symbol, 0) + 1
            if self._attempts[symbol] < ATTEMPTS_MAX:
                self._memory.suspects.add(symbol)
                self._queue.append(symbol)
            else:
                self._memory.give_up(symbol, now)
        return late

    def ask_again(self, now: float) -> bool:
        """Queue what was refused or not answered some time ago; return whether there is any."""
        symbol = self._memory.due(now)
        if symbol is None or symbol not in self._wanted or symbol in self.confirmed:
            return False
        self._attempts.pop(symbol, None)
        self._queue.append(symbol)
        return True

    def _is_open(self, venue_symbol: str) -> bool:
        return venue_symbol not in self.confirmed and venue_symbol not in self._memory.refused

    def _take(self, request_id: int | None) -> tuple[str, ...]:
        """Close the request an answer belongs to: the one it names, else the oldest open one.

        Of a venue that only refuses it is the newest: what it grants first it does not say, and
        what it refuses for being too much was asked for last.
        """
        if request_id is None or request_id not in self._asked:
            pick = min if self._confirms_after_s is None else max
            request_id = pick(self._asked, default=0)
        return self._asked.pop(request_id, (0.0, ()))[1]

    def _close_answered(self) -> None:
        """Close requests whose every symbol has its answer."""
        for request_id, (_, symbols) in list(self._asked.items()):
            if not any(map(self._is_open, symbols)):
                del self._asked[request_id]
