// The problems that need an operator's attention, in one list.

import { html } from "./library/htm-preact.js";
import { counted, daysLeft, duration, visible } from "./format.js";
import { fragment } from "./route.js";
import { usePoll } from "./parts/poll.js";
import { Badge, Sentence } from "./parts/name.js";
import { SOON } from "./views/lists.js";

const FAILURES = 10;
const RECENT = 300;
const HOSTS = 5;
const NEAR = 0.9;
const MOST = 8;
const RANK = { bad: 0, warn: 1 };

/** The list; `turn` changes when an action may have changed it. */
export function Attention({ status, now, turn }) {
  const listeners = usePoll("listeners", {}, 60, turn).found?.listeners ?? [];
  const down = usePoll("hosts", { filter: "health:down", sort: "sessions", order: "desc", limit: HOSTS }, 10, turn).found;
  const full = usePoll("hosts", { sort: "usage", order: "desc", limit: HOSTS }, 10, turn).found?.hosts ?? [];
  const failures = usePoll("failures", { sort: "time", order: "desc", limit: FAILURES }, 10, turn).found?.failures ?? [];
  const all = [
    ...ofStatus(status),
    ...ofHosts(down?.hosts ?? [], down?.matching ?? 0),
    ...full.filter(isNear).map(ofFullHost),
    ...listeners.filter((each) => each.certificate && each.certificate.days < SOON).map(ofCertificate),
    ...ofFailures(failures, now),
    ...ofDrains(status),
  ].sort((left, right) => RANK[left.kind] - RANK[right.kind]);
  const items = all.slice(0, MOST);
  if (!status) return null;
  return html`<section class="attention" aria-labelledby="attention">
    <h2 id="attention" class=${items.length ? "" : "unseen"}>Needs attention</h2>
    ${items.length
      ? html`<ul>${items.map((item) => html`<li key=${item.key}>
          <${Badge} kind=${item.kind}>${item.word}<//>
          <span><a href=${item.href}><${Sentence} text=${item.text} /></a>${item.more && html`${" "}<span class="calm"><${Sentence} text=${item.more} /></span>`}</span>
        </li>`)}
        ${all.length > MOST && html`<li class="calm">${counted(all.length - MOST, "more item")}: see the lists.</li>`}</ul>`
      : html`<p class="calm"><span class="tick" aria-hidden="true">✓</span> Nothing needs attention.</p>`}
  </section>`;
}

function ofStatus(status) {
  if (!status || status.ready) return [];
  const href = fragment({ view: status.draining ? "drains" : "workers" });
  const word = status.draining ? "draining" : "not ready";
  return [{
    key: "ready", kind: status.draining ? "warn" : "bad", word, href,
    text: `${status.machine} admits no new consoles.`, more: status.reasons.join(" "),
  }];
}

function ofHosts(hosts, matching) {
  const found = hosts.filter((host) => host.health === "down").map((host) => ({
    key: `down ${host.upstream} ${host.host}`, kind: "bad", word: "down",
    href: fragment({ view: "hosts", filter: "health:down" }),
    text: `The host ${host.host} is down, with ${counted(host.sessions, "open console")}.`, more: host.last_failure,
  }));
  if (matching > hosts.length && found.length === hosts.length) {
    found.push({
      key: "down more", kind: "bad", word: "down", href: fragment({ view: "hosts", filter: "health:down" }),
      text: `${counted(matching - hosts.length, "more host")} ${matching - hosts.length === 1 ? "is" : "are"} down.`,
    });
  }
  return found;
}

function isNear(host) {
  return host.limit !== null && host.connections !== null && host.connections >= NEAR * host.limit;
}

function ofFullHost(host) {
  const full = host.connections >= host.limit;
  return {
    key: `full ${host.upstream} ${host.host}`, kind: full ? "bad" : "warn", word: full ? "full" : "nearly full",
    href: fragment({ view: "hosts" }),
    text: `The host ${host.host} has ${host.connections} of ${host.limit} connections.`,
    more: full ? "New consoles there are refused until one ends." : "",
  };
}

function ofCertificate({ name, certificate }) {
  return {
    key: `certificate ${name}`, kind: certificate.days < 0 ? "bad" : "warn", word: "certificate",
    href: fragment({ view: "listeners" }),
    text: `The certificate of the listener ${name}: ${daysLeft(certificate.days)}.`,
    more: certificate.days < 0 ? "Browsers refuse it." : "",
  };
}

/** Return an item if so many of the newest failures are recent. */
function ofFailures(failures, now) {
  if (failures.length < FAILURES || failures[FAILURES - 1].time < now - RECENT) return [];
  const [newest] = failures;
  const names = failures.map((failure) => failure.error);
  const common = names.sort((a, b) => names.filter((n) => n === b).length - names.filter((n) => n === a).length)[0];
  return [{
    key: "failures", kind: "warn", word: "failures", href: fragment({ view: "failures" }),
    text: `The last ${FAILURES} failures took ${duration(now - failures[FAILURES - 1].time)}, most of them ${visible(common)}.`,
    more: `The newest: ${newest.detail}`,
  }];
}

function ofDrains(status) {
  if (!status?.drains || (status.draining && status.drains === 1)) return [];
  return [{
    key: "drains", kind: "warn", word: "drained", href: fragment({ view: "drains" }),
    text: `${counted(status.drains, "drain")} ${status.drains === 1 ? "is" : "are"} in force.`,
  }];
}
