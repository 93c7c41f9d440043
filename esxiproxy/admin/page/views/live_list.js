// A list that the event stream keeps up to date: its filter, its pages and its table.

import { html, useEffect } from "../library/htm-preact.js";
import { Filter, Pager } from "../parts/pager.js";
import { Table } from "../parts/table.js";
import * as failures from "./failures.js";
import * as hosts from "./hosts.js";
import * as sessions from "./sessions.js";

const NO_ROWS = new Map();

const KINDS = {
  sessions: { columns: sessions.columns, caption: "Open consoles", word: "principal",
    empty: "No console is open.", none: "No console fits the filter." },
  hosts: { columns: hosts.columns, caption: "Hosts", word: "host",
    empty: "No host is known.", none: "No host fits the filter." },
  failures: { columns: failures.columns, caption: "The last 1,000 failures", word: "error",
    empty: "There was no failure.", none: "No failure fits the filter." },
};

/** A live list; `shown` is the newest window of the stream, if it is one of this view. */
export function LiveList({ route, go, shown, lost, operator, open, status, now }) {
  const kind = KINDS[route.view];
  const given = shown?.view === route.view ? shown : null;
  const emptied = given && given.offset === route.offset && !given.keys.length && given.matching > 0;
  useEffect(() => {
    // The last rows of the last page have vanished.
    if (emptied) go({ offset: Math.floor((given.matching - 1) / route.limit) * route.limit });
  }, [emptied]);
  return html`<div class="view">
    <div class="tools">
      <h2>${kind.caption}</h2>
      <${Filter} key=${route.view} value=${route.filter} columns=${kind.word}
        onChange=${(filter) => go({ filter, offset: 0 })} />
      ${given && html`<${Pager} shown=${given.offset} offset=${route.offset} limit=${route.limit} matching=${given.matching}
        total=${given.total} onChange=${go} />`}
    </div>
    <${Table} key=${route.view} caption=${kind.caption} columns=${kind.columns({ operator, open, status, now })}
      keys=${given?.keys ?? []} rows=${given?.rows ?? NO_ROWS} sort=${route.sort} order=${route.order}
      onSort=${(sort, order) => go({ sort, order, offset: 0 })} busy=${!given && !lost}
      empty=${given ? (route.filter ? kind.none : kind.empty) : "Nothing can be shown until the admin service answers."} />
  </div>`;
}
