"""Names on the bus: subjects, streams, durables, buckets and message ids (contract, section 1).

The only place that builds or takes apart a subject. Tokens from outside are checked here, before
they touch a subject: a blank, dot, ``*`` or ``>`` would change what is addressed.
"""

from functools import lru_cache
from typing import Final, NamedTuple

from market_ingestor.errors import DecodeError
from market_ingestor.model.exchange import is_exchange_name, is_symbol_name
from market_ingestor.model.period import PERIOD_MS

RAW_STREAM: Final = "MARKET_RAW"
KLINE_STREAM: Final = "MARKET_KLINE"
EVENT_STREAM: Final = "MARKET_EVENT"
DEAD_STREAM: Final = "MARKET_DEAD"
STREAMS: Final = (RAW_STREAM, KLINE_STREAM, EVENT_STREAM, DEAD_STREAM)

SAVE_DURABLE: Final = "save"  # the savers' shared consumer; the same name on each stream it reads

CONTROL_BUCKET: Final = "market_control"
MEMBERS_BUCKET: Final = "market_members"
STATE_BUCKET: Final = "market_klines_state"
STATE_HISTORY: Final = 4  # records kept of each partition: one may turn out to be unreadable
INSTRUMENTS_BUCKET: Final = "market_instruments"

KNOWN_MAX: Final = 32_768  # subjects remembered: of 2,500 instruments with 13 periods

MARK_TOKEN: Final = "_"  # noqa: S105 - a subject token, no secret

RAW_ALL: Final = "market.raw.>"
KLINE_ALL: Final = "market.kline.>"
LIVE_ALL: Final = "market.live.>"
STATS_ALL: Final = "market.stats.>"
EVENT_ALL: Final = "market.event.>"
DEAD_ALL: Final = "market.dead.>"
CONTROL_ALL: Final = "market.control.>"
CONTROL_SYMBOL: Final = "market.control.symbol"  # asks ingest which symbol a person means
# Where answers go. Not to an inbox: the server's ``allow_responses`` remembers the reply subject of
# every message a user is given for two minutes, deliveries of streams too, and from 4,096 on looks
# through all of them at each message (client.go of 2.9.10): the stream stood still for a minute.
ANSWERS: Final = "market.control.answer"


class RawAddress(NamedTuple):
    """What a subject under ``market.raw`` speaks of; ``symbol`` is None for marks."""

    exchange: str
    symbol: str | None


class KlineAddress(NamedTuple):
    """What a subject under ``market.kline`` or ``market.live`` speaks of."""

    exchange: str
    symbol: str
    period: str


def _checked(exchange: str, symbol: str | None = None, period: str | None = None) -> None:
    if not is_exchange_name(exchange):
        raise ValueError(f"not an exchange name: {exchange!r}")
    if symbol is not None and not is_symbol_name(symbol):
        raise ValueError(f"not a symbol: {symbol!r}")
    if period is not None and period not in PERIOD_MS:
        raise ValueError(f"not a period: {period!r}")


def raw(exchange: str, symbol: str) -> str:
    """Return the subject of an instrument's trade batches; ValueError on unsafe names."""
    _checked(exchange, symbol)
    return f"market.raw.{exchange}.{symbol}"


def raw_of(exchange: str) -> str:
    """Return what covers all batches and marks of an exchange; ValueError on unsafe names."""
    _checked(exchange)
    return f"market.raw.{exchange}.*"


def mark(exchange: str) -> str:
    """Return the subject of the marks of an exchange's feeds."""
    _checked(exchange)
    return f"market.raw.{exchange}.{MARK_TOKEN}"


def kline(exchange: str, symbol: str, period: str) -> str:
    """Return the subject of an instrument's closed candles of one period."""
    _checked(exchange, symbol, period)
    return f"market.kline.{exchange}.{symbol}.{period}"


def live(exchange: str, symbol: str, period: str) -> str:
    """Return the subject of an instrument's open candles of one period."""
    _checked(exchange, symbol, period)
    return f"market.live.{exchange}.{symbol}.{period}"


def stats(exchange: str, symbol: str) -> str:
    """Return the subject of an instrument's rolling statistics."""
    _checked(exchange, symbol)
    return f"market.stats.{exchange}.{symbol}"


def event(exchange: str, symbol: str) -> str:
    """Return the subject of events; ``symbol`` is ``_`` for a whole feed."""
    _checked(exchange, None if symbol == MARK_TOKEN else symbol)
    return f"market.event.{exchange}.{symbol}"


def events_of(exchange: str) -> str:
    """Return what covers all events of an exchange; ValueError on unsafe names."""
    _checked(exchange)
    return f"market.event.{exchange}.*"


def dead(role: str) -> str:
    """Return the subject of a role's dead letters."""
    return f"market.dead.{role}"


def instrument_key(exchange: str, symbol: str) -> str:
    """Return the key of an instrument in its bucket."""
    _checked(exchange, symbol)
    return f"{exchange}.{symbol}"


def bucket_stream(bucket: str) -> str:
    """Return the stream a bucket is kept in."""
    return f"KV_{bucket}"


def bucket_subject(bucket: str, key: str) -> str:
    """Return the subject of a key of a bucket; ``>`` stands for all keys."""
    return f"$KV.{bucket}.{key}"


def parse_raw(subject: str) -> RawAddress:
    """Return what a raw subject addresses; raises `DecodeError` when it is none."""
    tokens = subject.split(".")
    if len(tokens) != 4 or tokens[0] != "market" or tokens[1] != "raw":  # noqa: PLR2004 - the form above
        raise DecodeError(subject, "not a raw subject")
    return RawAddress(tokens[2], None if tokens[3] == MARK_TOKEN else tokens[3])


def parse_kline(subject: str) -> KlineAddress:
    """Return what a ``market.kline`` or ``market.live`` subject addresses.

    Raises:
        DecodeError: It is neither.
    """
    tokens = subject.split(".")
    if len(tokens) != 5 or tokens[0] != "market" or tokens[1] not in {"kline", "live"}:  # noqa: PLR2004 - the form above
        raise DecodeError(subject, "not a candle subject")
    return KlineAddress(tokens[2], tokens[3], tokens[4])


@lru_cache(KNOWN_MAX)
def names(subject: str) -> tuple[str, str]:
    """Return exchange and symbol, or `MARK_TOKEN`, of a subject that has them as all have.

    Raises:
        DecodeError: They are no names that may go into messages and tables.
    """
    tokens = subject.split(".")
    exchange, symbol = (tokens[2], tokens[3]) if len(tokens) > 3 else ("", "")  # noqa: PLR2004 - market.kind.exchange.symbol
    if not is_exchange_name(exchange) or not (symbol == MARK_TOKEN or is_symbol_name(symbol)):
        raise DecodeError(subject, "not the names of an exchange and a symbol")
    return exchange, symbol


@lru_cache(KNOWN_MAX)
def candle_of(subject: str) -> KlineAddress:
    """Return what `parse_kline` does, of names as `names` has them and a period that there is.

    Raises:
        DecodeError: It is another subject.
    """
    address = parse_kline(subject)
    if names(subject)[1] == MARK_TOKEN or address.period not in PERIOD_MS:
        raise DecodeError(subject, "not a candle that there can be")
    return address


@lru_cache(KNOWN_MAX)
def instrument_of(stats_subject: str) -> tuple[str, str]:
    """Return exchange and symbol of a subject as `stats` makes it.

    Raises:
        DecodeError: It is another subject.
    """
    exchange, symbol = names(stats_subject)
    if symbol == MARK_TOKEN or stats_subject != stats(exchange, symbol):
        raise DecodeError(stats_subject, "not a subject of statistics")
    return exchange, symbol


def batch_id(feed: str, symbol: str, n: int) -> str:
    """Return the ``Nats-Msg-Id`` of a trade batch: it names one exact batch, for ever.

    Never made from trade ids: JetStream acknowledges an equal id with other content and does
    not store it.
    """
    return f"{feed}.{symbol}.{n}"


def mark_id(feed: str, received_us: int) -> str:
    """Return the ``Nats-Msg-Id`` of a mark."""
    return f"{feed}.{MARK_TOKEN}.{received_us}"


def kline_id(kline_subject: str, open_time: int, revision: int, identity: str) -> str:
    """Return the ``Nats-Msg-Id`` of a candle version.

    The revision is part of it: without, complete -> incomplete -> complete within the duplicate
    window would be swallowed.
    """
    return f"{kline_subject}.{open_time}.{revision}.{identity}"
