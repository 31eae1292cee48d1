// The files that are served are what the bundle makes of those that people read, and scripts that a browser can read.

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import assert from "node:assert/strict";
import test from "node:test";
import { present, served } from "../bundle.mjs";

test("what is served was made from what is read", async () => {
  const made = await served();
  const there = present();
  assert.deepEqual(Object.keys(there).sort(), Object.keys(made).sort());
  for (const [name, text] of Object.entries(made)) assert.ok(there[name] === text, `served/${name} is not what its source makes: run make dashboard`);
});

test("every served script can be read", () => {
  const folder = mkdtempSync(join(tmpdir(), "served-"));
  try {
    for (const [name, text] of Object.entries(present())) {
      if (!name.endsWith(".js")) continue;
      const file = join(folder, name.replace(/\.js$/, name === "boot.js" ? ".cjs" : ".mjs"));
      writeFileSync(file, text);
      execFileSync(process.execPath, ["--check", file]);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("every page finds in app.js what it takes from there", () => {
  const { "app.js": app, ...pages } = present();
  const given = new Set(/export\{([^}]*)\};\s*$/.exec(app)[1].split(",").map((one) => one.split(" as ").pop()));
  let taken = 0;
  for (const [page, text] of Object.entries(pages)) {
    for (const [, names] of text.matchAll(/import\{([^}]*)\}from"\.\/app\.js"/g)) {
      for (const name of names.split(",").map((one) => one.split(" as ")[0])) {
        taken += 1;
        assert.ok(given.has(name), `${page} takes ${name}`);
      }
    }
  }
  assert.ok(taken > 50, `${taken} names`);
});
