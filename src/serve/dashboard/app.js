// App: addresses to pages, one listener for everything, keys, and the switches of the head.

import { $, all, attr, el, partsOf, text } from "./dom.js";
import { zone, zoneName } from "./format.js";
import { call, get, hooks, learn, session } from "./api.js";
import * as live from "./live.js";
import * as strip from "./strip.js";
import { copied, say, toast } from "./actions.js";

const ROUTES = [
  [/^\/ui\/tasks\/([^/]+)$/, "task"], [/^\/ui\/tasks$/, "tasks"], [/^\/ui\/submit(?:\/([^/]+))?$/, "submit"],
  [/^\/ui\/queues$/, "queues"], [/^\/ui\/workers$/, "workers"], [/^\/ui\/login$/, "login"],
];
const GO = { t: "tasks", s: "submit", q: "queues", w: "workers" };

/** @type {{act?: Record<string, Function>, key?: (key: string) => void, tick?: () => void, close?: () => void}} */
let page = {};
let opened = 0;
let keys = true;
let afterG = 0;
const main = () => $("main");
const stored = (name, value) => {
  try {
    if (value === undefined) return localStorage.getItem(name);
    localStorage.setItem(name, value);
  } catch { /* not allowed: then it is not remembered */ }
  return null;
};

/** Goes to an address of the dashboard. */
export function go(url, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"]({}, "", url);
  return show(!replace);
}

/** For whoever drives the page by program: which page it is, from when everything on it answers. */
const mark = (name) => attr(document.documentElement, "data-shown", name);

/** Shows what the address says. */
async function show(moved) {
  const mine = ++opened;
  const path = location.pathname.replace(/\/$/, "") || "/ui/tasks";
  const found = ROUTES.map(([pattern, name]) => [pattern.exec(path), name]).find(([match]) => match);
  const name = found ? found[1] : "";
  const params = new URLSearchParams(location.search);
  strip.point(params, name === "tasks");
  mark(null);
  for (const link of all(".top nav a")) attr(link, "aria-current", link.pathname.slice(4) === name || (name === "task" && link.pathname === "/ui/tasks") ? "page" : null);
  page.close?.();
  live.end();
  page = {};
  if (!name) {
    main().replaceChildren(message("There is no such page.", "Go to Tasks", "/ui/tasks"));
    mark("nothing");
    return;
  }
  let made;
  try {
    const file = `./${name}.js`;
    const module = await import(file);
    const place = { main: main(), id: found[0][1] && decodeURIComponent(found[0][1]), params, title, isCurrent: () => mine === opened };
    made = await module.open(place);
    if (mine !== opened) return made?.close?.();
    page = made || {};
  } catch (failure) {
    if (mine !== opened) return;
    main().replaceChildren(trouble(failure, () => show(false)));
  }
  if (moved) {
    const heading = $("h1");
    // Who types already is not interrupted.
    if (heading && !document.activeElement?.matches("input, textarea, select")) {
      heading.tabIndex = -1;
      heading.focus({ preventScroll: true });
    }
    scrollTo(0, 0);
  }
  mark(name);
}

/** The title of the tab. */
export function title(words) {
  document.title = words ? `${words} · longrun` : "longrun";
}

/** A page that is only a sentence. */
export function message(words, label, href) {
  return el("div", { class: "empty" }, el("h1", {}, words), el("a", { class: "button", href }, label));
}

/** What went wrong with a part of the page, and a button to try again. */
export function trouble(failure, again) {
  const final = { 404: "No such task, or not yours.", 410: "Purged after its time of keeping (retention).", 403: "Needs the admin role." }[failure.status];
  const box = el("div", { class: "empty", role: "alert" }, el("h1", {}, final || failure.words || String(failure)));
  if (final) box.append(el("a", { class: "button", href: "/ui/tasks" }, "All tasks"));
  else {
    const button = el("button", { type: "button" }, "Retry");
    button.addEventListener("click", again);
    box.append(button);
  }
  return box;
}

/** The box `/`: an id, or words that narrow the list. */
function find(words) {
  const params = new URLSearchParams();
  for (const word of words.trim().split(/\s+/).filter(Boolean)) {
    if (/^[0-7][0-9a-hjkmnp-tv-z]{25}$/i.test(word)) return go(`/ui/tasks/${word.toUpperCase()}`);
    const [name, value] = word.split(/=(.*)/s);
    if (value !== undefined) params.append({ type: "task_type", metadata: "meta" }[name] || name.replace(/^metadata\./, "meta."), name === "status" ? value.toUpperCase() : value);
    else if (/^\d+[smhd]$/.test(word)) params.set("since", word);
    else if (/^(pending|running|success|failed|cancelled)$/i.test(word)) params.set("status", word.toUpperCase());
    else if (strip.world.queues.some((queue) => queue.queue === word)) params.set("queue", word);
    else params.set("task_type", word);
  }
  return go("/ui/tasks" + (params.size ? `?${params}` : ""));
}

const acts = {
  find(_, form) {
    const words = form.q.value;
    form.q.value = "";
    form.q.blur();
    find(words);
  },
  pause: () => live.togglePause(),
  "try-now": () => live.tryNow(),
  reload: () => location.reload(),
  help() {
    const dialog = $("dialog.help");
    partsOf(dialog).keys.checked = keys;
    partsOf(dialog).out.hidden = session.anonymous;
    text(partsOf(dialog).about, `Version ${session.version}, role ${session.role}. Times are in ${zoneName()}.`);
    dialog.showModal();
  },
  async "sign-out"() {
    $("dialog.help").close();
    await call("DELETE", "/session", { quiet: true }).catch((failure) => toast(failure.words));
    go("/ui/login");
  },
  zone() {
    zone.name = zone.name === "utc" ? "local" : "utc";
    stored("zone", zone.name);
    drawZone();
    say(`Times are in ${zoneName()}.`);
    page.tick?.();
  },
  theme() {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    stored("theme", root.dataset.theme);
  },
  "copy-next": (button) => copied(button.parentElement.querySelector("pre").textContent),
};

function drawZone() {
  const button = $('[data-act="zone"]');
  text(button, zone.name === "utc" ? "UTC" : "Local");
  attr(button, "aria-label", `${button.textContent}: times in ${zoneName()}. Change`);
}

function dispatch(event, type) {
  const node = event.target.closest("[data-act]");
  const wants = node && (node.matches("form") ? "submit" : node.matches("select, input") ? (node.type === "search" ? "input" : "change") : "click");
  if (!node || wants !== type) return;
  const act = page.act?.[node.dataset.act] || acts[node.dataset.act];
  if (!act) return;
  if (type === "submit") event.preventDefault();
  if (node.hasAttribute("data-write") && live.isLost()) return toast("The connection is lost.");
  act(node, node, event);
}

function onClick(event) {
  for (const menu of all("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
  dispatch(event, "click");
  const link = event.target.closest("a[href]");
  if (!link || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  if (link.origin !== location.origin || !link.pathname.startsWith("/ui/") || link.target) return;
  if (link.hash && link.pathname === location.pathname && link.search === location.search) return;
  event.preventDefault();
  if (link.getAttribute("aria-disabled") !== "true") go(link.href);
}

/** The arrows go from tab to tab, as the pattern of ARIA has it. */
function onTabKey(event) {
  const tabs = [...event.target.parentElement.querySelectorAll("[role=tab]")];
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const next = tabs[(tabs.indexOf(event.target) + step + tabs.length) % tabs.length];
  next.focus();
  next.click();
}

function onKey(event) {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.target.matches("[role=tab]")) onTabKey(event);
  const typing = event.target.closest("input:not([type=checkbox]), textarea, select, [contenteditable]");
  if (event.key === "Escape" && typing) return typing.blur();
  if (!keys || typing || $("dialog[open]")) return;
  if (event.key === "Escape" && !$("details[open] form")) return page.key?.("Escape");
  for (const menu of event.key === "Escape" ? all("details.menu[open]") : []) menu.open = false;
  const since = Date.now() - afterG;
  afterG = 0;
  if (since < 1500 && GO[event.key]) return go(`/ui/${GO[event.key]}`);
  if (event.key === "g") afterG = Date.now();
  else if (event.key === "/") {
    event.preventDefault();
    $(".find input").focus();
  } else if (event.key === "r") live.togglePause();
  else if (event.key === "u") acts.zone();
  else if (event.key === "?") acts.help();
  else if ("jkxf".includes(event.key) || (event.key === "Enter" && event.target === document.body)) page.key?.(event.key);
}

/** Begins. Called by boot.js. */
export async function start() {
  if (stored("zone") === "utc") {
    zone.name = "utc";
    drawZone();
  }
  keys = stored("keys") !== "off";
  hooks.answered = live.heard;
  hooks.unauthorized = () => {
    if (location.pathname !== "/ui/login") go(`/ui/login?next=${encodeURIComponent(location.pathname + location.search)}`, { replace: true });
  };
  document.addEventListener("click", onClick);
  for (const type of ["submit", "change", "input"]) document.addEventListener(type, (event) => dispatch(event, type));
  document.addEventListener("keydown", onKey);
  partsOf($("dialog.help")).keys.addEventListener("change", (event) => {
    keys = event.target.checked;
    stored("keys", keys ? "on" : "off");
  });
  addEventListener("popstate", () => show(true));
  setInterval(() => document.hidden || page.tick?.(), 1000);
  live.keepWatch();
  get("/session").then(({ version, ...told }) => {
    strip.checkVersion(version);
    Object.assign(session, told);
    learn(told.server_time);
  }, () => {});
  await show(false);
  drawZone();
}
