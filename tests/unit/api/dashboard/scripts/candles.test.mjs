// What decides without drawing: which version counts, and what is computed of candles.

import assert from "node:assert/strict";
import test from "node:test";

import { Backoff } from "../../../../../market_ingestor/api/dashboard/static/backoff.js";
import { CandleStore } from "../../../../../market_ingestor/api/dashboard/static/candle_store.js";
import { Metrics } from "../../../../../market_ingestor/api/dashboard/static/exposition.js";
import { compact, grouped, percent, places } from "../../../../../market_ingestor/api/dashboard/static/format.js";
import { movingAverage, rollingVwap, volatility } from "../../../../../market_ingestor/api/dashboard/static/indicators.js";
import { windowOf } from "../../../../../market_ingestor/api/dashboard/static/periods.js";
import { format, parse } from "../../../../../market_ingestor/api/dashboard/static/route.js";
import { aligned, spreadOf } from "../../../../../market_ingestor/api/dashboard/static/spread.js";

const candle = (open_time, fields = {}) => ({
  open_time, closed: true, revision: 1, complete: true, trade_count: 1, close: "1", volume: "1", quote_volume: "1", ...fields,
});

test("the newest version stays, in whatever order versions come", () => {
  const versions = [
    candle(0, { closed: false, revision: 0, trade_count: 3 }), candle(0, { closed: false, revision: 0, trade_count: 5 }),
    candle(0), candle(0, { revision: 2, trade_count: 6 }), candle(0, { revision: 3, trade_count: 4 }),
  ];
  for (const order of permutations(versions)) {
    const store = new CandleStore();
    for (const each of order) store.apply(each);
    assert.equal(store.get(0).revision, 3);
    assert.deepEqual(store.candles, [store.get(0)]);
  }
});

test("an open candle never goes back", () => {
  const store = new CandleStore();
  store.apply(candle(0, { closed: false, trade_count: 5 }));
  assert.equal(store.apply(candle(0, { closed: false, trade_count: 4 })), false);
  assert.equal(store.apply(candle(0, { closed: false, trade_count: 5 })), true);
});

test("candles are in the order of time, also after old ones came or were replaced", () => {
  const store = new CandleStore();
  for (const time of [3, 1, 2]) store.apply(candle(time));
  assert.deepEqual(store.candles.map((each) => each.open_time), [1, 2, 3]);
  store.apply(candle(2, { revision: 2 }));
  assert.deepEqual(store.candles.map((each) => each.revision), [1, 2, 1]);
});

test("figures over candles", () => {
  const list = [2, 4, 9].map((close, at) => candle(at, { close: String(close), volume: "2", quote_volume: String(2 * close) }));
  assert.equal(movingAverage(list, 2, 3), 5);
  assert.equal(movingAverage(list, 1, 3), null);
  assert.equal(rollingVwap(list, 2, 2), 6.5);
  assert.equal(rollingVwap([candle(0, { volume: "0", quote_volume: "0" })], 0, 1), null);
  const returns = [Math.log(2), Math.log(9 / 4)];
  const mean = (returns[0] + returns[1]) / 2;
  const expected = Math.sqrt((returns[0] - mean) ** 2 + (returns[1] - mean) ** 2) * 100;
  assert.ok(Math.abs(volatility(list, 2, 3) - expected) < 1e-9);
});

test("a spread needs two prices of the same window", () => {
  assert.equal(spreadOf([100]), null);
  assert.ok(Math.abs(spreadOf([100, 101, 100.5]).bps - 100) < 1e-9);
  const one = [candle(0, { close: "100" }), candle(1, { close: "100" })];
  const other = [candle(1, { close: "102" }), candle(2, { close: "1" })];
  const rows = aligned([one, other, []]);
  assert.equal(rows.length, 1);
  assert.equal(rows[0].time, 1);
  assert.equal(rows[0].deviations[2], null);
  assert.ok(Math.abs(rows[0].deviations[0] + rows[0].deviations[1]) < 1e-9);
});

test("numbers are written digit by digit", () => {
  assert.equal(grouped("1234567.0000100"), "1,234,567.0000100");
  assert.equal(grouped("-1234.5"), "\u22121,234.5");
  assert.equal(grouped("0.00000012"), "0.00000012");
  assert.equal(grouped(null), "–");
  assert.equal(places("1.23456", 2), "1.23");
  assert.equal(percent("-0.5"), "▼ \u22120.50%");
  assert.equal(percent(null), "–");
  assert.equal(compact("1234567"), "1.23M");
});

test("addresses say where one is, and wrong parts are ignored", () => {
  assert.deepEqual(parse("#/chart/binance/BTCUSDT/1h"), { view: "chart", exchange: "binance", symbol: "BTCUSDT", period: "1h" });
  assert.deepEqual(parse("#/compare/BTCUSDT/9m"), { view: "compare", exchange: null, symbol: "BTCUSDT", period: null });
  assert.deepEqual(parse("#/chart/<b>/x y/1m"), { view: "chart", exchange: null, symbol: null, period: "1m" });
  assert.equal(parse("").view, "chart");
  for (const text of ["#/chart/binance/BTCUSDT/1h", "#/compare/BTCUSDT/5m", "#/health"]) assert.equal(format(parse(text)), text);
});

test("weeks begin on Monday, everything else with Unix time", () => {
  assert.equal(windowOf(Date.UTC(2025, 10, 20, 22, 7), "1w"), Date.UTC(2025, 10, 17));
  assert.equal(windowOf(Date.UTC(2025, 10, 20, 22, 7), "4h"), Date.UTC(2025, 10, 20, 20));
});

test("metrics are read with their labels", () => {
  const metrics = new Metrics('# TYPE a counter\na_total{x="1",y="q\\"}"} 2\na_total{x="2",y=""} 3.5e1\nb 4\n');
  assert.equal(metrics.sum("a_total"), 37);
  assert.equal(metrics.sum("a_total", { x: "2" }), 35);
  assert.equal(metrics.sum("nothing"), null);
  assert.equal(metrics.all("a_total")[0].labels.y, 'q\\"}');
});

test("waits double up to a limit and begin anew", () => {
  const backoff = new Backoff({ firstMs: 100, mostMs: 300, random: () => 0.5 });
  assert.deepEqual([backoff.next(), backoff.next(), backoff.next(), backoff.next()], [100, 200, 300, 300]);
  backoff.reset();
  assert.equal(backoff.next(), 100);
});

function permutations(list) {
  if (list.length < 2) return [list];
  return list.flatMap((each, at) => permutations(list.toSpliced(at, 1)).map((rest) => [each, ...rest]));
}
