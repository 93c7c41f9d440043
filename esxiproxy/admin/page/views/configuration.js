// The configuration in force, without secrets.

import { html } from "../library/htm-preact.js";
import { usePoll } from "../parts/poll.js";
import { Name, Sentence } from "../parts/name.js";
import { Check, Problems, Reload } from "../actions/reload.js";

const SECONDS = 30;

/** The sections, and buttons to check the file and to put it into force. */
export function Configuration({ operator, open }) {
  const { found, problem } = usePoll("configuration", {}, SECONDS);
  return html`<div class="view">
    <div class="tools">
      <h2>Configuration in force</h2>
      ${operator && html`<span class="buttons">
        <button type="button" onClick=${() => open(Check, {})}>Check the file…</button>
        <button type="button" onClick=${() => open(Reload, {})}>Reload…</button>
      </span>`}
    </div>
    ${problem && html`<p class="problem" role="alert"><${Sentence} text=${problem} /></p>`}
    ${found && html`<p class="calm path"><${Name} text=${found.path} /></p>
      <${Problems} problems=${found.warnings} />
      <div class="sections">${found.sections.map((section, index) => html`<section key=${index}>
        <h3><${Name} text=${`[${section.header}]`} /></h3>
        <dl>${Object.entries(section.keys).map(([key, value]) => html`<div key=${key}>
          <dt><${Name} text=${key} /></dt><dd><${Sentence} text=${value} /></dd>
        </div>`)}</dl>
      </section>`)}</div>`}
  </div>`;
}
