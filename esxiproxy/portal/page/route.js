// The state of the page is in the query of its URL: the search, the favourites, the place in the list.

import { useEffect, useState } from "../../admin/page/library/htm-preact.js";

const ROWS = 50;
const MAX_SEARCH = 200;

/** Return the route of a query; whatever is not valid is as it begins. */
export function parse(text) {
  const given = new URLSearchParams(text);
  const offset = given.get("offset") || "";
  return {
    search: (given.get("search") || "").slice(0, MAX_SEARCH),
    favourites: given.get("favourites") === "1" ? "1" : "",
    offset: /^\d{1,7}$/.test(offset) ? Number(offset) : 0,
    limit: ROWS,
  };
}

/** Return the route, and a function that changes parts of it. */
export function useRoute() {
  const [route, setRoute] = useState(() => parse(location.search));
  useEffect(() => {
    const changed = () => setRoute(parse(location.search));
    addEventListener("popstate", changed);
    return () => removeEventListener("popstate", changed);
  }, []);
  const go = (changes) => {
    const next = { ...parse(location.search), ...changes };
    const query = new URLSearchParams();
    for (const name of ["search", "favourites", "offset"]) if (next[name]) query.set(name, next[name]);
    const text = query.toString();
    history.replaceState(null, "", text ? `/?${text}` : "/");
    setRoute(next);
  };
  return [route, go];
}
