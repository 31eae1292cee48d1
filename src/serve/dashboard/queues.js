// Queues: what waits and runs in each, whether it will clear, and pausing.

import { attr, drawn, el, keyed, show, template, text } from "./dom.js";
import { count, duration, number, roughly, toMs } from "./format.js";
import { get, now, session } from "./api.js";
import * as live from "./live.js";
import * as strip from "./strip.js";
import { setPaused } from "./actions.js";

/** The hour as a line: what was ready, minute by minute. */
function spark() {
  const path = drawn("path", {});
  const svg = drawn("svg", { class: "spark", viewBox: "0 0 60 20", preserveAspectRatio: "none", "aria-hidden": true }, path);
  return { node: svg, update(samples) {
    const minute = Math.floor(now() / 60000);
    const depth = Array(61).fill(0);
    for (const sample of samples) depth[60 - (minute - Math.floor(toMs(sample.minute) / 60000))] = sample.ready || 0;
    const most = Math.max(1, ...depth);
    attr(path, "d", `M-1 21${depth.map((n, x) => `L${x} ${(19 - (18 * n) / most).toFixed(1)}`).join("")}L61 21Z`);
    return Math.max(0, ...depth);
  } };
}

/** Workers that would have a slot for everything that is ready or runs. */
const wanted = (queue) => {
  const tasks = queue.running + (queue.paused ? 0 : queue.ready);
  return queue.workers && queue.slots ? Math.ceil((tasks * queue.workers) / queue.slots) : Math.min(tasks, 1);
};

function row(queue, failures) {
  const name = queue.queue;
  const cell = (label, right) => el("td", { "data-label": label, class: right ? "r" : null });
  const state = cell("State");
  const [ready, scheduled, running, oldest, done, failed, empties] = ["Ready", "Scheduled", "Running / slots", "Oldest wait", "Done / min", "Failed 1 h", "Empties in"].map((label) => cell(label, true));
  const slots = el("span");
  const workers = el("span", { class: "sub" });
  running.append(slots, workers);
  const line = spark();
  const most = el("span");
  const button = el("button", { type: "button", "data-act": "pause-queue", "data-write": true, "data-name": name });
  const node = el("tr", {}, el("td", {}, el("a", { href: `/ui/tasks?queue=${encodeURIComponent(name)}` }, name)), state, ready, scheduled, running, oldest, done, failed, empties,
    el("td", { "data-label": "Ready, 60 min" }, el("div", { class: "sparkline" }, line.node, most)), el("td", { class: "r" }, button));
  return { node, update(queue) {
    const http = (queue.http_workers || []).length;
    text(state, queue.paused ? "‖ paused" : queue.workers ? "running" : http || queue.http_asked ? "over HTTP" : "no worker");
    text(ready, number(queue.ready));
    text(scheduled, number(queue.scheduled));
    text(slots, number(queue.running) + (queue.slots ? `/${number(queue.slots)}` : ""));
    text(workers, queue.workers || !queue.http_asked ? `${count(queue.workers, "worker")}, ${number(wanted(queue))} wanted` : http ? `${count(http, "worker")} over HTTP` : "asked for over HTTP");
    text(oldest, queue.oldest_age_seconds === null ? "–" : duration(queue.oldest_age_seconds * 1000));
    const { started_per_minute: starts, ended_per_minute: ends } = queue.throughput;
    text(done, ends >= 10 ? number(Math.round(ends)) : ends.toFixed(1));
    text(failed, failures.get(name) ?? "…");
    text(empties, !queue.ready ? "–" : queue.paused || starts <= 0 ? "never" : roughly((queue.ready / starts) * 60000));
    text(most, `at most ${number(line.update(strip.world.samples[name] || []))}`);
    attr(button, "data-paused", queue.paused);
    text(button, queue.paused ? "Resume" : "Pause");
    attr(button, "aria-label", `${queue.paused ? "Resume" : "Pause"} ${name}`);
    show(button, session.role === "admin");
  } };
}

export async function open({ main, params, title, isCurrent }) {
  await strip.refetch();
  if (!isCurrent()) return null;
  const { root, part } = template("queues");
  const failures = new Map();
  title("Queues");

  function draw() {
    const name = params.get("name");
    const queues = strip.world.queues.filter((queue) => !name || queue.queue === name);
    keyed(root.querySelector("tbody"), queues, (queue) => queue.queue, (queue) => row(queue, failures));
    show(part.empty, !queues.length);
    text(part.empty, "No queue yet: a queue is there as soon as a task or a worker names it.");
    show(root.querySelector("table"), queues.length > 0);
  }
  async function countFailures() {
    const since = new Date(now() - 36e5).toISOString();
    await Promise.all(strip.world.queues.slice(0, 20).map(async ({ queue }) => {
      const { counts } = await get("/tasks/counts", { queue, created_after: since });
      const ended = (counts.SUCCESS ?? 0) + (counts.FAILED ?? 0);
      failures.set(queue, ended ? `${Math.round((100 * (counts.FAILED ?? 0)) / ended)} %` : "–");
    }));
    draw();
  }

  main.replaceChildren(root);
  draw();
  countFailures().catch(() => {});
  const stop = strip.watch(draw);
  const minute = setInterval(() => live.isLost() || live.isPaused() || countFailures().catch(() => {}), 60000);
  live.begin({ url: () => "/events", event: ({ data }) => strip.take(JSON.parse(data)), refetch: () => strip.refetch() });
  return {
    act: {
      async "pause-queue"(button) {
        if (await setPaused(button.dataset.name, button.dataset.paused !== "true")) await strip.refetch().catch(() => {});
      },
    },
    tick: draw,
    close() {
      stop();
      clearInterval(minute);
    },
  };
}
