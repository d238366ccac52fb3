// Signing in: the gateway's config.json names the issuer, and the issuer's POST /login answers a token.

/** The sign-in service's public URL, once read. */
let issuer = null;

export async function loadIssuer() {
  const answer = await fetch("/console/config.json", { cache: "no-store" });
  if (!answer.ok) throw new Error(`config.json: HTTP ${answer.status}`);
  issuer = (await answer.json()).issuer.replace(/\/+$/, "");
  return issuer;
}

/** Answers what `POST /login` answered, or throws an Error whose message is for the person at the form. */
export async function postLogin(username, password) {
  try {
    issuer ??= await loadIssuer();
  } catch {
    throw new Error("Cannot reach the gateway that served this page.");
  }
  let answer;
  try {
    answer = await fetch(`${issuer}/login`, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json" },
      body: JSON.stringify({ username, password }),
      credentials: "omit",
      cache: "no-store",
      signal: AbortSignal.timeout(15_000),
    });
  } catch {
    throw new Error(`Cannot reach the sign-in service at ${issuer}.`);
  }
  const body = await answer.json().catch(() => ({}));
  if (answer.ok && typeof body.token === "string") return body;
  throw new Error(problemText(answer, body));
}

/** An `application/problem+json` answer in words. */
function problemText(answer, { code, title, detail }) {
  if (code === "invalid_credentials") return "Wrong username or password.";
  if (answer.status === 429 || answer.status === 503) {
    const seconds = Number(answer.headers.get("Retry-After"));
    const when = seconds > 0 ? `in ${seconds} second${seconds === 1 ? "" : "s"}` : "in a moment";
    return `${answer.status === 429 ? "Too many attempts." : "The sign-in service is busy."} Try again ${when}.`;
  }
  return detail || title || `The sign-in service answered HTTP ${answer.status}.`;
}

/** Reads a token's claims for display. Nothing is verified here: that is the gateway's work. */
export function unverifiedClaims(token) {
  try {
    const part = token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(part), (char) => char.charCodeAt(0))));
  } catch {
    return {};
  }
}
