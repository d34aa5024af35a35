// The last hour of each market as a small line: minutes from REST, the newest price from push.

const SVG = "http://www.w3.org/2000/svg";
const POINTS = 60;
const MINUTE_MS = 60_000;
const WIDTH = 58;
const HEIGHT = 26;
const PATIENCE_MS = 1_500; // the chart comes first
const REDRAW_MS = 1_000; // of one line, at most

export class Sparklines {
  #rest;
  #onload;
  #lines = new Map();
  #waiting = [];
  #isLoading = false;

  constructor(rest, onload) {
    this.#rest = rest;
    this.#onload = onload;
  }

  /** Return the line of a market, empty at first. */
  line(market) {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute("aria-hidden", "true");
    const path = document.createElementNS(SVG, "polyline");
    path.setAttribute("fill", "none");
    path.setAttribute("stroke-width", "1.4");
    path.setAttribute("stroke-linejoin", "round");
    svg.append(path);
    this.#lines.set(market.key, { path, closes: [], minute: 0, drawnAt: 0, isAsked: false });
    return svg;
  }

  /** Draw a market's line with its newest price. */
  draw(market) {
    const line = this.#lines.get(market.key);
    const now = Date.now();
    if (line !== undefined && market.isListed && !line.isAsked) {
      line.isAsked = true;
      this.#waiting.push(market);
      this.#loadNext();
    }
    if (line === undefined || market.last === null || now - line.drawnAt < REDRAW_MS) return;
    line.drawnAt = now;
    const minute = Math.floor(now / MINUTE_MS);
    const price = Number(market.last);
    if (minute === line.minute) line.closes[line.closes.length - 1] = price;
    else line.closes.push(price);
    line.minute = minute;
    line.closes = line.closes.slice(-POINTS);
    plot(line.path, line.closes);
  }

  /** One request after the other: nobody waits for these lines. */
  async #loadNext() {
    if (this.#isLoading) return;
    this.#isLoading = true;
    await new Promise((resolve) => setTimeout(resolve, PATIENCE_MS));
    for (let market = this.#waiting.shift(); market; market = this.#waiting.shift()) {
      try {
        const { exchange, symbol } = market;
        const { data } = await this.#rest.data("api/v1/klines", { exchange, symbol, period: "1m", limit: POINTS });
        const line = this.#lines.get(market.key);
        line.closes = [...data.map((each) => Number(each.close)), ...line.closes].slice(-POINTS);
        line.drawnAt = 0;
        this.#onload(market.key);
      } catch {
        // then the line begins now
      }
    }
    this.#isLoading = false;
  }
}

function plot(path, closes) {
  if (closes.length < 2) return;
  const least = Math.min(...closes);
  const range = Math.max(...closes) - least || 1;
  const step = (WIDTH - 2) / (closes.length - 1);
  const points = closes.map((close, at) => {
    const y = HEIGHT - 3 - ((close - least) / range) * (HEIGHT - 6);
    return `${(1 + at * step).toFixed(1)},${y.toFixed(1)}`;
  });
  path.setAttribute("points", points.join(" "));
  path.setAttribute("stroke", closes.at(-1) >= closes[0] ? "var(--up)" : "var(--down)");
}
