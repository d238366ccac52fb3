// Asking the gateway, and its refusals in words for a person.

const ACK_MS = 10_000;

/** `connect_error` messages of the gateway, which are a closed list. */
export const REFUSALS = {
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
  "jwt revoked": "The session was logged out elsewhere.",
  "too many connections": "You have as many connections as you may. Close another one, then log in again.",
};

/** `disconnect` reasons after which the client reconnects by itself. */
export const RECONNECTING = {
  "transport close": "Connection lost, reconnecting…",
  "transport error": "Connection failed, reconnecting…",
  "ping timeout": "The gateway fell silent, reconnecting…",
  "parse error": "The gateway sent something unreadable, reconnecting…",
};

/** `error.code` of an acknowledgement. What is not here is told in the gateway's own words. */
const ERRORS = {
  forbidden: "you have no right to it",
  invalid_room: "a room's name is parts between colons, such as chat:42, without * { }",
  too_many_rooms: "you are in as many rooms as you may be; leave one first",
  rate_limited: "that was too fast",
  unavailable: "the gateway cannot do it just now",
  unauthenticated: "you are not signed in",
  session_ended: "your session has ended",
  internal: "the gateway failed",
  late: "the gateway did not answer",
};

/**
 * Emits `event`, and resolves to its acknowledgement. Without one in time, or once the connection is down, that is
 * `{ok: false, error: {code: "late"}}`: whether it was done is then unknown.
 */
export function ask(socket, event, payload) {
  return new Promise((resolve) => {
    socket.timeout(ACK_MS).emit(event, payload, (late, answer) => resolve(late || !answer ? { ok: false, error: { code: "late" } } : answer));
  });
}

/** An acknowledgement that is a refusal: what was not done, why, and when to try again. */
export function refusalText(what, { error = {} }) {
  const why = ERRORS[error.code] ?? error.message ?? "the gateway refused";
  const seconds = Math.ceil((error.retry_after_ms ?? 0) / 1000);
  const again = seconds ? ` Try again in ${seconds} s.` : error.retryable ? " Try again in a moment." : "";
  return `${what}: ${why}${ERRORS[error.code] && error.code !== "late" ? ` (${error.code})` : ""}.${again}`;
}
