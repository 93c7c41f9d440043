// Hosts, by how near they are to their limit of connections.

import { html } from "../library/htm-preact.js";
import { count, visible } from "../format.js";
import { fragment, within } from "../route.js";
import { Health, Name, NameLink, Sentence } from "../parts/name.js";
import { Kill, hostScope } from "../actions/kill.js";
import { Drain, Undrain } from "../actions/drain.js";

const NEAR = 0.9;

/** Return the columns; `open` is called with a dialog. */
export function columns({ operator, open }) {
  return [
    { name: "host", title: "Host", sorts: true, cell: (row) => html`<${NameLink} text=${row.host}
      href=${fragment({ view: "sessions", filter: within("host", row.host) })} title="show its consoles" />` },
    { name: "upstream", title: "Upstream", sorts: true, className: "narrow", cell: (row) => html`<${Name} text=${row.upstream} />` },
    { name: "usage", title: "Connections", sorts: true, descends: true, className: "used", about: "connections against the limit",
      cell: (row) => html`<${Usage} row=${row} />` },
    { name: "sessions", title: "Consoles", sorts: true, numeric: true, descends: true, cell: (row) => count(row.sessions) },
    { name: "health", title: "Health", sorts: true, className: "health", cell: (row) => html`<${Health} ...${row} />` },
    { name: "failures", title: "Failures", sorts: true, numeric: true, descends: true,
      cell: (row) => (row.failures
        ? html`<a href=${fragment({ view: "failures", filter: within("host", row.host) })}>${count(row.failures)}</a>`
        : "0") },
    { name: "last", title: "Last failure", className: "prose wide",
      cell: (row) => (row.last_failure ? html`<${Sentence} text=${row.last_failure} />` : html`<span class="none">–</span>`) },
    ...(operator ? [{ name: "action", title: "Actions", silent: true, className: "action two", cell: (row) => html`<${Actions} ...${{ row, open }} />` }] : []),
  ];
}

function Usage({ row }) {
  if (row.limit === null) return html`${count(row.connections ?? 0)} <span class="none">no limit</span>`;
  const part = Math.min(1, (row.connections ?? 0) / row.limit);
  return html`<span class="usage">
    <span class="bar ${part >= 1 ? "bad" : part >= NEAR ? "warn" : ""}" aria-hidden="true"><span style=${{ width: `${part * 100}%` }}></span></span>
    <span class="number">${count(row.connections ?? 0)} of ${count(row.limit)}</span>
  </span>`;
}

function Actions({ row, open }) {
  const target = { kind: "host", name: row.host };
  return html`<button type="button" aria-label=${`${row.drained ? "Undrain" : "Drain"} the host ${visible(row.host)}`}
      onClick=${() => open(row.drained ? Undrain : Drain, { target })}>${row.drained ? "Undrain…" : "Drain…"}</button>
    <button type="button" aria-label=${`End all consoles of the host ${visible(row.host)}`} aria-disabled=${row.sessions ? "false" : "true"}
      onClick=${() => row.sessions && open(Kill, { scopes: [hostScope(row.host)] })}>End…</button>`;
}
