// Log: a task's lines: the last thousand at once, then as they come. At the bottom it follows; who scrolls up is left
// alone.

import { attr, bdi, el, show, template, text } from "./dom.js";
import { clock, count, number, safe, toMs } from "./format.js";
import { call } from "./api.js";

const LAST = 1000;
/** Lines that the page holds. */
const MOST = 2000;
const LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR"];

/** @param {string} id @param {URLSearchParams} params */
export function makeLog(id, params, drawn) {
  const lines = [];
  const { root, part } = template("log");
  const view = { level: (params.get("level") || "INFO").toUpperCase().replace(/^WARN$/, "WARNING"), delivery: params.get("delivery") || "", find: "" };
  let following = true;
  let fresh = 0;
  let cut = false;
  let asked = Number(/^#log-(\d+)$/.exec(location.hash)?.[1] || 0);
  part.level.value = LEVELS.includes(view.level) ? view.level : "INFO";
  attr(part.raw, "href", `/tasks/${id}/logs?limit=10000`);

  const shown = (line) => LEVELS.indexOf(line.level) >= LEVELS.indexOf(part.level.value) && (!view.delivery || String(line.delivery) === view.delivery);

  function item(line) {
    const said = bdi("");
    const parts = safe(line.message).split(view.find || null);
    parts.forEach((piece, n) => said.append(...(n ? [el("mark", {}, view.find), piece] : [piece])));
    return el("li", { id: `log-${line.seq}`, class: line.level + (line.seq === asked ? " target" : "") },
      el("a", { href: `#log-${line.seq}`, "aria-label": `${clock(toMs(line.timestamp), true)}, line ${line.seq}` }, el("time", {}, clock(toMs(line.timestamp), true))),
      el("span", { class: "level" }, line.level), said);
  }

  const isAtEnd = () => part.log.scrollHeight - part.log.scrollTop - part.log.clientHeight < 24;
  const toEnd = () => (part.log.scrollTop = part.log.scrollHeight);

  /** Everything anew: after another filter. */
  function redraw() {
    const wanted = lines.filter(shown);
    const breaks = [];
    let last = null;
    for (const line of wanted) {
      if (last !== null && line.delivery !== last) breaks.push(el("li", { class: "line-break" }, `delivery ${line.delivery}, attempt ${line.attempt}`));
      last = line.delivery;
      breaks.push(item(line));
    }
    part.list.replaceChildren(...breaks);
    const hits = view.find ? part.list.querySelectorAll("mark").length : 0;
    text(part.hits, view.find ? count(hits, "hit") : "");
    if (following) toEnd();
    draw();
  }

  let status = "PENDING";
  function draw() {
    const empty = !part.list.children.length;
    show(part.none, empty);
    text(part.none, lines.length ? "No line of this level and delivery." : status === "PENDING" ? "Nothing yet: the task is waiting." : status === "RUNNING" ? "Nothing yet: the task runs and has logged nothing." : "It ended without a line.");
    show(part.jump, fresh > 0 && !following);
    text(part.jump, `${number(fresh)} new · jump to newest`);
    part.follow.checked = following;
    drawn((cut ? "last " : "") + number(lines.length));
  }

  function follow(on) {
    following = on;
    if (on) {
      fresh = 0;
      toEnd();
    }
    draw();
  }

  function add(line) {
    if (lines.length && line.seq <= lines[lines.length - 1].seq) return;
    lines.push(line);
    if (lines.length > MOST) {
      lines.shift();
      cut = true;
    }
    if (![...part.delivery.options].some((option) => option.value === String(line.delivery))) {
      part.delivery.append(el("option", { value: line.delivery }, line.delivery));
      part.delivery.value = view.delivery;
    }
    pending.push(line);
    if (pending.length === 1) setTimeout(flush, 100);
  }
  let pending = [];
  function flush() {
    const wanted = pending.filter(shown);
    pending = [];
    if (wanted.length) {
      part.list.append(...wanted.map(item));
      while (part.list.children.length > MOST) part.list.firstElementChild.remove();
      if (following) toEnd();
      else fresh += wanted.length;
    }
    draw();
  }

  part.log.addEventListener("scroll", () => {
    const end = isAtEnd();
    if (end === following) return;
    following = end;
    if (end) fresh = 0;
    draw();
  });

  /** The address says what is shown. */
  function remember() {
    const wanted = new URLSearchParams(location.search);
    for (const [name, value, usual] of [["level", part.level.value.toLowerCase(), "info"], ["delivery", view.delivery, ""]]) value === usual ? wanted.delete(name) : wanted.set(name, value);
    history.replaceState({}, "", location.pathname + (wanted.size ? `?${wanted}` : "") + location.hash);
    redraw();
  }

  return {
    node: root,
    add,
    lastSeq: () => (lines.length ? lines[lines.length - 1].seq : 0),
    /** @param {string} now the task's status: an empty log says why it is empty */
    told(now) {
      status = now;
      draw();
    },
    async load() {
      const { data } = await call("GET", `/tasks/${id}/logs`, { params: { last: LAST } });
      if (asked && data.length && asked < data[0].seq) {
        data.splice(0, data.length, ...(await call("GET", `/tasks/${id}/logs`, { params: { after: Math.max(0, asked - 500), limit: MOST } })).data);
      }
      cut = data.length >= LAST;
      lines.length = 0;
      part.list.replaceChildren();
      data.forEach(add);
      pending = [];
      if (asked) following = false;
      redraw();
      if (asked) root.querySelector(`#log-${asked}`)?.scrollIntoView({ block: "center" });
    },
    /** Lines that came while there was no stream. */
    async catchUp() {
      const { data } = await call("GET", `/tasks/${id}/logs`, { params: { after: this.lastSeq() } });
      data.forEach(add);
    },
    shown() {
      if (following) toEnd();
    },
    follow: () => follow(!following),
    show(delivery) {
      view.delivery = String(delivery);
      part.delivery.value = view.delivery;
      remember();
    },
    act: {
      "log-delivery"(choice) {
        view.delivery = choice.value;
        remember();
      },
      "log-level": remember,
      "log-find"(field) {
        view.find = field.value;
        redraw();
        part.list.querySelector("mark")?.scrollIntoView({ block: "nearest" });
      },
      "log-follow": (box) => follow(box.checked),
      "log-wrap": (box) => part.log.classList.toggle("nowrap", !box.checked),
      "log-speak": (box) => attr(part.log, "aria-live", box.checked ? "polite" : "off"),
      "log-jump": () => follow(true),
    },
  };
}
