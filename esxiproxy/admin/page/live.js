// The event stream: the status each second, and the changes of one window of a list.

import { address, read } from "./api.js";

const SILENCE = 10000;
const FIRST_WAIT = 500;
const LONGEST_WAIT = 10000;

/** The key of a row in each list, as the events have it. */
const KEYS = {
  sessions: (row) => row.id,
  hosts: (row) => `${row.upstream} ${row.host}`,
  failures: (row) => row.session,
};

/** Return the key of a row of a list. */
export function keyOf(view, row) {
  return KEYS[view](row);
}

/**
 * The one stream of this page. `changed` is called with a new snapshot at each event.
 *
 * A stream that ends is opened again, at first at once and then less often. A page that nobody sees has no
 * stream.
 */
export class LiveStream {
  #changed;
  #wanted = null;
  #source = null;
  #fresh = false;
  #rows = new Map();
  #timer = 0;
  #watch = 0;
  #wait = FIRST_WAIT;
  #snapshot = { connection: "connecting", problem: "", status: null, window: null };

  constructor(changed) {
    this.#changed = changed;
    document.addEventListener("visibilitychange", () => this.#visibilityChanged());
    // A request that the browser ends as the page goes is no failure.
    addEventListener("pagehide", () => this.#close());
    addEventListener("pageshow", (event) => event.persisted && this.#wanted && this.#open());
  }

  /** Show this window: view, filter, sort, order, offset, limit. */
  show(window) {
    if (JSON.stringify(window) === JSON.stringify(this.#wanted)) return;
    if (window.view !== this.#wanted?.view) {
      this.#rows = new Map();
      this.#snapshot = { ...this.#snapshot, window: null };
    }
    this.#wanted = window;
    this.#wait = FIRST_WAIT;
    if (!document.hidden) this.#open();
  }

  #open() {
    this.#close();
    this.#fresh = true;
    const source = new EventSource(address("events", this.#wanted));
    this.#source = source;
    source.addEventListener("status", (event) => this.#received({ status: JSON.parse(event.data) }));
    source.addEventListener("window", (event) => this.#windowReceived(JSON.parse(event.data)));
    source.addEventListener("error", () => this.#lost("The connection to the admin service was lost."));
    this.#listen();
  }

  #close() {
    this.#source?.close();
    this.#source = null;
    clearTimeout(this.#timer);
    clearTimeout(this.#watch);
  }

  #listen() {
    clearTimeout(this.#watch);
    this.#watch = setTimeout(() => this.#lost("The admin service sends nothing any more."), SILENCE);
  }

  #received(news) {
    this.#listen();
    this.#wait = FIRST_WAIT;
    this.#publish({ connection: "live", problem: "", ...news });
  }

  #windowReceived(event) {
    const known = this.#fresh ? new Map() : this.#rows;
    for (const row of event.changed) known.set(keyOf(event.view, row), row);
    this.#fresh = false;
    this.#rows = new Map(event.order.filter((key) => known.has(key)).map((key) => [key, known.get(key)]));
    const { view, total, matching, offset } = event;
    this.#received({ window: { view, total, matching, offset, rows: [...this.#rows.values()] } });
  }

  #lost(problem) {
    this.#close();
    this.#publish({ connection: "lost", problem });
    this.#timer = setTimeout(() => this.#tryAgain(), this.#wait);
    this.#wait = Math.min(LONGEST_WAIT, this.#wait * 2);
  }

  async #tryAgain() {
    const wanted = this.#wanted;
    try {
      // An EventSource does not say why it failed; this answer does.
      await read("status");
    } catch (error) {
      if (wanted === this.#wanted && !this.#source && !document.hidden) this.#lost(error.message);
      return;
    }
    if (wanted === this.#wanted && !this.#source && !document.hidden) this.#open();
  }

  #visibilityChanged() {
    if (document.hidden) {
      this.#close();
      this.#publish({ connection: "connecting" });
    } else if (this.#wanted) {
      this.#open();
    }
  }

  #publish(news) {
    this.#snapshot = { ...this.#snapshot, ...news };
    this.#changed(this.#snapshot);
  }
}
