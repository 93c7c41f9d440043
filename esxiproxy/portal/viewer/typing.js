// "Type this text": a text as key strokes of the US layout.

import { scanCode } from "./scan_codes.js";

/** Milliseconds between two keys; hosts lose keys that come faster. */
export const KEY_INTERVAL = 25;
export const MAX_TEXT = 10000;

const SHIFT = scanCode("ShiftLeft");
const KEYS = new Map([["\n", [scanCode("Enter"), false]], ["\t", [scanCode("Tab"), false]], [" ", [scanCode("Space"), false]]]);

function add(codes, plain, shifted) {
  codes.forEach((code, index) => {
    KEYS.set(plain[index], [scanCode(code), false]);
    KEYS.set(shifted[index], [scanCode(code), true]);
  });
}

const LETTERS = [..."abcdefghijklmnopqrstuvwxyz"];
add(LETTERS.map((letter) => `Key${letter.toUpperCase()}`), LETTERS, LETTERS.map((letter) => letter.toUpperCase()));
add([..."1234567890"].map((digit) => `Digit${digit}`), "1234567890", "!@#$%^&*()");
add(
  ["Minus", "Equal", "BracketLeft", "BracketRight", "Backslash", "Semicolon", "Quote", "Backquote", "Comma", "Period", "Slash"],
  "-=[]\\;'`,./",
  '_+{}|:"~<>?',
);

/** Return a text with line ends as the Enter key types them. */
export function normalised(text) {
  return text.replace(/\r\n?/g, "\n");
}

/** Return the different characters of a text that the US layout cannot type, at most `most` of them. */
export function untypable(text, most = 8) {
  const found = new Set();
  for (const character of normalised(text)) {
    if (!KEYS.has(character)) found.add(character);
    if (found.size >= most) break;
  }
  return [...found];
}

/**
 * Type a text: `send(scanCode, isDown)` is called for each key. Resolves to the number of characters that were
 * typed, which is smaller than the text when `signal` was aborted. `progress(count)` is called after each one.
 * Throws a RangeError before the first key if a character cannot be typed.
 */
export async function typeText(text, send, { signal, progress = () => {}, interval = KEY_INTERVAL } = {}) {
  const characters = [...normalised(text)];
  const refused = untypable(text);
  if (refused.length) throw new RangeError(`the US layout cannot type ${refused.join(" ")}`);
  let count = 0;
  for (const character of characters) {
    if (signal?.aborted) break;
    const [scan, isShifted] = KEYS.get(character);
    if (isShifted) send(SHIFT, true);
    send(scan, true);
    send(scan, false);
    if (isShifted) send(SHIFT, false);
    count += 1;
    progress(count);
    await new Promise((resolve) => setTimeout(resolve, interval));
  }
  return count;
}
