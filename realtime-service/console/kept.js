// Data that outlives a page: local storage, per origin. No access token, refresh token or password is ever in it.

const PREFIX = "latchkey.";

/** A named value in local storage. A browser that forbids storage only loses the value. */
function item(name) {
  const key = PREFIX + name;
  return {
    read() {
      try {
        return JSON.parse(localStorage.getItem(key));
      } catch {
        return null;
      }
    },
    write(value) {
      try {
        if (value === null) localStorage.removeItem(key);
        else localStorage.setItem(key, JSON.stringify(value));
      } catch {
        // Storage is full or forbidden.
      }
    },
  };
}

/** The signed-in user, `{username, sub}`: a page that finds one resumes the session at its start. */
export const signedIn = item("signed-in");

/** Identifier (`sid`) of a session that the user has ended, and that is still to be ended at the issuer. */
export const unfinishedLogout = item("unfinished-logout");

/**
 * The issuer's device token, where the browser does not keep the issuer's cookies. Outlives a logout. Signs nobody in:
 * with the right password it admits a login that the issuer's limits would refuse.
 */
export const deviceToken = item("device");

/** The unfinished work of one user: drafts, unsent messages, and the rooms that were opened by name. */
export class Work {
  /** `sub` is the user's subject. */
  constructor(sub) {
    this.item = item(`work.${sub}`);
  }

  /** Forgets everything. */
  clear() {
    this.item.write(null);
  }

  /** The rooms that the user is in. */
  get rooms() {
    return this.#read().rooms;
  }

  /** Returns the draft of a room, or an empty text. */
  draft(room) {
    return this.#read().drafts[room] ?? "";
  }

  setDraft(room, text) {
    this.#change(({ drafts }) => {
      if (text) drafts[room] = text;
      else delete drafts[room];
    });
  }

  addRoom(room) {
    this.#change(({ rooms }) => !rooms.includes(room) && rooms.push(room));
  }

  removeRoom(room) {
    this.#change((work) => (work.rooms = work.rooms.filter((name) => name !== room)));
  }

  /** Forgets a room with its draft and its unsent messages. */
  forgetRoom(room) {
    this.#change((work) => {
      work.rooms = work.rooms.filter((name) => name !== room);
      work.unsent = work.unsent.filter((message) => message.room !== room);
      delete work.drafts[room];
    });
  }

  /** Messages that may not have been sent: `{room, text, id}`. */
  get unsent() {
    return this.#read().unsent;
  }

  addUnsent(message) {
    this.#change(({ unsent }) => unsent.push(message));
  }

  removeUnsent(id) {
    this.#change((work) => (work.unsent = work.unsent.filter((message) => message.id !== id)));
  }

  #read() {
    const { rooms = [], drafts = {}, unsent = [] } = this.item.read() ?? {};
    return { rooms, drafts, unsent };
  }

  /** Other tabs write the same value: each change reads it first. */
  #change(change) {
    const work = this.#read();
    change(work);
    this.item.write(work);
  }
}
