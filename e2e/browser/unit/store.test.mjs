import assert from "node:assert/strict";
import test from "node:test";
import { load } from "./modules.mjs";

const { makeStore } = await load("store.js");

/** A store whose time is ours. */
function staged() {
  const time = { now: 0, frames: [], later: [] };
  const store = makeStore({ frame: (run) => time.frames.push(run), now: () => time.now, later: (run, ms) => time.later.push({ run, at: time.now + ms }) });
  time.pass = (ms) => {
    time.now += ms;
    for (const { run } of time.later.splice(0).filter((one) => one.at <= time.now || !time.later.push(one))) run();
    for (const run of time.frames.splice(0)) run();
  };
  return { store, time };
}

test("an older version never replaces a newer one", () => {
  const { store } = staged();
  assert.equal(store.apply({ task_id: "a", version: 2, status: "RUNNING" }), true);
  assert.equal(store.apply({ task_id: "a", version: 1, status: "PENDING" }), false);
  assert.equal(store.get("a").status, "RUNNING");
  assert.equal(store.apply({ task_id: "a", version: 2, status: "SUCCESS" }), true, "the same version may carry more");
});

test("a thousand updates a second are at most four renderings", () => {
  const { store, time } = staged();
  const told = [];
  const stop = store.subscribe((ids) => told.push(ids.size));
  for (let ms = 0; ms < 1000; ms++) {
    store.apply({ task_id: String(ms % 50), version: ms });
    time.pass(1);
  }
  assert.ok(told.length >= 3 && told.length <= 5, `${told.length} renderings`);
  assert.ok(told.every((size) => size <= 50));
  stop();
  store.apply({ task_id: "x", version: 1 });
  time.pass(1000);
  const after = told.length;
  time.pass(1000);
  assert.equal(told.length, after, "who has left is told nothing");
});
