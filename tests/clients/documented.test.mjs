// The JavaScript of docs/clients.md, as it stands there, against running stacks.

import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, describe, test } from "node:test";

import io from "socket.io-client";

import { road } from "./road.mjs";
import { beforeDeadline, call, next, required } from "./support.mjs";

const here = import.meta.dirname ?? new URL(".", import.meta.url).pathname;
const page = await readFile(join(here, "../../docs/clients.md"), "utf8");
const blocks = page.match(/^```js\n[^]*?^```$/gm).map((block) => block.slice("```js\n".length, -"```".length));
const folders = [];

after(() => Promise.all(folders.map((folder) => rm(folder, { recursive: true }))));

/** Replaces what stands there, or fails: the page has changed then, and with it what is tested. */
function replace(text, what, by) {
  assert.ok(text.includes(what), `docs/clients.md has no ${what}`);
  return text.replace(what, by);
}

/** Writes the two modules, beside the packages that they import, and imports them. */
async function documented(issuer, client, change = (session) => session) {
  const [session, connect] = blocks;
  const folder = await mkdtemp(join(here, ".documented-"));
  folders.push(folder);
  await writeFile(join(folder, "session.mjs"), change(replace(session, "http://localhost:8080", issuer)));
  await writeFile(join(folder, "connect.mjs"), replace(connect, '"socket.io-client"', `"${client}"`));
  return { ...(await import(join(folder, "session.mjs"))), ...(await import(join(folder, "connect.mjs"))) };
}

/** Signs alice in. What is connected afterwards is closed with the test. */
async function signedIn(t, prefix, client, change, issuer = required(`${prefix}ISSUER_URL`)) {
  const modules = await documented(issuer, client, change);
  await modules.signIn("alice", required("ALICE_PASSWORD"));
  const connect = (onSignedOut) => {
    const socket = modules.connect(required(`${prefix}GATEWAY_URL`), onSignedOut);
    t.after(() => socket.close());
    return socket;
  };
  return { ...modules, connect };
}

const neverSignedOut = () => assert.fail("signed out");

async function assertBackAfterExpiry(socket) {
  await next(socket, "connect");
  const [reason] = await next(socket, "disconnect");
  assert.equal(reason, "transport close");
  await next(socket, "connect");
  const answer = await call(socket, "rt:subscribe", { room: "lobby" });
  assert.equal(answer.ok, true, JSON.stringify(answer));
}

for (const client of ["socket.io-client", "socket.io-client-3"]) {
  describe(`the documented code with ${client}`, () => {
    test("comes back by itself when its token has expired", async (t) => {
      const { connect } = await signedIn(t, "SHORT_", client);
      await assertBackAfterExpiry(connect(neverSignedOut));
    });

    test("fetches another token when the one that it trusts is refused", async (t) => {
      // A clock that stood still, say: the token is taken for good when it has ended.
      const trusting = (session) => replace(session, "(expires_in - 10)", "(expires_in + 60)");
      const { connect } = await signedIn(t, "SHORT_", client, trusting);
      const socket = connect(neverSignedOut);
      const refused = next(socket, "connect_error");
      refused.catch(() => {}); // the wait for it begins before there is anything to be refused
      await assertBackAfterExpiry(socket);
      assert.equal((await refused)[0].data.reason, "token_expired");
    });

    test("comes back once an issuer that was away is back", async (t) => {
      const way = await road(t, required("SHORT_ISSUER_URL"));
      const { connect, getToken, distrustToken } = await signedIn(t, "SHORT_", client, undefined, way.url);
      const socket = connect(neverSignedOut);
      const listen = new Function("socket", "getToken", "distrustToken", blocks[2]);
      listen(socket, getToken, distrustToken);
      await next(socket, "connect");
      way.block();
      await next(socket, "unauthorized");
      const [refused] = await next(socket, "connect_error");
      assert.equal(refused.data.reason, "token_missing");
      way.mend();
      await next(socket, "connect");
      const answer = await call(socket, "rt:subscribe", { room: "lobby" });
      assert.equal(answer.ok, true, JSON.stringify(answer));
    });

    test("renews in place when it is told that the end is near", async (t) => {
      const { connect, getToken, distrustToken } = await signedIn(t, "SHORT_", client);
      const socket = connect(neverSignedOut);
      const answer = beforeDeadline("answer to the renewal", (resolve) => {
        const listen = new Function("socket", "getToken", "distrustToken", "console", blocks[2]);
        listen(socket, getToken, distrustToken, { log: resolve });
      });
      assert.equal(await answer, true);
    });

    test("says when the session was ended, whether it was connected or not", async (t) => {
      const { connect, getToken } = await signedIn(t, "", client);
      await beforeDeadline("sign-out of one that is connected", async (resolve) => {
        await next(connect(resolve), "connect");
        const logout = { method: "POST", headers: { Authorization: `Bearer ${await getToken()}` } };
        assert.equal((await fetch(`${required("ISSUER_URL")}/logout`, logout)).status, 204);
      });
      await beforeDeadline("sign-out of one that is refused", (resolve) => connect(resolve));
    });
  });
}

test("the documented publication that is sent again is acknowledged", async (t) => {
  const { getToken } = await signedIn(t, "", "socket.io-client");
  const block = blocks.find((one) => one.includes("retries"));
  const here = replace(block, "http://localhost:9000", required("GATEWAY_URL"));
  const text = "hello";
  const token = await getToken();
  let socket;
  const connect = (url, options) => (socket = io(url, { ...options, forceNew: true }));
  t.after(() => socket.close());
  const outcome = beforeDeadline("acknowledgement", (resolve) => {
    const run = new Function("io", "token", "text", "report", replace(here, "(error, answer) => {}", "report"));
    run(connect, token, text, (...outcome) => resolve(outcome));
  });
  const [error, answer] = await outcome;
  assert.equal(error, null);
  assert.equal(answer.ok, true, JSON.stringify(answer));
});
