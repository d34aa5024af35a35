"""The proof that what ingest was sent lies in MARKET_RAW: every trade, once and in order."""

import asyncio
from typing import Final

from benchmarks.batches import EXCHANGE
from market_ingestor.bus import codec, subjects
from market_ingestor.bus.jetstream import Bus
from market_ingestor.bus.reader import OrderedReader

STORED_S: Final = 60.0  # for what was sent to be stored and read back


class Stored:
    """The trades of MARKET_RAW, read behind ingest."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._newest: dict[str, int] = {}

    async def position(self) -> int:
        """Return the sequence the stream ends with."""
        return (await self._bus.stream_state(subjects.RAW_STREAM)).last_sequence

    async def messages(self) -> int:
        """Return how many messages the stream holds."""
        return (await self._bus.stream_state(subjects.RAW_STREAM)).messages

    async def await_trades(self, after: int, trades: int) -> None:
        """Return when so many trades lie behind a sequence; none missing, twice or out of order.

        Raises:
            AssertionError: They do not.
        """
        found = 0
        reader = OrderedReader(
            self._bus,
            subjects.RAW_STREAM,
            start_sequence=after + 1,
            filter_subject=subjects.raw_of(EXCHANGE),
        )
        try:
            async with asyncio.timeout(STORED_S), reader:
                while found < trades:
                    for each in await reader.next(1.0):
                        found += self._take(each.subject, each.payload)
        except TimeoutError:
            raise AssertionError(f"{found} of {trades} trades were stored") from None
        assert found == trades

    def _take(self, subject: str, payload: bytes) -> int:
        symbol = subjects.parse_raw(subject).symbol
        if symbol is None:
            return 0  # a mark
        batch = codec.text_batch(subject, payload).trades
        first, last = int(batch[0].id), int(batch[-1].id)
        assert self._newest.get(symbol, first - 1) == first - 1
        assert last - first == len(batch) - 1
        self._newest[symbol] = last
        return len(batch)
