// The quality of the connection to the proxy: the round trip of small requests, and the bytes of the picture.

const INTERVAL = 5000;
const GOOD = 80;
const FAIR = 250;

/** Return the word for a round trip in milliseconds; null is a request that failed. */
export function wordFor(milliseconds) {
  if (milliseconds === null) return "lost";
  if (milliseconds <= GOOD) return "good";
  return milliseconds <= FAIR ? "fair" : "slow";
}

/**
 * Measure regularly while the page is visible. `show({word, milliseconds, rate})` is called with the median of the
 * last five round trips, null after a failure, and the bytes a second since the last time. Returns a function that
 * stops it.
 */
export function watchQuality(url, bytes, show, interval = INTERVAL) {
  const trips = [];
  let last = { bytes: bytes(), at: performance.now() };
  const measure = async () => {
    if (document.hidden) return;
    const begun = performance.now();
    let trip = null;
    try {
      await fetch(url, { method: "HEAD", cache: "no-store", signal: AbortSignal.timeout(interval) });
      trip = performance.now() - begun;
    } catch {
      trips.length = 0;
    }
    if (trip !== null) trips.push(trip);
    if (trips.length > 5) trips.shift();
    const now = { bytes: bytes(), at: performance.now() };
    const rate = ((now.bytes - last.bytes) * 1000) / Math.max(1, now.at - last.at);
    last = now;
    const sorted = [...trips].sort((one, other) => one - other);
    const milliseconds = trip === null ? null : sorted[Math.floor(sorted.length / 2)];
    show({ word: wordFor(milliseconds), milliseconds, rate });
  };
  measure();
  const timer = setInterval(measure, interval);
  return () => clearInterval(timer);
}
