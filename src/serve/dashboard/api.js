// Api: requests to the server, its errors, and its clock.

import { toMs } from "./format.js";

/** The server's clock minus ours, in milliseconds: ages are told by the server's. */
export const skew = { ms: 0, exact: false };
/** Milliseconds by the server's clock. */
export const now = () => Date.now() + skew.ms;
/** Who we are: filled by the session. */
export const session = { role: "admin", version: "", anonymous: true };

/** Learns the server's clock from a time that it has just written. */
export function learn(time) {
  const ms = toMs(time);
  if (Number.isNaN(ms)) return;
  skew.ms = ms - Date.now();
  skew.exact = true;
}

/** An error that the server told, or that kept us from asking it (status 0). */
export class Failure extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || "No answer");
    this.status = status;
    this.code = problem.code || "";
    this.problem = problem;
  }
  /** In words, with the request's id. */
  get words() {
    const id = this.problem.request_id;
    return this.message + (id ? ` (request ${id})` : "");
  }
}

/** Called when the server wants a sign-in. */
export const hooks = { unauthorized: () => {}, answered: () => {} };

const query = (values) => {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(values || {})) if (value !== undefined && value !== "") search.append(name, value);
  const text = search.toString();
  return text ? `?${text}` : "";
};

/** What boot.js has asked for already: its answer, and when that came (`at`). Once. */
function early(url) {
  if (url !== "/tasks?limit=50") return null;
  const answer = window.early;
  window.early = null;
  return answer;
}

/**
 * One request.
 * @returns {Promise<{status: number, data: any, text: string, next: string|null}>}
 */
export async function call(method, path, { body, key, params, quiet, patience = 15000 } = {}) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (key) headers["Idempotency-Key"] = key;
  const sent = Date.now();
  let response;
  let text;
  try {
    const url = path + query(params);
    response = (await early(url)) || await fetch(url, {
      method, headers, cache: "no-store",
      body: body === undefined || typeof body === "string" ? body : JSON.stringify(body),
      signal: AbortSignal.timeout(patience),
    });
    text = await response.text();
  } catch {
    throw new Failure(0, { detail: "The server did not answer." });
  }
  hooks.answered();
  const date = toMs(response.headers.get("date"));
  // The header has whole seconds: it corrects only what is clearly off.
  const guess = date + 500 - (response.at || (sent + Date.now()) / 2);
  if (!Number.isNaN(date) && (!skew.exact || Math.abs(guess - skew.ms) > 3000)) skew.ms = Math.abs(guess) < 2000 ? 0 : guess;
  let data = null;
  try {
    data = JSON.parse(text);
  } catch { /* nothing, or not ours: a proxy's page */ }
  if (response.ok) return { status: response.status, data, text, next: nextOf(response.headers.get("link")) };
  const failure = new Failure(response.status, data || { detail: `The answer was ${response.status}.` });
  failure.after = Number(response.headers.get("retry-after")) || 0;
  if (response.status === 401 && !quiet) hooks.unauthorized();
  throw failure;
}

const nextOf = (link) => {
  const found = /<([^>]*)>;\s*rel="next"/.exec(link || "");
  return found ? new URLSearchParams(found[1].split("?")[1]).get("cursor") : null;
};

/** The data alone. */
export const get = async (path, params) => (await call("GET", path, { params })).data;

/** A key for a submit. crypto.randomUUID does not exist on plain HTTP. */
export function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
