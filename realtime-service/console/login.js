// The login form: a name and a password, then a code where the account asks for one; or a passkey in place of either.

import { $ } from "./page.js";
import { arePasskeysOffered, getPasskey } from "./passkeys.js";
import { tokens } from "./tokens.js";

const NO_CLIENT = "The Socket.IO client did not load. Check the network, then reload the page.";

export class LoginForm {
  /** The login that waits for a code: `{username, challenge}`, or null. */
  #waiting = null;

  /** `onToken(held)` is called when the user has signed in. */
  constructor(onToken) {
    this.onToken = onToken;
    $("login-form").addEventListener("submit", (event) => this.#submitPassword(event));
    $("code-form").addEventListener("submit", (event) => this.#submitCode(event));
    $("code-back").addEventListener("click", () => this.#askPassword(""));
    $("passkey-login").addEventListener("click", () => this.#usePasskey());
    this.#showStep();
    arePasskeysOffered().then((areOffered) => ($("passkey-login").hidden = !areOffered));
  }

  focus() {
    const field = this.#waiting ? "code" : $("username").value ? "password" : "username";
    $(field).focus();
  }

  /** Removes what was typed, once the user has signed in. */
  clear() {
    this.#waiting = null;
    $("password").value = "";
    $("code").value = "";
    $("ended").hidden = true;
    this.showError("");
    this.#showStep();
  }

  /** Says why the session of `username` has ended. */
  showEnd(username, title, text, code) {
    $("username").value = username;
    $("ended-title").textContent = title;
    $("ended-code").textContent = code;
    $("ended-code").hidden = code === "";
    $("ended").hidden = false;
    this.showEndText(text);
  }

  /** Tells something that is no end of a session. */
  showNotice(title) {
    $("ended-title").textContent = title;
    $("ended-text").textContent = "";
    $("ended-code").hidden = true;
    $("ended").hidden = false;
  }

  showEndText(text) {
    $("ended-text").textContent = text;
  }

  /** Shows an error, and marks and focuses the field that it concerns. An empty text removes the error. */
  showError(message, field) {
    const error = this.#waiting ? "code-error" : "login-error";
    $(error).textContent = message;
    for (const input of [$("username"), $("password"), $("code")]) {
      input.removeAttribute("aria-invalid");
      input.removeAttribute("aria-describedby");
    }
    if (!field) return;
    $("ended").hidden = true;
    field.setAttribute("aria-invalid", "true");
    field.setAttribute("aria-describedby", error);
    field.focus();
    field.select();
  }

  async #submitPassword(event) {
    event.preventDefault();
    const username = $("username").value.trim();
    const password = $("password").value;
    const missing = username === "" ? $("username") : password === "" ? $("password") : null;
    if (missing) return this.showError("Enter your username and password.", missing);
    if (typeof io === "undefined") return this.showError(NO_CLIENT);
    await this.#run($("login-submit"), async () => {
      try {
        this.onToken(await tokens.logIn(username, password));
      } catch (error) {
        if (error.code === "mfa_required") return this.#askCode(username, error.challenge);
        this.showError(error.message, $("password"));
      }
    });
  }

  async #submitCode(event) {
    event.preventDefault();
    const code = $("code").value.replace(/\s/g, "");
    if (code === "") return this.showError("Enter the code.", $("code"));
    const { username, challenge } = this.#waiting;
    await this.#run($("code-submit"), async () => {
      try {
        this.onToken(await tokens.logInWithCode(username, challenge, code));
      } catch (error) {
        this.showError(error.message, $("code"));
      }
    });
  }

  /** Signs in with a passkey: instead of a password, or instead of the code that a login waits for. */
  async #usePasskey() {
    if (typeof io === "undefined") return this.showError(NO_CLIENT);
    const { username, challenge } = this.#waiting ?? {};
    await this.#run($("passkey-login"), async () => {
      try {
        const answer = await getPasskey();
        this.onToken(await tokens.logInWithPasskey(username, challenge, answer));
      } catch (error) {
        this.showError(error.message);
      }
    });
  }

  #askCode(username, challenge) {
    this.#waiting = { username, challenge };
    $("code").value = "";
    $("ended").hidden = true;
    this.showError("");
    this.#showStep();
    $("code").focus();
  }

  #askPassword(message) {
    this.#waiting = null;
    $("password").value = "";
    this.#showStep();
    this.showError(message);
    $("password").focus();
  }

  #showStep() {
    $("login-form").hidden = this.#waiting !== null;
    $("code-form").hidden = this.#waiting === null;
    $("login-title").textContent = this.#waiting ? "Enter your code" : "Log in";
    $("passkey-login").textContent = this.#waiting ? "Use a passkey instead" : "Sign in with a passkey";
  }

  /** Runs one attempt at a time, and marks its button meanwhile. */
  async #run(button, attempt) {
    if (button.getAttribute("aria-disabled") === "true") return;
    const label = button.textContent;
    button.setAttribute("aria-disabled", "true");
    button.textContent = "Logging in…";
    this.showError("");
    try {
      await attempt();
    } finally {
      button.removeAttribute("aria-disabled");
      button.textContent = label;
      this.#showStep();
    }
  }
}
