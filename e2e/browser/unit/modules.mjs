// The dashboard's modules, as the browser gets them: copied beside a package.json that says what they are.

import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const SOURCE = new URL("../../../src/serve/dashboard/", import.meta.url);
export const folder = mkdtempSync(join(tmpdir(), "dashboard-"));
cpSync(SOURCE, folder, { recursive: true, filter: (path) => !path.endsWith(".rs") });
writeFileSync(join(folder, "package.json"), '{"type": "module"}');
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

/** One module. */
export const load = (name) => import(pathToFileURL(join(folder, name)).href);
