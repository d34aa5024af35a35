"""The page of a running demo, in a real browser."""

import asyncio
import functools
import random
import re
from typing import Any, Final

import pytest
from playwright.async_api import Browser, Page, Route, expect
from starlette.applications import Starlette

from market_ingestor.api.dashboard import charts, install
from market_ingestor.api.dashboard.files import load
from market_ingestor.api.dashboard.page import PushAddress
from market_ingestor.api.dashboard.routes import dashboard_routes
from market_ingestor.bus import codec, subjects
from market_ingestor.runtime.web import WebServer, listen
from tests.integration.dashboard.conftest import NOW_US, Site
from tests.support.browser import DESK, PHONE, needs_chromium, watched_page
from tests.support.played import MINUTE_US, Player, statistics, walk

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.xdist_group("demo"),  # two demos at once would race for the usual ports
    pytest.mark.timeout(180),
    needs_chromium,
    pytest.mark.skipif(not install.is_installed(), reason="not installed: the charts, from npm"),
]

WAIT_MS: Final = 30_000
CDN_HEADERS: Final = {"Access-Control-Allow-Origin": "*", "Content-Type": "text/javascript"}
STATE: Final = 7  # column of the table; the revision is behind it
# What is painted: all canvases of the chart, one above the other.
PIXELS: Final = """() => [...document.querySelectorAll("#candles canvas")]
    .map((each) => each.toDataURL()).join()"""


async def counted(page: Page, name: str, least: int = 1) -> None:
    """Wait until the chart has drawn so many candles of a kind."""
    await page.wait_for_function(
        "([name, least]) => Number(document.querySelector('#candles').dataset[name]) >= least",
        arg=[name, least],
        timeout=WAIT_MS,
    )


async def text_changes(page: Page, selector: str) -> None:
    before = await page.locator(selector).first.inner_text()
    await page.wait_for_function(
        "([selector, before]) => document.querySelector(selector).innerText !== before",
        arg=[selector, before],
        timeout=WAIT_MS,
    )


async def row_of(page: Page, open_time: int, state: str, revision: int) -> None:
    """Wait until the table shows a candle so."""
    cells = page.locator(f'#candle-table tr[data-open-time="{open_time}"] td')
    await expect(cells.nth(STATE)).to_have_text(state, timeout=WAIT_MS)
    await expect(cells.nth(STATE + 1)).to_have_text(re.compile(rf"^{revision}\b"), timeout=WAIT_MS)


async def test_candles_appear_and_move(site: Site, browser: Browser) -> None:
    async with watched_page(browser) as watched:
        page = watched.page
        await page.goto(site.demo)
        await counted(page, "candles")
        await expect(page.locator("#connection")).to_have_text("Live")
        await expect(page.locator("#simulated")).to_be_visible()
        await text_changes(page, ".legend")
        await text_changes(page, ".headline .price")
        await page.evaluate(f"() => {{ globalThis.before = ({PIXELS})(); }}")
        await page.wait_for_function(f"() => ({PIXELS})() !== before")
        await expect(page.locator('.market .dot[data-feed="up"]')).to_have_count(40)


async def test_a_late_trade_redraws_its_candle(site: Site, browser: Browser) -> None:
    start_us = NOW_US - 10 * MINUTE_US
    feed = Player(site.publisher, "sim-late")
    trades = walk(
        random.Random(1), price=100, places=2, start_us=start_us, end_us=NOW_US, count=200,
        first_id=1_000,
    )  # fmt: skip
    held = trades[90:95]
    window = held[0].time_us // MINUTE_US * 60_000
    await feed.trades("BTCUSDT", trades[:90])
    await feed.trades("BTCUSDT", trades[95:])
    await feed.gap("BTCUSDT", "gap_found", trades[89], trades[95])
    await feed.mark(NOW_US + 5_000_000)
    await site.knows("sim-late", "BTCUSDT")
    async with watched_page(browser) as watched:
        page = watched.page
        await page.goto(f"{site.api}/#/chart/sim-late/BTCUSDT/1m")
        await page.locator("#candle-table summary").click()
        await counted(page, "candles", 10)
        await counted(page, "incomplete")
        await counted(page, "gaps")
        await row_of(page, window, "incomplete", 1)
        refill = Player(site.publisher, "sim-late", "rest")
        await refill.trades("BTCUSDT", held, prev_id=trades[89].id)
        await refill.gap("BTCUSDT", "gap_filled", trades[89], trades[95])
        await counted(page, "revised")
        await row_of(page, window, "complete", 2)


async def test_nothing_is_missed_while_the_gateway_is_away(site: Site, browser: Browser) -> None:
    start_us = NOW_US - 20 * MINUTE_US
    middle_us = NOW_US - 10 * MINUTE_US
    feed = Player(site.publisher, "sim-away")
    trades = walk(
        random.Random(2), price=50, places=2, start_us=start_us, end_us=NOW_US, count=400,
        first_id=1,
    )  # fmt: skip
    early = [each for each in trades if each.time_us < middle_us]
    held, early = early[100:103], early[:100] + early[103:]
    await feed.trades("ETHUSDT", early[:100])
    await feed.trades("ETHUSDT", early[100:])
    await feed.mark(middle_us + 5_000_000)
    await site.knows("sim-away", "ETHUSDT")
    async with watched_page(browser) as watched:
        page = watched.page
        watched.excused = "WebSocket connection"  # the browser's own words for a refused one
        # The page asks for the newest candles once more before it relies on push alone.
        async with page.expect_request(re.compile("klines.*limit=100&")):
            await page.goto(f"{site.api}/#/chart/sim-away/ETHUSDT/1m")
        await page.locator("#candle-table summary").click()
        await counted(page, "candles", 10)
        await site.gateway.kill()
        await expect(page.locator('[data-notice="connection"]')).to_be_visible(timeout=WAIT_MS)
        await expect(page.locator("#connection")).not_to_have_text("Live")
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        # Meanwhile ten more minutes close, and one closed before is corrected.
        await feed.trades("ETHUSDT", [each for each in trades if each.time_us >= middle_us])
        await feed.mark(NOW_US + 5_000_000)
        await Player(site.publisher, "sim-away", "rest").trades(
            "ETHUSDT", held, prev_id=early[99].id
        )
        await site.gateway.start()
        await expect(page.locator("#connection")).to_have_text("Live", timeout=WAIT_MS)
        await expect(page.locator('[data-notice="connection"]')).to_have_count(0)
        await counted(page, "candles", 20)
        await counted(page, "revised")
        await row_of(page, held[0].time_us // MINUTE_US * 60_000, "complete", 2)
        # By its position, not by loading everything anew.
        assert not [url for url in requests if re.search("klines.*limit=[15]00&open", url)]


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
async def test_both_themes_at_both_widths(
    site: Site, browser: Browser, scheme: str, viewport: dict[str, int]
) -> None:
    options: dict[str, Any] = {"color_scheme": scheme, "viewport": viewport}
    async with watched_page(browser, **options) as watched:
        page = watched.page
        for place in ("#/chart/sim-binance/BTCUSDT/1m", "#/compare/BTCUSDT/1m", "#/health"):
            await page.goto(f"{site.demo}/{place}")
            await expect(page.locator("main > section:visible")).to_have_count(1)
            wide = await page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, f"{place} is {wide} pixels too wide"
        red, *_ = await ground(page)
        assert (red < 60) == (scheme == "dark")
        await page.locator("#theme").click()  # dark
        await page.locator("#theme").click()  # light
        assert (await ground(page))[0] > 200
        await page.reload()
        assert (await ground(page))[0] > 200, "the choice is kept"


async def ground(page: Page) -> list[int]:
    """Return red, green and blue of the page's ground."""
    colour: str = await page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    return [int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]


async def test_one_symbol_on_several_exchanges(site: Site, browser: Browser) -> None:
    async with watched_page(browser) as watched:
        page = watched.page
        await page.goto(f"{site.demo}/#/compare/ETHUSDT/1m")
        for exchange in ("sim-binance", "sim-bybit", "sim-okx"):
            await expect(page.locator("#comparison")).to_contain_text(exchange, timeout=WAIT_MS)
            await page.wait_for_function(
                "name => document.querySelector(`[data-exchange=${name}]`)?.dataset.candles > 0",
                arg=exchange,
            )
        await expect(page.locator("#spread")).to_contain_text("bps", timeout=WAIT_MS)
        await text_changes(page, "#comparison")


async def test_health_shows_feeds_queues_and_a_balanced_account(
    site: Site, browser: Browser
) -> None:
    async with watched_page(browser) as watched:
        page = watched.page
        await page.goto(f"{site.demo}/#/health")
        await expect(page.locator("#health-account")).to_contain_text("balanced", timeout=WAIT_MS)
        for exchange in ("sim-binance", "sim-coinbase", "sim-kraken"):
            await expect(page.locator("#health-feeds")).to_contain_text(exchange)
        await expect(page.locator("#health-queues")).to_contain_text("ingest trades")
        await expect(page.locator("#health-lag")).to_contain_text("save behind MARKET_RAW")
        await expect(page.locator("#health-gaps")).to_contain_text("hole")
        # A process that does not ingest has no such figures, and says where they are.
        await page.goto(f"{site.api}/#/health")
        await expect(page.locator("#health-account")).to_contain_text("9701", timeout=WAIT_MS)


async def test_keys_reach_everything_and_everything_has_a_name(
    site: Site, browser: Browser
) -> None:
    async with watched_page(browser) as watched:
        page = watched.page
        await page.goto(f"{site.demo}/#/chart/sim-binance/BTCUSDT/1m")
        await counted(page, "candles")
        await page.keyboard.press("/")
        await page.keyboard.type("okx/eth")
        await expect(page.locator(".market")).to_have_count(1)
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page.locator(".headline select").first).to_have_value("sim-okx")
        assert page.url.endswith("#/chart/sim-okx/ETHUSDT/1m")
        unnamed = await page.evaluate(
            """() => [...document.querySelectorAll("button, select, input, a, summary, [role=img]")]
            .filter((each) => !(each.textContent.trim() || each.getAttribute("aria-label")
                || each.labels?.[0]?.textContent.trim())).map((each) => each.outerHTML)"""
        )
        assert not unnamed


async def test_fifty_markets_at_ten_updates_a_second_are_drawn_by_the_frame(
    site: Site, browser: Browser
) -> None:
    symbols = [f"M{number}USD" for number in range(50)]
    rounds = 30

    async with watched_page(browser) as watched:
        page = watched.page
        await page.goto(f"{site.api}/#/chart/sim-binance/BTCUSDT/1m")
        await counted(page, "candles")
        await page.locator("#filter").fill("sim-busy")
        statistics_now = codec.encode(statistics("sim-busy", "M0USD", "100"))
        await site.bus.publish_core((subjects.stats("sim-busy", "M0USD"), statistics_now))
        await expect(page.locator(".market")).to_have_count(1)
        # Every change of a price, and how many animation frames they took.
        await page.evaluate(
            """() => {
                globalThis.changes = 0; globalThis.frames = new Set(); globalThis.frame = 0;
                const count = () => { frame += 1; requestAnimationFrame(count); };
                requestAnimationFrame(count);
                new MutationObserver((list) => { changes += list.length; frames.add(frame); })
                    .observe(document.querySelector("#markets"),
                        { subtree: true, childList: true, characterData: true });
            }"""
        )
        for number in range(1, rounds + 1):
            for symbol in symbols:
                news = codec.encode(statistics("sim-busy", symbol, f"{100 + number}"))
                await site.bus.publish_core((subjects.stats("sim-busy", symbol), news))
            await asyncio.sleep(0.1)  # the pace under test
        await expect(page.locator(".market .last")).to_have_text(
            [str(100 + rounds)] * len(symbols), timeout=WAIT_MS
        )
        changes, frames, all_frames = await page.evaluate("() => [changes, frames.size, frame]")
        assert changes > len(symbols), "prices moved"
        assert frames <= all_frames
        assert changes / frames > 5, "many prices share a frame"


async def fulfil(content: bytes, route: Route) -> None:
    await route.fulfill(body=content, headers=CDN_HEADERS)


async def test_the_library_may_come_from_its_public_address(browser: Browser) -> None:
    files = {name: each for name, each in load().items() if name != charts.LOCAL_NAME}
    library = install.TARGET.read_bytes()
    app = Starlette(routes=dashboard_routes(PushAddress(port=1), files))
    server = WebServer(app, listen("api.port", "127.0.0.1", 0))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.run())
        for content, is_accepted in ((library, True), (library + b" ", False)):
            context = await browser.new_context()
            page = await context.new_page()
            await page.route(
                charts.ADDRESS,
                functools.partial(fulfil, content),
            )
            await page.goto(f"http://127.0.0.1:{server.port}/")
            notice = page.locator('[data-notice="library"]')
            await expect(notice).to_have_count(0 if is_accepted else 1)
            there = await page.evaluate("() => typeof LightweightCharts")
            assert there == ("object" if is_accepted else "undefined")
            await context.close()
        server.stop()
