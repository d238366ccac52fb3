// The list of the users in a room, as far as the gateway names them.

import { avatar, counted, element, nameOf, userKey } from "./page.js";

/** Maximum number of users that a line names. */
const MOST_NAMES = 3;

/** The users that an `rt:join` or `rt:leave` names: one, several of a crowded room, or none. */
export const usersOf = ({ user, users }) => users ?? (user ? [user] : []);

export class People {
  /** `me` is `{sub, name}` of the user, who stands first. */
  constructor(me) {
    this.me = me;
    this.forget();
  }

  /** Forgets the list, for the reason `why`. */
  forget(why = "") {
    Object.assign(this, { why, users: new Map(), count: 0, connections: 0, isKnown: false, isCrowd: false });
  }

  /** Takes the answer of `rt:presence`. */
  know({ users, count, connections, truncated }) {
    const known = new Map(users.map((user) => [userKey(user), user]));
    Object.assign(this, { why: "", users: known, count, connections, isKnown: true, isCrowd: Boolean(truncated) });
  }

  /** Takes the counts of an `rt:join` or `rt:leave`, which name users by their subjects alone. */
  change({ count, connections }) {
    Object.assign(this, { count, connections });
  }

  /** Returns the users' names in the last answer, or the number of users if there are too many. */
  namesOf(users) {
    if (users.length > MOST_NAMES) return `${users.length} people`;
    return users.map((user) => nameOf(this.users.get(userKey(user)) ?? user)).join(", ");
  }

  /** Removes users who have left. */
  remove(users) {
    for (const user of users) this.users.delete(userKey(user));
  }

  get summary() {
    return this.isKnown ? `${this.count} here` : "Who is here";
  }

  /** The list, the user first and the others by name. */
  show(list, note) {
    const isMe = (user) => userKey(user) === userKey(this.me);
    const byName = (a, b) => isMe(b) - isMe(a) || nameOf(a).localeCompare(nameOf(b));
    list.replaceChildren(...[...this.users.values()].sort(byName).map((user) => person(user, isMe(user))));
    note.textContent = this.why || (this.isKnown ? this.#rest : "");
  }

  /** Number of users who are not named, and number of connections. */
  get #rest() {
    const more = this.count - this.users.size;
    const others = more > 0 ? `and ${counted(more, "other")}; ` : "";
    return `${others}${counted(this.connections, "connection")} in all`;
  }
}

function person(user, isMe) {
  const item = element("li", "person");
  item.dataset.testid = "person";
  const name = element("span", "person-name", nameOf(user));
  item.append(avatar(nameOf(user), userKey(user)), name);
  if (isMe) item.append(element("span", "fine", "you"));
  // A user without a connection has just left, and may come back before the gateway announces it.
  if (user.connections === 0) item.append(element("span", "fine", "away"));
  if (user.connections > 1) item.append(element("span", "fine", counted(user.connections, "connection")));
  return item;
}
