// Forms beside the login: a new account, a forgotten password, and links from mails.
//
// The token of a link is in the fragment, which browsers send to no server. It is taken out of the address bar and
// of the history at once.

import { callIssuer } from "./issuer.js";
import { $ } from "./page.js";

const LINK = /^#(reset|verify)=([\w-]+)$/;

/** The names of the forms. */
const FORMS = ["register", "forgot", "reset", "verify"];

/** True if the address bar holds a link of a mail. */
export const hasLink = () => LINK.test(location.hash);

/** Takes the link of a mail out of the address bar. Returns `{action, token}`, or null. */
export function takeLink() {
  const [, action, token] = location.hash.match(LINK) ?? [];
  if (!action) return null;
  history.replaceState(null, "", location.pathname + location.search);
  return { action, token };
}

export class MailForms {
  #token = "";

  /** `onDone(message)` is called when the user leaves these forms, with what to tell at the login form. */
  constructor(onDone) {
    this.onDone = onDone;
    this.#submits("register", () => this.#register());
    this.#submits("forgot", () => this.#forget());
    this.#submits("reset", () => this.#reset());
    this.#submits("verify", () => this.#verify());
    for (const name of FORMS) $(`${name}-back`).addEventListener("click", () => this.#leave(""));
  }

  /** Asks for the name, the address and the password of a new account. */
  askAccount() {
    this.#show("register", "Create an account");
    $("register-username").focus();
  }

  /** Asks for the address to which a link is mailed. */
  askEmail() {
    this.#show("forgot", "Forgot your password?");
    $("forgot-email").focus();
  }

  /** Shows what a link is for. */
  follow({ action, token }) {
    this.#token = token;
    if (action === "reset") {
      this.#show("reset", "Set a new password");
      $("reset-password").focus();
    } else {
      this.#show("verify", "Verify your e-mail address");
      $("verify-submit").focus();
    }
  }

  async #register() {
    const email = $("register-email").value.trim();
    const account = { username: $("register-username").value.trim(), password: $("register-password").value };
    await callIssuer("POST", "/register", { body: email ? { ...account, email } : account, cookies: false });
    this.#leave("The account is there: log in. If a mail arrives, its link verifies your address.");
  }

  async #forget() {
    await callIssuer("POST", "/password/forgot", { body: { email: $("forgot-email").value.trim() }, cookies: false });
    this.#leave("If an account has this address, a mail with a link is on its way. The link works for 30 minutes.");
  }

  async #reset() {
    const body = { token: this.#token, new_password: $("reset-password").value };
    await callIssuer("POST", "/password/reset", { body, cookies: false });
    this.#leave("The password is changed, and all sessions have ended. Log in with the new password.");
  }

  async #verify() {
    await callIssuer("POST", "/email/verify", { body: { token: this.#token }, cookies: false });
    this.#leave("The e-mail address is verified.");
  }

  #leave(message) {
    this.#token = "";
    for (const name of FORMS) {
      $(`${name}-form`).reset();
      $(`${name}-error`).textContent = "";
    }
    this.onDone(message);
  }

  #show(shown, title) {
    for (const name of FORMS) $(`${name}-form`).hidden = name !== shown;
    $("mail-title").textContent = title;
  }

  /** Runs `act` when the form is submitted, once at a time, and shows why it failed. */
  #submits(name, act) {
    let isBusy = false;
    $(`${name}-form`).addEventListener("submit", async (event) => {
      event.preventDefault();
      if (isBusy) return;
      isBusy = true;
      $(`${name}-error`).textContent = "";
      try {
        await act();
      } catch (error) {
        $(`${name}-error`).textContent = error.message;
      } finally {
        isBusy = false;
      }
    });
  }
}
