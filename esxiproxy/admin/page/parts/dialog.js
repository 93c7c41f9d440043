// Dialogs: the frame of all of them, and the one that asks for a reason before it acts.

import { html, useLayoutEffect, useRef, useState } from "../library/htm-preact.js";

const MAX_REASON = 500;
/** Bytes of a reason that a Close frame carries to a user. */
const SHOWN_REASON = 123;

/** A modal dialog. The browser keeps the focus in it, and gives it back afterwards. */
export function Dialog({ title, onClose, children }) {
  const dialog = useRef(null);
  useLayoutEffect(() => {
    dialog.current.showModal();
    dialog.current.querySelector("[data-first]")?.focus({ preventScroll: true });
  }, []);
  return html`<dialog ref=${dialog} aria-labelledby="dialog-title" onClose=${onClose}>
    <h2 id="dialog-title">${title}</h2>
    ${children}
  </dialog>`;
}

/**
 * A dialog that acts: `verb` is the text of its button, and `perform(reason)` returns what was done, as a
 * sentence. A failure is shown, and the dialog stays.
 */
export function Action({ title, verb, danger, disabled, seen, perform, onDone, onClose, children }) {
  const [reason, setReason] = useState("");
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  const form = useRef(null);
  const submitted = async (event) => {
    event.preventDefault();
    if (busy || disabled) return;
    setBusy(true);
    setProblem("");
    try {
      const done = await perform(reason.trim());
      form.current?.closest("dialog").close();
      onDone(done);
    } catch (error) {
      // The user may have closed the dialog meanwhile.
      if (!form.current) onDone(`${verb} failed: ${error.message}`);
      setProblem(error.message);
      setBusy(false);
    }
  };
  const length = new TextEncoder().encode(reason.trim()).length;
  return html`<${Dialog} title=${title} onClose=${onClose}>
    <form ref=${form} onSubmit=${submitted}>
      ${children}
      <label class="field">Reason
        <input name="reason" required maxlength=${MAX_REASON} pattern=".*\\S.*" autocomplete="off" data-first
          title="The reason stands in the audit log." aria-describedby="reason-hint" value=${reason}
          onInput=${(event) => setReason(event.target.value)} />
      </label>
      <p class="hint" id="reason-hint">
        It stands in the audit log.${" "}
        ${seen && (length > SHOWN_REASON
          ? `Users see its first ${SHOWN_REASON} bytes of ${length}.`
          : "Users of the consoles see it.")}
      </p>
      <p class="problem" role="alert">${problem}</p>
      <div class="buttons">
        <button type="button" onClick=${() => form.current.closest("dialog").close()}>Cancel</button>
        <button type="submit" class=${danger ? "danger" : "primary"} aria-disabled=${busy || disabled ? "true" : "false"}>
          ${busy ? "Working …" : verb}
        </button>
      </div>
    </form>
  <//>`;
}

/** A list of facts: pairs of a name and what to show. */
export function Facts({ facts }) {
  return html`<dl class="facts">
    ${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}
  </dl>`;
}
