// The passkeys in the user's account: added, renamed, removed.

import { $, element, timeElement } from "./page.js";
import { arePasskeysOffered, createPasskey } from "./passkeys.js";

const FORMS = ["passkey-form", "passkey-rename-form", "passkey-remove-form"];

export class PasskeyList {
  /** The passkey that is being renamed or removed, or null. */
  #chosen = null;

  /** `attempt`, `call` and `submits` are those of the account. */
  constructor({ attempt, call, submits }) {
    Object.assign(this, { attempt, call });
    submits("passkey-form", () => this.#add());
    submits("passkey-rename-form", () => this.#rename());
    submits("passkey-remove-form", () => this.#remove());
    for (const button of $("passkeys").querySelectorAll("[data-passkey-back]")) {
      button.addEventListener("click", () => this.#back());
    }
  }

  /** Whether a new passkey needs a code of the second factor. */
  set asksCode(asksCode) {
    $("passkey-code-field").hidden = !asksCode;
    $("passkey-code").required = asksCode;
  }

  async open(asksCode) {
    this.asksCode = asksCode;
    if (!(await arePasskeysOffered())) return;
    await this.#show();
    $("passkeys").hidden = false;
  }

  clear() {
    $("passkeys").hidden = true;
    $("passkey-list").replaceChildren();
    $("passkeys-result").textContent = "";
    this.#back();
  }

  async #show() {
    const { passkeys } = await this.call("GET", "/passkeys");
    $("passkey-list").replaceChildren(...passkeys.map((passkey) => this.#item(passkey)));
  }

  #item(passkey) {
    const { name, created_at: createdAt, used_at: usedAt } = passkey;
    const item = element("li", "session-item");
    item.dataset.testid = "passkey";
    const detail = element("span", "fine", usedAt ? "last used " : "never used, added ");
    detail.append(timeElement((usedAt ?? createdAt) * 1000));
    const choices = element("span", "choices");
    const choice = (label, testId, act) => {
      const button = element("button", "quiet", label);
      button.type = "button";
      button.dataset.testid = testId;
      button.setAttribute("aria-label", `${label}: ${name}`);
      button.addEventListener("click", act);
      choices.append(button);
    };
    choice("Rename", "passkey-rename", () => this.#askName(passkey));
    choice("Remove", "passkey-remove", () => this.#askPassword(passkey));
    item.append(element("b", "", name), detail, choices);
    return item;
  }

  #add() {
    return this.attempt("passkeys-result", async () => {
      const code = $("passkey-code").value.replace(/\s/g, "");
      const body = { password: $("passkey-password").value, ...($("passkey-code").required && { code }) };
      const { options, state } = await this.call("POST", "/passkeys/options", body);
      const credential = await createPasskey(options);
      await this.call("POST", "/passkeys", { state, credential, name: $("passkey-name").value });
      return this.#done("The passkey is added. You can sign in with it.");
    });
  }

  #askName(passkey) {
    this.#choose(passkey, "passkey-rename-form");
    $("passkey-new-name").value = passkey.name;
    $("passkey-new-name").focus();
    $("passkey-new-name").select();
  }

  #rename() {
    return this.attempt("passkeys-result", async () => {
      await this.call("POST", path(this.#chosen), { name: $("passkey-new-name").value });
      return this.#done("The passkey is renamed.");
    });
  }

  #askPassword(passkey) {
    this.#choose(passkey, "passkey-remove-form");
    $("passkey-remove-hint").textContent = `“${passkey.name}” signs nobody in any more. Remove it from your device too.`;
    $("passkey-remove-password").focus();
  }

  #remove() {
    return this.attempt("passkeys-result", async () => {
      await this.call("POST", `${path(this.#chosen)}/remove`, { password: $("passkey-remove-password").value });
      return this.#done("The passkey is removed.");
    });
  }

  #choose(passkey, form) {
    this.#back();
    this.#chosen = passkey;
    $("passkeys-result").textContent = "";
    showForm(form);
  }

  /** Returns to the form for a new passkey. */
  #back() {
    this.#chosen = null;
    for (const id of FORMS) $(id).reset();
    showForm("passkey-form");
  }

  async #done(text) {
    this.#back();
    await this.#show();
    $("passkeys-title").focus();
    return text;
  }
}

function path({ id }) {
  return `/passkeys/${encodeURIComponent(id)}`;
}

function showForm(shown) {
  for (const id of FORMS) $(id).hidden = id !== shown;
}
