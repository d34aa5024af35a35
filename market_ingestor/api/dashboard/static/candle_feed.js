// One series of candles: history over REST and what changes over push, without a hole between.
//
// The topic is subscribed first; only when the gateway has confirmed it is history loaded, and both
// meet in the store, where the newest version of a window stays. The API reads the same stream as the
// gateway and may be a moment behind it, and holes are rows of the database, later still: the newest
// candles and the holes are asked for once more a little later.

import { Backoff } from "./backoff.js";
import { CandleStore } from "./candle_store.js";

const PAGE = 500;
const NEWEST = 100;
const SETTLED_MS = 3_000;
const SETTLED_MAX_MS = 24_000; // doubled until then, while candles lack trades and no hole is known
const GAPS_MAX = 200;
const GAPS_MS = 1_000; // between an event and a look at the holes

export class CandleFeed extends EventTarget {
  #rest;
  #push;
  #stop = null;
  #timers = new Set();
  #backoff = new Backoff({ firstMs: 1_000 });
  #hasOlder = true;
  #isLoadingOlder = false;
  #life = 0;

  constructor(rest, push, { exchange, symbol, period }) {
    super();
    this.#rest = rest;
    this.#push = push;
    this.exchange = exchange;
    this.symbol = symbol;
    this.period = period;
    this.store = new CandleStore();
    this.gaps = [];
    this.problem = null;
    this.isLoaded = false;
    this.changed = new Set(); // opening times since somebody drew
  }

  start() {
    this.#stop = this.#push.follow(`kline.${this.exchange}.${this.symbol}.${this.period}`, {
      take: ({ data }) => this.#take([data]),
      begin: () => this.#begin(),
    });
    // History need not wait for a gateway that is away: it is loaded again once that is back.
    if (this.#push.state.name !== "live") this.#load(this.#life);
  }

  stop() {
    this.#stop?.();
    this.#life += 1;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
  }

  /** Load candles before the oldest one here. */
  async loadOlder() {
    const oldest = this.store.candles[0];
    if (this.#isLoadingOlder || !this.#hasOlder || !this.isLoaded || oldest === undefined) return;
    this.#isLoadingOlder = true;
    const life = this.#life;
    try {
      const page = await this.#page({ to: oldest.open_time, limit: PAGE, order: "desc" });
      if (life !== this.#life) return;
      this.#hasOlder = page.length > 0;
      this.#take(page);
      await this.#loadGaps(life);
    } catch {
      // asked for again when somebody scrolls on
    } finally {
      this.#isLoadingOlder = false;
    }
  }

  /** A hole was found or filled: look at them again. */
  noteGap() {
    const life = this.#life;
    this.#later(GAPS_MS, () => this.#loadGaps(life));
  }

  #begin() {
    this.#life += 1;
    this.#hasOlder = true;
    this.#load(this.#life);
  }

  async #load(life) {
    try {
      const page = await this.#page({ limit: PAGE, open: true });
      if (life !== this.#life) return;
      if (this.#leavesHole(page)) this.store.clear();
      this.#backoff.reset();
      this.problem = null;
      this.isLoaded = true;
      this.#take(page);
      this.#later(SETTLED_MS, () => this.#settle(life, SETTLED_MS));
      await this.#loadGaps(life);
    } catch (problem) {
      if (life !== this.#life) return;
      this.problem = problem.message;
      this.#announce();
      this.#later(this.#backoff.next(), () => this.#load(life));
    }
  }

  async #settle(life, waitedMs) {
    if (life !== this.#life) return;
    const page = await this.#page({ limit: NEWEST, open: true }).catch(() => []);
    if (life !== this.#life) return;
    this.#take(page);
    await this.#loadGaps(life);
    const again = 2 * waitedMs;
    if (again <= SETTLED_MAX_MS && this.#lacksHoles()) this.#later(again, () => this.#settle(life, again));
  }

  #lacksHoles() {
    return this.gaps.length === 0 && this.store.candles.some((each) => each.closed && !each.complete);
  }

  async #loadGaps(life) {
    const from = this.store.candles[0]?.open_time;
    try {
      const { data } = await this.#rest.data("api/v1/gaps", {
        exchange: this.exchange, symbol: this.symbol, from, limit: GAPS_MAX,
      });
      if (life !== this.#life) return;
      this.gaps = data;
      this.#announce();
    } catch {
      // the candles themselves say whether they are complete
    }
  }

  async #page(query) {
    const { exchange, symbol, period } = this;
    return (await this.#rest.data("api/v1/klines", { exchange, symbol, period, ...query })).data;
  }

  /** Whether a page does not reach back to what is here: we were away for longer than it covers. */
  #leavesHole(page) {
    const known = this.store.candles;
    return page.length >= PAGE && known.length > 0 && page[0].open_time > known[known.length - 1].open_time;
  }

  #take(candles) {
    let count = 0;
    for (const candle of candles) {
      if (!this.store.apply(candle)) continue;
      this.changed.add(candle.open_time);
      count += 1;
    }
    if (count > 0 || !candles.length) this.#announce();
  }

  #later(ms, work) {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      work();
    }, ms);
    this.#timers.add(timer);
  }

  #announce() {
    this.dispatchEvent(new Event("change"));
  }
}

/** Shares feeds between views: one per series, as long as somebody wants it. */
export class CandleFeeds {
  #rest;
  #push;
  #feeds = new Map();

  constructor(rest, push) {
    this.#rest = rest;
    this.#push = push;
  }

  take({ exchange, symbol, period }) {
    const key = `${exchange}/${symbol}/${period}`;
    let entry = this.#feeds.get(key);
    if (entry === undefined) {
      entry = { feed: new CandleFeed(this.#rest, this.#push, { exchange, symbol, period }), users: 0, key };
      this.#feeds.set(key, entry);
      entry.feed.start();
    }
    entry.users += 1;
    return entry.feed;
  }

  release(feed) {
    const key = `${feed.exchange}/${feed.symbol}/${feed.period}`;
    const entry = this.#feeds.get(key);
    if (entry?.feed !== feed) return;
    entry.users -= 1;
    if (entry.users > 0) return;
    this.#feeds.delete(key);
    feed.stop();
  }

  /** Tell the feeds of an instrument that something is known of a hole. */
  noteGap(exchange, symbol) {
    for (const { feed } of this.#feeds.values()) {
      if (feed.exchange === exchange && feed.symbol === symbol) feed.noteGap();
    }
  }
}
