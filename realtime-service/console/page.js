// Elements of the page for all of its modules, and the looks of people and times.

export const $ = (id) => document.getElementById(id);

/** Makes an element with a class and a text. Text from the network goes through here, hence never into markup. */
export function element(tag, className = "", text = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
}

/** Announces a text to screen readers. */
export function announce(text) {
  $("announcer").textContent = text;
}

/** Returns a count with its noun: "1 person", "2 people". */
export function counted(count, one, many = `${one}s`) {
  return `${count} ${count === 1 ? one : many}`;
}

/** Returns a key that is unique to a user, or null for a guest. A subject is unique only with its issuer. */
export function userKey({ iss, sub } = {}) {
  return sub === undefined ? null : JSON.stringify([iss ?? null, sub]);
}

/** Returns the name to show for a user. A guest has no subject. */
export function nameOf({ iss, sub, name } = {}) {
  const called = name || sub || "a guest";
  return iss ? `${called} (${iss.replace(/^https?:\/\//, "").replace(/\/+$/, "")})` : called;
}

/** A disc with initials, in one of six colours: always the same for the same user. */
export function avatar(name, key) {
  const disc = element("i", `avatar hue-${hue(key ?? "")}`, initials(name));
  disc.setAttribute("aria-hidden", "true");
  return disc;
}

function initials(name) {
  return name.trim().split(/\s+/).slice(0, 2).map((word) => [...word][0] ?? "").join("").toUpperCase();
}

function hue(key) {
  let sum = 0;
  for (const char of key) sum = (sum * 31 + char.codePointAt(0)) % 997;
  return sum % 6;
}

/** A time of the day, with the day when that is not today. */
export function timeElement(ts) {
  const when = new Date(ts);
  const isToday = when.toDateString() === new Date().toDateString();
  const day = isToday ? {} : { weekday: "short", day: "numeric", month: "short" };
  const time = element("time", "", when.toLocaleString([], { ...day, hour: "2-digit", minute: "2-digit" }));
  time.dateTime = when.toISOString();
  time.title = when.toLocaleString();
  return time;
}
