// What is known of every market: newest statistics, feed state, how prices are written.

import { fractionDigits } from "./format.js";

const LISTS_MS = 10_000; // between two looks at what is carried
const SOON_MS = 300; // after a feed changed

export class Market {
  constructor(exchange, symbol) {
    this.exchange = exchange;
    this.symbol = symbol;
    this.key = `${exchange}/${symbol}`;
    this.stats = null;
    this.feed = null; // up, stale, pending, down, or null: nobody carries it
    this.isSimulated = exchange.startsWith("sim-");
    this.digits = null; // behind the point of its prices
    this.isListed = false; // by REST, which can be asked about it then
    this.tick = 0; // direction of the last change of price
  }

  /** Newest price as text, null before the first. */
  get last() {
    return this.stats?.last_price ?? null;
  }

  /** Change over a day in per cent, null when unknown. */
  get change() {
    return this.stats?.day.change_percent ?? null;
  }
}

export class MarketBook {
  #rest;
  #listeners = new Set();
  #markets = new Map();
  #timer = null;
  #events = new Set();
  #isListed = false;

  constructor(rest, push) {
    this.#rest = rest;
    push.follow("stats.*.*", { take: ({ data }) => this.#takeStats(data), ready: () => this.#soon(0) });
    push.follow("event.*.*", { take: ({ data }) => this.#takeEvent(data) });
    this.#soon(0);
  }

  /** Every market, by exchange and symbol. */
  get markets() {
    return [...this.#markets.values()].sort((one, other) => (one.key < other.key ? -1 : 1));
  }

  /** Whether it is known what there is; before that, only what happened to move. */
  get isListed() {
    return this.#isListed;
  }

  find(exchange, symbol) {
    return this.#markets.get(`${exchange}/${symbol}`) ?? null;
  }

  /** Have `listener(market)` called when one changes, with null when markets came or their feeds changed. */
  listen(listener) {
    this.#listeners.add(listener);
  }

  /** Have `listener(event)` called for every event of a feed or a hole. */
  listenToEvents(listener) {
    this.#events.add(listener);
  }

  #market(exchange, symbol) {
    const key = `${exchange}/${symbol}`;
    let market = this.#markets.get(key);
    if (market === undefined) {
      market = new Market(exchange, symbol);
      this.#markets.set(key, market);
      this.#tell(null);
    }
    return market;
  }

  #tell(market) {
    for (const listener of this.#listeners) listener(market);
  }

  #takeStats(stats) {
    const market = this.#market(stats.exchange, stats.symbol);
    const before = market.last;
    market.stats = stats;
    market.digits ??= fractionDigits(stats.last_price);
    if (before !== null && before !== stats.last_price) {
      market.tick = Number(stats.last_price) > Number(before) ? 1 : -1;
    }
    this.#tell(market);
  }

  #takeEvent(event) {
    if (event.type.startsWith("feed_")) this.#soon(SOON_MS);
    for (const listener of this.#events) listener(event);
  }

  #soon(ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#readLists(), ms);
  }

  async #readLists() {
    try {
      const [symbols, carried] = await Promise.all([
        this.#rest.data("api/v1/symbols"), this.#rest.data("api/v1/subscriptions"),
      ]);
      const feeds = new Map(carried.data.map((each) => [`${each.exchange}/${each.symbol}`, each.feed]));
      for (const each of symbols.available) {
        const key = `${each.exchange}/${each.symbol}`;
        // A feed that no ingest process reports, but that is heard.
        if (each.feed === "up" && !feeds.get(key)) feeds.set(key, "up");
        const market = this.#market(each.exchange, each.symbol);
        market.isListed = true;
        if (each.price_step !== null) market.digits = fractionDigits(each.price_step);
      }
      for (const each of carried.data) this.#market(each.exchange, each.symbol);
      for (const market of this.#markets.values()) market.feed = feeds.get(market.key) ?? null;
      this.#isListed = true;
      this.#tell(null);
    } catch {
      // the connection's own state says that something is wrong; the next look comes
    }
    this.#soon(LISTS_MS);
  }
}
