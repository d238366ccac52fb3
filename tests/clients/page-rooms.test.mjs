// The rooms on the gateway's page: who is there, what was said before, what was missed, and what is missing.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { grantedRooms, ownRoom } from "../../realtime-service/console/grants.js";
import { SIZES, assertAccessible, assertFitsWidth, bobIn, breakable, draw, inLobby, launch, logIn, open as openIn, say } from "./browser.mjs";
import { login, next, required, unverifiedClaims } from "./support.mjs";

let browser;

before(async () => {
  browser = await launch();
});

after(() => browser?.close());

/** Opens the page of the stack whose variables begin with `prefix`. */
const open = async (t, prefix = "", options = {}) => (await openIn(t, browser, required(`${prefix}GATEWAY_URL`), options)).page;

async function openLobby(t, prefix = "", username = "alice", options = {}) {
  const page = await open(t, prefix, options);
  await logIn(page, username);
  await inLobby(page);
  return page;
}

async function enter(page, room) {
  const input = page.getByTestId("join-input");
  if (!(await input.isVisible())) await page.getByText("Another room").click();
  await input.fill(room);
  await page.getByTestId("join-submit").click();
}

const line = (page, text) => page.getByRole("log").getByText(text);
const message = (page, text) => page.getByTestId("message-text").getByText(text, { exact: true });

/** What the log that is shown says, from top to bottom: messages and the lines between them. */
const shown = (page) => page.getByRole("log").locator(".text, .line:not(.presence)").allInnerTexts();

test("two pages see each other come and go", async (t) => {
  const alice = await openLobby(t, "SMALL_");
  await alice.getByTestId("people-button").getByText("1 here").waitFor();
  assert.equal(await alice.getByTestId("person").count(), 1);

  const bob = await openLobby(t, "SMALL_", "bob");
  await line(alice, "bob came in").waitFor();
  await alice.getByTestId("people-button").getByText("2 here").waitFor();
  await alice.getByTestId("person").getByText("bob").waitFor();
  await bob.getByTestId("person").getByText("alice").waitFor();

  await bob.getByTestId("logout").click();
  await line(alice, "bob left").waitFor();
  await alice.getByTestId("people-button").getByText("1 here").waitFor();
  assert.deepEqual(await alice.getByTestId("person").locator(".person-name").allInnerTexts(), ["alice"]);
});

test("the list of people can be put away, with the keyboard too", async (t) => {
  const page = await openLobby(t);
  const button = page.getByTestId("people-button");
  assert.equal(await button.getAttribute("aria-expanded"), "true");
  await button.focus();
  await page.keyboard.press("Enter");
  await page.getByTestId("people").waitFor({ state: "hidden" });
  assert.equal(await button.getAttribute("aria-expanded"), "false");
  await page.keyboard.press("Enter");
  await page.getByTestId("people").waitFor();
});

test("the page with people and a long conversation fits a phone", async (t) => {
  const bob = await bobIn(t);
  const { page } = await openIn(t, browser, required("GATEWAY_URL"), { viewport: { width: 360, height: 640 }, isMobile: true, hasTouch: true });
  await logIn(page);
  await inLobby(page);
  for (let number = 1; number <= 12; number += 1) await say(bob, `a-long-word-${number}-`.repeat(12));
  await page.getByTestId("message-text").getByText("a-long-word-12-").waitFor();
  const button = page.getByTestId("people-button");
  assert.equal(await page.getByTestId("people").isVisible(), false);
  await button.click();
  await page.getByTestId("person").getByText("bob").waitFor();
  assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 360);
  // The newest message stays in sight above the composer.
  const [newest, composer] = [page.getByTestId("message").last(), page.getByTestId("composer-input")];
  const bottom = async (locator) => locator.boundingBox().then(({ y, height }) => y + height);
  assert.ok((await bottom(newest)) <= (await composer.boundingBox()).y);
});

test("a crowd is named as far as the gateway names it, and counted", async (t) => {
  await bobIn(t, "CROWD_");
  const alice = await openLobby(t, "CROWD_");
  await alice.getByTestId("people-note").getByText("and 1 other; 2 connections in all").waitFor();
  await alice.getByTestId("people-button").getByText("2 here").waitFor();
  assert.equal(await alice.getByTestId("person").count(), 1);
});

test("who comes for the first time reads what was said before, also after a reload", async (t) => {
  const bob = await bobIn(t, "SMALL_");
  await say(bob, "Said before alice came.");
  const page = await openLobby(t, "SMALL_");
  await message(page, "Said before alice came.").waitFor();
  await say(bob, "Said while she was there.");
  await message(page, "Said while she was there.").waitFor();

  await page.reload();
  await inLobby(page);
  await message(page, "Said while she was there.").waitFor();
  const texts = await shown(page);
  const since = texts.indexOf("Said before alice came.");
  assert.deepEqual(texts.slice(since), ["Said before alice came.", "Said while she was there.", "You came in"]);
  assert.equal(await page.getByTestId("line-gap").count(), 0);
});

/** Breaks alice's connection, lets bob say so many things meanwhile, and gives what she is shown of it. */
async function missed(t, prefix, count) {
  const bob = await bobIn(t, prefix);
  const page = await open(t, prefix);
  const connection = await breakable(page);
  await logIn(page);
  await inLobby(page);
  const name = `before ${count} are missed`;
  await say(bob, name);
  await message(page, name).waitFor();

  await connection.break();
  await page.getByTestId("composer-input").fill("Is anybody there?");
  await page.getByTestId("composer-send").click();
  await page.getByTestId("unsent").getByText("Not sent: the connection is down.").waitFor();
  await page.getByTestId("discard").click();
  for (let number = 1; number <= count; number += 1) await say(bob, `missed ${number} of ${count}`);
  await connection.mend();
  await line(page, "You are back").waitFor();
  await say(bob, `after ${count} were missed`);
  await message(page, `after ${count} were missed`).waitFor();
  const texts = await shown(page);
  return texts.slice(texts.indexOf(name) + 1);
}

test("what was said while the connection was broken is shown in its place, once", async (t) => {
  assert.deepEqual(await missed(t, "SMALL_", 3), [
    "3 messages from while you were away",
    "missed 1 of 3",
    "missed 2 of 3",
    "missed 3 of 3",
    "You are back",
    "after 3 were missed",
  ]);
});

test("all that was missed is shown, even if it is more than is shown at first", async (t) => {
  const texts = await missed(t, "", 60);
  const expected = Array.from({ length: 60 }, (_, index) => `missed ${index + 1} of 60`);
  assert.deepEqual(texts, ["60 messages from while you were away", ...expected, "You are back", "after 60 were missed"]);
});

test("what is not kept any more is said to be missing, where it is missing", async (t) => {
  assert.deepEqual(await missed(t, "SMALL_", 5), [
    "3 messages from while you were away",
    "Some messages are missing here (2)",
    "missed 3 of 5",
    "missed 4 of 5",
    "missed 5 of 5",
    "You are back",
    "after 5 were missed",
  ]);
});

for (const [size, options] of Object.entries(SIZES)) {
  test(`on ${size}, a message that was not sent is sent again by a button, also after a reload`, async (t) => {
    const bob = await bobIn(t, "SMALL_");
    const page = await open(t, "SMALL_", options);
    const connection = await breakable(page);
    await logIn(page);
    await inLobby(page);
    await connection.break();
    await page.getByTestId("composer-input").fill(`Sent from a tunnel, on ${size}`);
    await page.getByTestId("composer-send").click();
    const unsent = page.getByTestId("unsent").filter({ hasText: `Sent from a tunnel, on ${size}` });
    await unsent.getByText("Not sent: the connection is down.").waitFor();
    assert.equal(await page.getByTestId("composer-input").inputValue(), "");
    await draw(page, `unsent-${size}`);
    await connection.mend();
    // The note about the connection goes with the broken connection, and the message stays.
    await unsent.getByText("Not sent.", { exact: true }).waitFor();
    await assertAccessible(page);
    await assertFitsWidth(page);
    await page.reload();
    await inLobby(page);
    const heard = next(bob, "message");
    await unsent.getByTestId("send-again").click();
    assert.equal((await heard)[0].text, `Sent from a tunnel, on ${size}`);
    await message(page, `Sent from a tunnel, on ${size}`).waitFor();
    await unsent.waitFor({ state: "detached" });
    await page.reload();
    await message(page, `Sent from a tunnel, on ${size}`).waitFor();
    assert.equal(await unsent.count(), 0);
  });
}

test("a message whose answer is lost is kept, until it turns out to have been sent", async (t) => {
  const bob = await bobIn(t, "SMALL_");
  const page = await open(t, "SMALL_");
  const connection = await breakable(page);
  await logIn(page);
  await inLobby(page);
  connection.mute();
  const heard = next(bob, "message");
  await page.getByTestId("composer-input").fill("Did this arrive?");
  await page.getByTestId("composer-send").click();
  assert.equal((await heard)[0].text, "Did this arrive?");
  await connection.break();
  await page.getByTestId("unsent").getByText("Perhaps not sent: the gateway did not answer.").waitFor();

  await connection.mend();
  await message(page, "Did this arrive?").waitFor();
  await page.getByTestId("unsent").waitFor({ state: "detached" });
});

test("a room shows each message once and in order, and each gap", async (t) => {
  const page = await open(t);
  const texts = await page.evaluate(async () => {
    const { Room } = await import("/console/room.js");
    const room = new Room("chat:42", "chat:42", { sub: "me", name: "me" });
    const said = (epoch, offset) => ({ event: "message", data: { text: `${epoch} ${offset}` }, meta: { epoch, offset, ts: 0 } });
    const come = (epoch, offset, ...before) => room.entered({ epoch, offset, can: ["sub"] }, before.map((number) => said(epoch, number)));
    room.enter();
    for (const offset of [3, 4]) room.receive(said("first", offset));
    come("first", 2, 1, 2, 3);
    for (const offset of [4, 5, 8]) room.receive(said("first", offset));
    room.enter();
    come("first", 9);
    room.enter();
    come("second", 2, 2);
    room.enter();
    come("third", 1, 1);
    return [...room.log.node.children].map((node) => (node.querySelector(".text") ?? node).textContent);
  });
  const gap = (count) => `Some messages are missing here (${count})`;
  const first = ["first 1", "first 2", "first 3", "You came in", "first 4", "first 5", gap(2), "first 8", gap(1)];
  const second = ["1 message from while you were away", "The room began anew", gap(1), "second 2", "You are back"];
  // Nothing of the third epoch is missing, nor is anything known to be.
  const third = ["1 message from while you were away", "The room began anew", "third 1", "You are back"];
  assert.deepEqual(texts, [...first, ...second, ...third]);
});

test("who leaves a room and comes back is shown what was missed", async (t) => {
  const bob = await bobIn(t, "SMALL_");
  const page = await openLobby(t, "SMALL_");
  await say(bob, "before she leaves");
  await message(page, "before she leaves").waitFor();
  await page.getByTestId("enter-leave").click();
  await page.getByTestId("room-can").getByText("you are not in this room").waitFor();
  await say(bob, "while she is out");
  await page.getByTestId("enter-leave").click();
  await line(page, "1 message from while you were away").waitFor();
  await message(page, "while she is out").waitFor();
  assert.equal(await message(page, "before she leaves").count(), 1);
});

test("who logs in again after the token has ended is shown what was missed; who logged out is not", async (t) => {
  const page = await openLobby(t, "SHORT_", "alice", { tolerated: /POST \/token\/refresh: HTTP 400/ });
  const ended = page.getByTestId("disconnected-reason");
  await page.context().clearCookies();
  await ended.getByText("Disconnected: your session expired.").waitFor();
  const bob = await bobIn(t, "SHORT_");
  await say(bob, "while she was logged out");
  await logIn(page);
  await inLobby(page);
  await message(page, "while she was logged out").waitFor();
  await line(page, "1 message from while you were away").waitFor();

  await page.getByTestId("logout").click();
  await ended.getByText("You logged out.").waitFor();
  await logIn(page);
  await inLobby(page);
  await line(page, "You came in").waitFor();
  assert.equal(await line(page, "while you were away").count(), 0);
});

for (const [size, options] of Object.entries(SIZES)) {
  test(`on ${size}, a room that was refused or left can be removed, and the others are there after a reload`, async (t) => {
    const page = await openLobby(t, "CROWD_", "alice", options);
    const [refused, open] = [page.getByTestId("room-org:somebody-else"), page.getByTestId("room-demo:42")];
    await enter(page, "org:somebody-else");
    await line(page, "Could not enter: you have no right to it (forbidden).").waitFor();
    await page.getByTestId("room-can").getByText("you are not in this room").waitFor();
    assert.equal(await page.getByTestId("composer-input").getAttribute("readonly"), "");
    await assertAccessible(page);
    await assertFitsWidth(page);
    await draw(page, `refused-${size}`);
    await page.getByTestId("remove-room").click();
    await refused.waitFor({ state: "detached" });
    await page.getByTestId("room-title").getByText("lobby").waitFor();
    assert.equal(await page.getByTestId("remove-room").isVisible(), false);

    await enter(page, "demo:42");
    await page.getByTestId("room-can").getByText("you may read and write").waitFor();
    assert.equal(await page.getByTestId("remove-room").isVisible(), false);
    await page.reload();
    await inLobby(page);
    await open.click();
    await page.getByTestId("room-can").getByText("you may read and write").waitFor();
    await page.getByTestId("enter-leave").click();
    await page.getByTestId("remove-room").click();
    await open.waitFor({ state: "detached" });
    await page.reload();
    await inLobby(page);
    assert.equal(await open.count(), 0);
  });
}

test("the suggestion is a room that may be entered, and there is none without a right to one", async (t) => {
  const page = await openLobby(t, "CROWD_");
  await page.getByText("Another room").click();
  const suggestion = await page.getByTestId("join-input").getAttribute("placeholder");
  assert.equal(suggestion, "demo:42");
  await page.getByTestId("patterns").getByText("demo:*").waitFor();
  await enter(page, suggestion);
  await page.getByTestId("room-can").getByText("you may read and write").waitFor();

  const other = await openLobby(t);
  await other.getByText("Another room").click();
  assert.equal(await other.getByTestId("join-input").getAttribute("placeholder"), "");
});

test("a room's name is checked, and the user's own room may be entered", async (t) => {
  const page = await openLobby(t);
  await enter(page, "org::nobody");
  await line(page, "Could not enter: a room's name is parts between colons").waitFor();

  const { sub } = unverifiedClaims(await login(required("ISSUER_URL"), "alice", required("ALICE_PASSWORD")));
  await enter(page, ownRoom(sub));
  await page.getByTestId("room-can").getByText("you may read, write, look back and see who is here").waitFor();
});

test("the rooms that a token names are offered, and its patterns told", () => {
  const detail = (actions, rooms, type = "realtime") => ({ type, actions, rooms });
  const details = [
    detail(["sub", "pub"], ["chat:42", "org:acme:**", "team:*:news"]),
    detail(["pub"], ["inbox:reports"]),
    detail(["sub"], ["other:1"], "payment"),
    detail(["sub"], ["chat:42"]),
  ];
  const found = grantedRooms({ authorization_details: details });
  assert.deepEqual(found, { rooms: ["chat:42"], patterns: ["org:acme:**", "team:*:news"] });
  assert.deepEqual(grantedRooms({}), { rooms: [], patterns: [] });
  assert.equal(ownRoom("auth0|a (b)*!'"), "user:auth0%7Ca%20%28b%29%2A%21%27");
});

async function takePicture(t, path) {
  const bob = await bobIn(t);
  const page = await open(t);
  const connection = await breakable(page);
  await logIn(page);
  await inLobby(page);
  const answer = async (text) => {
    await page.getByTestId("composer-input").fill(text);
    await page.getByTestId("composer-send").click();
    await message(page, text).waitFor();
  };
  await say(bob, "Morning! The new signing key is live on both services.");
  await say(bob, "Nobody was disconnected.");
  await answer("Nice. I had this page open the whole time and noticed nothing.");
  await connection.break();
  await say(bob, "And without a token? “no token provided”, before a single event gets through.");
  await say(bob, "Are you still there?");
  await connection.mend();
  await line(page, "You are back").waitFor();
  await answer("The train was in a tunnel. Now I see what you wrote.");
  await page.getByTestId("transport").getByText("websocket").waitFor();
  await page.screenshot({ path, animations: "disabled", caret: "hide" });
}

const { SCREENSHOT } = process.env;
if (SCREENSHOT) test("the page with a few messages, for the README", (t) => takePicture(t, SCREENSHOT));
