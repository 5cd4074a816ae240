// Requests to the service. What it refuses is thrown as a Problem.

let csrfToken = null;

/** `code` is stable, `message` is for people; `errors` are [{field, message}] of an invalid request. */
export class Problem extends Error {
  constructor(status, code, detail, errors = []) {
    super(detail);
    this.status = status;
    this.code = code;
    this.errors = errors;
  }
}

/** What is worth saying of an error; null for a request that was given up on purpose. */
export function messageOf(error) {
  if (error?.name === "AbortError") return null;
  if (error instanceof Problem) return error.message;
  if (error instanceof TypeError) return "The service does not answer. Is it running, and is the network up?";
  return String(error?.message ?? error);
}

/** {key_name, is_admin, csrf_token, version}, or null where nobody is signed in. */
export async function currentSession() {
  const response = await fetch("/console/session");
  if (response.status === 401) return null;
  if (!response.ok) throw await problemOf(response);
  const session = await response.json();
  csrfToken = session.csrf_token;
  return session;
}

export async function signIn(apiKey) {
  await send("POST", "/console/session", { json: { api_key: apiKey } });
  return currentSession();
}

export async function signOut() {
  await send("DELETE", "/console/session");
  csrfToken = null;
}

export async function get(path, { query, signal } = {}) {
  return (await send("GET", path + queryString(query), { signal })).json();
}

export async function post(path, json, { signal, headers } = {}) {
  const response = await send("POST", path, { json, signal, headers });
  return response.status === 204 ? null : response.json();
}

export async function put(path, body, { signal } = {}) {
  return (await send("PUT", path, { body, signal })).json();
}

export const remove = (path) => send("DELETE", path);

export async function getBlob(path, { query, signal } = {}) {
  return (await send("GET", path + queryString(query), { signal })).blob();
}

/** All entries of a list that has cursors, page by page. */
export async function* pagesOf(path, query = {}, { signal } = {}) {
  let cursor = null;
  do {
    const page = await get(path, { query: { ...query, cursor }, signal });
    yield page.data;
    cursor = page.next_cursor;
  } while (cursor !== null);
}

async function send(method, path, { json, body = json && JSON.stringify(json), signal, headers } = {}) {
  const response = await fetch(path, {
    method,
    body,
    signal,
    headers: {
      ...(json && { "Content-Type": "application/json" }),
      ...(method !== "GET" && csrfToken && { "X-CSRF-Token": csrfToken }),
      ...headers,
    },
  });
  if (response.ok) return response;
  if (response.status === 401 && path !== "/console/session") window.dispatchEvent(new Event("signed-out"));
  throw await problemOf(response);
}

/** The routes of single images say `message`, or a list in `detail`. */
async function problemOf(response) {
  const said = await response.json().catch(() => ({}));
  const details = Array.isArray(said.detail) ? said.detail.map((one) => one.msg).join("; ") : said.detail;
  const detail = details ?? said.message ?? `The service answered with ${response.status}.`;
  return new Problem(response.status, said.code ?? "http_error", detail, said.errors);
}

export function queryString(query = {}) {
  const known = Object.entries(query).filter(([, value]) => value !== null && value !== undefined);
  return known.length ? `?${new URLSearchParams(known)}` : "";
}
