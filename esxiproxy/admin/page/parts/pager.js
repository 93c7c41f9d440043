// The filter of a list, and the steps through its pages.

import { html, useEffect, useRef, useState } from "../library/htm-preact.js";
import { count } from "../format.js";

const TYPING = 250;
const SIZES = [25, 50, 100, 200, 500];

/** The field of the filter. It is applied while one types, after a short rest. */
export function Filter({ value, columns, onChange }) {
  const [text, setText] = useState(value);
  const timer = useRef(0);
  useEffect(() => {
    if (!timer.current) setText(value);
  }, [value]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const apply = (next) => {
    clearTimeout(timer.current);
    timer.current = 0;
    onChange(next);
  };
  const typed = (event) => {
    const next = event.target.value;
    setText(next);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => apply(next), TYPING);
  };
  return html`<form class="filter" role="search" onSubmit=${(event) => { event.preventDefault(); apply(text); }}>
    <label for="filter">Filter</label>
    <input id="filter" name="filter" type="search" maxlength="200" autocomplete="off" spellcheck=${false}
      placeholder=${`words, or ${columns}:word`} value=${text} onInput=${typed} />
  </form>`;
}

/** The place of the window in the list, and buttons for others; `shown` is the offset of the rows that are drawn. */
export function Pager({ shown, offset, limit, matching, total, onChange }) {
  const last = Math.max(0, Math.floor((matching - 1) / limit) * limit);
  const end = Math.min(shown + limit, matching);
  const of = matching === total ? count(total) : `${count(matching)} of ${count(total)}`;
  const step = (to, name, sign) => {
    const off = to === offset || to < 0 || to > last;
    return html`<button type="button" aria-label=${name} title=${name} aria-disabled=${off ? "true" : "false"}
      onClick=${() => off || onChange({ offset: to })}><span aria-hidden="true">${sign}</span></button>`;
  };
  return html`<nav class="pager" aria-label="Pages of the list">
    <span class="where">${matching ? `${count(shown + 1)}–${count(end)} of ${of}` : `0 of ${count(total)}`}</span>
    ${step(0, "First page", "«")}
    ${step(Math.max(offset - limit, offset ? 0 : -1), "Previous page", "‹")}
    ${step(offset + limit, "Next page", "›")}
    ${step(last, "Last page", "»")}
    <label>Rows
      <select name="limit" value=${limit} onChange=${(event) => onChange({ limit: Number(event.target.value), offset: 0 })}>
        ${(SIZES.includes(limit) ? SIZES : [limit, ...SIZES]).map((size) => html`<option key=${size} value=${size}>${size}</option>`)}
      </select>
    </label>
  </nav>`;
}
