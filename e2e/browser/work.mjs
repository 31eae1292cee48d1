// Work: what people do: submit, watch, cancel, retry, select, pause.

import assert from "node:assert/strict";
import { api, outside, shown, until, visit } from "./browser.mjs";

const status = (page) => page.locator(".badge.big").innerText();

/** Both built-in types by their forms; a bar that moves; cancel with its dialog; retry; reload. */
export async function submits({ open, base, more: [site] }) {
  const page = await open("/ui/submit/vector_processing");
  await page.locator("#f-duration").fill("300");
  await page.getByRole("button", { name: "Submit", exact: true }).click();
  await page.waitForURL(/\/ui\/tasks\/[0-9A-Z]{26}$/);
  await shown(page);
  const id = page.url().split("/").pop();
  await until("it runs", async () => (await status(page)) === "RUNNING");
  const share = async () => Number(await page.locator(".state-line progress").getAttribute("value") ?? (await page.locator(".state-line progress").evaluate((bar) => bar.value)));
  const early = await until("the bar shows something", share);
  await until("the bar moves", async () => (await share()) > early);
  assert.match(await page.title(), /^\d+% vector_processing/);
  await until("there is a sign of life", async () => /sign of life \d+s ago/.test(await page.locator(".facts").innerText()));

  await page.getByRole("button", { name: "Cancel…" }).click();
  const dialog = page.locator("dialog.ask");
  await dialog.waitFor({ state: "visible" });
  assert.match(await dialog.innerText(), /of work will stop/);
  await until("the harmless button has the focus", () => page.evaluate(() => document.activeElement.textContent === "Keep running"));
  await page.keyboard.press("Enter");
  await dialog.waitFor({ state: "hidden" });
  await until("the focus is back", () => page.evaluate(() => document.activeElement.textContent === "Cancel…"));
  assert.equal((await api(base, `/tasks/${id}`)).status, "RUNNING");
  await page.getByRole("button", { name: "Cancel…" }).click();
  await dialog.getByRole("button", { name: "Cancel task" }).click();
  await until("it is cancelled", async () => (await status(page)) === "CANCELLED");
  await until("it can be retried", async () => {
    if (await page.getByRole("button", { name: "Retry", exact: true }).isVisible()) await page.getByRole("button", { name: "Retry", exact: true }).click({ timeout: 1000 }).catch(() => {});
    return ["PENDING", "RUNNING"].includes(await status(page));
  });
  await page.reload();
  await until("it runs again after a reload", async () => (await status(page)) === "RUNNING");
  await until("both attempts are told", async () => (await page.locator(".attempts li").count()) === 2);

  await visit(page, "/ui/submit/web_scrape");
  await page.locator("#f-url").fill("not an address");
  await page.getByRole("button", { name: "Submit", exact: true }).click();
  await until("what is wrong is told at its field", async () => (await page.locator("[aria-invalid=true]").count()) === 1);
  await until("the focus goes to it", () => page.evaluate(() => document.activeElement.id === "f-url"));
  await page.locator("#f-url").fill(site);
  const go = page.getByRole("button", { name: "Submit", exact: true });
  await go.dblclick();
  await page.waitForURL(/\/ui\/tasks\/[0-9A-Z]{26}$/);
  await shown(page);
  await until("the page is scraped", async () => (await status(page)) === "SUCCESS");
  assert.match(await page.title(), /^✓ web_scrape/);
  assert.equal((await api(base, "/tasks?task_type=web_scrape")).length, 1, "two clicks are one task");
  await page.getByRole("tab", { name: "Result" }).click();
  await until("the hostile title is text", async () => (await page.locator("#panel").innerText()).includes("<script>alert('x')</script> [U+202E]gnp.exe"));
  assert.equal(await page.locator("#panel script").count(), 0);
}

/** Rows that change all the time leave focus, selection, an open menu and a dialog alone. */
export async function keeps_its_calm({ open }) {
  const page = await open("/ui/tasks");
  // Of tasks: while they are on their way the list shows grey places for them.
  await page.locator("tbody tr[data-id]").first().waitFor();
  const order = () => page.locator("tbody tr").evaluateAll((rows) => rows.map((row) => row.dataset.id));
  const before = await order();
  const shown = () => page.locator("tbody tr .c-what").allInnerTexts();
  const box = page.locator("tbody tr").nth(2).locator("input");
  await box.check();
  await page.locator("tbody tr").nth(4).locator("a").focus();
  await outside("storm");
  const first = await shown();
  await until("rows change", async () => (await shown()).join() !== first.join());
  await page.locator(".menu summary").click();
  await page.locator(".menu input[name=queue]").fill("half-typed");
  await page.waitForTimeout(2500);
  assert.equal(await page.locator(".menu input[name=queue]").inputValue(), "half-typed");
  assert.equal(await page.evaluate(() => document.activeElement.name), "queue");
  await page.keyboard.press("Escape");
  assert.ok(await box.isChecked());
  assert.deepEqual(await order(), before, "no row has moved, come or gone");
  await page.getByRole("button", { name: "Cancel…" }).click();
  await page.locator("dialog.ask").waitFor({ state: "visible" });
  await page.waitForTimeout(2000);
  assert.ok(await page.locator("dialog.ask").isVisible(), "the dialog is still there");
  await page.locator("dialog.ask").getByRole("button", { name: "Keep running" }).click();
  await outside("calm");
}

/** What is newer waits behind a button, and all that match can be retried at once. */
export async function acts_on_many({ open, base }) {
  const page = await open("/ui/tasks?status=FAILED");
  const rows = page.locator("tbody tr[data-id]");
  await rows.first().waitFor();
  const count = await rows.count();
  await outside("fail-more");
  await until("newer ones wait", async () => /newer tasks/.test(await page.locator("[data-act=newer]").innerText().catch(() => "")));
  assert.equal(await rows.count(), count);
  await page.locator("[data-act=newer]").click();
  await until("they are shown", async () => (await rows.count()) > count);
  await shown(page);
  await page.getByLabel("Select all rows").check();
  await page.getByRole("button", { name: /Select all that match/ }).click();
  await page.locator("[data-verb=retry]").click();
  const dialog = page.locator("dialog.ask");
  await dialog.waitFor({ state: "visible" });
  assert.match(await dialog.innerText(), /Retry \d+ tasks\?/);
  const typed = dialog.locator("input");
  if (await typed.isVisible()) {
    assert.ok(await dialog.locator("[data-part=yes]").isDisabled(), "above a hundred the number must be typed");
    await typed.fill((await dialog.locator("b[data-part=number]").innerText()).trim());
  }
  await dialog.locator("[data-part=yes]").click();
  await until("it is told", async () => /\d+ retried/.test(await page.locator(".toasts").innerText()));
  await until("rows that match no longer stay, dimmed", async () => (await page.locator("tbody tr.gone").count()) > 0);
  assert.equal((await api(base, "/tasks/counts?status=FAILED")).counts.FAILED, 0);
}

/** Queues can be paused and the pause undone, and every page says so when work waits. */
export async function pauses({ open, base }) {
  const page = await open("/ui/queues");
  const button = page.getByRole("button", { name: "Pause default" });
  await button.click();
  await page.getByRole("button", { name: "Resume default" }).waitFor();
  await api(base, "/tasks", { vector_data: [1], duration: 0 });
  await until("a banner says so", async () => /default/.test(await page.locator('[data-banner="queue"]').innerText().catch(() => "")));
  await visit(page, "/ui/tasks");
  await until("a row says so", async () => /queue default is paused/.test(await page.locator("tbody").innerText()));
  await visit(page, "/ui/queues");
  await until("the pause is undone", async () => {
    await page.getByRole("button", { name: "Resume default" }).click();
    // The offer goes by itself after ten seconds: on a machine that stood still for so long all of it is done again.
    const undone = await page.locator(".toast").getByRole("button", { name: "Undo" }).last().click({ timeout: 15000 }).then(() => true, () => false);
    if (!undone) await button.click();
    return undone;
  });
  await page.getByRole("button", { name: "Resume default" }).waitFor();
  await page.getByRole("button", { name: "Resume default" }).click();
  await until("it runs", async () => (await api(base, "/tasks?status=SUCCESS")).length === 1);
  await visit(page, "/ui/workers");
  await until("the worker is there", async () => /alive/.test(await page.locator(".workers").innerText()));
}
