// Task: one task: is it alive, how far, what next; and when it failed, why.

import { attr, badge, el, show, template, text } from "./dom.js";
import { clock, duration, ending, indent, member, moment, number, percent, remaining, roughly, safe, toMs, waiting } from "./format.js";
import { call, get, now, session } from "./api.js";
import { makeStore } from "./store.js";
import { isFinal, makeAttempts, whose } from "./attempts.js";
import { makeLog } from "./log.js";
import * as live from "./live.js";
import * as strip from "./strip.js";
import { cancel, copied, retry, say, toast } from "./actions.js";
import { go } from "./app.js";

/** From here on a silence is worth a word, in milliseconds, however often the task reports. */
const QUIET = 60000;
const FOLDED = 200;
const TABS = ["log", "input", "result", "metadata", "trace"];

/** @param {{main: Element, id: string, params: URLSearchParams, title: Function, isCurrent: () => boolean}} place */
export async function open({ main, id, params, title, isCurrent }) {
  const store = makeStore();
  let timeline = { entries: [], current: null };
  let raw = "";
  const read = async () => {
    const answer = await call("GET", `/tasks/${id}`);
    raw = answer.text;
    store.apply(answer.data);
    return answer.data;
  };
  const readLine = async () => (timeline = await get(`/tasks/${id}/timeline`));
  const [first] = await Promise.all([read(), readLine()]);
  if (!isCurrent()) return null;

  const { root, part } = template("task");
  const attempts = makeAttempts(part.lane, part.attempts);
  const state = badge(first.status, true);
  part.badge.replaceWith(state.node);
  text(part.type, safe(first.task_type));
  text(part.id, first.task_id);
  attr(part.again, "href", `/ui/submit/${encodeURIComponent(first.task_type)}?from=${id}`);
  let reported = [];
  let tab = TABS.includes(params.get("tab")) ? params.get("tab") : "log";
  const log = makeLog(id, params, (lines) => text(part.lines, lines));

  function draw() {
    const task = store.get(id);
    const ms = now();
    const p = task.progress;
    const runs = task.status === "RUNNING";
    state.update(task.status);
    const hasBar = p?.percent !== null && p?.percent !== undefined;
    show(part.bar, hasBar);
    if (hasBar && part.bar.value !== p.percent) part.bar.value = p.percent;
    attr(part.bar, "data-status", task.status);
    text(part.percent, hasBar ? percent(p.percent) : "");
    text(part.steps, p ? (p.total ? `${number(p.current)} of ${number(p.total)}` : `${number(p.current)} done`) : "");
    text(part.message, task.status === "PENDING" ? waiting(task, ms) : p?.message ? safe(p.message) : "");
    const left = remaining(task, ms);
    const limit = runs && task.deadline_at ? `time limit in ${duration(toMs(task.deadline_at) - ms)}` : "";
    text(part.eta, [left === null ? "" : `about ${roughly(left)} left`, limit].filter(Boolean).join(" · "));
    drawFacts(task, ms, runs);
    const error = task.error || (task.status === "PENDING" ? task.last_error : null);
    show(part.error, Boolean(error));
    text(part.error, error ? `${error.code}: ${safe(error.message)}` : "");
    const can = { retry: ["FAILED", "CANCELLED"].includes(task.status) && session.role === "admin", cancel: runs || task.status === "PENDING" };
    for (const name of ["retry", "cancel"]) {
      show(part[name], can[name]);
      attr(part[name], "data-write", true);
    }
    text(part.cancel, runs ? "Cancel…" : "Cancel");
    const mark = { SUCCESS: "✓ ", FAILED: "✕ ", CANCELLED: "⊘ ", PENDING: "○ " }[task.status] || (hasBar ? `${Math.floor(p.percent)}% ` : "");
    title(mark + task.task_type);
    log.told(task.status);
  }

  function drawFacts(task, ms, runs) {
    const now_ = timeline.current;
    const facts = [];
    const last = timeline.entries.filter((entry) => entry.worker).pop();
    if (task.status === "PENDING") {
      facts.push(`waiting ${duration(ms - toMs(task.created_at))}`, `queue ${task.queue}`);
      if (task.estimated_start_at) facts.push(`starts in about ${roughly(toMs(task.estimated_start_at) - ms)}`);
      if (task.notice) facts.push(task.notice);
    } else if (task.started_at) {
      const to = runs ? ms : toMs(task.completed_at);
      facts.push(`${runs ? "running" : "took"} ${duration(to - toMs(task.started_at), !runs)}${last?.worker ? ` on ${whose(last)}` : ""}${last?.worker?.version ? ` (v${last.worker.version}, worker ${ending(last.worker.worker_id)})` : ""}`);
    }
    if (runs && now_?.lease_renewed_at) facts.push(`sign of life ${duration(ms - toMs(now_.lease_renewed_at))} ago`);
    if (runs && task.progress) facts.push(`progress ${duration(ms - toMs(task.progress.updated_at))} ago`);
    if (runs && now_?.checkpoint_at) facts.push(`checkpoint at ${clock(toMs(now_.checkpoint_at))}`);
    facts.push(`created ${moment(toMs(task.created_at))} (${roughly(ms - toMs(task.created_at))} ago)`, `try ${task.attempt}/${task.max_attempts}`);
    text(part.facts, facts.join(" · "));
    // Quiet for longer than three times its usual interval.
    const at = runs && task.progress ? toMs(task.progress.updated_at) : NaN;
    if (runs && !Number.isNaN(at) && reported[reported.length - 1] !== at) reported = [...reported.slice(-9), at];
    const usual = reported.length > 1 ? (reported[reported.length - 1] - reported[0]) / (reported.length - 1) : 0;
    const quiet = ms - (Number.isNaN(at) ? toMs(task.started_at) : at);
    const lease = now_?.lease_renewed_at ? ms - toMs(now_.lease_renewed_at) : 0;
    const stuck = runs && quiet > Math.max(QUIET, 3 * usual);
    show(part.stuck, stuck);
    text(part.stuck, stuck ? `No progress for ${duration(quiet)}; ${lease > 30000 ? `and no sign of life from its worker for ${duration(lease)}` : "its worker is alive"}.` : "");
  }

  const drawTimeline = () => attempts.update(timeline.entries);

  async function drawTab() {
    const panel = root.querySelector("#panel");
    for (const button of root.querySelectorAll("[role=tab]")) {
      attr(button, "aria-selected", button.dataset.tab === tab ? "true" : "false");
      button.tabIndex = button.dataset.tab === tab ? 0 : -1;
    }
    attr(panel, "aria-labelledby", `tab-${tab}`);
    if (tab === "log") {
      panel.replaceChildren(log.node);
      return log.shown();
    }
    const task = store.get(id);
    const words = {
      input: async () => (await call("GET", `/tasks/${id}/input`)).text,
      result: async () => (task.status === "SUCCESS" ? member(raw, "result") : task.error ? member(raw, "error") : null),
      metadata: async () => member(raw, "metadata"),
      trace: async () => (task.trace_id ? JSON.stringify({ trace_id: task.trace_id }) : null),
    };
    const got = await words[tab]().catch((failure) => failure.words);
    if (!got) return panel.replaceChildren(el("p", { class: "muted pad" }, tab === "result" ? "No result yet." : "No trace: the submit came without one, and none was begun."));
    const lines = safe(indent(got)).split("\n");
    const pre = el("pre", { class: "json", tabindex: "0" }, el("bdi", { dir: "auto" }, lines.slice(0, FOLDED).join("\n")));
    panel.replaceChildren(pre);
    if (lines.length > FOLDED) {
      const more = el("button", { type: "button", class: "link" }, `Show all ${number(lines.length)} lines`);
      more.addEventListener("click", () => {
        text(pre.firstElementChild, lines.join("\n"));
        more.remove();
      });
      panel.append(more);
    }
  }

  main.replaceChildren(root);
  draw();
  drawTimeline();
  drawTab();
  const stop = store.subscribe(() => {
    draw();
    drawTimeline();
    if (tab === "result") drawTab();
  });

  let again;
  const refresh = () => {
    clearTimeout(again);
    again = setTimeout(() => Promise.all([read(), readLine()]).then(store.touch, () => {}), 200);
  };
  const source = {
    url: () => `/tasks/${id}/stream`,
    get lastId() {
      return String(log.lastSeq());
    },
    event(event) {
      const data = JSON.parse(event.data);
      if (event.name === "log") return log.add(data);
      const task = store.get(id);
      if (data.status !== task.status || event.id) refresh();
      if (data.status !== task.status && isFinal(data.status)) say(`${task.task_type}: ${data.status}`);
      // The rest of the row comes with the next reading: only the progress is told here.
      if (data.progress) store.apply({ ...task, progress: data.progress });
    },
    refetch: () => Promise.all([read(), readLine(), log.catchUp(), strip.refetch()]).then(store.touch),
    ended(status) {
      if (status !== 204) refresh();
    },
  };
  // The stream goes on where the log ends that is there already. Nothing else waits for it.
  log.load().catch((failure) => isCurrent() && toast(failure.words)).then(() => {
    if (!isCurrent()) return;
    live.begin(source);
    strip.refetch().catch(() => {});
  });
  const slow = setInterval(() => {
    if (document.hidden || live.isPaused() || live.isLost()) return;
    strip.refetch().then(() => live.report(true), (failure) => live.report(failure.status > 0));
    const task = store.get(id);
    if (task.status === "RUNNING") readLine().then(store.touch, () => {});
    if (!isFinal(task.status)) read().catch(() => {});
  }, 5000);

  const did = (task) => {
    if (!task) return;
    store.apply(task);
    refresh();
    // A new run has a new stream.
    if (!isFinal(task.status)) live.begin(source);
  };
  const back = () => (history.length > 1 && document.referrer !== "" ? history.back() : go("/ui/tasks"));
  return {
    act: {
      ...log.act,
      tab(button) {
        tab = button.dataset.tab;
        const wanted = new URLSearchParams(location.search);
        tab === "log" ? wanted.delete("tab") : wanted.set("tab", tab);
        history.replaceState({}, "", location.pathname + (wanted.size ? `?${wanted}` : ""));
        drawTab();
      },
      "its-log"(button) {
        tab = "log";
        drawTab();
        log.show(button.dataset.delivery);
      },
      "copy-id": () => copied(id),
      cancel: async () => did(await cancel(store.get(id))),
      retry: async () => did(await retry(id)),
    },
    key(key) {
      if (key === "f") log.follow();
      if (key === "Escape") back();
    },
    tick() {
      draw();
      drawTimeline();
    },
    close() {
      stop();
      clearInterval(slow);
      clearTimeout(again);
    },
  };
}
