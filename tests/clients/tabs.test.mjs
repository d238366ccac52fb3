// The module of docs/clients.md for several tabs, as it stands there, in two tabs of Chromium.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";

import { launch } from "./browser.mjs";
import { DEADLINE_MS, required } from "./support.mjs";

let gateway, issuer, password, browser, source;

before(async () => {
  gateway = required("GATEWAY_URL");
  issuer = required("ISSUER_URL");
  password = required("ALICE_PASSWORD");
  browser = await launch();
  const page = await readFile(new URL("../../docs/clients.md", import.meta.url), "utf8");
  const blocks = page.match(/^```js\n[^]*?^```$/gm).map((block) => block.slice("```js\n".length, -"```".length));
  source = blocks.find((block) => block.includes("navigator.locks"));
  assert.ok(source?.includes("http://localhost:8080"), "docs/clients.md has no module for tabs");
  source = source.replace("http://localhost:8080", issuer);
});

after(() => browser?.close());

/** Opens two tabs with the module, in one of which alice signs in. */
async function open(t) {
  const context = await browser.newContext();
  context.setDefaultTimeout(DEADLINE_MS);
  t.after(() => context.close());
  const refreshes = [];
  context.on("request", (request) => {
    if (request.method() === "POST" && request.url() === `${issuer}/token/refresh`) refreshes.push(request);
  });
  await context.route("**/tabs.mjs", (route) => route.fulfill({ contentType: "text/javascript", body: source }));
  const tabs = [await context.newPage(), await context.newPage()];
  for (const tab of tabs) {
    await tab.goto(`${gateway}/health/live`);
    await tab.evaluate(async () => (window.session = await import("/tabs.mjs")));
  }
  await tabs[0].evaluate((password) => window.session.signIn("alice", password), password);
  const inEach = (run) => Promise.all(tabs.map((tab) => tab.evaluate(run)));
  return { context, tabs, inEach, refreshes };
}

const getToken = () => window.session.getToken();

const replaceToken = () => {
  window.session.distrustToken();
  return window.session.getToken();
};

test("tabs that distrust a token at the same time refresh it once", async (t) => {
  const { inEach, refreshes } = await open(t);
  const [first, same] = await inEach(getToken);
  assert.equal(first, same);
  assert.equal(refreshes.length, 0);
  const [next, other] = await inEach(replaceToken);
  assert.notEqual(next, first);
  assert.equal(next, other);
  assert.equal(refreshes.length, 1);
});

test("tabs go on once an issuer that was away is back", async (t) => {
  const { context, tabs, inEach, refreshes } = await open(t);
  const [first] = await inEach(getToken);
  await context.route(`${issuer}/**`, (route) => route.abort());
  const failed = await Promise.allSettled(tabs.map((tab) => tab.evaluate(replaceToken)));
  for (const { reason } of failed) assert.match(reason.message, /Failed to fetch/);
  await context.unroute(`${issuer}/**`);
  const before = refreshes.length;
  const [next, other] = await inEach(getToken);
  assert.notEqual(next, first);
  assert.equal(next, other);
  assert.equal(refreshes.length, before + 1);
});
