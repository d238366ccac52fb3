// Calls to the issuer's HTTP API. The gateway's config.json names the issuer.

const DEADLINE_MS = 15_000;

/** The issuer's public URL, once read. */
let issuer = null;

/** The promise of the issuer's metadata; null until it is asked for, and after a failure. */
let metadata = null;

/** A refused or failed call. The message is for the user. */
export class IssuerError extends Error {
  /** `status` is 0 when there was no answer; `code` and `challenge` are members of the answer. */
  constructor(message, { status = 0, code = "", challenge = "" } = {}) {
    super(message);
    Object.assign(this, { status, code, challenge });
  }

  /** True if the same call may succeed later: after a network error, a rate limit, or an overload of the service. */
  get isTemporary() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

export async function loadIssuer() {
  const answer = await fetch("/console/config.json", { cache: "no-store" });
  if (!answer.ok) throw new Error(`config.json: HTTP ${answer.status}`);
  issuer = (await answer.json()).issuer.replace(/\/+$/, "");
  return issuer;
}

/**
 * Calls the issuer, with a bearer token if there is one, and with the issuer's cookies unless `cookies` is false.
 * Resolves to the parsed body, or to null when there is none. Throws an IssuerError.
 */
export async function callIssuer(method, path, { body, token, cookies = true } = {}) {
  try {
    issuer ??= await loadIssuer();
  } catch {
    throw new IssuerError("Cannot reach the gateway that served this page.");
  }
  const headers = { Accept: "application/json", "X-Latchkey": "1" };
  if (body) headers["Content-Type"] = "application/json";
  if (token) headers.Authorization = `Bearer ${token}`;
  let answer;
  try {
    answer = await fetch(`${issuer}${path}`, {
      method,
      headers,
      body: body && JSON.stringify(body),
      credentials: cookies ? "include" : "omit",
      cache: "no-store",
      signal: AbortSignal.timeout(DEADLINE_MS),
    });
  } catch {
    throw new IssuerError(`Cannot reach the sign-in service at ${issuer}.`);
  }
  if (answer.status === 204) return null;
  const parsed = await answer.json().catch(() => ({}));
  if (answer.ok) return parsed;
  const { code, challenge } = parsed;
  throw new IssuerError(problemText(answer, parsed), { status: answer.status, code, challenge });
}

/** Resolves to the issuer's metadata (RFC 8414), or to an empty object without an answer: the next call asks again. */
export async function loadMetadata() {
  metadata ??= callIssuer("GET", "/.well-known/oauth-authorization-server", { cookies: false });
  try {
    return await metadata;
  } catch {
    // The login by password reports what is wrong with the issuer.
    metadata = null;
    return {};
  }
}

/** The text of an `application/problem+json` answer. */
function problemText(answer, { code, title, detail }) {
  if (code === "invalid_credentials") return "Wrong username or password.";
  if (code === "code_refused") return "The code is wrong, was used before, or came too late.";
  if (answer.status === 429 || answer.status === 503) {
    const seconds = Number(answer.headers.get("Retry-After"));
    const when = seconds > 0 ? `in ${seconds} second${seconds === 1 ? "" : "s"}` : "in a moment";
    return `${answer.status === 429 ? "Too many attempts." : "The sign-in service is busy."} Try again ${when}.`;
  }
  return detail || title || `The sign-in service answered HTTP ${answer.status}.`;
}

/** Reads a token's claims for display. Only the gateway verifies a token. */
export function unverifiedClaims(token) {
  try {
    const part = token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(part), (char) => char.charCodeAt(0))));
  } catch {
    return {};
  }
}
