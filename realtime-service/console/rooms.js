// The rooms of the signed-in user: the list, the room that is shown, and the events of the gateway about rooms.

import { ask, refusalText } from "./gateway.js";
import { grantedRooms, ownRoom, suggestedRoom } from "./grants.js";
import { $, element, userKey } from "./page.js";
import { usersOf } from "./people.js";
import { Room } from "./room.js";

/** Number of messages from before the first visit that are shown. */
const FIRST_MESSAGES = 50;
/** Number of kept messages that are fetched on a later visit: as many as a log shows. */
const LATER_MESSAGES = 500;

/** The rooms, which outlive a connection: a user who comes back to a room is shown the missed messages. */
export class Rooms {
  /** `me` is `{sub, name}`, `claims` are those of the token, `work` is where the rooms are kept. */
  constructor(me, claims, work) {
    Object.assign(this, { me, work, socket: null, current: null, all: new Map() });
    this.add("lobby").isWanted = true;
    if (me.sub) this.add(ownRoom(me.sub), "your room", "room-own").isWanted = true;
    for (const name of work.rooms) if (!this.all.has(name)) this.add(name).isWanted = true;
    this.allow(claims);
  }

  /** Adds the rooms that a token names, and offers its patterns. */
  allow(claims) {
    const { rooms, patterns } = grantedRooms(claims);
    for (const name of rooms) if (!this.all.has(name)) this.add(name);
    $("patterns").hidden = patterns.length === 0;
    $("patterns-list").replaceChildren(...patterns.map((pattern) => element("code", "", pattern)));
    $("join-room").placeholder = suggestedRoom(patterns);
  }

  add(name, label = name, testId = `room-${name}`) {
    const room = new Room(name, label, this.me);
    room.button.dataset.testid = testId;
    room.button.addEventListener("click", () => this.select(room));
    room.log.node.addEventListener("unseen", () => room.log.isShown && ($("newer").hidden = false));
    room.log.node.addEventListener("scroll", () => room.log.isFollowed && ($("newer").hidden = true));
    this.all.set(name, room);
    this.#list(room);
    return room;
  }

  /** Puts the rooms on the page, also those of a session before this one. */
  show() {
    $("room-list").replaceChildren();
    $("messages").replaceChildren();
    for (const room of this.all.values()) this.#list(room);
    this.select(this.current ?? this.all.get("lobby"));
  }

  #list(room) {
    const item = element("li");
    item.append(room.button);
    $("room-list").append(item);
    $("messages").append(room.log.node);
  }

  // ---- the connection

  listen(socket) {
    this.socket = socket;
    socket.on("rt:join", (change) => this.#someoneCame(change));
    socket.on("rt:leave", (change) => this.#someoneLeft(change));
    socket.on("rt:unsubscribed", ({ room, code }) => {
      const left = this.all.get(room);
      if (left) this.#leftTo(left, "refused", refusalText("You are no longer in this room", { error: { code } }));
    });
    socket.onAny((event, data, meta) => {
      if (!event.startsWith("rt:") && meta?.room) this.all.get(meta.room)?.receive({ event, data, meta });
    });
  }

  /** The connection is there, perhaps again. */
  connected() {
    for (const room of this.all.values()) if (room.isWanted) this.enter(room);
    $("messages").dispatchEvent(new Event("connected"));
  }

  lost() {
    for (const room of this.all.values()) room.lost();
    this.showHead();
  }

  // ---- coming and going

  /** Enters a room, where the user left it before, and fetches what was said meanwhile. */
  async enter(room) {
    const { socket } = this;
    const visit = room.enter();
    const isLate = () => room.visit !== visit || this.socket !== socket;
    room.isWanted = true;
    this.#changed(room);
    const since = room.position ? { since: room.position } : {};
    const answer = await ask(socket, "rt:subscribe", { room: room.name, ...since });
    if (isLate()) return;
    if (!answer.ok) return this.#leftTo(room, "refused", refusalText("Could not enter", answer));

    let messages = answer.messages ?? [];
    let problem = "";
    if (!answer.recovered && answer.can.includes("hst")) {
      const limit = room.position ? LATER_MESSAGES : FIRST_MESSAGES;
      const kept = await ask(socket, "rt:history", { room: room.name, limit });
      if (isLate()) return;
      if (kept.ok) messages = kept.messages;
      else problem = refusalText("Could not read what was said before", kept);
    }
    if (problem) room.log.addLine(problem, "refusal");
    room.entered(answer, messages);
    this.work.addRoom(room.name);
    this.#changed(room);
    await this.#look(room);
  }

  async leave(room) {
    const { socket } = this;
    room.isWanted = false;
    const answer = socket.connected ? await ask(socket, "rt:unsubscribe", { room: room.name }) : { ok: true };
    if (this.socket !== socket || room.isWanted) return;
    if (answer.ok) return this.#leftTo(room, "outside", "You left");
    room.isWanted = true;
    room.log.addLine(refusalText("Could not leave", answer), "refusal");
  }

  #leftTo(room, state, why) {
    room.isWanted = false;
    room.left(state, why);
    this.work.removeRoom(room.name);
    this.#changed(room);
  }

  /** Removes the current room, which the user has left or may not enter, with its draft. */
  remove() {
    const { current: room } = this;
    if (!this.#isRemovable(room)) return;
    this.work.forgetRoom(room.name);
    this.all.delete(room.name);
    room.button.closest("li").remove();
    room.log.node.remove();
    this.select(this.all.values().next().value);
  }

  #isRemovable(room) {
    return room.isOut && this.all.size > 1;
  }

  // ---- who is there

  /** Asks who is in a room, and to be told of changes. Resolves to whether that is known now. */
  async #look(room) {
    const { socket } = this;
    const { visit } = room;
    if (!room.can.includes("prs")) {
      room.people.forget("You may not see who is here.");
    } else {
      const answer = await ask(socket, "rt:presence", { room: room.name, mode: "full" });
      if (room.visit !== visit || this.socket !== socket) return false;
      if (answer.ok) room.people.know(answer);
      else room.people.forget(refusalText("Could not see who is here", answer));
    }
    this.#changed(room);
    return room.people.isKnown;
  }

  /** Joins come without a name, so the list is asked for again; in a crowd they are counted only. */
  async #someoneCame(change) {
    const room = this.all.get(change.room);
    if (room?.state !== "inside") return;
    room.people.change(change);
    this.#changed(room);
    if (room.people.isCrowd) return;
    const isAsked = room.arrivals.length > 0;
    // A crowded room tells its announcements to everybody whom they are about, too.
    room.arrivals.push(...usersOf(change).filter((user) => userKey(user) !== userKey(this.me)));
    // Users who come in before the answer are named with the others.
    if (isAsked || room.arrivals.length === 0) return;
    const { visit } = room;
    const isKnown = await this.#look(room);
    if (room.visit !== visit) return;
    const names = room.people.namesOf(room.arrivals.splice(0));
    if (isKnown) room.log.addLine(`${names} came in`, "presence");
  }

  #someoneLeft(change) {
    const room = this.all.get(change.room);
    if (room?.state !== "inside") return;
    room.people.change(change);
    const gone = usersOf(change);
    if (gone.length > 0 && !room.people.isCrowd) room.log.addLine(`${room.people.namesOf(gone)} left`, "presence");
    room.people.remove(gone);
    this.#changed(room);
    if (change.missed) this.#look(room);
  }

  // ---- what is shown

  select(room) {
    this.current = room;
    for (const other of this.all.values()) other.show(other === room);
    $("newer").hidden = true;
    this.showHead();
    $("messages").dispatchEvent(new Event("selected"));
    if (this.socket?.connected && room.state === "outside" && room.visit === 0) this.enter(room);
  }

  /** Shows the room of this name, which may be a new one, and enters it. */
  open(name) {
    const room = this.all.get(name) ?? this.add(name);
    this.select(room);
    room.button.scrollIntoView({ block: "nearest", inline: "nearest" });
    if (this.socket.connected && room.isOut) this.enter(room);
  }

  #changed(room) {
    if (room === this.current) this.showHead();
  }

  showHead() {
    const { label, name, isSilent, state, people } = this.current;
    const standing = this.socket.connected || state !== "entering" ? this.current.standing : "waiting for the connection…";
    $("room-title").textContent = label;
    $("room-can").textContent = name === label ? standing : `${name} · ${standing}`;
    $("enter-leave").textContent = state === "inside" || state === "entering" ? "Leave" : "Enter";
    $("remove-room").hidden = !this.#isRemovable(this.current);
    $("people-button").textContent = people.summary;
    people.show($("people-list"), $("people-note"));
    $("text").readOnly = isSilent;
    $("text").placeholder = isSilent ? "You may not write here" : `Write to ${label}`;
    $("send-button").setAttribute("aria-disabled", String(isSilent));
  }

  /** Enters the room that is shown, or leaves it. */
  toggle() {
    const room = this.current;
    if (room.state === "inside" || room.state === "entering") return this.leave(room);
    if (this.socket.connected) return this.enter(room);
    room.isWanted = true;
  }
}
