// The cases of the test suites of auth0/socketio-jwt (1 to 21) and @thream/socketio-jwt (22 to 35), by their numbers and
// names in docs/clients.md, which says where the answer differs and why.
//
// Their handlers are played by what the gateway has: a publication that comes back is the echo, a room that guests may
// hear is the open namespace, and one that they may not is the one behind a login.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";

import { GENERATIONS, connected, start } from "./sockets.mjs";
import { beforeDeadline, call, login, next, required, unverifiedClaims } from "./support.mjs";

// The first suite was written for version 2, whose protocol is another one; its users have come as far as 4.
const BOTH = [2, 4];

const MALFORMED = { message: "jwt malformed", code: "invalid_token", type: "UnauthorizedError", reason: "token_malformed" };
const UNSIGNED = { message: "jwt signature is required", code: "invalid_token", type: "UnauthorizedError", reason: "signature_missing" };
const MISSING = { message: "no token provided", code: "credentials_required", type: "UnauthorizedError", reason: "token_missing" };
const BAD_FORMAT = {
  message: "Format is Authorization: Bearer [token]",
  code: "credentials_bad_format",
  type: "UnauthorizedError",
  reason: "credentials_malformed",
};

/** The stacks of tests/e2e/stock.rs: each gateway, and a token of alice for it. */
const stacks = { "": {}, HEADER: {}, DEFERRED: {}, GUESTS: {}, PUBLISHED: {}, PUBLISHED_DEFERRED: {} };

before(async () => {
  for (const [name, stack] of Object.entries(stacks)) {
    const prefix = name && `${name}_`;
    stack.gateway = required(`${prefix}GATEWAY_URL`);
    stack.issuer = required(`${prefix}ISSUER_URL`);
    stack.token = await login(stack.issuer, "alice", required("ALICE_PASSWORD"));
    await ready(stack.gateway);
  }
});

/** Waits until the gateway knows its keys. */
function ready(gateway) {
  return beforeDeadline(`readiness of ${gateway}`, (resolve, reject) => {
    const ask = async () => ((await fetch(`${gateway}/health/ready`)).ok ? resolve() : setTimeout(ask, 50));
    ask().catch(reject);
  });
}

/** What a refused client is told: version 2 by the event `error`, later ones by `connect_error`. */
async function refused(socket, generation) {
  const [error] = await next(socket, generation === 2 ? "error" : "connect_error");
  assert.equal(socket.connected, false);
  if (generation === 2) return error;
  assert.equal(error.message, error.data.message);
  return error.data;
}

/** The header, which the older client takes for polling and for WebSocket apart. */
function withHeader(token) {
  const extraHeaders = { Authorization: `Bearer ${token}` };
  return { extraHeaders, transportOptions: { polling: { extraHeaders }, websocket: { extraHeaders } } };
}

/** The same claims in a token that nobody has signed. */
function unsigned(token) {
  const header = Buffer.from(JSON.stringify({ typ: "at+jwt", alg: "none" })).toString("base64url");
  return `${header}.${token.split(".")[1]}.`;
}

async function ok(answer) {
  const body = await answer;
  assert.equal(body.ok, true, JSON.stringify(body));
  return body;
}

const subscribe = (socket, room) => ok(call(socket, "rt:subscribe", { room }));
const publish = (socket, room, event, data) => ok(call(socket, "rt:publish", { room, event, data }));

/** What the socket publishes comes back to it. */
async function assertEcho(socket, room = "lobby") {
  await subscribe(socket, room);
  const text = `echo ${Math.random()}`;
  const [[data]] = await Promise.all([next(socket, "echo-response"), publish(socket, room, "echo-response", { text })]);
  assert.deepEqual(data, { text });
}

/** Presents a token as the event `authenticate`; resolves when the gateway says that it is accepted. */
function authenticate(socket, token) {
  const authenticated = next(socket, "authenticated");
  socket.emit("authenticate", { token });
  return authenticated;
}

/** Records whether an event ever comes. */
function heard(socket, event) {
  const record = { count: 0 };
  socket.on(event, () => record.count++);
  return record;
}

/** Somebody who has signed in and greets in a room. */
async function greeter(t, room, event) {
  const socket = start(t, 4, stacks.GUESTS.gateway, { auth: { token: stacks.GUESTS.token } });
  await connected(socket);
  return (text) => publish(socket, room, event, text);
}

/** Two namespaces over one connection: the one that there is, and one that there is not. */
async function assertMultiplexed(t, generation, options, use) {
  const { Manager } = GENERATIONS[generation];
  const manager = new Manager(stacks.GUESTS.gateway, { reconnection: false, ...options });
  // A version 2 client would write a query that it is given here into the name of the namespace.
  const [socket, other] = ["/", "/admin"].map((namespace) => manager.socket(namespace));
  t.after(() => [socket, other].map((one) => one.close()));
  // In that order, for a version 2 client joins `/` before anything else.
  const [error] = await next(other.connect(), generation === 2 ? "error" : "connect_error");
  assert.equal(error.message ?? error, "Invalid namespace");
  await connected(socket.connect());
  await use(socket);
  assert.equal(other.connected, false);
}

describe("auth0/socketio-jwt: authorizer", () => {
  test("1. not logged in: should emit error with unauthorized handshake", async (t) => {
    for (const generation of BOTH) {
      const socket = start(t, generation, stacks[""].gateway, { query: "token=boooooo" });
      assert.deepEqual(await refused(socket, generation), MALFORMED);
    }
  });

  test("2. auth_header_required: auth headers are supported", async (t) => {
    const { gateway, token } = stacks.HEADER;
    for (const generation of BOTH) await assertEcho(await connected(start(t, generation, gateway, withHeader(token))));
  });

  test("3. auth_header_required: auth token in query string is disallowed", async (t) => {
    const { gateway, token } = stacks.HEADER;
    for (const generation of BOTH) {
      const socket = start(t, generation, gateway, { query: "token=" + token });
      assert.deepEqual(await refused(socket, generation), MISSING);
      // Nor does a junk header open the door for it, as it did there.
      const junk = start(t, generation, gateway, { query: "token=" + token, ...withHeader("junk") });
      assert.deepEqual(await refused(junk, generation), MALFORMED);
    }
  });

  test("4. all types: auth headers are supported", async (t) => {
    const { gateway, token } = stacks[""];
    for (const generation of BOTH) await assertEcho(await connected(start(t, generation, gateway, withHeader(token))));
  });

  test("5. all types: should do the handshake and connect", async (t) => {
    const { gateway, token } = stacks[""];
    for (const generation of BOTH) {
      await assertEcho(await connected(start(t, generation, gateway, { query: "token=" + token })));
    }
  });

  test("6. unsigned token: should not do the handshake and connect", async (t) => {
    const { gateway, token } = stacks[""];
    for (const generation of BOTH) {
      const socket = start(t, generation, gateway, { query: "token=" + unsigned(token) });
      assert.deepEqual(await refused(socket, generation), UNSIGNED);
    }
  });
});

describe("auth0/socketio-jwt: namespaces", () => {
  test("7. not logged in: should be able to connect to the default namespace", async (t) => {
    const greet = await greeter(t, "hall", "hi");
    for (const generation of BOTH) {
      const guest = await connected(start(t, generation, stacks.GUESTS.gateway));
      await subscribe(guest, "hall");
      await Promise.all([next(guest, "hi"), greet("hello")]);
    }
  });

  test("8. not logged in: should not be able to connect to the admin namespace", async (t) => {
    const [greet, greetAdmins] = [await greeter(t, "hall", "hi"), await greeter(t, "admin", "hi admin")];
    for (const generation of BOTH) {
      const guest = await connected(start(t, generation, stacks.GUESTS.gateway));
      const admin = heard(guest, "hi admin");
      await subscribe(guest, "hall");
      const answer = await call(guest, "rt:subscribe", { room: "admin" });
      assert.equal(answer.error.code, "forbidden");
      await greetAdmins("hello");
      await Promise.all([next(guest, "hi"), greet("hello")]);
      assert.equal(admin.count, 0);

      // Where nobody may stay without a token, the deadline ends it.
      const nobody = await connected(start(t, generation, stacks.DEFERRED.gateway));
      assert.deepEqual((await next(nobody, "disconnect"))[0], "io server disconnect");
    }
  });

  test("9. not logged in: should not be able to connect to the admin_hs namespace", async (t) => {
    for (const generation of BOTH) {
      const socket = start(t, generation, stacks[""].gateway);
      assert.equal((await refused(socket, generation)).type, "UnauthorizedError");
    }
    const [error] = await next(start(t, 4, `${stacks[""].gateway}/admin_hs`), "connect_error");
    assert.equal(error.message, "Invalid namespace");
  });

  const hears = async (t, socket) => {
    await subscribe(socket, "admin");
    const greetAdmins = await greeter(t, "admin", "hi admin");
    await Promise.all([next(socket, "hi admin"), greetAdmins("hello")]);
  };

  test("10. logged in: should do the authentication and connect", async (t) => {
    for (const generation of BOTH) {
      const socket = await connected(start(t, generation, stacks.GUESTS.gateway));
      await authenticate(socket, stacks.GUESTS.token);
      await hears(t, socket);
    }
  });

  test('11. logged in: should do the authentication and connect without "forceNew"', async (t) => {
    for (const generation of BOTH) {
      await assertMultiplexed(t, generation, {}, async (socket) => {
        await authenticate(socket, stacks.GUESTS.token);
        await hears(t, socket);
      });
    }
  });

  test("12. via handshake: should do the handshake and connect", async (t) => {
    const query = "token=" + stacks.GUESTS.token;
    for (const generation of BOTH) {
      await hears(t, await connected(start(t, generation, stacks.GUESTS.gateway, { query })));
    }
  });

  test('13. via handshake: should do the handshake and connect without "forceNew"', async (t) => {
    const query = { token: stacks.GUESTS.token };
    for (const generation of BOTH) {
      await assertMultiplexed(t, generation, { query }, (socket) => hears(t, socket));
    }
  });
});

describe("auth0/socketio-jwt: no query string", () => {
  test("14. not logged in: should close the connection after a timeout if no auth message is received", async (t) => {
    for (const generation of BOTH) {
      const socket = await connected(start(t, generation, stacks.DEFERRED.gateway));
      const since = performance.now();
      const [[told], [reason]] = await Promise.all([next(socket, "unauthorized"), next(socket, "disconnect")]);
      assert.equal(told.data.reason, "authentication_timed_out");
      assert.equal(reason, "io server disconnect");
      const lasted = performance.now() - since;
      assert.ok(lasted > 900 && lasted < 3000, `${lasted} ms`);
    }
  });

  test("15. not logged in: should not respond echo", async (t) => {
    for (const generation of BOTH) {
      const socket = await connected(start(t, generation, stacks.DEFERRED.gateway));
      const echo = heard(socket, "echo-response");
      const answer = await call(socket, "rt:publish", { room: "lobby", event: "echo-response", data: 1 });
      assert.equal(answer.error.code, "unauthenticated");
      await next(socket, "disconnect");
      assert.equal(echo.count, 0);
    }
  });

  test("16. logged in: should do the authentication and connect", async (t) => {
    const { gateway, token } = stacks.DEFERRED;
    for (const generation of BOTH) {
      const socket = await connected(start(t, generation, gateway));
      await authenticate(socket, token);
      await assertEcho(socket);
    }
  });
});

describe("auth0/socketio-jwt: secret function, answered by the issuer's published keys", () => {
  test("17. no query string, token is not valid: should emit unauthorized", async (t) => {
    for (const generation of BOTH) {
      const socket = await connected(start(t, generation, stacks.PUBLISHED_DEFERRED.gateway));
      socket.emit("authenticate", { token: "boooooo" });
      const [told] = await next(socket, "unauthorized");
      assert.deepEqual(told, { message: MALFORMED.message, inner: { message: MALFORMED.message }, data: MALFORMED });
    }
  });

  test("18. no query string, logged in: should do the authentication and connect", async (t) => {
    const { gateway, token } = stacks.PUBLISHED_DEFERRED;
    for (const generation of BOTH) {
      const socket = await connected(start(t, generation, gateway));
      await authenticate(socket, token);
      await assertEcho(socket);
    }
  });

  test("19. query string, not logged in: should emit error with unauthorized handshake", async (t) => {
    for (const generation of BOTH) {
      const socket = start(t, generation, stacks.PUBLISHED.gateway, { query: "token=boooooo" });
      assert.deepEqual(await refused(socket, generation), MALFORMED);
    }
  });

  test("20. query string, logged in: should do the handshake and connect", async (t) => {
    const { gateway, token } = stacks.PUBLISHED;
    for (const generation of BOTH) {
      await assertEcho(await connected(start(t, generation, gateway, { query: "token=" + token })));
    }
  });

  test("21. query string, unsigned token: should not do the handshake and connect", async (t) => {
    const { gateway, token } = stacks.PUBLISHED;
    for (const generation of BOTH) {
      const socket = start(t, generation, gateway, { query: "token=" + unsigned(token) });
      assert.deepEqual(await refused(socket, generation), UNSIGNED);
    }
  });
});

// The second suite asks the same four questions of a secret, of a function that finds one, and of a hook.

const present = (t, stack, token) => start(t, 4, stack.gateway, { auth: { token } });

async function assertRefusedWithoutToken(t, stack) {
  assert.deepEqual(await refused(start(t, 4, stack.gateway), 4), MISSING);
}

async function assertRefusedInBadFormat(t, stack) {
  for (const token of ["Bearer testing testing", "Basic testing", "Bearer "]) {
    assert.deepEqual(await refused(present(t, stack, token), 4), BAD_FORMAT, token);
  }
  // One word is a bare token here.
  assert.deepEqual(await refused(present(t, stack, "testing"), 4), MALFORMED);
}

async function assertRefusedAsGarbage(t, stack) {
  assert.deepEqual(await refused(present(t, stack, "Bearer testing"), 4), MALFORMED);
}

async function assertAdmitted(t, stack) {
  await assertEcho(await connected(present(t, stack, `Bearer ${stack.token}`)));
}

describe("@thream/socketio-jwt: secret as string", () => {
  test("22. should emit error with no token provided", (t) => assertRefusedWithoutToken(t, stacks[""]));
  test("23. should emit error with bad token format", (t) => assertRefusedInBadFormat(t, stacks[""]));
  test("24. should emit error with unauthorized handshake", (t) => assertRefusedAsGarbage(t, stacks[""]));
  test("25. should connect the user", (t) => assertAdmitted(t, stacks[""]));
});

describe("@thream/socketio-jwt: secret as callback, answered by the issuer's published keys", () => {
  test("26. should emit error with no token provided", (t) => assertRefusedWithoutToken(t, stacks.PUBLISHED));
  test("27. should emit error with bad token format", (t) => assertRefusedInBadFormat(t, stacks.PUBLISHED));
  test("28. should emit error with unauthorized handshake", (t) => assertRefusedAsGarbage(t, stacks.PUBLISHED));
  test("29. should connect the user", (t) => assertAdmitted(t, stacks.PUBLISHED));
});

describe("@thream/socketio-jwt: onAuthentication, answered by grants", () => {
  test("30. should emit error with no token provided", (t) => assertRefusedWithoutToken(t, stacks[""]));
  test("31. should emit error with bad token format", (t) => assertRefusedInBadFormat(t, stacks[""]));
  test("32. should emit error with unauthorized handshake", (t) => assertRefusedAsGarbage(t, stacks[""]));
  test("33. should connect the user", (t) => assertAdmitted(t, stacks[""]));

  test("34. should contain user properties", async (t) => {
    const { gateway, token } = stacks[""];
    const socket = await connected(start(t, 4, gateway, { auth: { token: `Bearer ${token}` } }));
    await subscribe(socket, "lobby");
    const [[, meta]] = await Promise.all([next(socket, "message"), publish(socket, "lobby", "message", "hello")]);
    assert.equal(meta.from.sub, unverifiedClaims(token).sub);
    assert.equal(meta.from.name, "alice");
  });

  test("35. should emit error when user validation fails", async (t) => {
    const { gateway, issuer } = stacks[""];
    const token = await login(issuer, "bob", required("BOB_PASSWORD"));
    const socket = await connected(start(t, 4, gateway, { auth: { token } }));
    await subscribe(socket, "lobby");
    const answer = await call(socket, "rt:subscribe", { room: "org:somebody-else" });
    assert.equal(answer.error.code, "forbidden");
    // Who may not come at all any more is told so by the issuer, and its token is worth nothing.
    const ended = next(socket, "disconnect");
    const logout = { method: "POST", headers: { Authorization: `Bearer ${token}` } };
    assert.equal((await fetch(`${issuer}/logout`, logout)).status, 204);
    assert.deepEqual((await ended)[0], "io server disconnect");
    const again = await refused(start(t, 4, gateway, { auth: { token } }), 4);
    assert.deepEqual(again, { ...MALFORMED, message: "jwt revoked", reason: "token_revoked" });
  });
});
