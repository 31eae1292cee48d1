// Filters: the query of the address, as the API, a body and people take it.

import { span } from "./format.js";
import { now } from "./api.js";

/** What a filter is called on the page. */
export const NAMES = { task_type: "type", queue: "queue", error: "error", priority: "priority", since: "last", created_after: "after", created_before: "before" };

/** The filters as the API takes them. @param {URLSearchParams} params */
export function filters(params) {
  const wanted = {};
  for (const [name, value] of params) {
    if (name.startsWith("meta.")) wanted[`metadata.${name.slice(5)}`] = value;
    else if (name === "since") wanted.created_after = new Date(Math.floor((now() - (span(value) || 0)) / 1e4) * 1e4).toISOString();
    else if (["status", "task_type", "queue", "error", "priority", "created_after", "created_before"].includes(name)) wanted[name] = value;
  }
  return wanted;
}

/** The same for a body. */
export function filterBody(params) {
  const body = { metadata: {} };
  for (const [name, value] of Object.entries(filters(params))) {
    if (name.startsWith("metadata.")) body.metadata[name.slice(9)] = value;
    else body[name] = name === "status" ? value.split(",") : value;
  }
  return body;
}

/** The same for people. */
export function inWords(params) {
  const words = [...params].filter(([name]) => name !== "limit" && name !== "cursor").map(([name, value]) => (name === "status" ? value : `${NAMES[name] || name} ${value}`));
  return words.length ? words.join(", ") : "All tasks";
}
