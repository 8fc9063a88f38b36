"""The chat's downloads: the shelf and the transfers, joined."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import cast
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from chatbox.downloads import ShelfDownloads
from chatbox.errors import LocalError, RemoteError
from chatbox.rdt.admissions import Taker
from chatbox.rdt.service import TransferService
from chatbox.shelf import SharedFile, Shelf

HOST = "192.0.2.7"


class FolderTestCase(SynchronousTestCase):
    """A folder to share."""

    def setUp(self) -> None:
        self.folder = os.path.abspath(self.mktemp())
        os.mkdir(self.folder)


class FakeTransfers:
    """Notes what it is to send, or refuses it."""

    def __init__(self, refusal: Exception | None = None) -> None:
        self.offers: list[tuple[Taker, SharedFile]] = []
        self.ports = [55007]
        self._refusal = refusal

    def offer(self, taker: Taker, file: SharedFile, which: int | None = None) -> tuple[int, object]:
        """Take a file."""
        self.offers.append((taker, file))
        if self._refusal:
            raise self._refusal
        return 55007, "the-ticket"


class ShelfDownloadsTests(FolderTestCase):
    """The chat's downloads are the shelf's files, sent by the transfers."""

    def setUp(self) -> None:
        super().setUp()
        with open(os.path.join(self.folder, "file"), "wb") as file:
            file.write(b"12345")

    def test_on_offer(self) -> None:
        """Whoever wants to know when something is going to be sent is told once that is so."""
        told: list[int] = []
        transfers = FakeTransfers()
        downloads = self.downloads(transfers, lambda: told.append(len(transfers.offers)))
        downloads.offer("alice", HOST, "file")
        self.assertEqual(told, [1])
        transfers.offers[0][1].close()
        downloads.probe("alice", HOST, None, None)
        self.assertEqual(told, [1, 2])

    def test_nothing_offered(self) -> None:
        """A download that is refused is none."""
        told: list[None] = []
        refusing = FakeTransfers(RemoteError("too-many-downloads"))
        downloads = self.downloads(refusing, lambda: told.append(None))
        for name in ("file", "none"):
            self.assertRaises(RemoteError, downloads.offer, "alice", HOST, name)
        self.assertEqual(told, [])

    def downloads(
        self, transfers: FakeTransfers, on_offer: Callable[[], None] = lambda: None
    ) -> ShelfDownloads:
        """Join our folder with `transfers`."""
        return ShelfDownloads(Shelf(self.folder), cast(TransferService, transfers), on_offer)

    def test_offer(self) -> None:
        """The answer has the port, the ticket as text and the size; the file goes on open."""
        transfers = FakeTransfers()
        offer = self.downloads(transfers).offer("alice", HOST, "file")
        self.assertEqual((offer.port, offer.ticket, offer.size), (55007, "the-ticket", 5))
        [(taker, file)] = transfers.offers
        self.addCleanup(file.close)
        self.assertEqual(taker, Taker("alice", HOST, HOST))
        self.assertEqual((file.name, file.changed()), ("file", False))

    def test_who_takes_it(self) -> None:
        """All devices of an account are one user, and all of a network of IPv6 are one."""
        transfers = FakeTransfers()
        for name, host in (("Alice+x", "2001:db8::1"), ("alice+y", "2001:db8::2"), ("al", "")):
            self.downloads(transfers).offer(name, host, "file")
        takers = [taker for taker, _ in transfers.offers]
        network = "2001:db8::/64"
        self.assertEqual(
            takers,
            [
                Taker("alice", network, "2001:db8::1"),
                Taker("alice", network, "2001:db8::2"),
                Taker("al"),
            ],
        )
        for _, file in transfers.offers:
            file.close()

    def test_offer_tells_which_file_it_is(self) -> None:
        """The answer says when the file was changed, and its digest once that is known."""
        path = os.path.join(self.folder, "file")
        os.utime(path, ns=(0, 1_234_567_890))
        transfers = FakeTransfers()
        downloads = self.downloads(transfers)
        offer = downloads.offer("alice", HOST, "file")
        self.assertEqual((offer.mtime_ms, offer.digest), (1234, None))
        digest = hashlib.sha256(b"12345").digest()
        # As if it had been hashed for a download that is long over.
        with mock.patch("chatbox.hashing.Hasher.remembered", lambda *_: digest):
            self.assertEqual(downloads.offer("alice", HOST, "file").digest, digest.hex())
        for _, file in transfers.offers:
            file.close()

    def test_times_that_statuses_have_no_room_for(self) -> None:
        """They are told modulo 2^64 nanoseconds there, so they are not told here.

        Not every file system takes a file of the year 2554 or later; a file in memory is one.
        """
        shelf, transfers = Shelf(self.folder), FakeTransfers()
        downloads = ShelfDownloads(shelf, cast(TransferService, transfers))
        for mtime_ns, told in (
            (0, 0),
            (-1, None),
            (2**64 - 1, (2**64 - 1) // 1_000_000),
            (2**64, None),
            (2**62 * 10**9, None),
        ):
            file = shelf.open("file")
            self.addCleanup(file.close)
            self.patch(file, "mtime_ns", mtime_ns)
            with mock.patch.object(shelf, "open", return_value=file):
                self.assertEqual(downloads.offer("alice", HOST, "file").mtime_ms, told, mtime_ns)

    def test_refused_file(self) -> None:
        """What the shelf refuses never reaches the transfers."""
        transfers = FakeTransfers()
        for name, code in {"missing": "no-such-file", "../file": "bad-file-name"}.items():
            error = self.assertRaises(
                RemoteError, self.downloads(transfers).offer, "alice", HOST, name
            )
            self.assertEqual(error.code, code)
        self.assertEqual(transfers.offers, [])

    def test_refused_transfer(self) -> None:
        """A file that cannot be sent is closed again."""
        transfers = FakeTransfers(RemoteError("too-many-downloads"))
        error = self.assertRaises(
            RemoteError, self.downloads(transfers).offer, "alice", HOST, "file"
        )
        self.assertEqual(error.code, "too-many-downloads")
        self.assertRaises(LocalError, transfers.offers[0][1].changed)
