// Browser: one headless Chromium that fails a scenario for what no page may do: a script error, a report of the content
// security policy, a dialog of the browser's own.

import { chromium } from "playwright-core";

/** Waiting costs time only when a scenario fails: no promise is tried here, and a busy machine is slow. */
const PATIENCE = 90000;
const QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

export async function withBrowser(base, run) {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: QUIET });
  const trouble = [];
  async function open(path, options = {}) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, baseURL: base, ...options });
    context.setDefaultTimeout(PATIENCE);
    context.setDefaultNavigationTimeout(PATIENCE);
    const page = await context.newPage();
    page.on("pageerror", (error) => trouble.push(`error: ${error.stack}`));
    page.on("dialog", (dialog) => {
      trouble.push(`dialog: ${dialog.message()}`);
      dialog.dismiss();
    });
    page.on("console", (message) => {
      // What the network says is told by the page itself, and some scenarios cut it off.
      if (message.type() === "error" && !/Failed to load resource|net::ERR|Failed to fetch dynamically/.test(message.text())) trouble.push(`console: ${message.text()}`);
    });
    if (options.before) await page.addInitScript(options.before);
    await visit(page, path);
    return page;
  }
  try {
    await run(open, browser);
    if (trouble.length) throw new Error(`the page did what no page may do:\n${trouble.join("\n")}`);
  } finally {
    await browser.close();
  }
}

/** Until the page's program runs, and all that the address shows answers to clicks and keys. */
export function shown(page) {
  return page.locator("html[data-shown]").waitFor({ state: "attached" });
}

/** Goes to an address, and waits until it is shown. */
export async function visit(page, path) {
  await page.goto(path);
  await shown(page);
}

/** Clicks what leads to an address, and waits until that is shown. */
export async function follow(page, link, address) {
  await link.click();
  await page.waitForURL(address);
  await shown(page);
}

/** Asks the test to do something outside the browser, and waits until it has: its answer is a line. */
export function outside(what) {
  console.log(`?${what}`);
  return new Promise((resolve) => {
    process.stdin.resume();
    process.stdin.once("data", (data) => {
      process.stdin.pause();
      resolve(data.toString().trim());
    });
  });
}

/** Until something holds. */
export async function until(what, look, within = PATIENCE) {
  const end = Date.now() + within;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** The API, without the page. */
export async function api(base, path, body) {
  const response = await fetch(base + path, body === undefined ? {} : { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  return response.json();
}
