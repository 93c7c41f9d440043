// The field of the search, which is applied while one types, and the choice of favourites.

import { html, useEffect, useRef, useState } from "../../../admin/page/library/htm-preact.js";

const TYPING = 200;

export function Search({ route, go }) {
  const [text, setText] = useState(route.search);
  const timer = useRef(0);
  const field = useRef(null);
  useEffect(() => {
    const pressed = (event) => {
      if (event.key === "/" && !event.target.closest("input, textarea, select, dialog")) {
        event.preventDefault();
        field.current.focus();
        field.current.select();
      }
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
  useEffect(() => () => clearTimeout(timer.current), []);
  const apply = (next) => {
    clearTimeout(timer.current);
    go({ search: next, offset: 0 });
  };
  const typed = (event) => {
    const next = event.target.value;
    setText(next);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => apply(next), TYPING);
  };
  const pressed = (event) => {
    if (event.key !== "ArrowDown") return;
    event.preventDefault();
    document.querySelector(".machines a.name")?.focus();
  };
  return html`<form class="search" role="search" onSubmit=${(event) => { event.preventDefault(); apply(text); }}>
    <label class="unseen" for="search">Search the machines</label>
    <input id="search" ref=${field} type="search" maxlength="200" autocomplete="off" spellcheck=${false} autofocus
      placeholder="Search by name, folder or tag" title="Press / to search. power:on, folder:prod and tag:linux look into one property."
      value=${text} onInput=${typed} onKeyDown=${pressed} />
    <button type="button" class="star-filter" aria-pressed=${route.favourites ? "true" : "false"}
      onClick=${() => go({ favourites: route.favourites ? "" : "1", offset: 0 })}>
      <span aria-hidden="true">★</span> Favourites</button>
  </form>`;
}
