// Puts the page together and follows its address.

import { CandleFeeds } from "./candle_feed.js";
import library from "./charts.js";
import { ChartView } from "./chart_view.js";
import { ComparisonView } from "./comparison_view.js";
import { ConnectionSign } from "./connection_sign.js";
import { byId } from "./dom.js";
import { FrameBatcher } from "./frame.js";
import { HealthView } from "./health_view.js";
import { MarketBook } from "./market_book.js";
import { notify, withdraw } from "./notices.js";
import { PushClient } from "./push_client.js";
import { RestClient } from "./rest_client.js";
import * as route from "./route.js";
import { Theme } from "./theme.js";
import { Watchlist } from "./watchlist.js";

const MODE_MS = 10_000;

function pushUrl() {
  const given = document.querySelector('meta[name="push-url"]').content;
  return location.protocol === "https:" ? given.replace(/^ws:/, "wss:") : given;
}

class Page {
  #views;
  #shown = null;
  #period = "1m";

  constructor() {
    const frame = new FrameBatcher();
    this.rest = new RestClient();
    const push = new PushClient(pushUrl());
    this.book = new MarketBook(this.rest, push);
    const feeds = new CandleFeeds(this.rest, push);
    const shared = { frame, feeds, book: this.book, rest: this.rest, onroute: (place) => this.go(place) };
    this.watchlist = new Watchlist(this.book, this.rest, frame, (exchange, symbol) => {
      this.go(this.#shown?.view === "compare"
        ? { view: "compare", symbol, period: this.#period } : { view: "chart", exchange, symbol, period: this.#period });
    });
    this.#views = {
      chart: new ChartView(byId("chart-view"), shared),
      compare: new ComparisonView(byId("compare-view"), shared),
      health: new HealthView(byId("health-view"), shared),
    };
    new Theme(byId("theme")).addEventListener("change", () => {
      for (const view of Object.values(this.#views)) view.repaint();
    });
    this.book.listenToEvents((event) => event.type.startsWith("gap_") && feeds.noteGap(event.exchange, event.symbol));
    this.book.listen((market) => market === null && this.#shown === null && this.follow());
    addEventListener("hashchange", () => this.follow());
    new ConnectionSign(push);
    this.follow();
    this.#lookAtMode();
  }

  /** Go to a place; the address follows. */
  go(place) {
    const address = route.format(place);
    if (location.hash === address) this.follow();
    else location.hash = address;
  }

  /** Show what the address says, or the first market there is. */
  follow() {
    const wanted = route.parse(location.hash);
    this.#period = wanted.period ?? this.#period;
    const place = this.#completed({ ...wanted, period: this.#period });
    this.#mark(wanted.view);
    if (place === null) return; // no market is known yet; comes again when one is
    if (this.#shown !== null) this.#views[this.#shown.view].hide();
    this.#shown = place;
    this.#views[place.view].show(place);
    this.watchlist.select(place.exchange, place.symbol);
    document.title = place.symbol ? `${place.symbol} · market-ingestor` : "market-ingestor";
  }

  #completed(place) {
    if (place.view === "health") return place;
    const markets = this.book.markets;
    const carried = markets.filter((each) => each.feed !== null);
    const first = carried.find((each) => each.symbol.startsWith("BTC")) ?? carried[0] ?? markets[0];
    if ((place.symbol ?? this.#shown?.symbol ?? null) === null && !this.book.isListed) return null;
    const symbol = place.symbol ?? this.#shown?.symbol ?? first?.symbol;
    if (symbol === undefined) return null;
    if (place.view === "compare") return { ...place, symbol };
    const exchange = place.exchange ?? this.#shown?.exchange
      ?? carried.find((each) => each.symbol === symbol)?.exchange ?? first?.exchange;
    return exchange === undefined ? null : { ...place, exchange, symbol };
  }

  #mark(view) {
    for (const name of Object.keys(this.#views)) byId(`${name}-view`).hidden = name !== view;
    for (const link of document.querySelectorAll("#views a")) {
      if (link.dataset.view === view) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    byId("simulated").dataset.view = view;
  }

  async #lookAtMode() {
    try {
      const { mode } = await this.rest.data("api/v1/info");
      byId("simulated").hidden = mode !== "test" && !this.#shown?.exchange?.startsWith("sim-");
      withdraw("api");
    } catch (problem) {
      notify("api", `The API cannot answer: ${problem.message}`, { isBad: true });
    }
    setTimeout(() => this.#lookAtMode(), MODE_MS);
  }
}

if (library === null) {
  notify("library", "The chart library could not be loaded. Run the set-up (./cmd/api does) or allow its public address.", { isBad: true });
} else {
  new Page();
}
