// The dialogs that check the configuration file, and that put it into force.

import { html, useEffect, useState } from "../library/htm-preact.js";
import { act } from "../api.js";
import { counted } from "../format.js";
import { Action, Dialog } from "../parts/dialog.js";
import { Badge, Sentence } from "../parts/name.js";

/** Problems of a configuration, each with its place in the file. */
export function Problems({ problems }) {
  return html`<ul class="problems">
    ${problems.map((problem, index) => html`<li key=${index}>
      <${Badge} kind=${problem.severity === "error" ? "bad" : "warn"}>${problem.severity}<//>
      <span class="place"><${Sentence} text=${place(problem)} /></span>
      <${Sentence} text=${problem.text} />
    </li>`)}
  </ul>`;
}

function place({ file, line, section, key }) {
  return [`${file}:${line}`, section && `[${section}]`, key].filter(Boolean).join(" ");
}

/** Checks the file, and shows its problems. */
export function Check({ onClose }) {
  const [checked, problem] = useChecked();
  return html`<${Dialog} title="Check the configuration file" onClose=${onClose}>
    <div role="status"><${Outcome} ...${{ checked, problem }} /></div>
    <form method="dialog" class="buttons"><button class="primary" data-first>Close</button></form>
  <//>`;
}

/** Puts the file into force. It is checked first, and a file with errors cannot be put into force. */
export function Reload({ onDone, onClose }) {
  const [checked, problem] = useChecked();
  const perform = async (reason) => {
    const { reloaded, problems } = await act("reload", { reason });
    if (!reloaded) throw new Error(`Nothing has changed. ${problems.join(" ") || "The log says why."}`);
    return "The configuration file is in force.";
  };
  return html`<${Action} title="Reload the configuration" verb="Reload" disabled=${checked !== null && !checked.valid}
    ...${{ perform, onDone, onClose }}>
    <p>New connections get the new settings. No running console ends.</p>
    <div role="status"><${Outcome} ...${{ checked, problem }} /></div>
  <//>`;
}

function Outcome({ checked, problem }) {
  if (problem) return html`<p class="problem"><${Sentence} text=${problem} /></p>`;
  if (!checked) return html`<p>The file is being checked …</p>`;
  const errors = checked.problems.filter((each) => each.severity === "error").length;
  const warnings = checked.problems.length - errors;
  return html`<p>${checked.valid
      ? html`<${Badge} kind="good">valid<//> The file can be put into force${warnings ? `, with ${counted(warnings, "warning")}` : ""}.`
      : html`<${Badge} kind="bad">not valid<//> The file has ${counted(errors, "error")}. A reload would change nothing.`}</p>
    <${Problems} problems=${checked.problems} />`;
}

function useChecked() {
  const [state, setState] = useState([null, ""]);
  useEffect(() => {
    act("check", {}).then((found) => setState([found, ""]), (error) => setState([null, error.message]));
  }, []);
  return state;
}
