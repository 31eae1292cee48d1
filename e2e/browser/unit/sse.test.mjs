import assert from "node:assert/strict";
import { createServer } from "node:http";
import test from "node:test";
import { load } from "./modules.mjs";

const { parser, follow, backoff } = await load("sse.js");

function read(chunks) {
  const events = [];
  const retries = [];
  const push = parser({ event: (event) => events.push(event), retry: (ms) => retries.push(ms) });
  chunks.forEach(push);
  return { events, retries };
}

test("events are read however they are cut", () => {
  const text = "retry: 2000\n\n: ping\n\nid: 1\r\ndata: a\r\ndata: b\r\n\r\nevent: log\rid: 2\rdata:c\r\rdata\n\nevent: none\n\n";
  const whole = read([text]);
  assert.deepEqual(whole.events, [{ name: "", data: "a\nb", id: "1" }, { name: "log", data: "c", id: "2" }, { name: "", data: "", id: null }]);
  assert.deepEqual(whole.retries, [2000]);
  for (let n = 1; n < text.length; n++) assert.deepEqual(read([text.slice(0, n), text.slice(n)]), whole, `cut at ${n}`);
  assert.deepEqual(read([...text]), whole);
});

test("the wait grows to ten seconds and varies", () => {
  assert.ok(backoff(1) >= 250 && backoff(1) <= 500);
  for (let n = 0; n < 50; n++) assert.ok(backoff(30) >= 5000 && backoff(30) <= 10000);
});

/** A server that answers its requests one after the other in these ways. */
async function serving(answers, run) {
  const asked = [];
  const server = createServer((request, response) => {
    asked.push(request.headers["last-event-id"] ?? null);
    answers[Math.min(asked.length, answers.length) - 1](response);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    await run(`http://127.0.0.1:${server.address().port}/`, asked);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}
const stream = (text) => (response) => {
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.end(text);
};
const status = (code) => (response) => {
  response.writeHead(code);
  response.end();
};

test("a stream goes on after its last id, and 204 ends it", async () => {
  await serving([stream("id: 7\ndata: x\n\ndata: y\n\n"), status(503), status(204)], async (url, asked) => {
    const got = [];
    const lost = [];
    const ended = await new Promise((resolve) => follow({ url: () => url, event: (e) => got.push(e.data), lost: (tries) => lost.push(tries), end: resolve }));
    assert.equal(ended, 204);
    assert.deepEqual(got, ["x", "y"]);
    assert.deepEqual(asked, [null, "7", "7"]);
    assert.deepEqual(lost, [1, 2], "what was heard ends the row of failures");
  });
});

test("nothing but a retry is a stream that cannot be served now", async () => {
  await serving([stream("retry: 30\n\n"), status(404)], async (url) => {
    let opened = false;
    const waits = [];
    const ended = await new Promise((resolve) => follow({ url: () => url, event: () => {}, open: () => (opened = true), lost: (_, wait) => waits.push(wait), end: resolve }));
    assert.equal(ended, 404);
    assert.equal(opened, false);
    assert.equal(waits.length, 1);
  });
});

test("who stops hears nothing more", async () => {
  await serving([(response) => {
    response.writeHead(200);
    response.write("data: 1\n\n");
    setTimeout(() => response.write("data: 2\n\n"), 50);
  }], async (url) => {
    const got = [];
    const stream = await new Promise((resolve) => {
      const made = follow({ url: () => url, event: (e) => { got.push(e.data); resolve(made); } });
    });
    stream.stop();
    await new Promise((resolve) => setTimeout(resolve, 150));
    assert.deepEqual(got, ["1"]);
  });
});
