// Actions: what changes something, with what is asked before and said after. Only what destroys work is asked about.

import { $, copy, el, text, show, partsOf } from "./dom.js";
import { call, get, now } from "./api.js";
import { clock, duration, toMs } from "./format.js";
import { isLost } from "./live.js";

let spoke = 0;
let waiting = null;

/** Tells a screen reader: politely, at most every five seconds; or at once. */
export function say(words, urgent) {
  if (urgent) return text($('[data-part="alert"]'), words);
  const speak = () => {
    spoke = Date.now();
    text($('[data-part="status"]'), waiting);
    waiting = null;
  };
  const idle = waiting === null;
  waiting = words;
  if (idle) setTimeout(speak, Math.max(0, spoke + 5000 - Date.now()));
}

/** A notice that goes by itself. @param {{label: string, run: () => void}} [action] */
export function toast(words, action) {
  const node = el("div", { class: "toast" }, el("span", {}, words));
  const gone = () => node.remove();
  if (action) {
    const button = el("button", { type: "button" }, action.label);
    button.addEventListener("click", () => {
      gone();
      action.run();
    });
    node.append(button);
  }
  const box = $(".toasts");
  box.append(node);
  while (box.children.length > 3) box.firstElementChild.remove();
  setTimeout(gone, action ? 10000 : 6000);
  say(words);
}

/** Copies, and says so. */
export const copied = async (value, words = "Copied.") => toast((await copy(value)) ? words : "Press Ctrl-C to copy.");

/** Asks. @returns {Promise<boolean>} */
export function ask({ title, words, no, yes, type }) {
  const dialog = $("dialog.ask");
  const part = partsOf(dialog);
  const back = document.activeElement;
  text(dialog.querySelector("h2"), title);
  text(part.text, words);
  text(part.no, no);
  text(part.yes, yes);
  show(part.type, type !== undefined);
  const field = dialog.querySelector("input");
  field.value = "";
  text(part.number, type ?? "");
  part.yes.disabled = type !== undefined;
  field.oninput = () => (part.yes.disabled = field.value.replace(/\D/g, "") !== String(type));
  dialog.returnValue = "";
  dialog.showModal();
  (type === undefined ? part.no : field).focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      if (back?.isConnected) back.focus();
      resolve(dialog.returnValue === "yes");
    }, { once: true });
  });
}

/** Says why the server refused. @returns {any} the task that it named, or null */
export function refused(failure) {
  const task = failure.problem?.task;
  if (failure.status === 409 && failure.code === "still_stopping") toast("It is still stopping: try again in a moment.");
  else if (failure.status === 409 && task) toast(task.status === "PENDING" || task.status === "RUNNING" ? `It is ${task.status} already.` : `It had already finished: ${task.status}`);
  else if (failure.status === 403) toast("Needs the admin role.");
  else toast(failure.words || String(failure));
  return task || null;
}

/** Whether anything can be changed now; says so where not. */
export const known = () => {
  if (isLost()) toast("The connection is lost: nothing can be changed until it is back.");
  return !isLost();
};

/** Retries one task, without a question. @returns {Promise<any>} the task as it is now, or null */
export async function retry(id) {
  if (!known()) return null;
  try {
    const task = (await call("POST", `/tasks/${id}/retry`)).data;
    toast("It has a new run.");
    return task;
  } catch (failure) {
    return refused(failure);
  }
}

/** Cancels one task; asks when it runs, since work is lost. */
export async function cancel(task) {
  if (!known()) return null;
  if (task.status === "RUNNING") {
    const saved = await get(`/tasks/${task.task_id}/timeline`).then((line) => line.current, () => null);
    const work = task.started_at ? `${duration(now() - toMs(task.started_at))} of work will stop.` : "Its work will stop.";
    const point = saved?.checkpoint_at ? `Last checkpoint ${clock(toMs(saved.checkpoint_at))}.` : "It has saved no checkpoint.";
    const sure = await ask({ title: `Cancel this ${task.task_type}?`, words: `${work} ${point}`, no: "Keep running", yes: "Cancel task" });
    if (!sure) return null;
  }
  try {
    await call("DELETE", `/tasks/${task.task_id}`);
    toast("Cancelled.");
  } catch (failure) {
    return refused(failure);
  }
  return get(`/tasks/${task.task_id}`).catch(() => null);
}

/** Pauses or resumes a queue: reversible, so nothing is asked, and Undo is offered. */
export async function setPaused(name, paused) {
  if (!known()) return null;
  try {
    const queue = (await call("POST", `/queues/${name}/${paused ? "pause" : "resume"}`)).data;
    toast(`${name} is ${paused ? "paused" : "running again"}.`, { label: "Undo", run: () => setPaused(name, !paused) });
    return queue;
  } catch (failure) {
    return refused(failure);
  }
}
