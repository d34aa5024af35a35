"""Publishes versions of candles so that their revisions grow by one, whoever publishes. SHELL.

The fence is the subject's last sequence, read before the content is computed: the server refuses
a version that was made in ignorance of another. Publications of one subject are serial.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import structlog

from market_ingestor import metrics
from market_ingestor.bus import codec, subjects
from market_ingestor.bus.asking import insist
from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.publisher import Publisher
from market_ingestor.errors import StaleSequenceError
from market_ingestor.klines.aggregator import Aggregator
from market_ingestor.klines.candle import identity, kline_of
from market_ingestor.klines.completeness import Evidence
from market_ingestor.klines.facts import Closing
from market_ingestor.klines.tail import Tail
from market_ingestor.klines.versions import Lookup, Unknown, Version
from market_ingestor.klines.window import Fold
from market_ingestor.model.kline import Kline, Reason

_log = structlog.get_logger(__name__)

DELAY_MAX_S: Final = 600.0  # a later first version belongs to a replay and says nothing of us

Compute = Callable[[Version | None], Awaitable[Kline | None]]


class NotInMemoryError(Exception):
    """Whether a window has a version can only be learnt from the database."""


def is_complete(evidence: Evidence, known: Version | None) -> bool:
    """Return what a new version says of its completeness.

    Who does not know leaves the word of whoever published before: only a hole takes it back.
    """
    if evidence is Evidence.PROVEN:
        return True
    if evidence is Evidence.HOLED or known is None:
        return False
    return known.complete


def next_version(
    aggregator: Aggregator,
    period: str,
    open_time: int,
    fold: Fold,
    known: Version | None,
    *,
    evidence: Evidence,
    reason: Reason,
) -> Kline | None:
    """Return the version to publish after ``known``, None when that one says the same."""
    complete = is_complete(evidence, known)
    if known is None:
        reason = reason if reason == "late" else "close"
    elif known.complete != complete:
        reason = "repair" if complete else "gap"
    elif reason in {"gap", "repair"}:  # no longer: what changed are the trades
        reason = "late"
    kline = kline_of(
        fold,
        aggregator.exchange,
        aggregator.symbol,
        period,
        open_time,
        complete=complete,
        revision=1 if known is None else known.revision + 1,
        reason=reason,
    )
    return None if known is not None and identity(kline) == known.identity else kline


class Publication:
    """Puts versions on the stream.

    Args:
        resumed: Per symbol (exchange, symbol) the open time from which on windows cannot have
            had a version before the tail begins.
    """

    def __init__(
        self,
        bus: Bus,
        publisher: Publisher,
        tail: Tail,
        resumed: Mapping[tuple[str, str], int],
    ) -> None:
        self._bus = bus
        self._publisher = publisher
        self._tail = tail
        self._resumed = resumed
        self.published = 0
        self.refused = 0

    def subject(self, aggregator: Aggregator, period: str) -> str:
        """Return where an aggregator's candles go."""
        return subjects.kline(aggregator.exchange, aggregator.symbol, period)

    def lookup(self, aggregator: Aggregator, period: str, open_time: int) -> Lookup:
        """Return the newest version of a window as far as memory knows."""
        resumed = self._resumed.get((aggregator.exchange, aggregator.symbol))
        return self._tail.versions.lookup(
            self.subject(aggregator, period),
            open_time,
            period,
            is_new=resumed is not None and open_time >= resumed,
        )

    async def first(self, aggregator: Aggregator, closing: Closing) -> bool:
        """Publish the first version of a window that closed.

        Returns:
            False when another version exists, or may exist, that says something else: what is
            stored must decide then.
        """
        period, opened = closing.period, closing.open_time

        async def compute(known: Version | None) -> Kline | None:
            wanted = next_version(
                aggregator,
                period,
                opened,
                closing.fold,
                known,
                evidence=closing.evidence,
                reason="close",
            )
            if known is not None and wanted is not None:
                raise NotInMemoryError
            return wanted

        try:
            await self.settle(aggregator, period, opened, compute)
        except NotInMemoryError:
            return False
        return True

    @staticmethod
    def _count_first(kline: Kline) -> None:
        if not kline.complete:
            metrics.klines_incomplete_total.inc()
        delay_s = time.time() - (kline.close_time + 1) / 1e3
        if kline.reason == "close" and 0 <= delay_s <= DELAY_MAX_S:
            metrics.kline_close_delay_seconds.observe(delay_s)

    async def settle(
        self,
        aggregator: Aggregator,
        period: str,
        open_time: int,
        compute: Compute,
        ask_store: Callable[[int], Awaitable[Version | None]] | None = None,
    ) -> Kline | None:
        """Publish what ``compute`` makes of the newest version, until nobody came before.

        Args:
            compute: Given the newest version, returns the one to publish or None.
            ask_store: Given the subject's last sequence, returns the newest stored version.

        Returns:
            What was published, None when nothing had to be.

        Raises:
            NotInMemoryError: The newest version is not in memory, and there is no ``ask_store``.
            StoreUnavailableError: From ``compute`` or ``ask_store``.
        """
        subject = self.subject(aggregator, period)
        while True:
            expected = await self._tail.last_sequence(subject, period)
            found = self.lookup(aggregator, period, open_time)
            if found is Unknown.UNKNOWN:
                if ask_store is None:
                    raise NotInMemoryError
                found = await ask_store(expected)
            wanted = await compute(found)
            if wanted is None or await self.publish(subject, wanted, expected) is not None:
                return wanted

    async def publish(self, subject: str, wanted: Kline, expected: int) -> int | None:
        """Publish a version right behind the sequence ``expected`` of its subject.

        Returns:
            Its sequence, also when it was there before; None when somebody came between.
        """
        message_id = subjects.kline_id(subject, wanted.open_time, wanted.revision, identity(wanted))
        try:
            ack = await self._publisher.publish(
                subject, codec.encode(wanted), message_id, expected_sequence=expected
            )
        except StaleSequenceError:
            self.refused += 1
            newest = await insist(
                "candle", lambda: self._bus.last_message(subjects.KLINE_STREAM, subject)
            )
            if newest is not None:
                await self._tail.reach(newest.sequence)
            return None
        if ack.is_duplicate:  # our own, sent before and forgotten by a restart
            await self._tail.reach(ack.sequence)
            return ack.sequence
        self._tail.versions.note(subject, wanted, ack.sequence)
        self.published += 1
        metrics.klines_published_total.labels(wanted.period, wanted.reason).inc()
        if wanted.revision == 1:
            self._count_first(wanted)
        return ack.sequence
