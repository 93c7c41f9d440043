// The meaning of the end of a console: a sentence for the screen, and whether the page opens it again.

/** Codes of ends that an operator or a rule wants: asking again would be against it (RFC 6455 7.4.1). */
const FINAL = new Set([1002, 1003, 1007, 1008, 1009, 1010]);

const SENTENCES = {
  1000: "The host closed the console.",
  1001: "The host closed the console, or the virtual machine moved to another host.",
  1002: "The host or the browser violated the WebSocket protocol.",
  1005: "The host closed the console without a reason.",
  1006: "The connection was lost.",
  1008: "A rule of the proxy ended the console.",
  1009: "A message of the console was too large.",
  1011: "The proxy lost the connection to the host.",
  1012: "The proxy restarts.",
  1013: "The proxy is busy.",
  1014: "The host gave a wrong answer to the proxy.",
};

/** Return `{sentence, isFinal}` for the Close of an open console. */
export function ending(code, reason) {
  const known = SENTENCES[code] ?? `The console was closed with code ${code}.`;
  const sentence = reason ? `${known} The reason given: ${reason}` : known;
  return { sentence, isFinal: FINAL.has(code) };
}
