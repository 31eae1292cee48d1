// Format: times, durations, numbers, and text made safe to show. Pure: no page, no clock but the one that is given.

/** Which zone all times are shown in: "local" or "utc". One place for lists, strips, logs. */
export const zone = { name: "local" };

const two = (n) => String(n).padStart(2, "0");

/** A time as the API writes it in milliseconds; NaN for anything else. */
export const toMs = Date.parse;

/** The parts of a moment in the chosen zone. @param {number} ms */
function parts(ms) {
  const d = new Date(ms);
  return zone.name === "utc"
    ? [d.getUTCFullYear(), d.getUTCMonth() + 1, d.getUTCDate(), d.getUTCHours(), d.getUTCMinutes(), d.getUTCSeconds(), d.getUTCMilliseconds()]
    : [d.getFullYear(), d.getMonth() + 1, d.getDate(), d.getHours(), d.getMinutes(), d.getSeconds(), d.getMilliseconds()];
}

/** `2026-01-01`. @param {number} ms */
export function day(ms) {
  const [y, m, d] = parts(ms);
  return `${y}-${two(m)}-${two(d)}`;
}

/** `14:02:11`, or `14:02:11.204` with milliseconds. */
export function clock(ms, withMs) {
  const [, , , h, m, s, f] = parts(ms);
  return `${two(h)}:${two(m)}:${two(s)}${withMs ? "." + String(f).padStart(3, "0") : ""}`;
}

/** `2026-01-01 14:02:11`. */
export const moment = (ms) => `${day(ms)} ${clock(ms)}`;

/** What the zone is called: `UTC`, `Europe/Berlin`. */
export function zoneName() {
  if (zone.name === "utc") return "UTC";
  return Intl.DateTimeFormat().resolvedOptions().timeZone || "Local";
}

/** `2s`, `12m04s`, `3h05m`, `2d04h`; never negative. What is over is told finer: `2.1s`, `9ms`. @param {number} ms */
export function duration(ms, isOver) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (isOver && s < 10) return ms < 1000 ? `${Math.max(0, Math.round(ms))}ms` : `${(ms / 1000).toFixed(1)}s`;
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m${two(s % 60)}s`;
  if (s < 86400) return `${Math.floor(s / 3600)}h${two(Math.floor(s / 60) % 60)}m`;
  return `${Math.floor(s / 86400)}d${two(Math.floor(s / 3600) % 24)}h`;
}

/** The same in one unit, for things that are far: `54m`, `3h`. */
export function roughly(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["m", 60]]) if (s >= size) return Math.floor(s / size) + unit;
  return `${s}s`;
}

/** `00:28`, `1:02:03`: a countdown. */
export function countdown(ms) {
  const s = Math.max(0, Math.ceil(ms / 1000));
  const h = Math.floor(s / 3600);
  return (h ? h + ":" : "") + two(Math.floor(s / 60) % 60) + ":" + two(s % 60);
}

/** `1,204`. */
export const number = (n) => String(n).replace(/\B(?=(\d{3})+(?!\d))/g, ",");

/** `1 task`, `2 tasks`. */
export const count = (n, word) => `${number(n)} ${word}${n === 1 ? "" : "s"}`;

/** `63 %`; one decimal only below ten. */
export const percent = (p) => `${p > 0 && p < 10 ? p.toFixed(1) : Math.floor(p)} %`;

/** The last four characters of an id. */
export const ending = (id) => "…" + id.slice(-4);

/** `1h`, `90m`, `7d` in milliseconds; NaN for anything else. */
export function span(text) {
  const found = /^(\d{1,6})(s|m|h|d)$/.exec(text || "");
  return found ? Number(found[1]) * { s: 1e3, m: 6e4, h: 36e5, d: 864e5 }[found[2]] : NaN;
}

/**
 * Text of a task as it may be shown: colour codes are dropped, other control characters and those that turn the
 * direction of writing are shown by name, so that a log cannot draw over the page or pretend to be another line.
 */
export function safe(text) {
  return String(text)
    // eslint-disable-next-line no-control-regex
    .replace(/\u001b\[[0-9;:]*m/g, "")
    .replace(/\r\n/g, "\n")
    .replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g, (c) => {
      const code = c.charCodeAt(0);
      if (code < 0x20) return String.fromCharCode(0x2400 + code);
      if (code === 0x7f) return "\u2421";
      return `[U+${code.toString(16).toUpperCase().padStart(4, "0")}]`;
    });
}

/** The pieces of a JSON text: strings, numbers and words, and single marks; white space is left out. */
const tokens = (text) => text.match(/"(?:[^"\\]|\\.)*"|[^\s{}[\],:"]+|[{}[\],:]/g) || [];

/** A JSON text indented anew, every number and string exactly as it came. */
export function indent(text) {
  let out = "";
  let depth = 0;
  const list = tokens(text);
  list.forEach((token, i) => {
    const next = list[i + 1];
    if (token === "{" || token === "[") {
      const empty = next === "}" || next === "]";
      out += token + (empty ? "" : "\n" + "  ".repeat(++depth));
    } else if (token === "}" || token === "]") {
      const before = list[i - 1];
      out += before === "{" || before === "[" ? token : "\n" + "  ".repeat(--depth) + token;
    } else if (token === ",") out += ",\n" + "  ".repeat(depth);
    else if (token === ":") out += ": ";
    else out += token;
  });
  return out;
}

/** The text of one member of a JSON object, as it came; null where there is none. */
export function member(text, name) {
  const wanted = JSON.stringify(name);
  const list = tokens(text);
  let depth = 0;
  let out = null;
  for (const [i, token] of list.entries()) {
    if ("}]".includes(token)) depth--;
    if (out !== null) {
      if (depth === 0 || (depth === 1 && token === ",")) return out;
      out += token;
    } else if (depth === 1 && token === ":" && list[i - 1] === wanted) out = "";
    if ("{[".includes(token)) depth++;
  }
  return null;
}

/** What a waiting task waits for, in words. @param now milliseconds by the server's clock */
export function waiting(task, now) {
  const ready = toMs(task.ready_at);
  const because = task.last_error ? ` (${task.last_error.code})` : "";
  switch (task.pending_reason) {
    case "scheduled": return `starts in ${ready - now < 36e5 ? countdown(ready - now) : duration(ready - now)}`;
    case "retry": return `retry in ${countdown(ready - now)}${because}`;
    case "paused": return `queue ${task.queue} is paused`;
    case "no_worker": return `no live worker serves ${task.queue} and knows ${task.task_type}`;
    default: return task.queue_position ? `in line: ${number(task.queue_position)}` : "in line";
  }
}

/** How long the rest takes when it goes on as so far; null where that cannot be told. */
export function remaining(task, now) {
  const p = task.progress;
  if (task.status !== "RUNNING" || !p || !p.percent || p.percent >= 100 || !task.started_at) return null;
  const so_far = toMs(p.updated_at) - toMs(task.started_at);
  if (so_far < 2000) return null;
  return Math.max(0, (so_far * (100 - p.percent)) / p.percent - (now - toMs(p.updated_at)));
}
