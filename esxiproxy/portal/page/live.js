// The event stream: who is logged in, and the changes of one window of the machines.

import { address, readByItself } from "./api.js";

/** Milliseconds without an event after which the stream is taken for lost. A ping comes each 15 s. */
const SILENCE = 40000;
const FIRST_WAIT = 500;
const LONGEST_WAIT = 10000;

/**
 * The one stream of this page. `changed` is called with a new snapshot at each event.
 *
 * A stream that ends is opened again, at first at once and then less often. A page that is hidden has no stream.
 */
export class MachineStream {
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
    addEventListener("pagehide", () => this.#close());
    addEventListener("pageshow", (event) => event.persisted && this.#wanted && this.#open());
  }

  /** Show this window: search, offset, limit, favourites. */
  show(window) {
    if (JSON.stringify(window) === JSON.stringify(this.#wanted)) return;
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
    source.addEventListener("ping", () => this.#received({}));
    source.addEventListener("window", (event) => this.#windowReceived(JSON.parse(event.data)));
    source.addEventListener("error", () => this.#lost("The connection to the proxy was lost."));
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
    this.#watch = setTimeout(() => this.#lost("The proxy sends nothing any more."), SILENCE);
  }

  #received(news) {
    this.#listen();
    this.#wait = FIRST_WAIT;
    this.#publish({ connection: "live", problem: "", ...news });
  }

  #windowReceived(event) {
    const known = this.#fresh ? new Map() : this.#rows;
    for (const [key, row] of Object.entries(event.changed)) known.set(key, row);
    this.#fresh = false;
    const order = event.order.filter((key) => known.has(key));
    this.#rows = new Map(order.map((key) => [key, known.get(key)]));
    const { total, matching, offset } = event;
    this.#received({ window: { total, matching, offset, machines: [...this.#rows.values()] } });
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
      // An EventSource does not say why it failed; this answer does, and leads to the login form.
      await readByItself("machines", { limit: 1 });
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
