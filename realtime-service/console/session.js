// The connection of the signed-in user: presents a token, renews it in place, and comes back after a broken connection.

import { RECONNECTING, REFUSALS, ask } from "./gateway.js";
import { hideNotice, showNotice, showStatus, showTimeLeft, showUser } from "./header.js";
import { announce } from "./page.js";
import { tokens } from "./tokens.js";

const TICK_MS = 500;
/** The renewal begins this long before the token ends, or a third of its lifetime if that is shorter. */
const RENEW_MS = 60_000;
/** A token with less time left is not presented on a new connection. */
const LEAST_MS = 10_000;
/** Two ticks further apart than this: the device was asleep, and the connection is dead. */
const ASLEEP_MS = 120_000;
/** Waiting times between attempts: the first, and the longest. */
const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 30_000;
const NO_ISSUER = "Cannot reach the sign-in service, trying again…";

export class Session {
  #failure = null;
  #attempts = 0;
  #renewAt = 0;
  #isRenewing = false;
  #retry = null;
  #tickedAt = Date.now();
  #listening = new AbortController();

  /**
   * `held` is a token of `tokens`, `rooms` the rooms of its user. `onEnd(title, text, code)` is called when the session
   * cannot go on.
   */
  constructor(held, rooms, onEnd) {
    Object.assign(this, { presented: held, rooms, onEnd, admitted: false });
    this.me = rooms.me;
    const { signal } = this.#listening;
    tokens.addEventListener("token", () => this.#onSharedToken(), { signal });
    tokens.addEventListener("out", () => this.onEnd("You logged out.", "You logged out in another tab."), { signal });
    window.addEventListener("online", () => this.#wake(), { signal });
    document.addEventListener("visibilitychange", () => document.hidden || this.#wake(), { signal });
    this.ticking = setInterval(() => this.#tick(), TICK_MS);
    showUser("signing in as", this.me);
    showStatus("connecting");
    this.socket = this.#connect();
    rooms.listen(this.socket);
    this.#tick();
  }

  /** Closes the connection, without a word to the user. */
  close() {
    this.#listening.abort();
    clearInterval(this.ticking);
    clearTimeout(this.#retry);
    this.socket.offAny();
    this.socket.removeAllListeners();
    this.socket.disconnect();
    this.rooms.lost();
    hideNotice();
  }

  #connect() {
    const socket = io({ auth: (give) => this.#giveToken(give), forceNew: true });
    socket.on("connect", () => this.#onConnect());
    socket.on("connect_error", (error) => this.#onConnectError(error));
    socket.on("disconnect", (reason) => this.#onDisconnect(reason));
    socket.on("unauthorized", (refusal) => this.#onUnauthorized(refusal));
    socket.on("rt:expiring", () => this.#renew());
    socket.on("rt:drain", () => showNotice("The gateway asks for a new connection, reconnecting in a moment…", "rt:drain"));
    return socket;
  }

  // ---- tokens

  /** Answers the client in any case: a CONNECT without a token is refused, and tried again below. */
  async #giveToken(give) {
    this.#failure = null;
    try {
      const held = await tokens.fresh(Math.min(LEAST_MS, this.presented.lifetime / 3));
      if (this.#isOfAnotherUser(held)) return;
      this.presented = held;
    } catch (error) {
      this.#failure = error;
    }
    if (this.#listening.signal.aborted) return;
    const isAlive = this.presented.expiresAt > Date.now() && tokens.held;
    give(isAlive ? { token: this.presented.token } : {});
  }

  get #margin() {
    return Math.min(RENEW_MS, this.presented.lifetime / 3);
  }

  /** Renews the token, and presents the next one on the same connection. */
  async #renew() {
    if (this.#isRenewing || Date.now() < this.#renewAt) return;
    this.#isRenewing = true;
    try {
      await this.#present(await tokens.fresh(this.#margin));
      this.#attempts = 0;
    } catch (error) {
      if (this.#listening.signal.aborted) return;
      if (!error.isTemporary) return this.#endExpired(error.code);
      this.#renewAt = Date.now() + this.#nextWait();
      if (this.socket.connected) showNotice(NO_ISSUER);
    } finally {
      this.#isRenewing = false;
    }
  }

  async #present(held) {
    const { socket } = this;
    if (held === this.presented || this.#listening.signal.aborted || this.#isOfAnotherUser(held)) return;
    const isOther = held.claims.sid !== this.presented.claims.sid;
    this.presented = held;
    this.rooms.allow(held.claims);
    // A new connection presents the token by itself; so does one that takes the place of another session's.
    if (isOther) socket.io.engine.close();
    if (isOther || !socket.connected) return;
    const answer = await ask(socket, "authenticate", { token: held.token });
    if (answer.ok && socket.connected) hideNotice();
  }

  #onSharedToken() {
    this.#isOfAnotherUser(tokens.held);
  }

  /** Returns whether a token is another user's, and ends this session then: all pages of a site share the cookie. */
  #isOfAnotherUser({ claims }) {
    if (claims.sub === this.me.sub) return false;
    this.onEnd("You were signed out here.", "Another user signed in, in another tab of this browser.");
    return true;
  }

  #endExpired(code = "") {
    this.onEnd("Disconnected: your session expired.", "Log in again to go on.", code);
  }

  // ---- the connection

  #onConnect() {
    const { socket } = this;
    const { engine } = socket.io;
    this.#attempts = 0;
    showStatus("connected", engine.transport.name);
    engine.once("upgrade", (transport) => this.socket === socket && socket.connected && showStatus("connected", transport.name));
    showUser("authenticated as", this.me);
    hideNotice();
    announce(this.admitted ? "Reconnected." : `Authenticated as ${this.me.name}.`);
    this.admitted = true;
    this.rooms.connected();
  }

  #onConnectError({ message }) {
    showStatus("reconnecting");
    if (this.socket.active) return showNotice("Cannot reach the gateway, trying again…", message);
    if (this.#failure && !this.#failure.isTemporary) return this.#endExpired(this.#failure.code);
    if (this.#failure) {
      showNotice(NO_ISSUER);
      return this.#connectLater();
    }
    // The clocks of the page and the gateway may differ: one more attempt, with a fresh token.
    if (message === "jwt expired" && this.#attempts === 0) {
      tokens.distrust();
      return this.#connectLater();
    }
    if (message === "jwt expired") return this.#endExpired(message);
    this.onEnd("The gateway refused the connection.", REFUSALS[message] ?? "It does not accept this token.", message);
  }

  #onUnauthorized({ message, data } = {}) {
    const code = data?.reason ?? data?.code ?? message;
    // The gateway closes the transport, and the next connection asks for a fresh token.
    if (code === "token_expired") return showNotice("The token has ended, renewing it…", code);
    this.onEnd("Disconnected: your session was ended.", REFUSALS[message] ?? "The gateway no longer accepts this token.", code);
  }

  #onDisconnect(reason) {
    if (!this.socket.active) return this.onEnd("Disconnected: the server ended this session.", "Log in again to go on.", reason);
    showStatus("reconnecting");
    this.rooms.lost();
    showNotice(RECONNECTING[reason] ?? "Disconnected, reconnecting…", reason);
  }

  #connectLater() {
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.socket.connect(), this.#nextWait());
  }

  #nextWait() {
    const wait = Math.min(FIRST_WAIT_MS * 2 ** this.#attempts, LONGEST_WAIT_MS);
    this.#attempts += 1;
    return wait;
  }

  // ---- time

  #tick() {
    const now = Date.now();
    const isAwake = now - this.#tickedAt < ASLEEP_MS;
    this.#tickedAt = now;
    const left = Math.max(0, this.presented.expiresAt - now);
    showTimeLeft(left, this.presented.lifetime);
    if (!isAwake && this.socket.connected) this.socket.io.engine.close();
    if (left < this.#margin) this.#renew();
  }

  /** The network or the user is back: whatever waits is tried now. */
  #wake() {
    this.#renewAt = 0;
    this.#tick();
    if (!this.socket.active) this.socket.connect();
  }
}
