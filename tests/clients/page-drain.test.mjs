// The gateway's page while its gateway is drained.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { inLobby, launch, logIn, open } from "./browser.mjs";
import { DEADLINE_MS, required } from "./support.mjs";

let browser;

before(async () => {
  browser = await launch();
});

after(() => browser?.close());

/** Calls the API of the gateway for back ends. */
async function post(path, body) {
  const headers = { "Content-Type": "application/json", Authorization: `Bearer ${required("API_TOKEN")}` };
  const signal = AbortSignal.timeout(DEADLINE_MS);
  const answer = await fetch(required("API_URL") + path, { method: "POST", headers, body: JSON.stringify(body), signal });
  assert.equal(answer.status, 200, await answer.text());
}

test("the page says that the gateway asks for a new connection, comes back, and shows what was said meanwhile", async (t) => {
  // The first attempts to come back may meet a gateway that drains still.
  const { page } = await open(t, browser, required("GATEWAY_URL"), { tolerated: /socket\.io.*503/ });
  await logIn(page);
  await inLobby(page);
  const notice = page.getByTestId("connection-notice");
  const told = notice.getByText("The gateway asks for a new connection").waitFor();
  const gone = notice.getByText("reconnecting").waitFor();
  await post("/v1/drain", { window_secs: 0 });
  await told;
  await gone;
  await post("/v1/publish", { room: "lobby", event: "message", data: { text: "while you were away" } });
  await page.getByTestId("message-text").getByText("while you were away").waitFor();
  await notice.waitFor({ state: "hidden" });
  await inLobby(page);
});
