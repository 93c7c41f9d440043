// Input of a user, which extends the login: what a page asks by itself does not.

/** Milliseconds between two reports. */
const INTERVAL = 20000;

/** Call `used()` at the first input in an element, and then at most every 20 s. */
export function watchUse(element, used) {
  let last = -Infinity;
  const noted = () => {
    if (performance.now() - last < INTERVAL) return;
    last = performance.now();
    used();
  };
  for (const name of ["input", "keydown", "pointerdown", "wheel"]) {
    element.addEventListener(name, noted, { capture: true, passive: true });
  }
}
