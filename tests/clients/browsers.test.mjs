// The clients from npm in browsers, which send and take binary data in forms of their own.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { launch, open } from "./browser.mjs";
import { launchFirefox, openInFirefox } from "./firefox.mjs";
import { beforeDeadline, login, required } from "./support.mjs";

const BUNDLES = { 2: "socket.io-client-2/dist/socket.io.js", 3: "socket.io-client-3/dist/socket.io.js", 4: "socket.io-client/dist/socket.io.js" };

const TRANSPORTS = { polling: ["polling"], websocket: ["websocket"], "polling, then an upgrade": ["polling", "websocket"] };

/** One byte of each value, and as many as need several digits to count. */
const LENGTHS = [256, 70_000];

const BROWSERS = {
  Chromium: { launch, open },
  Firefox: { launch: launchFirefox, open: openInFirefox },
};

let gateway, other, token;

before(async () => {
  gateway = required("GATEWAY_URL");
  // The other name of this machine, which is listed too.
  other = gateway.includes("localhost") ? gateway.replace("localhost", "127.0.0.1") : gateway.replace("127.0.0.1", "localhost");
  token = await login(required("ISSUER_URL"), "alice", required("ALICE_PASSWORD"));
});

/** Has `open` open a page of an origin of the gateway that has no scripts, and adds a client to it. */
async function addClient(open, generation, origin = gateway) {
  const { page } = await open(`${origin}/health/live`);
  await page.addScriptTag({ path: fileURLToPath(new URL(`node_modules/${BUNDLES[generation]}`, import.meta.url)) });
  return page;
}

/** Publishes bytes of each length, in the page, and answers those that came back and the transport that was used. */
function exchange({ url, token, transports, lengths, ...options }) {
  const socket = window.io(url, { query: { token }, transports, reconnection: false, ...options });
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

for (const [browserName, { launch, open }] of Object.entries(BROWSERS)) {
  let browser;

  before(async () => (browser = await launch()));

  after(() => browser?.close());

  for (const generation of [2, 3, 4]) {
    const openClient = (t, origin) => addClient((url) => open(t, browser, url), generation, origin);

    describe(`socket.io-client ${generation} in ${browserName}`, () => {
      for (const [name, transports] of Object.entries(TRANSPORTS)) {
        for (const forceBase64 of [false, true]) {
          test(`exchanges binary data over ${name}${forceBase64 ? ", as base64" : ""}`, async (t) => {
            const page = await openClient(t);
            const exchanged = page.evaluate(exchange, { url: gateway, token, transports, forceBase64, lengths: LENGTHS });
            const { heard, transport } = await beforeDeadline("exchange", (...outcome) => exchanged.then(...outcome));
            const expected = LENGTHS.map((length) => Array.from({ length }, (_, index) => index % 256));
            assert.deepEqual(heard, expected);
            assert.equal(transport, transports.at(-1));
          });
        }

        for (const isSame of [true, false]) {
          for (const withCredentials of [false, true]) {
            const title = `connects from ${isSame ? "the same" : "another"} origin over ${name} ${withCredentials ? "with" : "without"} credentials`;
            test(title, async (t) => {
              const page = await openClient(t, isSame ? gateway : other);
              // Headers that tools for tracing add; a WebSocket takes none from a page.
              const transportOptions = { polling: { extraHeaders: { traceparent: "00-0-0-00" }, withCredentials } };
              const exchanged = page.evaluate(exchange, { url: gateway, token, transports, withCredentials, transportOptions, lengths: [1] });
              const { heard } = await beforeDeadline("exchange", (...outcome) => exchanged.then(...outcome));
              assert.deepEqual(heard, [[0]]);
            });
          }
        }
      }
    });
  }
}
