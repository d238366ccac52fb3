// One room on the page: its button, its log, and what was said in it.

const GROUP_MS = 5 * 60_000;
const MAX_SHOWN = 500;
/** A log this close to its end is being followed. */
const FOLLOW_PX = 60;

/** Makes an element with a class and a text. Text from the network goes through here, hence never into markup. */
export function element(tag, className = "", text = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
}

export function initials(name) {
  return name.trim().split(/\s+/).slice(0, 2).map((word) => [...word][0] ?? "").join("").toUpperCase();
}

export class Room {
  /** `me` is `{sub, name}` of the user, whose own messages are shown on the other side. */
  constructor(name, label, me) {
    Object.assign(this, { name, label, me });
    this.state = "joining";
    this.can = [];
    this.epoch = null;
    this.offset = -1;
    this.unread = 0;
    this.lastShown = null;

    this.log = element("div", "log");
    this.log.setAttribute("role", "log");
    this.log.setAttribute("aria-label", `Messages in ${label}`);
    this.log.tabIndex = 0;
    this.log.hidden = true;
    this.log.append(element("p", "empty", "No messages yet. What you write here reaches everyone in the room."));

    this.button = element("button", "room-button");
    this.button.type = "button";
    this.button.title = name;
    this.badge = element("span", "badge");
    this.button.append(element("span", "room-name", label), this.badge);
  }

  get isShown() {
    return !this.log.hidden;
  }

  get isFollowed() {
    return this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < FOLLOW_PX;
  }

  /** What the user may do here, in words. */
  get standing() {
    if (this.state !== "joined") return this.state === "joining" ? "joining…" : "not joined";
    const may = [this.can.includes("sub") && "read", this.can.includes("pub") && "write"].filter(Boolean);
    return may.length ? `you may ${may.join(" and ")}` : "joined";
  }

  get isSilent() {
    return this.state === "refused" || (this.state === "joined" && !this.can.includes("pub"));
  }

  show(shown) {
    this.log.hidden = !shown;
    if (!shown) return this.button.removeAttribute("aria-current");
    this.button.setAttribute("aria-current", "true");
    this.setUnread(0);
    this.scrollToEnd();
  }

  scrollToEnd() {
    this.log.scrollTop = this.log.scrollHeight;
  }

  /** Takes the answer to `rt:subscribe`, and says what went by since the last one. */
  joined({ epoch, offset, can }) {
    if (this.epoch !== null && this.epoch !== epoch) {
      this.addLine("The room started anew while you were away.");
    } else if (this.epoch !== null && offset > this.offset) {
      const missed = offset - this.offset;
      this.addLine(`${missed} message${missed === 1 ? " was" : "s were"} sent while you were away.`);
    }
    // A broadcast may have overtaken the answer.
    const seen = this.epoch === epoch ? Math.max(offset, this.offset) : offset;
    Object.assign(this, { state: "joined", can: can ?? [], epoch, offset: seen });
  }

  left(why) {
    Object.assign(this, { state: "refused", can: [] });
    this.addLine(why);
  }

  /** Shows what the gateway broadcast, once. */
  receive(event, data, meta) {
    if (this.epoch === meta.epoch && meta.offset <= this.offset) return;
    Object.assign(this, { epoch: meta.epoch, offset: meta.offset });
    const text = typeof data?.text === "string" ? data.text : JSON.stringify(data ?? null);
    this.#append(this.#message(event === "message" ? text : `${event} ${text}`, meta));
    if (!this.isShown) this.setUnread(this.unread + 1);
  }

  addLine(text) {
    this.lastShown = null;
    this.#append(element("p", "line", text));
  }

  setUnread(count) {
    this.unread = count;
    this.badge.textContent = count > 99 ? "99+" : count || "";
    this.button.setAttribute("aria-label", count ? `${this.label}, ${count} unread` : this.label);
  }

  #append(node) {
    const follow = this.isFollowed || node.classList.contains("mine");
    this.log.querySelector(".empty")?.remove();
    this.log.append(node);
    while (this.log.childElementCount > MAX_SHOWN) this.log.firstElementChild.remove();
    if (follow) this.scrollToEnd();
    else this.log.dispatchEvent(new Event("unseen"));
  }

  #message(text, { from, ts }) {
    const mine = Boolean(from) && from.sub === this.me.sub;
    const name = mine ? "You" : from?.name || from?.sub || "the server";
    const key = from?.sub ?? "";
    const grouped = this.lastShown?.key === key && ts - this.lastShown.ts < GROUP_MS;
    this.lastShown = { key, ts };

    const avatar = element("i", `avatar hue-${hue(key)}`, initials(mine ? this.me.name : name));
    avatar.setAttribute("aria-hidden", "true");
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
    item.append(avatar, bubble);
    return item;
  }
}

function timeElement(ts) {
  const when = new Date(ts);
  const time = element("time", "", when.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
  time.dateTime = when.toISOString();
  time.title = when.toLocaleString();
  return time;
}

/** One of six colours, always the same for the same subject. */
export function hue(key) {
  let sum = 0;
  for (const char of key) sum = (sum * 31 + char.codePointAt(0)) % 997;
  return sum % 6;
}
