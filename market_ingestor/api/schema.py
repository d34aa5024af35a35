"""The bodies of answers (contract, section 4). Pure.

Field order is the order in JSON; prices and amounts are decimal text; times without a unit are
Unix milliseconds, ``*_at`` and ``timestamp`` RFC 3339 in UTC.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

from market_ingestor.api.completeness import State
from market_ingestor.api.cursors import trade_cursor
from market_ingestor.model.control import Mode
from market_ingestor.model.exchange import is_simulated
from market_ingestor.model.kline import Kline
from market_ingestor.model.stored import StoredGap, StoredSymbol, StoredTrade, TradeKey
from market_ingestor.model.trade import Side

_encoder: Final = msgspec.json.Encoder()


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a request failed: ``code`` for programs, ``message`` for people.

    ``members``: processes that have not done what was asked, where they are the reason.
    """

    code: str
    message: str
    members: list[str] = []


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every failure; ``message`` again for people."""

    data: None
    error: ErrorBody
    message: str


class Pagination(msgspec.Struct, frozen=True, kw_only=True):
    """Where a list goes on; null at its end."""

    next_cursor: str | None


class KlineList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of candles."""

    data: list[Kline]
    pagination: Pagination


class TradeItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A trade; ``volume`` is its amount under another name, ``timestamp`` its time."""

    exchange: str
    symbol: str
    id: str
    price: str
    amount: str
    volume: str
    side: Side | None
    time_us: int
    timestamp: str
    simulated: bool = False


class TradeList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of trades, newest first."""

    data: list[TradeItem]
    pagination: Pagination


class KlineDetail(msgspec.Struct, frozen=True, kw_only=True):
    """A candle and what it was made of.

    ``revisions``: every version there was, first to last; none of an open candle. ``deciding``:
    the trades that decided its prices, null where one is not stored yet. ``trades``: a page of
    all its trades, newest first, where they were asked for.
    """

    kline: Kline
    revisions: list[Kline]
    deciding: dict[Literal["open", "high", "low", "close"], TradeItem | None]
    trades: TradeList | None


class CompletenessItem(msgspec.Struct, frozen=True, kw_only=True):
    """Minutes of one state, ``from`` inclusive, ``to`` exclusive."""

    from_: int = msgspec.field(name="from")
    to: int
    state: State


class CompletenessList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of stretches, oldest first, each beginning where the one before ends."""

    exchange: str
    symbol: str
    data: list[CompletenessItem]
    pagination: Pagination


class SymbolItem(msgspec.Struct, frozen=True, kw_only=True):
    """An instrument that is recorded.

    ``feed``: ``up`` while a feed says it is alive, ``down`` when none does, null when none was
    heard. ``volume``: what amounts mean, ``base`` or ``updates``. From ``venue_symbol`` on, what
    the venue lists; null where it does not say.
    """

    symbol: str
    exchange: str
    trade_count: int
    last_trade_at: str | None
    first_trade_at: str | None
    feed: str | None
    volume: str | None
    venue_symbol: str | None
    base: str | None
    quote: str | None
    price_step: str | None
    amount_step: str | None
    state: str


class SymbolList(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is recorded."""

    available: list[SymbolItem]


class GapItem(msgspec.Struct, frozen=True, kw_only=True):
    """A hole in a symbol's trades, and what became of it."""

    exchange: str
    symbol: str
    detected_at: str
    after_id: str
    before_id: str
    from_time: int | None
    to_time: int | None
    missing: int | None
    state: str
    filled_at: str | None


class GapList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of holes, the newest first."""

    data: list[GapItem]
    pagination: Pagination


class Info(msgspec.Struct, frozen=True, kw_only=True):
    """What this service is, and where."""

    name: str
    version: str
    mode: str
    addresses: dict[str, str]


class MemberItem(msgspec.Struct, frozen=True, kw_only=True):
    """A living ingest process: what it runs, and whether that is what is wanted."""

    member: str
    shard: str
    mode: Mode
    revision: int
    applied: bool
    problem: str | None


class ModeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The mode that is wanted, the revision of the wishes it stands in, and who follows them."""

    mode: Mode
    revision: int
    members: list[MemberItem]


class SubscriptionItem(msgspec.Struct, frozen=True, kw_only=True):
    """A symbol that is carried, or was asked for.

    ``feed``: ``up``, ``stale`` while silent for longer than usual, ``pending`` while the venue has
    not confirmed it, null when no living process carries it (another mode's, or its process is
    away). ``added``: at run time, not by the configuration.
    """

    exchange: str
    symbol: str
    feed: str | None
    member: str | None
    added: bool
    simulated: bool


class SubscriptionList(msgspec.Struct, frozen=True, kw_only=True):
    """Every symbol that is carried or was asked for."""

    data: list[SubscriptionItem]
    pagination: Pagination


class SubscriptionChange(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for is so; ``revision`` of the wishes it stands in."""

    exchange: str
    symbol: str
    subscribed: bool
    feed: str | None
    revision: int


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """A price of one symbol in ``(from, to]``, or its latest.

    ``exchange``: where the price was found; null for an average over several. ``time``: of the
    latest trade, else ``to``. The latest price without ``period`` is that of the trade with the
    greatest (time, id), however old; what is counted beside it is the last minute, and null when
    the database does not answer soon enough.
    """

    symbol: str
    exchange: str | None
    price: str
    time: int
    period: str
    from_: int = msgspec.field(name="from")
    to: int
    trade_count: int | None
    complete: bool | None
    simulated: bool


class PriceAggregate(msgspec.Struct, frozen=True, kw_only=True):
    """Average (also as ``price``), lowest and highest price of one symbol in ``(from, to]``."""

    symbol: str
    exchange: str | None
    price: str
    average_price: str
    min_price: str
    max_price: str
    volume: str
    trade_count: int
    time: int
    period: str
    from_: int = msgspec.field(name="from")
    to: int
    complete: bool
    simulated: bool


def encode(value: Any) -> bytes:
    """Return a body as JSON."""
    return _encoder.encode(value)


def success(data: Any, message: str | None = None) -> bytes:
    """Return the body of a success under ``/api/v1``; ``message`` is a word for people."""
    return _encoder.encode({"data": data, "error": None, "message": message})


def failure(code: str, message: str, members: Sequence[str] = ()) -> bytes:
    """Return the body of a failure."""
    body = ErrorBody(code=code, message=message, members=list(members))
    return _encoder.encode(Failure(data=None, error=body, message=message))


def rfc3339(moment: datetime) -> str:
    """Return a time in UTC, with as many digits behind the second as it has."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def rfc3339_us(time_us: int) -> str:
    """Return a time given in Unix microseconds."""
    seconds, micros = divmod(time_us, 1_000_000)
    return rfc3339(datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros))


def trade_item(trade: StoredTrade) -> TradeItem:
    """Return a stored trade as it is answered."""
    return TradeItem(
        exchange=trade.exchange,
        symbol=trade.symbol,
        id=trade.id,
        price=trade.price,
        amount=trade.amount,
        volume=trade.amount,
        side=trade.side,
        time_us=trade.time_us,
        timestamp=rfc3339_us(trade.time_us),
        simulated=is_simulated(trade.exchange),
    )


def trade_list(trades: Sequence[StoredTrade], limit: int) -> TradeList:
    """Return a page of at most ``limit`` stored trades; a full one may go on."""
    cursor = None
    if len(trades) == limit:
        last = trades[-1]
        cursor = trade_cursor(TradeKey(last.time_us, last.id, last.exchange))
    return TradeList(
        data=[trade_item(each) for each in trades], pagination=Pagination(next_cursor=cursor)
    )


def symbol_item(stored: StoredSymbol, feed: str | None) -> SymbolItem:
    """Return a stored instrument as it is answered."""
    return SymbolItem(
        symbol=stored.symbol,
        exchange=stored.exchange,
        trade_count=stored.trade_count,
        last_trade_at=rfc3339(stored.last_trade_at) if stored.last_trade_at else None,
        first_trade_at=rfc3339(stored.first_trade_at) if stored.first_trade_at else None,
        feed=feed,
        volume=stored.volume_kind,
        venue_symbol=stored.venue_symbol,
        base=stored.base,
        quote=stored.quote,
        price_step=stored.price_step,
        amount_step=stored.amount_step,
        state=stored.state,
    )


def gap_item(gap: StoredGap) -> GapItem:
    """Return a stored hole as it is answered."""
    return GapItem(
        exchange=gap.exchange,
        symbol=gap.symbol,
        detected_at=rfc3339(gap.detected_at),
        after_id=gap.after_id,
        before_id=gap.before_id,
        from_time=gap.from_time,
        to_time=gap.to_time,
        missing=gap.missing,
        state=gap.state,
        filled_at=rfc3339(gap.filled_at) if gap.filled_at else None,
    )
