// The lengths a candle may have.

const MINUTE = 60_000;

export const PERIOD_MS = {
  "1m": MINUTE, "3m": 3 * MINUTE, "5m": 5 * MINUTE, "15m": 15 * MINUTE, "30m": 30 * MINUTE,
  "1h": 60 * MINUTE, "2h": 120 * MINUTE, "4h": 240 * MINUTE, "6h": 360 * MINUTE, "8h": 480 * MINUTE,
  "12h": 720 * MINUTE, "1d": 1440 * MINUTE, "1w": 10080 * MINUTE,
};

const MONDAY = 345_600_000; // the first one of Unix time: weeks begin there

/** Return when the window that holds an instant opens, Unix milliseconds. */
export function windowOf(ms, period) {
  const offset = period === "1w" ? MONDAY : 0;
  const length = PERIOD_MS[period];
  return Math.floor((ms - offset) / length) * length + offset;
}
