"""A look at the path: the file that nobody has, and the port that is asked for."""

from __future__ import annotations

import hashlib
import os
import threading

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from chatbox.chat.sharing import Probe
from chatbox.downloads import ShelfDownloads
from chatbox.errors import RemoteError
from chatbox.rdt.admissions import MAX_TRANSFERS, Admissions
from chatbox.rdt.demux import UNUSED_TIMEOUT, File
from chatbox.rdt.probe import PROBE_BYTES, ProbeFile
from chatbox.rdt.service import LOGGED_PROBE, MAX_LOGGED, TransferService
from chatbox.shelf import Shelf
from chatbox.sparing import SPAN_SECONDS
from tests.helpers.processes import PATIENCE
from tests.helpers.threads import no_threads
from tests.test_shelf_downloads import HOST, FolderTestCase
from tests.test_tap import Reactor


class ProbeFileTests(SynchronousTestCase):
    """So many zeros."""

    def test_bounds(self) -> None:
        """At least one byte, and never more than the bound, whatever is asked for."""
        for asked, size in {0: 1, 1: 1, PROBE_BYTES: PROBE_BYTES, 1 << 62: PROBE_BYTES}.items():
            self.assertEqual(ProbeFile(asked).size, size)

    def test_contents(self) -> None:
        """Zeros as far as the file goes."""
        file: File = ProbeFile(10)
        buffer = bytearray(b"x" * 8)
        self.assertEqual(file.read_into(6, memoryview(buffer)), 4)
        self.assertEqual(buffer, bytes(4) + b"xxxx")
        self.assertEqual(file.read_into(10, memoryview(buffer)), 0)
        self.assertFalse(file.changed())

    def test_digest(self) -> None:
        """It is that of the zeros, and is there when that is said."""
        for size in (1, 1 << 16, 100_000):
            file = ProbeFile(size)
            self.assertIsNone(file.digest())
            done = threading.Event()
            file.start_hashing(done.set)
            self.assertTrue(done.wait(PATIENCE))
            self.assertEqual(file.digest(), hashlib.sha256(bytes(size)).digest())

    def test_no_threads(self) -> None:
        """Whoever wants the digest is told that there will be none."""
        with no_threads():
            self.assertRaises(OSError, ProbeFile(1).start_hashing, lambda: None)


class OfferTests(FolderTestCase):
    """The server's side, up to the ticket."""

    def test_ports(self) -> None:
        """Each port can be asked for by its place; what is offered is bounded."""
        transfers = TransferService(Reactor(), "127.0.0.1", [0, 0, 0])
        downloads = ShelfDownloads(Shelf(self.folder), transfers)
        refused = self.assertRaises(RemoteError, downloads.probe, "alice", HOST, 1, None)
        self.assertEqual(refused.code, "unavailable")
        transfers.startService()
        self.addCleanup(transfers.stopService)
        found = [downloads.probe("alice", HOST, 5, which) for which in (1, 2, 3, None)]
        self.assertEqual([probe.port for probe in found[:3]], transfers.ports)
        self.assertEqual({(probe.size, probe.ports) for probe in found}, {(5, 3)})
        self.assertIsInstance(found[0], Probe)
        self.assertEqual(downloads.probe("bob", HOST, None, 1).size, PROBE_BYTES)
        for which in (0, 4, 1 << 62):
            refused = self.assertRaises(RemoteError, downloads.probe, "bob", HOST, 1, which)
            self.assertEqual(refused.code, "bad-field")

    def test_started_again(self) -> None:
        """A service that was stopped and is started again serves again."""
        transfers = TransferService(Reactor(), "127.0.0.1", [0])
        downloads = ShelfDownloads(Shelf(self.folder), transfers)
        for _ in range(2):
            transfers.startService()
            self.assertIn(downloads.probe("alice", HOST, 1, 1).port, transfers.ports)
            transfers.stopService()
            transfers.cut()
            refused = self.assertRaises(RemoteError, downloads.probe, "alice", HOST, 1, 1)
            self.assertEqual(refused.code, "unavailable")

    def test_logged_up_to_a_rate(self) -> None:
        """Many that begin or end leave so many lines in the server's log, and how many more."""
        reactor = Reactor()
        many = Admissions(most_per_user=MAX_TRANSFERS)
        transfers = TransferService(reactor, "127.0.0.1", [0], admissions=many)
        transfers.startService()
        self.addCleanup(transfers.stopService)
        downloads = ShelfDownloads(Shelf(self.folder), transfers)
        with open(os.path.join(self.folder, "a"), "wb"):
            pass
        with capturedLogs() as events:
            for count in (MAX_LOGGED + 7, 1):
                for _ in range(count):
                    downloads.offer("alice", "", "a")
                downloads.withdraw(lambda account, host: account == "alice" and not host)
                reactor.advance(SPAN_SECONDS)
        lines = [one for one in events if one["log_namespace"] == "chatbox.rdt.service"]
        self.assertEqual(len(lines), MAX_LOGGED + 2)
        self.assertEqual(lines[-2]["count"], 7)
        self.assertEqual(lines[-1]["end"], "REFUSED")

    def test_logged_once_a_look(self) -> None:
        """Of a look at the path the log tells once, and not for each port."""
        transfers = TransferService(Reactor(), "127.0.0.1", [0, 0, 0])
        transfers.startService()
        self.addCleanup(transfers.stopService)
        downloads = ShelfDownloads(Shelf(self.folder), transfers)
        with capturedLogs() as events:
            for which, size in ((1, LOGGED_PROBE), (2, LOGGED_PROBE - 1), (3, 1)):
                downloads.probe("alice", "", size, which)
            downloads.withdraw(lambda account, host: account == "alice" and not host)
        lines = [one for one in events if one["log_namespace"] == "chatbox.rdt.service"]
        self.assertEqual([(one["what"], one["end"]) for one in lines], [("probe", "REFUSED")])

    def test_admission(self) -> None:
        """A probe counts as a download."""
        reactor = Reactor()
        transfers = TransferService(
            reactor, "127.0.0.1", [0], admissions=Admissions(most_per_user=2)
        )
        transfers.startService()
        self.addCleanup(transfers.stopService)
        downloads = ShelfDownloads(Shelf(self.folder), transfers)
        downloads.probe("alice", HOST, 1, 1)
        downloads.probe("alice", HOST, 1, 1)
        refused = self.assertRaises(RemoteError, downloads.probe, "alice", HOST, 1, 1)
        self.assertEqual(refused.code, "too-many-downloads")
        reactor.advance(UNUSED_TIMEOUT + 0.1)
        downloads.probe("alice", HOST, 1, 1)
