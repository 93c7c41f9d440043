// The physical keyboard: key events of the browser become key events with scan codes.
//
// Listeners in the capture phase see each key before noVNC does. Keys without a scan code, as screen keyboards send
// them, go on to noVNC, which sends their characters.

import { scanCode } from "./scan_codes.js";

/** Keys that leave the screen when they are pressed and released together, without another key or the mouse. */
const LEAVING = ["ControlLeft", "AltLeft"];
/** Milliseconds within which AltRight follows the ControlLeft that Windows invents for AltGr. */
const ALT_GR = 50;

/** Differences of operating systems: Windows adds key events, macOS leaves out releases. */
export function platformOf(name) {
  return { isWindows: /^win/i.test(name), isMac: /^(mac|iphone|ipad)/i.test(name) };
}

export class Keyboard {
  /**
   * `send(scanCode, isDown)` is called for each key of `element`, and `leave()` after Ctrl+Alt alone: all other keys
   * are the guest's, and without the mouse nothing else would lead out of the screen.
   */
  constructor(element, send, platform = platformOf(navigator.platform), leave = () => {}) {
    this.isPhysical = true;
    this._element = element;
    this._send = send;
    this._platform = platform;
    this._leave = leave;
    this._held = new Set();
    this._control = null;
    /** The keys of `LEAVING` that were pressed, and those that were released since. */
    this._leaving = { down: new Set(), up: new Set() };
    this._listeners = {
      keydown: (event) => {
        this._watchLeaving(event);
        this._pressed(event);
      },
      keyup: (event) => {
        this._released(event);
        this._watchLeaving(event);
      },
      // Ctrl+Alt with a button or the wheel is the guest's.
      pointerdown: () => this._forgetLeaving(),
      wheel: () => this._forgetLeaving(),
    };
    this._lost = () => this.releaseAll();
    for (const [name, listener] of Object.entries(this._listeners)) {
      element.addEventListener(name, listener, { capture: true, passive: name === "wheel" });
    }
    element.addEventListener("focusout", this._lost);
    window.addEventListener("blur", this._lost);
  }

  /** Release all keys and stop listening. */
  stop() {
    this.releaseAll();
    for (const [name, listener] of Object.entries(this._listeners)) this._element.removeEventListener(name, listener, true);
    this._element.removeEventListener("focusout", this._lost);
    window.removeEventListener("blur", this._lost);
  }

  /** Release every key that is held, so that no key stays pressed in the guest. */
  releaseAll() {
    this._forgetLeaving();
    this._dropControl();
    for (const scan of [...this._held]) this._up(scan);
  }

  /** Press keys in their order and release them in the opposite order. */
  press(codes) {
    const scans = codes.map(scanCode);
    for (const scan of scans) this._send(scan, true);
    for (const scan of scans.reverse()) this._send(scan, false);
  }

  _pressed(event) {
    const scan = this._take(event);
    if (scan === undefined) return;
    const { isWindows, isMac } = this._platform;
    if (isWindows && event.code === "ControlLeft" && !event.repeat && !this._held.has(scan)) {
      // It may be the one that Windows invents before AltGr; the next key tells.
      this._dropControl();
      this._control = { scan, time: event.timeStamp, timer: setTimeout(() => this._sendControl(), 2 * ALT_GR) };
      return;
    }
    if (this._control) {
      const isInvented = event.code === "AltRight" && event.timeStamp - this._control.time < ALT_GR;
      if (isInvented) this._dropControl();
      else this._sendControl();
    }
    if (isMac && event.code === "CapsLock") return this._stroke(scan);
    this._down(scan);
    // macOS sends no release of a key while Command is held.
    if (isMac && event.metaKey && !event.code.startsWith("Meta")) this._up(scan);
  }

  _released(event) {
    const scan = this._take(event);
    if (scan === undefined) return;
    if (this._control) this._sendControl();
    if (this._platform.isMac && event.code === "CapsLock") return this._stroke(scan);
    if (this._held.has(scan)) this._up(scan);
    // Windows tells of one release when both Shift keys were held.
    if (this._platform.isWindows && event.code.startsWith("Shift") && !event.shiftKey) {
      for (const other of ["ShiftLeft", "ShiftRight"].map(scanCode)) if (this._held.has(other)) this._up(other);
    }
  }

  _watchLeaving({ type, code, repeat }) {
    const { down, up } = this._leaving;
    if (repeat) return;
    if (!LEAVING.includes(code)) return this._forgetLeaving();
    if (type === "keydown") {
      if (up.size) this._forgetLeaving();
      this._leaving.down.add(code);
    } else if (down.size === LEAVING.length) {
      up.add(code);
      if (up.size < LEAVING.length) return;
      this._forgetLeaving();
      this._leave();
    } else {
      this._forgetLeaving();
    }
  }

  _forgetLeaving() {
    this._leaving = { down: new Set(), up: new Set() };
  }

  /** Return the scan code of an event and keep the event from noVNC and from the browser. */
  _take(event) {
    const scan = this.isPhysical ? scanCode(event.code) : undefined;
    if (scan === undefined) return undefined;
    event.preventDefault();
    event.stopPropagation();
    return scan;
  }

  _stroke(scan) {
    this._down(scan);
    this._up(scan);
  }

  _down(scan) {
    this._held.add(scan);
    this._send(scan, true);
  }

  _up(scan) {
    this._held.delete(scan);
    this._send(scan, false);
  }

  _sendControl() {
    const { scan } = this._control;
    this._dropControl();
    this._down(scan);
  }

  _dropControl() {
    clearTimeout(this._control?.timer);
    this._control = null;
  }
}
