// Tasks: the list. Rows change in place; they never move, appear or vanish under the pointer.

import { attr, bdi, el, keyed, show, template, text } from "./dom.js";
import { count, ending, moment, number, toMs } from "./format.js";
import { call, get, session } from "./api.js";
import { makeStore } from "./store.js";
import * as live from "./live.js";
import * as strip from "./strip.js";
import { cancel, copied, retry, say } from "./actions.js";
import { bulk } from "./bulk.js";
import { go } from "./app.js";
import { row } from "./row.js";
import { NAMES, filterBody, filters, inWords } from "./filters.js";

/** The least height of a row, in pixels. */
const ROW = 36;
const NOTHING = "0".repeat(26);
/** Until the page as it is now has been painted; at once where nobody looks. */
const painted = () => new Promise((done) => (document.hidden ? done() : requestAnimationFrame(() => requestAnimationFrame(done))));
/** The pages before this one, so that Newer leads where Older came from. */
const trail = [];

/** @param {{main: Element, params: URLSearchParams, title: (words: string) => void, isCurrent: () => boolean}} place */
export async function open({ main, params, title, isCurrent }) {
  const limit = Math.min(200, Number(params.get("limit")) || 50);
  const statuses = (params.get("status") || "").split(",").filter(Boolean);
  const { root, part } = template("tasks");
  const $ = (selector) => root.querySelector(selector);
  const body = $("tbody");
  const store = makeStore();
  const chosen = new Set();
  let ids = [];
  let next = null;
  let at = -1;
  let allMatching = false;
  let newer = 0;
  // A first page shows what is in sight first: the rows below, the stream and whatever else wait until it is painted.
  let shown = main.firstChild ? limit : Math.ceil(innerHeight / ROW);
  title("Tasks");

  // A search that takes long ends its page early, with nothing if it has found nothing yet: then it goes on from there.
  const load = async (cursor = params.get("cursor") || "") => {
    const answer = await call("GET", "/tasks", { params: { ...filters(params), limit, cursor } });
    return answer.data.length || !answer.next || !isCurrent() ? answer : load(answer.next);
  };
  const link = (change) => {
    const wanted = new URLSearchParams(params);
    for (const [name, value] of Object.entries(change)) value ? wanted.set(name, value) : wanted.delete(name);
    return "/ui/tasks" + (wanted.size ? `?${wanted}` : "");
  };
  const matches = (task) => !statuses.length || statuses.includes(task.status);

  function render() {
    const tasks = ids.slice(0, shown).map(store.get).filter(Boolean);
    const views = keyed(body, tasks, (task) => task.task_id, row);
    tasks.forEach((task, n) => {
      const view = views.get(task.task_id);
      view.box.checked = chosen.has(task.task_id);
      view.node.classList.toggle("gone", !matches(task));
      view.node.classList.toggle("at", n === at);
    });
    drawFoot();
  }

  function drawFoot() {
    const can = session.role === "admin";
    show(part.bulk, chosen.size > 0 || allMatching);
    const match = total();
    text(part.selected, allMatching ? `All that match (${match}) selected.` : `${chosen.size} selected.`);
    const picked = [...chosen].map(store.get).filter(Boolean);
    const [retry, cancel] = part.bulk.querySelectorAll("[data-act=bulk]");
    for (const [button, states, verb] of [[retry, ["FAILED", "CANCELLED"], "retry"], [cancel, ["PENDING", "RUNNING"], "cancel"]]) {
      const possible = allMatching || picked.some((task) => states.includes(task.status));
      show(button, can || verb === "cancel");
      attr(button, "data-write", true);
      if (!button.dataset.lost) button.disabled = !possible;
      text(button, possible ? (verb === "retry" ? "Retry" : "Cancel…") : `Nothing to ${verb}`);
    }
    const every = $("[data-act=select-matching]");
    show(every, chosen.size > 0 && !allMatching);
    text(every, `Select all that match (${match})`);
    const head = $("[data-act=select-all]");
    head.checked = chosen.size > 0 && chosen.size === ids.length;
    head.indeterminate = chosen.size > 0 && chosen.size < ids.length;
  }

  function total() {
    const counts = strip.world.counts;
    if (!counts) return "…";
    const names = statuses.length ? statuses : Object.keys(counts.counts);
    const sum = names.reduce((sum, name) => sum + (counts.counts[name] ?? 0), 0);
    return number(Math.min(sum, counts.limit)) + (sum >= counts.limit || names.some((name) => counts.more.includes(name)) ? "+" : "");
  }

  function drawNewer(found) {
    const button = $("[data-act=newer]");
    newer = found;
    show(button, found > 0 && !params.get("cursor"));
    text(button, `↑ ${found >= 1000 ? "1,000+" : number(found)} newer ${found === 1 ? "task" : "tasks"} · show`);
    if (found > 0) say(`${found} newer tasks`);
  }

  function drawEmpty() {
    const filtered = [...params.keys()].some((name) => name !== "limit" && name !== "cursor");
    show(part.empty, ids.length === 0);
    show($("table"), ids.length > 0);
    if (ids.length) return;
    part.empty.replaceChildren(...(params.get("cursor") ? [el("b", {}, "That was all: nothing is older.")] : filtered
      ? [el("b", {}, "No task matches."), el("span", {}, inWords(params)), el("p", { class: "buttons" }, el("a", { class: "button", href: "/ui/tasks" }, "Clear filters"), params.get("since") ? el("a", { class: "button", href: link({ since: "" }) }, "Search all time") : null)]
      : [el("b", {}, "No tasks yet."), el("a", { class: "button primary", href: "/ui/submit" }, "Submit a task"), el("pre", {}, `curl ${location.origin}/tasks -H 'content-type: application/json' \\\n  -d '{"vector_data": [0.1, 0.2, 0.3], "duration": 5}'`)]));
  }

  function drawChips() {
    const chips = [...params].filter(([name]) => NAMES[name] || name.startsWith("meta.") || (name === "status" && statuses.length > 1)).map(([name, value]) => {
      const said = name === "since" ? `last ${value}` : `${NAMES[name] || name} = ${value}`;
      return el("li", {}, bdi(said), el("button", { type: "button", class: "quiet icon", "data-act": "drop", "data-name": name, "aria-label": `Remove ${said}` }, "✕"));
    });
    if (chips.length > 1) chips.push(el("li", { class: "clear" }, el("a", { href: link(Object.fromEntries([...params.keys()].map((name) => [name, ""]))) }, "Clear")));
    $(".chips").replaceChildren(...chips);
    const form = $(".menu form");
    for (const name of ["queue", "error", "since"]) form[name].value = params.get(name) || "";
    const kind = params.get("task_type");
    if (kind) form.task_type.append(el("option", { selected: true }, kind));
    // Asked for when the menu opens, and not with every list.
    $(".menu").addEventListener("toggle", () => get("/task-types").then((types) => {
      form.task_type.append(...types.filter((type) => type.task_type !== kind).map((type) => el("option", {}, type.task_type)));
    }, () => {}), { once: true });
    $("[data-act=limit]").value = String(limit);
  }

  function take(answer) {
    ids = answer.data.map((task) => task.task_id);
    answer.data.forEach(store.apply);
    next = answer.next;
    attr(part.next, "href", next ? link({ cursor: next }) : null);
    attr(part.next, "aria-disabled", next ? null : "true");
    const before = params.get("cursor") ? trail[trail.length - 1] ?? link({ cursor: "" }) : null;
    attr(part.prev, "href", before);
    attr(part.prev, "aria-disabled", before ? null : "true");
    show(part.first, Boolean(before));
    attr(part.first, "href", link({ cursor: "" }));
    drawEmpty();
    drawNewer(0);
    render();
  }

  drawChips();
  const grey = setTimeout(() => {
    if (!isCurrent()) return;
    main.replaceChildren(root);
    body.replaceChildren(...Array.from({ length: 12 }, () => el("tr", { class: "grey" }, ...Array.from({ length: 7 }, () => el("td")))));
  }, 150);
  let answer;
  try {
    answer = await load();
  } finally {
    clearTimeout(grey);
  }
  if (!isCurrent()) return null;
  body.replaceChildren();
  body.views = undefined;
  take(answer);
  main.replaceChildren(root);
  if (shown < ids.length) {
    await painted();
    if (!isCurrent()) return null;
    shown = limit;
    render();
  }

  const stop = store.subscribe(render);
  const query = () => new URLSearchParams({ ...filters(params), first: ids[0] || NOTHING, last: ids[ids.length - 1] || NOTHING });
  const countFilters = () => {
    const { status, ...others } = filters(params);
    return others;
  };
  async function refetch() {
    const seen = [];
    for (let n = 0; n < ids.length; n += 200) seen.push(...ids.slice(n, n + 200));
    const [fresh] = await Promise.all([load(), strip.refetch(countFilters())]);
    const told = new Set(fresh.data.map((task) => task.task_id));
    fresh.data.filter((task) => seen.includes(task.task_id)).forEach(store.apply);
    const first = ids[0] || NOTHING;
    drawNewer(fresh.data.filter((task) => task.task_id > first).length);
    // What is not in the answer matches no longer: its rows stay, and say what became of them.
    const lost = seen.filter((id) => !told.has(id)).slice(0, 20);
    await Promise.all(lost.map((id) => get(`/tasks/${id}`).then(store.apply, () => {})));
  }
  live.begin({
    url: () => `/events?${query()}`,
    refetch,
    event({ data }) {
      const frame = JSON.parse(data);
      strip.take(frame);
      for (const task of frame.rows || []) {
        const before = store.get(task.task_id);
        store.apply(task);
        if (before && before.status !== task.status && task.completed_at) say(`${task.task_type} ${ending(task.task_id)}: ${task.status}`);
      }
      if (frame.newer !== undefined) drawNewer(frame.newer);
      if (frame.counts) drawFoot();
    },
  });

  const toggle = (id) => {
    allMatching = false;
    chosen.has(id) ? chosen.delete(id) : chosen.add(id);
    render();
  };
  async function more(button) {
    if (!allMatching && chosen.size === 1) {
      const [id] = chosen;
      const task = await (button.dataset.verb === "retry" ? retry(id) : cancel(store.get(id)));
      return task && store.apply(task);
    }
    const which = allMatching ? { filter: filterBody(params) } : { ids: [...chosen] };
    const done = await bulk(button.dataset.verb, which, allMatching ? inWords(params) : `${count(chosen.size, "task")} selected`);
    if (done && isCurrent()) {
      chosen.clear();
      allMatching = false;
      await refetch().catch(() => {});
      render();
    }
  }
  return {
    act: {
      select: (box) => toggle(box.closest("tr").dataset.id),
      "select-all"(box) {
        allMatching = false;
        ids.forEach((id) => (box.checked ? chosen.add(id) : chosen.delete(id)));
        render();
      },
      "select-none"() {
        chosen.clear();
        allMatching = false;
        render();
      },
      "select-matching"() {
        ids.forEach((id) => chosen.add(id));
        allMatching = true;
        render();
      },
      bulk: more,
      newer: () => go(link({ cursor: "" }), { replace: true }),
      limit: (choice) => go(link({ limit: choice.value === "50" ? "" : choice.value, cursor: "" })),
      drop: (button) => go(link({ [button.dataset.name]: "", cursor: "" })),
      filter(form) {
        const [key, value] = form.meta.value.split(/=(.*)/s);
        const change = { task_type: form.task_type.value, queue: form.queue.value.trim(), error: form.error.value.trim(), since: form.since.value, cursor: "" };
        if (key && value !== undefined) change[`meta.${key.trim()}`] = value;
        go(link(change));
      },
      "copy-link"() {
        const from = params.get("since") && filters(params).created_after;
        return from ? copied(location.origin + link({ since: "", created_after: from }), `Copied, from ${moment(toMs(from))} on.`) : copied(location.href);
      },
    },
    key(key) {
      if (key === "j" || key === "k") {
        at = Math.max(0, Math.min(ids.length - 1, at + (key === "j" ? 1 : -1)));
        render();
        body.children[at]?.scrollIntoView({ block: "nearest" });
      } else if (key === "x" && ids[at]) toggle(ids[at]);
      else if (key === "Enter" && ids[at]) go(`/ui/tasks/${ids[at]}`);
      else if (key === "Escape" && chosen.size) {
        chosen.clear();
        allMatching = false;
        render();
      }
    },
    tick: render,
    close() {
      stop();
      // Where Newer leads from the next page, when that is an older one.
      const to = new URLSearchParams(location.search);
      if (location.pathname !== "/ui/tasks" || !to.get("cursor")) trail.length = 0;
      else if (to.get("cursor") === next) trail.push(link({}));
      else trail.pop();
    },
  };
}
