// The page of one console: it joins the console, the bar, and what the portal knows of the machine.

import { Console, State } from "./console.js";
import { watchQuality } from "./quality.js";
import { startToolbar } from "./toolbar.js";
import { watchUse } from "./use.js";

const WORDS = {
  [State.CONNECTING]: "connecting",
  [State.OPEN]: "open",
  [State.WAITING]: "connecting again",
  [State.ENDED]: "closed",
};

/**
 * Show a console. `machine` is `{name}`; `url()` resolves to the WebSocket's URL, which works once with `isOnce`;
 * `explain()` resolves to `{sentence, isFinal}` after a refused opening; `resize(width, height)` is undefined where
 * it is not allowed; `used()` is called at the first input of the user and then at most every 20 s; `probe` is a
 * small resource for measuring the round trip. Returns the console.
 */
export function showConsole(RFB, { machine, url, explain, resize, probe, used = () => {}, isOnce = false }) {
  const find = (id) => document.getElementById(id);
  const console_ = new Console(RFB, find("screen"), url, explain, isOnce);
  const rename = (name) => {
    find("name").textContent = name;
    find("name").title = name;
    document.title = `${name} – console`;
  };
  rename(machine.name);
  console_.addEventListener("state", ({ detail: { state, sentence } }) => {
    find("state").textContent = WORDS[state];
    find("state").className = state;
    const isOver = state === State.ENDED;
    find("notice").hidden = !isOver && state !== State.WAITING;
    find("sentence").textContent = sentence;
    find("next").textContent = isOver ? "" : "The page connects again by itself.";
    find("again").hidden = !isOver || !console_.canOpen;
    for (const id of ["ctrl-alt-del", "type"]) find(id).disabled = state !== State.OPEN;
    find("close").disabled = isOver;
    find("hint").hidden = state !== State.OPEN;
    if (isOver) (console_.canOpen ? find("again") : find("back")).focus();
  });
  console_.addEventListener("leave", () => find("ctrl-alt-del").focus());
  watchUse(find("stage"), used);
  startToolbar(document, console_, resize);
  watchQuality(probe, () => console_.bytes, ({ word, milliseconds, rate }) => {
    const trip = milliseconds === null ? "no answer" : `${Math.max(1, Math.round(milliseconds))} ms`;
    find("quality").textContent = `${trip}, ${Math.round(rate / 1024)} KiB/s`;
    find("quality").className = word;
    find("quality").title = `The connection to the proxy is ${word}.`;
  });
  window.addEventListener("pagehide", () => console_.close());
  console_.open();
  return console_;
}
