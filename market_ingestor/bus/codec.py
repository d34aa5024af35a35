"""Messages of the bus to bytes and back (contract, section 1). Pure.

Decoders are typed and built once. Whatever cannot be decoded raises `DecodeError`: the reader
counts it, sends it to the dead letters and goes on.
"""

from decimal import Decimal
from typing import Final, TypeVar

import msgspec

from market_ingestor.bus import subjects
from market_ingestor.errors import DecodeError
from market_ingestor.model.event import MarketEvent
from market_ingestor.model.kline import Kline
from market_ingestor.model.listing import Listing
from market_ingestor.model.stats import Stats
from market_ingestor.model.trade import WIRE_VERSION, Mark, TradeBatch

BATCH_BYTES_MAX: Final = 256 * 1024  # a batch is split here; NATS refuses messages over 1 MiB
DEAD_LETTER_BYTES_MAX: Final = 64 * 1024  # what a dead letter keeps of its payload

_encoder: Final = msgspec.json.Encoder()
_text_batch: Final = msgspec.json.Decoder(TradeBatch[str])
_decimal_batch: Final = msgspec.json.Decoder(TradeBatch[Decimal])
_mark: Final = msgspec.json.Decoder(Mark)
_kline: Final = msgspec.json.Decoder(Kline)
_event: Final = msgspec.json.Decoder(MarketEvent)
_stats: Final = msgspec.json.Decoder(Stats)
_listing: Final = msgspec.json.Decoder(Listing)

_DecodedT = TypeVar(
    "_DecodedT", TradeBatch[str], TradeBatch[Decimal], Mark, Kline, MarketEvent, Stats, Listing
)


def encode(message: TradeBatch[str] | Mark | Kline | MarketEvent | Stats | Listing) -> bytes:
    """Return the JSON of a message, without blanks, keys in the contract's order."""
    return _encoder.encode(message)


def _decode(decoder: "msgspec.json.Decoder[_DecodedT]", subject: str, payload: bytes) -> _DecodedT:
    try:
        message = decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
        raise DecodeError(subject, str(problem)) from problem
    if message.v != WIRE_VERSION:
        raise DecodeError(subject, f"unknown version {message.v}")
    return message


def text_batch(subject: str, payload: bytes) -> TradeBatch[str]:
    """Decode a trade batch with its numbers as text, digit for digit as published."""
    batch = _decode(_text_batch, subject, payload)
    if not batch.trades:
        raise DecodeError(subject, "a batch without trades")
    return batch


def decimal_batch(subject: str, payload: bytes) -> TradeBatch[Decimal]:
    """Decode a trade batch with its numbers as Decimal.

    The numbers were checked before they were published; a reader that cannot trust the
    publisher must check them again (`model.decimals.check`).
    """
    batch = _decode(_decimal_batch, subject, payload)
    if not batch.trades:
        raise DecodeError(subject, "a batch without trades")
    return batch


def mark(subject: str, payload: bytes) -> Mark:
    """Decode a feed's mark."""
    return _decode(_mark, subject, payload)


def kline(subject: str, payload: bytes) -> Kline:
    """Decode a candle."""
    return _decode(_kline, subject, payload)


def candle(subject: str, payload: bytes) -> Kline:
    """Decode a candle that is what its subject says, whoever published it."""
    found = kline(subject, payload)
    if (found.exchange, found.symbol, found.period) != subjects.candle_of(subject):
        raise DecodeError(subject, "the candle belongs to another subject")
    return found


def event(subject: str, payload: bytes) -> MarketEvent:
    """Decode an event."""
    return _decode(_event, subject, payload)


def stats(subject: str, payload: bytes) -> Stats:
    """Decode rolling statistics."""
    return _decode(_stats, subject, payload)


def listing(subject: str, payload: bytes) -> Listing:
    """Decode an instrument's listing."""
    return _decode(_listing, subject, payload)
