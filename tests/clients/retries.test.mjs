// Options of socket.io-client 4 that send an event again: what becomes of a publication with an `id`, and of one without.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { road } from "./road.mjs";
import { connected, start } from "./sockets.mjs";
import { beforeDeadline, call, login, next, required } from "./support.mjs";

let gateway, alice, bob;

before(async () => {
  gateway = required("GATEWAY_URL");
  const issuer = required("ISSUER_URL");
  alice = await login(issuer, "alice", required("ALICE_PASSWORD"));
  bob = await login(issuer, "bob", required("BOB_PASSWORD"));
});

/** Bob, who hears what arrives in the lobby. */
async function listener(t) {
  const socket = await connected(start(t, 4, gateway, { auth: { token: bob } }));
  await call(socket, "rt:subscribe", { room: "lobby" });
  const heard = [];
  socket.on("message", (data) => heard.push(data.text));
  /** Messages that were heard until a last one of his own, since it was asked last. */
  const all = async () => {
    const last = `last ${Math.random()}`;
    const told = beforeDeadline("his own message", (resolve) => socket.on("message", (data) => data.text === last && resolve()));
    await call(socket, "rt:publish", { room: "lobby", event: "message", data: { text: last } });
    await told;
    return heard.splice(0).filter((text) => text !== last);
  };
  return { socket, all };
}

/** Alice, by a client that sends again. */
async function publisher(t, url, options) {
  const socket = start(t, 4, url, { auth: { token: alice }, transports: ["websocket"], reconnection: true, reconnectionDelay: 50, retries: 3, ...options });
  return connected(socket);
}

/** Publishes `text` with the callback of a client that sends again: (error, answer). */
function publish(socket, text, id) {
  return beforeDeadline("acknowledgement", (resolve) => {
    socket.emit("rt:publish", { room: "lobby", event: "message", data: { text }, ...(id && { id }) }, (...outcome) => resolve(outcome));
  });
}

for (const [name, id, count] of [["with an id", "order-1", 1], ["without an id", undefined, 2]]) {
  test(`retries and ackTimeout: a publication ${name} whose answer is lost arrives ${count === 1 ? "once" : "twice"}`, async (t) => {
    const way = await road(t, gateway);
    const { socket: bobs, all } = await listener(t);
    const socket = await publisher(t, way.url, { ackTimeout: 500 });
    way.loseAnswers();
    const arrived = next(bobs, "message");
    const published = publish(socket, "pay", id);
    await arrived;
    way.mend();
    const [error, answer] = await published;
    assert.equal(error, null);
    assert.equal(answer.ok, true, JSON.stringify(answer));
    assert.deepEqual(await all(), Array(count).fill("pay"));
  });
}

test("retries without ackTimeout: an answer is taken for an error, and the event sent again", async (t) => {
  const { all } = await listener(t);
  const socket = await publisher(t, gateway);
  const [error, answer] = await publish(socket, "pay", "order-2");
  assert.equal(error.ok, true, JSON.stringify(error));
  assert.equal(answer, undefined);
  assert.deepEqual(await all(), ["pay"]);
  await publish(socket, "pay again");
  assert.deepEqual(await all(), Array(4).fill("pay again"));
});

test("recovered is never true, whatever the client asks to recover", async (t) => {
  const socket = start(t, 4, gateway, { auth: { token: alice }, autoConnect: false });
  // As if another server had offered to recover the connection.
  socket._pid = "a-session";
  socket._lastOffset = "a-place";
  socket.connect();
  await connected(socket);
  assert.ok(!socket.recovered);
  const { epoch, offset } = await call(socket, "rt:subscribe", { room: "lobby" });
  assert.equal((await call(socket, "rt:publish", { room: "lobby", event: "message", data: {} })).ok, true);
  const since = await call(socket, "rt:subscribe", { room: "lobby", since: { epoch, offset } });
  assert.equal(since.recovered, true, JSON.stringify(since));
  assert.equal(since.messages.length, 1);
});
