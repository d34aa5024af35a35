"""Which neighbouring minutes without trades can be corrected together, and to what. Pure."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Final, NamedTuple

from market_ingestor.klines.aggregator import Aggregator
from market_ingestor.klines.candle import emptied
from market_ingestor.klines.publication import next_version
from market_ingestor.klines.versions import Version
from market_ingestor.klines.window import Fold
from market_ingestor.model.kline import Kline, Reason
from market_ingestor.model.period import BASE_PERIOD, MINUTE_MS

RUN_MAX: Final = 256  # published in a fraction of a second, in which no first version gets through


class Waiting(NamedTuple):
    """A dirty window as it was when its correction was begun."""

    open_time: int
    sequence: int
    reason: Reason


class FlatVersion(NamedTuple):
    """A minute without trades and what is to be published of it.

    Attributes:
        fold: What it says from now on, None when there is no price to say.
        known: The newest version, None without any.
        wanted: The next one, None when the newest says the same.
    """

    minute: Waiting
    fold: Fold | None
    known: Kline | None
    wanted: Kline | None


def first_run(minutes: Iterable[int]) -> list[int]:
    """Return the earliest neighbours among these minutes, nothing when none has one."""
    run: list[int] = []
    for minute in sorted(minutes):
        if run and minute != run[-1] + MINUTE_MS:
            if len(run) > 1:
                break
            run.clear()
        run.append(minute)
    return run[:RUN_MAX] if len(run) > 1 else []


def plan(
    aggregator: Aggregator,
    minutes: Iterable[Waiting],
    rows: Mapping[int, Kline],
    traded: Collection[int],
    price: Decimal | None,
) -> Iterator[FlatVersion | Waiting]:
    """Yield what to do with each of some neighbouring minutes, in their order.

    One that has, or had, trades is to be corrected by itself. Those without behind it are not
    yielded: their price is not known before that is stored.

    Args:
        minutes: Ascending.
        rows: The newest version of each that has one.
        traded: Those with stored trades.
        price: Of the newest trade before the first, or of the newest candle without any.
    """
    is_price_known = True
    for minute in minutes:
        known = rows.get(minute.open_time)
        if minute.open_time in traded or (known is not None and known.trade_count):
            is_price_known = False
            yield minute
        elif is_price_known:
            fold = emptied(known) if price is None else Fold.flat(price)
            price = None if fold is None else fold.close
            wanted = None if fold is None else _next(aggregator, minute, fold, known)
            yield FlatVersion(minute, fold, known, wanted)


def _next(aggregator: Aggregator, minute: Waiting, fold: Fold, known: Kline | None) -> Kline | None:
    return next_version(
        aggregator,
        BASE_PERIOD,
        minute.open_time,
        fold,
        None if known is None else Version.of(known),
        evidence=aggregator.closed.judge(BASE_PERIOD, minute.open_time),
        reason=minute.reason,
    )
