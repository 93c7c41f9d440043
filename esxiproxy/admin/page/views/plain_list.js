// A list that is read as a whole every few seconds.

import { html } from "../library/htm-preact.js";
import { usePoll } from "../parts/poll.js";
import { Sentence } from "../parts/name.js";
import { Table } from "../parts/table.js";
import { Drain, Undrain } from "../actions/drain.js";
import { MakeLink } from "../actions/make_link.js";
import { LISTS } from "./lists.js";

const SECONDS = 4;

/** The list of this view. `turn` changes when an action may have changed it. */
export function PlainList({ view, operator, open, status, now, turn }) {
  const list = LISTS[view];
  const { found, problem } = usePoll(list.path, {}, SECONDS, turn);
  return html`<div class="view">
    <div class="tools">
      <h2>${list.caption}</h2>
      ${view === "drains" && operator && status && html`<${ProxyButton} ...${{ open, status }} />`}
      ${view === "links" && operator && html`<span class="buttons">
        <button type="button" onClick=${() => open(MakeLink, {})}>Make a link…</button></span>`}
    </div>
    ${problem && html`<p class="problem" role="alert"><${Sentence} text=${problem} /></p>`}
    <${Table} caption=${list.caption} columns=${list.columns({ operator, open, status, now })}
      ...${keyed(found ? list.rows(found) : [], list.keyOf)} busy=${!found && !problem} empty=${problem ? "" : list.empty} />
  </div>`;
}

/** Return rows as a table takes them: the keys in their order, and the rows by their keys. */
function keyed(rows, keyOf) {
  const found = new Map(rows.map((row) => [keyOf(row), row]));
  return { keys: [...found.keys()], rows: found };
}

function ProxyButton({ open, status }) {
  const target = { kind: "proxy", machine: status.machine };
  return html`<span class="buttons"><button type="button" onClick=${() => open(status.draining ? Undrain : Drain, { target })}>
    ${status.draining ? "Undrain" : "Drain"} the whole proxy…</button></span>`;
}
