// The page that the gateway serves: log in over HTTP, then talk over Socket.IO with the stock client.
//
// The token is held in memory only, never in storage or a cookie: a reload logs out. What comes from the
// network is shown with textContent, so the page has no way to run what a peer has written.

import { loadIssuer, postLogin, unverifiedClaims } from "./login.js";
import { Room, element, hue, initials } from "./room.js";

const $ = (id) => document.getElementById(id);

const WARN_MS = 60_000;
const ACK_MS = 10_000;
/** The gateway ends a session the second its token ends; past this grace the page stops waiting to be told. */
const EXPIRY_GRACE_MS = 5_000;

/** `connect_error` messages of the gateway, which are a closed list, in words for a person. */
const REFUSALS = {
  "no token provided": "The gateway was given no token.",
  "jwt not active": "The token is not valid yet. The clocks of the two services may differ.",
  "jwt malformed": "What was presented is not a token.",
  "jwt signature is required": "The token is not signed.",
  "invalid signature": "The gateway does not know the key that signed this token.",
  "invalid algorithm": "The token is signed in a way that the gateway does not accept.",
  "jwt key unknown": "The gateway does not know the key that signed this token.",
  "jwt issuer invalid": "The gateway does not trust this sign-in service.",
  "jwt audience invalid": "The token is meant for another service.",
  "jwt lifetime too long": "The token lives longer than the gateway allows.",
  "jwt issued in the future": "The token is not valid yet. The clocks of the two services may differ.",
};

/** `disconnect` reasons after which the client reconnects by itself. */
const RECONNECTING = {
  "transport close": "Connection lost, reconnecting…",
  "transport error": "Connection failed, reconnecting…",
  "ping timeout": "The gateway fell silent, reconnecting…",
  "parse error": "The gateway sent something unreadable, reconnecting…",
};

/** All that belongs to the signed-in user; null when nobody is. It goes as a whole, and the token with it. */
let session = null;

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
  const lifetime = expires_in * 1000 || claims.exp * 1000 - Date.now() || 0;
  session = {
    username,
    me: { sub, name: claims.name || claims.preferred_username || claims.email || username },
    lifetime,
    expiresAt: Date.now() + lifetime,
    warned: false,
    admitted: false,
    rooms: new Map(),
    current: null,
    unsent: null,
    ticking: setInterval(tick, 500),
    socket: connect(token),
  };
  $("password").value = "";
  $("avatar").textContent = initials(session.me.name);
  $("avatar").className = `avatar hue-${hue(sub)}`;
  setIdentity("signing in as");
  setStatus("connecting");
  addRoom("lobby", "lobby", "room-lobby");
  if (sub) addRoom(`user:${encodeURIComponent(sub)}`, "your room", "room-own");
  showView("view-session");
  selectRoom(session.rooms.get("lobby"));
  tick();
  // On a touch screen the composer would call up the keyboard at once.
  (matchMedia("(pointer: coarse)").matches ? $("room-title") : $("text")).focus();
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
  socket.on("rt:gap", ({ room, from, to }) => session.rooms.get(room)?.addLine(`Messages ${from} to ${to} are missing here.`));
  socket.on("rt:unsubscribed", ({ room, code }) => leaveRoom(session.rooms.get(room), `You are no longer in this room (${code}).`));
  socket.onAny(onPublished);
  return socket;
}

/** Ends the session and says why at the login form. The only way out of a session, whatever the cause. */
function endSession(title, text, code = "") {
  clearInterval(session.ticking);
  session.socket.offAny();
  session.socket.removeAllListeners();
  session.socket.disconnect();
  $("username").value = session.username;
  session = null;
  $("room-list").replaceChildren();
  $("messages").replaceChildren();
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
  rooms.forEach(subscribe);
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

// ---- rooms

function addRoom(name, label, testId) {
  const room = new Room(name, label, session.me);
  room.button.dataset.testid = testId;
  room.button.addEventListener("click", () => selectRoom(room));
  room.log.addEventListener("unseen", () => room.isShown && ($("newer").hidden = false));
  room.log.addEventListener("scroll", () => room.isFollowed && ($("newer").hidden = true));
  const item = element("li");
  item.append(room.button);
  $("room-list").append(item);
  $("messages").append(room.log);
  session.rooms.set(name, room);
  return room;
}

function selectRoom(room) {
  session.current = room;
  for (const other of session.rooms.values()) other.show(other === room);
  $("newer").hidden = true;
  $("composer-error").textContent = "";
  showRoomHead();
}

function showRoomHead() {
  const { label, name, standing, isSilent } = session.current;
  $("room-title").textContent = label;
  $("room-can").textContent = name === label ? standing : `${name} · ${standing}`;
  $("text").readOnly = isSilent;
  $("text").placeholder = isSilent ? "You may not write here" : `Write to ${label}`;
  $("send-button").setAttribute("aria-disabled", String(isSilent));
}

function subscribe(room) {
  const { socket } = session;
  socket.timeout(ACK_MS).emit("rt:subscribe", { room: room.name }, (late, answer) => {
    if (session?.socket !== socket || (late && !socket.connected)) return;
    if (late || !answer?.ok) return leaveRoom(room, refusalText("Could not join", late, answer));
    room.joined(answer);
    showRoomHead();
  });
}

function leaveRoom(room, why) {
  room?.left(why);
  showRoomHead();
}

function submitJoin(event) {
  event.preventDefault();
  const name = $("join-room").value.trim();
  if (name === "") return $("join-room").focus();
  const room = session.rooms.get(name) ?? addRoom(name, name, `room-${name}`);
  selectRoom(room);
  room.button.scrollIntoView({ block: "nearest", inline: "nearest" });
  $("join-room").value = "";
  if (session.socket.connected && room.state !== "joined") subscribe(room);
}

// ---- messages

/** The user's own messages come this way too: the broadcast is the truth. */
function onPublished(event, data, meta) {
  if (event.startsWith("rt:")) return;
  session.rooms.get(meta?.room)?.receive(event, data, meta);
  if (session.unsent && meta?.id === session.unsent.id) {
    if ($("text").value === session.unsent.text) $("text").value = "";
    session.unsent = null;
    $("composer-error").textContent = "";
  }
}

function submitMessage(event) {
  event.preventDefault();
  const { socket, current: room } = session;
  const text = $("text").value.trim();
  $("text").focus();
  if (text === "" || $("text").readOnly) return;
  if (!socket.connected) return void ($("composer-error").textContent = "Not sent: the connection is down.");
  // A repeat keeps its id, so that the gateway can tell it from a new message.
  const isRepeat = session.unsent?.text === text && session.unsent.room === room;
  const id = isRepeat ? session.unsent.id : randomId();
  $("text").value = "";
  $("composer-error").textContent = "";
  socket.timeout(ACK_MS).emit("rt:publish", { room: room.name, event: "message", data: { text }, id }, (late, answer) => {
    if (session?.socket !== socket || (!late && answer?.ok)) return;
    session.unsent = { room, text, id };
    if (session.current === room && $("text").value === "") $("text").value = text;
    $("composer-error").textContent = refusalText("Not sent", late, answer);
  });
}

function refusalText(what, late, answer) {
  if (late) return `${what}: the gateway did not answer.`;
  const { message, code } = answer?.error ?? {};
  return `${what}: ${message ?? "the gateway refused"}${code ? ` (${code})` : ""}`;
}

function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
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

function announce(text) {
  $("announcer").textContent = text;
}

$("login-form").addEventListener("submit", submitLogin);
$("logout").addEventListener("click", () => endSession("You logged out.", "The token is forgotten."));
$("join-form").addEventListener("submit", submitJoin);
$("composer").addEventListener("submit", submitMessage);
$("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
});
$("newer").addEventListener("click", () => {
  session.current.scrollToEnd();
  session.current.log.focus();
});
showView("view-login");
$("username").focus();
loadIssuer().then(
  (issuer) => ($("issuer").textContent = issuer),
  () => showLoginError("Cannot read the page's configuration from the gateway."),
);
