// Mail and the gateway's page: an address is verified and a forgotten password replaced by the links that arrive.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";

import { SIZES, assertAccessible, assertFitsWidth, draw, ended, inLobby, launch, logIn, open as openIn } from "./browser.mjs";
import { DEADLINE_MS, required } from "./support.mjs";

let browser;

before(async () => {
  browser = await launch();
});

after(() => browser?.close());

const open = (t, options) => openIn(t, browser, required("MAIL_GATEWAY_URL"), options);
const newPassword = () => randomBytes(12).toString("base64url");

function newUser() {
  const username = `user-${randomBytes(6).toString("hex")}`;
  return { username, password: newPassword(), email: `${username}@example.org` };
}

async function register() {
  const user = newUser();
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch(`${required("MAIL_ISSUER_URL")}/register`, { method: "POST", headers, body: JSON.stringify(user) });
  assert.equal(answer.status, 201, await answer.clone().text());
  return user;
}

/** Makes an account by the page's form. */
async function registerOn(page, size) {
  const user = newUser();
  await page.getByTestId("register-button").click();
  await assertAccessible(page);
  await assertFitsWidth(page);
  await draw(page, `register-${size}`);
  await page.getByTestId("register-username").fill(user.username);
  await page.getByTestId("register-email").fill(user.email);
  await page.getByTestId("register-password").fill("password1");
  await page.getByTestId("register-submit").click();
  await page.getByTestId("register-error").getByText(/guess/).waitFor();
  await page.getByTestId("register-password").fill(user.password);
  await page.getByTestId("register-submit").click();
  await page.getByText("The account is there: log in.").waitFor();
  return user;
}

/** The link that does `action` in the newest mail to an address, once it has arrived. */
async function linkTo(email, action) {
  const deadline = Date.now() + DEADLINE_MS;
  for (;;) {
    const lines = (await readFile(required("MAIL_FILE"), "utf8")).split("\n").filter(Boolean);
    const mails = lines.map((line) => JSON.parse(line)).filter(({ to }) => to?.includes(email));
    const link = mails.at(-1)?.text.match(new RegExp(`http\\S+#${action}=\\S+`))?.[0];
    if (link) return link;
    assert.ok(Date.now() < deadline, `no mail to ${email}`);
    await pause(50);
  }
}

/** Fails the test if the token of a link leaves the browser in a URL or a Referer. */
function watchToken(page, link) {
  const token = link.split("=").at(-1);
  const leaks = [];
  page.context().on("request", (request) => {
    if (`${request.url()} ${request.headers().referer ?? ""}`.replace(/#.*? |#.*$/, " ").includes(token)) leaks.push(request.url());
  });
  return () => {
    assert.deepEqual(leaks, []);
    assert.ok(!page.url().includes(token), page.url());
  };
}

for (const [size, options] of Object.entries(SIZES)) {
  test(`on ${size}, an account is made, a forgotten password is set by the link in the mail, and every other device is signed out`, async (t) => {
    const { page: first } = await open(t, { ...options, tolerated: /POST \/register .*HTTP 4/ });
    const user = await registerOn(first, size);
    await linkTo(user.email, "verify").then(async (link) => {
      const { page } = await open(t, options);
      const assertKept = watchToken(page, link);
      await page.goto(link);
      // A link in the tab of the page itself loads the page anew.
      await page.getByTestId("verify-form").waitFor();
      await assertAccessible(page);
      await assertFitsWidth(page);
      await draw(page, `verify-${size}`);
      await page.getByRole("button", { name: "Verify the address" }).click();
      await page.getByText("The e-mail address is verified.").waitFor();
      assertKept();
    });
    const { page: elsewhere } = await open(t, { tolerated: /HTTP 401/ });
    await logIn(elsewhere, user.username, user.password);
    await inLobby(elsewhere);
    await elsewhere.getByTestId("account-button").click();
    await elsewhere.getByTestId("email-now").getByText(user.email, { exact: true }).waitFor();
    await elsewhere.getByTestId("account-close").click();

    const { page } = await open(t, { ...options, tolerated: /POST \/password\/reset .*HTTP 4/ });
    await page.getByTestId("forgot-button").click();
    await assertAccessible(page);
    await assertFitsWidth(page);
    await draw(page, `forgot-${size}`);
    await page.getByTestId("forgot-email").fill(user.email);
    await page.getByTestId("forgot-submit").click();
    await page.getByText("If an account has this address, a mail with a link is on its way.").waitFor();
    const link = await linkTo(user.email, "reset");
    const assertKept = watchToken(page, link);
    await page.goto(link);
    await page.getByTestId("reset-password").fill("password1");
    await page.getByTestId("reset-submit").click();
    await page.getByTestId("reset-error").getByText(/guess/).waitFor();
    await assertAccessible(page);
    await assertFitsWidth(page);
    await draw(page, `reset-${size}`);
    const password = newPassword();
    await page.getByTestId("reset-password").fill(password);
    await page.getByTestId("reset-submit").click();
    await page.getByText("The password is changed, and all sessions have ended.").waitFor();
    assertKept();
    await ended(elsewhere, "Disconnected: the server ended this session.");
    await logIn(page, user.username, user.password);
    await page.getByTestId("login-error").getByText("Wrong username or password.").waitFor();
    await logIn(page, user.username, password);
    await inLobby(page);

    // The link was used.
    const { page: late } = await open(t, { ...options, tolerated: /POST \/password\/reset .*HTTP 400/ });
    await late.goto(link);
    await late.getByTestId("reset-password").fill(newPassword());
    await late.getByTestId("reset-submit").click();
    await late.getByTestId("reset-error").getByText("the link was used, or has ended").waitFor();
    await late.getByTestId("reset-back").click();
    await late.getByTestId("login-form").waitFor();
  });
}

test("another address is asked for in the account, and is there once its link is followed", async (t) => {
  const user = await register();
  const { page } = await open(t, { tolerated: /POST \/email .*HTTP 401/ });
  await logIn(page, user.username, user.password);
  await inLobby(page);
  await page.getByTestId("account-button").click();
  await page.getByText("Your account has no address.").waitFor();
  const email = `other-${user.email}`;
  const ask = async (password) => {
    await page.getByTestId("email-new").fill(email);
    await page.getByTestId("email-password").fill(password);
    await page.getByTestId("email-submit").click();
  };
  await ask("not the password");
  await page.getByTestId("email-result").getByText("The password is wrong.").waitFor();
  await ask(user.password);
  await page.getByTestId("email-result").getByText("A mail with a link is on its way.").waitFor();
  await assertAccessible(page);
  await page.goto(await linkTo(email, "verify"));
  await page.getByRole("button", { name: "Verify the address" }).click();
  // The session goes on where the user was.
  await inLobby(page);
  await page.getByTestId("account-button").click();
  await page.getByTestId("email-now").getByText(email, { exact: true }).waitFor();
});

test("without a link in the address bar the page is the login, and a link that is none is left alone", async (t) => {
  for (const fragment of ["", "#reset=", "#reset=a b", "#other=token"]) {
    const { page } = await openIn(t, browser, `${required("MAIL_GATEWAY_URL")}/${fragment}`);
    await page.getByTestId("login-form").waitFor();
  }
});
