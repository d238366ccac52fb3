// The page that the gateway serves: log in over HTTP, then talk over Socket.IO with the stock client.
//
// The token is held in memory only, never in storage or a cookie: a reload logs out. What comes from the
// network is shown with textContent, so the page has no way to run what a peer has written.

import { Composer } from "./composer.js";
import { RECONNECTING, REFUSALS } from "./gateway.js";
import { loadIssuer, postLogin, unverifiedClaims } from "./login.js";
import { $, announce, avatar, element, userKey } from "./page.js";
import { Rooms } from "./rooms.js";

const WARN_MS = 60_000;
/** The gateway ends a session the second its token ends; past this grace the page stops waiting to be told. */
const EXPIRY_GRACE_MS = 5_000;

/** All that belongs to the signed-in user; null when nobody is. It goes as a whole, and the token with it. */
let session = null;

/** The rooms of a session that ended by itself, for its user alone: who logs in again is shown what was missed. */
let leftRooms = null;

// ---- signing in

async function submitLogin(event) {
  event.preventDefault();
  const button = $("login-submit");
  if (button.getAttribute("aria-disabled") === "true") return;
  const username = $("username").value.trim();
  const password = $("password").value;
  const missing = username === "" ? $("username") : password === "" ? $("password") : null;
  if (missing) return showLoginError("Enter your username and password.", missing);
  if (typeof io === "undefined") return showLoginError("The Socket.IO client did not load. Check the network, then reload the page.", button);

  button.setAttribute("aria-disabled", "true");
  button.textContent = "Logging in…";
  showLoginError("");
  try {
    startSession(username, await postLogin(username, password));
  } catch (error) {
    showLoginError(error.message, $("password"));
  } finally {
    button.removeAttribute("aria-disabled");
    button.textContent = "Log in";
  }
}

function showLoginError(message, field) {
  $("login-error").textContent = message;
  for (const input of [$("username"), $("password")]) {
    input.removeAttribute("aria-invalid");
    input.removeAttribute("aria-describedby");
  }
  if (!field) return;
  $("ended").hidden = true;
  field.setAttribute("aria-invalid", "true");
  field.setAttribute("aria-describedby", "login-error");
  field.focus();
  if (field.matches("input")) field.select();
}

// ---- the session

function startSession(username, { token, expires_in }) {
  const claims = unverifiedClaims(token);
  const sub = String(claims.sub ?? "");
  const me = { sub, name: claims.name || claims.preferred_username || claims.email || username };
  const lifetime = expires_in * 1000 || claims.exp * 1000 - Date.now() || 0;
  const isBack = leftRooms?.me.sub === sub && sub !== "";
  const rooms = isBack ? leftRooms : new Rooms(me, claims);
  leftRooms = null;
  if (isBack) rooms.allow(claims);
  session = {
    username,
    me,
    lifetime,
    expiresAt: Date.now() + lifetime,
    warned: false,
    admitted: false,
    rooms,
    composer: new Composer(rooms),
    ticking: setInterval(tick, 500),
    socket: connect(token),
  };
  rooms.listen(session.socket);
  $("password").value = "";
  $("avatar").replaceChildren(avatar(me.name, userKey(me)));
  setIdentity("signing in as");
  setStatus("connecting");
  showView("view-session");
  rooms.show();
  showPeople(matchMedia("(min-width: 64rem)").matches);
  tick();
  focusRoom();
}

function connect(token) {
  const socket = io({ auth: (give) => give({ token }), forceNew: true });
  socket.on("connect", onConnect);
  socket.on("connect_error", onConnectError);
  socket.on("disconnect", onDisconnect);
  socket.on("unauthorized", onUnauthorized);
  socket.on("rt:expiring", ({ seconds_left }) => {
    session.expiresAt = Math.min(session.expiresAt, Date.now() + seconds_left * 1000);
  });
  socket.on("rt:drain", () => showNotice("The gateway is restarting, reconnecting in a moment…", "rt:drain"));
  return socket;
}

/** Ends the session and says why at the login form. The only way out of a session, whatever the cause. */
function endSession(title, text, code = "") {
  clearInterval(session.ticking);
  session.socket.offAny();
  session.socket.removeAllListeners();
  session.socket.disconnect();
  session.rooms.lost();
  $("username").value = session.username;
  leftRooms = session.rooms;
  session = null;
  for (const id of ["room-list", "messages", "people-list"]) $(id).replaceChildren();
  $("text").value = "";
  $("composer-error").textContent = "";
  $("connection-notice").hidden = true;
  showLoginError("");
  $("ended-title").textContent = title;
  $("ended-text").textContent = text;
  $("ended-code").textContent = code;
  $("ended-code").hidden = code === "";
  $("ended").hidden = false;
  showView("view-login");
  announce(`${title} ${text}`);
  $("password").focus();
}

/** Nothing is kept of a session whose user has ended it. */
function logOut() {
  endSession("You logged out.", "The token is forgotten.");
  leftRooms = null;
}

const endExpired = (code) => endSession("Disconnected: your session expired.", "Log in again to go on.", code);

function onConnect() {
  const { socket, me, rooms } = session;
  const { engine } = socket.io;
  setStatus("connected", engine.transport.name);
  engine.once("upgrade", (transport) => session?.socket === socket && setStatus("connected", transport.name));
  setIdentity("authenticated as");
  $("connection-notice").hidden = true;
  announce(session.admitted ? "Reconnected." : `Authenticated as ${me.name}.`);
  session.admitted = true;
  rooms.connected();
}

function onConnectError({ message }) {
  if (session.socket.active) {
    setStatus("reconnecting");
    return showNotice("Cannot reach the gateway, trying again…", message);
  }
  if (message === "jwt expired") return endExpired(message);
  endSession("The gateway refused the connection.", REFUSALS[message] ?? "It does not accept this token.", message);
}

function onUnauthorized({ message, data } = {}) {
  const code = data?.reason ?? data?.code ?? message;
  if (code === "token_expired") return endExpired(code);
  endSession("Disconnected: your session was ended.", REFUSALS[message] ?? "The gateway no longer accepts this token.", code);
}

function onDisconnect(reason) {
  if (Date.now() >= session.expiresAt) return endExpired(reason);
  if (!session.socket.active) return endSession("Disconnected: the server ended this session.", "Log in again to go on.", reason);
  const text = RECONNECTING[reason] ?? "Disconnected, reconnecting…";
  setStatus("reconnecting");
  session.rooms.lost();
  showNotice(text, reason);
  announce(text);
}

function tick() {
  const left = Math.max(0, session.expiresAt - Date.now());
  const seconds = Math.ceil(left / 1000);
  const pad = (number) => String(number).padStart(2, "0");
  $("token-left").textContent = `${pad(Math.floor(seconds / 60))}:${pad(seconds % 60)}`;
  $("token-bar").value = session.lifetime ? left / session.lifetime : 0;
  $("token").classList.toggle("soon", left < WARN_MS);
  if (left < WARN_MS && !session.warned) {
    session.warned = true;
    // A token that never had a minute is no news to announce.
    if (session.lifetime > WARN_MS) announce("Your session expires in one minute.");
  }
  const overdue = Date.now() - session.expiresAt;
  if (overdue > EXPIRY_GRACE_MS || (overdue > 0 && !session.socket.connected)) endExpired();
}

// ---- the page

function showView(id) {
  for (const view of ["view-login", "view-session"]) $(view).hidden = view !== id;
}

function setStatus(state, transport = "") {
  $("status").dataset.state = state;
  $("status-text").textContent = state;
  $("transport").textContent = transport;
}

function setIdentity(lead) {
  $("identity").replaceChildren(element("small", "", `${lead} `), element("b", "", session.me.name));
}

function showNotice(text, code) {
  $("connection-text").textContent = text;
  $("connection-code").textContent = code;
  $("connection-notice").hidden = false;
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

$("login-form").addEventListener("submit", submitLogin);
$("logout").addEventListener("click", logOut);
$("join-form").addEventListener("submit", submitJoin);
$("people-button").addEventListener("click", () => showPeople($("people").hidden));
$("enter-leave").addEventListener("click", () => session.rooms.toggle());
$("messages").addEventListener("shown", ({ detail }) => session?.composer.shown(detail));
$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  session.composer.submit();
});
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
showView("view-login");
$("username").focus();
loadIssuer().then(
  (issuer) => ($("issuer").textContent = issuer),
  () => showLoginError("Cannot read the page's configuration from the gateway."),
);
