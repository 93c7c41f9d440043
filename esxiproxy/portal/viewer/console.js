// One console: its WebSocket, noVNC on it, and the attempts to come back when it is lost.

import { ending } from "./endings.js";
import { Keyboard } from "./keyboard.js";
import { keyEvent } from "./scan_codes.js";

/** Milliseconds before each attempt; the last one repeats. */
const DELAYS = [200, 500, 1000, 2000, 3000];
/** Milliseconds after which the page stops to ask again. */
const RECONNECT_TIMEOUT = 60000;
/** Milliseconds that a console has to be open before its end counts as a new one. */
const STEADY = 3000;

export const State = Object.freeze({ CONNECTING: "connecting", OPEN: "open", WAITING: "waiting", ENDED: "ended" });

const ONCE = "Its link opens a console once: ask for another link where it came from.";

/**
 * A console that is shown in `element`. `url(isWanted)` resolves to the URL of a WebSocket, for each attempt anew; it
 * throws where the console is not to be opened. `isWanted` is false for an attempt of the page itself.
 * `explain()` resolves to `{sentence, isFinal}` when an opening failed, since a browser tells no status. With
 * `isOnce` the URL works once: a console that is lost does not come back. Events: `state` with `{state, sentence}`,
 * `clipboard` with the host's text, and `leave` when the user leaves the screen with the keyboard.
 */
export class Console extends EventTarget {
  constructor(RFB, element, url, explain, isOnce = false) {
    super();
    this.state = State.ENDED;
    this.isScaled = true;
    this.bytes = 0;
    this._RFB = RFB;
    this._element = element;
    this._url = url;
    this._explain = explain;
    this._isOnce = isOnce;
    this._isUsed = false;
    this._socket = null;
    this._rfb = null;
    this._timer = null;
    /** An object for each step that waits; after another step it is another object. */
    this._current = null;
    this._attempt = 0;
    this._lostAt = null;
    const send = (scan, isDown) => this.key(scan, isDown);
    this.keyboard = new Keyboard(element, send, undefined, () => this._tell("leave"));
  }

  /** Whether the console can be opened, for the first time or again. */
  get canOpen() {
    return !(this._isOnce && this._isUsed);
  }

  /** Open the console, as on a click: all attempts begin anew. */
  open() {
    if (this.state === State.CONNECTING || this.state === State.OPEN) return;
    this._attempt = 0;
    this._lostAt = null;
    this._connect(true);
  }

  /** Close the console; it stays closed. */
  close() {
    this._end("You closed the console.");
  }

  /** Send a key with its scan code, if the console is open. */
  key(scan, isDown) {
    if (this.state === State.OPEN) this._socket.send(keyEvent(scan, isDown));
  }

  /** Show the picture in the size of the page, or in its own with scroll bars. */
  scale(isScaled) {
    this.isScaled = isScaled;
    if (this._rfb) this._rfb.scaleViewport = isScaled;
  }

  /** Give a text to the host's clipboard. */
  paste(text) {
    if (this.state === State.OPEN) this._rfb.clipboardPasteFrom(text);
  }

  focus() {
    this._rfb?.focus({ preventScroll: true });
  }

  async _connect(isWanted) {
    this._show(State.CONNECTING, "");
    const attempt = (this._current = {});
    let url;
    try {
      url = await this._url(isWanted);
    } catch {
      if (attempt === this._current) this._refused();
      return;
    }
    if (attempt === this._current) this._dial(url);
  }

  _dial(url) {
    const socket = new WebSocket(url, ["binary"]);
    socket.binaryType = "arraybuffer";
    this._socket = socket;
    let openedAt = null;
    const rfb = new this._RFB(this._element, socket, { shared: true });
    rfb.scaleViewport = this.isScaled;
    rfb.background = "transparent";
    rfb.addEventListener("connect", () => {
      openedAt = performance.now();
      this._isUsed = true;
      this._element.querySelector("canvas")?.setAttribute("aria-label", this._element.getAttribute("aria-label"));
      this._show(State.OPEN, "");
      this.focus();
    });
    // ESXi asks for no password, and noVNC would wait for one without end.
    rfb.addEventListener("credentialsrequired", () => this._end("The host asks for a password, which is not supported."));
    rfb.addEventListener("clipboard", (event) => this._tell("clipboard", event.detail.text));
    this._rfb = rfb;
    socket.addEventListener("message", (event) => (this.bytes += event.data.byteLength));
    socket.addEventListener("close", (event) => {
      if (socket !== this._socket) return;
      this._release();
      if (openedAt === null) this._refused();
      else this._lost(ending(event.code, event.reason), performance.now() - openedAt);
    });
  }

  _lost({ sentence, isFinal }, milliseconds) {
    if (milliseconds > STEADY) {
      this._attempt = 0;
      this._lostAt = null;
    }
    if (isFinal) this._show(State.ENDED, sentence);
    else if (!this.canOpen) this._show(State.ENDED, `${sentence} ${ONCE}`);
    else this._again(sentence);
  }

  _end(sentence) {
    clearTimeout(this._timer);
    this._current = null;
    this._release();
    this._show(State.ENDED, sentence);
  }

  async _refused() {
    const attempt = (this._current = {});
    const { sentence, isFinal } = await this._explain();
    if (attempt !== this._current) return;
    if (isFinal) this._show(State.ENDED, sentence);
    else this._again(sentence);
  }

  _again(sentence) {
    this._lostAt ??= performance.now();
    if (performance.now() - this._lostAt > RECONNECT_TIMEOUT) return this._show(State.ENDED, sentence);
    const delay = DELAYS[Math.min(this._attempt, DELAYS.length - 1)];
    this._attempt += 1;
    this._show(State.WAITING, sentence);
    clearTimeout(this._timer);
    this._timer = setTimeout(() => this._connect(false), delay);
  }

  _release() {
    this.keyboard.releaseAll();
    const rfb = this._rfb;
    const socket = this._socket;
    this._rfb = null;
    this._socket = null;
    rfb?.disconnect();
    if (socket && socket.readyState < WebSocket.CLOSING) socket.close(1000);
  }

  _show(state, sentence) {
    this.state = state;
    this._tell("state", { state, sentence });
  }

  _tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
