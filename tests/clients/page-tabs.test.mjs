// Logins, logouts and renewals of the gateway's page that meet in several tabs, and the refusals of a logout.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { ended, inLobby, launch, logIn, open as openIn, openTab } from "./browser.mjs";
import { beforeDeadline, required, statusOf } from "./support.mjs";

let browser;

before(async () => {
  browser = await launch();
});

after(() => browser?.close());

const open = async (t, options = {}, url = required("GATEWAY_URL")) => (await openIn(t, browser, url, options)).page;

const isCall = (path) => (request) => request.method() === "POST" && new URL(request.url()).pathname === path;
const isAnswer = (path, status) => (answer) => isCall(path)(answer.request()) && answer.status() === status;
const identified = (page, username) => page.getByTestId("identity").getByText(username).waitFor();

/** Opens a tab with the login form beside the page of somebody who is signed in. */
async function openForm(page) {
  const tab = await openTab(page);
  await inLobby(tab);
  await tab.evaluate(() => localStorage.clear());
  await tab.reload();
  await tab.getByTestId("login-form").waitFor();
  return tab;
}

/** Logs in, and resolves to the access token of the answer. */
async function tokenOf(page, username) {
  const answer = page.waitForResponse(isAnswer("/login", 200));
  await logIn(page, username);
  const { token } = await (await answer).json();
  await inLobby(page);
  return token;
}

/** Holds the page's login back. Resolves, once the page has sent the login, to a function that lets the login pass. */
async function holdLogin(page, username) {
  let pass;
  const passed = new Promise((resolve) => (pass = resolve));
  const sent = page.waitForRequest(isCall("/login"));
  await page.route(/\/login$/, async (route) => {
    await passed;
    await route.continue();
  });
  await logIn(page, username);
  await sent;
  return pass;
}

/** Waits until a tab of the browser waits for the lock of another. */
const lockIsAwaited = (tab) => tab.waitForFunction(async () => (await navigator.locks.query()).pending.length === 1);

const goOnline = (tab) => tab.evaluate(() => window.dispatchEvent(new Event("online")));

test("a login takes the place of a session that another tab started meanwhile", async (t) => {
  const page = await open(t);
  const connections = [];
  page.on("websocket", (socket) => socket.url().includes("/socket.io/") && connections.push(socket));
  const tab = await openTab(page);
  await page.route(/\/login$/, async (route) => {
    await inLobby(page);
    await identified(page, "alice");
    await route.continue();
  });
  const pass = await holdLogin(tab, "alice");
  await logIn(page, "bob");
  pass();
  await identified(page, "bob");
  await inLobby(page);
  await ended(tab, "Another user signed in, in another tab of this browser.");
  const [first] = connections;
  await beforeDeadline("end of the first connection", (resolve) => (first.isClosed() ? resolve() : first.once("close", resolve)));
  assert.deepEqual(connections.map((connection) => connection.isClosed()), [true, false]);
});

for (const [outcome, username, prepare] of [
  ["that is granted", "bob", async () => {}],
  ["that is refused", "alice", (page) => page.context().clearCookies()],
]) {
  test(`a login in another tab overtakes a renewal ${outcome}, without Web Locks too`, async (t) => {
    const page = await open(t, { tolerated: /POST \/token\/refresh: HTTP 400/ });
    await logIn(page, "alice");
    await inLobby(page);
    const alice = await page.evaluate(() => localStorage.getItem("latchkey.signed-in"));
    const tab = await openForm(page);
    await page.evaluate((signedIn) => localStorage.setItem("latchkey.signed-in", signedIn), alice);
    await page.addInitScript(holdRenewal);
    await prepare(page);
    const renewed = page.waitForResponse((answer) => isCall("/token/refresh")(answer.request()));
    await page.reload();
    await renewed;
    await logIn(tab, username);
    await identified(page, username);
    await inLobby(page);
    await page.evaluate(() => window.passRenewal());
    await page.evaluate(() => fetch("/console/config.json").then((answer) => answer.text()));
    const kept = await page.evaluate(() => JSON.parse(localStorage.getItem("latchkey.signed-in")));
    assert.equal(kept?.username, username);
    for (const each of [page, tab]) assert.equal(await each.getByTestId("login-form").isVisible(), false);
  });
}

/** Runs in the page: takes the Web Locks away, and holds the answer to the renewal back until `passRenewal`. */
function holdRenewal() {
  Object.defineProperty(Navigator.prototype, "locks", { get: () => undefined });
  const passed = new Promise((resolve) => (window.passRenewal = resolve));
  const { fetch } = window;
  window.fetch = async (url, options) => {
    const answer = await fetch(url, options);
    if (String(url).endsWith("/token/refresh")) await passed;
    return answer;
  };
}

test("an unfinished logout waits for the login of another tab, and spares its session", async (t) => {
  const page = await open(t, { tolerated: /POST \/logout: net::ERR_FAILED/ });
  await logIn(page);
  await inLobby(page);
  const tab = await openTab(page);
  await inLobby(tab);
  await page.route(/\/logout$/, (route) => route.abort("failed"));
  await page.getByTestId("logout").click();
  await ended(page, "This page ends the session there as soon as it can.");
  await ended(tab, "You logged out in another tab.");
  const logouts = [];
  tab.on("request", (request) => isCall("/logout")(request) && logouts.push(request.url()));
  const pass = await holdLogin(page, "alice");
  await goOnline(tab);
  await lockIsAwaited(tab);
  pass();
  await inLobby(page);
  await inLobby(tab);
  await tab.evaluate(() => navigator.locks.request("latchkey-renewal", () => {}));
  assert.deepEqual(logouts, []);
  await page.reload();
  await inLobby(page);
});

test("a logout during the login of another tab ends its own session and keeps the cookie of the next", async (t) => {
  const page = await open(t);
  const token = await tokenOf(page, "alice");
  const tab = await openForm(page);
  const pass = await holdLogin(tab, "bob");
  const finished = page.waitForResponse(isAnswer("/logout", 204));
  await page.getByTestId("logout").click();
  await lockIsAwaited(page);
  pass();
  await finished;
  assert.equal(await statusOf(token), 401);
  await identified(page, "bob");
  for (const each of [page, tab]) {
    await each.reload();
    await inLobby(each);
    await identified(each, "bob");
  }
});

test("on another site, a logout ends the session of each tab at the issuer, when it can", async (t) => {
  const url = required("GATEWAY_URL").replace("127.0.0.1", "localhost");
  const page = await open(t, { tolerated: /POST \/token\/refresh: HTTP 400|POST \/logout: net::ERR_FAILED/ }, url);
  const first = await tokenOf(page, "alice");
  const tab = await openTab(page);
  await tab.getByTestId("login-form").waitFor();
  const second = await tokenOf(tab, "alice");
  await tab.route(/\/logout$/, (route) => route.abort("failed"));
  const failed = tab.waitForEvent("requestfailed", isCall("/logout"));
  await page.getByTestId("logout").click();
  await ended(page, "The session has ended, here and in every tab.");
  await ended(tab, "You logged out in another tab.");
  await failed;
  assert.deepEqual([await statusOf(first), await statusOf(second)], [401, 200]);
  await tab.unroute(/\/logout$/);
  const finished = tab.waitForResponse(isAnswer("/logout", 204));
  await goOnline(tab);
  await finished;
  assert.equal(await statusOf(second), 401);
});

for (const [status, code, text, isUnfinished] of [
  [403, "page_forbidden", "This page ends the session there as soon as it can.", true],
  [401, "invalid_token", "The session has ended, here and in every tab.", false],
]) {
  test(`after ${status} ${code} a logout is ${isUnfinished ? "unfinished" : "finished"}`, async (t) => {
    const page = await open(t, { tolerated: /POST \/logout: HTTP 40[13]/ });
    const token = await tokenOf(page, "alice");
    const headers = { "Access-Control-Allow-Origin": new URL(page.url()).origin, "Access-Control-Allow-Credentials": "true" };
    await page.route(/\/logout$/, (route) => route.fulfill({ status, headers, json: { code, detail: "Refused." } }));
    await page.getByTestId("logout").click();
    await ended(page, text);
    assert.equal(await page.evaluate(() => localStorage.getItem("latchkey.unfinished-logout") !== null), isUnfinished);
    await page.unroute(/\/logout$/);
    if (!isUnfinished) return;
    const finished = page.waitForResponse(isAnswer("/logout", 204));
    await page.reload();
    await finished;
    assert.equal(await statusOf(token), 401);
  });
}
