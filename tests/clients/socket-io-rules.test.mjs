// Rules of the Socket.IO protocol, revision 5, by the sections of github.com/socketio/socket.io-protocol. The server under
// test has the namespaces / and /custom, sends the payload of CONNECT back as "auth", each "message" as "message-back",
// and acknowledges "message-with-ack" with its arguments.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { Wire } from "./wire.mjs";

const path = "/socket.io/";

/** A placeholder for each of two attachments: section "Packet encoding, Format". */
const PLACEHOLDERS = '{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}';

const ATTACHMENTS = [[1, 2, 3], [4, 5, 6]];

async function open(t) {
  const wire = await Wire.open(t, path);
  assert.match(await wire.message(), /^0/);
  return wire;
}

/** Joins `namespace`, such as "/custom,", and passes over what is said to it first. */
async function joined(t, namespace = "", wire) {
  wire ??= await open(t);
  wire.send(`40${namespace}`);
  assert.match(await wire.packet(), /^40/);
  assert.match(await wire.packet(), /^42.*"auth"/);
  return wire;
}

describe("Connection to a namespace", () => {
  for (const namespace of ["", "/custom,"]) {
    for (const payload of ["", '{"token":"123"}']) {
      test(`"40${namespace}${payload}" is answered an id of its own`, async (t) => {
        const wire = await open(t);
        wire.send(`40${namespace}${payload}`);
        const answer = await wire.packet();
        assert.ok(answer.startsWith(`40${namespace}{`), answer);
        const body = JSON.parse(answer.slice(2 + namespace.length));
        assert.deepEqual(Object.keys(body), ["sid"]);
        assert.equal(typeof body.sid, "string");
        assert.equal(await wire.packet(), `42${namespace}["auth",${payload || "{}"}]`);
      });
    }
  }

  test("an unknown namespace is refused, and the others are not", async (t) => {
    const wire = await open(t);
    wire.send("40/random");
    assert.equal(await wire.packet(), '44/random,{"message":"Invalid namespace"}');
    await joined(t, "", wire);
  });

  test("a client that sends no CONNECT is closed", async (t) => {
    const wire = await open(t);
    await wire.end();
  });

  test("a first packet that is none closes the connection", async (t) => {
    const wire = await open(t);
    wire.send("4abc");
    await wire.end();
  });
});

describe("Disconnection from a namespace", () => {
  test("it leaves the connection as it is", async (t) => {
    const wire = await joined(t);
    wire.send("41");
    await joined(t, "/custom,", wire);
  });

  test("it leaves the other namespaces as they are", async (t) => {
    const wire = await joined(t);
    await joined(t, "/custom,", wire);
    wire.send("41/custom,");
    wire.send('42["message","to the main namespace"]');
    assert.equal(await wire.packet(), '42["message-back","to the main namespace"]');
  });
});

describe("Sending and receiving data", () => {
  test("an event has any arguments of JSON", async (t) => {
    const wire = await joined(t);
    wire.send('42["message",1,"2",{"3":[true]}]');
    assert.equal(await wire.packet(), '42["message-back",1,"2",{"3":[true]}]');
  });

  test("an event has attachments", async (t) => {
    const wire = await joined(t);
    for (const message of [`452-["message",${PLACEHOLDERS}]`, ...ATTACHMENTS]) wire.send(message);
    for (const message of [`452-["message-back",${PLACEHOLDERS}]`, ...ATTACHMENTS]) assert.deepEqual(await wire.packet(), message);
  });
});

describe("Acknowledgement", () => {
  test("an acknowledgement has the id of its event", async (t) => {
    const wire = await joined(t);
    wire.send('42456["message-with-ack",1,"2",{"3":[false]}]');
    assert.equal(await wire.packet(), '43456[1,"2",{"3":[false]}]');
  });

  test("an acknowledgement has attachments", async (t) => {
    const wire = await joined(t);
    for (const message of [`452-789["message-with-ack",${PLACEHOLDERS}]`, ...ATTACHMENTS]) wire.send(message);
    for (const message of [`462-789[${PLACEHOLDERS}]`, ...ATTACHMENTS]) assert.deepEqual(await wire.packet(), message);
  });
});

describe("Packet encoding", () => {
  const bad = { "an unknown type": "4abc", "a payload that is no array": "42{}", "an id that is no number": '42abc["message-with-ack",1]' };
  for (const [name, packet] of Object.entries(bad)) {
    test(`${name} closes the connection`, async (t) => {
      const wire = await joined(t);
      wire.send('42["message",1]');
      assert.equal(await wire.packet(), '42["message-back",1]');
      wire.send(packet);
      await wire.end();
    });
  }
});
