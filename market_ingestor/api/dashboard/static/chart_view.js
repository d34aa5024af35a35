// The view of one market: what to show, the chart, its legend, live statistics, candles as a table.

import { CandleChart } from "./candle_chart.js";
import { element, row, segment, setText, table } from "./dom.js";
import { clock, compact, direction, grouped, percent, places, stamp } from "./format.js";
import { LEVELS, OVERLAYS } from "./overlays.js";
import { PERIOD_MS } from "./periods.js";

const TABLE_ROWS = 30;
const SHOWN_AT_FIRST = new Set(["sma7", "sma25", "window"]);
const LABEL_MS = 5_000; // between two changes of what screen readers are told
const HEADINGS = ["Opens (UTC)", "Open", "High", "Low", "Close", "Volume", "Trades", "State", "Revision"];

export class ChartView {
  #section;
  #frame;
  #feeds;
  #book;
  #chart;
  #feed = null;
  #market = null;
  #parts = {};
  #onroute;
  #hovered = null;
  #labelledAt = 0;

  constructor(section, { frame, feeds, book, onroute }) {
    this.#section = section;
    this.#frame = frame;
    this.#feeds = feeds;
    this.#book = book;
    this.#onroute = onroute;
    this.#build();
    this.#chart = new CandleChart(this.#parts.surface, frame, {
      onhover: (candle) => this.#hover(candle), ondraw: (list) => this.#drawn(list),
    });
    for (const name of SHOWN_AT_FIRST) this.#chart.toggle(name, true);
    book.listen((market) => this.#changed(market));
  }

  /** Show a market. */
  show({ exchange, symbol, period }) {
    this.hide();
    this.#feed = this.#feeds.take({ exchange, symbol, period });
    this.#market = this.#book.find(exchange, symbol);
    this.#hovered = null;
    this.#chart.show(this.#feed);
    this.#fillChoices();
    for (const input of this.#parts.periods.querySelectorAll("input")) input.checked = input.value === period;
    this.#drawStats();
  }

  /** Let go of the series; the view is not seen. */
  hide() {
    this.#chart.leave();
    if (this.#feed !== null) this.#feeds.release(this.#feed);
    this.#feed = null;
  }

  repaint() {
    this.#chart.repaint();
    if (this.#feed !== null) this.#drawStats();
  }

  // -- building

  #build() {
    const parts = this.#parts;
    parts.exchange = element("select", { aria: { label: "Exchange" }, onchange: () => this.#chooseExchange() });
    parts.symbol = element("select", { aria: { label: "Symbol" }, onchange: () => this.#choose() });
    parts.price = element("span", { className: "price" });
    parts.change = element("span", { className: "change" });
    parts.feed = element("span", { className: "muted" });
    parts.periods = segment("Period", "radio", "period",
      Object.keys(PERIOD_MS).map((value) => ({ value, text: value })), () => this.#choose());
    parts.overlays = segment("Overlays", "checkbox", "overlay",
      Object.entries({ ...OVERLAYS, ...LEVELS }).map(([value, { text, title }]) => (
        { value, text, title, checked: SHOWN_AT_FIRST.has(value), swatch: value }
      )), ({ target }) => this.#chart.toggle(target.value, target.checked));
    parts.surface = element("div", { className: "surface", tabIndex: 0, role: "img", aria: { label: "Candles" } });
    parts.legend = element("div", { className: "legend" });
    parts.state = element("div", { className: "chart-state", text: "Loading" });
    parts.canvas = element("div", { className: "canvas", id: "candles" }, parts.surface, parts.legend, parts.state);
    parts.cards = element("div", { className: "cards", id: "statistics" });
    parts.table = element("div");
    parts.details = element("details", { id: "candle-table", ontoggle: () => this.#drawTable() },
      element("summary", { text: "Newest candles as a table" }), parts.table);
    this.#section.append(
      element("div", { className: "panel chart-panel" },
        element("header", { className: "toolbar" },
          element("div", { className: "headline" }, parts.exchange, parts.symbol, parts.price, parts.change, parts.feed),
          parts.periods, parts.overlays),
        parts.canvas, this.#key()),
      parts.cards,
      element("div", { className: "panel" }, parts.details));
  }

  #key() {
    return element("div", { className: "key" },
      element("span", { className: "incomplete", text: "incomplete" }),
      element("span", { className: "revised", text: "revised" }),
      element("span", { className: "hole", text: "trades missing" }),
      element("span", { className: "repaired", text: "refilled" }),
      element("button", { type: "button", className: "quiet", text: "Newest", title: "Go to the newest candle (End)",
        onclick: () => this.#chart.toNewest() }));
  }

  // -- choosing

  #fillChoices() {
    const { exchange, symbol } = this.#feed;
    const markets = this.#book.markets;
    const exchanges = [...new Set([...markets.map((each) => each.exchange), exchange])].sort();
    const symbols = [...new Set([
      ...markets.filter((each) => each.exchange === exchange).map((each) => each.symbol), symbol])].sort();
    fill(this.#parts.exchange, exchanges, exchange);
    fill(this.#parts.symbol, symbols, symbol);
  }

  #chooseExchange() {
    const exchange = this.#parts.exchange.value;
    const there = this.#book.markets.filter((each) => each.exchange === exchange).map((each) => each.symbol);
    const base = this.#feed.symbol.slice(0, 3);
    const symbol = there.find((each) => each === this.#feed.symbol)
      ?? there.find((each) => each.startsWith(base)) ?? there[0] ?? this.#feed.symbol;
    this.#onroute({ view: "chart", exchange, symbol, period: this.#feed.period });
  }

  #choose() {
    const period = this.#parts.periods.querySelector("input:checked")?.value ?? this.#feed.period;
    this.#onroute({ view: "chart", exchange: this.#feed.exchange, symbol: this.#parts.symbol.value, period });
  }

  // -- drawing

  #changed(market) {
    if (this.#feed === null) return;
    if (market === null) {
      this.#market = this.#book.find(this.#feed.exchange, this.#feed.symbol);
      this.#frame.request("choices", () => this.#feed && this.#fillChoices());
    } else if (market.exchange !== this.#feed.exchange || market.symbol !== this.#feed.symbol) {
      return;
    }
    this.#market = this.#book.find(this.#feed.exchange, this.#feed.symbol);
    this.#frame.request("statistics", () => this.#feed && this.#drawStats());
  }

  #drawStats() {
    const { price, change, feed, cards } = this.#parts;
    const market = this.#market;
    const stats = market?.stats ?? null;
    setText(price, stats ? grouped(stats.last_price) : "");
    price.className = `price ${market?.tick > 0 ? "up" : market?.tick < 0 ? "down" : ""}`;
    setText(change, stats ? `${percent(market.change)} 24h` : "");
    change.className = `change ${direction(market?.change)}`;
    setText(feed, market === null || market.feed === "up" ? "" : market.feed === null ? "not carried now" : `feed ${market.feed}`);
    cards.hidden = stats === null;
    if (stats === null) return;
    this.#chart.level(stats);
    this.#drawCards(cards, stats, market.digits ?? 2);
  }

  #drawCards(cards, stats, digits) {
    const windows = Object.entries(stats.windows).map(([name, each]) => [
      `Last ${name}`, places(each.vwap, digits),
      each.trade_count ? `avg ${places(each.average, digits)} · ${places(each.low, digits)}–${places(each.high, digits)}` : "no trade",
      `${compact(each.volume)} in ${each.trade_count} trades`,
    ]);
    const averages = Object.entries(stats.sma.values).map(([count, value]) => `${count}: ${places(value, digits)}`);
    const all = [
      ...windows.map(([title, vwap, ...rest]) => [`${title} · VWAP`, vwap, ...rest]),
      [`Averages of ${stats.sma.period} closes`, averages[0], ...averages.slice(1)],
      ["Volatility", stats.volatility.value === null ? "–" : `${(stats.volatility.value * 100).toFixed(4)}%`,
        `of ${stats.volatility.n} ${stats.volatility.period} returns`,
        `VWAP of ${stats.vwap_ticks.n} trades: ${places(stats.vwap_ticks.value, digits)}`],
      ["24 hours · volume", compact(stats.day.volume),
        `${grouped(stats.day.low)} – ${grouped(stats.day.high)}`, `${grouped(stats.day.trade_count)} trades`],
    ];
    if (cards.childElementCount !== all.length) {
      cards.replaceChildren(...all.map(() => element("div", { className: "panel card" },
        element("h2"), element("div", { className: "figure" }), element("div", { className: "sub" }),
        element("div", { className: "sub" }))));
    }
    all.forEach((texts, at) => texts.forEach((text, line) => setText(cards.children[at].children[line], text ?? "–")));
  }

  #drawn(list) {
    const { canvas, state } = this.#parts;
    const feed = this.#feed;
    if (feed === null) return;
    Object.assign(canvas.dataset, {
      candles: list.length, revised: list.filter((each) => each.revision > 1).length,
      incomplete: list.filter((each) => each.closed && !each.complete).length, gaps: feed.gaps.length,
    });
    state.hidden = list.length > 0;
    if (list.length === 0) {
      setText(state, feed.problem ?? (feed.isLoaded ? "No candle yet: the first trade makes one" : "Loading"));
    }
    this.#drawLegend(this.#hovered === null ? list.at(-1) : feed.store.get(this.#hovered));
    this.#label(list.at(-1));
    if (this.#parts.details.open) this.#frame.request("candle table", () => this.#drawTable());
  }

  #hover(candle) {
    this.#hovered = candle?.open_time ?? null;
    this.#frame.request("legend", () => this.#drawLegend(candle ?? this.#feed?.store.candles.at(-1)));
  }

  #drawLegend(candle) {
    if (!candle) {
      this.#parts.legend.replaceChildren();
      return;
    }
    const way = Number(candle.close) >= Number(candle.open) ? "up" : "down";
    const figures = [["O", candle.open], ["H", candle.high], ["L", candle.low], ["C", candle.close]].map(
      ([name, value]) => element("span", { className: way }, element("i", { text: name }), grouped(value)));
    const words = [element("b", { text: stamp(candle.open_time) }), ...figures,
      element("span", {}, element("i", { text: "Vol" }), compact(candle.volume)),
      element("span", {}, element("i", { text: "Trades" }), grouped(candle.trade_count))];
    const state = stateOf(candle);
    if (state) words.push(element("span", { className: candle.complete ? "muted" : "warn", text: state }));
    this.#parts.legend.replaceChildren(...words);
  }

  #label(candle) {
    const now = Date.now();
    if (!candle || now - this.#labelledAt < LABEL_MS) return;
    this.#labelledAt = now;
    const { exchange, symbol, period } = this.#feed;
    this.#parts.surface.setAttribute("aria-label",
      `Candles of ${symbol} on ${exchange}, ${period}. Newest at ${clock(candle.open_time)}: close ${candle.close}. `
      + "Arrow keys scroll, plus and minus zoom, End goes to the newest.");
  }

  #drawTable() {
    const { details, table: place } = this.#parts;
    if (!details.open || this.#feed === null) return;
    const newest = this.#feed.store.candles.slice(-TABLE_ROWS).reverse();
    const rows = newest.map((each) => {
      const line = row([
        stamp(each.open_time), grouped(each.open), grouped(each.high), grouped(each.low), grouped(each.close),
        grouped(each.volume), grouped(each.trade_count), each.closed ? (each.complete ? "complete" : "incomplete") : "open",
        each.revision > 1 ? `${each.revision} (${each.reason})` : String(each.revision),
      ], each.closed && !each.complete ? "incomplete" : "");
      line.dataset.openTime = each.open_time;
      return line;
    });
    place.replaceChildren(table("Newest candles", HEADINGS, rows));
  }
}

function stateOf(candle) {
  const words = [];
  if (!candle.closed) words.push("open");
  else if (!candle.complete) words.push("incomplete");
  if (candle.revision > 1) words.push(`revision ${candle.revision} (${candle.reason})`);
  return words.join(" · ");
}

function fill(select, values, chosen) {
  if (document.activeElement === select && select.value === chosen) return; // somebody is choosing
  const present = [...select.options].map((each) => each.value);
  if (present.length !== values.length || values.some((value, at) => value !== present[at])) {
    select.replaceChildren(...values.map((value) => element("option", { value, text: value })));
  }
  select.value = chosen;
}
