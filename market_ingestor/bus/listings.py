"""The bucket of instruments: who carries them writes, everybody else follows. SHELL.

What a venue lists changes on the scale of days; a listing is written when it differs from what is
there, and every reader holds all of them in memory.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from market_ingestor.bus import codec, subjects
from market_ingestor.bus.bucket import Bucket
from market_ingestor.bus.jetstream import TROUBLE, Bus
from market_ingestor.bus.reader import OrderedReader
from market_ingestor.errors import DecodeError
from market_ingestor.model.listing import Listing

_log = structlog.get_logger(__name__)

BYTES_MAX: Final = 64 * 1024 * 1024  # of the bucket: some 150,000 instruments
STREAM: Final = subjects.bucket_stream(subjects.INSTRUMENTS_BUCKET)
ALL: Final = subjects.bucket_subject(subjects.INSTRUMENTS_BUCKET, ">")
RETRY_S: Final = 1.0
POLL_S: Final = 2.0
CHECK_S: Final = 10.0  # between two looks whether the bucket is still the same one


class ListingWriter:
    """Brings the bucket to what is carried; the newest listing of an instrument wins."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._carried: dict[str, bytes] = {}
        self._pending: set[str] = set()
        self._wake = asyncio.Event()

    def put(self, listing: Listing) -> None:
        """Have a listing written if it differs from what the bucket holds."""
        key = subjects.instrument_key(listing.exchange, listing.symbol)
        self._carried[key] = codec.encode(listing)
        self._pending.add(key)
        self._wake.set()

    async def run(self) -> None:
        """Write until cancelled; what the bus does is waited for."""
        self._bus.on_reconnect(self._doubt)
        bucket: Bucket | None = None
        while True:
            await self._wake.wait()
            try:
                if bucket is None:
                    bucket = await self._bus.bucket(
                        subjects.INSTRUMENTS_BUCKET, max_bytes=BYTES_MAX
                    )
                await self._write(bucket)
            except TROUBLE as problem:
                _log.info("listings_wait", error=str(problem) or repr(problem))
                bucket = None
                await asyncio.sleep(RETRY_S)

    async def _write(self, bucket: Bucket) -> None:
        self._wake.clear()
        for key in sorted(self._pending):
            payload = self._carried[key]
            if await bucket.get(key) != payload:
                await bucket.put(key, payload)
            if self._carried[key] == payload:
                self._pending.discard(key)

    def _doubt(self) -> None:
        """Look at everything again: the server may have come back with an empty store."""
        self._pending.update(self._carried)
        self._wake.set()


async def follow_listings(bus: Bus, take: Callable[[Listing], None]) -> None:
    """Give every listing to ``take``, then every change, until cancelled.

    A bucket that is not there yet is waited for; one made anew is read from its beginning. What
    was known stays known: a venue's instrument is no less real when its entry is gone.
    """
    loop = asyncio.get_running_loop()
    while True:
        created = await _created(bus)
        async with OrderedReader(bus, STREAM, start_sequence=1, filter_subject=ALL) as reader:
            check_at = loop.time() + CHECK_S
            while True:
                for arrived in await reader.next(POLL_S):
                    if arrived.payload:  # else somebody deleted the key
                        _take(arrived.subject, arrived.payload, take)
                if loop.time() < check_at:
                    continue
                if await _created(bus) != created:
                    break
                check_at = loop.time() + CHECK_S


async def _created(bus: Bus) -> str:
    """Return what tells this bucket from the next of its name."""
    while True:
        try:
            return (await bus.stream_state(STREAM)).created
        except TROUBLE as problem:
            _log.debug("listings_awaited", error=str(problem) or repr(problem))
            await asyncio.sleep(RETRY_S)


def _take(subject: str, payload: bytes, take: Callable[[Listing], None]) -> None:
    try:
        listing = codec.listing(subject, payload)
        key = subjects.instrument_key(listing.exchange, listing.symbol)
    except (DecodeError, ValueError) as problem:
        _log.warning("listing_rejected", subject=subject, error=str(problem))
        return
    if subject == subjects.bucket_subject(subjects.INSTRUMENTS_BUCKET, key):
        take(listing)
    else:
        _log.warning("listing_rejected", subject=subject, error=f"it is of {key}")
