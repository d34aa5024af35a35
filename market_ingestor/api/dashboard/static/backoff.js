// How long to wait before the next try: doubling, with jitter, up to a limit.

export class Backoff {
  #first;
  #most;
  #random;
  #tries = 0;

  constructor({ firstMs = 500, mostMs = 15_000, random = Math.random } = {}) {
    this.#first = firstMs;
    this.#most = mostMs;
    this.#random = random;
  }

  /** Return the wait in milliseconds, and count a failure. */
  next() {
    const wait = Math.min(this.#first * 2 ** this.#tries, this.#most);
    this.#tries += 1;
    return wait * (0.8 + 0.4 * this.#random());
  }

  /** Begin anew: it works again. */
  reset() {
    this.#tries = 0;
  }
}
