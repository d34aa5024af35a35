// Dark or light: as the system has it, until somebody chooses.

const KEY = "market-ingestor.theme";
const CHOICES = ["auto", "dark", "light"];
const LABELS = { auto: "◐ Auto", dark: "☾ Dark", light: "☀ Light" };

function stored() {
  try {
    const found = localStorage.getItem(KEY);
    return CHOICES.includes(found) ? found : "auto";
  } catch {
    return "auto"; // storage may be forbidden
  }
}

export class Theme extends EventTarget {
  #button;
  #choice = stored();

  constructor(button) {
    super();
    this.#button = button;
    button.addEventListener("click", () => this.#next());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#announce());
    this.#apply();
  }

  /** Return a named colour as scripts can use it. */
  static colour(name) {
    const probe = document.createElement("span");
    probe.style.color = `var(--${name})`;
    document.body.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  }

  #next() {
    this.#choice = CHOICES[(CHOICES.indexOf(this.#choice) + 1) % CHOICES.length];
    try {
      localStorage.setItem(KEY, this.#choice);
    } catch { /* then it holds until the page is left */ }
    this.#apply();
    this.#announce();
  }

  #apply() {
    document.documentElement.dataset.theme = this.#choice;
    this.#button.textContent = LABELS[this.#choice];
    this.#button.setAttribute("aria-label", `Theme: ${this.#choice}. Change it`);
  }

  #announce() {
    this.dispatchEvent(new Event("change"));
  }
}
