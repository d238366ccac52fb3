"""The client that people have in Python, as published on PyPI, against a running stack."""

import base64
import json
import os
import queue
import unittest

import requests
import socketio

DEADLINE_SECS = 10
TRANSPORTS = ["polling", "websocket"]


def required(name):
    """Reads a variable that the harness must set. Without it a test fails: one that is skipped proves nothing."""
    value = os.environ.get(name)
    if not value:
        raise KeyError(f"{name} is not set; README.md beside this file lists what is needed")
    return value


def login(issuer, username, password):
    """Logs in as a program would. Answers the token's text."""
    credentials = {"username": username, "password": password}
    answer = requests.post(f"{issuer}/login", json=credentials, timeout=DEADLINE_SECS)
    answer.raise_for_status()
    return answer.json()["token"]


def unverified_claims(token):
    """Reads the claims of a token that nobody has verified."""
    claims = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))


def with_forged_signature(token):
    signed, _, signature = token.rpartition(".")
    other = "A" if signature[0] != "A" else "B"
    return f"{signed}.{other}{signature[1:]}"


class Person:
    """A client that keeps what it hears, each event in a queue of its own."""

    EVENTS = ["connect", "connect_error", "disconnect", "message", "unauthorized"]

    def __init__(self, **options):
        self.client = socketio.Client(**options)
        self.heard = {event: queue.Queue() for event in self.EVENTS}
        for event in self.EVENTS:
            self.client.on(event, handler=lambda *args, event=event: self.heard[event].put(args))

    def connect(self, url, auth, transports=None):
        self.client.connect(url, auth=auth, transports=transports, wait_timeout=DEADLINE_SECS)

    def next(self, event):
        """Waits for the next `event` under a deadline. Answers its arguments."""
        try:
            return self.heard[event].get(timeout=DEADLINE_SECS)
        except queue.Empty:
            raise AssertionError(f'no event "{event}" within {DEADLINE_SECS} s') from None

    def call(self, event, payload):
        return self.client.call(event, payload, timeout=DEADLINE_SECS)


class Stock(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.gateway = required("GATEWAY_URL")
        cls.issuer = required("ISSUER_URL")
        cls.alice = login(cls.issuer, "alice", required("ALICE_PASSWORD"))
        cls.bob = login(cls.issuer, "bob", required("BOB_PASSWORD"))

    def person(self, **options):
        """A client that ends with its test, and does not try again unless it is told to."""
        person = Person(**{"reconnection": False, **options})
        self.addCleanup(person.client.shutdown)
        return person

    def refusal(self, auth, transport):
        """What a client that is refused is told."""
        person = self.person()
        with self.assertRaises(socketio.exceptions.ConnectionError):
            person.connect(self.gateway, auth, [transport])
        self.assertFalse(person.client.connected)
        (error,) = person.next("connect_error")
        return error

    def assert_admitted(self, person):
        answer = person.call("rt:subscribe", {"room": "lobby"})
        self.assertTrue(answer["ok"], answer)
        self.assertEqual(answer["room"], "lobby")

    def test_a_token_in_auth_connects_over_each_transport(self):
        for transport in TRANSPORTS:
            with self.subTest(transport):
                person = self.person()
                person.connect(self.gateway, {"token": self.alice}, [transport])
                self.assert_admitted(person)
                self.assertEqual(person.client.transport(), transport)

    def test_a_gateway_that_lists_pages_takes_it_over_websocket(self):
        # websocket-client names the server as the origin of its request.
        token = login(required("LISTED_ISSUER_URL"), "alice", required("ALICE_PASSWORD"))
        person = self.person()
        person.connect(required("LISTED_GATEWAY_URL"), {"token": token}, ["websocket"])
        self.assert_admitted(person)

    def test_it_upgrades_from_polling(self):
        person = self.person()
        person.connect(self.gateway, {"token": self.alice})
        self.assert_admitted(person)
        self.assertEqual(person.client.transport(), "websocket")

    def test_a_header_and_the_query_connect_too(self):
        for name, url, headers in [
            ("header", self.gateway, {"Authorization": f"Bearer {self.alice}"}),
            ("query", f"{self.gateway}?token={self.alice}", {}),
        ]:
            for transports in [["polling"], ["websocket"], None]:
                # The headers come with the first request of a session alone.
                with self.subTest(name, transports=transports):
                    person = self.person()
                    person.client.connect(
                        url, headers=headers, transports=transports, wait_timeout=DEADLINE_SECS
                    )
                    self.assert_admitted(person)

    def test_a_refusal_says_why(self):
        for transport in TRANSPORTS:
            for auth, message, code, reason in [
                (None, "no token provided", "credentials_required", "token_missing"),
                ({"token": "garbage"}, "jwt malformed", "invalid_token", "token_malformed"),
                (
                    {"token": with_forged_signature(self.alice)},
                    "invalid signature",
                    "invalid_token",
                    "signature_invalid",
                ),
            ]:
                with self.subTest(transport, message=message):
                    data = {"message": message, "code": code, "type": "UnauthorizedError", "reason": reason}
                    self.assertEqual(self.refusal(auth, transport), {"message": message, "data": data})

    def test_a_refused_client_connects_once_it_has_a_token(self):
        person = self.person()
        with self.assertRaises(socketio.exceptions.ConnectionError):
            person.connect(self.gateway, {"token": "garbage"})
        person.connect(self.gateway, {"token": self.alice})
        self.assert_admitted(person)

    def test_two_people_hear_each_other(self):
        people = [(self.alice, self.person()), (self.bob, self.person())]
        for (token, person), transport in zip(people, TRANSPORTS):
            person.connect(self.gateway, {"token": token}, [transport])
            self.assert_admitted(person)
        for token, person in people:
            data = {"text": f"from {unverified_claims(token)['sub']} ☃"}
            ack = person.call("rt:publish", {"room": "lobby", "event": "message", "data": data})
            self.assertTrue(ack["ok"], ack)
            for _, listener in people:
                heard, meta = listener.next("message")
                self.assertEqual(heard, data)
                self.assertEqual((meta["room"], meta["offset"], meta["id"]), ("lobby", ack["offset"], ack["id"]))
                self.assertEqual(meta["from"]["sub"], unverified_claims(token)["sub"])

    def test_it_comes_back_by_itself_with_a_fresh_token_when_the_old_one_expires(self):
        issuer, password = required("SHORT_ISSUER_URL"), required("ALICE_PASSWORD")
        for transport in TRANSPORTS:
            with self.subTest(transport):
                tokens = []

                def auth(tokens=tokens):
                    tokens.append(login(issuer, "alice", password))
                    return {"token": tokens[-1]}

                person = self.person(reconnection=True, reconnection_delay=0.1, randomization_factor=0)
                person.connect(required("SHORT_GATEWAY_URL"), auth, [transport])
                person.next("connect")
                (unauthorized,) = person.next("unauthorized")
                self.assertEqual(unauthorized["data"]["type"], "UnauthorizedError")
                self.assertEqual(unauthorized["data"]["reason"], "token_expired")
                person.next("disconnect")
                person.next("connect")
                self.assert_admitted(person)
                # An attempt that a busy machine answers too late is followed by another.
                self.assertGreaterEqual(len(tokens), 2)
                self.assertEqual(len(set(tokens)), len(tokens), "a token for each attempt")


if __name__ == "__main__":
    unittest.main()
