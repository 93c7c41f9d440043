// A duration in a form: a number and its unit.

import { html } from "../library/htm-preact.js";

const UNITS = { minutes: 60, hours: 3600, seconds: 1 };

/** Return the seconds of an amount: `{ time, unit }`. */
export function secondsOf({ time, unit }) {
  return Number(time) * UNITS[unit];
}

/** The fields of an amount, of at most `longest` seconds; `onChange` takes the new one. */
export function Amount({ label, amount, longest, required, disabled, positive, onChange }) {
  const { time, unit } = amount;
  return html`<div class="amount">
    <input type="number" name="time" aria-label=${label} min=${positive ? 1 : 0} max=${longest / UNITS[unit]}
      step="any" required=${required} disabled=${disabled} value=${time}
      onInput=${(event) => onChange({ time: event.target.value, unit })} />
    <select name="unit" aria-label="Unit of time" disabled=${disabled} value=${unit}
      onChange=${(event) => onChange({ time, unit: event.target.value })}>
      ${Object.keys(UNITS).map((name) => html`<option key=${name} value=${name}>${name}</option>`)}
    </select>
  </div>`;
}
