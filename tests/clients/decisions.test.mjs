// A back end that decides on clients, rooms and messages, as stock clients see it. The harness has the back end:
// it refuses bob, takes everybody else into `staff`, allows `desk:7` alone, and replaces each message there.

import assert from "node:assert/strict";
import { test } from "node:test";

import { io } from "socket.io-client";

import { call, login, next, required } from "./support.mjs";

async function open(t, name, password, options = {}) {
  const token = await login(required("ISSUER_URL"), name, password);
  const settings = { auth: { token }, forceNew: true, reconnection: false, ...options };
  const socket = io(required("GATEWAY_URL"), settings);
  t.after(() => socket.close());
  return socket;
}

for (const transports of [["websocket"], ["polling"]]) {
  test(`a client that is refused is told why, by ${transports}`, async (t) => {
    const bob = await open(t, "bob", required("BOB_PASSWORD"), { transports });
    const [error] = await next(bob, "connect_error");
    assert.equal(error.message, "refused by the back end");
    assert.equal(error.data.reason, "refused_by_back_end");
    assert.equal(error.data.detail, "bob is on holiday");
  });
}

test("rooms are decided on, and a message is replaced", async (t) => {
  const alice = await open(t, "alice", required("ALICE_PASSWORD"));
  await next(alice, "connect");
  const refused = await call(alice, "rt:subscribe", { room: "desk:8" });
  assert.equal(refused.error.code, "forbidden");
  const entered = await call(alice, "rt:subscribe", { room: "desk:7" });
  assert.deepEqual([entered.ok, entered.can, entered.asks], [true, ["sub"], ["pub"]]);
  const heard = next(alice, "say");
  const published = await call(alice, "rt:publish", { room: "desk:7", event: "say", data: "rude" });
  assert.equal(published.ok, true);
  assert.equal((await heard)[0], "reviewed");
});
