// Staying signed in on the gateway's page: reloads, renewals, tabs, sleep, a broken network, and logging out.

import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { after, before, test } from "node:test";

import { SIZES, assertAccessible, assertFitsWidth, bobIn, draw, ended, inLobby, launch, logIn, open as openIn, openTab, say } from "./browser.mjs";
import { beforeDeadline, required, statusOf } from "./support.mjs";

let browser;

before(async () => {
  browser = await launch();
});

after(() => browser?.close());

const open = async (t, prefix = "", options = {}) => (await openIn(t, browser, required(`${prefix}GATEWAY_URL`), options)).page;

async function openLobby(t, prefix = "", options = {}) {
  const page = await open(t, prefix, options);
  await logIn(page);
  await inLobby(page);
  return page;
}

const message = (page, text) => page.getByTestId("message-text").getByText(text, { exact: true });
const draft = (page) => page.getByTestId("composer-input").inputValue();
const isRefresh = (exchange) => new URL(exchange.url()).pathname === "/token/refresh";
const isAnswered = (answer) => isRefresh(answer) && answer.request().method() === "POST" && answer.status() === 200;

/** Stops the clock of scripts of `page` as a sleeping machine does. Resolves to a function that goes on with them. */
async function putToSleep(page) {
  const protocol = await page.context().newCDPSession(page);
  await protocol.send("Debugger.enable");
  const paused = beforeDeadline("pause", (resolve) => protocol.once("Debugger.paused", resolve));
  await protocol.send("Debugger.pause");
  const statement = protocol.send("Runtime.evaluate", { expression: "null" }).catch(() => {});
  await paused;
  return async () => {
    await protocol.send("Debugger.resume");
    await statement;
  };
}

/** The access token that the page receives next, with the next renewal. */
const nextToken = async (page) => (await (await page.waitForResponse(isAnswered)).json()).token;

/** Counts what a page does from now on: refreshes, connections, and renewals on a connection. */
class Counts extends EventEmitter {
  constructor(page) {
    super();
    Object.assign(this, { refreshes: 0, connections: 0, renewals: 0 });
    page.on("response", (answer) => isAnswered(answer) && this.#add("refreshes"));
    page.on("websocket", (socket) => {
      if (!socket.url().includes("/socket.io/")) return;
      this.#add("connections");
      socket.on("framesent", ({ payload }) => String(payload).includes('"authenticate"') && this.#add("renewals"));
    });
  }

  /** Waits until `what` has come to `least`. */
  reaches(what, least) {
    return beforeDeadline(`${what} that are ${least}`, (resolve) => {
      const ask = () => this[what] >= least && resolve();
      this.on("change", ask);
      ask();
    });
  }

  #add(what) {
    this[what] += 1;
    this.emit("change");
  }
}

for (const [size, options] of Object.entries(SIZES)) {
  test(`on ${size}, a reload stays signed in and keeps the draft, and no script can read a token`, async (t) => {
    const page = await openLobby(t, "", options);
    await assertAccessible(page);
    await page.getByTestId("composer-input").fill("Half a sen");
    await page.reload();
    await inLobby(page);
    assert.equal(await draft(page), "Half a sen");
    assert.equal(await page.getByTestId("login-form").isVisible(), false);

    const kept = await page.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage }) + document.cookie);
    assert.doesNotMatch(kept, /eyJ|latchkey-refresh/);
    assert.ok(!kept.includes(required("ALICE_PASSWORD")));
    const cookies = await page.context().cookies();
    const cookie = cookies.find(({ name }) => name === "__Host-latchkey-refresh");
    assert.deepEqual([cookie.httpOnly, cookie.secure, cookie.sameSite], [true, true, "Strict"]);
  });

  test(`on ${size}, the token is renewed before its end on the same connection`, async (t) => {
    const page = await open(t, "SHORT_", options);
    const counts = new Counts(page);
    await logIn(page);
    await inLobby(page);
    for (const number of [1, 2]) await counts.reaches("renewals", number);
    assert.equal(counts.connections, 1);
    assert.equal(await page.getByTestId("connection-notice").isVisible(), false);
    const bob = await bobIn(t, "SHORT_");
    await say(bob, `Still there, on ${size}?`);
    await message(page, `Still there, on ${size}?`).waitFor();
  });

  test(`on ${size}, logging out ends the session in every tab and at the issuer`, async (t) => {
    const page = await openLobby(t, "", options);
    const token = nextToken(page);
    await page.reload();
    await inLobby(page);
    assert.equal(await statusOf(await token), 200);
    const tab = await openTab(page);
    await inLobby(tab);
    await page.getByTestId("composer-input").fill("Not for the next user");
    await page.getByTestId("logout").click();
    await ended(page, "The session has ended, here and in every tab.");
    await ended(tab, "You logged out in another tab.");
    assert.equal(await statusOf(await token), 401);
    for (const each of [page, tab]) {
      await assertAccessible(each);
      await each.reload();
      await each.getByTestId("login-form").waitFor();
    }
    assert.deepEqual((await page.context().cookies()).map(({ name }) => name), ["__Host-latchkey-device"]);
    assert.doesNotMatch(await page.evaluate(() => JSON.stringify(localStorage)), /Not for the next user/);
  });

  test(`on ${size}, the page is back after the network was away for longer than the token lived`, async (t) => {
    const page = await openLobby(t, "SHORT_", { ...options, tolerated: /ERR_INTERNET_DISCONNECTED|WebSocket connection/ });
    await page.getByTestId("composer-input").fill("Written in a tunnel");
    await page.context().setOffline(true);
    await page.getByTestId("token-left").getByText("00:00").waitFor();
    await page.getByTestId("connection-notice").waitFor();
    await assertAccessible(page);
    await assertFitsWidth(page);
    await draw(page, `offline-${size}`);
    const bob = await bobIn(t, "SHORT_");
    await say(bob, `Said while she was in the tunnel, on ${size}`);
    await page.context().setOffline(false);
    await message(page, `Said while she was in the tunnel, on ${size}`).waitFor();
    await page.getByTestId("connection-notice").waitFor({ state: "hidden" });
    assert.equal(await draft(page), "Written in a tunnel");
  });
}

test("of two tabs one renews, and both have the token", async (t) => {
  const page = await openLobby(t, "SHORT_");
  const tab = await openTab(page);
  await inLobby(tab);
  const counts = [new Counts(page), new Counts(tab)];
  await Promise.all([page.reload(), tab.reload()]);
  await Promise.all([inLobby(page), inLobby(tab)]);
  const refreshes = () => counts[0].refreshes + counts[1].refreshes;
  const before = refreshes();
  // The first refresh is held back until both tabs have so little time left that both want one.
  let [waiting, most] = [0, 0];
  await page.context().route(/\/token\/refresh$/, async (route) => {
    waiting += 1;
    most = Math.max(most, waiting);
    await Promise.all([page, tab].map((each) => each.getByTestId("token-left").getByText(/00:0[012]/).waitFor()));
    waiting -= 1;
    await route.continue();
  });
  await Promise.all(counts.map((each) => each.reaches("renewals", 1)));
  assert.equal(most, 1);
  await page.context().unroute(/\/token\/refresh$/);
  await Promise.all(counts.map((each) => each.reaches("renewals", 2)));
  assert.ok(refreshes() - before <= 3, `${refreshes() - before} refreshes for two renewals in each of two tabs`);
  assert.deepEqual(counts.map(({ connections }) => connections), [1, 1]);
});

test("a page that was asleep while its token ended goes on", async (t) => {
  const page = await openLobby(t, "SHORT_");
  await page.getByTestId("composer-input").fill("Before the lid was closed");
  const tab = await openTab(page);
  await inLobby(tab);
  await page.context().waitForEvent("response", { predicate: isAnswered });
  const wake = await putToSleep(page);
  // The other tab renews every 4 s, and the token of the first has 6 s.
  const counts = new Counts(tab);
  for (const number of [1, 2]) await counts.reaches("refreshes", number);
  const bob = await bobIn(t, "SHORT_");
  await say(bob, "Said while she slept");
  await message(tab, "Said while she slept").waitFor();
  await wake();
  await message(page, "Said while she slept").waitFor();
  assert.equal(await draft(page), "Before the lid was closed");
});

test("a page that falls asleep in a renewal does not keep the others from theirs", async (t) => {
  const page = await openLobby(t, "SHORT_");
  const renewal = await beforeDeadline("renewal", (resolve) => page.route(/\/token\/refresh$/, resolve, { times: 1 }));
  const wake = await putToSleep(page);
  await renewal.continue();
  const tab = await openTab(page);
  await inLobby(tab);
  const counts = new Counts(tab);
  for (const number of [1, 2]) await counts.reaches("refreshes", number);
  await wake();
  await say(await bobIn(t, "SHORT_"), "Good morning");
  for (const one of [page, tab]) await message(one, "Good morning").waitFor();
});

test("a page that cannot reach the issuer until its token has ended goes on when it can", async (t) => {
  const page = await openLobby(t, "SHORT_", { tolerated: /POST \/token\/refresh: net::ERR_FAILED/ });
  await page.getByTestId("composer-input").fill("Still a draft");
  await page.route(/\/token\/refresh$/, (route) => route.abort("failed"));
  await page.getByTestId("token-left").getByText("00:00").waitFor();
  const notice = page.getByTestId("connection-notice");
  await notice.getByText("Cannot reach the sign-in service, trying again…").waitFor();
  assert.equal(await page.getByTestId("login-form").isVisible(), false);
  await page.unroute(/\/token\/refresh$/);
  await notice.waitFor({ state: "hidden" });
  await inLobby(page);
  assert.equal(await draft(page), "Still a draft");
});

test("a session that cannot be renewed ends with its token, and keeps the draft for its user alone", async (t) => {
  const page = await openLobby(t, "SHORT_", { tolerated: /POST \/token\/refresh: HTTP 400/ });
  await page.getByTestId("composer-input").fill("Only for alice");
  await page.context().clearCookies();
  await ended(page, "Disconnected: your session expired.");
  assert.equal(await page.evaluate(() => document.activeElement.dataset.testid), "login-password");
  assert.equal(await page.getByTestId("login-username").inputValue(), "alice");
  await logIn(page, "bob");
  await inLobby(page);
  assert.equal(await draft(page), "");
  await page.getByTestId("logout").click();
  await ended(page, "You logged out.");
  await logIn(page);
  await inLobby(page);
  assert.equal(await draft(page), "Only for alice");
});

test("a session that is ended elsewhere ends here", async (t) => {
  const page = await openLobby(t);
  const token = nextToken(page);
  await page.reload();
  await inLobby(page);
  const authorization = { Authorization: `Bearer ${await token}` };
  await fetch(`${required("ISSUER_URL")}/logout`, { method: "POST", headers: authorization });
  await ended(page, "Disconnected: the server ended this session.");
});

test("a draft belongs to its room", async (t) => {
  const page = await openLobby(t);
  await page.getByTestId("composer-input").fill("For the lobby");
  await page.getByTestId("room-own").click();
  assert.equal(await draft(page), "");
  await page.getByTestId("composer-input").fill("For myself");
  await page.getByTestId("room-lobby").click();
  assert.equal(await draft(page), "For the lobby");
  await page.reload();
  await inLobby(page);
  await page.getByTestId("room-own").click();
  assert.equal(await draft(page), "For myself");
});

test("a logout that cannot reach the issuer is finished when it can", async (t) => {
  const page = await openLobby(t, "", { tolerated: /POST \/logout: net::ERR_FAILED/ });
  const token = nextToken(page);
  await page.reload();
  await inLobby(page);
  await page.route(/\/logout$/, (route) => route.abort("failed"));
  await page.getByTestId("logout").click();
  await ended(page, "This page ends the session there as soon as it can.");
  assert.equal(await statusOf(await token), 200);
  await page.unroute(/\/logout$/);
  const finished = page.waitForResponse((answer) => new URL(answer.url()).pathname === "/logout" && answer.status() === 204);
  await page.reload();
  await page.getByTestId("login-form").waitFor();
  await finished;
  assert.equal(await statusOf(await token), 401);
});

test("another user who signs in, in another tab, takes the place of the first", async (t) => {
  const page = await openLobby(t);
  const tab = await openTab(page);
  await inLobby(tab);
  // As a tab whose session was ended before: it has the form.
  await tab.evaluate(() => localStorage.clear());
  await tab.reload();
  await logIn(tab, "bob");
  await inLobby(tab);
  await ended(page, "Another user signed in, in another tab of this browser.");
  await tab.reload();
  await inLobby(tab);
  await tab.getByTestId("identity").getByText("bob").waitFor();
});

test("a page does not go on as one user with the token of another", async (t) => {
  const page = await openLobby(t, "SHORT_");
  // As a page of the same site that is another origin's: it has the cookie, and no message of it arrives here.
  const body = { username: "bob", password: required("BOB_PASSWORD"), cookie: true };
  const status = await page.evaluate(async ([url, json]) => {
    const headers = { "content-type": "application/json", "x-latchkey": "1" };
    return (await fetch(url, { method: "POST", credentials: "include", headers, body: json })).status;
  }, [`${required("SHORT_ISSUER_URL")}/login`, JSON.stringify(body)]);
  assert.equal(status, 200);
  await ended(page, "Another user signed in, in another tab of this browser.");
});

test("a tab with the login form is signed in with the other tab", async (t) => {
  const page = await open(t);
  const tab = await openTab(page);
  await tab.getByTestId("login-form").waitFor();
  await logIn(page);
  await inLobby(page);
  await inLobby(tab);
});

test("while the issuer cannot be reached, a reload waits for it", async (t) => {
  const page = await openLobby(t, "", { tolerated: /POST \/token\/refresh: net::ERR_FAILED/ });
  await page.route(/\/token\/refresh$/, (route) => route.abort("failed"));
  await page.reload();
  await page.getByTestId("login-error").getByText("Cannot reach the sign-in service").waitFor();
  await page.unroute(/\/token\/refresh$/);
  await inLobby(page);
});

test("a page of another site, which gets no cookie, is renewed too, until it is reloaded", async (t) => {
  const url = required("SHORT_GATEWAY_URL").replace("127.0.0.1", "localhost");
  const { page } = await openIn(t, browser, url, { tolerated: /POST \/token\/refresh: HTTP 400/ });
  const counts = new Counts(page);
  await logIn(page);
  await inLobby(page);
  for (const number of [1, 2]) await counts.reaches("renewals", number);
  assert.equal(counts.connections, 1);
  assert.deepEqual(await page.context().cookies(), []);
  const kept = await page.evaluate(() => Object.values(localStorage).join());
  assert.doesNotMatch(kept, /eyJ/);
  await page.reload();
  await page.getByTestId("login-form").waitFor();
});
