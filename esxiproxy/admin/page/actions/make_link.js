// The dialog that makes a link, and shows it once.

import { html, useEffect, useRef, useState } from "../library/htm-preact.js";
import { act, read } from "../api.js";
import { time, visible } from "../format.js";
import { Action, Dialog, Facts } from "../parts/dialog.js";
import { Amount, secondsOf } from "../parts/amount.js";
import { Name, Sentence } from "../parts/name.js";

const LONGEST = 34560000;
const MAX_TO = 4096;
const MAX_NAME = 255;

/** Makes a link for one of the routers of the type links. */
export function MakeLink({ onDone, onClose }) {
  const [routers, problem] = useRouters();
  const [chosen, setChosen] = useState("");
  const [fields, setFields] = useState({ to: "", subject: "" });
  const [amount, setAmount] = useState({ time: "10", unit: "minutes" });
  const [many, setMany] = useState(false);
  const [vmrc, setVmrc] = useState(false);
  const [, show] = useState(0);
  const made = useRef(null);
  const closed = useRef(false);
  const router = chosen || routers?.[0] || "";
  const perform = async (reason) => {
    const subject = fields.subject.trim();
    made.current = await act("links", {
      router, to: fields.to.trim(), ttl: secondsOf(amount), many,
      ...(subject ? { subject } : {}), ...(vmrc ? { vmrc } : {}), reason,
    });
    return `The link ${visible(made.current.id)} was made, but not shown, since its dialog was closed.`;
  };
  if (made.current && !closed.current) return html`<${Made} link=${made.current} ...${{ onDone, onClose }} />`;
  const close = () => {
    if (made.current) return; // the form is replaced by the link
    closed.current = true;
    onClose();
  };
  const set = (name) => (event) => setFields({ ...fields, [name]: event.target.value });
  return html`<${Action} title="Make a link" verb="Make the link" disabled=${!router}
    ...${{ perform, onClose: close, onDone: (text) => (closed.current ? onDone(text) : show(1)) }}>
    <p>Anyone who has the link can use it.</p>
    ${problem && html`<p class="problem" role="alert"><${Sentence} text=${problem} /></p>`}
    ${routers?.length === 0 && html`<p class="problem" role="alert">The configuration has no router of the type links.</p>`}
    <label class="field">Router
      <select name="router" value=${router} disabled=${!router} onChange=${(event) => setChosen(event.target.value)}>
        ${(routers ?? []).map((name) => html`<option key=${name} value=${name}>${visible(name)}</option>`)}
      </select>
    </label>
    <label class="field">Host and path
      <input name="to" required maxlength=${MAX_TO} pattern=".*\\S.*" autocomplete="off" data-first
        placeholder="esxi1.example.com/ticket/…" title="HOST[:PORT][/PATH] of the console" value=${fields.to} onInput=${set("to")} />
    </label>
    <label class="field">User
      <input name="subject" maxlength=${MAX_NAME} autocomplete="off" aria-describedby="subject-hint" value=${fields.subject}
        onInput=${set("subject")} />
    </label>
    <p class="hint" id="subject-hint">Optional. The name of the user in lists and records.</p>
    <fieldset>
      <legend>It works</legend>
      ${[[false, "once"], [true, "until it expires"]].map(([value, label]) => html`<label key=${label} class="choice">
        <input type="radio" name="many" checked=${many === value} onChange=${() => setMany(value)} />
        <span>${label}</span>
      </label>`)}
    </fieldset>
    <label class="choice">
      <input type="checkbox" name="vmrc" checked=${vmrc} aria-describedby="vmrc-hint"
        onChange=${(event) => setVmrc(event.target.checked)} />
      <span>It is for VMware Remote Console</span>
    </label>
    <p class="hint" id="vmrc-hint">The router needs opaque = yes and locate = ${"path:/ticket/{link}"}.</p>
    <p class="label">It expires after</p>
    <${Amount} label="Time until the link expires" longest=${LONGEST} required=${true} positive=${true}
      ...${{ amount, onChange: setAmount }} />
  <//>`;
}

/** Shows a link that was made. It is nowhere else, and is not shown again. */
function Made({ link, onDone, onClose }) {
  const [said, setSaid] = useState("");
  const field = useRef(null);
  const url = link.vmrc ?? link.url;
  const copy = async () => setSaid((await copied(field.current)) ? "Copied." : "Copy it with Ctrl+C: it is selected.");
  const close = () => {
    onClose();
    onDone(`The link ${visible(link.id)} was made.`);
  };
  return html`<${Dialog} title="The link" onClose=${close}>
    <p>It is shown only now. Send it to its user in a way that nobody else can read.</p>
    <div class="secret">
      <input ref=${field} name="url" aria-label="The link" readonly value=${url} onFocus=${(event) => event.target.select()} />
      <button type="button" class="primary" data-first onClick=${copy}>Copy</button>
    </div>
    <p class="hint" role="status">${said}</p>
    <${Facts} facts=${[
      ["Id", html`<${Name} text=${link.id} />`],
      ["Expires", time(link.expires)],
      ...(link.field ? [["Also send", html`<${Name} text=${link.field} />`]] : []),
    ]} />
    <form method="dialog" class="buttons"><button>Close</button></form>
  <//>`;
}

/** Copy the text of a field; return whether the browser has done it. */
async function copied(field) {
  field.select();
  try {
    await navigator.clipboard.writeText(field.value);
    return true;
  } catch {
    return document.execCommand("copy"); // without TLS there is no clipboard
  }
}

/** Return the routers that make links, and why they cannot be read; null while they are not known. */
function useRouters() {
  const [state, setState] = useState([null, ""]);
  useEffect(() => {
    read("configuration").then(({ sections }) => {
      const found = sections.filter(({ header, keys }) => header.startsWith("router ") && keys.type === "links");
      setState([found.map(({ header }) => header.slice("router ".length)), ""]);
    }, (error) => setState([null, error.message]));
  }, []);
  return state;
}
