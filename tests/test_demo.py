"""The demo, whole, and its parts: the actors and the bad link."""

from __future__ import annotations

import contextlib
import errno
import io
import re
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from chatbox.client import demo
from chatbox.client.demo import Actor, BadLink, StoryError
from chatbox.client.exits import Exit, Stop
from tests.helpers.processes import PATIENCE, environment


class ActorTests(SynchronousTestCase):
    """Waiting for what a process says."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.actor = Actor(self.clock, "alice", aloud=False)

    def wait(self, pattern: str) -> Deferred[str]:
        """Wait for a line."""
        return Deferred.fromCoroutine(self.actor.reads(pattern))

    def test_lines_in_pieces(self) -> None:
        """A line is waited for however it comes, and each line is looked at once."""
        found = self.wait("b")
        self.actor.outReceived(b"a\nxb")
        self.assertNoResult(found)
        self.actor.outReceived(b"x\nb again\n")
        self.assertEqual(self.successResultOf(found), "xbx")
        self.assertEqual(self.successResultOf(self.wait("b")), "b again")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_end_while_waiting(self) -> None:
        """A process that ends first ends the story."""
        found = self.wait("b")
        self.actor.processEnded(Failure(ProcessTerminated(3)))
        self.assertIn("alice", str(self.failureResultOf(found, StoryError).value))
        self.assertEqual(self.actor.status, 3)

    def test_patience(self) -> None:
        """What does not come is not waited for without end."""
        found = self.wait("b")
        self.clock.advance(demo.PATIENCE)
        self.failureResultOf(found, StoryError)

    def test_nobody_reads(self) -> None:
        """Where our output goes nowhere, the story ends: in its own turn, and once."""
        self.actor = Actor(self.clock, "alice", aloud=True)
        found = self.wait("b")
        with mock.patch.object(demo, "show", side_effect=BrokenPipeError) as show:
            self.actor.outReceived(b"a\na\n")
        self.failureResultOf(found, BrokenPipeError)
        self.assertEqual(show.call_count, 1)

    def test_exit_statuses(self) -> None:
        """A good end is 0, a signal is negative."""
        self.actor.processEnded(Failure(ProcessDone(0)))
        self.assertEqual(self.actor.status, 0)
        killed = Actor(self.clock, "bob", aloud=False)
        killed.processEnded(Failure(ProcessTerminated(signal=9)))
        self.assertEqual(killed.status, -9)


class ShelfTests(SynchronousTestCase):
    """The files of the demo."""

    def test_no_room(self) -> None:
        """Where they cannot be made the person is told where that is, and what to do."""
        full = OSError(errno.ENOSPC, "No space left on device")
        folder = Path(self.mktemp())
        folder.mkdir()
        with mock.patch.object(Path, "write_bytes", side_effect=full):
            stop = self.assertRaises(Stop, demo._make_shelf, folder / "shelf", 1)
        self.assertIn(f"{folder}/shelf: No space left on device. It takes", stop.sentence)
        self.assertIn("$TMPDIR", stop.sentence)


class FakePort:
    """A UDP port that remembers what was sent."""

    def __init__(self, protocol: Any) -> None:
        self.sent: list[tuple[bytes, tuple[str, int]]] = []
        self.open = True
        protocol.transport = self

    def getHost(self) -> FakePort:
        """Our address."""
        return self

    port = 4711

    def write(self, data: bytes, address: tuple[str, int]) -> None:
        """Remember it."""
        self.sent.append((data, address))

    def stopListening(self) -> None:
        """Close."""
        self.open = False


class FakeReactor(Clock):
    """Virtual time, and UDP ports that remember."""

    def __init__(self) -> None:
        super().__init__()
        self.ports: list[FakePort] = []

    def listenUDP(self, port: int, protocol: Any, interface: str, size: int) -> FakePort:
        """Open a port."""
        self.ports.append(FakePort(protocol))
        return self.ports[-1]


class BadLinkTests(SynchronousTestCase):
    """What the relay does to datagrams, in virtual time."""

    def run_through(self, seed: int) -> tuple[BadLink, list[bytes], list[bytes]]:
        """Send a thousand datagrams each way; what arrives at the server and at the client."""
        reactor = FakeReactor()
        link = BadLink(reactor, seed, ("127.0.0.1", 1))
        near, far = reactor.ports
        for number in range(1000):
            link._from_client(b"c%d" % number, ("127.0.0.1", 2))
            link._from_server(b"s%d" % number, ("127.0.0.1", 1))
            reactor.advance(0.0005)
        link._from_server(b"stranger", ("127.0.0.1", 3))
        reactor.advance(1)
        self.assertEqual(reactor.getDelayedCalls(), [])
        self.assertEqual({address for _, address in far.sent}, {("127.0.0.1", 1)})
        self.assertEqual({address for _, address in near.sent}, {("127.0.0.1", 2)})
        link.close()
        self.assertFalse(near.open or far.open)
        return link, [data for data, _ in far.sent], [data for data, _ in near.sent]

    def test_mistreatment(self) -> None:
        """It loses, doubles and reorders, about as much as it should, and alters nothing."""
        link, to_server, to_client = self.run_through(seed=1)
        for kind, arrived in ((b"c", to_server), (b"s", to_client)):
            numbers = [int(data.removeprefix(kind)) for data in arrived]
            self.assertNotEqual(numbers, sorted(numbers))
            self.assertGreater(len(numbers), len(set(numbers)))
            self.assertTrue(0.8 < len(set(numbers)) / 1000 < 0.97)
        self.assertEqual(link.fates["carried"], 2000)
        self.assertEqual(
            link.fates["carried"] - link.fates["lost"] + link.fates["doubled"],
            len(to_server) + len(to_client),
        )

    def test_seed(self) -> None:
        """The same seed makes the same weather."""
        self.assertEqual(self.run_through(seed=5)[1:], self.run_through(seed=5)[1:])
        self.assertNotEqual(self.run_through(seed=5)[1:], self.run_through(seed=6)[1:])


class FailureTests(SynchronousTestCase):
    """A story that goes wrong."""

    def test_server_log_is_shown(self) -> None:
        """What went wrong and what the server has said are printed, and the status tells."""

        async def play(
            reactor: Any, seed: int, folder: Path, server: Actor, people: list[Actor]
        ) -> None:
            server.outReceived(b"the server's own words\n")
            raise StoryError("the dog ate it")

        output = io.StringIO()
        with mock.patch.object(demo, "_play", play), contextlib.redirect_stdout(output):
            ended = Deferred.fromCoroutine(demo.demo(Clock(), Namespace(seed=1)))
        self.assertEqual(self.successResultOf(ended), Exit.FAILED)
        self.assertIn("the dog ate it", output.getvalue())
        self.assertIn("the server's own words", output.getvalue())


def test_the_whole_demo(tmp_path: Path) -> None:
    """It plays the story to its good end, prints it, and leaves nothing behind."""
    done = subprocess.run(
        [sys.executable, "-m", "chatbox.client.main", "demo"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        env=environment(TMPDIR=str(tmp_path)),
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    for part in (
        r"alice reads \| \d\d:\d\d bob: Hi Alice, it's me\.",
        r"bob reads \| \d\d:\d\d \(private\) alice: ",
        r"bob reads \| holiday film\.mp4 stands half way, at 50 %",
        r"bad link \| datagrams so far: .* lost",
        r"bob types \| /proceed",
        r"bob reads \| holiday film\.mp4 is complete: .*sha-256 [0-9a-f]{64}",
        r"demo \| The sha-256 of the file on the server is the same\.",
        r"demo \| All went well, in \d+ s\.",
    ):
        assert re.search(part, done.stdout), (part, done.stdout)
    assert list(tmp_path.iterdir()) == []
