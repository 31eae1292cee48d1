// Strip: what every page shows about the whole: counts, the oldest wait, workers, slots, and banners when something is
// away. Fed by frames of the stream, or by three requests where there is none.

import { $, all, attr, el, partsOf, show, text } from "./dom.js";
import { duration, number, count } from "./format.js";
import { get, learn, session } from "./api.js";

/** The last known whole. */
export const world = { counts: null, queues: [], workers: [], samples: {}, redis: "ok", postgres: "ok" };
const views = new Set();

/** Told when the whole has changed. */
export function watch(view) {
  views.add(view);
  return () => views.delete(view);
}

/** Takes the parts of a frame that are there. */
export function take(frame) {
  if (frame.server_time) learn(frame.server_time);
  if (frame.version) checkVersion(frame.version);
  for (const name of Object.keys(world)) if (frame[name] !== undefined) world[name] = frame[name];
  render();
  for (const view of views) view();
}

/** Asks for the whole without a stream. @param {Record<string, string>} filters those of the counts */
export async function refetch(filters = {}) {
  const [counts, queues, workers] = await Promise.all([get("/tasks/counts", filters), get("/queues"), get("/workers")]);
  const samples = Object.fromEntries(queues.map((queue) => [queue.queue, queue.samples]));
  take({ counts, queues, workers, samples, postgres: "ok" });
}

/** A banner on every page; without words it goes. */
export function banner(name, ...words) {
  const node = $(`[data-banner="${name}"]`);
  const said = words.map((word) => (typeof word === "string" ? word : word.textContent)).join("");
  if (node.said === said) return;
  node.said = said;
  node.replaceChildren(...words);
  show(node, words.length > 0);
}

/** Tells when a server answers with another version than the first one did, whichever of them that is. */
export function checkVersion(version) {
  if ((session.version ||= version) !== version) {
    banner("version", `A new version is running (${version}). `, el("button", { type: "button", "data-act": "reload" }, "Reload"));
  }
}

function render() {
  const { counts, queues, workers } = world;
  const parts = partsOf($(".strip"));
  for (const link of all(".counts a")) {
    const status = link.dataset.status;
    if (counts) text(link.querySelector(".num"), status ? told(counts.counts[status], counts) : total(counts));
  }
  const ages = queues.map((queue) => queue.oldest_age_seconds).filter((age) => age !== null);
  const alive = workers.filter((worker) => worker.state === "alive");
  const slots = queues.reduce((sum, queue) => sum + queue.slots, 0);
  const http = queues.flatMap((queue) => queue.http_workers || []);
  // What runs over HTTP takes no slot.
  const running = queues.reduce((sum, queue) => sum + queue.running, 0) - http.reduce((sum, worker) => sum + worker.running, 0);
  const names = new Set(http.map((worker) => worker.worker)).size;
  text(parts.oldest, ages.length ? `oldest wait ${duration(1000 * Math.max(...ages))}` : "nothing waits");
  text(parts.workers, count(alive.length, "worker") + (names ? `, ${number(names)} over HTTP` : ""));
  text(parts.slots, `${number(Math.max(0, running))}/${number(slots)} slots`);
  const away = world.postgres === "away" ? "PostgreSQL is away: nothing can be read or accepted. What you see is from before."
    : world.redis === "away" ? "Redis is away: tasks are accepted and kept, starts are delayed." : "";
  banner("store", ...(away ? [away] : []));
  const paused = queues.filter((queue) => queue.paused && queue.ready > 0);
  const link = (queue) => el("a", { href: `/ui/queues?name=${encodeURIComponent(queue.queue)}` }, queue.queue);
  banner("queue", ...(paused.length ? ["Paused with work waiting:", ...paused.flatMap((queue) => [link(queue), `${number(queue.ready)} ready`])] : []));
}

const told = (value, counts) => (value === null || value === undefined ? "many" : number(value) + (value >= counts.limit ? "+" : ""));

function total(counts) {
  const all = Object.values(counts.counts);
  const sum = all.reduce((a, b) => a + (b ?? 0), 0);
  const more = counts.more.length > 0 || sum > counts.limit;
  return number(Math.min(sum, counts.limit)) + (more ? "+" : "");
}

/** Points the counts at the list with these filters, and marks the status that is shown. @param {URLSearchParams} params */
export function point(params, onTasks) {
  const status = params.get("status") || "";
  for (const link of all(".counts a")) {
    const wanted = new URLSearchParams(onTasks ? params : "");
    wanted.delete("cursor");
    wanted.delete("status");
    if (link.dataset.status) wanted.set("status", link.dataset.status);
    attr(link, "href", "/ui/tasks" + (wanted.size ? `?${wanted}` : ""));
    attr(link, "aria-current", onTasks && status === link.dataset.status ? "true" : null);
  }
}
