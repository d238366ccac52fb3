// The shop of docs/recipes.md, behind a gateway, as stock clients see it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout } from "node:timers/promises";

import { io } from "socket.io-client";

import { beforeDeadline, call, login, next, required, unverifiedClaims } from "./support.mjs";

async function connected(t, name, password) {
  const token = await login(required("ISSUER_URL"), name, password);
  const socket = io(required("GATEWAY_URL"), { auth: { token }, forceNew: true, reconnection: false });
  t.after(() => socket.close());
  await next(socket, "connect");
  return socket;
}

/** Emits an event, and returns all arguments of its acknowledgement. */
const acknowledged = (socket, ...event) =>
  beforeDeadline(event[0], (resolve) => socket.emit(...event, (...answer) => resolve(answer)));

test("an order is placed, entered by its owner alone, and announced", async (t) => {
  const alice = await connected(t, "alice", required("ALICE_PASSWORD"));
  const bob = await connected(t, "bob", required("BOB_PASSWORD"));
  await call(bob, "rt:subscribe", { room: "lobby" });
  const ordered = next(bob, "ordered");
  const [word, { order }] = await acknowledged(alice, "shop:order", "tea");
  assert.equal(word, "placed");
  const [news, meta] = await ordered;
  assert.deepEqual(news, { order, item: "tea" });
  assert.deepEqual(meta.from, { sub: "backend:shop" });
  const label = Buffer.from([0, 1, 254, 255]);
  const printed = next(alice, "printed");
  assert.deepEqual(await acknowledged(alice, "shop:label", label), ["printed", label]);
  assert.deepEqual(await printed, [label]);
  const refused = { ok: false, error: "this is not your order" };
  assert.deepEqual(await acknowledged(bob, "shop:enter", order), [refused]);
  const again = await connected(t, "alice", required("ALICE_PASSWORD"));
  assert.deepEqual(await acknowledged(again, "shop:enter", order), [{ ok: true }]);
  const told = [alice, again].map((socket) => next(socket, "ready"));
  let overheard = false;
  bob.on("ready", () => (overheard = true));
  assert.deepEqual(await acknowledged(bob, "shop:ready", order), [{ ok: true }]);
  for (const [data] of await Promise.all(told)) assert.deepEqual(data, { order });
  await call(bob, "rt:unsubscribe", { room: "lobby" });
  assert.equal(overheard, false);
  const left = async () => Object.values((await acknowledged(bob, "shop:left", 0))[0]);
  const user = unverifiedClaims(alice.auth.token).sub;
  assert.deepEqual(await left(), []);
  for (const socket of [alice, again]) socket.close();
  const names = await beforeDeadline("the shop is told who left", async (resolve) => {
    let told = [];
    for (; told.length < 3; told = await left()) await setTimeout(50);
    resolve(told);
  });
  assert.deepEqual(names.sort(), [user, user, `order:${order}`].sort());
});
