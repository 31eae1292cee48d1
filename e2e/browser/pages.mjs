// Pages: how little the first one loads and waits for, and what else is seen at a glance: workers over HTTP, small heads.

import assert from "node:assert/strict";
import { outside, until } from "./browser.mjs";

const KB = 1024;

/** A first page is few and small requests, and its rows wait for the list alone. */
export async function loads_little({ open, more: [rows] }) {
  const page = await open("/ui/login");
  // What else a page asks for is held until the rows are there.
  let release;
  const shown = new Promise((resolve) => (release = resolve));
  for (const held of ["**/session", "**/events?*", "**/workers", "**/queues", "**/tasks/counts*"]) {
    await page.route(held, async (route) => {
      await shown;
      await route.continue();
    });
  }
  // A new page of the browser knows none of the files: it gets them over the wire.
  const session = await page.context().newCDPSession(page);
  await session.send("Network.enable");
  await session.send("Network.setCacheDisabled", { cacheDisabled: true });
  let requests = 0;
  let bytes = 0;
  let lists = 0;
  const ofPage = new Set();
  session.on("Network.requestWillBeSent", ({ requestId, type, request }) => {
    if (!request.url.startsWith("http")) return;
    requests += 1;
    if (new URL(request.url).pathname === "/tasks") lists += 1;
    if (["Document", "Script", "Stylesheet", "Other"].includes(type)) ofPage.add(requestId);
  });
  session.on("Network.dataReceived", ({ requestId, encodedDataLength }) => (bytes += ofPage.has(requestId) ? encodedDataLength : 0));
  await page.goto("/ui/tasks");
  await until("the rows are there", async () => (await page.locator("tbody tr[data-id]").count()) === Number(rows));
  release();
  await until("it is live", async () => /^Live/.test(await page.locator(".live").innerText()));
  assert.ok(requests <= 16, `${requests} requests`);
  // What boot.js asks for is what the page wants, or it would be asked for twice.
  assert.equal(lists, 1, `${lists} requests for the list`);
  assert.ok(bytes > 10 * KB && bytes <= 25 * KB, `${bytes} bytes over the wire`);
  const { usedSize } = await session.send("Runtime.getHeapUsage");
  assert.ok(usedSize < 30e6, `${usedSize} bytes of heap`);
  console.log(`figure: a first page: ${requests} requests, ${bytes} bytes, ${(usedSize / 1e6).toFixed(1)} MB of heap`);
}

/** The heap of a long list and of a long log, each live for many turns in which something happens. */
export async function stays_small({ open, more: [seconds, rows, id, lines] }) {
  const list = await open(`/ui/tasks?limit=${rows}`);
  await until("the rows are there", async () => (await list.locator("tbody tr[data-id]").count()) === Number(rows));
  const task = await open(`/ui/tasks/${id}`);
  await until("the log is there", async () => (await task.locator("[id^=log-]").count()) > 0);
  await outside("fill");
  await until("the lines are there", async () => (await task.locator("[id^=log-]").count()) === Number(lines));
  const sessions = await Promise.all([list, task].map((page) => page.context().newCDPSession(page)));
  // The program's objects, and the nodes of the page.
  const heaps = () => Promise.all(sessions.map(async (session) => {
    const { usedSize, embedderHeapUsedSize } = await session.send("Runtime.getHeapUsage");
    assert.ok(embedderHeapUsedSize > 0);
    return usedSize + embedderHeapUsedSize;
  }));
  let most = [0, 0];
  let turns = 0;
  for (const end = Date.now() + seconds * 1000; turns < 5 || Date.now() < end; ) {
    turns++;
    await outside("turn");
    await until("the turn is in the log", async () => (await task.locator("[id^=log-]").last().innerText()).includes(`turn ${turns}:`));
    const now = await heaps();
    most = most.map((size, page) => Math.max(size, now[page]));
  }
  await until("the list knows of them", async () => parseInt((await list.locator("[data-act=newer]").innerText()).replace(/\D/g, "")) >= Math.min(turns, 1000));
  assert.ok((await list.locator("tbody tr[data-status=RUNNING]").count()) > 1);
  for (const session of sessions) await session.send("HeapProfiler.collectGarbage");
  const kept = await heaps();
  const told = [kept, most].map((sizes) => sizes.map((size) => (size / 1e6).toFixed(1)).join(" and "));
  console.log(`figure: heap of a list of ${rows} rows and of a log of ${lines} lines after ${seconds} s and ${turns} turns: ${told[0]} MB, ${told[1]} at most`);
  assert.ok(Math.max(...kept) <= 30e6, told[0]);
}

/** Milliseconds from the navigation to the first rows: of a browser that has never seen the page, and of the next load. */
export async function measures_first_rows({ open, more: [loads] }) {
  const before = `new MutationObserver((_, observer) => {
    if (!document.querySelector("tbody tr[data-id]")) return;
    observer.disconnect();
    requestAnimationFrame(() => setTimeout(() => (window.firstRows = performance.now())));
  }).observe(document, { childList: true, subtree: true });`;
  const firstRows = (page) => until("there are rows", () => page.evaluate(() => window.firstRows));
  const times = { "in a new profile": [], "when loaded again": [] };
  for (let n = 0; n < Number(loads); n++) {
    const page = await open("/ui/tasks", { before });
    times["in a new profile"].push(await firstRows(page));
    await until("all of it is there", () => page.evaluate(() => document.documentElement.dataset.shown));
    await page.reload();
    times["when loaded again"].push(await firstRows(page));
    await page.context().close();
  }
  for (const [how, all] of Object.entries(times)) {
    all.sort((a, b) => a - b);
    const [median, least, most] = [all[all.length >> 1], all[0], all.at(-1)].map(Math.round);
    console.log(`figure: first rows after ${median} ms (${least} to ${most}) ${how}`);
  }
}

/** The buttons and tabs of a task do something before its log has come. */
export async function answers_without_its_log({ open, more: [id] }) {
  const page = await open("/ui/login");
  let release;
  const released = new Promise((resolve) => (release = resolve));
  await page.route("**/logs?*", async (route) => {
    await released;
    await route.continue();
  });
  await page.goto(`/ui/tasks/${id}`);
  await page.getByRole("tab", { name: "Input" }).click();
  await until("the input is there", async () => (await page.locator("#panel").innerText()).includes("vector_data"));
  await page.locator("[data-part=cancel]").click();
  await page.locator("dialog.ask").getByRole("button", { name: "Cancel task" }).click();
  await until("it is cancelled", async () => (await page.locator(".badge.big").innerText()) === "CANCELLED");
  release();
  await until("it is live", async () => /^Live/.test(await page.locator(".live").innerText()));
}

/** Who serves a queue over HTTP is there on all pages that speak of workers. */
export async function knows_http_workers({ open, more: [id, name] }) {
  const page = await open("/ui/queues");
  const row = page.locator("tbody tr", { hasText: "elsewhere" });
  await until("the queue is served", async () => /over HTTP/.test(await row.innerText()));
  assert.doesNotMatch(await row.innerText(), /no worker/);
  assert.match(await page.locator(".health").innerText(), /1 over HTTP/);
  await page.goto("/ui/workers");
  await until("the worker is there", async () => (await page.locator("main").innerText()).includes(name));
  assert.match(await page.locator("main").innerText(), /runs 1 task of elsewhere/);
  await page.goto(`/ui/tasks/${id}`);
  await until("the task says who runs it", async () => (await page.locator(".facts").innerText()).includes(`on HTTP worker ${name}`));
  assert.ok((await page.locator(".attempts").innerText()).includes(`HTTP worker ${name}`));
}

/** The head stays one line in a narrow window, whatever the indicator says. */
export async function keeps_its_head({ open }) {
  const page = await open("/ui/login", { viewport: { width: 320, height: 640 } });
  const tops = () => page.locator(".brand, .live, .top > .quiet").evaluateAll((nodes) => nodes.map((node) => node.getBoundingClientRect()).map(({ top, bottom }) => Math.round((top + bottom) / 2)));
  for (const words of ["Connecting", "Live, every 5s", "Reconnecting, last update 14:55:57"]) {
    const centres = await page.locator(".live span").evaluate((node, said) => (node.textContent = said), words).then(tops);
    assert.ok(Math.max(...centres) - Math.min(...centres) <= 2, `${words}: ${centres}`);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.ok(wide <= 0, `${words}: scrolls sideways by ${wide} px`);
  }
}
