// The event stream: the status when it changes, and the changes of one window of a list.

import { address, read } from "./api.js";

/** Milliseconds without an event after which the stream is taken for lost. The service sends a ping each 15 s. */
const SILENCE = 40000;
const FIRST_WAIT = 500;
const LONGEST_WAIT = 10000;

/**
 * The one stream of this page. `changed` is called with a new snapshot at each event. `ahead` is by how many
 * seconds the clock of the service is ahead of that of the browser.
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
  #snapshot = { connection: "connecting", problem: "", status: null, ahead: 0, window: null };

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
    source.addEventListener("status", (event) => this.#statusReceived(JSON.parse(event.data)));
    source.addEventListener("ping", () => this.#received({}));
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

  #statusReceived(status) {
    // The clocks of the machines may differ: times are shown by that of the service.
    this.#received({ status, ahead: status.now - Date.now() / 1000 });
  }

  #windowReceived(event) {
    const known = this.#fresh ? new Map() : this.#rows;
    const seen = Date.now() / 1000 + this.#snapshot.ahead;
    for (const [key, row] of Object.entries(event.changed)) known.set(key, { ...row, seen });
    this.#fresh = false;
    const order = event.order.filter((key) => known.has(key));
    this.#rows = new Map(order.map((key) => [key, known.get(key)]));
    const { view, total, matching, offset } = event;
    this.#received({ window: { view, total, matching, offset, keys: order, rows: this.#rows } });
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
