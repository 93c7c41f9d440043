// The event stream of a page: the status when it changes, and the changes of one window of a list.

/** Milliseconds without an event after which the stream is taken for lost. The service sends a ping each 15 s. */
const SILENCE = 40000;
const FIRST_WAIT = 500;
const LONGEST_WAIT = 10000;

/**
 * The snapshot before the first event. `ahead` is by how many seconds the clock of the service is ahead of that of
 * the browser.
 */
export const FIRST_SNAPSHOT = { connection: "connecting", problem: "", status: null, ahead: 0, window: null };

/**
 * The one stream of a page. `changed` is called with a new snapshot at each event. `address` returns the URL of the
 * stream of a window, `probe` sends a request that fails as the stream does, and `service` is the name of the
 * service in sentences.
 *
 * A stream that ends is opened again, at first at once and then less often. A page that is hidden has no stream.
 */
export class LiveStream {
  #changed;
  #address;
  #probe;
  #service;
  #wanted = null;
  #source = null;
  #fresh = false;
  #rows = new Map();
  #timer = 0;
  #watch = 0;
  #wait = FIRST_WAIT;
  #snapshot = FIRST_SNAPSHOT;

  constructor(changed, { address, probe, service }) {
    this.#changed = changed;
    this.#address = address;
    this.#probe = probe;
    this.#service = service;
    document.addEventListener("visibilitychange", () => this.#visibilityChanged());
    // A request that the browser ends as the page goes is no failure.
    addEventListener("pagehide", () => this.#close());
    addEventListener("pageshow", (event) => event.persisted && this.#wanted && this.#open());
  }

  /** Show this window, whose members are the parameters of the stream. Another `view` begins without rows. */
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
    const source = new EventSource(this.#address(this.#wanted));
    this.#source = source;
    source.addEventListener("status", (event) => this.#statusReceived(JSON.parse(event.data)));
    source.addEventListener("ping", () => this.#received({}));
    source.addEventListener("unavailable", (event) => this.#unavailable(JSON.parse(event.data).error));
    source.addEventListener("window", (event) => this.#windowReceived(JSON.parse(event.data)));
    source.addEventListener("error", () => this.#lost(`The connection to the ${this.#service} was lost.`));
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
    this.#watch = setTimeout(() => this.#lost(`The ${this.#service} sends nothing any more.`), SILENCE);
  }

  #received(news) {
    this.#listen();
    this.#wait = FIRST_WAIT;
    this.#publish({ connection: "live", problem: "", ...news });
  }

  #statusReceived(status) {
    // The clocks of the machines may differ: times are shown by that of the service, if its status has one.
    this.#received({ status, ahead: status.now === undefined ? 0 : status.now - Date.now() / 1000 });
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

  // The service answers and can read nothing; the stream goes on.
  #unavailable(problem) {
    this.#listen();
    this.#publish({ connection: "lost", problem });
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
      await this.#probe();
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
