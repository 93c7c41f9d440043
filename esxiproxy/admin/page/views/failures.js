// The last failures, explained.

import { html } from "../library/htm-preact.js";
import { time } from "../format.js";
import { Name, Sentence } from "../parts/name.js";

/** Return the columns. */
export function columns({ now }) {
  const of = (column, title, className) => ({
    name: column, title, sorts: true, className, cell: (row) => html`<${Name} text=${row[column]} />`,
  });
  return [
    { name: "time", title: "Time", sorts: true, descends: true, className: "time", cell: (row) => time(row.time, now) },
    { name: "error", title: "Error", sorts: true, className: "text", cell: (row) => html`<${Explained} row=${row} />` },
    of("host", "Host"),
    of("principal", "User"),
    of("client", "Client"),
    of("listener", "Listener", "wide narrow"),
    { name: "answer", title: "Answer", className: "wide narrow", cell: answer },
  ];
}

function Explained({ row }) {
  return html`<span class="explained">
    <strong><${Name} text=${row.error} /></strong>
    <span><${Sentence} text=${row.detail} /></span>
    ${row.help && html`<span class="help"><${Sentence} text=${row.help} /></span>`}
  </span>`;
}

function answer(row) {
  const parts = [row.status && `HTTP ${row.status}`, row.close_code !== null && `close ${row.close_code}`];
  return parts.filter(Boolean).join(", ") || "–";
}
