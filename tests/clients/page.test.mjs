// The gateway's page, driven in headless Chromium as a person would.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { chromium } from "playwright-core";
import { io } from "socket.io-client";

import { DEADLINE_MS, beforeDeadline, call, login, next, required } from "./support.mjs";

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

let gateway, browser, bob;

before(async () => {
  gateway = required("GATEWAY_URL");
  const token = await login(required("ISSUER_URL"), "bob", required("BOB_PASSWORD"));
  bob = io(gateway, { auth: { token }, forceNew: true });
  await next(bob, "connect");
  const answer = await call(bob, "rt:subscribe", { room: "lobby" });
  assert.equal(answer.ok, true, JSON.stringify(answer));
  // Launching makes a profile of its own, and closing removes it.
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  browser = await chromium.launch({ executablePath, args: CHROMIUM_ARGS });
});

after(async () => {
  bob?.close();
  await browser?.close();
});

/** Opens the page in a context of its own, and fails the test if the page ever complains. */
async function open(t, url = gateway, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  context.setDefaultTimeout(DEADLINE_MS);
  const page = await context.newPage();
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("console", (message) => {
    // What does not load is told in full below.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) complaints.push(message.text());
  });
  page.on("requestfailed", (request) => {
    // A request that the page itself gives up, by leaving or logging out, has not failed.
    if (request.failure().errorText !== "net::ERR_ABORTED") complaints.push(`${nameOf(request)}: ${request.failure().errorText}`);
  });
  page.on("response", (answer) => {
    if (answer.status() >= 400 && !answer.url().endsWith("/login")) complaints.push(`${nameOf(answer.request())}: HTTP ${answer.status()}`);
  });
  t.after(async () => {
    await context.close();
    assert.deepEqual(complaints, [], "the browser complained");
  });
  const answer = await page.goto(url);
  return { page, answer };
}

/** A request without its secrets: the `sid` is one, and a CONNECT packet holds the token. */
function nameOf(request) {
  const { pathname, searchParams } = new URL(request.url());
  return `${request.method()} ${pathname} ${searchParams.get("transport") ?? ""} ${request.postData()?.slice(0, 2) ?? ""}`.trimEnd();
}

async function logIn(page, password = required("ALICE_PASSWORD")) {
  await page.getByTestId("login-username").fill("alice");
  await page.getByTestId("login-password").fill(password);
  await page.getByTestId("login-submit").click();
}

/** Waits until the page is in the lobby, where it hears what is said from then on, and has settled on its transport. */
async function inLobby(page) {
  await page.getByTestId("identity").getByText("authenticated as").waitFor();
  // Who leaves in the middle of the upgrade may be answered 400, which is no fault of the page.
  await page.getByTestId("transport").getByText("websocket").waitFor();
  await page.getByTestId("room-can").getByText("you may read, write").waitFor();
}

async function bobSays(text) {
  const answer = await call(bob, "rt:publish", { room: "lobby", event: "message", data: { text } });
  assert.equal(answer.ok, true, JSON.stringify(answer));
}

function heardByBob(text) {
  let listen;
  const heard = beforeDeadline(`"${text}" at bob's`, (resolve) => {
    listen = (data, meta) => data.text === text && resolve(meta);
    bob.on("message", listen);
  });
  return heard.finally(() => bob.off("message", listen));
}

const focused = (page) => page.evaluate(() => document.activeElement?.dataset.testid);

async function assertFitsWidth(page) {
  const [content, screen] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(content <= screen, `${content} px of content on a screen of ${screen} px`);
}

test("a wrong password is told, and the field is ready for another try", async (t) => {
  const { page } = await open(t);
  await logIn(page, "not the password");
  await page.getByTestId("login-error").getByText("Wrong username or password.").waitFor();
  assert.equal(await focused(page), "login-password");
  assert.equal(await page.getByTestId("identity").isVisible(), false);
});

test("alice logs in, reads what bob writes, and answers, with the keyboard alone", async (t) => {
  const { page } = await open(t);
  assert.equal(await focused(page), "login-username");
  await page.keyboard.type("alice");
  await page.keyboard.press("Tab");
  await page.keyboard.type(required("ALICE_PASSWORD"));
  await page.keyboard.press("Enter");
  await inLobby(page);
  assert.match(await page.getByTestId("status").innerText(), /^connected\b/);
  assert.match(await page.getByTestId("token-left").innerText(), /^\d+:\d\d$/);

  await bobSays("Are you there, alice?");
  await page.getByTestId("message-text").getByText("Are you there, alice?").waitFor();

  assert.equal(await focused(page), "composer-input");
  const meta = heardByBob("I am.");
  await page.keyboard.type("I am.");
  await page.keyboard.press("Enter");
  assert.equal((await meta).room, "lobby");
  const own = page.getByTestId("message").filter({ hasText: "I am." });
  await own.waitFor();
  assert.equal(await own.count(), 1);
  assert.equal(await own.getByTestId("message-from").innerText(), "You");
  assert.equal(await page.getByTestId("composer-input").inputValue(), "");
});

test("markup in a message is text", async (t) => {
  const { page } = await open(t);
  await logIn(page);
  await inLobby(page);
  const markup = "<img src=x onerror=alert(1)><b>bold</b>";
  await bobSays(markup);
  await page.getByTestId("message-text").getByText(markup).waitFor();
  assert.equal(await page.getByTestId("messages").locator("img, b").count(), 0);
});

test("a room without a grant is refused in words", async (t) => {
  const { page } = await open(t);
  await logIn(page);
  await inLobby(page);
  await page.getByText("Another room").click();
  await page.getByTestId("join-input").fill("org:somebody-else");
  await page.getByTestId("join-submit").click();
  await page.getByTestId("messages").getByText("Could not enter:").waitFor();
  await page.getByTestId("room-can").getByText("you are not in this room").waitFor();
});

test("logging out forgets the user, and so does a reload", async (t) => {
  const { page } = await open(t);
  await logIn(page);
  await inLobby(page);
  await page.getByTestId("logout").click();
  await page.getByTestId("disconnected-reason").getByText("You logged out.").waitFor();
  assert.equal(await page.getByTestId("messages").isVisible(), false);
  assert.equal(await page.getByTestId("login-username").inputValue(), "alice");

  await page.getByTestId("login-password").fill(required("ALICE_PASSWORD"));
  await page.getByTestId("login-submit").click();
  await inLobby(page);
  assert.equal(await page.evaluate(() => localStorage.length + sessionStorage.length + document.cookie.length), 0);
  await page.reload();
  await page.getByTestId("login-form").waitFor();
});

test("at expiry the page says so, and logs in again", async (t) => {
  const { page } = await open(t, required("SHORT_GATEWAY_URL"));
  await logIn(page);
  await inLobby(page);
  await page.getByTestId("disconnected-reason").getByText("Disconnected: your session expired.").waitFor();
  assert.equal(await focused(page), "login-password");
  assert.equal(await page.getByTestId("login-username").inputValue(), "alice");
  await page.getByTestId("login-password").fill(required("ALICE_PASSWORD"));
  await page.keyboard.press("Enter");
  await inLobby(page);
});

test("the page fits a phone", async (t) => {
  const { page } = await open(t, gateway, { viewport: { width: 320, height: 640 }, isMobile: true, hasTouch: true });
  await assertFitsWidth(page);
  await logIn(page);
  await inLobby(page);
  await bobSays("An-unbroken-word-".repeat(20));
  await page.getByTestId("message-text").getByText("An-unbroken-word").waitFor();
  await assertFitsWidth(page);
  for (const id of ["logout", "token-left", "status", "composer-send", "room-lobby"]) {
    const box = await page.getByTestId(id).boundingBox();
    assert.ok(box && box.x >= 0 && box.x + box.width <= 320 && box.y + box.height <= 640, `${id} is out of sight`);
  }
});

test("the page's policy has no exception for inline code", async (t) => {
  const { answer } = await open(t);
  const policy = answer.headers()["content-security-policy"];
  assert.match(policy, /default-src 'none'/);
  assert.doesNotMatch(policy, /unsafe/);
});

async function takePicture(t, path) {
  const { page } = await open(t);
  await logIn(page);
  await inLobby(page);
  const say = async (text) => {
    const heard = heardByBob(text);
    await page.getByTestId("composer-input").fill(text);
    await page.getByTestId("composer-send").click();
    await heard;
  };
  await bobSays("Morning! The new signing key is live on both services.");
  await bobSays("Nobody was disconnected.");
  await say("Nice. I had this page open the whole time and noticed nothing.");
  await bobSays("When your token runs out, the gateway closes the connection that second. Watch the countdown up there.");
  await say("And without a token?");
  await bobSays("“no token provided”, before a single event gets through.");
  await page.getByTestId("message-text").getByText("before a single event").waitFor();
  await page.screenshot({ path, animations: "disabled", caret: "hide" });
}

const { SCREENSHOT } = process.env;
if (SCREENSHOT) test("the page with a few messages, for the README", (t) => takePicture(t, SCREENSHOT));
