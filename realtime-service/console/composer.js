// Writing a message, and keeping what could not be sent.

import { ask, refusalText } from "./gateway.js";
import { $ } from "./page.js";

export class Composer {
  constructor(rooms) {
    this.rooms = rooms;
    /** The message that may not have been sent: `{room, text, id}`. */
    this.unsent = null;
  }

  async submit() {
    const { socket, current: room } = this.rooms;
    const text = $("text").value.trim();
    $("text").focus();
    if (text === "" || $("text").readOnly) return;
    if (!socket.connected) return void ($("composer-error").textContent = "Not sent: the connection is down. Your text stays here.");
    // A repeat keeps its id, so that the gateway can tell it from a new message.
    const isRepeat = this.unsent?.text === text && this.unsent.room === room;
    const id = isRepeat ? this.unsent.id : randomId();
    const message = { room: room.name, event: "message", data: { text }, id };
    $("text").value = "";
    $("composer-error").textContent = "";
    const answer = await ask(socket, "rt:publish", message);
    if (this.rooms.socket !== socket || answer.ok) return;
    const isLost = answer.error?.code === "late";
    const problem = isLost ? `${refusalText("Perhaps not sent", answer)} Sending it again does not send it twice.` : refusalText("Not sent", answer);
    this.unsent = { room, text, id };
    if (this.rooms.current !== room) return room.log.addLine(problem, "refusal");
    if ($("text").value === "") $("text").value = text;
    $("composer-error").textContent = problem;
  }

  /** The message `id` is shown: if its answer was lost, it was sent all the same. */
  shown(id) {
    if (this.unsent?.id !== id) return;
    if ($("text").value === this.unsent.text) $("text").value = "";
    this.unsent = null;
    $("composer-error").textContent = "";
  }
}

function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
