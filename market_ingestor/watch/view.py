"""The board as lines of a terminal, of exactly its width and height. Pure.

Nothing is told by colour alone: signs, words and shapes say the same.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from rich.text import Text

from market_ingestor.watch.board import Board, Market
from market_ingestor.watch.figures import (
    ASCII_BLOCKS,
    BLOCKS,
    candle_rows,
    compact,
    percent,
    price,
    sparkline,
)

MARKET_WIDTH: Final = 20
HEAD: Final = (
    f"{'MARKET':{MARKET_WIDTH}} {'LAST':>11} {'24H %':>7} {'VWAP 1M':>11} {'VOL 5M':>7}"
    f" {'TR/S':>5} {'FEED':<5}"
)
CHART_ROWS: Final = 5  # of the chosen market's candles
CHART_FROM: Final = 16  # lines a terminal must have for them
FRAME_LINES: Final = 3  # title, head of the table, foot

SORTS: Final[dict[str, Callable[[Market], Any]]] = {
    "name": lambda market: market.name,
    "change": lambda market: -(market.change_percent or 0.0),
    "trades": lambda market: -market.trades_per_s,
}


class Choice(msgspec.Struct, kw_only=True):
    """What the person at the terminal chose: the order, and a line of the table."""

    sort: str = "name"
    line: int = 0


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What the view is drawn for.

    Attributes:
        address: Where the data comes from.
        status: Of the connection, one word or a clause.
        is_live: Whether it works.
        is_ascii: The terminal has no other characters.
    """

    width: int
    height: int
    address: str
    status: str
    is_live: bool
    now_us: int
    is_ascii: bool = False


def ordered(board: Board, choice: Choice) -> list[Market]:
    """Return the markets as the table has them."""
    return sorted(board.markets, key=SORTS[choice.sort])


def lines(board: Board, choice: Choice, around: Surroundings) -> list[Text]:
    """Return the screen."""
    markets = ordered(board, choice)
    choice.line = max(0, min(choice.line, len(markets) - 1))
    has_chart = around.height >= CHART_FROM and bool(markets)
    room = max(1, around.height - FRAME_LINES - (CHART_ROWS + 1 if has_chart else 0))
    first = max(0, min(choice.line - room // 2, len(markets) - room))
    shown = [_title(board, around, len(markets)), _head(around)]
    for number, market in enumerate(markets[first : first + room], start=first):
        shown.append(_market(market, around, is_chosen=number == choice.line))
    if not markets:
        shown.append(Text("  no market yet" if around.is_live else "  not connected"))
    shown += [Text() for _ in range(room - max(1, len(markets[first : first + room])))]
    if has_chart:
        shown += _chart(markets[choice.line], around)
    shown.append(_foot(board, choice, around, first, room, len(markets)))
    return [_fitted(line, around.width) for line in shown[: around.height]]


def _fitted(line: Text, width: int) -> Text:
    line.truncate(width, pad=True)
    return line


def _title(board: Board, around: Surroundings, count: int) -> Text:
    at = datetime.fromtimestamp(around.now_us / 1_000_000, UTC)
    title = Text(" market-ingestor ", style="bold reverse")
    title.append(" LIVE" if around.is_live else f" {around.status.upper()}",
                 style="bold green" if around.is_live else "bold red")  # fmt: skip
    if board.is_simulated:
        title.append("  SIMULATED", style="bold yellow")
    title.append(f"  {count} markets  {at:%H:%M:%S} UTC  {around.address}")
    return title


def _head(around: Surroundings) -> Text:
    spark = max(0, around.width - len(HEAD) - 1)
    label = f"LAST {spark} MIN" if spark >= 11 else "TREND" if spark >= 5 else ""  # noqa: PLR2004 - lengths of the words
    return Text(f"{HEAD} {label:>{spark}}", style="dim")


def _market(market: Market, around: Surroundings, *, is_chosen: bool) -> Text:
    stats = market.stats
    assert stats is not None  # noqa: S101 - the board lists only such
    minute, five = stats.windows.get("1m"), stats.windows.get("5m")
    change = market.change_percent
    way = "" if not change else "green" if change > 0 else "red"
    feed = market.feed_word(around.now_us)
    places = len(stats.last_price.partition(".")[2])
    name = market.name
    if len(name) > MARKET_WIDTH:
        name = f"{market.exchange[: MARKET_WIDTH - len(market.symbol) - 1]} {market.symbol}"
    line = Text(f"{name[:MARKET_WIDTH]:{MARKET_WIDTH}} ", style="reverse" if is_chosen else "")
    line.append(price(stats.last_price, 11), style="bold")
    line.append(f" {percent(change, 7)}", style=way)
    line.append(f" {price(minute.vwap if minute else None, 11, places)}")
    line.append(f" {compact(five.volume if five else None, 7)} {market.trades_per_s:5.1f} ")
    line.append(f"{feed:<5}", style="green" if feed == "up" else "yellow")
    room = around.width - len(HEAD) - 1
    closes = [float(each.close) for each in market.candles]
    blocks = ASCII_BLOCKS if around.is_ascii else BLOCKS
    line.append(f" {sparkline(closes, room, blocks)}" if room > 0 else "", style=way)
    return line


def _chart(market: Market, around: Surroundings) -> list[Text]:
    """Return the chosen market's candles under a line that names them."""
    candles = market.candles
    room = max(0, around.width - 14)
    name = f" {market.name}: candles of a minute"
    doubtful = sum(1 for each in candles if each.closed and not each.complete)
    revised = sum(1 for each in candles if each.revision > 1)
    title = Text(f"{name}, {doubtful} incomplete, {revised} revised", style="dim")
    drawn = candle_rows(candles, room, CHART_ROWS, is_ascii=around.is_ascii)
    shown = candles[-room:] if room else []
    highest = max((each.high for each in shown), key=float, default=None)
    lowest = min((each.low for each in shown), key=float, default=None)
    labels = {0: price(highest, 12), CHART_ROWS - 1: price(lowest, 12)}
    return [title, *(Text(f"{row} {labels.get(at, ' ' * 12)}") for at, row in enumerate(drawn))]


def _foot(
    board: Board, choice: Choice, around: Surroundings, first: int, room: int, count: int
) -> Text:
    gaps = ", ".join(f"{number} {state}" for state, number in board.gaps.items())
    lag = "-" if board.lag_us is None or not around.is_live else f"{board.lag_us / 1_000:.0f} ms"
    foot = Text(f" gaps seen {gaps}  lag {lag}")
    if board.problem:
        foot.append(f"  {board.problem}", style="red")
    if count > room:
        foot.append(f"  {first + 1}-{min(first + room, count)}/{count}")
    arrows = "j/k" if around.is_ascii else "↑↓"
    foot.append(f"  q quit  {arrows} choose  s sort: {choice.sort}", style="dim")
    return foot
