// The API of the admin service.

import { Api } from "./requests.js";

const api = new Api(new URL("api/v1/", document.baseURI), {
  sentences: {
    silent: (seconds) => `The admin service has not answered for ${seconds} s.`,
    unreachable: "The admin service cannot be reached. If a login has ended, reload the page.",
    unreadable: "The answer of the admin service is no JSON.",
    refused,
  },
  // No other site can send this field.
  fields: { "X-Esxiproxy": "1" },
});

/** Return the URL of an operation. */
export const address = (path, parameters) => api.address(path, parameters);

/** Return what a GET answers. Throws ApiError. */
export const read = (path, parameters) => api.read(path, parameters);

/** Return what a POST answers. Throws ApiError. */
export const act = (path, body) => api.act(path, body);

function refused(status) {
  if (status === 401) return "The login has ended. Reload the page to log in again.";
  if (status === 403) return "This user may not do this.";
  if (status === 503) return "The admin service cannot answer now. It is asked again.";
  return `The admin service has answered with HTTP status ${status}.`;
}
