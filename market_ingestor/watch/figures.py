"""Numbers and candles as text of a given width. Pure."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from market_ingestor.model.kline import Kline

BLOCKS: Final = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS: Final = "_.-=+*%#"
_UNITS: Final = ((1e9, "B"), (1e6, "M"), (1e3, "K"))


def price(text: str | None, width: int, places: int | None = None) -> str:
    """Return decimal text right-aligned; what is too long loses digits behind the point."""
    if text is None:
        return "-".rjust(width)
    shown = text if places is None else f"{Decimal(text):.{places}f}"
    whole, point, fraction = shown.partition(".")
    room = max(0, width - len(whole) - len(point))
    return f"{whole}{point}{fraction[:room]}".rstrip("." if room == 0 else "").rjust(width)


def compact(text: str | None, width: int) -> str:
    """Return an amount in few characters: ``1.23M``, ``45.6``."""
    if text is None:
        return "-".rjust(width)
    value = float(text)
    for size, unit in _UNITS:
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}".rjust(width)[:width]
    return f"{value:.4g}".rjust(width)[:width]


def percent(value: float | None, width: int) -> str:
    """Return a change with its sign."""
    return ("-" if value is None else f"{value:+.2f}").rjust(width)


def sparkline(closes: Sequence[float], width: int, blocks: str = BLOCKS) -> str:
    """Return the last ``width`` prices as one line of blocks, right-aligned."""
    shown = list(closes[-width:]) if width > 0 else []
    if not shown:
        return " " * width
    least, most = min(shown), max(shown)
    steps = (most - least) or 1.0
    top = len(blocks) - 1
    return "".join(blocks[round((each - least) / steps * top)] for each in shown).rjust(width)


def candle_rows(
    klines: Sequence[Kline], width: int, height: int, *, is_ascii: bool = False
) -> list[str]:
    """Return candles as ``height`` lines, one column each, newest at the right.

    A rising body is light, a falling one solid, an incomplete one crossed: no colour is needed.
    """
    wick, rising, falling, doubtful = "|o#x" if is_ascii else "│░█╳"  # noqa: RUF001 - a cross that fills its place
    shown = klines[-width:] if width > 0 else []
    if not shown or height <= 0:
        return [" " * width] * max(0, height)
    low = min(float(each.low) for each in shown)
    step = (max(float(each.high) for each in shown) - low) / height or 1.0

    def row(price_text: str) -> int:
        return min(height - 1, int((float(price_text) - low) / step))

    columns = []
    for each in shown:
        top, bottom = row(each.high), row(each.low)
        ends = sorted((row(each.open), row(each.close)))
        body = rising if float(each.close) >= float(each.open) else falling
        if each.closed and not each.complete:
            body = doubtful
        columns.append(
            [
                body if ends[0] <= at <= ends[1] else wick if bottom <= at <= top else " "
                for at in range(height)
            ]
        )
    return [
        "".join(column[at] for column in columns).rjust(width) for at in reversed(range(height))
    ]
