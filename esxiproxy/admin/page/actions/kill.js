// The dialog that ends consoles: one, or all of a user, of a host or of a link.

import { html, useEffect, useState } from "../library/htm-preact.js";
import { act, read } from "../api.js";
import { counted, visible } from "../format.js";
import { Action } from "../parts/dialog.js";

/** Return the name of the section that knows the user of a session; empty if there is none. */
export function sectionOf({ authenticator }) {
  return authenticator.split(" ", 2)[1] ?? "";
}

/** Return the ways to select consoles that a session offers, the narrowest first. */
export function scopesOf(session) {
  const scopes = [{ kind: "session", value: session.id, count: 1, label: "This console" }];
  if (session.principal) {
    const section = sectionOf(session);
    const value = section ? `${section}/${session.principal}` : session.principal;
    scopes.push({ kind: "principal", value, label: `All consoles of the user ${visible(session.principal)}` });
  }
  if (session.host) scopes.push(hostScope(session.host));
  if (session.link) scopes.push(linkScope(session.link));
  return scopes;
}

/** Return the way to select all consoles of a host. */
export function hostScope(host) {
  return { kind: "host", value: host, label: `All consoles of the host ${visible(host)}` };
}

/** Return the way to select all consoles of a link. */
export function linkScope(link) {
  return { kind: "link", value: link, label: `All consoles of the link ${visible(link)}` };
}

/** Ends the consoles of one of these scopes; `children` says more about them. */
export function Kill({ scopes, onDone, onClose, children }) {
  const [chosen, setChosen] = useState(0);
  const counts = useCounts(scopes);
  const known = counts[chosen] !== undefined;
  const nobody = counts[chosen] === 0;
  const perform = async (reason) => {
    const { kind, value } = scopes[chosen];
    const { sessions } = await act("kill", { kind, value, reason });
    return sessions ? `${counted(sessions, "console")} ended.` : "There was no console to end.";
  };
  return html`<${Action} title=${scopes.length > 1 ? "End a console" : "End consoles"} danger=${true} seen=${true}
    verb=${known ? `End ${counted(counts[chosen], "console")}` : "End consoles"}
    disabled=${nobody} ...${{ perform, onDone, onClose }}>
    ${children}
    <fieldset>
      <legend>What to end</legend>
      ${scopes.map((scope, index) => html`<label key=${index} class="choice">
        <input type="radio" name="scope" checked=${index === chosen} onChange=${() => setChosen(index)} />
        <span class="long">${scope.label}</span>
        <span class="number">${counts[index] === undefined ? "…" : counted(counts[index], "console")}</span>
      </label>`)}
    </fieldset>
  <//>`;
}

/** Return how many consoles each scope has; a number that is not known yet is undefined. */
function useCounts(scopes) {
  const [counts, setCounts] = useState(() => scopes.map((scope) => scope.count));
  useEffect(() => {
    scopes.forEach(async ({ kind, value, count }, index) => {
      if (count !== undefined) return;
      const found = await read("sessions", { [kind]: value, limit: 1 }).catch(() => null);
      if (found) setCounts((before) => before.map((old, at) => (at === index ? found.matching : old)));
    });
  }, []);
  return counts;
}
