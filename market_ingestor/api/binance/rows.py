"""Candles, trades and instruments in the shapes Binance answers. Pure.

Fields: https://github.com/binance/binance-spot-api-docs, rest-api.md. What is not recorded (an
order book) is null.
"""

from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from market_ingestor.model import decimals
from market_ingestor.model.kline import Kline
from market_ingestor.model.listing import Listing
from market_ingestor.model.stored import StoredTrade

KlineRow: TypeAlias = tuple[int, str, str, str, str, str, int, str, int, str, str, str]

PRECISION_MIN: Final = 8  # Binance's own, of every asset
DAY_US: Final = 24 * 3_600 * 1_000_000
QUANTITY_MAX: Final = "92233720368"  # the greatest Binance can write; venues' own are not known
NO_ID: Final = -1  # of a day without trades, as Binance has it
_PERCENT: Final = Decimal("0.001")
# Prices lie between 1e-40 and 1e40: a share has at most 82 digits before the point.
_SHARES: Final = Context(prec=100, rounding=ROUND_HALF_EVEN, traps=[])


class TradeRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A trade; ``isBuyerMaker`` is null where the venue tells no side."""

    id: int
    price: str
    qty: str
    quote_qty: str
    time: int
    is_buyer_maker: bool | None
    is_best_match: bool = True


class AggregateRow(msgspec.Struct, frozen=True, kw_only=True):
    """A trade as an aggregate of its own; ``m`` as ``isBuyerMaker`` of a trade."""

    id: int = msgspec.field(name="a")
    price: str = msgspec.field(name="p")
    qty: str = msgspec.field(name="q")
    first_id: int = msgspec.field(name="f")
    last_id: int = msgspec.field(name="l")
    time: int = msgspec.field(name="T")
    is_buyer_maker: bool | None = msgspec.field(name="m")
    is_best_match: bool = msgspec.field(name="M", default=True)


class PriceRow(msgspec.Struct, frozen=True, kw_only=True):
    """The price of the newest trade."""

    symbol: str
    price: str


class AverageRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The average price of the last minutes."""

    mins: int
    price: str
    close_time: int


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """What was traded in the 24 hours up to now; prices are None without trades."""

    open: str | None
    high: str | None
    low: str | None
    last: str | None
    volume: str
    quote_volume: str
    trade_count: int
    first_id: str | None = None
    last_id: str | None = None


class Ticker(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The last 24 hours of a symbol; what an order book would tell is null.

    The fields with a default are absent from ``type=MINI``.
    """

    symbol: str
    price_change: str | UnsetType | None = UNSET
    price_change_percent: str | UnsetType | None = UNSET
    weighted_avg_price: str | UnsetType | None = UNSET
    prev_close_price: UnsetType | None = UNSET
    last_price: str | None
    last_qty: UnsetType | None = UNSET
    bid_price: UnsetType | None = UNSET
    bid_qty: UnsetType | None = UNSET
    ask_price: UnsetType | None = UNSET
    ask_qty: UnsetType | None = UNSET
    open_price: str | None
    high_price: str | None
    low_price: str | None
    volume: str
    quote_volume: str
    open_time: int
    close_time: int
    first_id: int
    last_id: int
    count: int


class SymbolRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An instrument."""

    symbol: str
    status: str
    base_asset: str
    base_asset_precision: int
    quote_asset: str
    quote_precision: int
    quote_asset_precision: int
    is_spot_trading_allowed: bool = True
    is_margin_trading_allowed: bool = False
    filters: list[dict[str, str]]
    permissions: list[str]
    permission_sets: list[list[str]]


class ExchangeInfo(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is recorded of an exchange."""

    timezone: str = "UTC"
    server_time: int
    rate_limits: list[dict[str, Any]] = []
    exchange_filters: list[dict[str, Any]] = []
    symbols: list[SymbolRow]


class NoMarkets(msgspec.Struct, frozen=True, kw_only=True):
    """What is recorded of futures: nothing."""

    symbols: list[SymbolRow]


class ServerTime(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The time here."""

    server_time: int


class Nothing(msgspec.Struct, frozen=True, kw_only=True):
    """An empty object: the service is there."""


def time_in(time_us: int, *, is_micro: bool) -> int:
    """Return a time in the unit the caller asked for."""
    return time_us if is_micro else time_us // 1_000


def kline_row(kline: Kline, *, is_micro: bool) -> KlineRow:
    """Return the twelve columns of a candle."""
    return (
        time_in(kline.open_time * 1_000, is_micro=is_micro),
        kline.open,
        kline.high,
        kline.low,
        kline.close,
        kline.volume,
        time_in((kline.close_time + 1) * 1_000 - 1, is_micro=is_micro),
        kline.quote_volume,
        kline.trade_count,
        kline.buy_volume,
        kline.buy_quote_volume,
        "0",
    )


def trade_row(trade: StoredTrade, *, is_micro: bool) -> TradeRow:
    """Return a trade."""
    return TradeRow(
        id=int(trade.id),
        price=trade.price,
        qty=trade.amount,
        quote_qty=decimals.canonical(Decimal(trade.price) * Decimal(trade.amount)),
        time=time_in(trade.time_us, is_micro=is_micro),
        is_buyer_maker=_is_buyer_maker(trade),
    )


def aggregate_row(trade: StoredTrade, *, is_micro: bool) -> AggregateRow:
    """Return a trade as an aggregate of its own."""
    number = int(trade.id)
    return AggregateRow(
        id=number,
        price=trade.price,
        qty=trade.amount,
        first_id=number,
        last_id=number,
        time=time_in(trade.time_us, is_micro=is_micro),
        is_buyer_maker=_is_buyer_maker(trade),
    )


def _is_buyer_maker(trade: StoredTrade) -> bool | None:
    return None if trade.side is None else trade.side == "sell"


def day_of(klines: Iterable[Kline]) -> Day:
    """Return candles of one symbol, ascending and without overlap, summed up."""
    traded = [each for each in klines if each.trade_count]
    if not traded:
        return Day(
            open=None, high=None, low=None, last=None, volume="0", quote_volume="0", trade_count=0
        )
    return Day(
        open=traded[0].open,
        high=max((each.high for each in traded), key=Decimal),
        low=min((each.low for each in traded), key=Decimal),
        last=traded[-1].close,
        volume=_total(each.volume for each in traded),
        quote_volume=_total(each.quote_volume for each in traded),
        trade_count=sum(each.trade_count for each in traded),
        first_id=traded[0].first_trade_id,
        last_id=traded[-1].last_trade_id,
    )


def _total(numbers: Iterable[str]) -> str:
    return decimals.canonical(sum(map(Decimal, numbers), decimals.ZERO))


def weighted(day: Day) -> str | None:
    """Return the average price by volume, None without volume."""
    return decimals.average(Decimal(day.quote_volume), Decimal(day.volume))


def with_last(day: Day | None, last: str | None) -> Day:
    """Return a day with the price of the newest trade, from before the day where it has none."""
    known = day if day is not None else day_of(())
    return known if known.last is not None else msgspec.structs.replace(known, last=last)


def short_ticker(symbol: str, day: Day, now_us: int, *, is_micro: bool) -> Ticker:
    """Return the last 24 hours in short."""
    return Ticker(
        symbol=symbol,
        open_price=day.open,
        high_price=day.high,
        low_price=day.low,
        last_price=day.last,
        volume=day.volume,
        quote_volume=day.quote_volume,
        open_time=time_in(now_us - DAY_US, is_micro=is_micro),
        close_time=time_in(now_us, is_micro=is_micro),
        first_id=NO_ID if day.first_id is None else int(day.first_id),
        last_id=NO_ID if day.last_id is None else int(day.last_id),
        count=day.trade_count,
    )


def ticker(symbol: str, day: Day, now_us: int, *, is_micro: bool) -> Ticker:
    """Return the last 24 hours."""
    change = percent = None
    if day.open is not None and day.last is not None:
        opened, difference = Decimal(day.open), Decimal(day.last) - Decimal(day.open)
        change = decimals.canonical(difference)
        share = _SHARES.divide(difference * 100, opened)
        percent = decimals.rounded(share, _PERCENT)
    return msgspec.structs.replace(
        short_ticker(symbol, day, now_us, is_micro=is_micro),
        price_change=change,
        price_change_percent=percent,
        weighted_avg_price=weighted(day),
        prev_close_price=None,
        last_qty=None,
        bid_price=None,
        bid_qty=None,
        ask_price=None,
        ask_qty=None,
    )


def symbol_row(listing: Listing) -> SymbolRow:
    """Return an instrument.

    Without a quote (a stock, a feed of lines) all of the symbol is the base.
    """
    price, amount = listing.price_step, listing.amount_step
    filters: list[dict[str, str]] = []
    if price is not None:  # zero stands for no limit, as with Binance
        limits = {"minPrice": "0", "maxPrice": "0", "tickSize": price}
        filters.append({"filterType": "PRICE_FILTER", **limits})
    if amount is not None:
        limits = {"minQty": amount, "maxQty": QUANTITY_MAX, "stepSize": amount}
        filters.append({"filterType": "LOT_SIZE", **limits})
    quote_precision = max(PRECISION_MIN, _digits(listing.price_step))
    return SymbolRow(
        symbol=listing.symbol,
        status="TRADING" if listing.state == "active" else "BREAK",
        base_asset=listing.base or listing.symbol,
        base_asset_precision=max(PRECISION_MIN, _digits(listing.amount_step)),
        quote_asset=listing.quote or "",
        quote_precision=quote_precision,
        quote_asset_precision=quote_precision,
        filters=filters,
        permissions=["SPOT"],
        permission_sets=[["SPOT"]],
    )


def _digits(step: str | None) -> int:
    return len((step or "").rstrip("0").partition(".")[2])
