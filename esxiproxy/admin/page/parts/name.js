// Names of machines, users and hosts, which are hostile text.

import { html } from "../library/htm-preact.js";
import { visible } from "../format.js";

/** A name: invisible characters are written out, and its direction does not reach beyond it. */
export function Name({ text }) {
  if (!text) return html`<span class="none">–</span>`;
  const shown = visible(text);
  return html`<bdi class="name" title=${shown}>${shown}</bdi>`;
}

/** A sentence that has names of others in it. */
export function Sentence({ text }) {
  return html`<bdi class="sentence">${visible(text)}</bdi>`;
}

/** A name that filters the consoles. */
export function NameLink({ text, href, title }) {
  if (!text) return html`<span class="none">–</span>`;
  const shown = visible(text);
  return html`<a class="name" href=${href} title=${title ? `${shown}: ${title}` : shown}><bdi>${shown}</bdi></a>`;
}

/** A word about a state, in a colour that says how good it is: good, warn, bad or calm. */
export function Badge({ kind, children }) {
  return html`<span class="badge ${kind}">${children}</span>`;
}

const HEALTH = { up: "good", down: "bad", unknown: "calm" };

/** The health of a host or an upstream, and whether it is drained. */
export function Health({ health, drained }) {
  return html`<span class="badges">
    <${Badge} kind=${HEALTH[health] || "calm"}>${health === "unknown" ? "not checked" : health}<//>
    ${drained && html`<${Badge} kind="warn">drained<//>`}
  </span>`;
}
