"""Tests of hashing ahead: what is hashed, when, and what is remembered of it.

The reactor's time is set by the tests. What goes into a thread is done at once; only the hasher has
its own thread, whose word is waited for.
"""

from __future__ import annotations

import hashlib
import os
import queue
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from chatbox import digests
from chatbox.ahead import (
    IDLE_SECONDS,
    LOOK_SECONDS,
    RESTED_NS,
    SAVE_SECONDS,
    SOON_SECONDS,
    HashAhead,
)
from chatbox.digests import condition, digests_path, read_digests, write_digests
from chatbox.downloads import ShelfDownloads
from chatbox.errors import LocalError
from chatbox.hashing import SETTLED_NS, Hasher, Identity
from chatbox.shelf import SharedFile, Shelf
from tests.helpers.processes import PATIENCE

_T = TypeVar("_T")


class ThreadedClock(Clock):
    """A clock whose `callFromThread` calls wait until the test wants them."""

    def __init__(self) -> None:
        super().__init__()
        self.called: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()

    def callFromThread(self, call: Callable[[], object]) -> None:
        """Keep a call."""
        self.called.put(call)


class AheadTestCase(SynchronousTestCase):
    """A shelf, and a server that has nothing else to do."""

    def setUp(self) -> None:
        self.now_ns = 4 * 10**18  # in the year 2096: everything has settled
        self.folder = self.mktemp()
        os.mkdir(self.folder)
        self.path = os.path.join(self.mktemp(), "digests")
        self.opened: list[str] = []
        self.busy = False
        self.make()

    def make(self) -> None:
        """Make a server that remembers nothing."""
        self.clock = ThreadedClock()
        self.hasher = Hasher(lambda: self.now_ns)
        self.shelf = Shelf(self.folder, hasher=self.hasher, opener=self.open)
        self.ahead = HashAhead(
            self.clock,
            self.shelf,
            self.path,
            lambda: self.busy,
            in_thread=self.in_thread,
            now_ns=lambda: self.now_ns,
        )

    def open(self, path: str, flags: int, *, dir_fd: int) -> int:
        """Note that a file is opened."""
        self.opened.append(path)
        return os.open(path, flags, dir_fd=dir_fd)

    def in_thread(self, call: Callable[[], _T], /) -> Deferred[_T]:
        """Call it here and now."""
        return execute(call)

    def write(self, name: str, contents: bytes) -> str:
        """Put a file on the shelf and return its path."""
        path = os.path.join(self.folder, name)
        with open(path, "wb") as file:
            file.write(contents)
        return path

    def start(self) -> None:
        """Start, and stop after the test."""
        self.ahead.startService()
        self.addCleanup(lambda: self.ahead.running and self.ahead.stopService())

    def hear(self, times: int = 1) -> None:
        """Wait for the hasher to have ended so many files."""
        for _ in range(times):
            self.clock.called.get(timeout=PATIENCE)()

    def digest(self, name: str) -> bytes | None:
        """What is known of a file before it is hashed for somebody."""
        file = self.shelf.open(name)
        self.opened.pop()
        self.addCleanup(file.close)
        return file.digest()


class HashAheadTests(AheadTestCase):
    """What is hashed, and when."""

    def test_all_files(self) -> None:
        """Whatever is shared gets its digest, one file after the other."""
        for name in ("a", "b", "c"):
            self.write(name, name.encode())
        self.start()
        self.assertEqual(self.opened, ["a"])
        self.hear(3)
        self.assertEqual(self.opened, ["a", "b", "c"])
        for name in ("a", "b", "c"):
            self.assertEqual(self.digest(name), hashlib.sha256(name.encode()).digest())

    def test_what_comes_later(self) -> None:
        """The folder is looked at again; what is known is not hashed again."""
        self.write("a", b"1")
        self.start()
        self.hear()
        self.write("b", b"2")
        self.clock.advance(LOOK_SECONDS - 1)
        self.assertEqual(self.opened, ["a"])
        self.clock.advance(1)
        self.hear()
        self.assertEqual(self.opened, ["a", "b"])
        self.assertEqual(self.digest("b"), hashlib.sha256(b"2").digest())

    def test_what_a_download_hashed(self) -> None:
        """What was hashed for a download is known."""
        self.write("a", b"1")
        self.hasher.remember(self.shelf.identities()[0][1], bytes(32))
        self.start()
        self.assertEqual(self.opened, [])

    def test_downloads_come_first(self) -> None:
        """Nothing is begun while something is being sent."""
        self.write("a", b"1")
        self.busy = True
        self.start()
        self.clock.advance(IDLE_SECONDS)
        self.assertEqual(self.opened, [])
        self.busy = False
        self.clock.advance(IDLE_SECONDS)
        self.assertEqual(self.opened, ["a"])
        self.hear()
        self.assertEqual(self.digest("a"), hashlib.sha256(b"1").digest())

    def test_stepping_aside(self) -> None:
        """What is under way is let go at once, and goes on when nothing is being sent any more."""
        files: list[SharedFile] = []
        self.patch(SharedFile, "start_hashing", lambda file, wake: files.append(file))
        self.write("a", b"1")
        self.start()
        [file] = files
        self.assertFalse(file.changed())
        self.busy = True
        self.ahead.step_aside()
        self.assertRaises(LocalError, file.changed)  # it is closed
        self.ahead.step_aside()  # for the next one that is offered
        self.clock.advance(IDLE_SECONDS)
        self.assertEqual(len(files), 1)
        self.busy = False
        self.clock.advance(IDLE_SECONDS)
        self.assertEqual([each.name for each in files], ["a", "a"])

    def test_download(self) -> None:
        """Whoever asks for a file has it alone: ours is let go and not begun again."""
        files: list[SharedFile] = []
        self.patch(SharedFile, "start_hashing", lambda file, wake: files.append(file))
        self.write("a", b"1")

        def offer(taker: object, file: SharedFile) -> tuple[int, str]:
            self.busy = True
            self.addCleanup(file.close)
            return 1, "ticket"

        transfers = SimpleNamespace(offer=offer)
        downloads = ShelfDownloads(
            self.shelf,
            transfers,  # type: ignore[arg-type]
            self.ahead.step_aside,
        )
        self.start()
        downloads.offer("alice", "192.0.2.1", "a")
        self.assertEqual(len(files), 1)
        self.assertRaises(LocalError, files[0].changed)  # it is closed

    def test_download_that_stood(self) -> None:
        """When one goes on that has paused, we stop soon."""
        files: list[SharedFile] = []
        self.patch(SharedFile, "start_hashing", lambda file, wake: files.append(file))
        self.write("a", b"1")
        self.start()
        self.clock.advance(IDLE_SECONDS)
        self.assertFalse(files[0].changed())
        self.busy = True
        self.clock.advance(IDLE_SECONDS)
        self.assertRaises(LocalError, files[0].changed)
        self.assertEqual(len(files), 1)

    def test_word_that_comes_late(self) -> None:
        """The hasher may end a file at the moment when it is let go; the next end is awaited."""
        words: list[Callable[[], object]] = []
        self.patch(SharedFile, "start_hashing", lambda file, wake: words.append(wake))
        self.write("a", b"1")
        self.start()
        self.ahead.step_aside()
        self.assertEqual(len(words), 2)
        words[0]()
        self.hear()
        self.clock.advance(LOOK_SECONDS)
        self.assertEqual(len(words), 2)
        self.write("b", b"2")
        words[1]()
        self.hear()
        self.clock.advance(LOOK_SECONDS)
        self.assertEqual(self.opened, ["a", "a", "b"])

    def test_stopping(self) -> None:
        """A file that is being hashed is closed, and the hasher's last word is not missed."""
        self.write("a", b"1")
        self.start()
        self.ahead.stopService()
        self.clock.advance(LOOK_SECONDS)
        self.assertEqual(self.opened, ["a"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_folder_that_cannot_be_read(self) -> None:
        """It is looked at again, and meanwhile what is known stays known."""
        self.write("a", b"1")
        os.rename(self.folder, f"{self.folder}-away")
        self.start()
        os.rename(f"{self.folder}-away", self.folder)
        self.clock.advance(LOOK_SECONDS)
        self.hear()
        self.assertEqual(self.digest("a"), hashlib.sha256(b"1").digest())

    def test_folder_that_cannot_be_listed(self) -> None:
        """A folder that opens and cannot be listed, for want of descriptors, is not the end."""
        self.write("a", b"1")
        write_digests(self.path, {})
        with patch("chatbox.shelf.os.scandir", side_effect=OSError(24, "too many open files")):
            self.start()
        self.clock.advance(LOOK_SECONDS)
        self.hear()
        self.assertEqual(self.digest("a"), hashlib.sha256(b"1").digest())

    def test_file_that_cannot_be_read(self) -> None:
        """It is left alone until it has changed, and the others have their turn."""
        self.write("a", b"1")
        self.write("b", b"2")
        refused = self.open

        def refuse(path: str, flags: int, *, dir_fd: int) -> int:
            fd = refused(path, flags, dir_fd=dir_fd)
            if path == "a":
                os.close(fd)
                raise PermissionError(13, "denied")
            return fd

        self.shelf._opener = refuse
        self.start()
        self.hear()
        self.assertEqual(self.opened, ["a", "b"])
        self.clock.advance(LOOK_SECONDS)
        self.assertEqual(self.opened, ["a", "b"])

    def test_no_descriptors(self) -> None:
        """A file that cannot be hashed now is left to whoever downloads it."""

        def refuse(*_: object) -> None:
            raise OSError(24, "too many open files")

        self.write("a", b"1")
        self.patch(SharedFile, "start_hashing", refuse)
        self.start()
        self.clock.advance(LOOK_SECONDS)
        self.assertEqual(self.opened, ["a"])
        self.assertTrue(self.ahead.running)

    def test_file_that_changes_before_its_turn(self) -> None:
        """Only what was seen to rest is hashed."""
        self.write("a", b"1")
        self.busy = True
        self.start()
        self.write("a", b"22")
        self.busy = False
        with patch.object(SharedFile, "start_hashing") as start_hashing:
            self.clock.advance(IDLE_SECONDS)
        self.assertEqual(self.opened, ["a"])
        start_hashing.assert_not_called()


class RestTests(AheadTestCase):
    """Files that are being written."""

    def rest(self, ns: int) -> None:
        """Let it be so long after the last change."""
        [(_, identity)] = self.shelf.identities()
        self.now_ns = max(identity.mtime_ns, identity.ctime_ns) + ns

    def test_new_file(self) -> None:
        """What has just been written is looked at again soon."""
        self.write("a", b"1")
        self.rest(SETTLED_NS)
        self.start()
        self.assertEqual(self.opened, [])
        self.rest(SETTLED_NS + 1)
        self.clock.advance(SOON_SECONDS)
        self.assertEqual(self.opened, ["a"])

    def test_file_of_the_future(self) -> None:
        """A clock that was wrong once does not keep us looking."""
        self.write("a", b"1")
        self.rest(-1)
        self.start()
        self.clock.advance(SOON_SECONDS)
        self.rest(SETTLED_NS + 1)
        self.clock.advance(SOON_SECONDS)
        self.assertEqual(self.opened, [])
        self.clock.advance(LOOK_SECONDS)
        self.assertEqual(self.opened, ["a"])

    def test_file_that_grows_slowly(self) -> None:
        """What changed after it was hashed must rest for long before it is hashed again."""
        self.write("a", b"1")
        self.rest(SETTLED_NS + 1)
        self.start()
        self.hear()
        self.write("a", b"12")
        self.rest(RESTED_NS)
        self.clock.advance(LOOK_SECONDS)
        self.rest(RESTED_NS + 1)
        self.clock.advance(SOON_SECONDS)
        self.assertEqual(self.opened, ["a"])
        self.clock.advance(LOOK_SECONDS)
        self.hear()
        self.assertEqual(self.digest("a"), hashlib.sha256(b"12").digest())

    def test_new_file_of_an_old_name(self) -> None:
        """What was there before it, and was gone at a look, does not make it wait for long."""
        path = self.write("a", b"1")
        self.rest(SETTLED_NS + 1)
        self.start()
        self.hear()
        os.unlink(path)
        self.clock.advance(LOOK_SECONDS)
        self.write("a", b"22")
        self.rest(SETTLED_NS + 1)
        self.clock.advance(LOOK_SECONDS)
        self.assertEqual(self.opened, ["a", "a"])


class MemoryTests(AheadTestCase):
    """What is known is written down."""

    def test_first_start(self) -> None:
        """That nothing is written down yet is nothing to tell of."""
        with capturedLogs() as events:
            self.start()
        self.assertEqual(events, [])

    def test_next_start(self) -> None:
        """The next server knows it at once, as far as the file is what it was."""
        self.write("a", b"1")
        self.write("b", b"2")
        self.start()
        self.hear(2)
        self.ahead.stopService()
        self.write("b", b"22")
        self.opened.clear()
        self.make()
        self.start()
        self.assertEqual(self.opened, ["b"])
        self.assertEqual(self.digest("a"), hashlib.sha256(b"1").digest())
        self.hear()
        self.assertEqual(self.digest("b"), hashlib.sha256(b"22").digest())

    def test_when(self) -> None:
        """It is written down when all is hashed, when that takes long, and at the end."""
        for name in ("a", "b", "c", "d"):
            self.write(name, name.encode())
        self.start()
        self.hear(1)
        self.assertFalse(os.path.exists(self.path))
        self.clock.advance(SAVE_SECONDS)
        self.hear(1)
        self.assertEqual(len(read_digests(self.path)), 2)
        self.hear(1)
        self.assertEqual(len(read_digests(self.path)), 2)
        self.ahead.stopService()
        self.assertIn("c", [name for name, _ in read_digests(self.path)])

    def test_when_all_is_hashed(self) -> None:
        """It is written down then, however short that took."""
        self.write("a", b"1")
        self.start()
        self.hear(1)
        self.assertEqual(len(read_digests(self.path)), 1)

    def test_what_has_gone(self) -> None:
        """What is no longer on the shelf is forgotten in time."""
        path = self.write("a", b"1")
        self.start()
        self.hear()
        os.unlink(path)
        self.write("b", b"2")
        self.clock.advance(LOOK_SECONDS)
        self.hear()
        self.assertEqual([name for name, _ in read_digests(self.path)], ["b"])

    def test_what_downloads_find(self) -> None:
        """What others have hashed meanwhile is written down too, once."""
        self.write("a", b"1")
        self.start()
        self.hear()
        self.hasher.remember(self.shelf.identities()[0][1], bytes(32))
        self.clock.advance(LOOK_SECONDS)
        self.assertEqual(list(read_digests(self.path).values()), [bytes(32)])
        os.unlink(self.path)
        self.clock.advance(LOOK_SECONDS)
        self.ahead.stopService()
        self.assertFalse(os.path.exists(self.path))

    def unmount_and_start_anew(self) -> None:
        """Hash a file, take the disk with it away, and make the next server, not started."""
        self.write("a", b"1")
        self.start()
        self.hear()
        self.ahead.stopService()
        os.rename(self.folder, f"{self.folder}-away")
        os.mkdir(self.folder)
        self.make()

    def test_folder_that_is_away(self) -> None:
        """A disk that is not mounted when the server starts takes nothing of what is known."""
        self.unmount_and_start_anew()
        self.start()
        self.ahead.stopService()
        self.assertEqual(len(read_digests(self.path)), 1)

    def test_disk_that_is_mounted_late(self) -> None:
        """What was known of its files is known, but only until somebody doubts it."""
        self.unmount_and_start_anew()
        self.opened.clear()
        self.start()
        os.rmdir(self.folder)
        os.rename(f"{self.folder}-away", self.folder)
        self.clock.advance(LOOK_SECONDS)
        self.assertEqual(self.digest("a"), hashlib.sha256(b"1").digest())
        self.shelf.open("a").doubt()
        self.opened.clear()
        self.clock.advance(LOOK_SECONDS)
        self.assertEqual(self.opened, ["a"])

    def test_doubted(self) -> None:
        """What was doubted is not written down any more, though nothing else is known."""
        self.write("a", b"1")
        self.start()
        self.hear()
        self.shelf.open("a").doubt()
        self.opened.clear()
        self.ahead.stopService()
        self.assertEqual(read_digests(self.path), {})

    def test_no_threads(self) -> None:
        """A system that has none left has everybody wait for the disk."""
        self.write("a", b"1")

        def refuse(_: Callable[[], object]) -> Deferred[Any]:
            raise RuntimeError("can't start new thread")

        with patch.object(self.ahead, "_thread", refuse):
            self.start()
            self.hear()
            self.ahead.stopService()
        self.assertEqual(len(read_digests(self.path)), 1)

    def test_disk_trouble(self) -> None:
        """Where nothing can be read or kept, the log says so and all goes on."""
        self.write("a", b"1")
        os.makedirs(self.path)
        with capturedLogs() as events:
            self.start()
            self.hear()
            self.ahead.stopService()
        said = [formatEvent(event) for event in events]
        self.assertEqual(len(said), 2, said)
        self.assertIn("cannot be read", said[0])
        self.assertIn("cannot be kept", said[1])
        self.assertEqual(self.digest("a"), hashlib.sha256(b"1").digest())


_numbers = st.integers(0, 2**63 - 1)
_names = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=40)
_times = st.integers(-(2**62), 2**62)


class DigestsTests(SynchronousTestCase):
    """The file of digests."""

    def setUp(self) -> None:
        self.path = os.path.join(self.mktemp(), "digests")

    @given(
        st.dictionaries(
            _names,
            st.tuples(
                st.builds(Identity, _numbers, _numbers, _numbers, _times, _times),
                st.binary(min_size=32, max_size=32),
            ),
        )
    )
    def test_there_and_back(self, files: dict[str, tuple[Identity, bytes]]) -> None:
        """What is written is read, whatever the files are called."""
        known = {(name, condition(identity)): digest for name, (identity, digest) in files.items()}
        write_digests(self.path, known)
        self.assertEqual(read_digests(self.path), known)

    def test_damage(self) -> None:
        """A line that makes no sense is left out, the others count."""
        write_digests(self.path, {(name, (2, 3, 4, 5)): bytes(32) for name in "ab"})
        with open(self.path, "rb") as file:
            good = file.read()
        for bad in (b"\xff\xfe\n", b"x" * 64 + b" 1 2 3 4 c\n", good[:70] + b"\n", b"\n\n"):
            with open(self.path, "wb") as file:
                file.write(bad + good[: len(good) // 2] + bad + good[len(good) // 2 :])
            self.assertEqual({name for name, _ in read_digests(self.path)}, {"a", "b"})

    def test_bound(self) -> None:
        """No more is read than a full shelf can have."""
        self.patch(digests, "MAX_BYTES", 100)
        write_digests(self.path, {(name, (2, 3, 4, 5)): bytes(32) for name in "ab"})
        self.assertEqual([name for name, _ in read_digests(self.path)], ["a"])

    def test_one_for_each_folder(self) -> None:
        """Servers of other folders may have the same state directory."""
        names = {digests_path("state", folder) for folder in ("a", "./a", "b")}
        self.assertEqual(len(names), 2)
        self.assertEqual({os.path.dirname(name) for name in names}, {"state"})
