"""Messages of the bus to rows in COPY's text format, straight from the wire text. Pure.

Owns the check that what is decoded can be stored. Text goes to COPY as it is, so everything in it
must be free of tab, newline, backslash and NUL: names, ids and numbers are checked by what they
may consist of, anything else is escaped. Numbers never pass through a number type: the digits that
came are the digits stored.
"""

import functools
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import msgspec

from market_ingestor.bus import codec, subjects
from market_ingestor.errors import DecodeError
from market_ingestor.model.event import WHOLE_FEED, MarketEvent
from market_ingestor.model.exchange import is_exchange_name, is_symbol_name
from market_ingestor.model.fitness import ID_CHARS_MAX, TIME_US_MAX, is_trade_id, unfit
from market_ingestor.model.kline import Kline
from market_ingestor.model.period import WEEK_MS
from market_ingestor.model.trade import TRADE_ID_MAX, Source, TextTrade
from market_ingestor.storage.times import instant_text

GapState: TypeAlias = Literal["open", "unfillable", "filled"]

NUMBER_CHARS_PLAIN: Final = 40  # digits and one point up to here are within every bound
SUM_CHARS_MAX: Final = 512  # sums of products: 160 digits and a little, see `model.decimals`
GAP_ID_CHARS_MAX: Final = 64
ADDRESSES_MAX: Final = 4_096  # subjects remembered as checked; more only cost time
MISSING_MAX: Final = 2**63 - 1  # bigint

TRADE_COLUMNS: Final = (
    "exchange", "symbol", "trade_id", "time", "price", "amount", "side", "received_at",
)  # fmt: skip
KLINE_COLUMNS: Final = (
    "exchange", "symbol", "period", "open_us", "open", "high", "low", "close", "volume",
    "quote_volume", "buy_volume", "buy_quote_volume", "trade_count", "first_trade_id",
    "last_trade_id", "complete", "revision", "reason",
)  # fmt: skip
GAP_COLUMNS: Final = (
    "exchange", "symbol", "after_id", "before_id", "detected_us", "from_us", "to_us", "missing",
    "state",
)  # fmt: skip

_NULL: Final = "\\N"
_ID_LAST: Final = str(TRADE_ID_MAX)  # texts of equal length compare as numbers
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_GAP_STATES: Final[Mapping[str, GapState]] = {
    "gap_found": "open",
    "gap_unfillable": "unfillable",
    "gap_filled": "filled",
}

RowKey: TypeAlias = tuple[str | int, ...]


class Row(msgspec.Struct, frozen=True, gc=False):
    """One row on its way to the database.

    Attributes:
        key: Names the row; batches are written in this order, and hold a key once.
        line: Its text for COPY, with the newline.
        fact: What a second row of the same key must agree with; empty where none can differ.
        time_us: What decides its partition, UTC microseconds.
        sequence: The message it came from.
    """

    key: RowKey
    line: str
    fact: tuple[str, str, int] | None
    time_us: int
    sequence: int


class Refused(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A trade that cannot be stored whatever the database says.

    Attributes:
        reason: What is wrong with it.
    """

    trade: TextTrade
    reason: str


class TradeRows(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The rows of one trade batch, in arrival order, and the trades that make none."""

    exchange: str
    symbol: str
    source: Source
    rows: list[Row]
    refused: list[Refused]


def escaped(text: str) -> str:
    """Return ``text`` for a field of COPY's text format.

    Raises:
        ValueError: It holds a NUL, which PostgreSQL's text cannot.
    """
    if "\0" in text:
        raise ValueError("a NUL character")
    return text.translate(_ESCAPES)


def trade_rows(subject: str, payload: bytes, sequence: int) -> TradeRows:
    """Return the rows of a trade batch.

    Raises:
        DecodeError: It is no trade batch, or not that of its subject.
    """
    batch = codec.text_batch(subject, payload)
    exchange, symbol = batch.exchange, batch.symbol
    if (exchange, symbol) != _raw_address(subject):
        raise DecodeError(subject, f"a batch of {exchange} {symbol}")
    if not 0 <= batch.received_us < TIME_US_MAX:
        raise DecodeError(subject, f"received_us {batch.received_us}")
    trades = batch.trades
    refused: list[Refused] = []
    if not _are_plain(trades):
        refused = [
            Refused(trade=each, reason=reason)
            for each in trades
            if (reason := unfit(each)) is not None
        ]
        bad = {id(each.trade) for each in refused}
        trades = [each for each in trades if id(each) not in bad]
    head = f"{exchange}\t{symbol}\t"
    tail = f"\t{instant_text(batch.received_us)}\n"
    rows = [
        Row(
            (exchange, symbol, each.id),
            f"{head}{each.id}\t{instant_text(each.time_us)}\t{each.price}\t{each.amount}"
            f"\t{each.side or _NULL}{tail}",
            (each.price, each.amount, each.time_us),
            each.time_us,
            sequence,
        )
        for each in trades
    ]
    return TradeRows(
        exchange=exchange, symbol=symbol, source=batch.source, rows=rows, refused=refused
    )


@functools.lru_cache(maxsize=ADDRESSES_MAX)
def _raw_address(subject: str) -> subjects.RawAddress:
    """Return what a raw subject addresses, once it is known to be fit for a table."""
    subjects.names(subject)
    return subjects.parse_raw(subject)


def _are_plain(trades: list[TextTrade]) -> bool:
    """Return whether all trades are storable beyond doubt, in a few calls for the whole batch.

    Joined texts are looked at instead of each one: per trade this costs a fifth of a regular
    expression. False only means that each must be looked at by itself.
    """
    numbers = [each.price for each in trades] + [each.amount for each in trades]
    ids = [each.id for each in trades]
    times = [each.time_us for each in trades]
    joined_numbers = "".join(numbers)
    joined_ids = "".join(ids)
    return (
        joined_numbers.replace(".", "").isdigit()
        and joined_numbers.isascii()
        and max(map(len, numbers)) <= NUMBER_CHARS_PLAIN
        and min(map(len, numbers)) > 0
        and joined_ids.isdigit()
        and joined_ids.isascii()
        and max(map(len, ids)) <= ID_CHARS_MAX
        and all(len(each) < ID_CHARS_MAX or each <= _ID_LAST for each in ids)
        and all(each[:1] > "0" for each in ids)
        and all(each.price.strip("0.") for each in trades)
        and min(times) >= 0
        and max(times) < TIME_US_MAX
    )


def kline_row(subject: str, payload: bytes, sequence: int) -> Row:
    """Return the row of one version of a closed candle.

    Raises:
        DecodeError: It is none, or not that of its subject.
    """
    kline = codec.candle(subject, payload)
    problem = _kline_problem(kline)
    if problem is not None:
        raise DecodeError(subject, problem)
    fields = (
        kline.exchange, kline.symbol, kline.period, str(kline.open_time * 1000),
        kline.open, kline.high, kline.low, kline.close,
        kline.volume, kline.quote_volume, kline.buy_volume, kline.buy_quote_volume,
        str(kline.trade_count), kline.first_trade_id or _NULL, kline.last_trade_id or _NULL,
        "t" if kline.complete else "f", str(kline.revision), kline.reason,
    )  # fmt: skip
    return Row(
        (kline.exchange, kline.symbol, kline.period, kline.open_time, kline.revision),
        "\t".join(fields) + "\n",
        None,
        kline.open_time * 1000,
        sequence,
    )


def _kline_problem(kline: Kline) -> str | None:
    """Return what keeps a candle from being stored, None when nothing does."""
    if not kline.closed or not 1 <= kline.revision < 2**31:
        return "not a version of a closed candle"
    # The week of the first trade time there can be begins before it.
    if not -WEEK_MS < kline.open_time < TIME_US_MAX // 1000:
        return "an unknown window"
    if not 0 <= kline.trade_count <= MISSING_MAX:
        return "an impossible number of trades"
    numbers = (
        kline.open, kline.high, kline.low, kline.close,
        kline.volume, kline.quote_volume, kline.buy_volume, kline.buy_quote_volume,
    )  # fmt: skip
    if not all(_is_plain_sum(each) for each in numbers):
        return "a number not in plain notation"
    ids = (kline.first_trade_id, kline.last_trade_id)
    if not all(each is None or is_trade_id(each) for each in ids):
        return "an id that is no 64-bit integer"
    return None


def _is_plain_sum(text: str) -> bool:
    return (
        len(text) <= SUM_CHARS_MAX
        and text.isascii()
        and text.replace(".", "", 1).isdigit()
        and text[0] != "."
    )


def gap_row(subject: str, payload: bytes, sequence: int) -> Row | None:
    """Return the row of a change of a gap, None for every other event.

    Raises:
        DecodeError: It is no event, or one about a gap that cannot be named.
    """
    event = codec.event(subject, payload)
    state = _GAP_STATES.get(event.type)
    if state is None:
        return None
    if not is_exchange_name(event.exchange) or not (
        event.symbol == WHOLE_FEED or is_symbol_name(event.symbol)
    ):
        raise DecodeError(subject, "names that no table can hold")
    try:
        return gap(event, state, sequence)
    except ValueError as problem:
        raise DecodeError(subject, f"a gap that cannot be named: {problem}") from problem


def gap(event: MarketEvent, state: GapState, sequence: int) -> Row:
    """Return the row of a gap.

    Where the venue has no ids on either side, ids are made from the times as ids are made for
    trades without: 13 digits of milliseconds and six more.

    Raises:
        ValueError: Neither ids nor times tell where it is, or a value is out of range.
    """
    after_id, before_id = event.after_id, event.before_id
    if after_id is None and before_id is None:
        if event.from_time is None or event.to_time is None:
            raise ValueError("neither ids nor times")
        after_id, before_id = f"{event.from_time}000000", f"{event.to_time}000000"
    for text in (after_id, before_id):
        if text is not None and len(text) > GAP_ID_CHARS_MAX:
            raise ValueError("an id of more than 64 characters")
    key = (event.exchange, event.symbol, after_id or "", before_id or "", state)
    times = (event.time_us, _microseconds(event.from_time), _microseconds(event.to_time))
    if not all(each is None or 0 <= each < TIME_US_MAX for each in times):
        raise ValueError("a time outside 1970 to 2100")
    if event.missing is not None and not 0 <= event.missing <= MISSING_MAX:
        raise ValueError("an impossible number of ids")
    fields = [escaped(part) for part in key[:4]]
    fields += [_NULL if each is None else str(each) for each in (*times, event.missing)]
    return Row(key, "\t".join([*fields, state]) + "\n", None, event.time_us, sequence)


def _microseconds(time_ms: int | None) -> int | None:
    return None if time_ms is None else time_ms * 1000
