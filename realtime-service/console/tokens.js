// The user's tokens: the access token in memory, the refresh token in a cookie that no script reads. All tabs share
// one session: one tab renews, and the others receive the token.

import { IssuerError, callIssuer, unverifiedClaims } from "./issuer.js";
import { deviceToken, signedIn, unfinishedLogout } from "./kept.js";

const CHANNEL = "latchkey";
const LOCK = "latchkey-renewal";
/** Maximum wait of a renewal for the lock. Two tabs that renew at once receive the same successor from the issuer. */
const LOCK_MS = 5_000;
/** Minimum wait of a renewal for the lock, if little is left of the token. */
const SHORT_LOCK_MS = 500;
/** Maximum wait of a login or a logout for the lock: more than the deadline of a call to the issuer. */
const SESSION_LOCK_MS = 20_000;
/** Maximum wait for the token of another tab that has just renewed. */
const HANDOVER_MS = 500;

/**
 * Dispatches `token` when another tab has a new token, before it `login` if a user has signed in there, and `out` when
 * another tab has logged out.
 *
 * A held token is `{token, claims, username, lifetime, expiresAt}`, with times in milliseconds.
 */
class Tokens extends EventTarget {
  #held = null;
  #renewal = null;
  /** Number of logins and logouts. A renewal that ends after a later one is dropped. */
  #departures = 0;
  /** The refresh token, where the browser does not keep the issuer's cookies: without https, and on another site. */
  #refreshToken = null;
  /** The session of such a refresh token that is still to be ended at the issuer, `{held, refreshToken}`, or null. */
  #left = null;
  #channel = new BroadcastChannel(CHANNEL);

  constructor() {
    super();
    this.#channel.addEventListener("message", ({ data }) => this.#receive(data));
  }

  /** The newest token, or null when nobody is signed in. */
  get held() {
    return this.#held;
  }

  /** Signs in with a password. An IssuerError with a `challenge` asks for a code. */
  async logIn(username, password) {
    await this.finishLogout().catch(() => {});
    return this.#start(username, "/login", { username, password }, true);
  }

  /** Signs in with the code that `challenge` asked for. */
  logInWithCode(username, challenge, code) {
    return this.#start(username, "/login/totp", { challenge, code }, false);
  }

  /**
   * Signs in with the answer of a passkey, `{state, credential}`. With the `challenge` of a login the passkey replaces the
   * code; without one the issuer knows the user by the passkey, and `username` may be undefined.
   */
  async logInWithPasskey(username, challenge, answer) {
    await this.finishLogout().catch(() => {});
    return this.#start(username, "/login/passkey", { ...answer, challenge }, true);
  }

  #start(username, path, body, takesDevice) {
    const start = async () => {
      const answer = await postLogin(path, body, takesDevice);
      this.#departures += 1;
      this.#refreshToken = answer.refresh_token ?? null;
      if (answer.device_token) deviceToken.write(answer.device_token);
      if (!this.#refreshToken) unfinishedLogout.write(null);
      return this.#take(username, answer, "login");
    };
    // The answer to a logout in another tab deletes the cookie.
    return this.#alone(start, SESSION_LOCK_MS);
  }

  /** Resumes the session of an earlier page. Resolves to its token, or to null when there is none. */
  async resume() {
    const earlier = signedIn.read();
    if (!earlier) return null;
    const departures = this.#departures;
    try {
      return await this.fresh(0);
    } catch (error) {
      if (error.isTemporary) throw error;
      if (this.#departures === departures) this.forget(earlier.sub);
      return null;
    }
  }

  /** Treats the held token as expired: a service has refused it. */
  distrust() {
    if (this.#held) this.#held = { ...this.#held, expiresAt: 0 };
  }

  /**
   * Resolves to a token that lives for another `margin` milliseconds, renewed if necessary. Throws an IssuerError
   * when there is none: unless it is temporary, the session has ended.
   */
  async fresh(margin) {
    const isFresh = () => this.#held !== null && this.#held.expiresAt - Date.now() > margin;
    if (!isFresh()) {
      this.#renewal ??= this.#renewAlone(isFresh).finally(() => (this.#renewal = null));
      await this.#renewal;
    }
    if (!this.#held) throw new IssuerError("You are signed out.", { status: 401 });
    return this.#held;
  }

  /** Ends the session at the issuer and in every tab. Rejects while the issuer cannot be reached. */
  logOut() {
    const held = this.#held;
    const isOwn = this.#refreshToken !== null;
    this.forget(held?.claims.sub);
    if (isOwn) this.#leave(held);
    else unfinishedLogout.write(held?.claims.sid ?? null);
    this.#channel.postMessage({ type: "out" });
    return this.finishLogout(isOwn ? null : held);
  }

  /** Ends the session that `logOut` was to end, with its token `held` if there is one. */
  async finishLogout(held = null) {
    if (this.#left) await this.#endOwn();
    if (unfinishedLogout.read()) await this.#alone(() => this.#endShared(held), SESSION_LOCK_MS);
  }

  /** Forgets the user with this subject in this tab, and that the user is signed in. */
  forget(sub) {
    this.#departures += 1;
    if (this.#held?.claims.sub === sub) this.#held = null;
    if (signedIn.read()?.sub === sub) signedIn.write(null);
  }

  /** Marks the session whose refresh token only this tab has as one to end at the issuer. */
  #leave(held) {
    this.#left = { held, refreshToken: this.#refreshToken };
    this.#refreshToken = null;
  }

  /** Ends the session that this tab has left. */
  async #endOwn() {
    const left = this.#left;
    await endOwn(left);
    if (this.#left === left) this.#left = null;
  }

  /** Ends the session of an unfinished logout, whose refresh token is in the tabs' cookie. */
  async #endShared(held) {
    // Another tab may have ended the session while this one waited for the lock.
    const sid = held?.claims.sid ?? unfinishedLogout.read();
    if (sid === null) return;
    await endShared(sid, held);
    if (unfinishedLogout.read() === sid) unfinishedLogout.write(null);
  }

  /** Renews the token, unless another tab does so meanwhile. */
  async #renewAlone(isFresh) {
    const departures = this.#departures;
    const renew = async () => {
      // The user may have logged out meanwhile, or another one may have logged in.
      const isOver = () => this.#departures !== departures;
      if (isFresh() || isOver()) return;
      const answer = await this.#exchange();
      if (!isOver()) this.#take(this.#usernameOf(answer.token), answer, "renewal");
    };
    if (!navigator.locks) return renew();
    const isFirst = await navigator.locks.request(LOCK, { ifAvailable: true }, async (lock) => {
      if (lock) await renew();
      return lock !== null;
    });
    if (isFirst) return;
    const left = (this.#held?.expiresAt ?? 0) - Date.now();
    const renewSecond = async () => {
      if (!isFresh()) await this.#handover();
      await renew();
    };
    await this.#alone(renewSecond, Math.min(LOCK_MS, Math.max(SHORT_LOCK_MS, left / 2)), renew);
  }

  /**
   * Runs `work` while no other tab renews a token, logs in or ends a session. After `wait` milliseconds runs `late`
   * without the lock: the tab that has the lock may be frozen.
   */
  async #alone(work, wait, late = work) {
    // Browsers have locks in secure contexts only, and so it is with the cookie that tabs share.
    if (!navigator.locks) return work();
    const signal = AbortSignal.timeout(wait);
    return navigator.locks.request(LOCK, { signal }, () => work()).catch((error) => {
      if (error !== signal.reason) throw error;
      return late();
    });
  }

  /** Waits for the token of another tab. */
  #handover() {
    return new Promise((resolve) => {
      this.addEventListener("token", resolve, { once: true });
      setTimeout(resolve, HANDOVER_MS);
    });
  }

  /** Exchanges the refresh token for the next pair. */
  async #exchange() {
    const presented = this.#refreshToken;
    const answer = await exchange(presented);
    // The user may have left meanwhile.
    if (presented && this.#refreshToken === presented) this.#refreshToken = answer.refresh_token;
    return answer;
  }

  /** Returns the name that the user of a token signed in with; undefined when somebody else signed in meanwhile. */
  #usernameOf(token) {
    const { sub } = unverifiedClaims(token);
    const known = [{ ...this.#held, sub: this.#held?.claims.sub }, signedIn.read()];
    return known.find((one) => one?.sub === sub)?.username;
  }

  /** Holds a new token and gives it to the other tabs. `cause` is `login` or `renewal`. */
  #take(username, { token, expires_in: seconds }, cause) {
    const claims = unverifiedClaims(token);
    username ??= claims.preferred_username ?? "";
    // A page that was frozen receives an answer late, when another tab may have renewed again.
    if (this.#isOlder(claims)) return this.#held;
    const lifetime = seconds * 1000;
    this.#held = { token, claims, username, lifetime, expiresAt: Date.now() + lifetime };
    signedIn.write({ username, sub: claims.sub });
    if (!this.#refreshToken) this.#channel.postMessage({ type: cause, held: this.#held });
    return this.#held;
  }

  /** Returns whether a token is older than the one that is held, in the same session. */
  #isOlder({ sid, iat }) {
    return this.#held?.claims.sid === sid && iat < this.#held.claims.iat;
  }

  #receive({ type, held }) {
    if (held && this.#isOlder(held.claims)) return;
    // No other tab can end a session whose refresh token only this tab has.
    if (type === "out" && this.#refreshToken) {
      this.#leave(this.#held);
      this.finishLogout().catch(() => {});
    }
    this.#held = held ?? null;
    if (type !== "renewal") {
      this.#departures += 1;
      this.dispatchEvent(new Event(type));
    }
    if (held) this.dispatchEvent(new Event("token"));
  }
}

/** Calls a login endpoint. Asks for the refresh token in a cookie, or in the answer where that is refused. */
async function postLogin(path, body, takesDevice) {
  const post = (cookies) => {
    const device = !cookies && takesDevice ? deviceToken.read() : null;
    return callIssuer("POST", path, { body: { ...body, cookie: cookies, ...(device && { device_token: device }) }, cookies });
  };
  const { isSecureContext } = window;
  try {
    return await post(isSecureContext);
  } catch (error) {
    // The issuer gives no cookie to a page of another site.
    if (!isSecureContext || error.code !== "page_forbidden") throw error;
    return post(false);
  }
}

/** Exchanges a refresh token, or the one in the cookie if it is null, for the next pair. */
function exchange(refreshToken) {
  const body = refreshToken ? { refresh_token: refreshToken } : undefined;
  return callIssuer("POST", "/token/refresh", { body, cookies: !body });
}

/** Returns whether a held token can still be presented. */
function isAlive(held) {
  return held !== null && held.expiresAt > Date.now();
}

/** Returns whether the issuer refuses a call because the session has ended. Other refusals leave the session alive. */
function isEnd(error) {
  return error.status === 401 || error.code === "invalid_grant";
}

/** Ends the session of an access token. With `cookies` the issuer deletes the refresh cookie too. */
async function endSession(token, cookies) {
  try {
    await callIssuer("POST", "/logout", { token, cookies });
  } catch (error) {
    if (!isEnd(error)) throw error;
  }
}

/** Ends a session that has a refresh token of its own. Rejects unless the session has ended. */
async function endOwn({ held, refreshToken }) {
  if (isAlive(held)) return endSession(held.token, false);
  try {
    await endSession((await exchange(refreshToken)).token, false);
  } catch (error) {
    if (!isEnd(error)) throw error;
  }
}

/**
 * Ends the session `sid`, and deletes its refresh cookie. Rejects unless the session has ended. The cookie may be that
 * of a later login, even where local storage does not show the login yet: then only the token `held` ends the session.
 */
async function endShared(sid, held) {
  try {
    const { token } = await exchange(null);
    if (unverifiedClaims(token).sid === sid) return await endSession(token, true);
  } catch (error) {
    if (!isEnd(error) && !isAlive(held)) throw error;
  }
  if (isAlive(held)) await endSession(held.token, false);
}

/** The tokens of this tab. */
export const tokens = new Tokens();
