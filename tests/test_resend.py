"""A client that comes back sends again what it has no answer to, and nobody hears it twice."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from chatbox.chat.names import LocalNames
from chatbox.chat.room import Room
from chatbox.chat.turn import Turn
from chatbox.log.memory import MemoryLog
from tests import test_session
from tests.helpers.chat import NOON, FakeShelf, Turns, tokens

SAY = "<r:all><t:message_request><m:{}><q:{}>"


class ResendTests(SynchronousTestCase):
    """The number of a request and the token of its sender name a message."""

    def setUp(self) -> None:
        """Open a room that remembers three messages."""
        self.turns = Turns()
        self.room = Room(
            MemoryLog(lambda: NOON, max_records=3), LocalNames(tokens()), Turn(self.turns.later)
        )
        self.shelf = FakeShelf()

    def settle(self) -> None:
        """Let everything happen that is on its way."""
        self.turns.end()

    def client(self, name: str, token: str = "") -> tuple[test_session.Client, str]:
        """Bring a client; return it with its token."""
        tests: Any = self
        client = test_session.Client(tests)
        client.send(f"<s:{name}><t:connect>" + (f"<k:{token}>" if token else ""))
        answer = client.heard()[0]
        self.assertEqual(answer.text, "True")
        return client, answer.key or ""

    def answers(self, client: test_session.Client, *lines: str) -> list[str]:
        """Send lines; return what comes back, in short."""
        client.send(*lines)
        return [f"{m.response} {m.text}" for m in client.heard() if m.response != "presence"]

    def test_sent_again_on_a_new_connection(self) -> None:
        """The answer is True both times, and it is heard and remembered once."""
        bob, _ = self.client("bob")
        alice, token = self.client("alice")
        alice.send(SAY.format("hi", 7))
        alice.session.connection_lost()
        again, _ = self.client("alice", token)
        bob.heard()
        self.assertEqual(self.answers(again, SAY.format("hi", 7)), ["message_response True"])
        self.assertEqual(self.answers(bob), [])
        self.assertEqual(
            self.answers(again, "<t:history>"), ["message_received hi", "history_response 1"]
        )

    def test_the_recipient_is_spelled_in_another_way(self) -> None:
        """The same person is meant, who has come back as ANN: it is not heard twice."""
        ann, anns = self.client("ann")
        alice, token = self.client("alice")
        self.answers(alice, "<r:ann><t:message_request><m:hi><q:7>")
        self.assertEqual(self.answers(ann), ["message_received hi"])
        for client in (alice, ann):
            client.session.connection_lost()
        ann, _ = self.client("ANN", anns)
        again, _ = self.client("alice", token)
        self.assertEqual(
            self.answers(again, "<r:ann><t:message_request><m:hi><q:7>"), ["message_response True"]
        )
        self.assertEqual(self.answers(ann), [])

    def test_the_same_number_on_one_connection(self) -> None:
        """Who types the same line twice is heard twice: nobody repeats what is answered."""
        bob, _ = self.client("bob")
        alice, token = self.client("alice")
        bob.heard()
        for _ in range(2):
            self.assertIn("message_response True", self.answers(alice, SAY.format("hi", 7)))
        self.assertEqual(self.answers(bob), ["message_received hi"] * 2)
        alice.session.connection_lost()
        again, _ = self.client("alice", token)
        self.assertEqual(self.answers(again, SAY.format("hi", 7)), ["message_response True"])
        self.assertEqual(self.answers(bob), [])

    def test_other_messages_are_new(self) -> None:
        """Another number, another text, another recipient or another person: another message."""
        alice, _ = self.client("alice")
        bob, _ = self.client("bob")
        alice.heard()
        heard: list[str] = []
        for who, line in (
            (alice, SAY.format("hi", 7)),
            (alice, SAY.format("hi", 8)),
            (alice, SAY.format("ho", 7)),
            (bob, SAY.format("hi", 7)),
        ):
            self.assertIn("message_response True", self.answers(who, line))
            heard += self.answers(bob) if who is alice else self.answers(alice)
        self.assertEqual(heard, [f"message_received {text}" for text in ("hi", "hi", "ho", "hi")])
        private = "<r:bob><t:message_request><m:hi><q:7>"
        self.answers(alice, private)
        self.assertIn("message_received hi", self.answers(bob))

    def test_without_a_number(self) -> None:
        """Whoever gives no numbers may say the same thing twice."""
        alice, _ = self.client("alice")
        line = "<r:all><t:message_request><m:hi>"
        for _ in range(2):
            self.assertEqual(
                self.answers(alice, line), ["message_received hi", "message_response True"]
            )

    def test_gap(self) -> None:
        """Who asks for what follows a forgotten message is told that some are gone, once."""
        alice, _ = self.client("alice")
        for number in range(6):
            self.answers(alice, SAY.format(f"m{number}", number))
        first = 2  # alice's coming is the first record
        alice.send(f"<t:history><a:{first}>")
        gap, *said, answer = alice.heard()
        self.assertEqual((gap.response, gap.sequence, gap.time), ("gap", 4, None))
        self.assertEqual([m.text for m in said], ["m3", "m4", "m5"])
        self.assertEqual((answer.text, answer.response), ("3", "history_response"))
        self.assertNotIn("gap", str(self.answers(alice, "<t:history><a:4>")))
        self.assertNotIn("gap", str(self.answers(alice, "<t:history>")))
