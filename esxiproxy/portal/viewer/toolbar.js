// The bar above a console, its menus, and its dialogs.

import { State } from "./console.js";
import { MAX_TEXT, KEY_INTERVAL, normalised, typeText, untypable } from "./typing.js";

const FUNCTION_KEYS = ["F1", "F2", "F3", "F4", "F5", "F6", "F7", "F8", "F9", "F10", "F11", "F12"];
/** Key combinations that a browser or its operating system keeps for itself. */
export const COMBINATIONS = [
  ["Ctrl+Alt+Del", ["ControlLeft", "AltLeft", "Delete"]],
  ["Ctrl+Alt+Backspace", ["ControlLeft", "AltLeft", "Backspace"]],
  ["Ctrl+Shift+Esc", ["ControlLeft", "ShiftLeft", "Escape"]],
  ["Ctrl+Esc", ["ControlLeft", "Escape"]],
  ["Alt+Tab", ["AltLeft", "Tab"]],
  ["Alt+F4", ["AltLeft", "F4"]],
  ["Windows key", ["MetaLeft"]],
  ["Windows+L", ["MetaLeft", "KeyL"]],
  ["Windows+R", ["MetaLeft", "KeyR"]],
  ["Print Screen", ["PrintScreen"]],
  ["Alt+Print Screen", ["AltLeft", "PrintScreen"]],
  ["Pause", ["Pause"]],
  ...FUNCTION_KEYS.map((key) => [`Ctrl+Alt+${key}`, ["ControlLeft", "AltLeft", key]]),
];

/** Connect the elements of the page to a console. `resize(width, height)` is undefined where it is not allowed. */
export function startToolbar(page, console_, resize) {
  const find = (id) => page.getElementById(id);
  startKeys(find, console_);
  startSize(find, console_, resize);
  startTyping(find, console_);
  startClipboard(find, console_);
  find("close").addEventListener("click", () => console_.close());
  find("again").addEventListener("click", () => console_.open());
  find("full").addEventListener("click", async () => {
    if (page.fullscreenElement) return page.exitFullscreen();
    await find("stage").requestFullscreen();
    // Chromium gives the page keys such as Escape and Alt+Tab while it is full screen.
    await navigator.keyboard?.lock?.().catch(() => {});
    console_.focus();
  });
  if (!page.fullscreenEnabled) find("full").hidden = true;
}

function startKeys(find, console_) {
  const menu = find("keys-menu");
  for (const [name, codes] of COMBINATIONS) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.addEventListener("click", () => {
      console_.keyboard.press(codes);
      find("keys").open = false;
      console_.focus();
    });
    menu.append(button);
  }
  find("ctrl-alt-del").addEventListener("click", () => {
    console_.keyboard.press(COMBINATIONS[0][1]);
    console_.focus();
  });
  find("physical").addEventListener("change", (event) => {
    console_.keyboard.releaseAll();
    console_.keyboard.isPhysical = event.target.checked;
  });
  find("keys").addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    find("keys").open = false;
    find("keys").querySelector("summary").focus();
  });
}

function startSize(find, console_, resize) {
  find("fit").addEventListener("change", (event) => console_.scale(event.target.checked));
  const box = find("resize");
  if (!resize) return;
  box.closest("label").hidden = false;
  let timer = null;
  const ask = () => {
    clearTimeout(timer);
    if (!box.checked || console_.state !== State.OPEN) return;
    timer = setTimeout(() => {
      const { clientWidth, clientHeight } = find("screen");
      // Guests accept even widths only.
      resize(clientWidth & ~1, clientHeight & ~1).then(
        () => (find("problem").textContent = ""),
        (error) => (find("problem").textContent = `The screen of the guest keeps its size: ${error.message}`),
      );
    }, 500);
  };
  box.addEventListener("change", ask);
  console_.addEventListener("state", ask);
  new ResizeObserver(ask).observe(find("screen"));
}

function startTyping(find, console_) {
  const dialog = find("typing");
  const [text, problem, progress, submit] = ["text", "text-problem", "text-progress", "text-send"].map(find);
  let typing = null;
  const check = () => {
    const refused = untypable(text.value);
    problem.textContent = refused.length
      ? `The US layout cannot type ${refused.map(named).join(", ")}. Take these characters out.`
      : "";
    submit.disabled = refused.length > 0 || !text.value;
  };
  text.maxLength = MAX_TEXT;
  text.addEventListener("input", check);
  find("type").addEventListener("click", () => {
    check();
    dialog.showModal();
  });
  find("text-cancel").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    typing?.abort();
    text.value = "";
    progress.hidden = true;
    console_.focus();
  });
  console_.addEventListener("state", () => typing?.abort());
  find("typing-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (typing || console_.state !== State.OPEN) return;
    typing = new AbortController();
    const { signal } = typing;
    progress.hidden = false;
    progress.max = [...normalised(text.value)].length;
    submit.disabled = true;
    const done = await typeText(text.value, (scan, isDown) => console_.key(scan, isDown), {
      signal,
      interval: KEY_INTERVAL,
      progress: (count) => (progress.value = count),
    });
    typing = null;
    if (!signal.aborted) return dialog.close();
    problem.textContent = `The typing was stopped after ${done} of ${progress.max} characters.`;
    submit.disabled = false;
  });
}

function startClipboard(find, console_) {
  const text = find("clipboard-text");
  console_.addEventListener("clipboard", (event) => {
    text.value = event.detail;
    find("clipboard").hidden = false;
  });
  find("clipboard-send").addEventListener("click", () => console_.paste(text.value));
}

function named(character) {
  const code = character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
  return /[\p{L}\p{N}\p{P}\p{S}]/u.test(character) ? `${character} (U+${code})` : `U+${code}`;
}
