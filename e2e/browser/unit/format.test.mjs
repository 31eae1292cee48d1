import assert from "node:assert/strict";
import test from "node:test";
import { load } from "./modules.mjs";

const f = await load("format.js");

test("durations are told in two units and are never negative", () => {
  const told = { "-5000": "0s", 0: "0s", 59999: "59s", 60000: "1m00s", 724000: "12m04s", 11100000: "3h05m", 187200000: "2d04h" };
  for (const [ms, words] of Object.entries(told)) assert.equal(f.duration(Number(ms)), words);
  assert.equal(f.duration(9, true), "9ms");
  assert.equal(f.duration(2140, true), "2.1s");
  assert.equal(f.duration(11000, true), "11s");
  assert.equal(f.countdown(28000), "00:28");
  assert.equal(f.countdown(-1), "00:00");
  assert.equal(f.countdown(3723000), "1:02:03");
  assert.equal(f.roughly(3.5 * 36e5), "3h");
});

test("times obey the one switch", () => {
  const ms = Date.parse("2026-01-01T00:00:05.204Z");
  f.zone.name = "utc";
  assert.equal(f.moment(ms), "2026-01-01 00:00:05");
  assert.equal(f.clock(ms, true), "00:00:05.204");
  assert.equal(f.zoneName(), "UTC");
  f.zone.name = "local";
  const local = new Date(ms);
  assert.equal(f.clock(ms).slice(0, 2), String(local.getHours()).padStart(2, "0"));
});

test("numbers and spans", () => {
  assert.equal(f.number(1204), "1,204");
  assert.equal(f.number("12345678901234567890"), "12,345,678,901,234,567,890");
  assert.equal(f.count(1, "task"), "1 task");
  assert.equal(f.percent(1.23), "1.2 %");
  assert.equal(f.percent(63.9), "63 %");
  assert.equal(f.percent(0), "0 %");
  assert.equal(f.span("90m"), 54e5);
  for (const bad of ["", "1", "h", "1y", "-1h", "1h2", undefined]) assert.ok(Number.isNaN(f.span(bad)), String(bad));
});

test("control characters are shown, colours dropped, turned writing named", () => {
  assert.equal(f.safe("\u001b[31mred\u001b[0m"), "red");
  assert.equal(f.safe("\u001b]0;title\u0007"), "␛]0;title␇");
  assert.equal(f.safe("a\u202eb\u2066c\u200f"), "a[U+202E]b[U+2066]c[U+200F]");
  assert.equal(f.safe("\u0000\u007f\u0085"), "␀␡[U+0085]");
  assert.equal(f.safe("one\r\ntwo\tthree\rfour"), "one\ntwo\tthree␍four");
  assert.equal(f.safe("Grüße ☃ שלום"), "Grüße ☃ שלום");
});

test("JSON is indented with its numbers as they came", () => {
  const text = '{"a":[1.50,12345678901234567890,{}],"b":{"c":"x,{}\\" y"},"d":[]}';
  assert.equal(f.indent(text), '{\n  "a": [\n    1.50,\n    12345678901234567890,\n    {}\n  ],\n  "b": {\n    "c": "x,{}\\" y"\n  },\n  "d": []\n}');
  assert.equal(f.member(text, "a"), "[1.50,12345678901234567890,{}]");
  assert.equal(f.member(text, "b"), '{"c":"x,{}\\" y"}');
  assert.equal(f.member(text, "d"), "[]");
  assert.equal(f.member(text, "c"), null);
  assert.equal(f.member('{"x":"result","result":null}', "result"), "null");
});

test("a waiting task says why", () => {
  const now = Date.parse("2026-01-01T00:00:00Z");
  const task = { queue: "gpu", task_type: "t", ready_at: "2026-01-01T00:00:28Z", last_error: null, queue_position: null };
  const said = (more) => f.waiting({ ...task, ...more }, now);
  assert.equal(said({ pending_reason: "retry", last_error: { code: "timeout" } }), "retry in 00:28 (timeout)");
  assert.equal(said({ pending_reason: "scheduled" }), "starts in 00:28");
  assert.equal(said({ pending_reason: "scheduled", ready_at: "2026-01-01T02:00:00Z" }), "starts in 2h00m");
  assert.equal(said({ pending_reason: "paused" }), "queue gpu is paused");
  assert.equal(said({ pending_reason: "ready", queue_position: 1200 }), "in line: 1,200");
  assert.match(said({ pending_reason: "no_worker" }), /no live worker/);
});

test("what remains is told from what was done", () => {
  const task = { status: "RUNNING", started_at: "2026-01-01T00:00:00Z", progress: { percent: 25, updated_at: "2026-01-01T00:01:00Z" } };
  assert.equal(f.remaining(task, Date.parse("2026-01-01T00:01:00Z")), 180000);
  assert.equal(f.remaining(task, Date.parse("2026-01-01T00:02:00Z")), 120000);
  assert.equal(f.remaining({ ...task, progress: { percent: null } }, 0), null);
  assert.equal(f.remaining({ ...task, status: "PENDING" }, 0), null);
});
