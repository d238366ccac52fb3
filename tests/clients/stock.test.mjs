// The clients that people have, as published on npm, against a running stack.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";

import { startProxy } from "./proxy.mjs";
import { connected, start as startAt } from "./sockets.mjs";
import { beforeDeadline, call, login, next, postLogin, required, unverifiedClaims } from "./support.mjs";

const TRANSPORTS = {
  polling: { options: { transports: ["polling"] }, settlesOn: "polling" },
  websocket: { options: { transports: ["websocket"] }, settlesOn: "websocket" },
  "polling, then an upgrade": { options: {}, settlesOn: "websocket" },
};

let gateway, issuer, alice, bob;

before(async () => {
  gateway = required("GATEWAY_URL");
  issuer = required("ISSUER_URL");
  alice = await login(issuer, "alice", required("ALICE_PASSWORD"));
  bob = await login(issuer, "bob", required("BOB_PASSWORD"));
});

function start(t, generation, options = {}, url = gateway) {
  return startAt(t, generation, url, options);
}

async function assertAdmitted(socket) {
  const answer = await call(await connected(socket), "rt:subscribe", { room: "lobby" });
  assert.equal(answer.ok, true, JSON.stringify(answer));
  assert.equal(answer.room, "lobby");
}

async function assertSettlesOn(socket, transport) {
  const { engine } = socket.io;
  if (engine.transport.name !== transport) {
    const [upgraded] = await next(engine, "upgrade");
    assert.equal(upgraded.name, transport);
  }
  // The session still works on the transport that it ended up with.
  const answer = await call(socket, "rt:subscribe", { room: "lobby" });
  assert.equal(answer.ok, true, JSON.stringify(answer));
  assert.equal(engine.transport.name, transport);
}

/** What a refused client of each generation is told. */
async function refusal(socket, generation) {
  if (generation >= 3) {
    const [error] = await next(socket, "connect_error");
    return error.message;
  }
  const [error] = await next(socket, "error");
  return typeof error === "string" ? error : error.message;
}

function withForgedSignature(token) {
  const [header, payload, signature] = token.split(".");
  const forged = Buffer.from(signature, "base64url");
  forged[0] ^= 1;
  return [header, payload, forged.toString("base64url")].join(".");
}

describe("POST /login", () => {
  test("answers a token to JSON and to a form", async () => {
    const credentials = { username: "alice", password: required("ALICE_PASSWORD") };
    const answers = await Promise.all([
      postLogin(issuer, "application/json", JSON.stringify(credentials)),
      postLogin(issuer, "application/x-www-form-urlencoded", String(new URLSearchParams(credentials))),
    ]);
    for (const answer of answers) {
      assert.equal(answer.status, 200);
      const body = await answer.json();
      assert.equal(body.token_type, "Bearer");
      assert.equal(body.token.split(".").length, 3);
      assert.ok(body.expires_in > 0);
    }
  });

  test("says the same of a wrong password and of an unknown user", async () => {
    const bodies = [];
    for (const username of ["alice", "nobody-of-that-name"]) {
      const answer = await postLogin(issuer, "application/json", JSON.stringify({ username, password: "not the password" }));
      assert.equal(answer.status, 401);
      assert.match(answer.headers.get("content-type"), /^application\/problem\+json/);
      bodies.push(await answer.json());
    }
    assert.equal(bodies[0].code, "invalid_credentials");
    assert.deepEqual(bodies[0], bodies[1]);
  });
});

for (const generation of [2, 3, 4]) {
  describe(`socket.io-client ${generation}`, () => {
    for (const [name, { options, settlesOn }] of Object.entries(TRANSPORTS)) {
      test(`connects with the tutorial's own code over ${name}`, async (t) => {
        const socket = start(t, generation, { query: "token=" + alice, ...options });
        await assertAdmitted(socket);
        await assertSettlesOn(socket, settlesOn);
      });
    }

    for (const [name, { options, settlesOn }] of Object.entries(TRANSPORTS)) {
      test(`connects over ${name} through a proxy that takes a prefix away`, async (t) => {
        const proxy = await startProxy(t, "/realtime", gateway);
        const path = "/realtime/socket.io/";
        const socket = start(t, generation, { query: "token=" + alice, path, ...options }, proxy);
        await assertAdmitted(socket);
        await assertSettlesOn(socket, settlesOn);
      });
    }

    test("sends the token in a header", async (t) => {
      // The older clients take headers for polling and for WebSocket apart.
      const extraHeaders = { Authorization: `Bearer ${alice}` };
      const transportOptions = { polling: { extraHeaders }, websocket: { extraHeaders } };
      await assertAdmitted(start(t, generation, { extraHeaders, transportOptions }));
    });

    test("is acknowledged what it emits at once on connecting", async (t) => {
      const socket = start(t, generation, { query: "token=" + alice });
      const answer = await beforeDeadline("answer to the first event", (resolve) => {
        socket.once("connect", () => socket.emit("rt:subscribe", { room: "lobby" }, resolve));
      });
      assert.equal(answer.ok, true, JSON.stringify(answer));
    });

    for (const transport of ["polling", "websocket"]) {
      const options = { transports: [transport] };

      test(`is told over ${transport} that there was no token`, async (t) => {
        const socket = start(t, generation, options);
        assert.equal(await refusal(socket, generation), "no token provided");
        assert.equal(socket.connected, false);
        if (generation === 4) assert.equal(socket.active, false);
      });

      test(`is told over ${transport} that the token is garbage`, async (t) => {
        const socket = start(t, generation, { ...options, query: "token=garbage" });
        assert.equal(await refusal(socket, generation), "jwt malformed");
      });

      test(`is told over ${transport} that the signature is forged`, async (t) => {
        const socket = start(t, generation, { ...options, query: "token=" + withForgedSignature(alice) });
        assert.equal(await refusal(socket, generation), "invalid signature");
      });
    }
  });
}

describe("socket.io-client 4, the ways of its own documentation", () => {
  const ways = {
    "an auth object": () => ({ auth: { token: alice } }),
    "an auth function": () => ({ auth: (give) => give({ token: alice }) }),
    "an auth object with the word Bearer": () => ({ auth: { token: `Bearer ${alice}` } }),
    "a query object": () => ({ query: { token: alice } }),
  };
  for (const [way, options] of Object.entries(ways)) {
    test(`connects with ${way}`, async (t) => assertAdmitted(start(t, 4, options())));
  }

  test("is let in after a refusal once it has a token", async (t) => {
    const socket = start(t, 4);
    assert.equal(await refusal(socket, 4), "no token provided");
    socket.auth = { token: alice };
    socket.connect();
    await assertAdmitted(socket);
  });

  test("comes back by itself with a fresh token when the old one expires", async (t) => {
    const shortIssuer = required("SHORT_ISSUER_URL");
    const password = required("ALICE_PASSWORD");
    const auth = (give) => login(shortIssuer, "alice", password).then((token) => give({ token }));
    const socket = start(t, 4, { auth, reconnection: true }, required("SHORT_GATEWAY_URL"));
    await connected(socket);
    const [[unauthorized], [reason]] = await Promise.all([next(socket, "unauthorized"), next(socket, "disconnect")]);
    assert.equal(unauthorized.data.type, "UnauthorizedError");
    assert.equal(unauthorized.data.reason, "token_expired");
    assert.equal(reason, "transport close");
    await assertAdmitted(socket);
  });
});

test("socket.io-client 2 comes back by itself when its query has a fresh token by then", async (t) => {
  const signIn = () => login(required("SHORT_ISSUER_URL"), "alice", required("ALICE_PASSWORD"));
  let token = await signIn();
  // A login on a busy machine takes its time, and a client of version 2 stays away once its token was refused.
  const options = { query: { token }, reconnection: true, reconnectionDelay: 2000, randomizationFactor: 0 };
  const socket = start(t, 2, options, required("SHORT_GATEWAY_URL"));
  socket.on("reconnect_attempt", () => (socket.io.opts.query = { token }));
  await connected(socket);
  const [[unauthorized], [reason]] = await Promise.all([next(socket, "unauthorized"), next(socket, "disconnect")]);
  assert.equal(unauthorized.data.reason, "token_expired");
  assert.equal(reason, "transport close");
  const back = next(socket, "connect");
  token = await signIn();
  await back;
  await assertAdmitted(socket);
});

test("alice on version 4 and bob on version 2 hear each other", async (t) => {
  const room = "lobby";
  const people = [
    { token: alice, socket: start(t, 4, { auth: { token: alice } }) },
    { token: bob, socket: start(t, 2, { query: "token=" + bob }) },
  ];
  for (const { socket } of people) await assertAdmitted(socket);

  for (const { token, socket } of people) {
    const text = `from ${unverifiedClaims(token).sub} ☃ ${Math.random()}`;
    const heard = people.map((person) => next(person.socket, "message"));
    const id = `id-${Math.random()}`.replace(".", "");
    const ack = await call(socket, "rt:publish", { room, event: "message", data: { text }, id });
    assert.equal(ack.ok, true, JSON.stringify(ack));
    assert.equal(ack.id, id);
    for (const [data, meta] of await Promise.all(heard)) {
      assert.deepEqual(data, { text });
      assert.equal(meta.room, room);
      assert.deepEqual([meta.epoch, meta.offset, meta.id], [ack.epoch, ack.offset, id]);
      assert.ok(Math.abs(meta.ts - Date.now()) < 60_000, `ts ${meta.ts}`);
      assert.equal(meta.from.sub, unverifiedClaims(token).sub);
      assert.notEqual(meta.from.connection, socket.id, "the connection's secret id was published");
    }
  }
});
