// A room on the page: the position of the last shown message, the user's rights, and the button of the room.

import { standing } from "./grants.js";
import { Log } from "./log.js";
import { counted, element } from "./page.js";
import { People } from "./people.js";

export class Room {
  /** `me` is `{sub, name}` of the user. */
  constructor(name, label, me) {
    Object.assign(this, { name, label });
    /** `outside`, `entering`, `inside`, or `refused` by the gateway. */
    this.state = "outside";
    this.can = [];
    /** The last message that was shown, or told to be missing: `{epoch, offset}`; null before the first visit. */
    this.position = null;
    /** Counts the visits, so that an answer to an earlier one is known to be late. */
    this.visit = 0;
    /** True if the user wants to be in the room as soon as there is a connection. */
    this.isWanted = false;
    this.waiting = [];
    /** Users who came in and are not named in the log yet. */
    this.arrivals = [];
    this.unread = 0;
    this.log = new Log(label, me);
    this.people = new People(me);

    this.button = element("button", "room-button");
    this.button.type = "button";
    this.button.title = name;
    this.badge = element("span", "badge");
    this.button.append(element("span", "room-name", label), this.badge);
  }

  /** Describes the user's rights in the room. */
  get standing() {
    const words = { outside: "you are not in this room", entering: "entering…", refused: "you are not in this room" };
    return words[this.state] ?? standing(this.can);
  }

  /** True if the user is neither in the room nor entering. */
  get isOut() {
    return this.state === "outside" || this.state === "refused";
  }

  get isSilent() {
    return this.isOut || (this.state === "inside" && !this.can.includes("pub"));
  }

  show(shown) {
    this.log.node.hidden = !shown;
    if (!shown) return this.button.removeAttribute("aria-current");
    this.button.setAttribute("aria-current", "true");
    this.#setUnread(0);
    this.log.scrollToEnd();
  }

  /** The user is on the way in: messages wait until it is known what came before them. */
  enter() {
    this.#begin("entering");
    return this.visit;
  }

  /** The user is in. `messages` are those from before, which may begin after a gap. */
  entered({ epoch, offset, can }, messages) {
    const before = this.position;
    Object.assign(this, { state: "inside", can });
    this.log.quietly(() => {
      if (before && messages.length) this.log.addLine(`${counted(messages.length, "message")} from while you were away`);
      for (const message of messages) this.#take(message);
      this.#skipTo({ epoch, offset });
      if (messages.length) this.log.addLine(before ? "You are back" : "You came in");
      for (const message of this.waiting.splice(0)) this.#take(message);
    });
  }

  /** The user is not in, or not in any more: `state` is `outside` or `refused`. */
  left(state, why) {
    this.#begin(state);
    this.can = [];
    this.people.forget("Enter the room to see who is here.");
    this.log.addLine(why, state === "refused" ? "refusal" : "");
  }

  /** The connection is gone, and the user will come back. */
  lost() {
    if (this.state === "inside" || this.state === "entering") this.#begin("entering");
    this.people.forget("Not known while the connection is down.");
  }

  #begin(state) {
    Object.assign(this, { state, waiting: [], arrivals: [] });
    this.visit += 1;
  }

  /** Takes a message that was broadcast. */
  receive(message) {
    if (this.state === "entering") return void this.waiting.push(message);
    if (this.state === "inside") this.#take(message);
  }

  /** Shows a message once, however often it comes. */
  #take({ event, data, meta }) {
    const { epoch, offset } = meta;
    if (this.#hasSeen({ epoch, offset })) return;
    if (this.position) this.#skipTo({ epoch, offset: offset - 1 });
    this.position = { epoch, offset };
    this.log.addMessage(event, data, meta);
    this.log.node.dispatchEvent(new CustomEvent("shown", { bubbles: true, detail: meta.id }));
    if (!this.log.isShown) this.#setUnread(this.unread + 1);
  }

  /** Says how many messages up to `position` were not shown, unless this is the first visit. */
  #skipTo(position) {
    if (this.#hasSeen(position)) return;
    if (this.position) {
      const isAnew = this.position.epoch !== position.epoch;
      if (isAnew) this.log.addLine("The room began anew");
      const missing = position.offset - (isAnew ? 0 : this.position.offset);
      if (missing > 0) this.log.addLine(`Some messages are missing here (${missing})`, "gap");
    }
    this.position = position;
  }

  #hasSeen({ epoch, offset }) {
    return this.position?.epoch === epoch && offset <= this.position.offset;
  }

  #setUnread(count) {
    this.unread = count;
    this.badge.textContent = count > 99 ? "99+" : count || "";
    this.button.setAttribute("aria-label", count ? `${this.label}, ${count} unread` : this.label);
  }
}
