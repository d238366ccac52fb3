// The gateway's page in headless Chromium, as a person has it before them.

import assert from "node:assert/strict";

import { AxeBuilder } from "@axe-core/playwright";
import { chromium } from "playwright-core";
import { io } from "socket.io-client";

import { DEADLINE_MS, call, login, next, required } from "./support.mjs";

const CHROMIUM_ARGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** Starts the browser. Launching makes a profile of its own, and closing removes it. */
export function launch() {
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  return chromium.launch({ executablePath, args: CHROMIUM_ARGS });
}

/** The sizes that the page is tested at, as options of a context. */
export const SIZES = {
  "a desktop": { viewport: { width: 1280, height: 800 } },
  "a phone": { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true },
};

/**
 * Opens the page in a context of its own, and fails the test if the page ever complains. A complaint that matches
 * `tolerated` is one that the test provokes.
 */
export async function open(t, browser, url, { tolerated, ...options } = {}) {
  const context = await browser.newContext({ ...SIZES["a desktop"], ...options });
  context.setDefaultTimeout(DEADLINE_MS);
  const complaints = [];
  context.on("page", (page) => watch(page, (complaint) => tolerated?.test(complaint) || complaints.push(complaint)));
  t.after(async () => {
    await context.close();
    assert.deepEqual(complaints, [], "the browser complained");
  });
  const page = await context.newPage();
  const answer = await page.goto(url);
  return { page, answer };
}

/** Calls `complain` with each error of a page. */
function watch(page, complain) {
  page.on("pageerror", (error) => complain(error.message));
  page.on("console", (message) => {
    // What does not load is told in full below.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) complain(message.text());
  });
  page.on("requestfailed", (request) => {
    // A request that the page itself gives up, by leaving or logging out, has not failed.
    if (request.failure().errorText !== "net::ERR_ABORTED") complain(`${nameOf(request)}: ${request.failure().errorText}`);
  });
  page.on("response", (answer) => {
    if (answer.status() >= 400 && !/\/login(\/totp|\/passkey)?$/.test(answer.url())) complain(`${nameOf(answer.request())}: HTTP ${answer.status()}`);
  });
}

/** Opens the page once more, in another tab of the same browser. */
export async function openTab(page) {
  const tab = await page.context().newPage();
  await tab.goto(page.url());
  return tab;
}

/** Fails if axe finds anything on the page as it is now. */
export async function assertAccessible(page) {
  const { violations } = await new AxeBuilder({ page }).analyze();
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target.join(" ")).join(", ")}`);
  assert.deepEqual(found, [], "axe found something");
}

/** Fails if the page is wider than the screen. */
export async function assertFitsWidth(page) {
  const [content, screen] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(content <= screen, `${content} px of content on a screen of ${screen} px`);
}

/** Draws the page into the folder that `SCREENSHOTS` names, if it does. */
export async function draw(page, name) {
  const { SCREENSHOTS } = process.env;
  if (SCREENSHOTS) await page.screenshot({ path: `${SCREENSHOTS}/${name}.png`, animations: "disabled" });
}

/** A request without its secrets: the `sid` is one, and a CONNECT packet holds the token. */
function nameOf(request) {
  const { pathname, searchParams } = new URL(request.url());
  return `${request.method()} ${pathname} ${searchParams.get("transport") ?? ""} ${request.postData()?.slice(0, 2) ?? ""}`.trimEnd();
}

export async function logIn(page, username = "alice", password = required(`${username.toUpperCase()}_PASSWORD`)) {
  await page.getByTestId("login-username").fill(username);
  await page.getByTestId("login-password").fill(password);
  await page.getByTestId("login-submit").click();
}

/** Waits until the page is in the lobby, where it hears what is said from then on, and has settled on its transport. */
export async function inLobby(page) {
  await page.getByTestId("identity").getByText("authenticated as").waitFor();
  // Who leaves in the middle of the upgrade may be answered 400, which is no fault of the page.
  await page.getByTestId("transport").getByText("websocket").waitFor();
  await page.getByTestId("room-can").getByText("you may read, write, look back and see who is here").waitFor();
}

/** Waits until the page shows this text as the reason why its session ended. */
export const ended = (page, text) => page.getByTestId("disconnected-reason").getByText(text).waitFor();

/** Lets a page's connection be muted, broken and mended; call it before the page logs in. */
export async function breakable(page) {
  let isDown = false;
  const sides = { here: new Set(), there: new Set() };
  await page.routeWebSocket(/\/socket\.io\//, (here) => {
    if (isDown) return here.close();
    const there = here.connectToServer();
    sides.here.add(here);
    sides.there.add(there);
  });
  // As if the page itself had given them up: they are not counted as failures.
  await page.route(/\/socket\.io\//, (route) => (isDown ? route.abort("aborted") : route.continue()));
  // A page takes notice of it when it is loaded.
  await page.reload();
  return {
    /** The page hears nothing any more, but can still be heard. */
    mute() {
      for (const there of sides.there) there.onMessage(() => {});
    },
    async break() {
      isDown = true;
      for (const side of [...sides.here, ...sides.there]) side.close();
      sides.here.clear();
      sides.there.clear();
      await page.getByTestId("connection-notice").waitFor();
    },
    async mend() {
      isDown = false;
      await page.getByTestId("connection-notice").waitFor({ state: "hidden" });
    },
  };
}

/** Bob as a program, in the lobby of the stack whose variables begin with `prefix`. */
export async function connectBob(prefix = "") {
  const token = await login(required(`${prefix}ISSUER_URL`), "bob", required("BOB_PASSWORD"));
  const bob = io(required(`${prefix}GATEWAY_URL`), { auth: { token }, forceNew: true });
  await next(bob, "connect");
  const answer = await call(bob, "rt:subscribe", { room: "lobby" });
  assert.equal(answer.ok, true, JSON.stringify(answer));
  return bob;
}

/** The same until the test ends. */
export async function bobIn(t, prefix = "") {
  const bob = await connectBob(prefix);
  t.after(() => bob.close());
  return bob;
}

/** Publishes a message in the lobby. */
export async function say(bob, text) {
  const answer = await call(bob, "rt:publish", { room: "lobby", event: "message", data: { text } });
  assert.equal(answer.ok, true, JSON.stringify(answer));
}
