// Numbers and times for people. Prices arrive as decimal text and are shown digit by digit.

const MINUS = "\u2212";

/** Group the whole digits of plain decimal text: "67123.45" becomes "67,123.45". */
export function grouped(text) {
  if (text === null || text === undefined) return "–";
  const [whole, fraction] = String(text).split(".");
  const spaced = whole.replace("-", MINUS).replace(/\B(?=(\d{3})+$)/g, ",");
  return fraction === undefined ? spaced : `${spaced}.${fraction}`;
}

/** Cut decimal text to so many places behind the point; for long averages. */
export function places(text, count) {
  if (text === null || text === undefined) return "–";
  const value = Number(text);
  return Number.isFinite(value) ? grouped(value.toFixed(count)) : grouped(text);
}

/** How many digits stand behind the point. */
export const fractionDigits = (text) => (String(text).split(".")[1] ?? "").length;

/** A short amount: 1,234 / 12.3K / 4.56M. */
export function compact(value) {
  const number = Number(value);
  if (!Number.isFinite(number)) return "–";
  const size = Math.abs(number);
  if (size >= 1e9) return `${(number / 1e9).toFixed(2)}B`;
  if (size >= 1e6) return `${(number / 1e6).toFixed(2)}M`;
  if (size >= 1e5) return `${(number / 1e3).toFixed(1)}K`;
  if (size >= 100) return grouped(number.toFixed(0));
  if (size === 0) return "0";
  return String(Number(number.toPrecision(4)));
}

/** A change in per cent with sign and arrow, so that it is not told by colour alone. */
export function percent(value) {
  if (value === null || value === undefined || !Number.isFinite(Number(value))) return "–";
  const number = Number(value);
  const sign = number > 0 ? "▲ +" : number < 0 ? `▼ ${MINUS}` : "";
  return `${sign}${Math.abs(number).toFixed(2)}%`;
}

export const direction = (value) => (Number(value) > 0 ? "up" : Number(value) < 0 ? "down" : "");

const two = (number) => String(number).padStart(2, "0");

/** "14:05:09" of Unix milliseconds, UTC. */
export function clock(ms) {
  const at = new Date(ms);
  return `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}:${two(at.getUTCSeconds())}`;
}

/** "11-20 14:05" of Unix milliseconds, UTC. */
export function stamp(ms) {
  const at = new Date(ms);
  return `${two(at.getUTCMonth() + 1)}-${two(at.getUTCDate())} ${clock(ms).slice(0, 5)}`;
}

/** An age or a lag in seconds, short. */
export function seconds(value) {
  if (!Number.isFinite(value)) return "–";
  if (value < 0.0005) return "0 ms";
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 120) return `${value.toFixed(1)} s`;
  if (value < 7200) return `${Math.round(value / 60)} min`;
  return `${Math.round(value / 3600)} h`;
}

/** Bytes, short. */
export function bytes(value) {
  if (value >= 2 ** 30) return `${(value / 2 ** 30).toFixed(2)} GiB`;
  if (value >= 2 ** 20) return `${(value / 2 ** 20).toFixed(1)} MiB`;
  return `${Math.round(value / 1024)} KiB`;
}
