"""Who was here when the server stopped: written down, read once, and not believed blindly."""

from __future__ import annotations

import json
import os
import stat

from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from chatbox.chat.codes import Code
from chatbox.chat.names import Claim, LocalNames, parse_name
from chatbox.chat.register import MAX_AGE_SECONDS, Register
from tests.helpers.chat import NOON, tokens

TOKEN = "t" * 22


class RegisterTests(SynchronousTestCase):
    """One file, and the servers before and after a restart."""

    def setUp(self) -> None:
        self.path = os.path.abspath(self.mktemp())
        self.now = NOON
        self.names = LocalNames(tokens())
        self.register = Register(self.path, self.names.reserve, lambda: self.now)
        self.alice = Claim(parse_name("Alice"), TOKEN)

    def note(self) -> None:
        """Write down that alice is here."""
        self.register.note([(self.alice.name, self.alice.identity)])

    def claim(self, name: str, token: str | None) -> Claim | Code:
        """Ask for a name."""
        answers: list[Claim | Code] = []
        self.names.claim(parse_name(name), token, answers.append)
        return answers[0]

    def test_return(self) -> None:
        """A name is kept for whoever has its token, once."""
        self.note()
        [claim] = self.register.recall()
        self.assertEqual((claim.name, claim.identity), (self.alice.name, self.alice.identity))
        self.assertEqual(self.claim("alice", None), Code.NAME_TAKEN)
        self.assertEqual(self.claim("alice", "u" * 22), Code.NAME_TAKEN)
        again = self.claim("alice", TOKEN)
        assert isinstance(again, Claim)
        self.assertTrue(again.resumed)
        self.assertEqual((again.name, again.token), (self.alice.name, TOKEN))
        self.assertEqual(self.register.recall(), [])

    def test_no_token_is_written_down(self) -> None:
        """The file gives nobody away, and is for its owner alone."""
        self.note()
        with open(self.path) as file:
            self.assertNotIn(TOKEN, file.read())
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)

    def test_age(self) -> None:
        """What is old, or from the future, counts no more."""
        for seconds in (MAX_AGE_SECONDS + 1, -1):
            self.note()
            self.now += seconds
            self.assertEqual(self.register.recall(), [])
            self.assertFalse(os.path.exists(self.path))

    def test_nonsense(self) -> None:
        """A file that makes no sense is told of, and does not keep the server from starting."""
        identity = self.alice.identity
        for text in (
            "",
            "\0",
            "[]",
            "{}",
            "[" * 5000,
            json.dumps({"stopped_at": NOON}),
            json.dumps({"stopped_at": "noon", "people": []}),
            json.dumps({"stopped_at": NOON, "people": [["alice"]]}),
            json.dumps({"stopped_at": NOON, "people": [["alice", "x"]]}),
            json.dumps({"stopped_at": NOON, "people": [["alice", identity], ["bo\0b", identity]]}),
        ):
            with open(self.path, "w") as file:
                file.write(text)
            with capturedLogs() as logs:
                self.assertEqual(self.register.recall(), [], text)
            self.assertEqual([event["log_level"] for event in logs], [LogLevel.warn], text)
        self.assertIsInstance(self.claim("alice", None), Claim)

    def test_not_utf8(self) -> None:
        """The same if it is no text at all."""
        with open(self.path, "wb") as file:
            file.write(b"\xff")
        with capturedLogs() as logs:
            self.assertEqual(self.register.recall(), [])
        self.assertEqual(len(logs), 1)
        self.assertFalse(os.path.exists(self.path))

    def test_cannot_be_written(self) -> None:
        """A full disk costs the register, not the orderly end."""
        os.mkdir(self.path)
        with capturedLogs() as logs:
            self.note()
        self.assertEqual([event["log_level"] for event in logs], [LogLevel.warn])
