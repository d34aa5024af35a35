// Asks the REST API; failures say what the API says.

const PATIENCE_MS = 15_000;

export class RestError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export class RestClient {
  #base;

  constructor(base = document.baseURI) {
    this.#base = base;
  }

  /** Return the `data` of an answer of the API. */
  async data(path, query = {}) {
    return (await this.json(path, query)).data;
  }

  /** Return the body of an answer. */
  async json(path, query = {}) {
    const response = await this.#fetch(path, query);
    let body;
    try {
      body = await response.json();
    } catch {
      throw new RestError(response.status, "bad_answer", `answer ${response.status} is not JSON`);
    }
    if (!response.ok) {
      throw new RestError(response.status, body.error?.code ?? "failed", body.message ?? `status ${response.status}`);
    }
    return body;
  }

  /** Return the text of an answer, null when there is no such thing. */
  async text(path) {
    const response = await this.#fetch(path, {});
    return response.ok ? response.text() : null;
  }

  async #fetch(path, query) {
    const url = new URL(path, this.#base);
    url.hash = "";
    for (const [key, value] of Object.entries(query)) {
      if (value !== null && value !== undefined) url.searchParams.set(key, value);
    }
    try {
      return await fetch(url, { signal: AbortSignal.timeout(PATIENCE_MS) });
    } catch (problem) {
      throw new RestError(0, "unreachable", `the API does not answer: ${problem.message}`);
    }
  }
}
