// The header of the signed-in page: the user, the connection, the time left on the token, and the note about the connection.

import { $, announce, avatar, element, userKey } from "./page.js";

const WARN_MS = 60_000;

export function showStatus(state, transport = "") {
  $("status").dataset.state = state;
  $("status-text").textContent = state;
  $("transport").textContent = transport;
}

/** Shows the user `{sub, name}` after a word or two such as "signing in as". */
export function showUser(lead, me) {
  $("avatar").replaceChildren(avatar(me.name, userKey(me)));
  $("identity").replaceChildren(element("small", "", `${lead} `), element("b", "", me.name));
}

/** Shows how many milliseconds are left of a token's lifetime. */
export function showTimeLeft(left, lifetime) {
  const seconds = Math.ceil(left / 1000);
  const pad = (number) => String(number).padStart(2, "0");
  $("token-left").textContent = `${pad(Math.floor(seconds / 60))}:${pad(seconds % 60)}`;
  $("token-bar").value = lifetime ? left / lifetime : 0;
  // The page renews a long-lived token before its last minute, so a shorter rest means that it cannot.
  $("token").classList.toggle("soon", left < Math.min(WARN_MS, lifetime / 4));
}

/** Shows a note about the connection, with the technical reason, and reads it aloud. */
export function showNotice(text, code = "") {
  $("connection-text").textContent = text;
  $("connection-code").textContent = code;
  if ($("connection-notice").hidden) announce(text);
  $("connection-notice").hidden = false;
}

export function hideNotice() {
  $("connection-notice").hidden = true;
}
