// The page of a user: the machines that the user may see, and what may be done with them.

import { html, render, useEffect, useRef, useState } from "../../admin/page/library/htm-preact.js";
import { count } from "../../admin/page/format.js";
import { FIRST_SNAPSHOT, LiveStream } from "../../admin/page/live.js";
import { Name, Sentence } from "../../admin/page/parts/name.js";
import { watchUse } from "../viewer/use.js";
import { act, address, readByItself, use } from "./api.js";
import { useRoute } from "./route.js";
import { MachineRow } from "./parts/machine.js";
import { Search } from "./parts/search.js";

const MESSAGE_TIME = 12000;
const STREAM = {
  address: (window) => address("events", window),
  // Without a login the answer leads to the login form.
  probe: () => readByItself("machines", { limit: 1 }),
  service: "proxy",
};

/** Show the page in an element. */
export function start(element) {
  element.replaceChildren();
  render(html`<${Page} />`, element);
  // A search changes the event stream alone, which extends no login.
  watchUse(document, () => use("machines", { limit: 1 }));
}

function Page() {
  const [route, go] = useRoute();
  const live = useLive(route);
  const [dialog, setDialog] = useState(null);
  const [message, setMessage] = useState("");
  useEffect(() => {
    const timer = setTimeout(() => setMessage(""), MESSAGE_TIME);
    return () => clearTimeout(timer);
  }, [message]);
  const open = (Dialog, properties) => setDialog({ Dialog, properties, from: document.activeElement });
  const close = () => {
    dialog?.from?.focus?.({ preventScroll: true });
    setDialog(null);
  };
  return html`
    <a class="skip" href="#machines" onClick=${skip}>Skip to the machines</a>
    <${Header} live=${live} say=${setMessage} />
    <div role="status">${live.connection === "lost" && html`<div class="lost">
      <p><strong>This page is not up to date.</strong> <${Sentence} text=${live.problem} /> It is tried again. Open
        consoles are not affected.</p></div>`}</div>
    <main>
      <h1 class="unseen">Virtual machines</h1>
      <${Search} ...${{ route, go }} />
      <${Problems} status=${live.status} />
      <${Machines} ...${{ live, route, go, open, say: setMessage }} />
    </main>
    <div class="message" role="status">${message && html`<p><${Sentence} text=${message} />
      <button type="button" onClick=${() => setMessage("")}>Dismiss</button></p>`}</div>
    ${dialog && html`<${dialog.Dialog} ...${dialog.properties} onDone=${setMessage} onClose=${close} />`}`;
}

function skip(event) {
  event.preventDefault();
  document.getElementById("machines").focus();
}

/** The name of the user, and the logout. */
function Header({ live, say }) {
  const { status, connection } = live;
  const leave = async () => {
    try {
      const { login } = await act("logout");
      location.assign(login);
    } catch (error) {
      say(`The logout failed: ${error.message}`);
    }
  };
  const words = { live: "live", lost: "not connected", connecting: "connecting" };
  return html`<header class="top">
    <span class="brand">Consoles</span>
    <span class="live ${connection}">${words[connection]}</span>
    <span class="rest">
      ${status && html`<span class="who"><${Name} text=${status.user} /></span>`}
      ${status?.logout && html`<button type="button" onClick=${leave}>Log out</button>`}
    </span>
  </header>`;
}

/** Says whose machines are missing or may be old. */
function Problems({ status }) {
  return html`<div role="status">${status?.problems.map(({ vsphere, problem }) => html`<p class="notice" key=${vsphere}>
    <${Sentence} text=${`vCenter ${vsphere} ${problem}: its machines may be missing or out of date.`} /></p>`)}</div>`;
}

/** The list, and the steps through it. */
function Machines({ live, route, go, open, say }) {
  const { window: found, status } = live;
  const list = useRef(null);
  const moved = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || event.target.closest("select, input")) return;
    const rows = [...list.current.querySelectorAll("a.name")];
    const at = rows.indexOf(event.target.closest("li")?.querySelector("a.name"));
    const next = rows[at + step];
    if (next) {
      event.preventDefault();
      next.focus();
    }
  };
  if (!found) return html`<p class="calm" id="machines" tabindex="-1">The machines are being read.</p>`;
  return html`<section aria-label="Virtual machines" aria-busy=${live.connection === "connecting"}>
    <ul class="machines" id="machines" tabindex="-1" ref=${list} onKeyDown=${moved}>
      ${found.keys.map((key) => html`<${MachineRow} key=${key} ...${{ machine: found.rows.get(key), open, say }} />`)}
    </ul>
    ${!found.matching && html`<p class="empty calm">${nothing(found, status, route)}</p>`}
    <${Steps} ...${{ found, route, go }} />
  </section>`;
}

function nothing(found, status, route) {
  if (route.favourites && !found.total) return "You have no favourites yet: the star of a machine makes it one.";
  if (found.total) return "No machine fits this search.";
  if (status && !status.vspheres) return "No vCenter is configured.";
  return "There is no machine that you may use. Ask the operator of the proxy for access.";
}

function Steps({ found, route, go }) {
  const { offset, keys, matching, total } = found;
  const all = matching === total ? count(total) : `${count(matching)} of ${count(total)}`;
  const step = (to, name) => {
    const off = to < 0 || to >= matching || to === offset;
    return html`<button type="button" aria-disabled=${off ? "true" : "false"}
      onClick=${() => off || go({ offset: to })}>${name}</button>`;
  };
  const before = offset ? Math.max(0, offset - route.limit) : -1;
  return html`<nav class="steps" aria-label="Pages of the list">
    <span role="status">${matching ? `${count(offset + 1)}–${count(offset + keys.length)} of ${all}` : `0 of ${count(total)}`}</span>
    ${(offset > 0 || matching > route.limit) && html`${step(before, "Previous")} ${step(offset + route.limit, "Next")}`}
  </nav>`;
}

/** Return the newest snapshot of the stream, which shows the window of the route. */
function useLive(route) {
  const [snapshot, setSnapshot] = useState(FIRST_SNAPSHOT);
  const stream = useRef(null);
  if (!stream.current) stream.current = new LiveStream(setSnapshot, STREAM);
  useEffect(() => stream.current.show(route), [route]);
  return snapshot;
}
