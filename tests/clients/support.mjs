// What the tests share: where the stacks are, how to log in, and how to wait for things without sleeping.

export const DEADLINE_MS = 10_000;

/** Reads a variable that the harness must set. Without it a test fails: one that is skipped proves nothing. */
export function required(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set; README.md beside this file lists what is needed`);
  return value;
}

export function postLogin(issuer, contentType, body) {
  const headers = { "Content-Type": contentType };
  return fetch(`${issuer}/login`, { method: "POST", headers, body, signal: AbortSignal.timeout(DEADLINE_MS) });
}

/** Logs in as a program would. Answers the token's text. */
export async function login(issuer, username, password) {
  const answer = await postLogin(issuer, "application/json", JSON.stringify({ username, password }));
  if (answer.status !== 200) throw new Error(`login of ${username}: HTTP ${answer.status} ${await answer.text()}`);
  return (await answer.json()).token;
}

/** Reads the claims of a token that nobody has verified. */
export function unverifiedClaims(token) {
  return JSON.parse(Buffer.from(token.split(".")[1], "base64url").toString());
}

/** The status of the issuer's `GET /me` with a token, at the stack whose variables begin with `prefix`. */
export async function statusOf(token, prefix = "") {
  const answer = await fetch(`${required(`${prefix}ISSUER_URL`)}/me`, { headers: { Authorization: `Bearer ${token}` } });
  return answer.status;
}

/** Resolves to the arguments of the next `event`; rejects at the deadline, naming what never came. */
export function next(emitter, event) {
  return beforeDeadline(`event "${event}"`, (resolve) => emitter.once(event, (...args) => resolve(args)));
}

/** Emits with an acknowledgement, in the one way that all generations of the client know. Resolves to the answer. */
export function call(socket, event, payload) {
  return beforeDeadline(`answer to "${event}"`, (resolve) => socket.emit(event, payload, resolve));
}

/** Runs `start(resolve, reject)`, and rejects if neither has been called at the deadline. */
export function beforeDeadline(what, start) {
  let timer;
  const outcome = new Promise((resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${DEADLINE_MS} ms`)), DEADLINE_MS);
    start(resolve, reject);
  });
  return outcome.finally(() => clearTimeout(timer));
}
