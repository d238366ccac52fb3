// The user's tokens: the access token in memory, the refresh token in a cookie that no script reads. All tabs share
// one session: one tab renews, and the others receive the token.

import { IssuerError, callIssuer, unverifiedClaims } from "./issuer.js";
import { deviceToken, signedIn, unfinishedLogout } from "./kept.js";

const CHANNEL = "latchkey";
const LOCK = "latchkey-renewal";
/** Maximum wait for the lock. Without it two tabs may renew at once, and the issuer gives both the same successor. */
const LOCK_MS = 5_000;
/** Minimum wait for the lock, if little is left of the token. */
const SHORT_LOCK_MS = 500;
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
  #ending = null;
  /** Counts how often a user has left, so that a renewal that ends later is dropped. */
  #departures = 0;
  /** The refresh token, where the browser does not keep the issuer's cookies: without https, and on another site. */
  #refreshToken = null;
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

  async #start(username, path, body, takesDevice) {
    let cookies = window.isSecureContext;
    const post = () => {
      const device = !cookies && takesDevice ? deviceToken.read() : null;
      return callIssuer("POST", path, { body: { ...body, cookie: cookies, ...(device && { device_token: device }) }, cookies });
    };
    const answer = await post().catch((error) => {
      // The issuer gives no cookie to a page of another site.
      if (!cookies || error.code !== "page_forbidden") throw error;
      cookies = false;
      return post();
    });
    this.#refreshToken = answer.refresh_token ?? null;
    if (answer.device_token) deviceToken.write(answer.device_token);
    unfinishedLogout.write(null);
    return this.#take(username, answer, "login");
  }

  /** Resumes the session of an earlier page. Resolves to its token, or to null when there is none. */
  async resume() {
    const earlier = signedIn.read();
    if (!earlier) return null;
    try {
      return await this.fresh(0);
    } catch (error) {
      if (error.isTemporary) throw error;
      this.forget(earlier.sub);
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
    this.forget(held?.claims.sub);
    unfinishedLogout.write(true);
    this.#channel.postMessage({ type: "out" });
    return this.finishLogout(held);
  }

  /** Ends the session that `logOut` was to end, with its token `held` if there is one. */
  async finishLogout(held = null) {
    if (!unfinishedLogout.read()) return;
    // The next login waits: the answer to a logout takes the cookie back.
    this.#ending ??= this.#endAtIssuer(held).finally(() => (this.#ending = null));
    await this.#ending;
  }

  /** Forgets the user with this subject in this tab, and that the user is signed in. */
  forget(sub) {
    this.#departures += 1;
    if (this.#held?.claims.sub === sub) this.#held = null;
    if (signedIn.read()?.sub === sub) signedIn.write(null);
  }

  async #endAtIssuer(held) {
    try {
      const isAlive = held && held.expiresAt > Date.now();
      const { token } = isAlive ? held : await this.#exchange();
      await callIssuer("POST", "/logout", { token, cookies: this.#refreshToken === null });
    } catch (error) {
      // Any other refusal says that the session has ended already.
      if (error.isTemporary) throw error;
    }
    this.#refreshToken = null;
    unfinishedLogout.write(null);
  }

  /** Renews the token, unless another tab does so meanwhile. */
  async #renewAlone(isFresh) {
    const renew = async () => {
      if (isFresh()) return;
      const { username } = this.#held ?? signedIn.read() ?? {};
      const departures = this.#departures;
      const answer = await this.#exchange();
      // The user may have logged out meanwhile.
      if (this.#departures === departures) this.#take(username, answer, "renewal");
    };
    // Browsers have locks in secure contexts only, and so it is with the cookie that tabs share.
    if (!navigator.locks) return renew();
    const isFirst = await navigator.locks.request(LOCK, { ifAvailable: true }, async (lock) => {
      if (lock) await renew();
      return lock !== null;
    });
    if (isFirst) return;
    const left = (this.#held?.expiresAt ?? 0) - Date.now();
    const signal = AbortSignal.timeout(Math.min(LOCK_MS, Math.max(SHORT_LOCK_MS, left / 2)));
    const renewSecond = async () => {
      if (!isFresh()) await this.#handover();
      await renew();
    };
    await navigator.locks.request(LOCK, { signal }, renewSecond).catch((error) => {
      // The tab that has the lock may be frozen.
      if (error !== signal.reason) throw error;
      return renew();
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
    const body = this.#refreshToken ? { refresh_token: this.#refreshToken } : undefined;
    const answer = await callIssuer("POST", "/token/refresh", { body, cookies: !body });
    if (body) this.#refreshToken = answer.refresh_token;
    return answer;
  }

  /** Holds a new token and gives it to the other tabs. `cause` is `login` or `renewal`. */
  #take(username, { token, expires_in: seconds }, cause) {
    const claims = unverifiedClaims(token);
    // A page that was frozen receives an answer late, when another tab may have renewed again.
    if (this.#isOlder(claims)) return this.#held;
    const lifetime = seconds * 1000;
    this.#held = { token, claims, username, lifetime, expiresAt: Date.now() + lifetime };
    signedIn.write({ username, sub: claims.sub });
    if (!this.#refreshToken) this.#channel.postMessage({ type: cause, held: this.#held });
    return this.#held;
  }

  /** Whether a token is older than the one that is held, in the same session. */
  #isOlder({ sid, iat }) {
    return this.#held?.claims.sid === sid && iat < this.#held.claims.iat;
  }

  #receive({ type, held }) {
    if (held && this.#isOlder(held.claims)) return;
    this.#held = held ?? null;
    if (type === "out") this.#departures += 1;
    if (type !== "renewal") this.dispatchEvent(new Event(type));
    if (held) this.dispatchEvent(new Event("token"));
  }
}

/** The tokens of this tab. */
export const tokens = new Tokens();
