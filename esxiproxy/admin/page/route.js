// The address of what is shown: the view and its window stand in the fragment of the URL.

import { useEffect, useState } from "./library/htm-preact.js";

/** The lists that the event stream shows, with the sort order in which they begin. */
export const LIVE_VIEWS = {
  sessions: { sort: "since", order: "desc" },
  hosts: { sort: "usage", order: "desc" },
  failures: { sort: "time", order: "desc" },
};

export const VIEWS = {
  sessions: "Consoles",
  hosts: "Hosts",
  failures: "Failures",
  listeners: "Listeners",
  upstreams: "Upstreams",
  workers: "Workers",
  drains: "Drains",
  links: "Links",
  configuration: "Configuration",
};

const MAX_FILTER = 200;
const MAX_PAGE = 500;
const ROWS = 50;

/** Return the fragment of a route. What is as it begins is left out. */
export function fragment(route) {
  const first = defaults(route.view);
  const query = new URLSearchParams();
  for (const name of ["filter", "sort", "order", "offset", "limit"]) {
    const value = route[name];
    if (value !== undefined && value !== first[name]) query.set(name, value);
  }
  const text = query.toString();
  return `#${route.view}${text ? `?${text}` : ""}`;
}

/** Return the route of a fragment; whatever is not valid is as it begins. */
export function parse(text) {
  const [name, query] = text.replace(/^#/, "").split("?", 2);
  const view = Object.hasOwn(VIEWS, name) ? name : "sessions";
  const given = new URLSearchParams(query || "");
  const first = defaults(view);
  return {
    view,
    filter: (given.get("filter") || "").slice(0, MAX_FILTER),
    sort: /^[a-z_]{1,32}$/.test(given.get("sort") || "") ? given.get("sort") : first.sort,
    order: ["asc", "desc"].includes(given.get("order")) ? given.get("order") : first.order,
    offset: whole(given.get("offset"), 0, 10_000_000, 0),
    limit: whole(given.get("limit"), 1, MAX_PAGE, ROWS),
  };
}

/** Return the route, and a function that changes parts of it. */
export function useRoute() {
  const [route, setRoute] = useState(() => parse(location.hash));
  useEffect(() => {
    const changed = () => setRoute(parse(location.hash));
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  const go = (changes) => {
    const next = fragment({ ...parse(location.hash), ...changes });
    // A new filter or page of the same list is no step of the browser's history.
    if (changes.view === undefined) {
      history.replaceState(null, "", next);
      setRoute(parse(next));
    } else {
      location.hash = next;
    }
  };
  return [route, go];
}

/** Return a filter that looks for the words of a name in one column. */
export function within(column, name) {
  return name.split(/\s+/).filter(Boolean).map((word) => `${column}:${word}`).join(" ").slice(0, MAX_FILTER);
}

function defaults(view) {
  return { filter: "", sort: "", order: "asc", offset: 0, limit: ROWS, ...LIVE_VIEWS[view] };
}

function whole(text, least, most, otherwise) {
  const number = /^\d{1,8}$/.test(text || "") ? Number(text) : otherwise;
  return Math.min(most, Math.max(least, number));
}
