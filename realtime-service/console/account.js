// The account of the signed-in user: where the user is signed in, the e-mail address, the password, the passkeys, and the
// second factor.

import { callIssuer } from "./issuer.js";
import { $, element, timeElement } from "./page.js";
import { PasskeyList } from "./passkey-list.js";
import { tokens } from "./tokens.js";

const SVG = "http://www.w3.org/2000/svg";
/** White modules around a QR code (ISO/IEC 18004, section 9.1). */
const QUIET_MODULES = 4;
/** A token with less time left is renewed before a call. */
const LEAST_MS = 2_000;

export class Account {
  constructor() {
    this.dialog = $("account");
    $("account-close").addEventListener("click", () => this.close());
    this.dialog.addEventListener("close", () => this.#clear());
    submits("email-form", () => this.#changeEmail());
    submits("password-form", () => this.#changePassword());
    submits("factor-start-form", () => this.#startFactor());
    submits("factor-confirm-form", () => this.#confirmFactor());
    submits("factor-disable-form", () => this.#disableFactor());
    this.passkeys = new PasskeyList({ attempt, call, submits });
    $("recovery-done").addEventListener("click", () => this.#showFactor("factor-disable-form"));
  }

  async open() {
    this.#clear();
    this.dialog.showModal();
    await attempt("sessions-result", async () => {
      const [{ sessions }, me] = await Promise.all([call("GET", "/sessions"), call("GET", "/me")]);
      this.#showSessions(sessions);
      showResult("email-now", emailText(me));
      this.#showFactor(me.second_factor ? "factor-disable-form" : "factor-start-form");
      await this.passkeys.open(me.second_factor);
    });
  }

  close() {
    if (this.dialog.open) this.dialog.close();
  }

  /** Removes whatever is secret. */
  #clear() {
    for (const form of this.dialog.querySelectorAll("form")) form.reset();
    for (const id of ["session-list", "factor-qr", "recovery-codes"]) $(id).replaceChildren();
    for (const id of ["factor-secret", "sessions-result", "email-now", "email-result", "password-result", "factor-result"]) showResult(id, "");
    $("factor-uri").removeAttribute("href");
    this.#showFactor(null);
    this.passkeys.clear();
  }

  // ---- sessions

  #showSessions(sessions) {
    $("session-list").replaceChildren(...sessions.map((session) => this.#sessionItem(session)));
  }

  #sessionItem({ id, device, address, used_at: usedAt, current }) {
    const item = element("li", "session-item");
    item.dataset.testid = "session";
    const name = element("b", "", deviceName(device));
    name.title = device;
    const detail = element("span", "fine", `${address} · last used `);
    detail.append(timeElement(usedAt * 1000));
    const end = current ? element("span", "fine", "this browser") : element("button", "quiet", "Sign out there");
    if (!current) {
      end.type = "button";
      end.dataset.testid = "session-end";
      end.setAttribute("aria-label", `Sign out there: ${name.textContent}, ${address}`);
      end.addEventListener("click", () => this.#endSession(id, item));
    }
    item.append(name, detail, end);
    return item;
  }

  #endSession(id, item) {
    return attempt("sessions-result", async () => {
      await call("DELETE", `/sessions/${encodeURIComponent(id)}`);
      item.remove();
      $("sessions-title").focus();
      return "Signed out there.";
    });
  }

  // ---- the e-mail address

  #changeEmail() {
    return attempt("email-result", async () => {
      await call("POST", "/email", { current_password: $("email-password").value, email: $("email-new").value.trim() });
      $("email-form").reset();
      return "A mail with a link is on its way. The address is yours once you have followed the link.";
    });
  }

  // ---- the password

  #changePassword() {
    return attempt("password-result", async () => {
      const body = { current_password: $("current-password").value, new_password: $("new-password").value };
      await call("POST", "/password", body);
      $("password-form").reset();
      for (const other of $("session-list").querySelectorAll("li:has(button)")) other.remove();
      return "The password is changed. Your other sessions have ended.";
    });
  }

  // ---- the second factor

  /** Shows one step of the second factor, or none. */
  #showFactor(step) {
    for (const id of ["factor-start-form", "factor-confirm-form", "factor-disable-form", "recovery"]) $(id).hidden = id !== step;
  }

  #startFactor() {
    return attempt("factor-result", async () => {
      const { secret, uri, qr } = await call("POST", "/totp", { password: $("factor-password").value });
      $("factor-start-form").reset();
      $("factor-qr").replaceChildren(qrImage(qr));
      $("factor-secret").textContent = secret.replace(/(.{4})(?=.)/g, "$1 ");
      $("factor-uri").href = uri;
      this.#showFactor("factor-confirm-form");
      $("factor-code").focus();
    });
  }

  #confirmFactor() {
    return attempt("factor-result", async () => {
      const { recovery_codes: codes } = await call("POST", "/totp/confirm", { code: $("factor-code").value.replace(/\s/g, "") });
      $("factor-confirm-form").reset();
      $("factor-qr").replaceChildren();
      $("factor-secret").textContent = "";
      $("recovery-codes").replaceChildren(...codes.map((code) => element("li", "", code)));
      this.#showFactor("recovery");
      this.passkeys.asksCode = true;
      $("recovery-title").focus();
    });
  }

  #disableFactor() {
    return attempt("factor-result", async () => {
      const body = { password: $("disable-password").value, code: $("disable-code").value.replace(/\s/g, "") };
      await call("POST", "/totp/disable", body);
      $("factor-disable-form").reset();
      this.#showFactor("factor-start-form");
      this.passkeys.asksCode = false;
      return "The second factor is off.";
    });
  }
}

function emailText({ email, email_verified: isVerified }) {
  if (!email) return "Your account has no address.";
  return `${email}${isVerified ? "" : ", not verified"}`;
}

/** Calls the issuer for the signed-in user. */
async function call(method, path, body) {
  const { token } = await tokens.fresh(LEAST_MS);
  return callIssuer(method, path, { body, token });
}

/** Runs `act` and shows the text that it resolves to, or why it failed, in the element `id`. */
async function attempt(id, act) {
  showResult(id, "");
  try {
    showResult(id, (await act()) ?? "");
  } catch (error) {
    // Besides passwords, only the token of the call can be wrong, and the connection tells of that.
    const text = error.code === "invalid_credentials" ? "The password is wrong." : error.message;
    showResult(id, text, true);
  }
}

function showResult(id, text, isError = false) {
  $(id).textContent = text;
  $(id).classList.toggle("bad", isError);
}

/** Runs `act` when the form is submitted, once at a time. */
function submits(id, act) {
  let isBusy = false;
  $(id).addEventListener("submit", async (event) => {
    event.preventDefault();
    if (isBusy) return;
    isBusy = true;
    await act().finally(() => (isBusy = false));
  });
}

/** Draws a QR code: `{modules, path}`, an SVG path in a square of so many modules. */
function qrImage({ modules, path }) {
  const svg = document.createElementNS(SVG, "svg");
  const side = modules + 2 * QUIET_MODULES;
  svg.setAttribute("viewBox", `${-QUIET_MODULES} ${-QUIET_MODULES} ${side} ${side}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", "QR code for an authenticator");
  const shape = document.createElementNS(SVG, "path");
  shape.setAttribute("d", path);
  svg.append(shape);
  return svg;
}

/** A short name for a User-Agent header. */
export function deviceName(agent) {
  const browsers = [["Edg", "Edge"], ["OPR", "Opera"], ["Firefox", "Firefox"], ["Chrome", "Chrome"], ["Safari", "Safari"]];
  const systems = [["Android", "Android"], ["iPhone", "iPhone"], ["iPad", "iPad"], ["Windows", "Windows"], ["Mac OS X", "macOS"], ["CrOS", "ChromeOS"], ["Linux", "Linux"]];
  const find = (names, suffix) => names.find(([mark]) => agent.includes(mark + suffix))?.[1];
  const [browser, system] = [find(browsers, "/"), find(systems, "")];
  if (browser && system) return `${browser} on ${system}`;
  return agent || "An unnamed device";
}
