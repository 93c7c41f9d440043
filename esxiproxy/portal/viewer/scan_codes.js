// Physical keys as scan codes of set 1, as VMware's message 127/0 carries them.
//
// `KeyboardEvent.code` names the key by its place on the keyboard (UI Events KeyboardEvent code Values), and so
// does the scan code. The guest's own layout decides which character it is. Extended keys have 0x100 added.

const ROWS = [
  [0x01, "Escape Digit1 Digit2 Digit3 Digit4 Digit5 Digit6 Digit7 Digit8 Digit9 Digit0 Minus Equal Backspace Tab"],
  [0x10, "KeyQ KeyW KeyE KeyR KeyT KeyY KeyU KeyI KeyO KeyP BracketLeft BracketRight Enter ControlLeft"],
  [0x1e, "KeyA KeyS KeyD KeyF KeyG KeyH KeyJ KeyK KeyL Semicolon Quote Backquote ShiftLeft Backslash"],
  [0x2c, "KeyZ KeyX KeyC KeyV KeyB KeyN KeyM Comma Period Slash ShiftRight NumpadMultiply AltLeft Space CapsLock"],
  [0x3b, "F1 F2 F3 F4 F5 F6 F7 F8 F9 F10"],
  [0x46, "ScrollLock Numpad7 Numpad8 Numpad9 NumpadSubtract Numpad4 Numpad5 Numpad6 NumpadAdd"],
  [0x4f, "Numpad1 Numpad2 Numpad3 Numpad0 NumpadDecimal"],
  [0x56, "IntlBackslash F11 F12 NumpadEqual"],
  [0x64, "F13 F14 F15 F16 F17 F18 F19 F20 F21 F22 F23"],
  [0x147, "Home ArrowUp PageUp"],
  [0x14f, "End ArrowDown PageDown Insert Delete"],
  [0x15b, "MetaLeft MetaRight ContextMenu Power Sleep"],
];
const OTHERS = {
  ArrowLeft: 0x14b, ArrowRight: 0x14d, NumpadEnter: 0x11c, NumpadDivide: 0x135, ControlRight: 0x11d, AltRight: 0x138,
  PrintScreen: 0x137, Pause: 0x146, NumLock: 0x45, NumpadComma: 0x7e, F24: 0x76,
  IntlRo: 0x73, IntlYen: 0x7d, KanaMode: 0x70, Convert: 0x79, NonConvert: 0x7b, Lang1: 0x72, Lang2: 0x71,
  WakeUp: 0x163, AudioVolumeMute: 0x120, AudioVolumeDown: 0x12e, AudioVolumeUp: 0x130,
  OSLeft: 0x15b, OSRight: 0x15c,
};

const CODES = new Map(Object.entries(OTHERS));
for (const [first, names] of ROWS) {
  names.split(" ").forEach((name, index) => CODES.set(name, first + index));
}

/** Return the scan code of a `KeyboardEvent.code`; undefined for keys that have none, as of screen keyboards. */
export function scanCode(code) {
  return CODES.get(code);
}

/** Return VMware's client message 127/0, a key event: type, id, length (u16), scan code (u16), down, 0. */
export function keyEvent(scan, isDown) {
  return new Uint8Array([127, 0, 0, 8, scan >> 8, scan & 0xff, isDown ? 1 : 0, 0]);
}
