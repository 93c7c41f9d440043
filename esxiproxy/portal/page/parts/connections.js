// The users on the console of a machine, in any way of connecting, and the end of these consoles.

import { html, useEffect, useRef, useState } from "../../../admin/page/library/htm-preact.js";
import { counted, visible } from "../../../admin/page/format.js";
import { Dialog } from "../../../admin/page/parts/dialog.js";
import { act, ofMachine, read } from "../api.js";

export function Connections({ machine, onDone, onClose }) {
  const [found, setFound] = useState(null);
  const [chosen, setChosen] = useState(new Set());
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  const form = useRef(null);
  const mayDrop = machine.rights.includes("disconnect");
  const close = () => form.current.closest("dialog").close();
  useEffect(() => {
    read(ofMachine(machine, "connections")).then(
      ({ connections }) => setFound(connections),
      (error) => setProblem(error.message),
    );
  }, []);
  const choose = (label) => setChosen((before) => {
    const next = new Set(before);
    if (!next.delete(label)) next.add(label);
    return next;
  });
  const submitted = async (event) => {
    event.preventDefault();
    if (busy || !chosen.size) return;
    setBusy(true);
    setProblem("");
    try {
      await act(ofMachine(machine, "drop"), { labels: [...chosen] });
      close();
      onDone(`${counted(chosen.size, "console")} of ${visible(machine.name)} ended.`);
    } catch (error) {
      setProblem(error.message);
      setBusy(false);
    }
  };
  return html`<${Dialog} title=${html`Consoles of <bdi>${visible(machine.name)}</bdi>`} onClose=${onClose}>
    <form ref=${form} onSubmit=${submitted}>
      ${found === null && !problem && html`<p class="calm">vCenter is being asked.</p>`}
      ${found?.length === 0 && html`<p>Nobody has opened this console.</p>`}
      ${found?.length > 0 && html`<fieldset><legend>Open consoles, also those that are not of this proxy</legend>
        ${found.map((each) => html`<${Person} key=${each.label} ...${{ each, mayDrop, chosen, choose }} />`)}
      </fieldset>`}
      <p class="problem" role="alert">${visible(problem)}</p>
      <div class="buttons">
        <button type="button" data-first onClick=${close}>Close</button>
        ${mayDrop && found?.length > 0 && html`<button type="submit" class="danger"
          aria-disabled=${busy || !chosen.size ? "true" : "false"}>${busy ? "Working …" : `End ${counted(chosen.size, "console")}`}</button>`}
      </div>
    </form>
  <//>`;
}

function Person({ each, mayDrop, chosen, choose }) {
  const who = html`<span class="long"><bdi>${visible(each.user || "unknown user")}</bdi>${" "}
    <span class="number">from <bdi>${visible(each.client || "unknown")}</bdi></span></span>`;
  if (!mayDrop) return html`<p class="choice">${who}</p>`;
  return html`<label class="choice">
    <input type="checkbox" checked=${chosen.has(each.label)} onChange=${() => choose(each.label)} /> ${who}</label>`;
}
