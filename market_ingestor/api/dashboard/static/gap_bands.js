// Draws known holes behind the candles: hatched while trades are missing, a line at the foot once filled.

import { windowOf } from "./periods.js";

const HATCH = 7; // CSS pixels between strokes
const FOOT = 3; // height of the line of a filled hole

export class GapBands {
  #chart = null;
  #requestUpdate = null;
  #gaps = [];
  #period = "1m";
  #colours = {};

  attached({ chart, requestUpdate }) {
    this.#chart = chart;
    this.#requestUpdate = requestUpdate;
  }

  detached() {
    this.#chart = null;
  }

  /** Show these holes; those without times cannot be shown. */
  update(gaps, period, colours) {
    this.#gaps = gaps.filter((each) => each.from_time !== null && each.to_time !== null);
    this.#period = period;
    this.#colours = colours;
    this.#requestUpdate?.();
  }

  paneViews() {
    return [{ zOrder: () => "bottom", renderer: () => ({ draw: (target) => this.#draw(target) }) }];
  }

  #spans() {
    const scale = this.#chart.timeScale();
    const half = scale.options().barSpacing / 2;
    const spans = [];
    for (const gap of this.#gaps) {
      const ends = [gap.from_time, gap.to_time].map((ms) => {
        const index = scale.timeToIndex(windowOf(ms, this.#period) / 1000, true);
        return index === null ? null : scale.logicalToCoordinate(index);
      });
      if (ends[0] === null || ends[1] === null) continue;
      spans.push({ left: ends[0] - half, right: ends[1] + half, state: gap.state });
    }
    return spans;
  }

  #draw(target) {
    if (this.#chart === null || this.#gaps.length === 0) return;
    const spans = this.#spans();
    target.useBitmapCoordinateSpace(({ context, bitmapSize, horizontalPixelRatio: ratio }) => {
      for (const { left, right, state } of spans) {
        const x = Math.round(left * ratio);
        const width = Math.max(2, Math.round(right * ratio) - x);
        if (x > bitmapSize.width || x + width < 0) continue;
        if (state === "filled") this.#foot(context, x, width, bitmapSize.height, ratio);
        else this.#hatch(context, x, width, bitmapSize.height, ratio, state);
      }
    });
  }

  #foot(context, x, width, height, ratio) {
    context.fillStyle = this.#colours.filled;
    context.fillRect(x, height - FOOT * ratio, width, FOOT * ratio);
  }

  #hatch(context, x, width, height, ratio, state) {
    context.save();
    context.beginPath();
    context.rect(x, 0, width, height);
    context.clip();
    context.globalAlpha = 0.35;
    context.strokeStyle = this.#colours[state] ?? this.#colours.open;
    context.lineWidth = ratio;
    context.beginPath();
    for (let at = x - height; at < x + width; at += HATCH * ratio) {
      context.moveTo(at, height);
      context.lineTo(at + height, 0);
    }
    context.stroke();
    context.restore();
  }
}
