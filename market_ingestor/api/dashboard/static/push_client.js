// Follows topics of the push gateway over one WebSocket, through cuts and restarts.
//
// Every topic has its own position: that of the newest closed candle it brought, at first that of
// its subscription. After a cut it is asked for again from there, so the gateway sends what was
// missed, revisions of old candles included. A topic whose position is gone begins anew, and its
// follower is told to load from REST.

import { Backoff } from "./backoff.js";

const BATCH_MS = 50; // messages come in arrays, about three to an animation frame
const TOPICS_AT_ONCE = 100;
const CHECK_MS = 2_000;
const PING_AFTER_MS = 8_000; // of silence
const LOST_AFTER_MS = 16_000;
const RETRY_MS = 3_000; // when the gateway cannot read history just now

function matches(pattern, topic) {
  const wanted = pattern.split(".");
  const parts = topic.split(".");
  return wanted.length === parts.length && wanted.every((word, at) => word === "*" || word === parts[at]);
}

export class PushClient extends EventTarget {
  #url;
  #socket = null;
  #followers = new Map(); // by topic as subscribed
  #byConcrete = new Map(); // concrete topic -> follower, as found
  #asked = new Map(); // request id -> topics
  #nextId = 1;
  #backoff = new Backoff();
  #retryTimer = null;
  #heardAt = 0;
  #token = null;
  #state = { name: "connecting", retryAt: null };

  constructor(url) {
    super();
    this.#url = url;
    setInterval(() => this.#check(), CHECK_MS);
    addEventListener("online", () => this.retryNow());
    addEventListener("visibilitychange", () => document.hidden || this.retryNow());
  }

  /** `name` is connecting, live, waiting or unauthorized; `retryAt` Unix milliseconds. */
  get state() {
    return this.#state;
  }

  connect() {
    clearTimeout(this.#retryTimer);
    this.#setState("connecting");
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    this.#heardAt = Date.now();
    socket.addEventListener("open", () => this.#opened(socket));
    socket.addEventListener("message", (event) => this.#received(socket, event.data));
    socket.addEventListener("close", () => this.#lost(socket));
  }

  /** Try at once instead of waiting. */
  retryNow() {
    if (this.#state.name === "waiting") this.connect();
  }

  /** Connect with a token from now on. */
  present(token) {
    this.#token = token;
    this.connect();
  }

  /**
   * Follow a topic; returns how to stop.
   *
   * @param follower `take(message)`; `ready()` when what comes from now on is live;
   *   `begin()` when messages may be missing: load what there is from REST after `ready`.
   */
  follow(topic, follower) {
    if (this.#followers.has(topic)) throw new Error(`${topic} is followed already`);
    this.#followers.set(topic, { topic, follower, position: null });
    this.#byConcrete.clear();
    if (this.#isOpen) this.#subscribe([topic], null);
    return () => {
      if (!this.#followers.delete(topic)) return;
      this.#byConcrete.clear();
      if (this.#isOpen) this.#send({ action: "unsubscribe", topics: [topic], id: this.#nextId++ });
    };
  }

  get #isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  #setState(name, retryAt = null) {
    this.#state = { name, retryAt };
    this.dispatchEvent(new Event("state"));
  }

  #send(message) {
    this.#socket.send(JSON.stringify(message));
  }

  #opened(socket) {
    if (socket !== this.#socket) return;
    this.#asked.clear();
    if (this.#token !== null) this.#send({ token: this.#token });
    const byPosition = Map.groupBy
      ? Map.groupBy(this.#followers.values(), (each) => each.position)
      : grouped(this.#followers.values());
    for (const [position, list] of byPosition) {
      const topics = list.map((each) => each.topic);
      for (let at = 0; at < topics.length; at += TOPICS_AT_ONCE) {
        this.#subscribe(topics.slice(at, at + TOPICS_AT_ONCE), position);
      }
    }
  }

  #subscribe(topics, since) {
    const id = this.#nextId++;
    this.#asked.set(id, { topics, since });
    this.#send({ action: "subscribe", topics, id, batch_ms: BATCH_MS, ...(since ? { since } : {}) });
  }

  #received(socket, text) {
    if (socket !== this.#socket) return;
    this.#heardAt = Date.now();
    const frame = JSON.parse(text);
    for (const message of Array.isArray(frame) ? frame : [frame]) this.#take(message);
  }

  #take(message) {
    switch (message.type) {
      case "kline": case "stats": case "event": case "trades":
        this.#give(message);
        break;
      case "subscribed":
        this.#backoff.reset();
        if (this.#state.name !== "live") this.#setState("live");
        this.#confirmed(message);
        break;
      case "missed":
        this.#missed(message);
        break;
      case "error":
        this.#refused(message);
        break;
      default: // answers to what needs none
    }
  }

  #give(message) {
    let entry = this.#byConcrete.get(message.topic);
    if (entry === undefined) {
      entry = this.#followers.get(message.topic)
        ?? [...this.#followers.values()].find((each) => matches(each.topic, message.topic)) ?? null;
      this.#byConcrete.set(message.topic, entry);
    }
    if (entry === null) return; // came after we stopped
    if (message.position) entry.position = message.position;
    entry.follower.take(message);
  }

  #confirmed({ id, position }) {
    const asked = this.#asked.get(id);
    this.#asked.delete(id);
    for (const topic of asked?.topics ?? []) {
      const entry = this.#followers.get(topic);
      if (entry === undefined) continue;
      entry.position ??= position;
      if (asked.since === null) entry.follower.begin?.();
      entry.follower.ready?.();
    }
  }

  #missed({ topic, position }) {
    for (const entry of this.#followers.values()) {
      if (position && (entry.topic === topic || matches(topic, entry.topic))) this.#subscribe([entry.topic], position);
    }
  }

  #refused({ id, code }) {
    const asked = this.#asked.get(id);
    this.#asked.delete(id);
    if (code === "unauthorized") {
      this.#socket.close();
      this.#socket = null;
      this.#setState("unauthorized");
    } else if (code === "position_gone") {
      for (const topic of asked?.topics ?? []) {
        const entry = this.#followers.get(topic);
        if (entry) entry.position = null;
      }
      if (asked) this.#subscribe(asked.topics, null);
    } else if (code === "unavailable" && asked) {
      setTimeout(() => this.#isOpen && this.#subscribe(asked.topics, asked.since), RETRY_MS);
    } else {
      console.warn("the push gateway refused a request", code);
    }
  }

  #lost(socket) {
    if (socket !== this.#socket) return;
    this.#socket = null;
    const wait = this.#backoff.next();
    this.#setState("waiting", Date.now() + wait);
    this.#retryTimer = setTimeout(() => this.connect(), wait);
  }

  /** Find out that nobody is there any more: a socket alone may not tell for minutes. */
  #check() {
    const silence = Date.now() - this.#heardAt;
    const socket = this.#socket;
    if (socket === null) return;
    if (silence > LOST_AFTER_MS) {
      this.#lost(socket);
      socket.close();
    } else if (silence > PING_AFTER_MS && this.#isOpen) {
      this.#send({ action: "ping", id: this.#nextId++ });
    }
  }
}

function grouped(entries) {
  const groups = new Map();
  for (const each of entries) groups.set(each.position, [...(groups.get(each.position) ?? []), each]);
  return groups;
}
