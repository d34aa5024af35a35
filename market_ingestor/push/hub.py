"""Everything that passes through a gateway, and whom it concerns. Pure.

Owns the ring, the table of newest values, the index of subscriptions and the outboxes. Told what
came over the bus and what clients want; says which clients have something to take. Knows
neither sockets nor the bus.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from market_ingestor.model.kline import Kline
from market_ingestor.model.trade import TextTrade, TradeBatch
from market_ingestor.push.binance import streams
from market_ingestor.push.binance.board import Board
from market_ingestor.push.binance.dialect import BinanceDialect
from market_ingestor.push.convoys import Convoys
from market_ingestor.push.dialect import Dialect, Native
from market_ingestor.push.latest import Latest
from market_ingestor.push.messages import (
    TOPICS_MAX,
    WILDCARDS_MAX,
    BadRequestError,
    Message,
    data_text,
    message,
)
from market_ingestor.push.names import Names
from market_ingestor.push.outbox import Outbox, OutboxLimits, PushCounters
from market_ingestor.push.ring import Candle, Instrument, Ring
from market_ingestor.push.subscriptions import (
    CANDLE_FAMILIES,
    CLOSED,
    KLINE,
    STATS,
    TRADE,
    Key,
    Log,
    SubscriptionIndex,
    Topic,
    is_wildcard,
    text_of,
)

_KINDS: Final = {"trade": "trades", "event": "event"}
_CANDLE_LOGS: Final = (KLINE, CLOSED, *streams.KLINE_FAMILIES)


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
        self._stats_topics: Names[Topic] = Names()
        self._touched: dict[Log, None] = {}
        self._outboxes: dict[Outbox, None] = {}
        self._number = 0
        self._board = Board(self._latest)
        self._binance: dict[streams.Form, BinanceDialect] = {}
        self.ring = Ring(ring_bytes)
        self.counters = PushCounters()
        self._native = Native(self._latest, self.ring)
        self.convoys = Convoys(self._new_outbox, lambda: self.ring.last_sequence, self._index.leave)

    # -- clients

    def join(self) -> Outbox:
        """Return the outbox of a new client; it speaks the native protocol."""
        outbox = self._new_outbox(self._native)
        self._outboxes[outbox] = None
        return outbox

    def _new_outbox(self, dialect: Dialect) -> Outbox:
        outbox = Outbox(self._limits, self.counters, dialect)
        outbox.restart(self.ring.last_sequence)
        return outbox

    def speak(self, outbox: Outbox, form: streams.Form) -> None:
        """Speak to a client as Binance does."""
        self.convoys.alight(outbox)
        outbox.dialect = self.binance(form)

    def hold(self, outbox: Outbox) -> None:
        """Keep closed candles back from a client while older ones are sent, until `release`."""
        self.convoys.alight(outbox)
        outbox.hold()

    def binance(self, form: streams.Form) -> BinanceDialect:
        """Return the dialect of Binance streams in one form."""
        found = self._binance.get(form)
        if found is None:
            found = self._binance[form] = BinanceDialect(form, self._board)
        return found

    def part(self, outbox: Outbox) -> None:
        """Forget a client."""
        self._outboxes.pop(outbox, None)
        self.convoys.part(outbox)
        for log in list(outbox.logs):
            outbox.detach(log)
            self._index.leave(log, outbox)

    def check_room(
        self, outbox: Outbox, patterns: Sequence[Topic], instead_of: Collection[Topic] = ()
    ) -> None:
        """Raise `BadRequestError` when a client would have too many topics."""
        wanted = {log.pattern for log in outbox.logs}.difference(instead_of).union(patterns)
        if len(wanted) > TOPICS_MAX:
            raise BadRequestError("too_many_topics", f"at most {TOPICS_MAX} topics per client")
        if sum(map(is_wildcard, wanted)) > WILDCARDS_MAX:
            text = f"at most {WILDCARDS_MAX} topics with wildcards per client"
            raise BadRequestError("too_many_topics", text)

    def subscribe(self, outbox: Outbox, patterns: Iterable[Topic], *, skips: bool = False) -> None:
        """Let a client read patterns: closed candles from now on, newest values at once.

        Args:
            outbox: The client's.
            patterns: What to read; those it reads already stay as they are.
            skips: The client was sent every candle up to now in another way.
        """
        self.convoys.alight(outbox)
        for pattern in patterns:
            log, is_new = self._index.open(pattern)
            if is_new:
                self._fill(log)
            outbox.attach(log, self.ring.last_sequence, skips=skips)

    def unsubscribe(self, outbox: Outbox, patterns: Iterable[Topic]) -> list[Topic]:
        """End subscriptions; returns those that there were."""
        self.convoys.alight(outbox)
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
            _, exchange, symbol, period = log.pattern
            for instrument in self._latest.instruments.matching((exchange, symbol, period)):
                for key in self._latest.open_keys(instrument):
                    self._change(log, key)
        elif log.family == STATS:
            for topic in self._stats_topics.matching(log.pattern):
                self._change(log, text_of(topic))

    def _change(self, log: Log, key: Key) -> None:
        self._number += 1
        log.change(key, self._number)

    def instruments(self, patterns: Iterable[Topic]) -> list[Instrument]:
        """Return every instrument and period under candle patterns, as far as known here.

        A pattern without wildcards is in it also when nothing was heard of it.
        """
        found: dict[Instrument, None] = {}
        for _, exchange, symbol, period in (
            each for each in patterns if each[0] in CANDLE_FAMILIES
        ):
            wanted = (exchange, symbol, period)
            if is_wildcard(wanted):
                known = self.ring.keys.matching(wanted) + self._latest.instruments.matching(wanted)
                found.update((key, None) for key in sorted(known))
            else:
                found[wanted] = None
        return list(found)

    def trade_patterns(self) -> list[Topic]:
        """Return the patterns of trades that somebody subscribed, in any dialect."""
        families = (TRADE, *streams.TRADE_FAMILIES)
        return [pattern for family in families for pattern in self._index.patterns(family)]

    # -- what came over the bus

    def begin(self, epoch: str, first_sequence: int) -> None:
        """The stream of closed candles is new to us, or was made anew."""
        for candle in self.ring:
            self._let_go(candle)
        self.ring.begin(epoch, first_sequence)
        for outbox in (*self._outboxes, *self.convoys.leads):
            outbox.restart(first_sequence - 1)

    def candle(self, kline: Kline, payload: bytes, sequence: int, stored_us: int) -> None:
        """Take the next version of a closed candle."""
        candle, gone = self.ring.append(kline, payload, sequence, stored_us)
        for old in gone:
            self._let_go(old)
        before = self._latest.closed_through(candle.key)
        is_first = candle.revision == 1 and candle.open_time > before
        for family in (KLINE, CLOSED):
            self._append((family, *candle.key), candle)
        for topic in self._board.close(candle, is_first=is_first):
            if self._append(topic, candle):
                self._board.tell(topic)
        for key in self._latest.close(candle.key, candle.open_time):
            self._gone(candle.key, key)
        if self._latest.open_times(candle.key):
            self._note(streams.KLINE_FAMILIES, candle.key)

    def _append(self, topic: Topic, candle: Candle) -> bool:
        """Give a candle to the logs of a topic; return whether there are any."""
        logs = self._index.route(topic)
        for log in logs:
            log.append(candle)
            self._touched[log] = None
        return bool(logs)

    def _let_go(self, candle: Candle) -> None:
        for family in _CANDLE_LOGS:
            for log in self._index.route((family, *candle.key)):
                log.let_go(candle)

    def _gone(self, instrument: Instrument, key: Key) -> None:
        for log in self._index.route((KLINE, *instrument)):
            log.changes.pop(key, None)

    def open_candle(self, kline: Kline, payload: bytes, received_us: int) -> None:
        """Take the newest state of an open candle."""
        key, gone = self._latest.put_open(kline, payload, received_us)
        instrument = (kline.exchange, kline.symbol, kline.period)
        for old in gone:
            self._gone(instrument, old)
        if key is not None:
            self._touch((KLINE, *instrument), key)
            self._note(streams.KLINE_FAMILIES, instrument)

    def stats(self, exchange: str, symbol: str, payload: bytes, received_us: int) -> None:
        """Take the newest statistics of a symbol."""
        topic = (STATS, exchange, symbol)
        key = self._latest.put("stats", text_of(topic), payload, received_us)
        self._stats_topics.add(topic)
        self._touch(topic, key)
        self._note(streams.TICKER_FAMILIES, (exchange, symbol))

    def _note(self, families: Iterable[str], tokens: tuple[str, ...]) -> None:
        """Tell the board of news for streams that somebody reads."""
        for family in families:
            topic = (family, *tokens)
            if self._index.route(topic):
                self._board.note(topic)

    def _touch(self, topic: Topic, key: Key) -> None:
        self._number += 1
        for log in self._index.route(topic):
            log.change(key, self._number)
            self._touched[log] = None

    def passing(self, topic: Topic, payload: bytes) -> list[Outbox]:
        """Take trades or an event, which go to whoever wants them now; returns whom to serve."""
        readers: dict[Outbox, None] = {}
        for log in self._index.route(topic):
            readers.update(log.readers)
        if readers:
            name = text_of(topic)
            shared = message(data_text(_KINDS[topic[0]], name, None, payload))
            for outbox in readers:
                outbox.offer(name, shared)
        return list(readers)

    def trades(self, batch: TradeBatch[str], payload: bytes) -> list[Outbox]:
        """Take a batch of trades; returns whom to serve."""
        readers = self.passing((TRADE, batch.exchange, batch.symbol), payload)
        topics = [(family, batch.exchange, batch.symbol) for family in streams.TRADE_FAMILIES]
        if any(self._index.route(topic) for topic in topics):
            fresh = self._board.fresh(batch)
            for topic in topics if fresh else ():
                readers += self._pass_events(topic, batch, fresh)
        return readers

    def _pass_events(
        self, topic: Topic, batch: TradeBatch[str], fresh: Sequence[TextTrade]
    ) -> list[Outbox]:
        readers = [reader for log in self._index.route(topic) for reader in log.readers]
        made: dict[BinanceDialect, Message] = {}
        name = text_of(topic)
        for reader in readers:
            dialect = reader.dialect
            assert isinstance(dialect, BinanceDialect)  # noqa: S101 - no other can name the topic
            shared = made.get(dialect)
            if shared is None:
                shared = made[dialect] = dialect.trades(topic, batch, fresh)
            reader.offer(name, shared)
        return readers

    # -- what goes out

    @property
    def due_at(self) -> float | None:
        """Return when `touched` has news even if nothing comes, None for never."""
        return self._board.due_at

    def touched(self, now: float) -> list[Outbox]:
        """Return the outboxes that have news since the last call, each once.

        They are clients' own, or those that clients of a convoy share.

        Args:
            now: Seconds of a clock that never goes back.
        """
        for topic in self._board.release(now):
            self._touch(topic, topic)
        news: dict[Outbox, None] = {}
        for log in self._touched:
            for reader in log.readers:
                reader.dirty[log] = None
            news.update(log.readers)
        self._touched.clear()
        return list(news)
