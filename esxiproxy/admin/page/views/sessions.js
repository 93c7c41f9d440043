// The consoles that are open now.

import { html } from "../library/htm-preact.js";
import { bytes, duration, rate, short, time, visible } from "../format.js";
import { fragment, within } from "../route.js";
import { Dialog, Facts } from "../parts/dialog.js";
import { Badge, Name, NameLink } from "../parts/name.js";
import { Kill, scopesOf, sectionOf } from "../actions/kill.js";

const filtered = (column, name) => fragment({ view: "sessions", filter: within(column, name) });

/** Return the columns; `open` is called with a dialog. */
export function columns({ operator, open, now }) {
  const of = (column) => (row) => html`<${NameLink} text=${row[column]} href=${filtered(column, row[column])}
    title="show only these" />`;
  return [
    { name: "principal", title: "User", sorts: true, cell: of("principal") },
    { name: "console_name", title: "Console", sorts: true, cell: (row) => html`<${Console} row=${row} />` },
    { name: "host", title: "Host", sorts: true, cell: of("host") },
    { name: "client", title: "Client", sorts: true, cell: (row) => html`<${Name} text=${row.client} />` },
    { name: "listener", title: "Listener", sorts: true, className: "wide narrow", cell: of("listener") },
    { name: "since", title: "Age", sorts: true, numeric: true, descends: true, about: "time since it was opened",
      cell: (row) => html`<span title=${time(row.since)}>${duration(Math.max(row.age, now - row.since))}</span>` },
    { name: "idle", title: "Idle", sorts: true, numeric: true, descends: true, about: "time without data",
      cell: (row) => duration(idle(row, now)) },
    { name: "rate_down", title: "Sent", sorts: true, numeric: true, descends: true, about: "bytes a second to the client",
      cell: (row) => html`<span title=${`${bytes(row.bytes_down)} in all`}>${rate(row.rate_down)}</span>` },
    { name: "rate_up", title: "Received", sorts: true, numeric: true, descends: true, className: "wide",
      about: "bytes a second from the client",
      cell: (row) => html`<span title=${`${bytes(row.bytes_up)} in all`}>${rate(row.rate_up)}</span>` },
    { name: "bytes_down", title: "Sent in all", sorts: true, numeric: true, descends: true, className: "widest",
      about: "bytes to the client since it was opened", cell: (row) => bytes(row.bytes_down) },
    { name: "round_trip", title: "Round trip", sorts: true, numeric: true, descends: true, className: "wide",
      cell: (row) => short(row.round_trip) },
    { name: "worker", title: "Worker", sorts: true, className: "widest narrow",
      cell: (row) => html`<${Name} text=${`${row.machine} ${row.worker}`} />` },
    { name: "action", title: "Action", silent: true, className: "action", cell: (row) => html`<button type="button"
      aria-label=${`${operator ? "End" : "Details of"} the console of ${visible(row.principal)} on ${visible(row.host)}`}
      onClick=${() => open(operator ? KillSession : Details, { row, now })}>${operator ? "End…" : "Details"}</button>` },
  ];
}

/** Return for how long a console has had no data. The stream sends a row again only if more than that has changed. */
function idle(row, now) {
  return row.idle === null ? null : row.idle + Math.max(0, now - row.seen);
}

function Console({ row }) {
  return html`<${Name} text=${row.console_name} />
    ${row.state !== "open" && html` <${Badge} kind="warn">${row.state}<//>`}`;
}

function facts(row, now) {
  const name = (text) => html`<${Name} text=${text} />`;
  return [
    ["User", name([sectionOf(row), row.principal].filter(Boolean).join("/"))],
    ["Client", name(row.client)],
    ["Console", name(row.console_name)],
    ...(row.console === row.console_name ? [] : [["Console id", name(row.console)]]),
    ["Host", name(row.host)],
    ["Upstream", name(row.upstream)],
    ["Listener", name(row.listener)],
    ["Link", name(row.link)],
    ["Open since", `${time(row.since, now)}, for ${duration(Math.max(row.age, now - row.since))}`],
    ["Idle", duration(idle(row, now))],
    ["Sent", `${rate(row.rate_down)}, ${bytes(row.bytes_down)} in all`],
    ["Received", `${rate(row.rate_up)}, ${bytes(row.bytes_up)} in all`],
    ["Round trip", short(row.round_trip)],
    ["State", row.state],
    ["Worker", name(`${row.machine} ${row.worker}`)],
    ["Session", html`<code>${row.id}</code>`],
  ];
}

function KillSession({ row, now, onDone, onClose }) {
  return html`<${Kill} scopes=${scopesOf(row)} ...${{ onDone, onClose }}><${Facts} facts=${facts(row, now)} /><//>`;
}

function Details({ row, now, onClose }) {
  return html`<${Dialog} title="A console" onClose=${onClose}>
    <${Facts} facts=${facts(row, now)} />
    <form method="dialog" class="buttons"><button class="primary" data-first>Close</button></form>
  <//>`;
}
