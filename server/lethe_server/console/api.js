// The server's API. The key lives in this module's memory and nowhere else: closing or reloading the page forgets it.

let key = "";

export class Refused extends Error {
  constructor(status, kind, message) {
    super(message);
    this.status = status;
    this.kind = kind;
  }
}

export function keep(entered) {
  key = entered;
}

export function forget() {
  key = "";
}

// The answer to a request; throws Refused with what the server says, and Error when nothing answers.
// generation: the one to change, 412 when it is another by now. path: relative to the server, or to its prefix.
export async function send(method, path, { body, generation, headers = {}, signal } = {}) {
  const sent = { Authorization: `Bearer ${key}`, ...headers };
  if (body !== undefined) sent["Content-Type"] = "application/json";
  if (generation !== undefined) sent["If-Match"] = String(generation);
  const options = { method, headers: sent, signal, cache: "no-store", credentials: "omit", redirect: "error" };
  if (body !== undefined) options.body = JSON.stringify(body);
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error(`The server does not answer: ${error.message}`);
  }
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

export async function call(method, path, options) {
  const answer = await send(method, path, options);
  return answer.status === 204 ? null : answer.json();
}

export const get = (path, options) => call("GET", path, options);

export function modulePath(ref) {
  return `admin/modules/${encodeURIComponent(ref)}`;
}

export function routePath(model) {
  return `admin/routes/${model.split("/").map(encodeURIComponent).join("/")}`;
}

async function refusal(answer) {
  const said = await answer.json().catch(() => null);
  const error = said?.error;
  if (!error?.message) return new Refused(answer.status, answer.statusText, "The server gives no reason.");
  return new Refused(answer.status, error.type, error.message);
}
