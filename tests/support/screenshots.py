"""Makes the pictures of the README: ``python -m tests.support.screenshots [FOLDER]``.

A demo runs, and some hours of trading on three more simulated exchanges are played into it, so that
there is something to see at once. One of them has a hole that was not filled, one that was.
"""

import asyncio
import functools
import html
import json
import random
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import httpx2
import msgspec
from playwright.async_api import Browser, Page, expect

from market_ingestor.bus.publisher import Publisher
from market_ingestor.model.decimals import install
from market_ingestor.model.trade import TextTrade
from tests.support.browser import DESK, PHONE, running_browser
from tests.support.played import MINUTE_US, Player, publishing, walk
from tests.support.processes import PROJECT, Command, command
from tests.support.servers import short_folder
from tests.support.terminal import Terminal, in_terminal

EXCHANGES: Final = ("sim-alpha", "sim-beta", "sim-gamma")
SYMBOL: Final = "BTCEUR"  # the one the pictures are of
PRICES: Final = {
    SYMBOL: (78_000, 2), "ETHEUR": (2_600, 2), "SOLEUR": (121, 3), "XRPEUR": (1.89, 4),
    "ADAEUR": (0.442, 5), "LTCEUR": (82, 3), "LINKEUR": (12.6, 3), "DOTEUR": (3.9, 4),
}  # fmt: skip
MINUTES: Final = 240
TRADES_PER_MINUTE: Final = 25
OTHER_MINUTES: Final = 60
OTHER_TRADES_PER_MINUTE: Final = 6
STEP_S: Final = 0.4  # between two trades of a market that goes on
WAIT_S: Final = 120.0
COLOURS: Final = {"green": "up", "red": "down", "yellow": "warn", "brown": "warn"}
TERMINAL_STYLE: Final = """
pre { display: inline-block; background: #0b0f16; color: #dbe2ec; margin: 0; padding: 14px 18px;
  font: 14px/1.25 "DejaVu Sans Mono", monospace; border-radius: 8px; }
.up { color: #2ebd85; } .down { color: #f6465d; } .warn { color: #f0b90b; }
.bold { font-weight: bold; } .reverse { background: #dbe2ec; color: #0b0f16; }
"""
PLAYED: Final = f"sim-alpha/{SYMBOL}/1m"


class Market:
    """One played market that goes on by itself.

    Args:
        distance: Of its prices from those of the others, as a factor.
    """

    def __init__(self, publisher: Publisher, exchange: str, symbol: str, distance: float) -> None:
        self._feed = Player(publisher, exchange)
        self._refill = Player(publisher, exchange, "rest")
        self._symbol = symbol
        self._rng = random.Random(f"{exchange} {symbol}")
        price, self._places = PRICES[symbol]
        self._price = price * distance
        self._next_id = 1_000_000

    def _walk(self, rng: random.Random, start_us: int, end_us: int, count: int) -> list[TextTrade]:
        trades = walk(
            rng, price=self._price, places=self._places, start_us=start_us, end_us=end_us,
            count=count, first_id=self._next_id,
            volatility=0.00012 if self._symbol == SYMBOL else 0.0003,
        )  # fmt: skip
        self._next_id += count
        # The exchanges follow one another, not to the cent.
        noise = [1 + self._rng.gauss(0, 0.00006) for _ in trades]
        trades = [
            msgspec.structs.replace(each, price=f"{float(each.price) * part:.{self._places}f}")
            for each, part in zip(trades, noise, strict=True)
        ]
        self._price = float(trades[-1].price)
        return trades

    async def history(self, now_us: int) -> None:
        """Play what came before now; the main symbol has holes, and is alike everywhere."""
        common = random.Random(self._symbol)
        if self._symbol != SYMBOL:
            start_us = now_us - OTHER_MINUTES * MINUTE_US
            count = OTHER_MINUTES * OTHER_TRADES_PER_MINUTE
            await self._feed.trades(self._symbol, self._walk(common, start_us, now_us, count))
            return
        start_us = now_us - MINUTES * MINUTE_US
        trades = self._walk(common, start_us, now_us, MINUTES * TRADES_PER_MINUTE)
        lost, late = slice(-1_300, -1_240), slice(-700, -670)
        for part in (slice(0, lost.start), slice(lost.stop, late.start), slice(late.stop, None)):
            await self._feed.trades(SYMBOL, trades[part])
        await self._feed.gap(SYMBOL, "gap_unfillable", trades[lost.start - 1], trades[lost.stop])
        await self._feed.gap(SYMBOL, "gap_found", trades[late.start - 1], trades[late.stop])
        await self._feed.settle()
        before = trades[late.start - 1]
        await self._refill.trades(SYMBOL, trades[late], prev_id=before.id)
        await self._refill.gap(SYMBOL, "gap_filled", before, trades[late.stop])

    async def go_on(self) -> None:
        """Play on, a trade every now and then, until cancelled."""
        while True:
            now_us = time.time_ns() // 1_000
            trades = self._walk(self._rng, now_us - 200_000, now_us, 1)
            await self._feed.trades(self._symbol, trades)
            await self._feed.mark(now_us)
            await asyncio.sleep(STEP_S * (1 + self._rng.random()))


async def _endpoints(running: Command, folder: Path) -> Any:
    file = folder / "endpoints.json"
    await running.until(file.exists, WAIT_S)
    await running.until(lambda: "trades/s" in running.output, WAIT_S)
    return json.loads(file.read_bytes())


async def _is_stored(client: httpx2.AsyncClient, exchange: str, symbol: str) -> bool:
    query = {"exchange": exchange, "symbol": symbol, "period": "1m"}
    answer = await client.get("/api/v1/klines", params=query)
    body = answer.json()
    return answer.is_success and len(body["data"]["data"]) >= OTHER_MINUTES - 1


async def _all_stored(api: str, running: Command) -> None:
    async with httpx2.AsyncClient(base_url=api, trust_env=False, timeout=30) as client:
        for exchange in EXCHANGES:
            for symbol in PRICES:
                stored = functools.partial(_is_stored, client, exchange, symbol)
                await running.until(stored, WAIT_S)


async def _has_played(page: Page) -> None:
    await page.wait_for_function(
        "() => document.querySelector('#candles').dataset.candles > 200"
        " && document.querySelector('#candles').dataset.revised > 0",
        timeout=WAIT_S * 1_000,
    )


async def _shoot(browser: Browser, api: str, folder: Path) -> None:
    shots: tuple[tuple[str, str, dict[str, int], str], ...] = (
        ("dashboard-dark", f"#/chart/{PLAYED}", DESK, "dark"),
        ("dashboard-light", f"#/chart/{PLAYED}", DESK, "light"),
        ("dashboard-compare", f"#/compare/{SYMBOL}/1m", DESK, "dark"),
        ("dashboard-health", "#/health", DESK, "light"),
        ("dashboard-phone", f"#/chart/{PLAYED}", PHONE, "dark"),
    )
    for name, place, viewport, scheme in shots:
        options: dict[str, Any] = {"viewport": viewport, "color_scheme": scheme}
        context = await browser.new_context(**options)
        page = await context.new_page()
        page.set_default_timeout(WAIT_S * 1_000)
        await page.goto(f"{api}/{place}")
        await expect(page.locator("#connection")).to_have_text("Live", timeout=WAIT_S * 1_000)
        if "/chart/" in place:
            await _has_played(page)
        await page.wait_for_function(
            "() => [...document.querySelectorAll('.market polyline')].slice(0, 16)"
            ".every((each) => each.getAttribute('points')?.length > 100)"
        )
        if "health" in name:
            await expect(page.locator("#health-account")).to_contain_text("balanced")
        await page.screenshot(path=folder / f"{name}.png")
        await context.close()
        sys.stdout.write(f"{folder / name}.png\n")


def _as_page(terminal: Terminal) -> str:
    """Return what a terminal shows as HTML, colours and all."""
    lines = []
    for number in range(terminal.screen.lines):
        cells = terminal.screen.buffer[number]
        line = ""
        for column in range(terminal.screen.columns):
            cell = cells[column]
            kinds = [COLOURS.get(cell.fg, ""), "reverse" if cell.reverse else ""]
            style = " ".join(filter(None, [*kinds, "bold" if cell.bold else ""]))
            text = html.escape(cell.data)
            line += f'<span class="{style}">{text}</span>' if style else text
        lines.append(line)
    text = "\n".join(lines)
    return f"<style>{TERMINAL_STYLE}</style><pre>{text}</pre>"


async def _shoot_terminal(browser: Browser, push: str, folder: Path) -> None:
    arguments = ("watch", "--url", f"{push}/ws")
    async with in_terminal(*arguments, columns=110, lines=32) as terminal:
        await terminal.shows("LIVE", "sim-alpha BTCEUR")
        terminal.type("j")
        await terminal.shows("sim-alpha BTCEUR: candles")
        page = await browser.new_page()
        await page.set_content(_as_page(terminal))
        await page.locator("pre").screenshot(path=folder / "watch.png")
    sys.stdout.write(f"{folder / 'watch.png'}\n")


async def main(folder: Path) -> None:
    """Make all pictures."""
    async with AsyncExitStack() as stack:
        place = stack.enter_context(short_folder())
        log = place / "demo.log"
        running = await stack.enter_async_context(
            command("demo", "--data", str(place / "data"), "--rate", "40", log=log)
        )
        places = await _endpoints(running, place / "data")
        publisher = await stack.enter_async_context(publishing(places["nats"]))
        now_us = time.time_ns() // 1_000
        playing = await stack.enter_async_context(asyncio.TaskGroup())
        markets = [
            Market(publisher, exchange, symbol, 1 + number * 0.0003)
            for symbol in PRICES
            for number, exchange in enumerate(EXCHANGES)
        ]
        for market in markets:
            await market.history(now_us)
        tasks = [playing.create_task(market.go_on()) for market in markets]
        await _all_stored(places["api"], running)
        browser = await stack.enter_async_context(running_browser())
        await _shoot(browser, places["api"], folder)
        await _shoot_terminal(browser, places["push"], folder)
        for task in tasks:
            task.cancel()


if __name__ == "__main__":
    install()
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else PROJECT / "docs"
    target.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(target))
