// The chart library, and how its charts look here. It is a script of its own and sets a global name.

import { Theme } from "./theme.js";

const library = globalThis.LightweightCharts ?? null;
export default library;

/** Return the named colours scripts need, as the theme has them now. */
export function colours() {
  const names = ["panel", "line", "text", "muted", "accent", "up", "down", "warn", "grid",
    "average-7", "average-25", "average-99", "vwap"];
  return Object.fromEntries(names.map((name) => [name, Theme.colour(name)]));
}

/** Return a colour of the form rgb(..) with an opacity. */
export function faded(colour, opacity) {
  return colour.replace(/^rgb\((.*)\)$/, (_, inner) =>
    `rgba(${inner.split(/[ ,]+/).slice(0, 3).join(", ")}, ${opacity})`);
}

/** Options that follow the theme. */
export function themed(palette) {
  const border = { borderColor: palette.line };
  return {
    layout: {
      background: { color: palette.panel }, textColor: palette.muted, fontSize: 11,
      fontFamily: "system-ui, 'Liberation Sans', 'DejaVu Sans', sans-serif",
      attributionLogo: false, // it brings a style of its own; the page's foot has the notice
      panes: { separatorColor: palette.line, separatorHoverColor: palette.line },
    },
    grid: { vertLines: { color: palette.grid }, horzLines: { color: palette.grid } },
    crosshair: {
      vertLine: { color: palette.muted, labelBackgroundColor: palette.muted },
      horzLine: { color: palette.muted, labelBackgroundColor: palette.muted },
    },
    rightPriceScale: border,
    timeScale: border,
  };
}

/** Return a chart that fills its element. */
export function makeChart(surface, palette) {
  const chart = library.createChart(surface, {
    autoSize: true,
    ...themed(palette),
    crosshair: { ...themed(palette).crosshair, mode: library.CrosshairMode.Normal },
    timeScale: { ...themed(palette).timeScale, timeVisible: true, secondsVisible: false, rightOffset: 4, minBarSpacing: 1.5 },
    localization: { locale: "en-GB" },
  });
  return chart;
}
