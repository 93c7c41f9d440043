// The dialog that revokes a link.

import { html } from "../library/htm-preact.js";
import { act } from "../api.js";
import { counted, visible } from "../format.js";
import { Action, Facts } from "../parts/dialog.js";
import { Name } from "../parts/name.js";

/** Revokes a link, which ends the consoles that it has opened. */
export function Revoke({ link, onDone, onClose }) {
  const perform = async (reason) => {
    const { sessions } = await act("links/revoke", { id: link.id, reason });
    return `The link ${visible(link.id)} is revoked, and ${counted(sessions, "console")} ended.`;
  };
  const verb = link.sessions ? `Revoke, and end ${counted(link.sessions, "console")}` : "Revoke";
  return html`<${Action} title="Revoke a link" danger=${true} seen=${true} ...${{ verb, perform, onDone, onClose }}>
    <p>It opens no console any more. The consoles that it has opened are ended.</p>
    <${Facts} facts=${[
      ["Link", html`<${Name} text=${link.id} />`],
      ["Host", html`<${Name} text=${link.host} />`],
      ["Open consoles", counted(link.sessions, "console")],
    ]} />
  <//>`;
}
