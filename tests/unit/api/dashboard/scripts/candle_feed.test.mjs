// A series: what it asks for again, and for how long. The REST and push clients are played.
import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { CandleFeed } from "../../../../../market_ingestor/api/dashboard/static/candle_feed.js";

const SERIES = { exchange: "binance", symbol: "BTCUSDT", period: "1m" };
const HOLE = { from_time: 1, to_time: 2, state: "open" };
const push = { state: { name: "live" }, follow: (_topic, { begin }) => (begin(), () => {}) };

/** Start a feed of one closed candle; `gaps` gives the answer to each question for holes. */
async function started({ complete, gaps }) {
  const asked = [];
  const rest = {
    data: async (path) => {
      if (!path.endsWith("gaps")) return { data: [{ open_time: 0, closed: true, complete, revision: 1 }] };
      asked.push(path);
      return { data: gaps(asked.length) };
    },
  };
  const feed = new CandleFeed(rest, push, SERIES);
  feed.start();
  await settle();
  return { feed, asked };
}

/** Let everything happen that waits for nothing but answers. */
async function settle() {
  for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
}

async function pass(seconds) {
  for (let second = 0; second < seconds; second += 1) {
    mock.timers.tick(1_000);
    await settle();
  }
}

test.beforeEach(() => mock.timers.enable({ apis: ["setTimeout"] }));
test.afterEach(() => mock.timers.reset());

test("holes that become known later than the candles without their trades are found", async () => {
  const { feed, asked } = await started({ complete: false, gaps: (time) => (time > 3 ? [HOLE] : []) });
  assert.deepEqual(feed.gaps, []);
  await pass(60);
  assert.deepEqual(feed.gaps, [HOLE]);
  assert.equal(asked.length, 4);
});

test("holes that never become known are not asked for for ever", async () => {
  const { asked } = await started({ complete: false, gaps: () => [] });
  await pass(600);
  assert.equal(asked.length, 5);
});

test("whole candles need no holes", async () => {
  const { asked } = await started({ complete: true, gaps: () => [] });
  await pass(60);
  assert.equal(asked.length, 2);
});

test("a feed that nobody wants any more asks for nothing", async () => {
  const { feed, asked } = await started({ complete: false, gaps: () => [] });
  feed.stop();
  await pass(60);
  assert.equal(asked.length, 1);
});
