// Draws one series of candles with volume, holes and overlays. Knows nothing of where it comes from
// but the feed's store, and draws at most once per animation frame.

import library, { colours, faded, makeChart, themed } from "./charts.js";
import { GapBands } from "./gap_bands.js";
import { LEVELS, OVERLAYS } from "./overlays.js";
import { PERIOD_MS } from "./periods.js";

const HOLE_MAX = 120; // empty windows drawn for one silence; more would push everything away
const OLDER_AT = 30; // bars left of what is seen when older ones are asked for
const SCROLL_BARS = 5;
const SHOWN = 120; // candles at first
const SHOWN_NARROW = 55;
const NARROW_PX = 500;

export class CandleChart {
  #frame;
  #key = Symbol("chart");
  #chart;
  #palette = colours();
  #candles;
  #volume;
  #markers;
  #bands = new GapBands();
  #watermark = null;
  #overlays = new Map(); // name -> line series
  #levels = new Map(); // name -> price lines
  #feed = null;
  #drawn = []; // opening times of the candles in the series, in order
  #barCount = 0; // with the empty places between
  #places = null;
  #isFresh = true; // nothing of this feed was drawn yet
  #onchange = () => this.#request();
  #stats = null;

  /**
   * @param surface Element the chart fills.
   * @param frame The page's FrameBatcher.
   * @param onhover Called with the candle under the crosshair, null when there is none.
   * @param ondraw Called after the candles were drawn.
   */
  constructor(surface, frame, { onhover = () => {}, ondraw = () => {}, hasWatermark = true } = {}) {
    this.#frame = frame;
    this.surface = surface;
    this.ondraw = ondraw;
    this.#chart = makeChart(surface, this.#palette);
    this.#candles = this.#chart.addSeries(library.CandlestickSeries, {});
    this.#volume = this.#chart.addSeries(library.HistogramSeries, {
      priceScaleId: "", priceFormat: { type: "volume" }, lastValueVisible: false, priceLineVisible: false,
    });
    this.#volume.priceScale().applyOptions({ scaleMargins: { top: 0.82, bottom: 0 } });
    this.#chart.priceScale("right").applyOptions({ scaleMargins: { top: 0.12, bottom: 0.22 } });
    this.#candles.attachPrimitive(this.#bands);
    this.#markers = library.createSeriesMarkers(this.#candles, []);
    if (hasWatermark) {
      this.#watermark = library.createTextWatermark(this.#chart.panes()[0], { horzAlign: "center", vertAlign: "center", lines: [] });
    }
    this.#chart.subscribeCrosshairMove((move) => onhover(this.#candleAt(move.time), move));
    this.#chart.timeScale().subscribeVisibleLogicalRangeChange((range) => {
      if (range !== null && range.from < OLDER_AT) this.#feed?.loadOlder();
    });
    surface.addEventListener("keydown", (event) => this.#steer(event));
    this.#paint();
  }

  /** Follow no series any more. */
  leave() {
    this.#feed?.removeEventListener("change", this.#onchange);
    this.#feed = null;
    this.#frame.cancel(this.#key);
  }

  /** Show another series. */
  show(feed) {
    this.leave();
    this.#feed = feed;
    this.#isFresh = true;
    this.#stats = null;
    this.#places = null;
    this.#drawn = [];
    feed.addEventListener("change", this.#onchange);
    for (const series of [this.#candles, this.#volume, ...this.#overlays.values()]) series.setData([]);
    for (const name of this.#levels.keys()) this.#drawLevels(name);
    this.#request();
  }

  destroy() {
    this.leave();
    this.#chart.remove();
  }

  /** Follow the theme. */
  repaint() {
    this.#palette = colours();
    this.#paint();
    this.#drawn = [];
    this.#request();
  }

  /** Show or hide an overlay or the level lines of that name. */
  toggle(name, isOn) {
    if (name in LEVELS) this.#toggleLevels(name, isOn);
    else this.#toggleOverlay(name, isOn);
  }

  /** Take the newest statistics for the level lines. */
  level(stats) {
    this.#stats = stats;
    for (const name of this.#levels.keys()) this.#drawLevels(name);
  }

  /** Put the crosshair where another chart has it. */
  pointAt(time) {
    const candle = this.#candleAt(time);
    if (candle) this.#chart.setCrosshairPosition(Number(candle.close), time, this.#candles);
    else this.#chart.clearCrosshairPosition();
  }

  /** Go to the newest candle, at a comfortable width. */
  toNewest() {
    const shown = this.surface.clientWidth < NARROW_PX ? SHOWN_NARROW : SHOWN;
    const length = this.#barCount;
    this.#chart.timeScale().setVisibleLogicalRange({ from: Math.max(length - shown, -shown / 3), to: length + 3 });
  }

  #paint() {
    const { up, down, muted } = this.#palette;
    this.#chart.applyOptions(themed(this.#palette));
    this.#candles.applyOptions({
      upColor: up, downColor: down, borderUpColor: up, borderDownColor: down, wickUpColor: up, wickDownColor: down,
    });
    for (const [name, series] of this.#overlays) series.applyOptions({ color: this.#palette[OVERLAYS[name].colour] });
    for (const name of [...this.#levels.keys()]) { // a copy: they are taken out and put back
      this.#toggleLevels(name, false);
      this.#toggleLevels(name, true);
    }
    this.#watermarkText = faded(muted, 0.16);
  }

  set #watermarkText(color) {
    const text = this.#feed?.exchange.startsWith("sim-") ? "SIMULATED" : "";
    this.#watermark?.applyOptions({ lines: [{ text, color, fontSize: Math.min(64, this.surface.clientWidth / 9) }] });
  }

  #request() {
    if (this.#feed === null) return;
    this.#frame.request(this.#key, () => this.#draw());
  }

  #draw() {
    const feed = this.#feed;
    const changed = [...feed.changed].sort((one, other) => one - other);
    feed.changed.clear();
    const list = feed.store.candles;
    const scale = this.#chart.timeScale();
    const fromRight = scale.scrollPosition(); // bars from the newest one to the edge
    if (!this.#drawTail(list, changed)) this.#drawAll(list);
    if (!this.#isFresh && fromRight > -1) scale.scrollToPosition(fromRight, false); // the newest stays in sight
    const { down, warn, up } = this.#palette;
    this.#bands.update(feed.gaps, feed.period, { open: warn, unfillable: down, filled: up });
    if (this.#isFresh && list.length > 0) {
      this.#isFresh = false;
      this.#watermarkText = faded(this.#palette.muted, 0.16);
      this.toNewest();
    }
    this.ondraw(list);
  }

  /** Draw changes of the last two candles drawn, and new ones behind them; false when there is more to it. */
  #drawTail(list, changed) {
    if (this.#drawn.length === 0) return false;
    const [beforeLast, last] = [this.#drawn.at(-2), this.#drawn.at(-1)];
    let end = last;
    for (const time of changed) {
      if (time > end) {
        if (time > end + PERIOD_MS[this.#feed.period]) return false; // a silence before it
        end = time;
      } else if (time !== last && time !== beforeLast) return false;
    }
    for (const time of changed) this.#update(list, indexOf(list, time));
    if (changed.length > 0) this.#mark(list);
    return true;
  }

  #update(list, index) {
    const candle = list[index];
    const isOld = candle.open_time < this.#drawn.at(-1);
    if (candle.open_time > this.#drawn.at(-1)) {
      this.#drawn.push(candle.open_time);
      this.#barCount += 1;
    }
    this.#candles.update(this.#bar(candle), isOld);
    this.#volume.update(this.#column(candle), isOld);
    for (const [name, series] of this.#overlays) {
      const value = OVERLAYS[name].at(list, index);
      if (value !== null) series.update({ time: candle.open_time / 1000, value }, isOld);
    }
  }

  #drawAll(list) {
    this.#setPlaces(list);
    const bars = withSilences(list, this.#feed.period, (candle) => this.#bar(candle));
    this.#drawn = list.map((candle) => candle.open_time);
    this.#barCount = bars.length;
    this.#candles.setData(bars);
    this.#volume.setData(list.map((candle) => this.#column(candle)));
    for (const name of this.#overlays.keys()) this.#drawOverlay(name, list);
    this.#mark(list);
  }

  #setPlaces(list) {
    const places = list.slice(-50).reduce((most, { close }) => Math.max(most, (close.split(".")[1] ?? "").length), 0);
    const precision = Math.min(places, 8);
    if (precision === this.#places) return;
    this.#places = precision;
    const priceFormat = { type: "price", precision, minMove: 1 / 10 ** precision };
    this.#candles.applyOptions({ priceFormat });
    for (const [name, series] of this.#overlays) if (!OVERLAYS[name].isPane) series.applyOptions({ priceFormat });
  }

  #bar(candle) {
    const bar = {
      time: candle.open_time / 1000,
      open: Number(candle.open), high: Number(candle.high), low: Number(candle.low), close: Number(candle.close),
    };
    if (candle.complete || !candle.closed) return bar;
    const { warn } = this.#palette;
    return { ...bar, color: faded(warn, 0.12), borderColor: warn, wickColor: warn };
  }

  #column(candle) {
    const colour = Number(candle.close) >= Number(candle.open) ? this.#palette.up : this.#palette.down;
    return { time: candle.open_time / 1000, value: Number(candle.volume), color: faded(colour, 0.38) };
  }

  #mark(list) {
    const color = this.#palette.accent;
    this.#markers.setMarkers(list.filter((each) => each.revision > 1).map((each) => ({
      time: each.open_time / 1000, position: "aboveBar", shape: "circle", size: 0.35, color,
    })));
  }

  #toggleOverlay(name, isOn) {
    const existing = this.#overlays.get(name);
    if (!isOn && existing) {
      this.#chart.removeSeries(existing);
      this.#overlays.delete(name);
    } else if (isOn && !existing) {
      const { isPane, colour, text } = OVERLAYS[name];
      const series = this.#chart.addSeries(library.LineSeries, {
        color: this.#palette[colour], lineWidth: isPane ? 2 : 1.5, priceLineVisible: false, lastValueVisible: Boolean(isPane),
        crosshairMarkerVisible: false, title: isPane ? text : "",
        ...(isPane ? { priceFormat: { type: "custom", formatter: (value) => `${value.toFixed(3)}%`, minMove: 0.001 } } : {}),
      }, isPane ? 1 : 0);
      if (isPane) this.#chart.panes()[1].setStretchFactor(0.22);
      this.#overlays.set(name, series);
      this.#places = null;
      this.#setPlaces(this.#feed?.store.candles ?? []);
      this.#drawOverlay(name, this.#feed?.store.candles ?? []);
    }
  }

  #drawOverlay(name, list) {
    this.#overlays.get(name).setData(list.map((candle, index) => {
      const value = OVERLAYS[name].at(list, index);
      return value === null ? { time: candle.open_time / 1000 } : { time: candle.open_time / 1000, value };
    }));
  }

  #toggleLevels(name, isOn) {
    for (const line of this.#levels.get(name) ?? []) if (line) this.#candles.removePriceLine(line);
    this.#levels.delete(name);
    if (!isOn) return;
    this.#levels.set(name, []);
    this.#drawLevels(name);
  }

  #drawLevels(name) {
    const lines = this.#levels.get(name);
    LEVELS[name].lines.forEach(({ text, colour, of }, at) => {
      const price = this.#stats === null ? null : of(this.#stats);
      if (price === null || price === undefined) {
        if (lines[at]) this.#candles.removePriceLine(lines[at]);
        lines[at] = null;
      } else if (lines[at]) {
        lines[at].applyOptions({ price: Number(price) });
      } else {
        lines[at] = this.#candles.createPriceLine({
          price: Number(price), color: this.#palette[colour], lineWidth: 1, lineStyle: library.LineStyle.Dashed,
          axisLabelVisible: true, axisLabelColor: faded(this.#palette[colour], 0.85), title: text,
        });
      }
    });
  }

  #candleAt(time) {
    return time === undefined ? null : this.#feed?.store.get(time * 1000) ?? null;
  }

  #steer(event) {
    const scale = this.#chart.timeScale();
    const range = scale.getVisibleLogicalRange();
    if (range === null) return;
    const width = range.to - range.from;
    const moves = {
      ArrowLeft: [-SCROLL_BARS, -SCROLL_BARS], ArrowRight: [SCROLL_BARS, SCROLL_BARS],
      "+": [width / 8, -width / 8], "-": [-width / 8, width / 8],
    };
    if (event.key === "End") this.toNewest();
    else if (moves[event.key]) {
      const [left, right] = moves[event.key];
      scale.setVisibleLogicalRange({ from: range.from + left, to: range.to + right });
    } else return;
    event.preventDefault();
  }
}

/** Return the place of the candle that opens then; changes are nearly always at the end. */
function indexOf(list, openTime) {
  let at = list.length - 1;
  while (at >= 0 && list[at].open_time !== openTime) at -= 1;
  return at;
}

/** Return bars with empty places where windows have no candle. */
function withSilences(list, period, bar) {
  const step = PERIOD_MS[period];
  const bars = [];
  let before = null;
  for (const candle of list) {
    if (before !== null) {
      const end = Math.min(candle.open_time, before + step * (HOLE_MAX + 1));
      for (let time = before + step; time < end; time += step) bars.push({ time: time / 1000 });
    }
    bars.push(bar(candle));
    before = candle.open_time;
  }
  return bars;
}
