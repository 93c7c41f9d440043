// Requests of a page to the API of its service: JSON there and back, and a sentence for each failure.

const TIMEOUT = 20000;

/** A request that failed. `status` is 0 if there was no answer; the message says what to do. */
export class ApiError extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

/**
 * The API below a URL. `sentences` has the texts of failures: `silent(seconds)`, `unreachable`, `unreadable`, and
 * `refused(status)`. `fields` are the further fields of actions. `onLoginEnded` is called when a login is needed.
 */
export class Api {
  #base;
  #sentences;
  #fields;
  #onLoginEnded;

  constructor(base, { sentences, fields = {}, onLoginEnded = () => {} }) {
    this.#base = base;
    this.#sentences = sentences;
    this.#fields = fields;
    this.#onLoginEnded = onLoginEnded;
  }

  /** Return the URL of an operation; parameters that are empty are left out. */
  address(path, parameters = {}) {
    const url = new URL(path, this.#base);
    for (const [name, value] of Object.entries(parameters)) {
      if (value !== "" && value !== null && value !== undefined) url.searchParams.set(name, value);
    }
    return url;
  }

  /** Return what a GET answers. Throws ApiError. */
  read(path, parameters, fields = {}) {
    return this.#request(this.address(path, parameters), { headers: { Accept: "application/json", ...fields } });
  }

  /** Return what a POST answers. Throws ApiError. */
  act(path, body = {}) {
    return this.#request(this.address(path), {
      method: "POST",
      headers: { Accept: "application/json", "Content-Type": "application/json", ...this.#fields },
      body: JSON.stringify(body),
    });
  }

  async #request(url, options) {
    const texts = this.#sentences;
    let answer;
    try {
      answer = await fetch(url, { ...options, cache: "no-store", signal: AbortSignal.timeout(TIMEOUT) });
    } catch (error) {
      throw new ApiError(0, error.name === "TimeoutError" ? texts.silent(TIMEOUT / 1000) : texts.unreachable);
    }
    if (answer.status === 401) this.#onLoginEnded();
    const body = await answer.json().catch(() => null);
    if (!answer.ok) throw new ApiError(answer.status, body?.error || texts.refused(answer.status));
    if (body === null) throw new ApiError(answer.status, texts.unreadable);
    return body;
  }
}
