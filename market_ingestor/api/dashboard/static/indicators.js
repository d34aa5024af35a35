// Rolling figures over candles, to be drawn: floats are good enough here, and only here.

/** Mean of the last `count` closes ending at `index`; null while there are fewer. */
export function movingAverage(candles, index, count) {
  if (index + 1 < count) return null;
  let sum = 0;
  for (let at = index - count + 1; at <= index; at += 1) sum += Number(candles[at].close);
  return sum / count;
}

/** Volume-weighted mean price of the last `count` candles ending at `index`. */
export function rollingVwap(candles, index, count) {
  if (index + 1 < count) return null;
  let value = 0;
  let volume = 0;
  for (let at = index - count + 1; at <= index; at += 1) {
    value += Number(candles[at].quote_volume);
    volume += Number(candles[at].volume);
  }
  return volume > 0 ? value / volume : null;
}

/** Sample standard deviation of the log returns between the last `count` closes, in per cent. */
export function volatility(candles, index, count) {
  if (index + 1 < count || count < 3) return null;
  const returns = [];
  for (let at = index - count + 2; at <= index; at += 1) {
    returns.push(Math.log(Number(candles[at].close) / Number(candles[at - 1].close)));
  }
  const mean = returns.reduce((sum, each) => sum + each, 0) / returns.length;
  const squares = returns.reduce((sum, each) => sum + (each - mean) ** 2, 0);
  return Math.sqrt(squares / (returns.length - 1)) * 100;
}
