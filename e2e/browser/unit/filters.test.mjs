import assert from "node:assert/strict";
import test from "node:test";
import { load } from "./modules.mjs";

const { filters, filterBody, inWords } = await load("filters.js");

test("an address is a filter of the API, a body and a sentence", () => {
  const params = new URLSearchParams("status=FAILED,RUNNING&task_type=t&meta.tenant=acme&limit=25&cursor=x&hack=1");
  assert.deepEqual(filters(params), { status: "FAILED,RUNNING", task_type: "t", "metadata.tenant": "acme" });
  assert.deepEqual(filterBody(params), { metadata: { tenant: "acme" }, status: ["FAILED", "RUNNING"], task_type: "t" });
  assert.match(inWords(params), /^FAILED,RUNNING, type t, meta.tenant acme/);
  assert.equal(inWords(new URLSearchParams("limit=25")), "All tasks");
});

test("since is told from now, and stays the same for some seconds", () => {
  const after = (text) => Date.parse(filters(new URLSearchParams(`since=${text}`)).created_after);
  assert.ok(Math.abs(Date.now() - 36e5 - after("1h")) <= 10000);
  assert.equal(after("1h") % 10000, 0);
});
