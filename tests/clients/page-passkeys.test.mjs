// Passkeys on the gateway's page: enrolled, used alone and as the second factor, renamed and removed, in Chromium with its
// virtual authenticator.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, test } from "node:test";

import { addPasskeyDevice, codeOf, keyOf } from "./authenticator.mjs";
import { SIZES, assertAccessible, assertFitsWidth, draw, inLobby, launch, logIn, open as openIn } from "./browser.mjs";
import { required } from "./support.mjs";

let browser;

before(async () => {
  browser = await launch();
});

after(() => browser?.close());

/** The page by the name of the machine: passkeys belong to a domain, and not to an address. */
const pageUrl = () => required("PASSKEYS_GATEWAY_URL").replace("127.0.0.1", "localhost");

/** Opens the page on a device with an authenticator, for a new user. */
async function openFor(t, options) {
  const { page } = await openIn(t, browser, pageUrl(), options);
  return { page, device: await addPasskeyDevice(page), user: await register() };
}

async function register() {
  const user = { username: `user-${randomBytes(6).toString("hex")}`, password: randomBytes(12).toString("base64url") };
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch(`${required("PASSKEYS_ISSUER_URL")}/register`, { method: "POST", headers, body: JSON.stringify(user) });
  assert.equal(answer.status, 201, await answer.clone().text());
  return user;
}

async function openAccount(page) {
  await page.getByTestId("account-button").click();
  await page.getByTestId("passkeys").waitFor();
}

async function addPasskey(page, name, password, code) {
  await page.getByTestId("passkey-name").fill(name);
  await page.getByTestId("passkey-password").fill(password);
  if (code) await page.getByTestId("passkey-code").fill(code);
  await page.getByTestId("passkey-add").click();
}

async function logOut(page) {
  await page.getByTestId("account-close").click();
  // A login by one click may be faster than the call that ends the session.
  const ended = page.waitForResponse(/\/logout$/);
  await page.getByTestId("logout").click();
  await ended;
}

const result = (page, text) => page.getByTestId("passkeys-result").getByText(text).waitFor();

for (const [size, options] of Object.entries(SIZES)) {
  test(`on ${size}, a passkey is added, signs in without a name and a password, is renamed and removed`, async (t) => {
    const { page, device, user } = await openFor(t, { ...options, tolerated: /POST \/passkeys\/.*HTTP 401/ });
    await page.getByTestId("passkey-login").waitFor();
    await assertAccessible(page);
    await draw(page, `passkey-login-${size}`);
    await logIn(page, user.username, user.password);
    await inLobby(page);
    await openAccount(page);
    assert.equal(await page.getByTestId("passkey-code").isVisible(), false);
    await addPasskey(page, "My phone", "not the password");
    await result(page, "The password is wrong.");
    await addPasskey(page, "My phone", user.password);
    await result(page, "The passkey is added.");
    assert.equal((await device.passkeys())[0].rpId, "localhost");
    await page.getByTestId("passkey").getByText("never used").waitFor();
    await assertAccessible(page);
    await assertFitsWidth(page);
    await page.getByTestId("passkeys").scrollIntoViewIfNeeded();
    await draw(page, `passkeys-${size}`);
    await addPasskey(page, "Again", user.password);
    await result(page, "This device has a passkey of your account already.");

    await logOut(page);
    await page.getByTestId("passkey-login").click();
    await inLobby(page);
    await page.getByTestId("account-button").click();
    await page.getByTestId("passkey").getByText("last used").waitFor();

    await page.getByTestId("passkey-rename").click();
    assert.equal(await page.getByTestId("passkey-new-name").inputValue(), "My phone");
    await page.getByTestId("passkey-new-name").fill("The blue one");
    await assertAccessible(page);
    await page.getByTestId("passkey-rename-submit").click();
    await page.getByTestId("passkey").getByText("The blue one").waitFor();

    await page.getByTestId("passkey-remove").click();
    await assertAccessible(page);
    await page.getByTestId("passkey-remove-password").fill("not the password");
    await page.getByTestId("passkey-remove-submit").click();
    await result(page, "The password is wrong.");
    await page.getByTestId("passkey-remove-password").fill(user.password);
    await page.getByTestId("passkey-remove-submit").click();
    await result(page, "The passkey is removed.");
    assert.equal(await page.getByTestId("passkey").count(), 0);

    await logOut(page);
    await page.getByTestId("passkey-login").click();
    await page.getByTestId("login-error").getByText("The passkey is not accepted").waitFor();
    await logIn(page, user.username, user.password);
    await inLobby(page);
  });

  test(`on ${size}, a passkey replaces the code of the second factor, and is added with one`, async (t) => {
    const { page, user } = await openFor(t, options);
    await logIn(page, user.username, user.password);
    await inLobby(page);
    await openAccount(page);
    await page.getByTestId("factor-password").fill(user.password);
    await page.getByTestId("factor-start").click();
    const key = await keyOf(page);
    await page.getByTestId("factor-code").fill(codeOf(key, -1));
    await page.getByTestId("factor-confirm").click();
    await page.getByTestId("recovery-done").click();
    await addPasskey(page, "Laptop", user.password, codeOf(key));
    await result(page, "The passkey is added.");

    await logOut(page);
    await logIn(page, user.username, user.password);
    await page.getByTestId("login-code").waitFor();
    await page.getByText("Use a passkey instead").waitFor();
    await assertAccessible(page);
    const [card, button] = await Promise.all([page.locator("#view-login .card"), page.getByTestId("passkey-login")].map((one) => one.boundingBox()));
    assert.ok(button.x + button.width <= card.x + card.width, "the button is wider than the card");
    await draw(page, `passkey-code-${size}`);
    await page.getByTestId("passkey-login").click();
    await inLobby(page);
    await page.getByTestId("identity").getByText(user.username).waitFor();
  });
}

test("a device whose lock stays shut signs nobody in, and the same device does once it opens", async (t) => {
  const { page, device, user } = await openFor(t, {});
  await logIn(page, user.username, user.password);
  await inLobby(page);
  await openAccount(page);
  await addPasskey(page, "Phone", user.password);
  await result(page, "The passkey is added.");
  await logOut(page);
  await device.openLock(false);
  await page.getByTestId("passkey-login").click();
  await page.getByTestId("login-error").getByText("No passkey was used").waitFor();
  await device.openLock(true);
  await page.getByTestId("passkey-login").click();
  await inLobby(page);
});

test("a page at an address, which has no domain, offers no passkeys", async (t) => {
  const { page } = await openIn(t, browser, required("PASSKEYS_GATEWAY_URL"));
  await page.getByTestId("forgot-button").waitFor();
  assert.equal(await page.getByTestId("passkey-login").isVisible(), false);
});
