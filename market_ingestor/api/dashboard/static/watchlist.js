// The list of markets: last price, change over a day, feed state, and the last hour as a line.

import { byId, element, setText } from "./dom.js";
import { direction, grouped, percent } from "./format.js";
import { Sparklines } from "./sparklines.js";

const FEED_WORDS = { up: "feed up", stale: "feed stale", pending: "feed pending", down: "feed down" };

export class Watchlist {
  #book;
  #frame;
  #rows = new Map();
  #list = byId("markets");
  #filter = byId("filter");
  #current = null;
  #dirty = new Set();
  #sparklines;

  constructor(book, rest, frame, onchoose) {
    this.#book = book;
    this.#frame = frame;
    this.#sparklines = new Sparklines(rest, (key) => this.#mark(key));
    book.listen((market) => (market === null ? this.#layOutSoon() : this.#mark(market.key)));
    this.#filter.addEventListener("input", () => this.#layOutSoon());
    this.#list.addEventListener("click", ({ target }) => {
      const key = target.closest(".market")?.dataset.key;
      if (key) onchoose(...key.split("/"));
    });
    this.#list.addEventListener("keydown", (event) => this.#move(event));
    addEventListener("keydown", (event) => this.#focusFilter(event));
    this.#layOutSoon();
  }

  /** Show which market the chart is of. */
  select(exchange, symbol) {
    this.#current = exchange && symbol ? `${exchange}/${symbol}` : null;
    for (const [key, row] of this.#rows) row.button.setAttribute("aria-current", key === this.#current);
  }

  #mark(key) {
    this.#dirty.add(key);
    this.#frame.request("watchlist", () => this.#draw());
  }

  #layOutSoon() {
    this.#frame.request("watchlist layout", () => this.#layOut());
  }

  #layOut() {
    const wanted = this.#filter.value.trim().toLowerCase();
    const markets = this.#book.markets.filter((each) => each.key.toLowerCase().includes(wanted));
    // What runs comes first, what is only recorded below.
    markets.sort((one, other) => (one.feed === null) - (other.feed === null));
    const items = markets.map((market) => this.#row(market).item);
    const shown = [...this.#list.children];
    if (items.length !== shown.length || items.some((item, at) => item !== shown[at])) {
      this.#list.replaceChildren(...items);
    }
    if (items.length === 0) {
      this.#list.replaceChildren(element("li", { className: "empty", text: wanted ? "No such market" : "No market yet" }));
    }
    for (const market of markets) this.#drawRow(market);
  }

  #row(market) {
    let row = this.#rows.get(market.key);
    if (row !== undefined) return row;
    const dot = element("span", { className: "dot" });
    const venue = element("span", { className: "venue", text: market.exchange });
    const last = element("span", { className: "last" });
    const change = element("span", { className: "change" });
    const line = this.#sparklines.line(market);
    const button = element("button", {
      type: "button", className: "market", data: { key: market.key },
      aria: { current: market.key === this.#current },
    }, dot, element("span", { className: "name", text: market.symbol }), venue, line, last, change);
    row = { item: element("li", {}, button), button, dot, last, change };
    this.#rows.set(market.key, row);
    return row;
  }

  #draw() {
    for (const key of this.#dirty) {
      const [exchange, symbol] = key.split("/");
      const market = this.#book.find(exchange, symbol);
      if (market !== null && this.#rows.has(key)) this.#drawRow(market);
    }
    this.#dirty.clear();
  }

  #drawRow(market) {
    const { button, dot, last, change } = this.#rows.get(market.key);
    const feed = market.feed ?? "none";
    if (dot.dataset.feed !== feed) {
      dot.dataset.feed = feed;
      dot.title = FEED_WORDS[feed] ?? "no feed";
      button.setAttribute("aria-description", dot.title);
      button.classList.toggle("silent", market.feed === null);
    }
    setText(last, grouped(market.last));
    setText(change, percent(market.change));
    const tick = market.tick > 0 ? "up" : market.tick < 0 ? "down" : "";
    if (last.className !== `last ${tick}`) last.className = `last ${tick}`;
    const way = `change ${direction(market.change)}`;
    if (change.className !== way) change.className = way;
    this.#sparklines.draw(market);
  }

  #move(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step === undefined) return;
    const buttons = [...this.#list.querySelectorAll(".market")];
    const at = buttons.indexOf(document.activeElement);
    buttons[Math.max(0, Math.min(buttons.length - 1, at + step))]?.focus();
    event.preventDefault();
  }

  #focusFilter(event) {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.matches("input, select, textarea")) return;
    event.preventDefault();
    this.#filter.focus();
  }
}
