"""Whom a client trusts: every verdict, and the file of known servers."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import stat
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from chatbox.client.arguments import arguments
from chatbox.client.connect import access, secure
from chatbox.client.connect.secure import SecureEndpoint
from chatbox.client.connect.trust import KnownServers, Meeting, Trust, Verdict, place_of
from chatbox.client.exits import SIGNALS, Exit, Stop
from tests.helpers.processes import PATIENCE
from tests.test_transport import with_tls

ONE, OTHER = "1" * 64, "2" * 64
PLACE = "example.org:50001"
NEW = Meeting(PLACE, ONE, "its certificate is of its own making")


class TrustTestCase(SynchronousTestCase):
    """A file of known servers."""

    def setUp(self) -> None:
        self.path = os.path.join(os.path.abspath(self.mktemp()), "known-servers")
        self.known = KnownServers(self.path)

    def trust(self, expected: str | None = None) -> Trust:
        """What a new process knows."""
        return Trust(KnownServers(self.path), expected)


class VerdictTests(TrustTestCase):
    """What is thought of a server."""

    def test_vouched_for(self) -> None:
        """An authority's word is enough, for a new key too, and nothing is written down."""
        for key in (ONE, OTHER):
            self.assertIs(self.trust().judge(Meeting(PLACE, key, None)), Verdict.WELCOME)
        self.assertFalse(os.path.exists(self.path))

    def test_new_then_known(self) -> None:
        """A new server is asked about once."""
        trust = self.trust()
        self.assertIs(trust.judge(NEW), Verdict.ASK)
        trust.accept(NEW)
        self.assertIs(trust.judge(NEW), Verdict.WELCOME)
        self.assertIs(self.trust().judge(NEW), Verdict.WELCOME)
        self.assertIs(self.trust().judge(Meeting("example.org:1", ONE, "x")), Verdict.ASK)

    def test_another_key(self) -> None:
        """A known server with another key is refused, with both keys and what to do."""
        self.trust().accept(NEW)
        stop = self.assertRaises(Stop, self.trust().judge, Meeting(PLACE, OTHER, "x"))
        self.assertIs(stop.status, Exit.NOT_TRUSTED)
        for word in (PLACE, "1111 1111", "2222 2222", "remove the line", self.path):
            self.assertIn(word, stop.sentence)

    def test_another_key_while_running(self) -> None:
        """That the line was removed does not change whom this process has met."""
        trust = self.trust()
        trust.accept(NEW)
        os.remove(self.path)
        self.assertRaises(Stop, trust.judge, Meeting(PLACE, OTHER, "x"))

    def test_expected(self) -> None:
        """The key that was asked for is the only one, whoever vouches for another."""
        for doubt in (None, "x"):
            welcome = self.trust(ONE).judge(Meeting(PLACE, ONE, doubt))
            self.assertIs(welcome, Verdict.WELCOME)
            refused = Meeting(PLACE, OTHER, doubt)
            self.assertIn(
                "--fingerprint", self.assertRaises(Stop, self.trust(ONE).judge, refused).sentence
            )

    def test_cannot_be_remembered(self) -> None:
        """Where nothing can be written, the person is told the way out."""
        os.mkdir(os.path.dirname(self.path))
        os.mkdir(self.path)
        trust = Trust(KnownServers(os.path.join("/dev/null", "known")))
        stop = self.assertRaises(Stop, trust.accept, NEW)
        self.assertIn(f"--fingerprint {ONE}", stop.sentence)
        self.assertIn("cannot be read", self.assertRaises(Stop, self.trust().judge, NEW).sentence)


class KnownServersTests(TrustTestCase):
    """The file."""

    def test_text(self) -> None:
        """It is text for people, and only its owner may read it."""
        self.known.remember(PLACE, ONE)
        self.known.remember("[::1]:50001", OTHER)
        self.known.remember(PLACE, OTHER)
        groups = " ".join(["2222"] * 16)
        self.assertEqual(Path(self.path).read_text(), f"{PLACE} {groups}\n[::1]:50001 {groups}\n")
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)

    def test_written_by_hand(self) -> None:
        """Remarks, empty lines and other spellings of a fingerprint are understood."""
        os.mkdir(os.path.dirname(self.path))
        Path(self.path).write_text(f"# mine\n\n  {PLACE}   {ONE.upper()}\n")
        self.assertEqual(self.known.find(PLACE), ONE)

    def test_nonsense_is_no_new_server(self) -> None:
        """A damaged line may be about this very server, so nobody is trusted on it."""
        os.mkdir(os.path.dirname(self.path))
        for text in (f"{PLACE} 1234\n", f"{PLACE}\n", "\0\0\0", "#" * (2 << 20)):
            Path(self.path).write_text(text)
            stop = self.assertRaises(Stop, self.trust().judge, NEW)
            self.assertIn(self.path, stop.sentence)

    def test_places(self) -> None:
        """A place is written in one way."""
        self.assertEqual(place_of("Example.ORG", 1), "example.org:1")
        self.assertEqual(place_of("::1", 2), "[::1]:2")
        self.assertNotIn("\x1b", place_of("\x1b[2J", 2))


class AskingTests(SynchronousTestCase):
    """What a person in a terminal sees, and a script does not wait for."""

    def meet(self, typed: str, terminal: bool = True) -> tuple[bool, str]:
        """Meet a new server; `typed` is what the person types."""
        shown = io.StringIO()
        shown.isatty = lambda: terminal  # type: ignore[method-assign]
        keyboard = io.StringIO(typed)
        keyboard.isatty = lambda: terminal  # type: ignore[method-assign]
        with (
            contextlib.redirect_stderr(shown),
            mock.patch("sys.stdin", keyboard),
            mock.patch.dict(os.environ, {"COLUMNS": "80"}),
        ):
            return access.meet_new_server(NEW), shown.getvalue()

    def test_a_person_decides(self) -> None:
        """Only a yes is a yes."""
        for typed, expected in (("y\n", True), ("Yes\n", True), ("\n", False), ("", False)):
            trusted, shown = self.meet(typed)
            self.assertEqual(trusted, expected, typed)
            self.assertIn("    1111 1111", shown)
            self.assertIn("Trust it?", shown)
            self.assertLessEqual(max(map(len, shown.splitlines())), 80)

    def test_a_script_goes_on(self) -> None:
        """Without a terminal it is said what was done."""
        trusted, shown = self.meet("", terminal=False)
        self.assertTrue(trusted)
        self.assertIn("    1111 1111", shown)
        self.assertIn("remembered", shown)

    def test_interrupted(self) -> None:
        """A signal while a person is asked ends the command; later it does what it did before."""
        unused = mock.Mock()
        for number, status in SIGNALS.items():
            self.addCleanup(signal.signal, number, signal.signal(number, unused))
            with mock.patch.object(access, "_question", partial(signal.raise_signal, number)):
                stop = self.assertRaises(Stop, self.meet, "y\n")
            self.assertIs(stop.status, status)
            unused.assert_not_called()
            self.assertIs(signal.getsignal(number), unused)

    def test_options(self) -> None:
        """--tls and --fingerprint are read, and a bad fingerprint is refused."""
        options = arguments().parse_args(["who", "h", "--tls", "--fingerprint", f"1111 {ONE[4:]}"])
        made = access.Access.from_options(options)
        self.assertEqual((made.tls, made.fingerprint), (True, ONE))
        with contextlib.redirect_stderr(io.StringIO()) as said:
            self.assertRaises(
                SystemExit, arguments().parse_args, ["who", "h", "--fingerprint", "12"]
            )
        self.assertIn("64 hexadecimal digits", said.getvalue())


@pytest_twisted.ensureDeferred
async def test_hung_up_while_a_person_thinks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that does not wait for the answer changes nothing about a no."""
    from twisted.internet import reactor

    net: Any = reactor
    server = Protocol()
    lost: Deferred[None] = Deferred()
    hear = secure._Handshake.connectionLost

    def connection_lost(handshake: secure._Handshake, reason: Failure) -> None:
        hear(handshake, reason)
        net.callLater(0, lost.callback, None)  # when all have heard

    monkeypatch.setattr(secure._Handshake, "connectionLost", connection_lost)
    port = net.listenTCP(
        0, with_tls(Factory.forProtocol(lambda: server), tmp_path), interface="127.0.0.1"
    )
    asked: Deferred[Meeting] = Deferred()
    answer: Deferred[bool] = Deferred()

    def ask(meeting: Meeting) -> Deferred[bool]:
        asked.callback(meeting)
        return answer

    trust = Trust(KnownServers(str(tmp_path / "known-servers")))
    endpoint = SecureEndpoint(net, "127.0.0.1", port.getHost().port, trust, ask, timeout=PATIENCE)
    client = Factory.forProtocol(Protocol)
    joining = endpoint.connect(client)
    try:
        await asked
        assert server.transport is not None
        server.transport.loseConnection()
        await lost
        answer.callback(False)
        with pytest.raises(Stop, match="is not trusted"):
            await joining
    finally:
        await port.stopListening()
