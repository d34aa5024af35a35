// Draws once per animation frame, however often something changes meanwhile.

export class FrameBatcher {
  #works = new Map();
  #isScheduled = false;

  /** Have `work` done with the next frame; a later request under the same key replaces it. */
  request(key, work) {
    this.#works.set(key, work);
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    requestAnimationFrame(() => this.#draw());
  }

  /** Forget what was requested under a key. */
  cancel(key) {
    this.#works.delete(key);
  }

  #draw() {
    this.#isScheduled = false;
    const works = [...this.#works.values()];
    this.#works.clear();
    for (const work of works) work();
  }
}
