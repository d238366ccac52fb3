// Two namespaces over one manager of socket.io-client 4: one connection, and in each namespace a token, rooms and an end of its own.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { Manager } from "socket.io-client";

import { beforeDeadline, call, login, next, required } from "./support.mjs";

let gateway, alice, bob;

before(async () => {
  gateway = required("GATEWAY_URL");
  const issuer = required("ISSUER_URL");
  alice = await login(issuer, "alice", required("ALICE_PASSWORD"));
  bob = await login(issuer, "bob", required("BOB_PASSWORD"));
});

/** A manager, which is closed at the end of the test. */
function manager(t, options = {}) {
  const own = new Manager(gateway, { reconnection: false, ...options });
  t.after(() => own._close());
  return own;
}

/** A room that no other test is in. */
function ownRoom() {
  return `desk:${Math.random()}`;
}

/** A socket of `namespace` on a manager, once it is connected. */
async function socket(own, namespace, token) {
  const made = own.socket(namespace, { auth: { token } });
  await beforeDeadline("connection", (resolve, reject) => {
    made.once("connect", resolve);
    made.once("connect_error", reject);
  });
  return made;
}

for (const transports of [["websocket"], ["polling"], ["polling", "websocket"]]) {
  test(`two namespaces share a connection and no room: ${transports.join(", then ")}`, async (t) => {
    const own = manager(t, { transports });
    const [main, admin] = await Promise.all([socket(own, "/", alice), socket(own, "/admin", alice)]);
    assert.equal(main.io.engine, admin.io.engine);
    assert.notEqual(main.id, admin.id);
    const [heard, room] = [[], ownRoom()];
    for (const [name, one] of [["main", main], ["admin", admin]]) {
      one.on("message", (data, meta) => heard.push([name, data, meta.room]));
      assert.equal((await call(one, "rt:subscribe", { room })).offset, 0);
    }
    const publish = (one, data) => call(one, "rt:publish", { room, event: "message", data });
    const arrived = next(main, "message");
    assert.equal((await publish(admin, Buffer.from([0, 255]))).offset, 1);
    assert.equal((await publish(main, "hello")).offset, 1);
    await arrived;
    assert.deepEqual(heard, [["admin", Buffer.from([0, 255]), room], ["main", "hello", room]]);
  });
}

test("each namespace has its own token, and a refusal in one disturbs no other", async (t) => {
  const own = manager(t);
  const main = await socket(own, "/", alice);
  await assert.rejects(socket(own, "/admin", "no.to.ken"), (error) => error.data.type === "UnauthorizedError");
  await assert.rejects(socket(own, "/other", alice), { message: "Invalid namespace" });
  // Bob's token in `/admin`, on Alice's connection.
  const twin = await socket(manager(t), "/admin", bob);
  assert.equal((await call(twin, "rt:subscribe", { room: "lobby" })).ok, true);
  assert.equal((await call(main, "rt:subscribe", { room: "lobby" })).ok, true);
});

test("a namespace that is left takes no other along, and can be entered again", async (t) => {
  const own = manager(t);
  const [main, admin] = await Promise.all([socket(own, "/", alice), socket(own, "/admin", bob)]);
  admin.disconnect();
  assert.equal((await call(main, "rt:subscribe", { room: "lobby" })).ok, true);
  assert.equal(main.connected, true);
  const connected = next(admin, "connect");
  admin.connect();
  await connected;
  assert.equal((await call(admin, "rt:subscribe", { room: "lobby" })).ok, true);
});

test("both namespaces come back by themselves when their connection ends", async (t) => {
  const own = manager(t, { reconnection: true, reconnectionDelay: 50 });
  const [main, admin] = await Promise.all([socket(own, "/", alice), socket(own, "/admin", alice)]);
  const back = Promise.all([next(main, "connect"), next(admin, "connect")]);
  own.engine.close();
  await back;
  for (const one of [main, admin]) {
    assert.equal((await call(one, "rt:subscribe", { room: "lobby" })).ok, true);
  }
});
