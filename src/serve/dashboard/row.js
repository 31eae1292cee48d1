// Row: one task in a list.

import { attr, badge, bdi, el, show, text } from "./dom.js";
import { clock, day, duration, ending, number, percent, roughly, safe, toMs, waiting } from "./format.js";
import { now } from "./api.js";

/** Progress, or the reason why there is none. */
export function doing() {
  const bar = el("progress", { max: 100, "aria-label": "Progress" });
  const share = el("span", { class: "num" });
  const code = el("span", { class: "code" });
  const said = bdi("");
  const node = el("div", { class: "cell" }, bar, share, code, said);
  return { node, update(task, at) {
    const p = task.progress;
    const error = task.error || null;
    const hasBar = !error && task.status !== "PENDING" && p?.percent !== null && p?.percent !== undefined;
    show(bar, hasBar);
    show(share, hasBar);
    show(code, Boolean(error));
    if (hasBar) {
      if (bar.value !== p.percent) bar.value = p.percent;
      attr(bar, "data-status", task.status);
      text(share, percent(p.percent));
    }
    text(code, error ? `${error.code}:` : "");
    const words = error ? error.message : task.status === "PENDING" ? waiting(task, at) : p ? (hasBar ? "" : `${number(p.current)} done `) + (p.message || "") : "";
    text(said, safe(words));
  } };
}

function timed(task, at) {
  const start = toMs(task.started_at);
  if (task.status === "PENDING") return `waiting ${duration(at - toMs(task.created_at))}`;
  if (task.status === "RUNNING") return `running ${duration(at - start)}`;
  return start ? `took ${duration(toMs(task.completed_at) - start, true)}` : "never started";
}

/** A row of the list. */
export function row(task) {
  const box = el("input", { type: "checkbox", "data-act": "select", "aria-label": `Select ${task.task_id}` });
  const state = badge(task.status);
  const link = el("a", { href: `/ui/tasks/${task.task_id}` }, bdi(safe(task.task_type)), el("span", { class: "unseen" }, ` ${task.task_id}`));
  const work = doing();
  const time = el("td", { class: "c-time" });
  const created = toMs(task.created_at);
  const date = el("span", { class: "day muted" });
  const at = el("span");
  const ago = el("span", { class: "ago muted" });
  const tries = el("td", { class: "c-try muted" });
  const node = el("tr", { "data-id": task.task_id },
    el("td", { class: "c-sel" }, el("label", { class: "tick" }, box)), el("td", { class: "c-status" }, state.node),
    el("td", { class: "c-task" }, el("div", { class: "cell" }, link, el("code", { class: "id" }, ending(task.task_id)), el("span", { class: "q" }, task.queue))),
    el("td", { class: "c-what" }, work.node), time, el("td", { class: "c-created" }, date, at, ago), tries);
  return { node, box, update(task) {
    const ms = now();
    if (node.dataset.version && node.dataset.status !== task.status) {
      node.classList.remove("fresh");
      requestAnimationFrame(() => node.classList.add("fresh"));
    }
    attr(node, "data-version", task.version);
    attr(node, "data-status", task.status);
    state.update(task.status);
    work.update(task, ms);
    text(time, timed(task, ms));
    text(date, day(created) === day(ms) ? "" : `${day(created)} `);
    text(at, clock(created));
    text(ago, `  (${roughly(ms - created)} ago)`);
    text(tries, `${task.attempt}/${task.max_attempts}`);
  } };
}
