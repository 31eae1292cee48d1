// Bundle: the dashboard's files as they are served, made from those that people read: `node bundle.mjs --write`. A unit
// test compares them. One script has what every page needs, each page has one of its own and takes the rest from there,
// so a first page costs three scripts and no page another one's code.

import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

export const SOURCE = fileURLToPath(new URL("../../src/serve/dashboard/", import.meta.url));
const PAGES = ["login", "queues", "submit", "task", "tasks", "workers"];
/** Modules that are in app.js. */
const SHARED = ["actions", "api", "dom", "format", "live", "row", "sse", "store", "strip", "app"];

/** Which shared module exports a name. Each name but one: a page finds all of them in app.js. */
function origins() {
  const found = new Map();
  for (const name of SHARED) {
    for (const [, exported] of readFileSync(join(SOURCE, `${name}.js`), "utf8").matchAll(/^export (?:async )?(?:function|class|const) ([\w$]+)/gm)) {
      if (found.has(exported)) throw new Error(`${name}.js and ${found.get(exported)}.js both export ${exported}`);
      found.set(exported, name);
    }
  }
  return found;
}

const inApp = {
  name: "in-app",
  setup: ({ onResolve }) => onResolve({ filter: /^\.\/\w+\.js$/ }, ({ path }) =>
    (SHARED.includes(path.slice(2, -3)) ? { path: "./app.js", external: true } : undefined)),
};

async function small(options) {
  const { outputFiles } = await build({ bundle: true, minify: true, write: false, charset: "utf8", target: "es2022", logLevel: "silent", ...options });
  return outputFiles[0].text;
}

/** What a page takes from app.js: by name, or as a member of all of it. */
function* taken(text) {
  for (const [, names] of text.matchAll(/import\{([^}]*)\}from"\.\/app\.js"/g)) for (const name of names.split(",")) yield name.split(" as ")[0];
  for (const [, whole] of text.matchAll(/import\*as ([\w$]+) from"\.\/app\.js"/g)) for (const [, name] of text.matchAll(new RegExp(`(?<![\\w$])${whole.replaceAll("$", "\\$")}\\.(\\w+)`, "g"))) yield name;
}

/** The text of each served file by its name. */
export async function served() {
  const files = {};
  const wanted = new Set(["start"]);
  for (const page of PAGES) {
    const parts = await small({ format: "esm", entryPoints: [join(SOURCE, `${page}.js`)], plugins: [inApp] });
    const text = parts.replaceAll('}from"./app.js";import{', ",");
    for (const name of taken(text)) wanted.add(name);
    files[`${page}.js`] = text;
  }
  const from = origins();
  const contents = [...wanted].sort().map((name) => `export { ${name} } from "./${from.get(name)}.js";`).join("\n");
  files["app.js"] = await small({ format: "esm", stdin: { contents, resolveDir: SOURCE } });
  // No module: the page must have its theme before it is drawn.
  files["boot.js"] = await small({ format: "iife", entryPoints: [join(SOURCE, "boot.js")] });
  files["icon.svg"] = readFileSync(join(SOURCE, "icon.svg"), "utf8");
  files["style.css"] = await small({ entryPoints: [join(SOURCE, "style.css")] });
  return files;
}

export const FOLDER = join(SOURCE, "served");

/** Those that are there now. */
export const present = () => Object.fromEntries(readdirSync(FOLDER).map((name) => [name, readFileSync(join(FOLDER, name), "utf8")]));

if (process.argv[2] === "--write") {
  rmSync(FOLDER, { recursive: true, force: true });
  mkdirSync(FOLDER);
  for (const [name, text] of Object.entries(await served())) writeFileSync(join(FOLDER, name), text);
}
