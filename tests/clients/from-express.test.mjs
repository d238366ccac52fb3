// The JavaScript of docs/from-express.md, as it stands there, against a running gateway.

import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { io } from "socket.io-client";

import { call, next, required } from "./support.mjs";

const page = await readFile(new URL("../../docs/from-express.md", import.meta.url), "utf8");
const [signing, moving] = page.match(/^```js\n[^]*?^```$/gm).map((block) => block.slice("```js\n".length, -"```".length));

let folder, sign;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "from-express-"));
  await writeFile(join(folder, "sign.mjs"), signing);
  await writeFile(join(folder, "move.mjs"), moving);
  ({ sign } = await import(join(folder, "sign.mjs")));
});

after(() => rm(folder, { recursive: true }));

function connect(t, token) {
  const socket = io(required("GATEWAY_URL"), { auth: { token }, forceNew: true, reconnection: false });
  t.after(() => socket.close());
  return socket;
}

const user = { id: "express-42", name: "Ada" };
const signed = (changes = {}) => sign(required("SECRET"), { issuer: required("ISSUER_URL"), user, ...changes });

test("a token that Express signs is admitted, and its user is the sender", async (t) => {
  const socket = connect(t, signed());
  await next(socket, "connect");
  assert.equal((await call(socket, "rt:subscribe", { room: "lobby" })).ok, true);
  const heard = next(socket, "chat");
  await call(socket, "rt:publish", { room: "lobby", event: "chat", data: "hello" });
  const [data, { from }] = await heard;
  assert.deepEqual([data, from.sub, from.name], ["hello", "express-42", "Ada"]);
});

for (const [what, from, to, message] of [
  ["typ", 'typ: "at+jwt"', 'typ: "JWT"', "jwt type invalid"],
  ["kid", ', kid: mac(secret, "latchkey key id").slice(0, 16)', "", "jwt key unknown"],
]) {
  test(`a token without the ${what} is refused, as the guide says`, async (t) => {
    assert.ok(signing.includes(from) && page.includes(message));
    const file = join(folder, `without-${what}.mjs`);
    await writeFile(file, signing.replace(from, to));
    const { sign: other } = await import(file);
    const socket = connect(t, other(required("SECRET"), { issuer: required("ISSUER_URL"), user }));
    const [error] = await next(socket, "connect_error");
    assert.equal(error.message, message);
  });
}

test("a user whose id is a number is admitted too", async (t) => {
  const socket = connect(t, signed({ user: { id: 42, name: "Ada" } }));
  await next(socket, "connect");
});

test("another secret signs nothing", async (t) => {
  const socket = connect(t, sign("another secret of thirty-two bytes", { issuer: required("ISSUER_URL"), user }));
  const [error] = await next(socket, "connect_error");
  assert.match(error.message, /jwt key unknown|invalid signature/);
});

test("an account is moved by its password, which is in no argument", async () => {
  // A program in place of auth-service, which says how it was called.
  const seen = join(folder, "seen");
  await writeFile(join(folder, "auth-service"), `#!/bin/sh\necho "$@" > ${seen}\ncat >> ${seen}\n`, { mode: 0o755 });
  const { moveAccount } = await import(join(folder, "move.mjs"));
  const { PATH } = process.env;
  process.env.PATH = `${folder}:${PATH}`;
  assert.equal(moveAccount("ada", "correct horse"), "");
  process.env.PATH = PATH;
  assert.equal(await readFile(seen, "utf8"), "user add --password-stdin -- ada\ncorrect horse\n");
});
