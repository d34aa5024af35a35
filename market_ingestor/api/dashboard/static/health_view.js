// How the service is: feeds, lag, queues, holes, and whether every trade is accounted for.
//
// From /health and /metrics of the process that serves the API. What another process measures is not
// there, and said to be elsewhere.

import { element, row, setText, table } from "./dom.js";
import { Metrics } from "./exposition.js";
import { bytes, clock, grouped, seconds, stamp } from "./format.js";

const POLL_MS = 2_000;
const GAPS = 25;
const ELSEWHERE = "Measured by the process that does it: see its own port (ingest 9701, klines 9702, save 9703).";

export class HealthView {
  #rest;
  #section;
  #panels = {};
  #timer = null;
  #isShown = false;
  #before = null;

  constructor(section, { rest }) {
    this.#rest = rest;
    this.#section = section;
    this.#build();
  }

  show() {
    this.#isShown = true;
    this.#before = null;
    this.#look();
  }

  hide() {
    this.#isShown = false;
    clearTimeout(this.#timer);
  }

  repaint() { /* no drawing that does not follow the theme by itself */ }

  #build() {
    const panel = (name, title) => {
      const body = element("div", { id: `health-${name}` });
      this.#panels[name] = body;
      return element("div", { className: "panel" }, element("header", {}, element("h2", { text: title })), body);
    };
    this.#panels.status = element("div", { className: "panel", id: "health-status" });
    this.#section.append(
      this.#panels.status,
      panel("account", "Loss account of the running processes"),
      panel("feeds", "Feeds"),
      element("div", { className: "columns" }, panel("lag", "Lag"), panel("queues", "Queues and streams")),
      panel("gaps", "Newest holes"));
  }

  async #look() {
    clearTimeout(this.#timer);
    const [health, text, gaps, info] = await Promise.all([
      this.#rest.json("health").catch((problem) => ({ problem })),
      this.#rest.text("metrics").catch(() => null),
      this.#rest.data("api/v1/gaps", { limit: GAPS }).catch(() => null),
      this.#rest.data("api/v1/info").catch(() => null),
    ]);
    if (!this.#isShown) return;
    const metrics = new Metrics(text ?? "");
    this.#drawStatus(health, info);
    if (!health.problem) {
      this.#drawFeeds(health, metrics);
      this.#drawAccount(metrics);
      this.#drawLag(metrics);
      this.#drawQueues(metrics);
    }
    this.#drawGaps(gaps, metrics);
    this.#before = { metrics, at: performance.now() };
    this.#timer = setTimeout(() => this.#look(), POLL_MS);
  }

  #drawStatus(health, info) {
    const status = health.problem ? "unreachable" : health.status;
    const feed = { ok: "up", degraded: "degraded", starting: "pending" }[status] ?? "down";
    const about = health.problem ? health.problem.message
      : `version ${health.version}, mode ${info?.mode ?? "unknown"}, ${Object.keys(health.roles).join(", ")} in this process`;
    const dependencies = Object.entries(health.dependencies ?? {}).map(([name, state]) => element("span", { className: "number" },
      element("span", { className: "dot", data: { feed: state } }), ` ${name} ${state}`));
    this.#panels.status.dataset.status = status;
    this.#panels.status.replaceChildren(
      element("header", {},
        element("span", { className: "status" }, element("span", { className: "dot", data: { feed } }), status),
        element("span", { className: "muted", text: about }), ...dependencies),
      ...(health.problems?.length ? [element("ul", { className: "problems" },
        ...health.problems.map((text) => element("li", { text })))] : []));
  }

  #drawFeeds(health, metrics) {
    const now = Date.now() / 1000;
    const rows = Object.entries(health.feeds).sort().map(([exchange, feed]) => {
      const labels = { exchange };
      const lastAt = metrics.sum("market_ingestor_feed_last_trade_timestamp_seconds", labels);
      const dot = element("span", {}, element("span", { className: "dot", data: { feed: feed.status } }), ` ${exchange}`);
      const words = [...feed.pending.map((each) => `${each} pending`), ...feed.stale.map((each) => `${each} stale`)];
      return row([
        dot, [feed.status, feed.status === "up" ? "up" : "warn"], feed.symbols,
        rate(this.#rate("market_ingestor_trades_received_total", labels, metrics)),
        seconds(this.#meanLatency(labels, metrics)), lastAt ? `${seconds(Math.max(0, now - lastAt))} ago` : "–",
        metrics.sum("market_ingestor_feed_reconnects_total", labels), words.join(", ") || "–",
      ]);
    });
    this.#panels.feeds.replaceChildren(rows.length ? table("Feeds",
      ["Exchange", "State", "Symbols", "Trades/s", "Venue to bus", "Last trade", "Reconnects", "Waiting"], rows)
      : element("p", { className: "hint", text: "No ingest process reports." }));
  }

  #rate(name, labels, metrics) {
    const now = metrics.sum(name, labels);
    const before = this.#before?.metrics.sum(name, labels);
    if (now === null || before === null || before === undefined) return null;
    return Math.max(0, now - before) / ((performance.now() - this.#before.at) / 1000);
  }

  /** Mean time from a trade to its acknowledgement, of batches since the last look. */
  #meanLatency(labels, metrics) {
    const since = (name) => metrics.sum(name, labels) - (this.#before?.metrics.sum(name, labels) ?? 0);
    const count = since("ingest_latency_seconds_count");
    return count > 0 ? since("ingest_latency_seconds_sum") / count : Number.NaN;
  }

  #drawAccount(metrics) {
    const place = this.#panels.account;
    const name = (word) => `market_ingestor_trades_${word}`;
    if (!metrics.has(name("received_total"))) {
      place.replaceChildren(element("p", { className: "hint", text: ELSEWHERE }));
      return;
    }
    const [received, published, duplicate, rejected] = ["received", "published", "duplicate", "rejected"].map(
      (word) => metrics.sum(name(`${word}_total`)) ?? 0);
    const inFlight = metrics.sum(name("in_flight")) ?? 0;
    const rest = received - published - duplicate - rejected - inFlight;
    const term = (value, word) => element("span", {}, element("b", { text: grouped(value) }), element("small", { text: word }));
    const sign = (text) => element("span", { className: "muted", text });
    place.dataset.unaccounted = rest;
    place.replaceChildren(element("div", { className: "sum" },
      term(received, "received"), sign("="), term(published, "published"), sign("+"), term(duplicate, "duplicate"), sign("+"),
      term(rejected, "rejected"), sign("+"), term(inFlight, "in flight"),
      element("span", { className: rest === 0 ? "up" : "down" },
        element("b", { text: rest === 0 ? "✓ balanced" : `✗ ${grouped(rest)} missing` }),
        element("small", { text: `${grouped(metrics.sum(name("stored_total")))} stored, ${grouped(metrics.sum(name("conflicting_total")))} conflicting, `
          + `${grouped(metrics.sum(name("dead_lettered_total")))} dead letters` }))));
  }

  #drawLag(metrics) {
    const now = Date.now() / 1000;
    const rows = metrics.all("market_ingestor_consumer_pending_messages").map(({ labels, value }) => row([
      `${labels.role} behind ${labels.stream}`, [`${grouped(value)} messages`, value > 1000 ? "warn" : ""]]));
    const age = (name, text) => {
      const at = metrics.sum(name);
      if (at) rows.push(row([text, `${seconds(Math.max(0, now - at))}`]));
    };
    age("market_ingestor_save_last_commit_timestamp_seconds", "last commit, ago");
    age("market_ingestor_raw_unsaved_oldest_timestamp_seconds", "oldest trade not in the table");
    const count = metrics.sum("market_ingestor_kline_close_delay_seconds_count");
    if (count) {
      const mean = metrics.sum("market_ingestor_kline_close_delay_seconds_sum") / count;
      rows.push(row(["candle closed after its window, mean", seconds(mean)]));
    }
    const dirty = metrics.sum("market_ingestor_klines_dirty");
    if (dirty !== null) rows.push(row(["windows waiting for a correction", grouped(dirty)]));
    rows.push(row(["event loop", seconds(metrics.sum("market_ingestor_event_loop_lag_seconds") ?? Number.NaN)]));
    this.#panels.lag.replaceChildren(table("Lag", ["What", "How much"], rows));
  }

  #drawQueues(metrics) {
    const rows = metrics.all("market_ingestor_queue_items").map(({ labels, value }) => {
      const most = metrics.sum("market_ingestor_queue_items_max", labels);
      return row([labels.queue.replaceAll("_", " "), meter(value / most), grouped(value), grouped(most)]);
    });
    for (const { labels, value } of metrics.all("market_ingestor_stream_bytes")) {
      const most = metrics.sum("market_ingestor_stream_bytes_max", labels);
      rows.push(row([labels.stream, meter(value / most), bytes(value), bytes(most)]));
    }
    const sent = this.#rate("market_ingestor_push_messages_sent_total", {}, metrics);
    const clients = metrics.sum("market_ingestor_push_clients");
    if (clients !== null) {
      const dropped = metrics.sum("market_ingestor_push_messages_dropped_total");
      rows.push(row([`push: ${grouped(clients)} clients`, sent === null ? "" : `${rate(sent)} messages/s`, `${grouped(dropped)} dropped`, ""]));
    }
    this.#panels.queues.replaceChildren(rows.length ? table("Queues and streams", ["Queue", "Filled", "Now", "Most"], rows)
      : element("p", { className: "hint", text: ELSEWHERE }));
  }

  #drawGaps(gaps, metrics) {
    const place = this.#panels.gaps;
    const totals = ["found", "filled", "unfillable"].map((state) => {
      const sum = metrics.sum("market_ingestor_gaps_total", { state });
      return sum === null ? null : `${grouped(sum)} ${state}`;
    }).filter(Boolean).join(" · ");
    const header = place.previousSibling;
    if (header.childElementCount < 2) header.append(element("span", { className: "muted" }));
    setText(header.lastChild, totals ? `since the start: ${totals}` : "");
    if (gaps === null) {
      place.replaceChildren(element("p", { className: "hint", text: "The table of holes cannot be read now." }));
      return;
    }
    const rows = gaps.data.map((each) => row([
      `${each.exchange} ${each.symbol}`, stamp(Date.parse(each.detected_at)),
      each.from_time === null ? "–" : `${clock(each.from_time)} – ${each.to_time === null ? "?" : clock(each.to_time)}`,
      each.missing === null ? "?" : grouped(each.missing),
      [each.state, each.state === "filled" ? "up" : each.state === "open" ? "warn" : "down"],
      each.filled_at === null ? "–" : seconds((Date.parse(each.filled_at) - Date.parse(each.detected_at)) / 1000),
    ]));
    place.replaceChildren(rows.length
      ? table("Newest holes", ["Market", "Noticed (UTC)", "Between", "Trades missing", "State", "Filled after"], rows)
      : element("p", { className: "hint", text: "No hole was ever found." }));
  }
}

function meter(share) {
  const filled = Number.isFinite(share) ? Math.min(1, Math.max(0, share)) : 0;
  const bar = element("i");
  bar.style.width = `${(filled * 100).toFixed(2)}%`;
  return element("div", {
    className: `meter${filled > 0.8 ? " high" : ""}`, role: "meter",
    aria: { valuenow: Math.round(filled * 100), valuemin: 0, valuemax: 100, label: "filled" },
  }, bar);
}

const rate = (value) => (value === null ? "–" : value >= 100 ? grouped(value.toFixed(0)) : value.toFixed(1));
