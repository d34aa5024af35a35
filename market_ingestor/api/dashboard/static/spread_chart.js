// Draws how far each exchange's closes are from the mean of all, and the spread between them below.

import library, { colours, faded, makeChart, themed } from "./charts.js";
import { aligned } from "./spread.js";

const LINES = ["accent", "average-7", "average-25", "up", "down", "average-99", "vwap"];
const BPS = { type: "custom", formatter: (value) => `${value.toFixed(1)} bps`, minMove: 0.01 };
const SHOWN = 120;
const DRAW_MS = 250; // between two drawings: all of it is drawn anew each time

export class SpreadChart {
  #frame;
  #chart;
  #palette = colours();
  #lines = new Map();
  #spread;
  #drawnAt = 0;
  #timer = null;
  #isFresh = true;

  constructor(surface, frame) {
    this.#frame = frame;
    this.#chart = makeChart(surface, this.#palette);
    this.#spread = this.#chart.addSeries(library.HistogramSeries, { priceFormat: BPS, priceLineVisible: false, title: "spread" }, 1);
    this.#chart.panes()[1].setStretchFactor(0.5);
    this.repaint();
  }

  destroy() {
    clearTimeout(this.#timer);
    this.#frame.cancel("spread drawing");
    this.#chart.remove();
  }

  repaint() {
    this.#palette = colours();
    this.#chart.applyOptions(themed(this.#palette));
    this.#spread.applyOptions({ color: faded(this.#palette.muted, 0.55) });
    [...this.#lines.values()].forEach((series, at) => series.applyOptions({ color: this.#colour(at) }));
  }

  /** Draw series of candles by name, now or a moment later. */
  draw(venues) {
    const wait = this.#drawnAt + DRAW_MS - Date.now();
    clearTimeout(this.#timer);
    if (wait > 0) this.#timer = setTimeout(() => this.#frame.request("spread drawing", () => this.#draw(venues)), wait);
    else this.#draw(venues);
  }

  #draw(venues) {
    this.#drawnAt = Date.now();
    const rows = aligned(venues.map((each) => each.candles));
    venues.forEach(({ name }, at) => this.#line(name).setData(
      rows.filter((each) => each.deviations[at] !== null).map((each) => ({ time: each.time / 1000, value: each.deviations[at] }))));
    this.#spread.setData(rows.map((each) => ({ time: each.time / 1000, value: each.bps })));
    if (this.#isFresh && rows.length > 0) {
      this.#isFresh = false;
      this.#chart.timeScale().setVisibleLogicalRange({ from: Math.max(rows.length - SHOWN, -SHOWN / 3), to: rows.length + 3 });
    }
  }

  #colour(at) {
    return this.#palette[LINES[at % LINES.length]];
  }

  #line(name) {
    let series = this.#lines.get(name);
    if (series === undefined) {
      series = this.#chart.addSeries(library.LineSeries, {
        color: this.#colour(this.#lines.size), lineWidth: 2, priceFormat: BPS, priceLineVisible: false, title: name,
      }, 0);
      this.#lines.set(name, series);
    }
    return series;
  }
}
