// Requests to the API of the portal.

const TIMEOUT = 20000;

/** A request that failed. `status` is 0 if there was no answer; the message says what to do. */
export class ApiError extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

/** Return the URL of a path of the API; parameters that are empty are left out. */
export function address(path, parameters = {}) {
  const url = new URL(`/api/${path}`, location.origin);
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== "" && value !== null && value !== undefined) url.searchParams.set(name, value);
  }
  return url;
}

/** Return the path of a machine in the API. */
export function ofMachine(machine, rest = "") {
  return `machines/${encodeURIComponent(machine.vsphere)}/${encodeURIComponent(machine.uuid)}${rest && `/${rest}`}`;
}

/** Return what a GET answers. Throws ApiError. */
export function read(path, parameters) {
  return request(address(path, parameters), { headers: { Accept: "application/json" } });
}

/**
 * Return what a GET answers that the page sends by itself, without a user: it does not extend the login. Throws
 * ApiError.
 */
export function readByItself(path, parameters) {
  return request(address(path, parameters), { headers: { Accept: "application/json", "X-Automatic-Request": "1" } });
}

/** Return what a POST answers. Throws ApiError. */
export function act(path, body = {}) {
  return request(address(path), {
    method: "POST",
    headers: { Accept: "application/json", "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
}

/** Go to the login form, which leads back to this page. */
export function logIn() {
  const here = location.pathname;
  location.assign(here === "/" ? "/login" : `/login?next=${encodeURIComponent(here)}`);
}

async function request(url, options) {
  let answer;
  try {
    answer = await fetch(url, { ...options, cache: "no-store", signal: AbortSignal.timeout(TIMEOUT) });
  } catch (error) {
    if (error.name === "TimeoutError") throw new ApiError(0, `There was no answer for ${TIMEOUT / 1000} s.`);
    throw new ApiError(0, "The proxy cannot be reached.");
  }
  if (answer.status === 401) logIn();
  const body = await answer.json().catch(() => null);
  if (!answer.ok) throw new ApiError(answer.status, body?.error || sentence(answer.status));
  if (body === null) throw new ApiError(answer.status, "The answer of the proxy cannot be read.");
  return body;
}

function sentence(status) {
  if (status === 401) return "The login has ended.";
  if (status === 403) return "You may not do this.";
  if (status === 503) return "The proxy cannot answer now. It is asked again.";
  return `The proxy has answered with HTTP status ${status}.`;
}
