// The clients from npm against a stack whose gateway carries them by its own engine.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";

import { connected, start as startAt } from "./sockets.mjs";
import { beforeDeadline, call, login, next, required } from "./support.mjs";

const TRANSPORTS = { polling: { transports: ["polling"] }, websocket: { transports: ["websocket"] }, "polling, then an upgrade": {} };

let gateway, alice;

before(async () => {
  gateway = required("GATEWAY_URL");
  alice = await login(required("ISSUER_URL"), "alice", required("ALICE_PASSWORD"));
});

const start = (t, generation, options) => startAt(t, generation, gateway, options);

for (const generation of [2, 3, 4]) {
  describe(`socket.io-client ${generation}`, () => {
    for (const [name, options] of Object.entries(TRANSPORTS)) {
      for (const forceBase64 of [false, true]) {
        test(`exchanges binary data over ${name}${forceBase64 ? ", as base64" : ""}`, async (t) => {
          const socket = await connected(start(t, generation, { query: "token=" + alice, forceBase64, ...options }));
          const subscribed = await call(socket, "rt:subscribe", { room: "lobby" });
          assert.equal(subscribed.ok, true, JSON.stringify(subscribed));
          for (const length of [0, 5, 70_000]) {
            const bytes = Buffer.alloc(length, "\xff\x00\x1e");
            const heard = next(socket, "message");
            const ack = await call(socket, "rt:publish", { room: "lobby", event: "message", data: { bytes, text: "é😀" } });
            assert.equal(ack.ok, true, JSON.stringify(ack));
            const [data] = await heard;
            assert.equal(data.text, "é😀");
            assert.ok(bytes.equals(Buffer.from(data.bytes)), `${length} bytes`);
          }
        });
      }
    }
  });
}

for (const generation of [2, 3, 4]) {
  test(`socket.io-client ${generation}, polling, has the binary data that another client publishes`, async (t) => {
    const options = { query: "token=" + alice, transports: ["polling"], forceBase64: true };
    const [publisher, reader] = await Promise.all([start(t, 4, { query: "token=" + alice }), start(t, generation, options)].map(connected));
    await call(reader, "rt:subscribe", { room: "lobby" });
    // Nothing else waits for the reader: the message comes alone.
    for (const bytes of [Buffer.from([1, 2]), Buffer.from([3])]) {
      const heard = next(reader, "message");
      const ack = await call(publisher, "rt:publish", { room: "lobby", event: "message", data: { bytes } });
      assert.equal(ack.ok, true, JSON.stringify(ack));
      const [data] = await heard;
      assert.ok(bytes.equals(Buffer.from(data.bytes)));
    }
  });
}

const TEXTS = ["😀👩‍👩‍👧‍👦", "漢字かな交じり文", "e\u0301 \u2028 \u0000 \x1e", "🏴".repeat(500)];

for (const transport of ["polling", "websocket"]) {
  for (const generation of [2, 3, 4]) {
    test(`socket.io-client ${generation} has a burst of texts as they were sent over ${transport}, and half a character is refused`, async (t) => {
      const options = { query: "token=" + alice, transports: [transport] };
      const [publisher, reader] = await Promise.all([start(t, generation, options), start(t, generation, options)].map(connected));
      const { room } = await call(reader, "rt:subscribe", { room: "lobby" });
      const sent = Array.from({ length: 40 }, (_, index) => `${index} ${TEXTS[index % TEXTS.length]}`);
      const heard = [];
      const all = beforeDeadline("all texts", (resolve) => reader.on("message", (data) => heard.push(data) === sent.length && resolve()));
      const acks = await Promise.all(sent.map((data) => call(publisher, "rt:publish", { room, event: "message", data })));
      assert.deepEqual(acks.filter((ack) => !ack.ok), []);
      await all;
      assert.deepEqual(heard, sent);
      const refused = await call(publisher, "rt:publish", { room, event: "message", data: "\ud83d" });
      assert.equal(refused.error?.code, "invalid_request", JSON.stringify(refused));
    });
  }
}

for (const transport of ["polling", "websocket"]) {
  for (const generation of [2, 3, 4]) {
    test(`socket.io-client ${generation} stays away once it is refused over ${transport}`, async (t) => {
      const socket = start(t, generation, { query: "token=garbage", reconnection: true, transports: [transport] });
      const closed = beforeDeadline("close of the transport", (resolve) => socket.io.once("close", resolve));
      const [error] = await next(socket, generation === 2 ? "error" : "connect_error");
      assert.equal(error.message, "jwt malformed");
      await closed;
      // The two by which the client decides whether it connects again when the transport ends.
      assert.equal(socket.io.skipReconnect, true);
      assert.equal(socket.io.readyState ?? socket.io._readyState, "closed");
    });
  }
}

test("socket.io-client 4 learns the close code of a message that is too large", async (t) => {
  const socket = await connected(start(t, 4, { query: "token=" + alice, transports: ["websocket"] }));
  const left = next(socket, "disconnect");
  socket.emit("rt:publish", { room: "lobby", event: "message", data: "x".repeat(1_500_000) });
  const [reason, details] = await left;
  assert.equal(reason, "transport close");
  assert.equal(details.context.code, 1009);
});
