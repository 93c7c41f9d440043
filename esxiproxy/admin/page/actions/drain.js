// The dialogs that drain a proxy, a listener, an upstream or a host, and that end a drain.

import { html, useEffect, useState } from "../library/htm-preact.js";
import { act, read } from "../api.js";
import { counted, visible } from "../format.js";
import { Amount, secondsOf } from "../parts/amount.js";
import { Action } from "../parts/dialog.js";

const LONGEST = 2592000;

/** Return what is drained, in words. */
export function titleOf({ kind, name, machine }) {
  const place = machine ? ` on ${visible(machine)}` : "";
  return kind === "proxy" ? `the proxy${place}` : `the ${kind} ${visible(name)}${place}`;
}

function request({ kind, name, machine }) {
  return { kind, ...(name ? { name } : {}), ...(machine ? { machine } : {}) };
}

/** Drains a target: `{ kind, name, machine }`. */
export function Drain({ target, onDone, onClose }) {
  const [ends, setEnds] = useState(false);
  const [amount, setAmount] = useState({ time: "10", unit: "minutes" });
  const running = useRunning(target);
  const perform = async (reason) => {
    const after = ends ? { end_after: secondsOf(amount) } : {};
    const done = await act("drain", { ...request(target), ...after, reason });
    const rest = done.sessions ? ` ${counted(done.sessions, "console")} still ${done.sessions === 1 ? "runs" : "run"} there.` : "";
    return `${sentence(titleOf(target))} is drained.${rest}`;
  };
  const concerned = running === null ? "…" : counted(running, "console");
  return html`<${Action} title=${`Drain ${titleOf(target)}`} danger=${ends} seen=${ends}
    verb=${ends && running !== null ? `Drain, and end ${concerned}` : "Drain"} ...${{ perform, onDone, onClose }}>
    <p>It takes no new consoles until the drain is ended. ${lasts(target)}</p>
    <p><strong>${concerned}</strong> ${running === 1 ? "runs" : "run"} there now.</p>
    <label class="choice">
      <input type="checkbox" name="ends" checked=${ends} onChange=${(event) => setEnds(event.target.checked)} />
      <span>End running consoles after</span>
    </label>
    <${Amount} label="Time until running consoles are ended" longest=${LONGEST} required=${ends} disabled=${!ends}
      ...${{ amount, onChange: setAmount }} />
  <//>`;
}

/** Ends the drain of a target. */
export function Undrain({ target, onDone, onClose }) {
  const perform = async (reason) => {
    await act("undrain", { ...request(target), reason });
    return `${sentence(titleOf(target))} takes new consoles again.`;
  };
  return html`<${Action} title=${`Undrain ${titleOf(target)}`} verb="Undrain" ...${{ perform, onDone, onClose }}>
    <p>It takes new consoles again.</p>
  <//>`;
}

function lasts({ kind }) {
  return kind === "host" || kind === "upstream"
    ? "This holds for all machines that share the state."
    : "This holds for one machine, until its proxy stops.";
}

function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Return how many consoles run at a target; null while it is not known. */
function useRunning(target) {
  const [running, setRunning] = useState(null);
  useEffect(() => {
    consoles(target).then(setRunning, () => null);
  }, []);
  return running;
}

async function consoles({ kind, name, machine }) {
  if (kind === "proxy") {
    const { workers } = await read("workers");
    const own = workers.filter((worker) => worker.machine === machine);
    return own.reduce((sum, worker) => sum + worker.sessions, 0);
  }
  return (await read("sessions", { [kind]: name, limit: 1 })).matching;
}
