// Rules of the Engine.IO protocol, revision 4, about messages, by the sections of github.com/socketio/engine.io-protocol.
// The server under test sends each message back at /engine.io/.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { Polling, SEPARATOR, Wire } from "./wire.mjs";

const path = "/engine.io/";

describe("HTTP long-polling", () => {
  const payloads = {
    "a text": "4hello ☃",
    "several texts": ["4one", "4two", "4three"].join(SEPARATOR),
    "a text and bytes": ["4hello", "bAQIDBA=="].join(SEPARATOR),
  };
  for (const [name, payload] of Object.entries(payloads)) {
    test(`${name} goes by POST and comes by GET`, async () => {
      const session = await Polling.open(path);
      assert.deepEqual(await session.post(payload), { status: 200, text: "ok" });
      assert.deepEqual(await session.packets(), { status: 200, text: payload });
    });
  }

  test("a packet that is none closes the session", async () => {
    const session = await Polling.open(path);
    assert.equal((await session.post("4abc")).status, 200);
    assert.equal((await session.post("abc")).status, 400);
    assert.equal((await session.get()).status, 400);
  });

  test("a second poll beside the first closes the session", async () => {
    const session = await Polling.open(path);
    const polls = [session.get(), session.get()];
    const answers = (await Promise.all(polls)).sort((one, other) => one.status - other.status);
    assert.deepEqual(answers[0], { status: 200, text: "1" });
    assert.equal(answers[1].status, 400);
    assert.equal((await session.get()).status, 400);
  });
});

describe("WebSocket", () => {
  test("a text and bytes are a message each", async (t) => {
    const wire = await Wire.open(t, path);
    await wire.message();
    for (const message of ["4hello ☃", [1, 2, 3, 4]]) {
      wire.send(message);
      assert.deepEqual(await wire.packet(), message);
    }
  });

  test("a packet that is none closes the connection", async (t) => {
    const wire = await Wire.open(t, path);
    wire.send("abc");
    await wire.end();
  });
});

describe("Upgrade", () => {
  test("messages go by the WebSocket from then on", async (t) => {
    const session = await Polling.open(path);
    const wire = await session.webSocket(t);
    wire.send("2probe");
    assert.equal(await wire.message(), "3probe");
    wire.send("5");
    wire.send("4hello");
    assert.equal(await wire.packet(), "4hello");
  });
});
