// The page that the gateway serves: log in over HTTP, then talk over Socket.IO with the stock client.
//
// The access token is in memory only, and the refresh token in a cookie that no script reads. What comes from the
// network is shown with textContent, so the page has no way to run what a peer has written.

import { Account } from "./account.js";
import { Composer } from "./composer.js";
import { loadIssuer, loadMetadata } from "./issuer.js";
import { Work, signedIn } from "./kept.js";
import { LoginForm } from "./login.js";
import { MailForms, hasLink, takeLink } from "./mail.js";
import { $, announce } from "./page.js";
import { Rooms } from "./rooms.js";
import { Session } from "./session.js";
import { tokens } from "./tokens.js";

const RETRY_MS = 3_000;

/** Session of the signed-in user, or null: `{connection, rooms, composer}`. */
let session = null;

/** The rooms of a session that ended by itself, for its user alone. After the next login they show the missed messages. */
let leftRooms = null;

const login = new LoginForm(startSession);
const account = new Account();
const mail = new MailForms(leaveMail);

// ---- the session

/** Starts the session of a token that `tokens` holds, in place of a running one. */
function startSession(held) {
  const { claims, username } = held;
  const sub = String(claims.sub ?? "");
  const me = { sub, name: claims.name || claims.preferred_username || claims.email || username };
  const work = new Work(sub);
  // A login in another tab may have started a session while the password of this login was checked.
  if (session) closeSession();
  const isBack = leftRooms?.me.sub === sub && sub !== "";
  const rooms = isBack ? leftRooms : new Rooms(me, claims, work);
  leftRooms = null;
  if (isBack) rooms.allow(claims);
  login.clear();
  showView("view-session");
  session = { username, rooms, work, composer: new Composer(rooms, work) };
  session.connection = new Session(held, rooms, endSession);
  rooms.show();
  showPeople(matchMedia("(min-width: 64rem)").matches);
  focusRoom();
}

/** Closes the session's connection, and keeps its rooms for its user. */
function closeSession() {
  session.connection.close();
  account.close();
  leftRooms = session.rooms;
  session = null;
}

/** Ends the session and says why at the login form, whatever the cause. */
function endSession(title, text, code = "") {
  const { rooms, username } = session;
  closeSession();
  tokens.forget(rooms.me.sub);
  for (const id of ["room-list", "messages", "people-list", "unsent"]) $(id).replaceChildren();
  $("text").value = "";
  $("composer-error").textContent = "";
  login.showEnd(username, title, text, code);
  showView("view-login");
  announce(`${title} ${text}`);
  login.focus();
}

/** Ends the session here, in every tab and at the issuer. Nothing is kept of a session whose user has ended it. */
async function logOut() {
  session.work.clear();
  const ended = tokens.logOut();
  endSession("You logged out.", "The session is being ended everywhere…");
  leftRooms = null;
  const isOver = () => session !== null;
  try {
    await ended;
    if (!isOver()) login.showEndText("The session has ended, here and in every tab.");
  } catch (error) {
    if (!isOver()) login.showEndText(`${error.message} This page ends the session there as soon as it can.`);
  }
}

/** Goes on with the session of an earlier page, or of another tab. Tries again while the issuer cannot be reached. */
async function resume() {
  if (session || !signedIn.read()) return;
  if ($("view-login").hidden) showView("view-start");
  try {
    const held = await tokens.resume();
    if (held && !session) startSession(held);
  } catch (error) {
    login.showError(`${error.message} Trying again…`);
    setTimeout(resume, RETRY_MS);
  }
  if (!session) showLogin();
}

function showLogin() {
  if (!$("view-login").hidden) return;
  showView("view-login");
  login.focus();
}

/** Leaves the forms about mail: goes on with a session, or shows the login form and a message there. */
function leaveMail(message) {
  showView("view-start");
  resume().finally(() => {
    if (session) return announce(message);
    showLogin();
    if (message) login.showNotice(message);
  });
}

const finishLogout = () => tokens.finishLogout().catch(() => {});

// ---- the page

function showView(id) {
  for (const view of ["view-start", "view-login", "view-mail", "view-session"]) $(view).hidden = view !== id;
}

function showPeople(shown) {
  const { log } = session.rooms.current;
  const follow = log.isFollowed;
  $("people").hidden = !shown;
  $("people-button").setAttribute("aria-expanded", String(shown));
  // On a narrow screen the list takes its height from the messages.
  if (follow) log.scrollToEnd();
}

/** On a touch screen the composer would call up the keyboard at once. */
function focusRoom() {
  (matchMedia("(pointer: coarse)").matches ? $("room-title") : $("text")).focus();
}

function submitJoin(event) {
  event.preventDefault();
  const name = $("join-room").value.trim();
  if (name === "") return $("join-room").focus();
  $("join-room").value = "";
  $("join").open = false;
  session.rooms.open(name);
  focusRoom();
}

$("forgot-button").addEventListener("click", () => {
  showView("view-mail");
  mail.askEmail();
});
$("register-button").addEventListener("click", () => {
  showView("view-mail");
  mail.askAccount();
});
loadMetadata().then(({ registration }) => ($("register-button").hidden = registration !== "open"));
$("logout").addEventListener("click", logOut);
$("account-button").addEventListener("click", () => account.open());
$("join-form").addEventListener("submit", submitJoin);
$("people-button").addEventListener("click", () => showPeople($("people").hidden));
$("enter-leave").addEventListener("click", () => session.rooms.toggle());
$("remove-room").addEventListener("click", () => {
  session.rooms.remove();
  focusRoom();
});
$("messages").addEventListener("shown", ({ detail }) => session?.composer.shown(detail));
$("messages").addEventListener("selected", () => session?.composer.show());
$("messages").addEventListener("connected", () => session?.composer.connected());
$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  session.composer.submit();
});
$("text").addEventListener("input", () => session.composer.keep());
$("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
});
$("newer").addEventListener("click", () => {
  const { log } = session.rooms.current;
  log.scrollToEnd();
  log.node.focus();
});
window.addEventListener("online", finishLogout);
// The user has signed in, in another tab.
tokens.addEventListener("login", () => session || startSession(tokens.held));
loadIssuer().then(
  (issuer) => ($("issuer").textContent = issuer),
  () => login.showError("Cannot read the page's configuration from the gateway."),
);
// A link that is opened in a tab with the page: the page begins anew.
window.addEventListener("hashchange", () => hasLink() && location.reload());
const link = takeLink();
finishLogout();
if (link) {
  showView("view-mail");
  mail.follow(link);
} else if (signedIn.read()) resume();
else showLogin();
