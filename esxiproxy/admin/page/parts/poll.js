// Values that the event stream does not have are read repeatedly while they are visible.

import { useEffect, useState } from "../library/htm-preact.js";
import { read } from "../api.js";

/** Return `{ found, problem }` of an operation that is read each so many seconds, and at once when `turn` changes. */
export function usePoll(path, parameters, seconds, turn = 0) {
  const [state, setState] = useState({ found: null, problem: "" });
  const key = JSON.stringify([path, parameters]);
  useEffect(() => {
    let ended = false;
    let timer = 0;
    let running = false;
    const ask = async () => {
      clearTimeout(timer);
      if (running || document.hidden) return;
      running = true;
      try {
        const found = await read(path, parameters);
        if (!ended) setState({ found, problem: "" });
      } catch (error) {
        if (!ended) setState((before) => ({ ...before, problem: error.message }));
      }
      running = false;
      if (!ended) timer = setTimeout(ask, seconds * 1000);
    };
    document.addEventListener("visibilitychange", ask);
    ask();
    return () => {
      ended = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", ask);
    };
  }, [key, turn]);
  return state;
}
