"""From messages of MARKET_RAW to the aggregators of the symbols they speak of. Pure.

Owns who gets what: slots that are not ours are dropped before decoding, and a partition skips
what lies before its own resume position.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from market_ingestor.bus import codec, subjects
from market_ingestor.errors import DecodeError
from market_ingestor.klines import columns as trade_columns
from market_ingestor.klines.aggregator import Aggregator
from market_ingestor.klines.facts import BatchFacts, Closing, Rules
from market_ingestor.klines.watermark import JUMP_US
from market_ingestor.model.exchange import is_exchange_name, is_symbol_name
from market_ingestor.model.fitness import TIME_US_MAX
from market_ingestor.model.partition import slot

SYMBOLS_MAX: Final = 20_000  # far more than one process can serve; bounds what a forger can make


class Update(NamedTuple):
    """What one message did to one symbol."""

    aggregator: Aggregator
    closings: list[Closing]


class _Target(NamedTuple):
    exchange: str
    symbol: str | None  # None: marks of a feed, for every symbol they name
    slot: int


_FOREIGN: Final = _Target("", None, -1)


def _believed(received_us: int, stored_us: int | None) -> int:
    """Return a receive time as far as the time it was stored at allows.

    Nothing is stored before it was received. Were one such time believed, it would move the
    watermark, which never goes back, and every later trade would be late.
    """
    is_wrong = stored_us is not None and received_us > stored_us + JUMP_US
    return stored_us if is_wrong and stored_us is not None else received_us


class Intake:
    """All aggregators, and the way of a message to them.

    Args:
        owns: Whether a slot is ours.

    Attributes:
        aggregators: By exchange and symbol.
        positions: By slot, the first sequence it reads.
        is_stream_cut: The stream no longer begins at its beginning, so a symbol without a resume
            record may have been traded before what can be read.
        recorded: Slots that had a resume record.
    """

    def __init__(self, rules: Rules, owns: Callable[[int], bool]) -> None:
        self._rules = rules
        self._owns = owns
        self._targets: dict[str, _Target] = {}
        self.aggregators: dict[tuple[str, str], Aggregator] = {}
        self.positions: dict[int, int] = {}
        self.is_stream_cut = False
        self.recorded: set[int] = set()

    def aggregator(self, exchange: str, symbol: str) -> Aggregator:
        """Return the aggregator of a symbol, made when it is new.

        Raises:
            DecodeError: There are too many.
        """
        found = self.aggregators.get((exchange, symbol))
        if found is None:
            if len(self.aggregators) >= SYMBOLS_MAX:
                raise DecodeError(f"{exchange}.{symbol}", "too many symbols")
            has_lost = self.is_stream_cut and slot(exchange, symbol) not in self.recorded
            found = Aggregator(exchange, symbol, self._rules, has_lost=has_lost)
            self.aggregators[exchange, symbol] = found
        return found

    def take(
        self, subject: str, payload: bytes, sequence: int, stored_us: int | None = None
    ) -> list[Update]:
        """Take in one message; return what it changed, nothing for a message of others.

        Args:
            stored_us: When the server stored it, UTC microseconds. A receive time more than
                `JUMP_US` ahead of that comes from a wrong clock and is replaced by it.

        Raises:
            DecodeError: It is not what its subject promises.
        """
        target = self._targets.get(subject) or self._target(subject)
        if target is _FOREIGN:
            return []
        if target.symbol is None:
            return self._mark(target, subject, payload, sequence, stored_us)
        if sequence < self.positions.get(target.slot, 0):
            return []
        return [self._batch(target, subject, payload, sequence, stored_us)]

    def lose(self, exchange: str, symbol: str, trade_id: int, time_us: int, sequence: int) -> None:
        """Leave a trade out that the database refused, also when it was not read yet."""
        is_room = (exchange, symbol) in self.aggregators or len(self.aggregators) < SYMBOLS_MAX
        if is_room and is_exchange_name(exchange) and self._owns(slot(exchange, symbol)):
            self.aggregator(exchange, symbol).closed.lose(trade_id, time_us, sequence)

    def _target(self, subject: str) -> _Target:
        exchange, symbol = subjects.parse_raw(subject)
        if not is_exchange_name(exchange) or (symbol is not None and not is_symbol_name(symbol)):
            raise DecodeError(subject, "not a name")
        number = -1 if symbol is None else slot(exchange, symbol)
        is_ours = symbol is None or self._owns(number)
        target = _Target(exchange, symbol, number) if is_ours else _FOREIGN
        if len(self._targets) < SYMBOLS_MAX:
            self._targets[subject] = target
        return target

    def _batch(
        self, target: _Target, subject: str, payload: bytes, sequence: int, stored_us: int | None
    ) -> Update:
        batch = codec.text_batch(subject, payload)
        if (batch.exchange, batch.symbol) != (target.exchange, target.symbol):
            raise DecodeError(subject, "a batch of another symbol")
        if not 0 <= batch.received_us < TIME_US_MAX:
            raise DecodeError(subject, "a receive time is out of bounds")
        columns = trade_columns.of_batch(subject, batch.trades)
        try:
            prev_id = None if batch.prev_id is None else int(batch.prev_id)
        except ValueError as problem:
            raise DecodeError(subject, "prev_id is no number") from problem
        received_us = _believed(batch.received_us, stored_us)
        facts = BatchFacts(batch.feed, batch.n, batch.source, received_us, prev_id)
        aggregator = self.aggregator(batch.exchange, batch.symbol)
        return Update(aggregator, aggregator.batch(facts, columns, sequence))

    def _mark(
        self, target: _Target, subject: str, payload: bytes, sequence: int, stored_us: int | None
    ) -> list[Update]:
        mark = codec.mark(subject, payload)
        if mark.exchange != target.exchange:
            raise DecodeError(subject, "a mark of another exchange")
        if not 0 <= mark.received_us < TIME_US_MAX:
            raise DecodeError(subject, "a receive time is out of bounds")
        if not all(map(is_symbol_name, mark.symbols)):
            raise DecodeError(subject, "not a symbol")
        named = [each.id for each in mark.symbols.values() if each.id is not None]
        if named:
            trade_columns.trade_ids(subject, named)
        received_us = _believed(mark.received_us, stored_us)
        updates: list[Update] = []
        for symbol, position in mark.symbols.items():
            known = self.aggregators.get((target.exchange, symbol))
            if known is None:
                number = slot(target.exchange, symbol)
                if not self._owns(number):
                    continue
                known = self.aggregator(target.exchange, symbol)
            closings = known.mark(
                mark.feed,
                received_us,
                n=position.n,
                last_id=None if position.id is None else int(position.id),
                is_end=mark.end,
                sequence=sequence,
            )
            updates.append(Update(known, closings))
        return updates
