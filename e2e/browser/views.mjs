// Views: what is shown, to whom: addresses, paging, keyboards, small screens, hostile texts, accessibility.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { api, follow, shown, until, visit } from "./browser.mjs";

const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");

/** Every page of a long list, each task once. */
export async function pages_to_the_end({ open, more: [expected] }) {
  const page = await open("/ui/tasks?limit=200");
  const seen = new Set();
  for (;;) {
    await page.locator("tbody tr[data-id], .empty b").first().waitFor();
    const ids = await page.locator("tbody tr[data-id]").evaluateAll((rows) => rows.map((row) => row.dataset.id));
    for (const id of ids) {
      assert.ok(!seen.has(id), "a task is on two pages");
      seen.add(id);
    }
    const next = page.locator("[data-part=next]");
    if ((await next.getAttribute("aria-disabled")) === "true") break;
    await next.click();
    const first = () => page.locator("tbody tr").evaluateAll((rows) => rows[0]?.dataset.id);
    await until("the next page", async () => (await first()) !== ids[0]);
    await shown(page);
  }
  assert.equal(seen.size, Number(expected));
}

/** Back, Forward and a pasted address restore the view. */
export async function addresses_are_views({ open, base }) {
  const page = await open("/ui/tasks");
  await follow(page, page.locator(".counts a[data-status=SUCCESS]"), /status=SUCCESS/);
  await page.locator(".find input").fill("type=vector_processing meta.tenant=acme 24h");
  await page.keyboard.press("Enter");
  await page.waitForURL(/meta.tenant=acme/);
  await shown(page);
  const rows = () => page.locator("tbody tr").evaluateAll((all) => all.map((row) => row.dataset.id).join());
  await until("the filter works", async () => (await page.locator("tbody tr[data-id]").count()) === 2);
  const narrowed = await rows();
  const address = page.url();
  await follow(page, page.locator("tbody tr a").first(), /\/ui\/tasks\/[0-9A-Z]{26}/);
  await page.locator(".badge.big").waitFor();
  await page.goBack();
  await until("the list is back", async () => (await rows()) === narrowed);
  await page.goBack();
  await page.waitForURL(/\?status=SUCCESS$/);
  await page.goForward();
  await until("and forward", async () => (await rows()) === narrowed);
  const other = await open(address);
  await until("pasted", async () => (await other.locator("tbody tr[data-id]").count()) === 2);
  const id = narrowed.split(",")[0];
  await other.locator(".find input").fill(id.toLowerCase());
  await other.keyboard.press("Enter");
  await other.waitForURL(`**/ui/tasks/${id}`);
  await visit(other, "/ui/tasks/01J00000000000000000000000");
  await until("no such task", async () => /No such task, or not yours/.test(await other.locator("main").innerText()));
  assert.ok(await api(base, `/tasks/${id}`));
  await other.goto("/");
  await other.waitForURL("**/ui/tasks");
}

/** With the keyboard alone. */
export async function works_by_keyboard({ open }) {
  const page = await open("/ui/tasks");
  await page.locator("tbody tr[data-id]").first().waitFor();
  const press = async (...keys) => {
    for (const key of keys) await page.keyboard.press(key);
  };
  // The second key must follow the first within a second and a half, which a busy machine may not manage.
  const go = (first, second, address) => until(`${first} ${second} leads to ${address}`, async () => {
    await press(first, second);
    await page.waitForURL(address, { timeout: 2000 }).catch(() => {});
    return page.url().endsWith(address.replace("**", ""));
  });
  await press("j", "j", "x");
  await until("the second row is selected", async () => page.locator("tbody tr").nth(1).locator("input").isChecked());
  await press("Enter");
  await page.waitForURL(/\/ui\/tasks\/[0-9A-Z]{26}/);
  await shown(page);
  await until("the heading has the focus", () => page.evaluate(() => document.activeElement.tagName === "H1"));
  await go("g", "q", "**/ui/queues");
  await go("g", "w", "**/ui/workers");
  await shown(page);
  await press("r");
  await until("paused", async () => /Paused/.test(await page.locator(".live").innerText()));
  await press("r", "/");
  assert.equal(await page.evaluate(() => document.activeElement.name), "q");
  await page.keyboard.type("gsq");
  assert.match(page.url(), /workers$/, "keys are ignored while typing");
  await press("Escape", "?");
  await page.locator("dialog.help").waitFor({ state: "visible" });
  await press("Escape");
  await page.locator("dialog.help").waitFor({ state: "hidden" });
  await press("u");
  await until("UTC", async () => (await page.locator("[data-act=zone]").innerText()) === "UTC");
  await page.reload();
  await shown(page);
  assert.equal(await page.locator("[data-act=zone]").innerText(), "UTC", "the choice is remembered");
}

/** Texts of a task can neither draw over the page nor run. */
export async function shows_hostile_texts({ open, more: [id] }) {
  const page = await open(`/ui/tasks/${id}`);
  const log = page.locator(".log");
  await until("the lines are there", async () => (await log.locator("li").count()) >= 3);
  const said = await log.innerText();
  assert.match(said, /red and plain/);
  assert.ok(!said.includes("\u001b") && !said.includes("\u202e") && said.includes("[U+202E]") && said.includes("␛]0;"), said);
  assert.ok(said.includes("<script>alert(1)</script>"));
  await page.locator("[data-act=log-find]").fill("(.*[");
  await until("find is no pattern", async () => /1 hit/.test(await page.locator("[data-part=hits]").innerText()));
  await page.getByRole("tab", { name: "Metadata" }).click();
  await until("metadata", async () => (await page.locator("#panel").innerText()).includes("<img src=x onerror=alert(1)>"));
  await visit(page, "/ui/tasks?meta.x=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E");
  await page.locator("tbody tr[data-id]").first().waitFor();
  assert.equal(await page.locator("main img, main script").count(), 0);
}

/** A clock that is ten minutes off makes no negative ages and no wrong ones. */
export async function trusts_the_servers_clock({ open, more: [id] }) {
  for (const minutes of [-10, 10]) {
    const page = await open(`/ui/tasks/${id}`, { before: `{ const real = Date.now; Date.now = () => real() + ${minutes * 60000}; }` });
    const running = /running (?:(\d+)m ?)?(\d+)s/;
    const facts = await until("it runs", async () => {
      const told = await page.locator(".facts").innerText();
      return running.test(told) && told;
    });
    // Ten minutes off would be nine or more; the test itself may take a few.
    const [, ran] = running.exec(facts);
    assert.ok(Number(ran || 0) < 6, facts);
    assert.doesNotMatch(facts, /(sign of life|progress) ([6-9]|[1-9]\d)m/);
  }
}

const PAGES = ["/ui/tasks", "/ui/tasks?status=FAILED&task_type=nothing", "/ui/submit/vector_processing", "/ui/submit/web_scrape", "/ui/queues", "/ui/workers", "/ui/login", "/ui/tasks/01J00000000000000000000000"];

/** axe finds nothing serious on any page, in any theme; no page scrolls sideways at 320 px. */
export async function is_accessible({ open, more: ids }) {
  const wrong = [];
  for (const options of [{ colorScheme: "light" }, { colorScheme: "dark", reducedMotion: "reduce" }, { colorScheme: "light", viewport: { width: 320, height: 640 } }, { forcedColors: "active" }]) {
    // The policy forbids foreign scripts: it is put aside for axe alone.
    const page = await open("/ui/tasks", { ...options, bypassCSP: true });
    for (const path of [...PAGES, ...ids.map((id) => `/ui/tasks/${id}`), `/ui/tasks/${ids[0]}?tab=input`]) {
      await visit(page, path);
      await page.locator("main h1").first().waitFor({ state: "attached" });
      await page.waitForTimeout(400);
      await page.addScriptTag({ path: AXE });
      const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
      for (const one of violations.filter((found) => ["serious", "critical"].includes(found.impact))) {
        wrong.push(`${path} ${JSON.stringify(options)}: ${one.id}: ${one.nodes.map((node) => node.target.join(" ") + " " + node.failureSummary).slice(0, 3).join("; ")}`);
      }
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      if (wide > 0) wrong.push(`${path} ${JSON.stringify(options)}: scrolls sideways by ${wide} px`);
    }
    await visit(page, "/ui/tasks");
    await page.keyboard.press("?");
    await page.locator("dialog.help").waitFor({ state: "visible" });
    await page.addScriptTag({ path: AXE });
    const { violations } = await page.evaluate(() => window.axe.run(document.querySelector("dialog.help")));
    wrong.push(...violations.filter((found) => found.impact === "serious").map((found) => `help: ${found.id}`));
    await page.context().close();
  }
  assert.deepEqual(wrong, []);
}

/** A picture of each page, light and dark, into a folder. */
export async function screenshots({ open, more: [folder, running, failed] }) {
  const shots = { tasks: "/ui/tasks", task: `/ui/tasks/${running}`, failed: `/ui/tasks/${failed}`, submit: "/ui/submit/web_scrape", queues: "/ui/queues", workers: "/ui/workers" };
  for (const colorScheme of ["light", "dark"]) {
    const page = await open("/ui/tasks", { colorScheme });
    for (const [name, path] of Object.entries(shots)) {
      await visit(page, path);
      await page.locator("main h1").first().waitFor({ state: "attached" });
      await page.waitForTimeout(1500);
      await page.screenshot({ path: `${folder}/${name}-${colorScheme}.png` });
    }
  }
}
