"""A request of the gateway, checked by the library of Standard Webhooks from PyPI."""

import base64
import os
from datetime import datetime, timedelta, timezone

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

body, ident = os.environ["BODY"], os.environ["ID"]
headers = {
    "webhook-id": ident,
    "webhook-timestamp": os.environ["TIMESTAMP"],
    "webhook-signature": os.environ["SIGNATURE"],
}
webhook = Webhook(os.environ["SECRET"])
webhook.verify(body, headers)

past = datetime.now(tz=timezone.utc) - timedelta(minutes=6)
late = headers | {
    "webhook-timestamp": str(int(past.timestamp())),
    "webhook-signature": webhook.sign(ident, past, body),
}
other = Webhook("whsec_" + base64.b64encode(bytes([7] * 32)).decode())
refused = 0
for checker, text, sent in [(webhook, body.replace("tea", "gold"), headers), (webhook, body, late), (other, body, headers)]:
    try:
        checker.verify(text, sent)
    except WebhookVerificationError:
        refused += 1
print(f"accepted once, refused {refused} times")
