// Stock clients whose gateway is drained, with the JavaScript of docs/clients.md as it stands there.

import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";

import { connected, start } from "./sockets.mjs";
import { DEADLINE_MS, beforeDeadline, call, next, required } from "./support.mjs";

const page = await readFile(join(import.meta.dirname, "../../docs/clients.md"), "utf8");
const blocks = page.match(/^```js\n[^]*?^```$/gm).map((block) => block.slice("```js\n".length, -"```".length));
const block = (text) => blocks.find((one) => one.includes(text)) ?? assert.fail(`docs/clients.md has no ${text}`);

/** Calls the API of the gateway for back ends. */
async function post(path, body) {
  const headers = { "Content-Type": "application/json", Authorization: `Bearer ${required("API_TOKEN")}` };
  const signal = AbortSignal.timeout(DEADLINE_MS);
  const answer = await fetch(required("API_URL") + path, { method: "POST", headers, body: JSON.stringify(body), signal });
  assert.equal(answer.status, 200, await answer.clone().text());
  return answer.json();
}

const publish = (text) => post("/v1/publish", { room: "lobby", event: "news", data: { text } });

/** The documented function. */
async function documentedFollow(t) {
  const folder = await mkdtemp(join(import.meta.dirname, ".documented-"));
  t.after(() => rm(folder, { recursive: true }));
  await writeFile(join(folder, "follow.mjs"), block("function follow"));
  return (await import(join(folder, "follow.mjs"))).follow;
}

for (const generation of [3, 4]) {
  for (const [name, listens] of [["without code of its own", false], ["by the documented code for rt:drain", true]]) {
    test(`a client of version ${generation} comes back ${name}, and misses nothing`, async (t) => {
      const follow = await documentedFollow(t);
      const options = { auth: { token: required("TOKEN") }, reconnection: true };
      // Without the documented code the long delay would miss the deadline.
      const delay = listens ? { reconnectionDelay: 60_000, reconnectionDelayMax: 60_000 } : {};
      const socket = start(t, generation, required("GATEWAY_URL"), { ...options, ...delay });
      const heard = [];
      let hears = () => {};
      follow(socket, "lobby", (_, data) => hears(heard.push(data.text)), (gap) => assert.fail(JSON.stringify(gap)));
      const reaches = (count) => beforeDeadline(`message ${count}`, (resolve) => {
        hears = () => heard.length >= count && resolve();
        hears();
      });
      if (listens) new Function("socket", block('"rt:drain"'))(socket);
      await connected(socket);
      // Events are answered in their order: the subscription is there by then.
      await call(socket, "rt:history", { room: "lobby", limit: 0 });
      await publish("before");
      await reaches(1);

      const told = next(socket, "rt:drain");
      const gone = next(socket, "disconnect");
      const answer = await post("/v1/drain", { window_secs: 0 });
      assert.deepEqual(answer, { sockets: 1, window_secs: 0 });
      assert.deepEqual(await told, [{ reconnect_in_ms: 1000 }]);
      await publish("told");
      assert.equal((await gone)[0], "transport close");
      await publish("away");
      await reaches(3);
      assert.deepEqual(heard, ["before", "told", "away"]);
      if (listens) assert.equal(socket.io.reconnectionDelay(), 60_000);
    });
  }
}
