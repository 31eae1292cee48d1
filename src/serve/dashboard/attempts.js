// Attempts: how a task spent its time: a strip drawn to scale, and the same as a list, which a screen reader gets.

import { attr, badge, bdi, el, text } from "./dom.js";
import { clock, day, duration, safe, toMs } from "./format.js";
import { now } from "./api.js";

/** Whether nothing but an operator's retry leaves it. */
export const isFinal = (status) => !["PENDING", "RUNNING"].includes(status);

/** Who had a delivery. A worker over HTTP is known by the name that it gave itself. */
export function whose(entry) {
  const [, name] = /^leased by (.+)/s.exec(entry.reason || "") || [];
  return safe(entry.worker?.host || (name ? `HTTP worker ${name}` : "a worker that is gone"));
}

/** What stood between two entries, in words. */
function attempt(entry, last) {
  if (entry.status !== "RUNNING") return null;
  if (!last) return { status: "RUNNING", words: "" };
  if (last.status === "PENDING") {
    const failed = last.error && !/lost|handed back|released|stopped/.test(last.reason || "");
    return failed ? { status: "FAILED", words: `${last.error.code}: ${last.error.message}`, note: "will be retried" } : { status: "BACK", words: last.reason || "handed back", note: "no attempt spent" };
  }
  return { status: last.status, words: last.error ? `${last.error.code}: ${last.error.message}` : "" };
}

/** @param {Element} lane the strip @param {Element} list the list */
export function makeAttempts(lane, list) {
  let drawnLine = "";
  return {
    /** @param {any[]} entries of the timeline */
    update(entries) {
      const ms = now();
      const end = (n) => (entries[n + 1] ? toMs(entries[n + 1].at) : entries[n] && isFinal(entries[n].status) ? toMs(entries[n].at) : ms);
      const spans = entries.map((entry, n) => ({ entry, next: entries[n + 1], from: toMs(entry.at), to: end(n) })).filter(({ entry }) => !isFinal(entry.status));
      lane.replaceChildren(...spans.map(({ entry, next, from, to }) => {
        const took = attempt(entry, next);
        const wide = (to - from) / (spans[spans.length - 1].to - spans[0].from) > 0.07;
        const label = !wide ? "" : took ? `${entry.attempt} ${duration(to - from)}` : `wait ${duration(to - from)}`;
        const node = el("span", took ? { "data-status": took.status } : { class: "wait" }, label);
        node.style.flexGrow = String(Math.max(1, to - from));
        node.style.flexBasis = "0";
        return node;
      }));
      // Told again only when there is something else to tell: the list is for reading and selecting.
      const now_ = entries.length + (entries[entries.length - 1]?.status || "") + clock(0);
      if (drawnLine !== now_) {
        drawnLine = now_;
        list.replaceChildren(...spans.filter(({ entry }) => entry.status === "RUNNING").map(({ entry, next, from, to }) => {
          const { status, words, note } = attempt(entry, next);
          const shape = badge(status === "BACK" ? "PENDING" : status);
          if (status === "BACK") {
            text(shape.node.lastElementChild, "handed back");
            attr(shape.node.querySelector("use"), "href", "#s-BACK");
          }
          const until = status === "RUNNING" ? "" : clock(to);
          const more = [words && safe(words), note].filter(Boolean).join(", ");
          return el("li", {}, el("span", {}, entry.attempt), el("span", {}, shape.node), el("span", {}, `${day(from) === day(ms) ? "" : day(from) + " "}${clock(from)} – ${until}`), el("span", { "data-from": status === "RUNNING" ? from : null }, duration(to - from, status !== "RUNNING")), bdi(whose(entry), "host"), bdi(more), el("button", { type: "button", class: "link", "data-act": "its-log", "data-delivery": entry.delivery, "aria-label": `its log, of delivery ${entry.delivery}` }, "its log"));
        }));
        if (!list.children.length) list.append(el("li", { class: "muted" }, el("span"), "Not started yet."));
      }
      for (const running of list.querySelectorAll("[data-from]")) text(running, duration(ms - Number(running.dataset.from)));
    },
  };
}
