// Tables whose rows change while a user reads them or moves through them with the keyboard.

import { html, useLayoutEffect, useRef } from "../library/htm-preact.js";

/**
 * A table. `keys` are those of its rows in their order, and `rows` has the rows by them. Each column has `name`, `title`, `cell(row)`, and may have `numeric`, `sorts` (whether the server
 * sorts by it), `descends` (whether its first order is descending) and `className`.
 *
 * On a narrow screen each row is a card, in which the titles of the columns stand before the values.
 */
export function Table({ caption, columns, keys, rows, sort, order, onSort, busy, empty }) {
  const frame = useFocusKept();
  const sortable = columns.filter((column) => column.sorts);
  return html`<div class="frame" ref=${frame} tabindex="-1" role="region" aria-label=${caption}>
    ${sortable.length > 0 && html`<${SortChoice} columns=${sortable} ...${{ sort, order, onSort }} />`}
    <table role="table" aria-busy=${busy ? "true" : "false"}>
      <caption class="unseen">${caption}</caption>
      <thead role="rowgroup"><tr role="row">
        ${columns.map((column) => html`<${Heading} key=${column.name} ...${{ column, sort, order, onSort }} />`)}
      </tr></thead>
      <tbody role="rowgroup">
        ${keys.map((key) => html`<tr role="row" key=${key}>
          ${columns.map((column, index) => html`<${Cell} key=${column.name} ...${{ column, row: rows.get(key), first: !index }} />`)}
        </tr>`)}
      </tbody>
    </table>
    ${!keys.length && html`<p class="empty">${busy ? "Loading." : empty}</p>`}
  </div>`;
}

function Heading({ column, sort, order, onSort }) {
  const kind = `${column.className || ""} ${column.numeric ? "number" : ""}`;
  if (!column.sorts) {
    return html`<th role="columnheader" scope="col" class=${kind}>
      <span class=${column.silent ? "unseen" : ""}>${column.title}</span>
    </th>`;
  }
  const sorted = column.name === sort;
  const direction = order === "asc" ? "ascending" : "descending";
  return html`<th role="columnheader" scope="col" class=${kind} aria-sort=${sorted ? direction : "none"}>
    <button type="button" class="sort" title=${column.about || ""} onClick=${() => onSort(...next(column, sort, order))}>
      ${column.title}<span class="arrow" aria-hidden="true">${sorted ? (order === "asc" ? "▲" : "▼") : ""}</span>
    </button>
  </th>`;
}

function Cell({ column, row, first }) {
  const kind = `${column.className || ""} ${column.numeric ? "number" : ""}`;
  const label = column.silent ? undefined : column.title;
  if (first) return html`<th role="rowheader" scope="row" class=${kind} data-label=${label}>${column.cell(row)}</th>`;
  return html`<td role="cell" class=${kind} data-label=${label}>${column.cell(row)}</td>`;
}

/** The sort order where the headings are not shown. */
function SortChoice({ columns, sort, order, onSort }) {
  const other = order === "asc" ? "desc" : "asc";
  return html`<div class="sort-choice">
    <label>Sort by
      <select name="sort" value=${sort} onChange=${(event) => onSort(event.target.value, order)}>
        ${columns.map((column) => html`<option key=${column.name} value=${column.name}>${column.title}</option>`)}
      </select>
    </label>
    <button type="button" aria-label=${order === "asc" ? "Ascending, sort descending" : "Descending, sort ascending"}
      onClick=${() => onSort(sort, other)}><span aria-hidden="true">${order === "asc" ? "▲" : "▼"}</span></button>
  </div>`;
}

function next(column, sort, order) {
  if (column.name === sort) return [sort, order === "asc" ? "desc" : "asc"];
  return [column.name, column.descends ? "desc" : "asc"];
}

/**
 * Return a reference to an element in which the keyboard's focus stays.
 *
 * A row that moves loses the focus, which goes back to it. The focus of a row that vanishes goes to the element.
 */
function useFocusKept() {
  const frame = useRef(null);
  const held = useRef(null);
  useLayoutEffect(() => {
    const element = frame.current;
    const entered = (event) => { held.current = event.target; };
    const left = (event) => {
      // Without a related target the element itself has moved or vanished, or the window has lost the focus.
      if (event.relatedTarget && !element.contains(event.relatedTarget)) held.current = null;
    };
    const pressed = (event) => { if (!element.contains(event.target)) held.current = null; };
    element.addEventListener("focusin", entered);
    element.addEventListener("focusout", left);
    document.addEventListener("pointerdown", pressed);
    return () => {
      element.removeEventListener("focusin", entered);
      element.removeEventListener("focusout", left);
      document.removeEventListener("pointerdown", pressed);
    };
  }, []);
  useLayoutEffect(() => {
    if (!held.current || (document.activeElement && document.activeElement !== document.body)) return;
    const target = held.current.isConnected ? held.current : frame.current;
    target.focus({ preventScroll: true });
  });
  return frame;
}
