// The lists that are as long as the configuration: listeners, upstreams, workers, drains and links.

import { html } from "../library/htm-preact.js";
import { count, date, daysLeft, duration, short, time, visible } from "../format.js";
import { fragment, within } from "../route.js";
import { Badge, Health, Name, NameLink, Sentence } from "../parts/name.js";
import { Kill, linkScope } from "../actions/kill.js";
import { Drain, Undrain, titleOf } from "../actions/drain.js";
import { Revoke } from "../actions/links.js";

/** Days before the end of a certificate from which on it needs attention, as in `esxiproxy status`. */
export const SOON = 30;

const name = (column) => (row) => html`<${Name} text=${row[column]} />`;
const none = html`<span class="none">–</span>`;

const toSessions = (column, key) => (row) => html`<${NameLink} text=${row[key]}
  href=${fragment({ view: "sessions", filter: within(column, row[key]) })} title="show its consoles" />`;

/** A list: its operation, the property with its rows, their keys and order, and its columns. */
export const LISTS = {
  listeners: {
    path: "listeners", rows: (found) => [...found.listeners].sort(byDays), keyOf: (row) => row.name,
    caption: "Listeners, the certificate that ends next first", empty: "There is no listener.", columns: listenerColumns,
  },
  upstreams: {
    path: "upstreams", rows: (found) => found.upstreams, keyOf: (row) => row.name,
    caption: "Upstreams", empty: "The configuration has no upstream.", columns: upstreamColumns,
  },
  workers: {
    path: "workers", rows: (found) => found.workers, keyOf: (row) => row.instance,
    caption: "Processes of all machines", empty: "No process reports to the state.", columns: workerColumns,
  },
  drains: {
    path: "drains", rows: (found) => found.drains, keyOf: (row) => `${row.kind} ${row.name} ${row.machine}`,
    caption: "Drains", empty: "Nothing is drained.", columns: drainColumns,
  },
  links: {
    path: "links", rows: (found) => found.links, keyOf: (row) => row.id,
    caption: "Links with open consoles, and revoked links",
    empty: "No link has an open console, and none is revoked.", columns: linkColumns,
  },
};

function byDays(left, right) {
  return (left.certificate?.days ?? Infinity) - (right.certificate?.days ?? Infinity) || left.name.localeCompare(right.name);
}

function drainButton(row, target, open) {
  return html`<button type="button" aria-label=${`${row.drained ? "Undrain" : "Drain"} the ${visible(target.kind)} ${visible(target.name)}`}
    onClick=${() => open(row.drained ? Undrain : Drain, { target })}>${row.drained ? "Undrain…" : "Drain…"}</button>`;
}

function actions(operator, kind, cell) {
  return operator ? [{ name: "action", title: "Actions", silent: true, className: `action ${kind}`, cell }] : [];
}

function listenerColumns({ operator, open, status }) {
  return [
    { name: "name", title: "Listener", cell: toSessions("listener", "name") },
    { name: "address", title: "Address", cell: name("address") },
    { name: "certificate", title: "Certificate", className: "text", cell: (row) => html`<${Certificate} certificate=${row.certificate} />` },
    { name: "sessions", title: "Consoles", numeric: true,
      cell: (row) => (row.limit === null ? count(row.sessions) : `${count(row.sessions)} of ${count(row.limit)}`) },
    { name: "drained", title: "State", cell: (row) => (row.drained
      ? html`<${Badge} kind="warn">drained<//>` : html`<${Badge} kind="good">open<//>`) },
    { name: "routers", title: "Routers", className: "wide", cell: (row) => html`<${Name} text=${row.routers.join(", ")} />` },
    { name: "authenticators", title: "Logins", className: "wide", cell: (row) => html`<${Name} text=${row.authenticators.join(", ")} />` },
    { name: "public_url", title: "Public URL", className: "widest", cell: name("public_url") },
    ...actions(operator, "long", (row) => drainButton(row, { kind: "listener", name: row.name, machine: status?.machine }, open)),
  ];
}

function Certificate({ certificate }) {
  if (!certificate) return html`<span class="none">none</span>`;
  const kind = certificate.days < 0 ? "bad" : certificate.days < SOON ? "warn" : "good";
  return html`<span class="two-lines">
    <span><${Badge} kind=${kind}>${daysLeft(certificate.days)}<//> <span class="calm">until ${date(certificate.expires)}</span></span>
    <${Name} text=${certificate.names.join(", ") || certificate.subject} />
  </span>`;
}

function upstreamColumns({ operator, open }) {
  return [
    { name: "name", title: "Upstream", cell: toSessions("upstream", "name") },
    { name: "addresses", title: "Addresses", cell: (row) => (row.addresses.length
      ? html`<${Name} text=${row.addresses.join(", ")} />` : html`<span class="none">template</span>`) },
    { name: "secure", title: "TLS", className: "wide", cell: (row) => (row.secure ? html`<${Name} text=${row.verify} />` : "off") },
    { name: "health", title: "Health", cell: (row) => html`<${Health} ...${row} />` },
    { name: "sessions", title: "Consoles", numeric: true, cell: (row) => count(row.sessions) },
    { name: "connections", title: "Connections", numeric: true, cell: (row) => (row.connections === null ? none : count(row.connections)) },
    { name: "limit", title: "Host limit", numeric: true, cell: (row) => (row.limit === null ? "off" : count(row.limit)) },
    { name: "failures", title: "Failures", numeric: true, cell: (row) => count(row.failures) },
    { name: "last", title: "Last failure", className: "text wide",
      cell: (row) => (row.last_failure ? html`<${Sentence} text=${row.last_failure} />` : none) },
    ...actions(operator, "long", (row) => drainButton(row, { kind: "upstream", name: row.name }, open)),
  ];
}

function workerColumns({ now }) {
  return [
    { name: "machine", title: "Machine", cell: name("machine") },
    { name: "worker", title: "Worker", cell: name("worker") },
    { name: "pid", title: "Process", numeric: true, cell: (row) => row.pid },
    { name: "generation", title: "Generation", numeric: true, cell: (row) => count(row.generation) },
    { name: "started", title: "Runs for", numeric: true,
      cell: (row) => html`<span title=${time(row.started)}>${duration(now - row.started)}</span>` },
    { name: "sessions", title: "Consoles", numeric: true, cell: (row) => count(row.sessions) },
    { name: "lag", title: "Loop lag", numeric: true, cell: (row) => short(row.lag) },
    { name: "accepting", title: "State", cell: (row) => (row.accepting
      ? html`<${Badge} kind="good">accepting<//>` : html`<${Badge} kind="warn">not accepting<//>`) },
    { name: "version", title: "Version", className: "wide", cell: name("version") },
  ];
}

function drainColumns({ operator, open, now }) {
  return [
    { name: "what", title: "Drained", className: "text", cell: (row) => html`<${Sentence} text=${titleOf(row)} />` },
    { name: "since", title: "Since", className: "time", cell: (row) => time(row.since, now) },
    { name: "end", title: "Ends consoles", cell: (row) => end(row, now) },
    { name: "sessions", title: "Consoles", numeric: true, cell: (row) => count(row.sessions) },
    { name: "by", title: "By", cell: name("by") },
    { name: "reason", title: "Reason", className: "text", cell: (row) => html`<${Sentence} text=${row.reason} />` },
    ...actions(operator, "long", (row) => html`<button type="button" aria-label=${`Undrain ${titleOf(row)}`}
      onClick=${() => open(Undrain, { target: row })}>Undrain…</button>`),
  ];
}

function end(row, now) {
  if (row.end === null) return html`<span class="none">no</span>`;
  return row.end > now ? `in ${duration(row.end - now)}` : `since ${time(row.end, now)}`;
}

function linkColumns({ operator, open }) {
  return [
    { name: "id", title: "Link", cell: name("id") },
    { name: "host", title: "Host", cell: name("host") },
    { name: "principals", title: "Users", cell: (row) => html`<${Name} text=${row.principals.join(", ")} />` },
    { name: "sessions", title: "Consoles", numeric: true, cell: (row) => count(row.sessions) },
    { name: "revoked", title: "State", cell: (row) => (row.revoked
      ? html`<${Badge} kind="warn">revoked<//>` : html`<${Badge} kind="good">valid<//>`) },
    ...actions(operator, "two", (row) => html`<${LinkActions} ...${{ row, open }} />`),
  ];
}

function LinkActions({ row, open }) {
  return html`<button type="button" aria-label=${`Revoke the link ${visible(row.id)}`} aria-disabled=${row.revoked ? "true" : "false"}
      onClick=${() => row.revoked || open(Revoke, { link: row })}>Revoke…</button>
    <button type="button" aria-label=${`End all consoles of the link ${visible(row.id)}`} aria-disabled=${row.sessions ? "false" : "true"}
      onClick=${() => row.sessions && open(Kill, { scopes: [linkScope(row.id)] })}>End…</button>`;
}
