// The API of the portal.

import { Api } from "../../admin/page/requests.js";

const base = new URL("/api/", location.origin);
const sentences = {
  silent: (seconds) => `There was no answer for ${seconds} s.`,
  unreachable: "The proxy cannot be reached.",
  unreadable: "The answer of the proxy cannot be read.",
  refused,
};
const api = new Api(base, { sentences, onLoginEnded: logIn });
const quietApi = new Api(base, { sentences });

/** Return the URL of a path of the API. */
export const address = (path, parameters) => api.address(path, parameters);

/** Return the path of a machine in the API. */
export function ofMachine(machine, rest = "") {
  return `machines/${encodeURIComponent(machine.vsphere)}/${encodeURIComponent(machine.uuid)}${rest && `/${rest}`}`;
}

/** Return what a GET answers. Throws ApiError. */
export const read = (path, parameters) => api.read(path, parameters);

/**
 * Return what a GET answers that the page sends by itself, without a user: it does not extend the login. Throws
 * ApiError.
 */
export const readByItself = (path, parameters) => api.read(path, parameters, { "X-Automatic-Request": "1" });

/** Send a GET that extends the login, if it has not ended; a page that shows a console stays as it is. */
export const use = (path, parameters) => quietApi.read(path, parameters).catch(() => {});

/** Return what a POST answers. Throws ApiError. */
export const act = (path, body) => api.act(path, body);

/** Go to the login form, which leads back to this page. */
export function logIn() {
  const here = location.pathname;
  location.assign(here === "/" ? "/login" : `/login?next=${encodeURIComponent(here)}`);
}

function refused(status) {
  if (status === 401) return "The login has ended.";
  if (status === 403) return "You may not do this.";
  if (status === 503) return "The proxy cannot answer now. It is asked again.";
  return `The proxy has answered with HTTP status ${status}.`;
}
