"""Everything that passes through a gateway, and whom it concerns. Pure.

Owns the ring, the table of newest values, the index of subscriptions and the outboxes. Told what
came over the bus and what clients want; says which clients have something to take. Knows
neither sockets nor the bus.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from market_ingestor.model.kline import Kline
from market_ingestor.push.latest import Latest
from market_ingestor.push.messages import TOPICS_MAX, BadRequestError, Message, data_text, message
from market_ingestor.push.outbox import Outbox, OutboxLimits, PushCounters
from market_ingestor.push.ring import Candle, Instrument, Ring
from market_ingestor.push.subscriptions import (
    CANDLE_FAMILIES,
    CLOSED,
    KLINE,
    STATS,
    Key,
    Log,
    SubscriptionIndex,
    Topic,
    matches,
    text_of,
)

_KINDS: Final = {"trade": "trades", "event": "event"}


class Hub:
    """Passes what came over the bus to the outboxes of those who subscribed it.

    Args:
        limits: Of each outbox.
        ring_bytes: Limit of the ring of closed candles.
    """

    def __init__(self, limits: OutboxLimits, ring_bytes: int) -> None:
        self._limits = limits
        self._index = SubscriptionIndex()
        self._latest = Latest()
        self._stats_topics: dict[Topic, Key] = {}
        self._touched: dict[Log, None] = {}
        self._outboxes: dict[Outbox, None] = {}
        self._number = 0
        self.ring = Ring(ring_bytes)
        self.counters = PushCounters()

    # -- clients

    def join(self) -> Outbox:
        """Return the outbox of a new client."""
        outbox = Outbox(self._limits, self.counters)
        outbox.restart(self.ring.last_sequence)
        self._outboxes[outbox] = None
        return outbox

    def part(self, outbox: Outbox) -> None:
        """Forget a client."""
        self._outboxes.pop(outbox, None)
        for log in list(outbox.logs):
            outbox.detach(log)
            self._index.leave(log, outbox)

    def check_room(self, outbox: Outbox, patterns: Sequence[Topic]) -> None:
        """Raise `BadRequestError` when a client would have too many topics."""
        known = {log.pattern for log in outbox.logs}
        if len(known.union(patterns)) > TOPICS_MAX:
            raise BadRequestError("too_many_topics", f"at most {TOPICS_MAX} topics per client")

    def subscribe(self, outbox: Outbox, patterns: Iterable[Topic], *, skips: bool = False) -> None:
        """Let a client read patterns: closed candles from now on, newest values at once.

        Args:
            outbox: The client's.
            patterns: What to read; those it reads already stay as they are.
            skips: The client was sent every candle up to now in another way.
        """
        for pattern in patterns:
            log, is_new = self._index.open(pattern)
            if is_new:
                self._fill(log)
            outbox.attach(log, self.ring.last_sequence, skips=skips)

    def unsubscribe(self, outbox: Outbox, patterns: Iterable[Topic]) -> list[Topic]:
        """End subscriptions; returns those that there were."""
        ended = []
        for pattern in patterns:
            log = self._index.get(pattern)
            if log is not None and outbox in log.readers:
                outbox.detach(log)
                self._index.leave(log, outbox)
                ended.append(pattern)
        return ended

    def _fill(self, log: Log) -> None:
        """Give a new log the newest values under its pattern."""
        if log.family == KLINE:
            for instrument in self._latest.keys_of_instruments():
                if matches(log.pattern, (KLINE, *instrument)):
                    for key in self._latest.open_keys(instrument):
                        self._change(log, key)
        elif log.family == STATS:
            for topic, key in self._stats_topics.items():
                if matches(log.pattern, topic):
                    self._change(log, key)

    def _change(self, log: Log, key: Key) -> None:
        self._number += 1
        log.change(key, self._number)

    def instruments(self, patterns: Iterable[Topic]) -> list[Instrument]:
        """Return every instrument and period under candle patterns, as far as known here.

        A pattern without wildcards is in it also when nothing was heard of it.
        """
        found: dict[Instrument, None] = {}
        known = dict.fromkeys([*self.ring.keys(), *self._latest.keys_of_instruments()])
        for _, exchange, symbol, period in (
            each for each in patterns if each[0] in CANDLE_FAMILIES
        ):
            wanted = (exchange, symbol, period)
            if "*" not in wanted:
                found[wanted] = None
            else:
                found.update((key, None) for key in sorted(known) if matches(wanted, key))
        return list(found)

    def patterns(self, family: str) -> list[Topic]:
        """Return the patterns of a family that somebody subscribed."""
        return self._index.patterns(family)

    # -- what came over the bus

    def begin(self, epoch: str, first_sequence: int) -> None:
        """The stream of closed candles is new to us, or was made anew."""
        for candle in self.ring:
            self._let_go(candle)
        self.ring.begin(epoch, first_sequence)
        for outbox in self._outboxes:
            outbox.restart(first_sequence - 1)

    def candle(self, kline: Kline, payload: bytes, sequence: int) -> None:
        """Take the next version of a closed candle."""
        candle, gone = self.ring.append(kline, payload, sequence)
        for old in gone:
            self._let_go(old)
        for family in (KLINE, CLOSED):
            for log in self._index.route((family, *candle.key)):
                log.append(candle)
                self._touched[log] = None
        for key in self._latest.close(candle.key, candle.open_time):
            self._gone(candle.key, key)

    def _let_go(self, candle: Candle) -> None:
        for family in (KLINE, CLOSED):
            for log in self._index.route((family, *candle.key)):
                log.let_go(candle)

    def _gone(self, instrument: Instrument, key: Key) -> None:
        for log in self._index.route((KLINE, *instrument)):
            log.changes.pop(key, None)

    def open_candle(self, kline: Kline, payload: bytes) -> None:
        """Take the newest state of an open candle."""
        key, gone = self._latest.put_open(kline, payload)
        instrument = (kline.exchange, kline.symbol, kline.period)
        for old in gone:
            self._gone(instrument, old)
        if key is not None:
            self._touch((KLINE, *instrument), key)

    def stats(self, exchange: str, symbol: str, payload: bytes) -> None:
        """Take the newest statistics of a symbol."""
        topic = (STATS, exchange, symbol)
        key = self._latest.put("stats", text_of(topic), payload)
        self._stats_topics[topic] = key
        self._touch(topic, key)

    def _touch(self, topic: Topic, key: Key) -> None:
        self._number += 1
        for log in self._index.route(topic):
            log.change(key, self._number)
            self._touched[log] = None

    def passing(self, topic: Topic, payload: bytes) -> list[Outbox]:
        """Take trades or an event, which go to whoever wants them now; returns those clients."""
        readers: dict[Outbox, None] = {}
        for log in self._index.route(topic):
            readers.update(log.readers)
        if readers:
            name = text_of(topic)
            shared = message(data_text(_KINDS[topic[0]], name, None, payload))
            for outbox in readers:
                outbox.offer(name, shared)
        return list(readers)

    # -- what goes out

    def touched(self) -> list[Outbox]:
        """Return the clients that have news since the last call, each once."""
        news: dict[Outbox, None] = {}
        for log in self._touched:
            for reader in log.readers:
                reader.dirty[log] = None
            news.update(log.readers)
        self._touched.clear()
        return list(news)

    def take(self, outbox: Outbox) -> list[Message]:
        """Return what to write to a client now; `touched` must have been called before."""
        return outbox.take(self._latest, self.ring.position)
