// Which view of what, kept in the address so that it can be shared: #/chart/binance/BTCUSDT/1m

import { PERIOD_MS } from "./periods.js";

const VIEWS = ["chart", "compare", "health"];
const NAME = /^[A-Za-z0-9_-]{1,64}$/;

/** Read an address; what is missing or wrong is null. */
export function parse(hash) {
  const [view, ...rest] = hash.replace(/^#\/?/, "").split("/");
  const parts = rest.map((part) => (NAME.test(part) ? part : null));
  const known = VIEWS.includes(view) ? view : "chart";
  if (known === "health") return { view: known };
  const [exchange, symbol, period] = known === "chart" ? parts : [null, ...parts];
  return {
    view: known, exchange: exchange ?? null, symbol: symbol ?? null,
    period: period in PERIOD_MS ? period : null,
  };
}

/** Write an address. */
export function format({ view, exchange, symbol, period }) {
  if (view === "health") return "#/health";
  if (view === "compare") return symbol ? `#/compare/${symbol}/${period}` : "#/compare";
  return exchange && symbol ? `#/chart/${exchange}/${symbol}/${period}` : "#/chart";
}
