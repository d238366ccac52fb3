// Rooms that a token opens to its bearer. The gateway's own rules may open more rooms.

const REALTIME_TYPE = "realtime";

/** The rooms, and the patterns of rooms, that `authorization_details` lets one enter. */
export function grantedRooms({ authorization_details: details } = {}) {
  const names = new Set();
  for (const { type, actions, rooms } of Array.isArray(details) ? details : []) {
    if (type !== REALTIME_TYPE || !actions?.includes("sub")) continue;
    for (const name of rooms ?? []) names.add(name);
  }
  const isPattern = (name) => name.split(":").some((segment) => segment === "*" || segment === "**");
  return { rooms: [...names].filter((name) => !isPattern(name)), patterns: [...names].filter(isPattern) };
}

/** An example of a room that one of the patterns opens, or an empty text. */
export function suggestedRoom(patterns) {
  return (patterns[0] ?? "").replace(/\*+/g, "42");
}

/** The room that the gateway opens to each user alone. */
export function ownRoom(sub) {
  const escaped = (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`;
  return `user:${encodeURIComponent(sub).replace(/[!'()*]/g, escaped)}`;
}

/** Describes the user's rights in a room; `can` is a list of `sub`, `pub`, `hst`, `prs`. */
export function standing(can) {
  const words = { sub: "read", pub: "write", hst: "look back", prs: "see who is here" };
  const may = Object.keys(words).filter((action) => can.includes(action)).map((action) => words[action]);
  if (may.length === 0) return "you may do nothing here";
  const last = may.pop();
  return `you may ${may.length ? `${may.join(", ")} and ${last}` : last}`;
}
