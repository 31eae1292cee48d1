// Live: the one stream of this tab, what is said about it, and what happens without it. A hidden tab closes its stream
// after ten seconds; a tab that finds the origin's connections taken, or whose streams fail, asks every five seconds.

import { follow } from "./sse.js";
import { clock, duration } from "./format.js";
import { $, all, attr, el, text } from "./dom.js";
import { now } from "./api.js";
import { banner } from "./strip.js";
import { say } from "./actions.js";

/** A browser opens six connections to an origin: the rest is for buttons. */
const STREAMS = 4;
const EVERY = 5000;

/** @type {{url: () => string, event: (e: any) => void, refetch: () => Promise<void>, ended?: (status: number) => void, lastId?: string|null}|null} */
let source = null;
let stream = null;
let free = null;
let state = "loading";
let paused = false;
let lostAt = 0;
let heardAt = 0;
let nextTry = 0;
let failed = false;
let run = 0;
let hiddenTimer;

/** Whether the server is out of reach. */
export const isLost = () => state === "reconnecting" || state === "offline";
export const isPaused = () => paused;

/** Begins to follow, in place of what was followed. */
export function begin(next) {
  end();
  source = next;
  if (!paused && !document.hidden) connect();
  else draw();
}

/** Follows nothing any more. */
export function end() {
  disconnect();
  source = null;
}

/** Something was heard from the server. */
export function heard() {
  heardAt = now();
}

/** What was asked without a stream went well, or did not. */
export function report(works) {
  if (stream) return;
  if (!works) {
    failed = true;
    change("offline");
  } else if (isLost()) change("live");
}

function disconnect() {
  run += 1;
  stream?.stop();
  stream = null;
  free?.();
  free = null;
}

async function connect() {
  disconnect();
  const mine = run;
  const release = await slot();
  if (mine !== run) return release?.();
  if (!release) return change("polling");
  free = release;
  stream = follow({
    url: () => source.url(),
    lastId: source.lastId,
    open: () => change("live"),
    event: (event) => {
      heard();
      source?.event(event);
    },
    lost: (tries, wait) => {
      nextTry = now() + wait;
      if (tries > 2 && !failed) poll();
      else if (state !== "polling") change(navigator.onLine === false || failed ? "offline" : "reconnecting");
      else draw();
    },
    end: (status) => {
      free?.();
      free = null;
      stream = null;
      change("live");
      source?.ended?.(status);
    },
  });
}

/** A place among the streams of this origin; null when all are taken. Without locks there is no telling. */
async function slot() {
  if (!navigator.locks) return () => {};
  for (let n = 0; n < STREAMS; n++) {
    const release = await new Promise((resolve) => {
      navigator.locks.request(`stream-${n}`, { ifAvailable: true }, (lock) =>
        lock ? new Promise((done) => resolve(done)) : resolve(null)).catch(() => resolve(() => {}));
    });
    if (release) return release;
  }
  return null;
}

async function poll() {
  const mine = run;
  try {
    await source?.refetch();
    if (mine !== run || (state === "live" && stream)) return;
    failed = false;
    change("polling");
  } catch {
    if (mine !== run || state === "live") return;
    failed = true;
    change("offline");
  }
}

function change(next) {
  const wasLost = isLost();
  if (next === "live" || next === "polling") {
    failed = false;
    heard();
  }
  if (!wasLost && (next === "reconnecting" || next === "offline")) {
    lostAt = heardAt || now();
    say(`Connection lost at ${clock(lostAt)}.`, true);
    for (const button of all("[data-write]:not(:disabled)")) {
      button.disabled = true;
      button.title = "The connection is lost";
      button.dataset.lost = "";
    }
  }
  state = next;
  if (wasLost && !isLost()) {
    say("Connected again, nothing missed.", true);
    for (const button of all("[data-lost]")) {
      button.disabled = false;
      button.title = "";
      delete button.dataset.lost;
    }
    source?.refetch().catch(() => {});
  }
  draw();
}

/** What the indicator and the bar say; called every second too, for the countdown. */
export function draw() {
  const node = $(".live");
  const shown = paused ? "paused" : state;
  const words = {
    loading: "Connecting", live: "Live", paused: "Paused", polling: "Live, every 5s",
    reconnecting: `Reconnecting, last update ${clock(lostAt)}`, offline: `Offline since ${clock(lostAt).slice(0, 5)}`,
  }[shown];
  attr(node, "data-live", shown === "polling" ? "live" : shown);
  text(node.lastElementChild, words);
  attr(node, "aria-label", `Updates: ${words}. ${paused ? "Resume" : "Pause"}`);
  if (!isLost() || paused) return banner("connection");
  const bar = $('[data-banner="connection"]');
  const again = `Connection lost at ${clock(lostAt)}. What you see is from then. Trying again in ${duration(Math.max(0, nextTry - now()) + 999)}.`;
  // Only the words change: the button keeps its focus.
  if (bar.firstElementChild?.dataset.part === "again") text(bar.firstElementChild, again);
  else banner("connection", el("span", { "data-part": "again" }, again), el("button", { type: "button", "data-act": "try-now" }, "Now"));
}

/** Tries at once. */
export function tryNow() {
  if (stream) stream.now();
  else connect();
}

/** Stops all updates, or goes on with them. */
export function togglePause() {
  paused = !paused;
  if (paused) {
    disconnect();
    draw();
    say("Updates are paused.");
  } else {
    resume();
    say("Updates go on.");
  }
}

async function resume() {
  draw();
  // First what was missed, then the stream.
  await source?.refetch().catch(() => {});
  if (source && !paused && !document.hidden) connect();
}

/** Wires the tab's visibility and the slow clock. */
export function keepWatch() {
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiddenTimer);
    if (document.hidden) hiddenTimer = setTimeout(disconnect, 10000);
    else if (source && !stream && !paused) resume();
  });
  setInterval(() => {
    if (!document.hidden) draw();
  }, 1000);
  setInterval(() => {
    if (!source || paused || document.hidden) return;
    if (state === "polling" && !free) connect().then(() => state === "polling" && poll());
    else if (state === "polling" || state === "offline") poll();
  }, EVERY);
}
