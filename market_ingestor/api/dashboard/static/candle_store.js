// The newest version of every candle of one series, whatever order versions arrive in.

/** Return whether a candle replaces the one known of the same window. */
export function supersedes(candle, known) {
  if (known === undefined) return true;
  if (candle.closed !== known.closed) return candle.closed;
  if (candle.closed) return candle.revision > known.revision;
  return candle.trade_count >= known.trade_count; // an open one only grows
}

export class CandleStore {
  #byTime = new Map();
  #sorted = null;

  /** Take a version; return whether it changed anything. */
  apply(candle) {
    const known = this.#byTime.get(candle.open_time);
    if (!supersedes(candle, known)) return false;
    this.#byTime.set(candle.open_time, candle);
    if (known === undefined) this.#sorted = null;
    else if (this.#sorted !== null) this.#replace(candle);
    return true;
  }

  #replace(candle) {
    const list = this.#sorted;
    let at = list.length - 1;
    while (at >= 0 && list[at].open_time > candle.open_time) at -= 1; // nearly always the last
    list[at] = candle;
  }

  /** Every candle, oldest first; do not change it. */
  get candles() {
    this.#sorted ??= [...this.#byTime.values()].sort((one, other) => one.open_time - other.open_time);
    return this.#sorted;
  }

  get(openTime) {
    return this.#byTime.get(openTime);
  }

  get size() {
    return this.#byTime.size;
  }

  clear() {
    this.#byTime.clear();
    this.#sorted = null;
  }
}
