// Tells how the push connection is, and asks for a token where one is needed.

import { byId, setText } from "./dom.js";
import { notify, withdraw } from "./notices.js";

const WORDS = { connecting: "Connecting", live: "Live", unauthorized: "No token" };
const TICK_MS = 250;

export class ConnectionSign {
  #push;
  #sign = byId("connection");
  #wasLive = false;
  #ticking = null;

  constructor(push) {
    this.#push = push;
    push.addEventListener("state", () => this.#show());
    const dialog = byId("token-dialog");
    dialog.addEventListener("close", () => {
      const token = byId("token");
      if (token.value) push.present(keep(token.value));
      token.value = "";
    });
    const known = kept();
    if (known !== null) push.present(known);
    else push.connect();
  }

  #show() {
    const { name } = this.#push.state;
    this.#sign.dataset.state = name;
    document.body.classList.toggle("disconnected", name !== "live");
    clearInterval(this.#ticking);
    if (name === "waiting") {
      this.#ticking = setInterval(() => this.#count(), TICK_MS);
      this.#count();
    } else if (name === "connecting" && this.#wasLive) {
      setText(this.#sign, "Reconnecting");
    } else {
      setText(this.#sign, WORDS[name]);
    }
    if (name === "live") {
      this.#wasLive = true;
      withdraw("connection");
    }
    if (name === "unauthorized") this.#ask();
  }

  #count() {
    const left = Math.max(0, Math.ceil((this.#push.state.retryAt - Date.now()) / 1000));
    setText(this.#sign, left > 0 ? `Retry in ${left} s` : "Reconnecting");
    notify("connection", this.#wasLive
      ? "Connection to the push gateway lost. What is missed meanwhile is filled in on return."
      : "The push gateway cannot be reached. History is shown, nothing moves.",
    { isBad: true, action: { text: "Try now", run: () => this.#push.retryNow() } });
  }

  #ask() {
    forget();
    const dialog = byId("token-dialog");
    if (!dialog.open) dialog.showModal();
  }
}

const KEY = "market-ingestor.push-token";

function kept() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function keep(token) {
  try {
    sessionStorage.setItem(KEY, token);
  } catch { /* then it is asked for again */ }
  return token;
}

function forget() {
  try {
    sessionStorage.removeItem(KEY);
  } catch { /* nothing was kept */ }
}
