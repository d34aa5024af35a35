"""Names of Binance streams, and the addresses clients connect to (contract, section 5). Pure.

A stream becomes a topic of a family of its own, so that the index of subscriptions serves it
like any other; such families have no wildcards and cannot be named in the native protocol.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from market_ingestor.model.exchange import is_exchange_name
from market_ingestor.model.period import PERIOD_MS
from market_ingestor.push.subscriptions import Topic

KLINES: Final = "@kline"  # open candles, and the first version of each closed one
VERSIONS: Final = "@kline+"  # the same with every revision
TRADES: Final = "@trade"
AGGREGATE_TRADES: Final = "@aggTrade"
MINI_TICKER: Final = "@miniTicker"
TICKER: Final = "@ticker"

KLINE_FAMILIES: Final = (KLINES, VERSIONS)
TRADE_FAMILIES: Final = (TRADES, AGGREGATE_TRADES)
TICKER_FAMILIES: Final = (MINI_TICKER, TICKER)

DEFAULT_EXCHANGE: Final = "binance"  # of addresses that name none
TARGET_CHARS_MAX: Final = 8_000  # at most 1,000 streams; more go into SUBSCRIBE

_STREAM: Final = re.compile(
    r"([A-Za-z0-9]{1,64})@(?:(trade|aggTrade|miniTicker|ticker)|kline_(\w+))"
)
_PREFIX: Final = re.compile(r"/binance/([^/]*)(/.*)")
_UNITS: Final = {"MILLISECOND": False, "MICROSECOND": True}


class BadStreamError(Exception):
    """A stream, or an address with streams, that cannot be served."""


class Form(NamedTuple):
    """How events are written.

    Attributes:
        is_combined: Each with the name of its stream around it.
        is_micro: Times are microseconds, not milliseconds.
    """

    is_combined: bool
    is_micro: bool


class Address(NamedTuple):
    """What a client asked for by where it connected.

    Attributes:
        exchange: As written there.
        streams: To be subscribed at once.
        with_revisions: Candle streams carry revisions too.
    """

    exchange: str
    streams: tuple[str, ...]
    form: Form
    with_revisions: bool


def parse_address(target: str, time_unit: str | None = None) -> Address | None:
    """Return what the target of a handshake asks for, None when it is no address of ours.

    ``/ws`` and ``/stream`` behind ``/binance/{exchange}``, each alone or with more parts behind;
    without the prefix the same for `DEFAULT_EXCHANGE`, but for a bare ``/ws``, which speaks the
    native protocol. Parts that name no stream are left out: some clients number their sockets.

    Args:
        target: Path and query as sent.
        time_unit: The header ``X-MBX-TIME-UNIT``; the query's ``timeUnit`` goes first.

    Raises:
        BadStreamError: The address is ours, and what it asks for does not exist.
    """
    split = urlsplit(target)
    path = unquote(split.path)
    prefixed = _PREFIX.fullmatch(path)
    exchange, rest = (prefixed[1], prefixed[2]) if prefixed else (DEFAULT_EXCHANGE, path)
    kind, *parts = rest.removeprefix("/").split("/")
    is_native = prefixed is None and kind == "ws" and not any(parts)
    if kind not in {"ws", "stream"} or is_native or not is_exchange_name(exchange):
        return None
    if len(target) > TARGET_CHARS_MAX:
        raise BadStreamError("address too long: subscribe with SUBSCRIBE")
    query = {name: values[-1] for name, values in parse_qs(split.query).items()}
    if kind == "stream":
        parts += query.get("streams", "").split("/")
    streams = tuple(part for part in parts if "@" in part)
    unit = query.get("timeUnit", time_unit or "MILLISECOND").upper()
    if unit not in _UNITS:
        raise BadStreamError("timeUnit is MILLISECOND or MICROSECOND")
    address = Address(
        exchange=exchange,
        streams=streams,
        form=Form(is_combined=kind == "stream", is_micro=_UNITS[unit]),
        with_revisions=query.get("revisions", "").lower() in {"true", "1"},
    )
    topics(address, streams)
    return address


def topics(address: Address, streams: Sequence[str]) -> list[Topic]:
    """Return the topics that streams are, each once.

    Raises:
        BadStreamError: One of them is no stream.
    """
    return list(dict.fromkeys(_topic(address, stream) for stream in streams))


def _topic(address: Address, stream: str) -> Topic:
    match = _STREAM.fullmatch(stream)
    if match is None:
        raise BadStreamError("Invalid request: invalid stream")
    symbol, kind, period = match.groups()
    if kind is not None:
        return (f"@{kind}", address.exchange, symbol.upper())
    if period not in PERIOD_MS:
        raise BadStreamError("Invalid request: invalid interval")
    family = VERSIONS if address.with_revisions else KLINES
    return (family, address.exchange, symbol.upper(), period)


def stream_of(topic: Topic) -> str:
    """Return the name of the stream that is ``topic``."""
    family, _, symbol, *period = topic
    name = symbol.lower() + family.removesuffix("+")
    return f"{name}_{period[0]}" if period else name
