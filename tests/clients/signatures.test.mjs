// A request of the gateway, checked by the library of Standard Webhooks from npm.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Webhook } from "standardwebhooks";

const { SECRET, BODY, ID, TIMESTAMP, SIGNATURE } = process.env;
const headers = { "webhook-id": ID, "webhook-timestamp": TIMESTAMP, "webhook-signature": SIGNATURE };

test("a signature is accepted for its own body, moment and secret alone", () => {
  const webhook = new Webhook(SECRET);
  assert.deepEqual(webhook.verify(BODY, headers), JSON.parse(BODY));
  assert.throws(() => webhook.verify(BODY.replace("tea", "gold"), headers));
  const old = new Webhook(SECRET);
  const minutesAgo = new Date(Date.now() - 6 * 60 * 1000);
  const late = {
    ...headers,
    "webhook-timestamp": String(Math.floor(minutesAgo / 1000)),
    "webhook-signature": old.sign(ID, minutesAgo, BODY),
  };
  assert.throws(() => webhook.verify(BODY, late), /too old/);
  const other = new Webhook(`whsec_${Buffer.alloc(32, 7).toString("base64")}`);
  assert.throws(() => other.verify(BODY, headers), /No matching signature/);
});
