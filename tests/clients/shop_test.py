"""The shop of docs/recipes.md, behind a gateway, as the client that people have in Python sees it."""

import queue
import unittest

import socketio

from stock_test import DEADLINE_SECS, TRANSPORTS, login, required


class Shop(unittest.TestCase):
    def connected(self, name, transport):
        """A client that ends with its test. Answers it, and what it hears: names of events with their arguments."""
        client, heard = socketio.Client(reconnection=False), queue.Queue()
        client.on("*", handler=lambda event, *args: heard.put((event, *args)))
        self.addCleanup(client.shutdown)
        token = login(required("ISSUER_URL"), name, required(f"{name.upper()}_PASSWORD"))
        client.connect(
            required("GATEWAY_URL"), auth={"token": token}, transports=[transport], wait_timeout=DEADLINE_SECS
        )
        return client, heard

    def test_an_order_is_placed_entered_by_its_owner_alone_and_announced(self):
        for transport in TRANSPORTS:
            with self.subTest(transport):
                alice, told = self.connected("alice", transport)
                bob, news = self.connected("bob", transport)
                bob.call("rt:subscribe", {"room": "lobby"}, timeout=DEADLINE_SECS)
                word, answer = alice.call("shop:order", "tea", timeout=DEADLINE_SECS)
                self.assertEqual(word, "placed")
                order = answer["order"]
                event, data, meta = news.get(timeout=DEADLINE_SECS)
                self.assertEqual((event, data), ("ordered", {"order": order, "item": "tea"}))
                self.assertEqual(meta["from"], {"sub": "backend:shop"})
                label = bytes([0, 1, 254, 255])
                printed = alice.call("shop:label", label, timeout=DEADLINE_SECS)
                self.assertEqual(tuple(printed), ("printed", label))
                self.assertEqual(told.get(timeout=DEADLINE_SECS), ("printed", label))
                refused = {"ok": False, "error": "this is not your order"}
                self.assertEqual(bob.call("shop:enter", order, timeout=DEADLINE_SECS), refused)
                self.assertEqual(alice.call("shop:enter", order, timeout=DEADLINE_SECS), {"ok": True})
                self.assertEqual(bob.call("shop:ready", order, timeout=DEADLINE_SECS), {"ok": True})
                event, data, _ = told.get(timeout=DEADLINE_SECS)
                self.assertEqual((event, data), ("ready", {"order": order}))
                self.assertTrue(news.empty(), "only the room of the order is told")


if __name__ == "__main__":
    unittest.main()
