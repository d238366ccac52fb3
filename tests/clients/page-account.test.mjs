// The account on the gateway's page: the second factor, the password, the list of sessions, and strangers' guesses.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, test } from "node:test";

import jsQR from "jsqr";
import { PNG } from "pngjs";

import { codeOf, keyOf } from "./authenticator.mjs";
import { SIZES, assertAccessible, assertFitsWidth, draw, inLobby, launch, logIn, open as openIn } from "./browser.mjs";
import { login, postLogin, required } from "./support.mjs";

let browser;

before(async () => {
  browser = await launch();
});

after(() => browser?.close());

/** Opens the page, for a new user: each test changes what guards an account. */
async function openFor(t, options = {}) {
  const { page } = await openIn(t, browser, required("ACCOUNT_GATEWAY_URL"), options);
  return { page, user: await register() };
}

async function register() {
  const user = { username: `user-${randomBytes(6).toString("hex")}`, password: randomBytes(12).toString("base64url") };
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch(`${required("ACCOUNT_ISSUER_URL")}/register`, { method: "POST", headers, body: JSON.stringify(user) });
  assert.equal(answer.status, 201, await answer.clone().text());
  return user;
}

async function openAccount(page, { username, password }) {
  await logIn(page, username, password);
  await inLobby(page);
  await page.getByTestId("account-button").click();
  await page.getByTestId("session").first().waitFor();
}

for (const [size, options] of Object.entries(SIZES)) {
  test(`on ${size}, a second factor is set up by a picture, asked for at the login, and turned off`, async (t) => {
    const { page, user } = await openFor(t, { ...options, tolerated: /POST \/totp .*HTTP 401/ });
    await openAccount(page, user);
    await page.getByTestId("factor-password").fill("not the password");
    await page.getByTestId("factor-start").click();
    await page.getByText("The password is wrong.").waitFor();
    await page.getByTestId("factor-password").fill(user.password);
    await page.getByTestId("factor-start").click();
    const key = await keyOf(page);
    assert.equal(await readPicture(page), await page.getByText("open the app on this device").getAttribute("href"));
    await assertAccessible(page);
    await assertFitsWidth(page);
    await page.getByTestId("factor-qr").scrollIntoViewIfNeeded();
    await draw(page, `factor-${size}`);
    await page.getByTestId("factor-code").fill(codeOf(key, -1));
    await page.getByTestId("factor-confirm").click();
    await page.getByTestId("recovery-codes").waitFor();
    const codes = await page.getByTestId("recovery-codes").locator("li").allInnerTexts();
    assert.equal(codes.length, 10);
    await assertAccessible(page);
    await page.getByTestId("recovery-done").click();
    await page.getByTestId("account-close").click();

    await page.getByTestId("logout").click();
    await logIn(page, user.username, user.password);
    await page.getByTestId("login-code").waitFor();
    await assertAccessible(page);
    await draw(page, `code-${size}`);
    await page.getByTestId("login-code").fill("000000");
    await page.getByTestId("code-submit").click();
    await page.getByTestId("code-error").getByText("The code is wrong").waitFor();
    await page.getByTestId("login-code").fill(codeOf(key));
    await page.getByTestId("code-submit").click();
    await inLobby(page);

    await page.getByTestId("logout").click();
    await logIn(page, user.username, user.password);
    await page.getByTestId("login-code").fill(codes[0].toLowerCase());
    await page.getByTestId("code-submit").click();
    await inLobby(page);
    await page.getByTestId("account-button").click();
    await page.getByTestId("disable-password").fill(user.password);
    await page.getByTestId("disable-code").fill(codes[1]);
    await page.getByTestId("factor-disable").click();
    await page.getByText("The second factor is off.").waitFor();
    await page.getByTestId("account-close").click();
    await page.getByTestId("logout").click();
    await logIn(page, user.username, user.password);
    await inLobby(page);
  });

  test(`on ${size}, the password is changed, and the old one is none any more`, async (t) => {
    const { page, user } = await openFor(t, { ...options, tolerated: /POST \/password .*HTTP 4/ });
    await openAccount(page, user);
    const change = async (current, changed) => {
      await page.getByTestId("current-password").fill(current);
      await page.getByTestId("new-password").fill(changed);
      await page.getByTestId("password-submit").click();
    };
    const password = randomBytes(12).toString("base64url");
    await change("not the password", password);
    await page.getByTestId("password-result").getByText("The password is wrong.").waitFor();
    await change(user.password, "password1");
    await page.getByTestId("password-result").getByText(/guess/).waitFor();
    await assertAccessible(page);
    await change(user.password, password);
    await page.getByTestId("password-result").getByText("The password is changed.").waitFor();
    await page.getByTestId("account-close").click();
    await page.getByTestId("logout").click();
    await logIn(page, user.username, user.password);
    await page.getByTestId("login-error").getByText("Wrong username or password.").waitFor();
    await logIn(page, user.username, password);
    await inLobby(page);
  });

  test(`on ${size}, a session elsewhere is listed and signed out`, async (t) => {
    const { page, user } = await openFor(t, options);
    const { page: elsewhere } = await openIn(t, browser, required("ACCOUNT_GATEWAY_URL"), { userAgent: "Mozilla/5.0 (X11; Linux) Firefox/150.0" });
    await logIn(elsewhere, user.username, user.password);
    await inLobby(elsewhere);
    await openAccount(page, user);
    const other = page.getByTestId("session").filter({ hasText: "Firefox on Linux" });
    await other.waitFor();
    await page.getByTestId("session").getByText("this browser").waitFor();
    await assertAccessible(page);
    await assertFitsWidth(page);
    await draw(page, `account-${size}`);
    await other.getByTestId("session-end").click();
    await page.getByTestId("sessions-result").getByText("Signed out there.").waitFor();
    await elsewhere.getByTestId("disconnected-reason").getByText("Disconnected: the server ended this session.").waitFor();
    assert.equal(await other.count(), 0);
    await page.keyboard.press("Escape");
    await page.getByTestId("account").waitFor({ state: "hidden" });
    await page.getByTestId("status").getByText("connected").waitFor();
  });
}

test("strangers' guesses do not lock the owner's browser out", async (t) => {
  const { page, user } = await openFor(t);
  await logIn(page, user.username, user.password);
  await inLobby(page);
  await page.getByTestId("logout").click();
  const issuer = required("ACCOUNT_ISSUER_URL");
  // tests/e2e/stock.rs lets three attempts fail for a name.
  const guess = JSON.stringify({ username: user.username, password: "a stranger's guess" });
  for (let number = 1; number <= 3; number += 1) assert.equal((await postLogin(issuer, "application/json", guess)).status, 401);
  await assert.rejects(login(issuer, user.username, user.password), /HTTP 401/);
  await logIn(page, user.username, user.password);
  await inLobby(page);
});

test("what is secret is gone from the page when the account is closed", async (t) => {
  const { page, user } = await openFor(t);
  await openAccount(page, user);
  await page.getByTestId("factor-password").fill(user.password);
  await page.getByTestId("factor-start").click();
  const key = await keyOf(page);
  await page.getByTestId("account-close").click();
  const isGone = (text) => !document.documentElement.outerHTML.includes(text);
  for (const text of [key, key.replace(/ /g, "")]) await page.waitForFunction(isGone, text);
});

/** Reads the QR code from the page as a camera would. */
async function readPicture(page) {
  const picture = await page.getByTestId("factor-qr").screenshot();
  const { data, width, height } = PNG.sync.read(picture);
  return jsQR(new Uint8ClampedArray(data), width, height)?.data;
}
