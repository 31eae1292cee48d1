// Pictures: every Mermaid block of README.md, ARCHITECTURE.md and docs/ as docs/pictures/PAGE-N.svg, for readers that do
// not draw Mermaid themselves, like the site. Each picture holds the source that it was made from, and a test compares
// the two. `make pictures` runs it.

import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";

const PICTURES = "docs/pictures";
const { chromium } = createRequire(`${process.cwd()}/e2e/browser/`)("playwright-core");
const mermaid = `${process.cwd()}/target/pictures/node_modules/mermaid/dist/mermaid.min.js`;

const pages = ["README.md", "ARCHITECTURE.md", ...readdirSync("docs").filter((file) => file.endsWith(".md")).map((file) => `docs/${file}`)];
const pictures = pages.flatMap((page) =>
  [...readFileSync(page, "utf8").matchAll(/^```mermaid\n([^]*?)^```$/gm)].map(([, source], number) => ({
    file: `${PICTURES}/${page.replace(/\.md$/, "").replaceAll("/", "-").toLowerCase()}-${number + 1}.svg`,
    source,
  })),
);
const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu"] });
const page = await browser.newPage();
await page.addScriptTag({ path: mermaid });
rmSync(PICTURES, { recursive: true, force: true });
mkdirSync(PICTURES);
for (const { file, source } of pictures) {
  const svg = await page.evaluate(async (source) => {
    // Labels as text and not as HTML, which an <img> may not hold; ids from the content, so that the same source is
    // the same file.
    window.mermaid.initialize({ startOnLoad: false, theme: "neutral", htmlLabels: false, flowchart: { htmlLabels: false }, deterministicIds: true });
    return (await window.mermaid.render("picture", source)).svg;
  }, source);
  // A ground of its own: the lines are dark, and the page around it may be, too.
  const whole = svg.replace(/^<svg([^>]*?)style="/, '<svg$1style="background: white; ').replace(/^<svg[^>]*>/, (head) => `${head}<metadata>${escaped(source)}</metadata>`);
  writeFileSync(file, `${whole}\n`);
  console.log(file);
}
await browser.close();
