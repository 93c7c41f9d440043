// The page: what the admin service says about the proxies, and the dialogs that act on them.

import { html, render, useEffect, useLayoutEffect, useRef, useState } from "./library/htm-preact.js";
import { address, read } from "./api.js";
import { count, counted, duration, rate, short, visible } from "./format.js";
import { FIRST_SNAPSHOT, LiveStream } from "./live.js";
import { LIVE_VIEWS, VIEWS, fragment, useRoute } from "./route.js";
import { Attention } from "./attention.js";
import { Chart } from "./parts/chart.js";
import { Badge, Name, Sentence } from "./parts/name.js";
import { Configuration } from "./views/configuration.js";
import { LiveList } from "./views/live_list.js";
import { PlainList } from "./views/plain_list.js";

const MESSAGE_TIME = 12000;
const SPAN = 3600;
const STREAM = {
  address: (window) => address("events", window),
  probe: () => read("status"),
  service: "admin service",
};

/** Show the page in an element. */
export function start(element) {
  element.replaceChildren();
  render(html`<${Page} />`, element);
}

function Page() {
  const [route, go] = useRoute();
  const live = useLive(route);
  const now = useNow(live.ahead);
  const history = useHistory(live, now);
  const [dialog, setDialog] = useState(null);
  const [message, setMessage] = useState("");
  const [turn, setTurn] = useState(0);
  const { status } = live;
  const operator = status?.role === "operator";
  useTitle(status);
  useEffect(() => {
    const timer = setTimeout(() => setMessage(""), MESSAGE_TIME);
    return () => clearTimeout(timer);
  }, [message]);
  const open = (Dialog, properties) => setDialog({ Dialog, properties });
  useFocusAfter(dialog);
  const done = (text) => {
    setMessage(text);
    setTurn((before) => before + 1);
  };
  const shared = { operator, open, status, now, turn };
  return html`
    <a class="skip" href="#content" onClick=${skip}>Skip to the list</a>
    <${Header} live=${live} />
    <${Lost} live=${live} />
    <main>
      <h1 class="unseen">esxiproxy</h1>
      <${Figures} ...${{ status, history, now }} />
      <${Attention} ...${{ status, now, turn }} />
      <${Views} ...${{ route, status }} />
      <div id="content" tabindex="-1">
        ${route.view in LIVE_VIEWS
          ? html`<${LiveList} ...${{ ...shared, route, go, shown: live.window, lost: live.connection === "lost" }} />`
          : route.view === "configuration"
            ? html`<${Configuration} ...${shared} />`
            : html`<${PlainList} key=${route.view} view=${route.view} ...${shared} />`}
      </div>
    </main>
    <div class="message" role="status">${message && html`<p><${Sentence} text=${message} />
      <button type="button" onClick=${() => setMessage("")}>Dismiss</button></p>`}</div>
    ${dialog && html`<${dialog.Dialog} ...${dialog.properties} onDone=${done} onClose=${() => setDialog(null)} />`}`;
}

function skip(event) {
  event.preventDefault();
  document.getElementById("content").focus();
}

/** The name of the machine, how it is, and who looks. */
function Header({ live }) {
  const { status, connection } = live;
  return html`<header class="top">
    <span class="brand">esxiproxy</span>
    ${status && html`<span class="machine"><${Name} text=${status.machine} /></span>
      <${Badge} kind=${status.ready ? "good" : status.draining ? "warn" : "bad"}>${
        status.ready ? "ready" : status.draining ? "draining" : "not ready"}<//>`}
    <span class="live ${connection}">${{ live: "live", lost: "not connected", connecting: "connecting" }[connection]}</span>
    <span class="rest">
      ${status && html`<span class="who"><${Name} text=${status.user} />, ${status.role}</span><span class="version">${visible(status.version)}</span>`}
    </span>
  </header>`;
}

/** Says that what is shown is old, and why. */
function Lost({ live }) {
  const { connection, problem, status } = live;
  return html`<div role="status">${connection === "lost" && html`<div class="lost">
    <p><strong>${status ? "This page is not up to date." : "The admin service cannot be asked."}</strong>${" "}
      <${Sentence} text=${problem} /> It is tried again. Running consoles are not affected.</p>
  </div>`}</div>`;
}

/** The charts, and the numbers that change seldom. */
function Figures({ status, history, now }) {
  if (!status) return null;
  const shared = { points: history, now };
  return html`<section class="figures" aria-label="Now and in the last hour">
    <${Chart} title="Open consoles" ...${shared} show=${count} series=${[{ name: "consoles", index: 1, kind: "first" }]} />
    <${Chart} title="Traffic" ...${shared} show=${rate}
      series=${[{ name: "sent", index: 3, kind: "first" }, { name: "received", index: 2, kind: "second" }]} />
    <${Chart} title="Round trip" ...${shared} show=${short} series=${[{ name: "median", index: 4, kind: "first" }]} />
    <dl class="numbers">
      <div><dt>Runs for</dt><dd>${duration(now - status.started)}</dd></div>
      <div><dt>Machines</dt><dd title=${visible(status.machines.join(", "))}>${count(status.machines.length)}</dd></div>
      <div><dt>Workers</dt><dd>${count(status.workers)}</dd></div>
      <div><dt>Opened</dt><dd>${count(status.opened)}</dd></div>
      <div><dt>Failed</dt><dd><a href=${fragment({ view: "failures" })}>${count(status.failed)}</a></dd></div>
    </dl>
  </section>`;
}

/** The names of the views. */
function Views({ route, status }) {
  const numbers = { sessions: status?.sessions, workers: status?.workers, drains: status?.drains };
  return html`<nav class="views" aria-label="Lists"><ul>
    ${Object.entries(VIEWS).map(([view, title]) => html`<li key=${view}>
      <a href=${fragment({ view })} aria-current=${view === route.view ? "page" : undefined}>${title}${
        numbers[view] ? html` <span class="count">${count(numbers[view])}</span>` : ""}</a>
    </li>`)}
  </ul></nav>`;
}

/** Return the newest snapshot of the stream, which shows the window of the route. */
function useLive(route) {
  const [snapshot, setSnapshot] = useState(FIRST_SNAPSHOT);
  const stream = useRef(null);
  if (!stream.current) stream.current = new LiveStream(setSnapshot, STREAM);
  useEffect(() => {
    const { view, filter, sort, order, offset, limit } = route;
    // Lists that are not live have no window; the stream is opened for the status.
    if (view in LIVE_VIEWS) stream.current.show({ view, filter, sort, order, offset, limit });
    else stream.current.show({ view: "failures", sort: "time", order: "desc", limit: 1 });
  }, [route]);
  return snapshot;
}

/** Return the time of day of the service, which goes on without events. */
function useNow(ahead) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => document.hidden || setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  return now / 1000 + ahead;
}

/** Return the points of the last hour: those of the proxy, and what the stream has said since. */
function useHistory({ status, connection }, now) {
  const [history, setHistory] = useState({ interval: 10, points: [] });
  useEffect(() => {
    if (connection !== "live") return;
    read("history").then((found) => setHistory(({ points }) => {
      const end = found.points.length ? found.points[found.points.length - 1][0] : 0;
      return { interval: found.interval, points: [...found.points, ...points.filter(([time]) => time > end)] };
    }), () => null);
  }, [connection]);
  useEffect(() => {
    if (!status || connection !== "live") return;
    const point = [now, status.sessions, status.rate_up, status.rate_down, status.round_trip];
    setHistory(({ interval, points }) => {
      const kept = points.filter(([time]) => time > now - SPAN && time < now);
      const before = kept.length > 1 ? kept[kept.length - 2][0] : -Infinity;
      // The newest point moves until an interval is over.
      return { interval, points: [...(now - before < interval ? kept.slice(0, -1) : kept), point] };
    });
  }, [status, connection, Math.floor(now)]);
  return history.points;
}

/** Keep the focus in the list after a dialog whose button has vanished meanwhile, with its row. */
function useFocusAfter(dialog) {
  const before = useRef(dialog);
  useLayoutEffect(() => {
    if (before.current && !dialog && document.activeElement === document.body) {
      document.querySelector(".frame")?.focus({ preventScroll: true });
    }
    before.current = dialog;
  }, [dialog]);
}

function useTitle(status) {
  useEffect(() => {
    if (status) document.title = `${counted(status.sessions, "console")} – ${visible(status.machine)} – esxiproxy`;
  }, [status?.sessions, status?.machine]);
}
