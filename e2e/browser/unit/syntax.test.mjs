import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import assert from "node:assert/strict";
import test from "node:test";
import { folder } from "./modules.mjs";

const scripts = readdirSync(folder).filter((name) => name.endsWith(".js"));

test("every module can be read", () => {
  assert.ok(scripts.length > 15);
  for (const name of scripts) execFileSync(process.execPath, ["--check", join(folder, name)]);
});

test("every call of an act has its place in the page, and the other way round", () => {
  const page = readFileSync(join(folder, "index.html"), "utf8");
  const text = scripts.map((name) => readFileSync(join(folder, name), "utf8")).join("\n");
  for (const [, act] of page.matchAll(/data-act="([\w-]+)"/g)) {
    assert.match(text, new RegExp(`(async )?(\\b|")${act}("?)(: |\\(|,)`), `nothing answers ${act}`);
  }
});
