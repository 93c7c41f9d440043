// Starts the page, or says why it cannot start: the front-end library may be missing.

const page = document.getElementById("page");

try {
  await import("../../admin/page/library/htm-preact.js");
  const { start } = await import("./app.js");
  start(page);
} catch (error) {
  document.getElementById("loading").hidden = true;
  document.getElementById("problem").textContent = error instanceof Error ? error.message : String(error);
  document.getElementById("missing").hidden = false;
}
