// Rules of the Engine.IO protocol, revision 4, about sessions, by the sections of github.com/socketio/engine.io-protocol.
// CONFORMANCE_PATH is where the server under test speaks it.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { required } from "./support.mjs";
import { Polling, Wire, send } from "./wire.mjs";

const path = required("CONFORMANCE_PATH");

/** Members of the handshake, and no others. */
const MEMBERS = ["maxPayload", "pingInterval", "pingTimeout", "sid", "upgrades"];

function assertHandshake(handshake, upgrades) {
  assert.deepEqual(Object.keys(handshake).sort(), MEMBERS);
  assert.equal(typeof handshake.sid, "string");
  assert.deepEqual(handshake.upgrades, upgrades);
  assert.deepEqual([handshake.pingInterval, handshake.pingTimeout, handshake.maxPayload], [300, 2000, 1_000_000]);
}

describe("Handshake", () => {
  test("a GET opens a session that can upgrade", async () => {
    assertHandshake((await Polling.open(path)).handshake, ["websocket"]);
  });

  test("a WebSocket opens a session that has nothing to upgrade to", async (t) => {
    const wire = await Wire.open(t, path);
    const first = await wire.message();
    assert.equal(first[0], "0");
    assertHandshake(JSON.parse(first.slice(1)), []);
  });

  // Section "Query parameters".
  const bad = { "no EIO": { EIO: undefined }, "an unknown EIO": { EIO: "abc" }, "no transport": { transport: undefined }, "an unknown transport": { transport: "abc" } };
  for (const [name, parameters] of Object.entries(bad)) {
    test(`${name} is answered 400`, async (t) => {
      assert.equal((await send("GET", path, { transport: "polling", ...parameters })).status, 400);
      assert.equal((await send("GET", path, { transport: "polling" })).status, 200);
      await assert.rejects(Wire.open(t, path, parameters), /HTTP 400/);
    });
  }

  test("only a GET opens a session", async () => {
    for (const method of ["POST", "PUT"]) assert.equal((await send(method, path, { transport: "polling" })).status, 400, method);
  });

  test("an unknown sid is answered 400", async () => {
    const session = await Polling.open(path);
    assert.equal((await send("POST", path, { transport: "polling", sid: session.handshake.sid }, "3")).status, 200);
    assert.equal((await send("POST", path, { transport: "polling", sid: "abc" }, "3")).status, 400);
  });
});

describe("Heartbeat", () => {
  test("a poll brings pings, as long as they are answered", async () => {
    const session = await Polling.open(path);
    for (let round = 0; round < 3; round++) {
      assert.deepEqual(await session.get(), { status: 200, text: "2" });
      assert.equal((await session.post("3")).status, 200);
    }
  });

  test("a session that polls and answers no ping is closed", async () => {
    const session = await Polling.open(path);
    assert.deepEqual(await session.get(), { status: 200, text: "2" });
    let last;
    do last = await session.get();
    while (last.status === 200);
    assert.equal(last.status, 400);
  });

  test("a WebSocket brings pings, as long as they are answered", async (t) => {
    const wire = await Wire.open(t, path);
    await wire.message();
    for (let round = 0; round < 3; round++) {
      assert.equal(await wire.message(), "2");
      wire.send("3");
    }
  });

  test("a WebSocket that answers no ping is closed", async (t) => {
    const wire = await Wire.open(t, path);
    await wire.end({ answersPings: false });
  });
});

describe("Protocol, packet close", () => {
  test("a session that polls is closed, and the poll under way is answered", async () => {
    const session = await Polling.open(path);
    // No ping comes in place of the answer below.
    assert.deepEqual(await session.get(), { status: 200, text: "2" });
    assert.equal((await session.post("3")).status, 200);
    const polled = session.get();
    assert.equal((await session.post("1")).status, 200);
    // The two requests have a connection each, so the poll may come after the close.
    const { status, text } = await polled;
    assert.ok(status === 400 || (status === 200 && text === "6"), `${status} ${text}`);
    assert.equal((await session.get()).status, 400);
  });

  test("a WebSocket is closed", async (t) => {
    const wire = await Wire.open(t, path);
    wire.send("1");
    await wire.end();
  });
});

describe("Upgrade", () => {
  /** A session that has upgraded. */
  async function upgraded(t) {
    const session = await Polling.open(path);
    const wire = await session.webSocket(t);
    wire.send("2probe");
    assert.equal(await wire.message(), "3probe");
    const polled = await session.get();
    wire.send("5");
    return { session, wire, polled };
  }

  test("the probe is answered, and the poll under way ends with a noop", async (t) => {
    const { polled, wire } = await upgraded(t);
    assert.deepEqual(polled, { status: 200, text: "6" });
    assert.equal(await wire.message(), "2");
    wire.send("3");
    assert.equal(await wire.message(), "2");
  });

  test("after it, requests of polling are answered 400", async (t) => {
    const { session, wire } = await upgraded(t);
    assert.equal(await wire.message(), "2");
    assert.equal((await session.get()).status, 400);
    assert.equal((await session.post("3")).status, 400);
    wire.send("3");
    assert.equal(await wire.message(), "2");
  });

  test("after it, another WebSocket of the session is closed", async (t) => {
    const { session, wire } = await upgraded(t);
    assert.equal(await wire.message(), "2");
    const another = session.webSocket(t);
    if (process.env.CONFORMANCE_CARRIER === "socketioxide") await assert.rejects(another, /HTTP 400/);
    else await (await another).end();
    wire.send("3");
    assert.equal(await wire.message(), "2");
  });
});
