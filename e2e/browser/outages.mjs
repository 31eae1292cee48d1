// Outages: servers that go away, connections that say nothing, versions that change, and many tabs.

import assert from "node:assert/strict";
import { api, outside, until, visit } from "./browser.mjs";

const bar = (page) => page.locator('[data-banner="connection"]').innerText().catch(() => "");
const lines = (page) => page.locator(".log li bdi").allInnerTexts();

async function catches_up(page, base, id) {
  await until("the bar is gone", async () => !(await page.locator('[data-banner="connection"]').isVisible()));
  await until("all lines are there, in order, none twice", async () => {
    const wanted = (await api(base, `/tasks/${id}/logs?limit=10000`)).map((line) => line.message);
    const shown = await lines(page);
    assert.equal(new Set(shown).size, shown.length, "a line is there twice");
    return wanted.length > 0 && shown.join("\n") === wanted.join("\n");
  });
}

/** The server is killed and comes back in the middle of a log. */
export async function survives_a_restart({ open, base, more: [id] }) {
  const page = await open(`/ui/tasks/${id}`);
  await until("lines come", async () => (await lines(page)).length > 3);
  await outside("kill");
  await until("a bar says so", async () => /Connection lost at .* What you see is from then/.test(await bar(page)));
  await until("nothing can be changed now", () => page.locator("[data-part=cancel]").isDisabled());
  await outside("start");
  await catches_up(page, base, id);
  await until("it can be cancelled again", () => page.locator("[data-part=cancel]").isEnabled());
  await outside("end");
  await until("the end is shown", async () => ["SUCCESS", "CANCELLED"].includes(await page.locator(".badge.big").innerText()));
  await catches_up(page, base, id);
}

/** A connection that says nothing any more, and is not closed. */
export async function notices_a_dead_connection({ open, base, more: [id] }) {
  const page = await open(`/ui/tasks/${id}`);
  await until("lines come", async () => (await lines(page)).length > 1);
  await outside("swallow");
  await until("a bar says so", async () => /Connection lost/.test(await bar(page)));
  await outside("flow");
  await catches_up(page, base, id);
}

/** Seven tabs leave connections to the buttons. */
export async function seven_tabs({ open, browser, base, more: [id] }) {
  const first = await open("/ui/tasks");
  const context = first.context();
  const tabs = [first];
  while (tabs.length < 7) {
    const tab = await context.newPage();
    await visit(tab, tabs.length % 2 ? "/ui/queues" : `/ui/tasks/${id}`);
    tabs.push(tab);
  }
  for (const tab of tabs) await until("it is live", async () => /^Live/.test(await tab.locator(".live").innerText()));
  for (const tab of tabs.filter((one) => one.url().includes("/ui/queues"))) {
    await tab.getByRole("button", { name: /^(Pause|Resume) default/ }).click();
    await until("the button answers", async () => (await tab.locator(".toast").count()) > 0);
  }
  assert.ok(browser.isConnected() && base);
}

/** Another version answers: the page comes back by itself, and a running page only says so. */
export async function meets_another_version({ open }) {
  let foreign = 2;
  const page = await open("/ui/login");
  await page.route("**/ui/assets/*/app.js", (route) => (foreign-- > 0 ? route.fulfill({ status: 404, headers: { "cache-control": "no-store" }, body: "" }) : route.continue()));
  await page.goto("/ui/queues");
  await until("it is loaded again until it works", async () => /Queues/.test(await page.locator("main").innerText()));
  const session = { role: "admin", version: "0.0.1", server_time: new Date().toISOString(), anonymous: true };
  const isLive = async () => /^Live/.test(await page.locator(".live").innerText());
  // Whichever of the two versions comes first.
  for (const last of ["**/events?*", "**/session"]) {
    let told;
    const isTold = new Promise((resolve) => (told = resolve));
    await page.route("**/session", async (route) => {
      if (last === "**/session") await until("it is live", isLive);
      await route.fulfill({ json: session });
      told();
    });
    await page.route("**/events?*", async (route) => {
      if (last === "**/events?*") await isTold;
      await route.continue();
    });
    await page.goto("/ui/tasks");
    await until("a new version is told", async () => /A new version is running/.test(await page.locator('[data-banner="version"]').innerText().catch(() => "")));
    await page.unrouteAll({ behavior: "ignoreErrors" });
  }
}

/** Redis goes away: said, and nothing else stops. */
export async function tells_what_is_away({ open, base }) {
  const page = await open("/ui/tasks");
  await until("it is live", async () => /^Live/.test(await page.locator(".live").innerText()));
  await outside("redis-away");
  await api(base, "/tasks", { vector_data: [1], duration: 0 });
  await until("Redis is away", async () => /Redis is away: tasks are accepted and kept/.test(await page.locator('[data-banner="store"]').innerText().catch(() => "")));
  await outside("redis-back");
  await until("it is back", async () => !(await page.locator('[data-banner="store"]').isVisible()));
}
