// Workers: who is there, of which version, and what each of them runs.

import { bdi, el, keyed, show, template, text } from "./dom.js";
import { count, duration, ending, moment, number, safe, toMs } from "./format.js";
import { get, now } from "./api.js";
import { makeStore } from "./store.js";
import { doing } from "./row.js";
import * as live from "./live.js";
import * as strip from "./strip.js";

const NOTHING = "0".repeat(26);
const LAST = "7" + "Z".repeat(25);

function line(task) {
  const work = doing();
  const took = el("td", { class: "r" });
  const node = el("tr", {}, el("td", {}, el("a", { href: `/ui/tasks/${task.task_id}` }, bdi(safe(task.task_type)), " ", el("code", { class: "id muted" }, ending(task.task_id)))), el("td", { class: "c-what" }, work.node), took);
  return { node, update(task) {
    work.update(task, now());
    text(took, `running ${duration(now() - toMs(task.started_at))}`);
  } };
}

function card(worker, tasks) {
  const state = el("span", { class: "life" });
  const lease = el("span", { class: "muted" });
  const slots = el("span");
  const body = el("tbody");
  const table = el("table", {}, el("caption", { class: "unseen" }, `Tasks of ${worker.host} ${ending(worker.worker_id)}`), body);
  const note = el("p", { class: "muted" });
  const node = el("section", { class: "card", "aria-label": `${worker.host} ${ending(worker.worker_id)}` }, el("div", { class: "worker-head" }, el("b", {}, worker.host), el("code", { class: "id muted" }, ending(worker.worker_id)), el("span", {}, `v${worker.version}`), state, lease, slots, el("span", { class: "muted" }, `up since ${moment(toMs(worker.started_at))}`)), table, note);
  return { node, update(worker) {
    const gone = worker.state === "dead" || worker.state === "left";
    state.className = `life ${worker.state}`;
    node.classList.toggle("gone", gone);
    text(state, worker.state === "dead" ? "lost" : worker.state);
    text(lease, gone ? `ended ${duration(now() - toMs(worker.ended_at))} ago` : `lease renewed ${duration(now() - toMs(worker.lease_renewed_at))} ago`);
    const all = Object.entries(worker.queues);
    text(slots, `${number(worker.running)}/${number(all.reduce((sum, [, n]) => sum + n, 0))} slots (${all.map(([name]) => name).join(", ")})`);
    const known = worker.running_tasks.map(tasks.get).filter((task) => task?.status === "RUNNING");
    keyed(body, known, (task) => task.task_id, line);
    show(table, known.length > 0);
    const more = worker.running - known.length;
    text(note, worker.state === "dead" ? "Its tasks went back to their queues." : gone ? "It signed off." : worker.running === 0 ? "Runs nothing." : more > 0 ? `and ${count(more, "more task")}` : "");
    show(note, note.textContent !== "");
  } };
}

/** Workers over HTTP: known by the tasks that they hold, under the names that they gave themselves. */
function httpWorkers() {
  const found = new Map();
  const put = (name, words) => found.set(name, [...(found.get(name) || []), words]);
  for (const { queue, http_workers: workers = [], http_asked: asked } of strip.world.queues) {
    for (const worker of workers) put(worker.worker, `${count(worker.running, "task")} of ${queue}`);
    if (asked && !workers.length) put("", queue);
  }
  return [...found].map(([name, parts]) => ({ name, words: name ? `runs ${parts.join(", ")}` : `Workers over HTTP ask for tasks of ${parts.join(", ")}, and hold none.` }));
}

function httpCard({ name }) {
  const said = el("span");
  const node = el("section", { class: "card", "aria-label": name || "Over HTTP" }, el("div", { class: "worker-head" }, name && el("b", {}, bdi(safe(name))), name && el("span", { class: "muted" }, "over HTTP"), said));
  return { node, update: ({ words }) => text(said, words) };
}

export async function open({ main, params, title, isCurrent }) {
  const tasks = makeStore();
  const load = async () => (await get("/tasks", { status: "RUNNING", limit: 200 })).forEach(tasks.apply);
  await Promise.all([load(), strip.refetch()]);
  if (!isCurrent()) return null;
  const { root, part } = template("workers");
  title("Workers");
  let asked = 0;

  function draw() {
    const host = params.get("host");
    const workers = strip.world.workers.filter((worker) => !host || worker.host === host);
    keyed(part.list, workers, (worker) => worker.worker_id, (worker) => card(worker, tasks));
    const http = host ? [] : httpWorkers();
    keyed(part.http, http, ({ name }) => name, httpCard);
    const versions = new Map();
    for (const worker of workers.filter((worker) => !worker.ended_at)) versions.set(worker.version, (versions.get(worker.version) || 0) + 1);
    const said = [...versions].map(([version, n]) => `${n} × v${version}`).join(", ");
    text(part.versions, versions.size > 1 ? `${said}: rollout in progress` : said);
    show(part.empty, !workers.length && !http.length);
    text(part.empty, "No worker: tasks are accepted and wait. Start one with app work.");
    const unknown = workers.some((worker) => worker.running_tasks.some((id) => tasks.get(id)?.status !== "RUNNING"));
    if (unknown && Date.now() - asked > 2000 && !live.isLost()) {
      asked = Date.now();
      load().catch(() => {});
    }
  }

  main.replaceChildren(root);
  draw();
  const stops = [strip.watch(draw), tasks.subscribe(draw)];
  live.begin({
    url: () => `/events?status=RUNNING&first=${LAST}&last=${NOTHING}`,
    event({ data }) {
      const frame = JSON.parse(data);
      (frame.rows || []).forEach(tasks.apply);
      // These counts obey no filter but the status, which they leave out.
      strip.take(frame);
    },
    refetch: () => Promise.all([load(), strip.refetch()]),
  });
  return { tick: draw, close: () => stops.forEach((stop) => stop()) };
}
