// The clients from npm in a browser, which sends and takes binary data in forms of its own.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { launch, open } from "./browser.mjs";
import { beforeDeadline, login, required } from "./support.mjs";

const BUNDLES = { 2: "socket.io-client-2/dist/socket.io.js", 3: "socket.io-client-3/dist/socket.io.js", 4: "socket.io-client/dist/socket.io.js" };

const TRANSPORTS = { polling: ["polling"], websocket: ["websocket"], "polling, then an upgrade": ["polling", "websocket"] };

/** One byte of each value, and as many as need several digits to count. */
const LENGTHS = [256, 70_000];

let gateway, token, browser;

before(async () => {
  gateway = required("GATEWAY_URL");
  token = await login(required("ISSUER_URL"), "alice", required("ALICE_PASSWORD"));
  browser = await launch();
});

after(() => browser?.close());

/** Opens a page of the gateway's origin that has no scripts, with a client in it. */
async function openClient(t, generation) {
  const { page } = await open(t, browser, `${gateway}/health/live`);
  await page.addScriptTag({ path: fileURLToPath(new URL(`node_modules/${BUNDLES[generation]}`, import.meta.url)) });
  return page;
}

/** Publishes bytes of each length, in the page, and answers those that came back and the transport that was used. */
function exchange({ token, transports, forceBase64, lengths }) {
  const socket = window.io({ query: { token }, transports, forceBase64, reconnection: false });
  const call = (event, payload) => new Promise((resolve) => socket.emit(event, payload, resolve));
  return new Promise((resolve, reject) => {
    for (const event of ["connect_error", "error"]) socket.on(event, (error) => reject(new Error(error.message ?? error)));
    socket.on("connect", async () => {
      const { engine } = socket.io;
      const last = transports[transports.length - 1];
      if (engine.transport.name !== last) await new Promise((upgraded) => engine.once("upgrade", upgraded));
      await call("rt:subscribe", { room: "lobby" });
      const heard = [];
      socket.on("message", (data) => {
        heard.push(Array.from(new Uint8Array(data.bytes)));
        if (heard.length < lengths.length) return;
        resolve({ heard, transport: engine.transport.name });
        socket.close();
      });
      for (const length of lengths) {
        const bytes = Uint8Array.from({ length }, (_, index) => index % 256).buffer;
        const answer = await call("rt:publish", { room: "lobby", event: "message", data: { bytes, text: "é😀" } });
        if (!answer.ok) reject(new Error(JSON.stringify(answer)));
      }
    });
  });
}

for (const generation of [2, 3, 4]) {
  describe(`socket.io-client ${generation} in Chromium`, () => {
    for (const [name, transports] of Object.entries(TRANSPORTS)) {
      for (const forceBase64 of [false, true]) {
        test(`exchanges binary data over ${name}${forceBase64 ? ", as base64" : ""}`, async (t) => {
          const page = await openClient(t, generation);
          const exchanged = page.evaluate(exchange, { token, transports, forceBase64, lengths: LENGTHS });
          const { heard, transport } = await beforeDeadline("exchange", (...outcome) => exchanged.then(...outcome));
          const expected = LENGTHS.map((length) => Array.from({ length }, (_, index) => index % 256));
          assert.deepEqual(heard, expected);
          assert.equal(transport, transports.at(-1));
        });
      }
    }
  });
}
