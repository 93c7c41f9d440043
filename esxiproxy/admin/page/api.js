// Requests to the API of the admin service.

const BASE = new URL("api/v1/", document.baseURI);
const TIMEOUT = 20000;

/** A request that failed. `status` is 0 if there was no answer; the message says what to do. */
export class ApiError extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

/** Return the URL of an operation; parameters that are empty are left out. */
export function address(path, parameters = {}) {
  const url = new URL(path, BASE);
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== "" && value !== null && value !== undefined) url.searchParams.set(name, value);
  }
  return url;
}

/** Return what a GET answers. Throws ApiError. */
export function read(path, parameters) {
  return request(address(path, parameters), { headers: { Accept: "application/json" } });
}

/** Return what a POST answers. Throws ApiError. The field is one that no other site can send. */
export function act(path, body) {
  return request(address(path), {
    method: "POST",
    headers: { Accept: "application/json", "Content-Type": "application/json", "X-Esxiproxy": "1" },
    body: JSON.stringify(body),
  });
}

async function request(url, options) {
  let answer;
  try {
    answer = await fetch(url, { ...options, cache: "no-store", signal: AbortSignal.timeout(TIMEOUT) });
  } catch (error) {
    if (error.name === "TimeoutError") {
      throw new ApiError(0, `The admin service has not answered for ${TIMEOUT / 1000} s.`);
    }
    throw new ApiError(0, "The admin service cannot be reached. If a login has ended, reload the page.");
  }
  const body = await answer.json().catch(() => null);
  if (!answer.ok) throw new ApiError(answer.status, body?.error || sentence(answer.status));
  if (body === null) throw new ApiError(answer.status, "The answer of the admin service is no JSON.");
  return body;
}

function sentence(status) {
  if (status === 401) return "The login has ended. Reload the page to log in again.";
  if (status === 403) return "This user may not do this.";
  if (status === 503) return "The admin service cannot answer now. It is asked again.";
  return `The admin service has answered with HTTP status ${status}.`;
}
