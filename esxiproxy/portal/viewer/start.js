// Starts the page of one console: `/vm/VSPHERE/UUID`, `/vm/NAME` for a name that one machine has, or a link `/c/ID`
// that works once.

import { act, logIn, ofMachine, read, readByItself, use } from "../page/api.js";
import { visible } from "../../admin/page/format.js";

const isLink = location.pathname.startsWith("/c/");
const REFUSED = {
  sentence:
    "The console could not be opened: the link was used already or has expired, or the machine cannot be reached. " +
    "Ask for another link where it came from.",
  isFinal: true,
};
const DROPPED = { sentence: "A user of the portal has ended consoles of this machine.", isFinal: true };
/** Milliseconds after which the proxy is asked again. */
const AGAIN = 3000;
const problem = document.getElementById("problem");

try {
  await begin();
} catch (error) {
  problem.textContent = visible(error.message);
}

async function begin() {
  const machine = isLink ? { name: "Console" } : await findMachine();
  let RFB;
  try {
    RFB = (await import("./novnc/core/rfb.js")).default;
  } catch {
    throw new Error(
      "The viewer is not installed on the proxy. Its operator runs: python -m esxiproxy.portal.viewer_library",
    );
  }
  const { showConsole } = await import("./viewer.js");
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const path = isLink ? location.pathname : `/vm/${encodeURIComponent(machine.vsphere)}/${encodeURIComponent(machine.uuid)}`;
  let isDropped = false;
  showConsole(RFB, {
    machine: { name: visible(machine.name) },
    url: async (isWanted) => {
      isDropped = !isLink && !isWanted && (await wasDropped(machine));
      if (isDropped) throw new Error(DROPPED.sentence);
      return `${scheme}://${location.host}${path}`;
    },
    explain: () => (isLink ? REFUSED : isDropped ? DROPPED : explain(machine)),
    isOnce: isLink,
    // Work in a console is a use of the login, which would be idle otherwise and could not open it again.
    used: isLink ? undefined : () => use(ofMachine(machine)),
    resize: isLink ? undefined : (width, height) => act(ofMachine(machine, "resolution"), { width, height }),
    probe: new URL("viewer.css", import.meta.url),
  });
}

/** Return the machine.  While the proxy cannot answer, since it reads the machines, it is asked again. */
async function findMachine() {
  let wanted;
  try {
    wanted = location.pathname.split("/").slice(2).map(decodeURIComponent).join("/");
  } catch {
    throw new Error("The address of this page names no machine.");
  }
  for (let ask = read; ; ask = readByItself) {
    try {
      const machine = await ask("find", { vm: wanted });
      problem.textContent = "";
      return machine;
    } catch (error) {
      if (error.status !== 503) throw error;
      problem.textContent = visible(error.message);
    }
    await new Promise((resolve) => setTimeout(resolve, AGAIN));
  }
}

/** Return whether a user has just ended consoles of the machine: to come back at once would undo it. */
async function wasDropped(machine) {
  try {
    return (await readByItself(ofMachine(machine))).dropped;
  } catch {
    return false;
  }
}

/** Return why a console could not be opened: a browser does not tell a script the answer of the proxy. */
async function explain(machine) {
  let now;
  try {
    now = await readByItself(ofMachine(machine));
  } catch (error) {
    if (error.status === 401) logIn();
    return { sentence: visible(error.message), isFinal: error.status >= 400 && error.status < 500 };
  }
  if (now.power !== "on") return { sentence: `The machine is ${now.power === "off" ? "powered off" : "suspended"}.`, isFinal: true };
  if (!now.connected) return { sentence: "The host of the machine is not connected to vCenter.", isFinal: false };
  if (now.full) return { sentence: "All consoles of this machine are in use.", isFinal: false };
  return { sentence: "The console could not be opened now.", isFinal: false };
}
