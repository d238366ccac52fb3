// The field for a message: a draft for each room, and the messages that may not have been sent.

import { ask, refusalText } from "./gateway.js";
import { $, element } from "./page.js";

/** Maximum number of unsent messages, of all rooms together. */
const MOST_UNSENT = 50;
const NO_CONNECTION = "Not sent: the connection is down.";

export class Composer {
  /** `rooms` are those of the user, `work` is where drafts and unsent messages are kept. */
  constructor(rooms, work) {
    Object.assign(this, { rooms, work });
    /** Reasons why messages were not sent, by message id. */
    this.reasons = new Map();
    this.sending = new Set();
    this.unsent = new Set(work.unsent.map(({ id }) => id));
  }

  /** Shows the draft and the unsent messages of the current room. */
  show() {
    $("text").value = this.work.draft(this.rooms.current.name);
    $("composer-error").textContent = "";
    this.#showUnsent();
  }

  /** Keeps what the user has typed. */
  keep() {
    this.work.setDraft(this.rooms.current.name, $("text").value);
  }

  async submit() {
    const { current: room } = this.rooms;
    const text = $("text").value.trim();
    $("text").focus();
    if (text === "" || $("text").readOnly) return;
    if (this.unsent.size >= MOST_UNSENT) return void ($("composer-error").textContent = "Too many messages wait to be sent again: send or discard some first.");
    $("text").value = "";
    $("composer-error").textContent = "";
    this.keep();
    const message = { room: room.name, text, id: randomId() };
    this.unsent.add(message.id);
    this.work.addUnsent(message);
    await this.#send(message);
  }

  /** The message `id` is shown, so it was sent, even if its answer was lost. */
  shown(id) {
    if (this.unsent.has(id)) this.#forget(id);
  }

  /** The connection is back: reasons that name it are over. */
  connected() {
    for (const [id, reason] of this.reasons) if (reason === NO_CONNECTION) this.reasons.set(id, "Not sent.");
    this.#showUnsent();
  }

  /** Sends a message, perhaps again: its id tells the gateway which message it is. */
  async #send(message) {
    const { socket } = this.rooms;
    const { room, text, id } = message;
    if (!socket.connected) return this.#keepUnsent(message, NO_CONNECTION);
    this.sending.add(id);
    this.#showUnsent();
    const answer = await ask(socket, "rt:publish", { room, event: "message", data: { text }, id });
    if (this.rooms.socket !== socket || !this.unsent.has(id)) return;
    this.sending.delete(id);
    if (answer.ok) return this.#forget(id);
    const isLost = answer.error?.code === "late";
    this.#keepUnsent(message, isLost ? `${refusalText("Perhaps not sent", answer)} Sending it again does not send it twice.` : refusalText("Not sent", answer));
  }

  #keepUnsent({ room, id }, reason) {
    this.reasons.set(id, reason);
    if (this.rooms.current.name !== room) this.rooms.all.get(room)?.log.addLine(reason, "refusal");
    this.#showUnsent();
  }

  #forget(id) {
    this.unsent.delete(id);
    this.sending.delete(id);
    this.reasons.delete(id);
    this.work.removeUnsent(id);
    this.#showUnsent();
  }

  #showUnsent() {
    const { name } = this.rooms.current;
    const here = this.work.unsent.filter(({ room, id }) => room === name && !this.sending.has(id));
    for (const { id } of here) this.unsent.add(id);
    const focused = $("unsent").contains(document.activeElement);
    $("unsent").replaceChildren(...here.map((message) => this.#unsentItem(message)));
    $("unsent").hidden = here.length === 0;
    if (focused) $("text").focus();
  }

  #unsentItem(message) {
    const item = element("li", "unsent");
    item.dataset.testid = "unsent";
    const reason = this.reasons.get(message.id) ?? "Perhaps not sent: the page was closed before the answer came.";
    const again = unsentButton("Send again", "send-again", message, () => this.#send(message));
    const discard = unsentButton("Discard", "discard", message, () => this.#forget(message.id));
    item.append(element("p", "unsent-text", message.text), element("p", "error", reason), again, discard);
    return item;
  }
}

function unsentButton(label, testId, { text }, act) {
  const button = element("button", "quiet", label);
  button.type = "button";
  button.dataset.testid = testId;
  button.setAttribute("aria-label", `${label}: ${text.slice(0, 80)}`);
  button.addEventListener("click", act);
  return button;
}

function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
