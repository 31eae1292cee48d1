// Run: `node run.mjs SCENARIO URL [ARGUMENT...]`. Ends with 0 when the scenario holds.

import { withBrowser } from "./browser.mjs";
import * as work from "./work.mjs";
import * as views from "./views.mjs";
import * as outages from "./outages.mjs";
import * as pages from "./pages.mjs";

const [name, base, ...more] = process.argv.slice(2);
const scenario = { ...work, ...views, ...outages, ...pages }[name];
if (!scenario) throw new Error(`no scenario ${name}`);
try {
  await withBrowser(base, (open, browser) => scenario({ open, browser, base, more }));
  process.exit(0);
} catch (error) {
  console.error(error);
  process.exit(1);
}
