// The log of a room: messages, and lines between the messages.

import { avatar, element, nameOf, timeElement, userKey } from "./page.js";

const GROUP_MS = 60_000;
const MAX_SHOWN = 500;
/** A log this close to its end is being followed. */
const FOLLOW_PX = 60;

export class Log {
  /** `me` is `{sub, name}` of the user, whose own messages are shown on the other side. */
  constructor(label, me) {
    this.me = me;
    this.lastShown = null;
    this.node = element("div", "log");
    this.node.setAttribute("role", "log");
    this.node.setAttribute("aria-label", `Messages in ${label}`);
    this.node.tabIndex = 0;
    this.node.hidden = true;
    this.node.append(element("p", "empty", "No messages yet. What you write here reaches everyone in the room."));
  }

  get isShown() {
    return !this.node.hidden;
  }

  get isFollowed() {
    return this.node.scrollHeight - this.node.scrollTop - this.node.clientHeight < FOLLOW_PX;
  }

  scrollToEnd() {
    this.node.scrollTop = this.node.scrollHeight;
  }

  /** Runs `show`, which adds many messages at once: nobody wants them read aloud one by one. */
  quietly(show) {
    this.node.setAttribute("aria-live", "off");
    show();
    requestAnimationFrame(() => this.node.removeAttribute("aria-live"));
  }

  /** A sentence between the messages; `kind` is `gap` for one that must not be overlooked. */
  addLine(text, kind = "") {
    this.lastShown = null;
    const line = element("p", `line ${kind}`.trimEnd(), text);
    if (kind) line.dataset.testid = `line-${kind}`;
    this.#append(line);
  }

  addMessage(event, data, meta) {
    const text = typeof data?.text === "string" ? data.text : dataText(data);
    this.#append(this.#message(event === "message" ? text : `${event} ${text}`, meta));
  }

  #append(node) {
    const follow = this.isFollowed || node.classList.contains("mine");
    this.node.querySelector(".empty")?.remove();
    this.node.append(node);
    while (this.node.childElementCount > MAX_SHOWN) this.node.firstElementChild.remove();
    if (follow) this.scrollToEnd();
    else this.node.dispatchEvent(new Event("unseen"));
  }

  #message(text, { from = {}, ts }) {
    const key = userKey(from);
    const mine = key !== null && key === userKey(this.me);
    const name = mine ? "You" : nameOf(from);
    const minute = Math.floor(ts / GROUP_MS);
    // A back end has no connection, and guests are told apart by theirs.
    const sender = key ?? from.connection;
    const grouped = this.lastShown !== null && this.lastShown.sender === sender && this.lastShown.minute === minute;
    this.lastShown = { sender, minute };

    const author = element("span", "from", name);
    author.dataset.testid = "message-from";
    const by = element("p", "by");
    by.append(author, timeElement(ts));
    const words = element("p", "text", text);
    words.dataset.testid = "message-text";
    const bubble = element("div", "bubble");
    bubble.append(by, words);
    const item = element("article", `message${mine ? " mine" : ""}${grouped ? " grouped" : ""}`);
    item.dataset.testid = "message";
    item.append(avatar(mine ? this.me.name : name, key), bubble);
    return item;
  }
}

/** Returns data without a text as JSON, and binary data as its length. */
function dataText(data) {
  const shown = (_, value) => (value instanceof ArrayBuffer ? `${value.byteLength} bytes` : value);
  return JSON.stringify(data ?? null, shown);
}
