// One machine of the list.

import { html, useEffect, useRef, useState } from "../../../admin/page/library/htm-preact.js";
import { visible } from "../../../admin/page/format.js";
import { Badge } from "../../../admin/page/parts/name.js";
import { act, address, ofMachine } from "../api.js";
import { Connections } from "./connections.js";

const POWER = { on: ["good", "on"], off: ["calm", "off"], suspended: ["warn", "suspended"] };
/** Milliseconds after which a picture on the screen is asked for again. */
const REFRESH = 60000;
/** Pictures that are asked for at a time. A browser has six connections to a host, and actions need some. */
const AT_A_TIME = 2;

export function MachineRow({ machine, open, say }) {
  const [busy, setBusy] = useState("");
  const may = (right) => machine.rights.includes(right);
  const name = visible(machine.name);
  const [kind, word] = POWER[machine.power] || ["calm", visible(machine.power)];
  const path = `/vm/${encodeURIComponent(machine.vsphere)}/${encodeURIComponent(machine.uuid)}`;
  const perform = async (rest, body, done) => {
    if (busy) return;
    setBusy(rest);
    try {
      await act(ofMachine(machine, rest), body);
      if (done) say(done);
    } catch (error) {
      say(`${name}: ${error.message}`);
    }
    setBusy("");
  };
  return html`<li class="machine ${machine.power}">
    <button type="button" class="star" aria-pressed=${machine.favourite ? "true" : "false"} aria-label=${`Favourite: ${name}`}
      title=${machine.favourite ? "Remove from the favourites" : "Add to the favourites"}
      onClick=${() => perform("favourite", { favourite: !machine.favourite })}>
      <span aria-hidden="true">${machine.favourite ? "★" : "☆"}</span></button>
    <${Thumbnail} machine=${machine} shown=${machine.power === "on" && may("open") && machine.connected} />
    <div class="what">
      ${may("open")
        ? html`<a class="name" href=${path} target="_blank" rel="noopener" title=${`Open the console of ${name}`}><bdi>${name}</bdi></a>`
        : html`<bdi class="name">${name}</bdi>`}
      <span class="where calm"><bdi>${visible(`${machine.vsphere} ${machine.folder}`)}</bdi></span>
      <span class="tags">${machine.tags.map((tag) => html`<span class="tag" key=${tag}><bdi>${visible(tag)}</bdi></span>`)}</span>
    </div>
    <div class="state">
      <${Badge} kind=${kind}>${word}<//>
      ${!machine.connected && html`<${Badge} kind="warn">host not connected<//>`}
    </div>
    <div class="doing">
      ${may("power") && machine.power !== "on" && html`<button type="button" aria-label=${`Power on ${name}`}
        aria-disabled=${busy ? "true" : "false"} onClick=${() => perform("power", {}, `${name} is being powered on.`)}>
        ${busy === "power" ? "Starting …" : "Power on"}</button>`}
      ${(may("open") || may("disconnect")) && machine.power === "on" && html`<button type="button" aria-label=${`Consoles of ${name}`}
        onClick=${() => open(Connections, { machine })}>Consoles</button>`}
    </div>
  </li>`;
}

/** A picture of the screen, which is asked for only while the row is on the screen. */
function Thumbnail({ machine, shown }) {
  const frame = useRef(null);
  const release = useRef(() => {});
  const [seen, setSeen] = useState(false);
  const [turn, setTurn] = useState(0);
  const [source, setSource] = useState("");
  useEffect(() => {
    const observer = new IntersectionObserver(([entry]) => setSeen(entry.isIntersecting));
    observer.observe(frame.current);
    return () => observer.disconnect();
  }, []);
  useEffect(() => {
    if (!shown) setSource("");
    if (!seen || !shown) return undefined;
    const wanted = address(ofMachine(machine, "thumbnail"), { turn: String(turn) }).href;
    release.current = inTurn(() => setSource(wanted));
    const timer = setInterval(() => document.hidden || setTurn((before) => before + 1), REFRESH);
    return () => {
      clearInterval(timer);
      release.current();
    };
  }, [seen, shown, turn]);
  const failed = () => {
    release.current();
    setSource("");
  };
  return html`<div class="thumbnail" ref=${frame}>
    ${source && html`<img src=${source} alt="" width="96" height="54" onLoad=${() => release.current()} onError=${failed} />`}
  </div>`;
}

let running = 0;
const waiting = [];

/** Call a function when fewer than `AT_A_TIME` pictures are loaded; returns the function that ends its turn. */
function inTurn(begin) {
  const entry = { begin, state: "waiting" };
  waiting.push(entry);
  next();
  return () => {
    if (entry.state === "running") running -= 1;
    if (entry.state === "waiting") waiting.splice(waiting.indexOf(entry), 1);
    entry.state = "over";
    next();
  };
}

function next() {
  while (running < AT_A_TIME && waiting.length) {
    const entry = waiting.shift();
    entry.state = "running";
    running += 1;
    entry.begin();
  }
}
