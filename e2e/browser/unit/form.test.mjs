import assert from "node:assert/strict";
import test from "node:test";
import { load } from "./modules.mjs";

const { plan, collect, initial, quoted, bodyOf, commands } = await load("form.js");

const SCHEMA = {
  $defs: { Inner: { type: "object", required: ["x"], properties: { x: { type: "integer" }, deep: { type: "object", properties: { y: {} } } } } },
  required: ["url"],
  properties: {
    note: { type: ["string", "null"], default: null }, url: { type: "string", format: "uri", examples: ["https://example.com"] },
    n: { type: "number", default: 10.0 }, whole: { type: "integer" }, yes: { type: "boolean", default: true }, kind: { enum: ["a", "b"] },
    list: { type: "array", items: { type: "number" } }, inner: { $ref: "#/$defs/Inner" }, either: { anyOf: [{ type: "array", items: {} }, { type: "string" }] },
    maybe: { anyOf: [{ $ref: "#/$defs/Inner" }, { type: "null" }] },
  },
};

test("a schema becomes fields, those that must be there first", () => {
  const fields = plan(SCHEMA);
  const kinds = Object.fromEntries(fields.map((field) => [field.name, field.kind]));
  assert.deepEqual(kinds, { url: "text", note: "text", n: "number", whole: "integer", yes: "boolean", kind: "enum", list: "list", inner: "group", either: "json", maybe: "group" });
  assert.equal(fields[0].name, "url");
  const inner = fields.find((field) => field.name === "inner");
  assert.deepEqual(inner.fields.map((field) => [field.kind, field.pointer]), [["integer", "/inner/x"], ["json", "/inner/deep"]]);
  assert.equal(initial(fields[0]), "https://example.com");
  assert.equal(initial(fields.find((field) => field.name === "note")), "");
});

const fill = (values) => collect(plan(SCHEMA), (field) => values[field.pointer] ?? "");

test("what is filled in becomes JSON with the digits that were typed", () => {
  const { text, errors } = fill({ "/url": 'a"b', "/n": "1.50", "/whole": "12345678901234567890", "/yes": false, "/kind": "b", "/list": "1\n2.0, 3e5", "/inner/x": "7", "/either": "[ 1.10 ]" });
  assert.deepEqual(errors, []);
  assert.equal(text, '{"url": "a\\"b", "n": 1.50, "whole": 12345678901234567890, "yes": false, "kind": "b", "list": [1, 2.0, 3e5], "inner": {"x": 7}, "either": [ 1.10 ]}');
  JSON.parse(text);
});

test("what cannot be is told at its place", () => {
  const { errors } = fill({ "/n": "1,5", "/whole": "1.0", "/either": "{", "/inner/x": "y" });
  assert.deepEqual(Object.fromEntries(errors.map((error) => [error.pointer, error.detail])), {
    "/url": "is missing", "/n": "must be a number", "/whole": "must be a whole number", "/either": "is not JSON", "/inner/x": "must be a whole number",
  });
});

test("an optional group that is left empty is left out", () => {
  const { text } = collect(plan({ properties: { g: { type: "object", properties: { a: { type: "string" } } } } }), () => "");
  assert.equal(text, "{}");
});

test("commands survive a shell", () => {
  assert.equal(quoted("plain-1.2"), "plain-1.2");
  assert.equal(quoted("it's"), "'it'\\''s'");
  assert.equal(bodyOf("t", '{"a": 1.50}', '{"queue": "q"}'), '{"task_type": "t", "a": 1.50, "options": {"queue": "q"}}');
  assert.equal(bodyOf("t", "{ }", "{}"), '{"task_type": "t"}');
  const { curl, app } = commands("http://x", "t", '{"a": "it\'s"}', '{"timeout": "5m"}');
  assert.match(curl, /-d '\{"task_type": "t", "a": "it'\\''s", "options": \{"timeout": "5m"\}\}'$/);
  assert.match(app, /^app submit t --input - --task-timeout 5m <<'JSON'\n/);
});
