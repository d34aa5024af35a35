// What prices of one symbol on several exchanges say of each other, in hundredths of a per cent (bps).

const BPS = 10_000;

/** Return how far the dearest is from the cheapest; null with fewer than two prices. */
export function spreadOf(prices) {
  if (prices.length < 2) return null;
  const least = Math.min(...prices);
  const most = Math.max(...prices);
  return { least, most, difference: most - least, bps: ((most - least) / least) * BPS };
}

/** Return each price's distance from the mean of all, in bps. */
export function deviations(prices) {
  const mean = prices.reduce((sum, each) => sum + each, 0) / prices.length;
  return prices.map((price) => ((price - mean) / mean) * BPS);
}

/**
 * Return, for every window that at least two series have, the spread and the deviations.
 *
 * @param series Arrays of candles, each oldest first.
 */
export function aligned(series) {
  const closes = series.map((candles) => new Map(candles.map((each) => [each.open_time, Number(each.close)])));
  const times = [...new Set(closes.flatMap((each) => [...each.keys()]))].sort((one, other) => one - other);
  const rows = [];
  for (const time of times) {
    const present = closes.map((each) => each.get(time));
    const known = present.filter((price) => price !== undefined);
    const spread = spreadOf(known);
    if (spread === null) continue;
    const distances = deviations(known);
    let next = 0;
    rows.push({
      time, ...spread,
      deviations: present.map((price) => (price === undefined ? null : distances[next++])),
    });
  }
  return rows;
}
