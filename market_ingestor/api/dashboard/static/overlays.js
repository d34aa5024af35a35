// The lines that may be laid over candles: which there are, and how each is computed.

import { movingAverage, rollingVwap, volatility } from "./indicators.js";

const VWAP_CANDLES = 20;
const VOLATILITY_CLOSES = 30;

/** By name: text, colour, and the value at one index of the candles. */
export const OVERLAYS = {
  sma7: { text: "MA 7", title: "Mean of the last 7 closes", colour: "average-7", at: (list, index) => movingAverage(list, index, 7) },
  sma25: { text: "MA 25", title: "Mean of the last 25 closes", colour: "average-25", at: (list, index) => movingAverage(list, index, 25) },
  sma99: { text: "MA 99", title: "Mean of the last 99 closes", colour: "average-99", at: (list, index) => movingAverage(list, index, 99) },
  vwap: {
    text: `VWAP ${VWAP_CANDLES}`, title: `Volume-weighted price of the last ${VWAP_CANDLES} candles`, colour: "vwap",
    at: (list, index) => rollingVwap(list, index, VWAP_CANDLES),
  },
  volatility: {
    text: "Volatility", title: `Standard deviation of the log returns of the last ${VOLATILITY_CLOSES} closes, in per cent`,
    colour: "average-25", isPane: true, at: (list, index) => volatility(list, index, VOLATILITY_CLOSES),
  },
};

/** Live statistics drawn as level lines: text and where the value stands. */
export const LEVELS = {
  window: {
    text: "5m average & VWAP", title: "Mean price and volume-weighted price of the last five minutes, as published",
    lines: [
      { text: "avg 5m", colour: "accent", of: (stats) => stats.windows["5m"]?.average },
      { text: "VWAP 5m", colour: "vwap", of: (stats) => stats.windows["5m"]?.vwap },
    ],
  },
};
