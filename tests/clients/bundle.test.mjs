// The client that the gateway serves beside Socket.IO, loaded by a page in Chromium.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { launch, open } from "./browser.mjs";
import { beforeDeadline, login, required } from "./support.mjs";

let gateway, other, token, browser;

before(async () => {
  gateway = required("GATEWAY_URL");
  // The other name of this machine, which is listed too.
  other = gateway.includes("localhost") ? gateway.replace("localhost", "127.0.0.1") : gateway.replace("127.0.0.1", "localhost");
  token = await login(required("ISSUER_URL"), "alice", required("ALICE_PASSWORD"));
  browser = await launch();
});

after(() => browser?.close());

/** Connects in the page, by the `io` that is a global or a module's, and answers what a subscription is answered. */
async function subscribe({ url, token, module }) {
  const io = module ? (await import(module)).io : window.io;
  const socket = io(url, { auth: { token }, reconnection: false });
  return new Promise((resolve, reject) => {
    socket.on("connect_error", (error) => reject(new Error(error.message)));
    socket.emit("rt:subscribe", { room: "lobby" }, (answer) => {
      socket.close();
      resolve(answer);
    });
  });
}

/** Runs `subscribe` in a page under a deadline. */
function subscribed(page, options) {
  const answer = page.evaluate(subscribe, { url: gateway, token, ...options });
  return beforeDeadline("answer", (...outcome) => answer.then(...outcome));
}

for (const name of ["socket.io.js", "socket.io.min.js"]) {
  test(`a page connects with ${name}`, async (t) => {
    const { page } = await open(t, browser, `${gateway}/health/live`);
    await page.addScriptTag({ url: `/socket.io/${name}` });
    assert.equal((await subscribed(page)).ok, true);
  });
}

test("a page of another listed origin imports the module and connects", async (t) => {
  const { page } = await open(t, browser, `${other}/health/live`);
  assert.equal((await subscribed(page, { module: `${gateway}/socket.io/socket.io.esm.min.js` })).ok, true);
});

test("a page of an origin that is not listed cannot import the module", async (t) => {
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  await page.route("http://unlisted.example/", (route) => route.fulfill({ contentType: "text/html", body: "<title>a page</title>" }));
  await page.goto("http://unlisted.example/");
  await assert.rejects(subscribed(page, { module: `${gateway}/socket.io/socket.io.esm.min.js` }), /dynamically imported module/);
});
