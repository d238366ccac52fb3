// The gateway's page, driven in headless Chromium as a person would.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { SIZES, assertAccessible, assertFitsWidth, connectBob, draw, inLobby, launch, logIn, open as openIn, say } from "./browser.mjs";
import { beforeDeadline, required } from "./support.mjs";

let gateway, browser, bob;

before(async () => {
  gateway = required("GATEWAY_URL");
  bob = await connectBob();
  browser = await launch();
});

after(async () => {
  bob?.close();
  await browser?.close();
});

const open = (t, url = gateway, options = {}) => openIn(t, browser, url, options);

const bobSays = (text) => say(bob, text);

function heardByBob(text) {
  let listen;
  const heard = beforeDeadline(`"${text}" at bob's`, (resolve) => {
    listen = (data, meta) => data.text === text && resolve(meta);
    bob.on("message", listen);
  });
  return heard.finally(() => bob.off("message", listen));
}

const focused = (page) => page.evaluate(() => document.activeElement?.dataset.testid);

test("a wrong password is told, and the field is ready for another try", async (t) => {
  const { page } = await open(t);
  await logIn(page, "alice", "not the password");
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

test("logging out forgets what was shown, and the form is ready for the next login", async (t) => {
  const { page } = await open(t);
  await logIn(page);
  await inLobby(page);
  await page.getByTestId("logout").click();
  await page.getByTestId("disconnected-reason").getByText("You logged out.").waitFor();
  assert.equal(await page.getByTestId("messages").isVisible(), false);
  assert.equal(await page.getByTestId("login-username").inputValue(), "alice");
  assert.equal(await focused(page), "login-password");

  await page.getByTestId("login-password").fill(required("ALICE_PASSWORD"));
  await page.keyboard.press("Enter");
  await inLobby(page);
});

for (const [size, options] of Object.entries(SIZES)) {
  for (const colorScheme of ["light", "dark"]) {
    test(`axe finds nothing on ${size} in the ${colorScheme} scheme`, async (t) => {
      const { page } = await open(t, gateway, { ...options, colorScheme });
      await page.getByTestId("login-form").waitFor();
      await draw(page, `login-${size}-${colorScheme}`);
      await assertAccessible(page);
      await logIn(page, "alice", "not the password");
      await page.getByTestId("login-error").getByText("Wrong username or password.").waitFor();
      await assertAccessible(page);
      await logIn(page);
      await inLobby(page);
      await bobSays(`Good morning, on ${size}.`);
      await page.getByTestId("message-text").getByText(`Good morning, on ${size}.`).first().waitFor();
      await page.getByText("Another room").click();
      await assertAccessible(page);
      await draw(page, `lobby-${size}-${colorScheme}`);
    });
  }
}

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
