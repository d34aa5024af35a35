// One symbol on several exchanges: candles side by side, prices against each other, the spread.

import { CandleChart } from "./candle_chart.js";
import { element, row, segment, setText, table } from "./dom.js";
import { compact, grouped, percent, places } from "./format.js";
import { PERIOD_MS } from "./periods.js";
import { spreadOf } from "./spread.js";
import { SpreadChart } from "./spread_chart.js";

const HEADINGS = ["Exchange", "Last", "Above the cheapest", "VWAP 1m", "VWAP 5m", "Volume 5m", "Change 24h", "Feed"];

export class ComparisonView {
  #frame;
  #feeds;
  #book;
  #onroute;
  #parts = {};
  #venues = []; // { market, feed, chart }
  #spread = null;
  #place = null;

  constructor(section, { frame, feeds, book, onroute }) {
    this.#frame = frame;
    this.#feeds = feeds;
    this.#book = book;
    this.#onroute = onroute;
    this.#build(section);
    book.listen((market) => this.#changed(market));
  }

  show(place) {
    this.hide();
    this.#place = place;
    for (const input of this.#parts.periods.querySelectorAll("input")) input.checked = input.value === place.period;
    this.#spread = new SpreadChart(this.#parts.spread, this.#frame);
    this.#layOut();
  }

  hide() {
    for (const venue of this.#venues) {
      venue.chart.destroy();
      this.#feeds.release(venue.feed);
    }
    this.#venues = [];
    this.#parts.venues.replaceChildren();
    this.#spread?.destroy();
    this.#spread = null;
    this.#place = null;
  }

  repaint() {
    for (const { chart } of this.#venues) chart.repaint();
    this.#spread?.repaint();
  }

  #build(section) {
    const parts = this.#parts;
    parts.symbol = element("select", { aria: { label: "Symbol" }, onchange: () => this.#choose() });
    parts.periods = segment("Period", "radio", "compare-period",
      Object.keys(PERIOD_MS).map((value) => ({ value, text: value })), () => this.#choose());
    parts.figure = element("span", { className: "price", id: "spread" });
    parts.words = element("span", { className: "muted" });
    parts.venues = element("div", { className: "venues" });
    parts.spread = element("div", { className: "surface", role: "img", aria: { label: "Spread over time" } });
    parts.table = element("div", { id: "comparison" });
    section.append(
      element("div", { className: "panel" },
        element("header", { className: "toolbar" },
          element("div", { className: "headline" }, parts.symbol, parts.figure, parts.words), parts.periods),
        parts.table),
      parts.venues,
      element("div", { className: "panel spread" },
        element("header", {}, element("h2", { text: "Distance from the mean price, and spread" }),
          element("span", { className: "muted", text: "closes of the same window, bps = hundredths of a per cent" })),
        element("div", { className: "canvas" }, parts.spread)));
  }

  #choose() {
    const period = this.#parts.periods.querySelector("input:checked")?.value ?? this.#place.period;
    this.#onroute({ view: "compare", symbol: this.#parts.symbol.value, period });
  }

  /** Show an exchange for each market of the symbol; called again when markets come. */
  #layOut() {
    const { symbol, period } = this.#place;
    const wanted = this.#book.markets.filter((each) => each.symbol === symbol);
    for (const market of wanted) {
      if (this.#venues.some((each) => each.market === market)) continue;
      const surface = element("div", { className: "surface", tabIndex: 0, role: "img",
        aria: { label: `Candles of ${symbol} on ${market.exchange}` } });
      const count = element("span", { className: "muted number" });
      const panel = element("div", { className: "panel" },
        element("header", {}, element("h2", { text: market.exchange }), count),
        element("div", { className: "canvas", data: { exchange: market.exchange } }, surface));
      this.#parts.venues.append(panel);
      const feed = this.#feeds.take({ exchange: market.exchange, symbol, period });
      const chart = new CandleChart(surface, this.#frame, {
        hasWatermark: false, ondraw: (list) => this.#drawn(count, surface, list),
        onhover: (_, move) => move.sourceEvent && this.#pointOthers(chart, move.time),
      });
      chart.show(feed);
      this.#venues.push({ market, feed, chart });
    }
    const symbols = [...new Set(this.#book.markets.map((each) => each.symbol))].sort();
    const { symbol: select } = this.#parts;
    if (select.options.length !== symbols.length) {
      select.replaceChildren(...symbols.map((value) => element("option", { value, text: value })));
    }
    select.value = symbol;
    this.#drawTable();
  }

  #pointOthers(from, time) {
    for (const { chart } of this.#venues) if (chart !== from) chart.pointAt(time);
  }

  #drawn(count, surface, list) {
    surface.parentElement.dataset.candles = list.length;
    const last = list.at(-1);
    setText(count, last ? `${grouped(last.close)} · vol ${compact(last.volume)}` : "no candle yet");
    this.#frame.request("spread", () => this.#spread?.draw(this.#venues.map(({ market, feed }) => (
      { name: market.exchange, candles: feed.store.candles }))));
  }

  #changed(market) {
    if (this.#place === null) return;
    if (market === null) this.#frame.request("comparison", () => this.#place && this.#layOut());
    else if (market.symbol === this.#place.symbol) this.#frame.request("comparison table", () => this.#place && this.#drawTable());
  }

  #drawTable() {
    const markets = this.#venues.map((each) => each.market);
    const priced = markets.filter((each) => each.last !== null && each.feed !== null);
    const spread = spreadOf(priced.map((each) => Number(each.last)));
    const digits = Math.max(0, ...markets.map((each) => each.digits ?? 0));
    setText(this.#parts.figure, spread === null ? "–" : `${spread.bps.toFixed(2)} bps`);
    setText(this.#parts.words, spread === null
      ? "one exchange only: nothing to compare"
      : `spread ${places(spread.difference, digits)} between ${priced.length} exchanges`);
    const rows = markets.map((market) => {
      const { stats } = market;
      const above = spread === null || !priced.includes(market) ? null : ((Number(market.last) - spread.least) / spread.least) * 1e4;
      return row([
        market.exchange, [grouped(market.last), market.tick > 0 ? "up" : market.tick < 0 ? "down" : ""],
        above === null ? "–" : above < 0.005 ? "cheapest" : `+${above.toFixed(2)} bps`,
        places(stats?.windows["1m"].vwap, digits), places(stats?.windows["5m"].vwap, digits),
        stats ? compact(stats.windows["5m"].volume) : "–", percent(market.change), market.feed ?? "none",
      ]);
    });
    const body = this.#parts.table.querySelector("tbody");
    if (body === null) this.#parts.table.replaceChildren(table("Prices by exchange", HEADINGS, rows));
    else body.replaceChildren(...rows);
  }
}
