// Reads the text format of metrics (Prometheus), as far as the health view needs it.

const LINE = /^([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"/g;

export class Metrics {
  #samples = new Map();

  constructor(text) {
    for (const line of text.split("\n")) {
      const found = line.startsWith("#") ? null : LINE.exec(line);
      if (found === null) continue;
      const labels = Object.fromEntries([...(found[2] ?? "").matchAll(LABEL)].map((each) => [each[1], each[2]]));
      const list = this.#samples.get(found[1]) ?? [];
      list.push({ labels, value: Number(found[3]) });
      this.#samples.set(found[1], list);
    }
  }

  /** Samples of a metric: labels and value. */
  all(name) {
    return this.#samples.get(name) ?? [];
  }

  has(name) {
    return this.#samples.has(name);
  }

  /** Sum over the samples whose labels have these values; null when the metric is not there. */
  sum(name, labels = {}) {
    if (!this.has(name)) return null;
    return this.all(name)
      .filter((each) => Object.entries(labels).every(([key, value]) => each.labels[key] === value))
      .reduce((sum, each) => sum + each.value, 0);
  }
}
