"""A file on its way to the disk."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from chatbox.client.files import download
from chatbox.client.files.download import CLAIM_BYTES, READ_BYTES, SYNC_BYTES, PartFile
from chatbox.client.files.journal import Beginning, Journal, Sample, Subject
from chatbox.client.files.place import RESERVE_BYTES, Place
from chatbox.rdt.ends import End
from chatbox.rdt.ranges import RangeSet
from chatbox.rdt.receiver import Verdict
from tests.helpers.processes import PATIENCE
from tests.helpers.threads import no_threads

DATA = bytes(range(256)) * 9000
DIGEST = hashlib.sha256(DATA).digest()
MTIME_MS = 1_700_000_000_123


class DownloadTestCase(SynchronousTestCase):
    """A folder for one download."""

    def setUp(self) -> None:
        """A folder of its own."""
        self.folder = self.mktemp()
        os.mkdir(self.folder)
        self.path = os.path.abspath(os.path.join(self.folder, "a.bin"))
        self.woken = threading.Event()
        self.patch(download, "LEAVE_SECONDS", PATIENCE)

    def started(
        self,
        *,
        overwrite: bool = False,
        size: int = len(DATA),
        mtime_ms: int | None = MTIME_MS,
        digest: bytes | None = None,
    ) -> PartFile:
        """A part file with room for DATA."""
        part = PartFile(self.path, overwrite=overwrite)
        part.expect(mtime_ms, digest)
        part.start(size, self.woken.set)
        self.addCleanup(part.close, End.CANCELLED)
        return part

    def fill(self, part: PartFile) -> None:
        """Write DATA in three pieces, the last one first."""
        view, third = memoryview(DATA), len(DATA) // 3
        for start, stop in ((2 * third, len(DATA)), (0, third), (third, 2 * third)):
            part.write(start, view[start:stop])
        part.reached(len(DATA))

    def finished(self, part: PartFile, digest: bytes = DIGEST) -> Verdict | None:
        """Finish, and wait for the thread's verdict."""
        part.finish(digest)
        self.assertTrue(self.woken.wait(PATIENCE))
        verdict = part.verdict()
        part.close(verdict.end if verdict else End.DISK_ERROR)
        return verdict

    def free(self, bytes_free: int, blocks: int = 1 << 30) -> mock._patch[Any]:
        """Make the disk as full as that."""
        disk = mock.Mock(f_frsize=512, f_bavail=bytes_free // 512, f_blocks=blocks)
        return mock.patch("os.statvfs", return_value=disk)

    def files(self) -> list[str]:
        """What is in the folder."""
        return sorted(os.listdir(self.folder))

    def wait_for(self, what: Callable[[], bool]) -> None:
        """Wait until the thread has done something."""
        give_up_at = time.monotonic() + PATIENCE
        while not what():
            self.assertLess(time.monotonic(), give_up_at)
            time.sleep(0.01)


class PartFileTests(DownloadTestCase):
    """`NAME.part` until it is whole and right, then `NAME`."""

    def test_whole_and_right(self) -> None:
        """A file whose digest is right gets its name, and nothing else is left."""
        part = self.started()
        self.assertEqual(self.files(), ["a.bin.part", "a.bin.part.journal"])
        self.fill(part)
        self.assertEqual(
            self.finished(part), Verdict(End.DONE, "", os.path.abspath(self.path), DIGEST)
        )
        self.assertEqual(self.files(), ["a.bin"])
        with open(self.path, "rb") as file:
            self.assertEqual(file.read(), DATA)

    def test_empty(self) -> None:
        """An empty file is a file."""
        part = PartFile(self.path)
        part.start(0, self.woken.set)
        verdict = self.finished(part, hashlib.sha256().digest())
        self.assertEqual(verdict and verdict.end, End.DONE)
        self.assertEqual(os.path.getsize(self.path), 0)

    def test_wrong_digest(self) -> None:
        """A file whose digest is wrong does not get its name, and is of no use."""
        part = self.started()
        self.fill(part)
        verdict = self.finished(part, bytes(32))
        self.assertEqual(verdict and verdict.end, End.HASH_MISMATCH)
        self.assertEqual(self.files(), [])

    def test_hashed_as_it_comes(self) -> None:
        """What comes in order is not read back; what comes before its turn is, and what comes in
        order after that is not.
        """
        view, piece = memoryview(DATA), len(DATA) // 9
        read: list[tuple[int, int]] = []
        real = os.preadv

        def reading(fd: int, buffers: list[memoryview], offset: int) -> int:
            read.append((offset, len(buffers[0])))
            return real(fd, buffers, offset)

        self.patch(download, "READ_BYTES", piece * 3 // 2)
        self.patch(download, "SYNC_SECONDS", 10 * PATIENCE)
        part = self.started()
        with mock.patch("os.preadv", reading):
            for index, reached in ((0, 1), (1, 2), (3, 2), (2, 4), (4, 5), (5, 6), (6, 7)):
                start = index * piece
                part.write(start, view[start : start + piece])
                part.reached(reached * piece)
                if reached == 5:
                    self.wait_for(lambda: part._hashed == 5 * piece)
            part.write(7 * piece, view[7 * piece :])
            part.reached(len(DATA))
            self.assertEqual(self.finished(part), Verdict(End.DONE, "", self.path, DIGEST))
        half = piece // 2
        self.assertEqual(read, [(3 * piece, piece + half), (4 * piece + half, half)])

    def test_shortened(self) -> None:
        """A part that somebody shortened is no file, though all that came was right."""
        part = self.started()
        part.write(0, memoryview(DATA))
        part.reached(len(DATA))
        os.truncate(self.path + ".part", len(DATA) - 1)
        verdict = self.finished(part)
        self.assertEqual(verdict and verdict.end, End.DISK_ERROR)
        self.assertNotIn("a.bin", self.files())

    def test_what_is_there_stays(self) -> None:
        """Bytes that come once more, of another file even, do not take the place of the first.

        Those may have been hashed; then the file would have the right digest and be wrong.
        """
        part, view = self.started(), memoryview(DATA)
        other = memoryview(bytes(byte ^ 0xFF for byte in DATA))
        part.write(0, view[:1000])
        part.write(2000, view[2000:3000])
        part.write(4000, view[4000:5000])
        with open(f"{self.path}.part", "r+b") as file:
            mine = bytearray(DATA)
            mine[1000:2000], mine[3000:4000] = other[1000:2000], other[3000:4000]
            part.write(500, other[500:4500])
            self.assertEqual(file.read(5000), mine[:5000])
        part.write(500, other[500:4500])
        part.write(0, other[:0])
        part.write(5000, view[5000:])
        part.reached(len(DATA))
        digest = hashlib.sha256(mine).digest()
        verdict = self.finished(part, digest)
        self.assertEqual(verdict and verdict.end, End.DONE)
        with open(self.path, "rb") as file:
            self.assertEqual(hashlib.sha256(file.read()).digest(), digest)

    def test_takes_what_has_come(self) -> None:
        """A size that a server tells takes nothing of the disk; what it sends does, and some way
        ahead of that.
        """
        self.patch(download, "ROOM_BYTES", 1 << 20)
        part = self.started(size=1 << 30)
        self.assertEqual(os.stat(self.path + ".part").st_blocks, 0)
        for start in (0, 1000, (1 << 20) + 1):
            part.write(start, memoryview(DATA)[:1000])
        status = os.stat(self.path + ".part")
        self.assertEqual(status.st_size, (1 << 20) + 1001 + (1 << 20))
        self.assertGreaterEqual(status.st_blocks * 512, status.st_size)

    def test_file_system_that_reserves_nothing(self) -> None:
        """Where the system's library makes up for that it is not seen; there are others."""
        for number in (errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM):
            self.woken.clear()
            with mock.patch("os.posix_fallocate", side_effect=OSError(number, "no")):
                part = self.started()
                self.fill(part)
                verdict = self.finished(part)
            self.assertEqual(verdict and verdict.end, End.DONE)
            threads_gone()
            os.unlink(self.path)
        with mock.patch("os.posix_fallocate", side_effect=OSError(errno.ENOSPC, "full")):
            self.assertRaises(OSError, self.fill, self.started())

    def test_no_room(self) -> None:
        """A disk that is too full says so before the first byte, and nothing is left on it."""
        part = PartFile(self.path)
        with self.free(RESERVE_BYTES + 51_200):
            error = self.assertRaises(OSError, part.start, 51_201, self.woken.set)
        self.assertEqual(error.errno, errno.ENOSPC)
        self.assertIn("51.2 kB to come, and 51.2 kB free besides 16.8 MB", error.strerror)
        self.assertEqual(self.files(), [])
        with self.free(RESERVE_BYTES + 51_200):
            self.started(size=51_200).close(End.CANCELLED)
        with self.free(0, blocks=0):  # a file system that does not know
            self.started().close(End.CANCELLED)

    def test_no_threads(self) -> None:
        """A system that has no more threads leaves nothing behind that the next try would mind."""
        part = PartFile(self.path)
        with no_threads():
            self.assertRaises(OSError, part.start, len(DATA), self.woken.set)
        self.assertEqual(self.files(), [])
        self.assertIsNone(part.close(End.CANCELLED))
        part = self.started()
        self.fill(part)
        verdict = self.finished(part)
        self.assertEqual(verdict and verdict.end, End.DONE)

    def test_nothing_to_come(self) -> None:
        """What takes no more room has enough of it on the fullest disk."""
        with self.free(0):
            self.started(size=0).close(End.CANCELLED)

    def test_too_large(self) -> None:
        """A file system that cannot have a file of this size says so as early."""
        part = PartFile(self.path)
        with mock.patch("os.lseek", side_effect=OSError(errno.EINVAL, "Invalid argument")):
            error = self.assertRaises(OSError, part.start, 5 * 10**9, self.woken.set)
        self.assertEqual(error.errno, errno.EFBIG)
        self.assertIn("no file of 5.00 GB", error.strerror)
        self.assertEqual(self.files(), [])

    def test_nothing_is_left_of_nothing(self) -> None:
        """Whatever the end, a part that holds no byte does not stay."""
        for end in End:
            part = self.started()
            part.close(end)
            self.assertEqual(self.files(), [], end)
            threads_gone()

    def test_cancelled_leaves_nothing(self) -> None:
        """What somebody cancelled is gone."""
        part = self.started()
        part.write(0, memoryview(DATA)[:1000])
        part.close(End.CANCELLED)
        self.assertEqual(self.files(), [])

    def test_cancelled_where_nothing_can_go(self) -> None:
        """A folder that lets nothing go does not keep the download from its end."""
        part = self.started()
        part.write(0, memoryview(DATA)[:1000])
        with mock.patch("os.unlink", side_effect=PermissionError(errno.EACCES, "no")):
            part.close(End.CANCELLED)
            threads_gone()
        self.assertEqual(self.files(), ["a.bin.part", "a.bin.part.journal"])
        self.started()  # nobody holds it any more

    def test_broken_off_leaves_the_part(self) -> None:
        """What broke off by itself is kept."""
        part = self.started()
        part.write(0, memoryview(DATA)[:1000])
        part.close(End.PEER_SILENT)
        part.close(End.PEER_SILENT)
        self.assertEqual(self.files(), ["a.bin.part", "a.bin.part.journal"])

    def test_given_up_too_late(self) -> None:
        """A file that is being given its name has arrived, whatever else its end would be."""
        real, naming = os.link, threading.Event()
        given_up = threading.Event()

        def slow(source: str, target: str) -> None:
            naming.set()
            given_up.wait(PATIENCE)
            real(source, target)

        for end in (End.CANCELLED, End.FILE_CHANGED, End.INTERRUPTED):
            part = self.started()
            self.fill(part)
            with mock.patch("os.link", slow):
                part.finish(DIGEST)
                self.assertTrue(naming.wait(PATIENCE))
                threading.Timer(0.02, given_up.set).start()
                self.assertEqual(part.close(end), Verdict(End.DONE, "", self.path, DIGEST))
            self.assertEqual(self.files(), ["a.bin"])
            os.unlink(self.path)
            naming.clear()
            given_up.clear()

    def test_given_up_while_the_name_goes_to_the_disk(self) -> None:
        """It has arrived, and nobody has to wait for the disk to hear that."""
        part = self.started()
        self.fill(part)
        syncing, told, waited = threading.Event(), threading.Event(), threading.Event()

        def slow() -> None:
            syncing.set()
            if not told.wait(PATIENCE):
                waited.set()

        with mock.patch.object(part._place, "sync_folder", slow):
            part.finish(DIGEST)
            self.assertTrue(syncing.wait(PATIENCE))
            verdict = part.close(End.CANCELLED)
            self.assertFalse(waited.is_set())
            told.set()
            threads_gone()
        self.assertEqual(verdict, Verdict(End.DONE, "", self.path, DIGEST))
        self.assertEqual(self.files(), ["a.bin"])

    def test_given_up_in_time(self) -> None:
        """A file that is given up before it is given its name does not get it."""
        real, syncing = os.fdatasync, threading.Event()
        given_up = threading.Event()

        def slow(fd: int) -> None:
            syncing.set()
            given_up.wait(PATIENCE)
            real(fd)

        for end, left in (
            (End.CANCELLED, []),
            (End.INTERRUPTED, ["a.bin.part", "a.bin.part.journal"]),
        ):
            part = self.started()
            self.fill(part)
            with mock.patch("os.fdatasync", slow):
                part.finish(DIGEST)
                self.assertTrue(syncing.wait(PATIENCE))
                self.assertIsNone(part.close(end))
                given_up.set()
                threads_gone()
            self.assertEqual(self.files(), left)
            syncing.clear()
            given_up.clear()

    def test_named_with_trouble(self) -> None:
        """What fails when the file has its name does not make it one that has not arrived."""
        part = self.started()
        self.fill(part)
        broken = OSError(errno.EIO, "Input/output error")
        with mock.patch.object(part._place, "sync_folder", side_effect=broken):
            verdict = self.finished(part)
        self.assertEqual((verdict and verdict.end, self.files()), (End.DONE, ["a.bin"]))

    def test_name_taken(self) -> None:
        """A file that is there already is not touched, except when that is what is wanted."""
        with open(self.path, "wb") as file:
            file.write(b"old")
        error = self.assertRaises(FileExistsError, PartFile, self.path)
        self.assertEqual(error.strerror, "There is such a file already")
        part = self.started(overwrite=True)
        self.fill(part)
        self.finished(part)
        self.assertEqual(os.path.getsize(self.path), len(DATA))

    def test_name_taken_meanwhile(self) -> None:
        """A file that appears under the name during the download is not touched either."""
        part = self.started()
        self.fill(part)
        with open(self.path, "wb") as file:
            file.write(b"new")
        verdict = self.finished(part)
        self.assertEqual(verdict, Verdict(End.DISK_ERROR, "There is such a file already"))
        self.assertEqual(self.files(), ["a.bin", "a.bin.part", "a.bin.part.journal"])
        self.assertEqual(os.path.getsize(self.path), 3)

    def test_two_at_once(self) -> None:
        """Two downloads do not write to one file."""
        part = self.started()
        other = PartFile(self.path)
        error = self.assertRaises(BlockingIOError, other.start, 10, self.woken.set)
        self.assertEqual(error.strerror, "Another download is writing to this file")
        self.fill(part)
        verdict = self.finished(part)
        self.assertEqual(verdict and verdict.end, End.DONE)

    def test_killed_when_it_begins(self) -> None:
        """A part that a kill has left before anything was written is nobody else's."""

        class Killed(BaseException):
            pass

        def die(fd: int, how: int) -> None:
            os.close(fd)
            raise Killed

        with mock.patch("fcntl.flock", die):
            self.assertRaises(Killed, PartFile(self.path).start, 10, self.woken.set)
        self.assertIn("a.bin.part", self.files())
        self.assertIs(self.started().beginning, Beginning.NEW)

    def test_killed_when_it_has_its_name(self) -> None:
        """What is left of it then goes with the next attempt, but not what is another file."""
        for leave, left in (
            (os.link, ["a.bin"]),
            (shutil.copy, ["a.bin", "a.bin.part", "a.bin.part.journal"]),
        ):
            part = self.started()
            self.fill(part)
            part.close(End.PEER_SILENT)
            threads_gone()
            leave(f"{self.path}.part", self.path)
            self.assertRaises(FileExistsError, PartFile, self.path)
            self.assertEqual(self.files(), left)
            os.unlink(self.path)

    def test_name_taken_before_it_begins(self) -> None:
        """What has come between the request and the answer is not downloaded once more."""
        part = PartFile(self.path)
        with open(self.path, "wb") as file:
            file.write(b"new")
        error = self.assertRaises(FileExistsError, part.start, 10, self.woken.set)
        self.assertEqual(error.strerror, "There is such a file already")
        self.assertEqual(self.files(), ["a.bin"])

    def test_part_replaced_meanwhile(self) -> None:
        """A file that somebody has put in the place of the part neither gets the name nor goes."""
        for overwrite in (False, True):
            part = self.started(overwrite=overwrite)
            self.fill(part)
            os.unlink(f"{self.path}.part")
            os.unlink(f"{self.path}.part.journal")
            other = self.started(overwrite=overwrite)
            other.write(0, memoryview(DATA)[:10])
            verdict = self.finished(part)
            self.assertEqual(verdict and verdict.end, End.DISK_ERROR)
            self.assertIn("moved or replaced", verdict.detail if verdict else "")
            self.assertEqual(self.files(), ["a.bin.part", "a.bin.part.journal"])
            other.close(End.CANCELLED)
            threads_gone()
            self.assertEqual(self.files(), [])
            self.woken.clear()

    def test_part_removed_meanwhile(self) -> None:
        """Who gives one up that was taken away takes its journal away, but not another part's."""
        part = self.started()
        self.fill(part)
        os.unlink(f"{self.path}.part")
        part.close(End.CANCELLED)
        threads_gone()
        self.assertEqual(self.files(), [])
        part = self.started()
        self.fill(part)
        os.unlink(f"{self.path}.part")
        os.unlink(f"{self.path}.part.journal")
        self.started()
        part.close(End.CANCELLED)
        self.assertEqual(self.files(), ["a.bin.part", "a.bin.part.journal"])

    def test_another_one_that_ends_just_now(self) -> None:
        """The part may get its name before it is locked here: then it is nobody's part any more."""

        def rename(part: str, path: str) -> None:
            os.link(part, path)
            os.unlink(part)

        for give_name in (os.rename, rename):
            with open(f"{self.path}.part", "wb"), open(f"{self.path}.part.journal", "wb"):
                pass
            part = PartFile(self.path, overwrite=True)
            lock, ends = fcntl.flock, [give_name]

            def end_first(fd: int, how: int, lock: Any = lock, ends: list[Any] = ends) -> None:
                if ends:
                    with open(f"{self.path}.part", "wb") as file:
                        file.write(b"whole and right")
                    ends.pop()(f"{self.path}.part", self.path)
                lock(fd, how)

            with mock.patch("fcntl.flock", end_first):
                part.start(len(DATA), self.woken.set)
            with open(self.path, "rb") as file:
                self.assertEqual(file.read(), b"whole and right")
            part.write(0, memoryview(DATA)[:10])
            with open(f"{self.path}.part", "rb") as file:
                self.assertEqual(file.read(10), DATA[:10])
            part.close(End.CANCELLED)
            threads_gone()
            os.unlink(self.path)

    def test_no_count_of_names(self) -> None:
        """Some file systems say of every file that it has no name."""
        real = os.fstat

        def nameless(fd: int) -> os.stat_result:
            fields = list(real(fd))
            fields[stat.ST_NLINK] = 0
            return os.stat_result(fields)

        part = PartFile(self.path)
        opened: list[str] = []
        note = os.open

        def open_few(path: str, *rest: Any) -> int:
            opened.append(path)
            assert len(opened) < 20, "it never ends"
            return note(path, *rest)

        with mock.patch("os.fstat", nameless), mock.patch("os.open", open_few):
            os.close(part._place.open_part())

    def test_bad_names(self) -> None:
        """A folder that is not there, and a name that is a folder, are refused in words."""
        missing = self.assertRaises(
            FileNotFoundError, PartFile, os.path.join(self.folder, "no", "a")
        )
        self.assertEqual(missing.strerror, "There is no such folder")
        folder = self.assertRaises(IsADirectoryError, PartFile, self.folder)
        self.assertEqual(folder.strerror, "That is a folder, not a file name")
        long = self.assertRaises(OSError, PartFile, os.path.join(self.folder, "n" * 250))
        self.assertEqual(long.errno, errno.ENAMETOOLONG)
        # As with any letter but those of ASCII where the locale is C, and Python goes by it.
        foreign = self.assertRaises(OSError, PartFile, os.path.join(self.folder, "n\ud800"))
        self.assertEqual(foreign.strerror, "The locale here has no letters for a file of that name")

    def test_names_that_the_disk_cannot_have(self) -> None:
        """A stick for instance, which has no colons; a folder that went is another matter."""
        part = PartFile(self.path)
        for number in (errno.EINVAL, errno.ENOENT, errno.EILSEQ):
            with mock.patch("os.open", side_effect=OSError(number, "what the system says")):
                error = self.assertRaises(OSError, part.start, 10, self.woken.set)
                self.assertIn("takes no file of that name", error.strerror)
                self.assertEqual(error.filename, self.path)
        os.rmdir(self.folder)
        error = self.assertRaises(FileNotFoundError, part.start, 10, self.woken.set)
        self.assertEqual(error.filename, f"{self.path}.part.journal")
        os.mkdir(self.folder)

    def test_devices(self) -> None:
        """What is no file is not replaced by one, whoever asks for it."""
        pipe, link = os.path.join(self.folder, "pipe"), os.path.join(self.folder, "link")
        os.mkfifo(pipe)
        os.symlink("pipe", link)
        for path in (pipe, link):
            for overwrite in (False, True):
                error = self.assertRaises(OSError, PartFile, path, overwrite=overwrite)
                self.assertEqual(error.strerror, "That is a device or the like, not a file")
                self.assertNotIsInstance(error, FileExistsError)  # nobody advises to overwrite it

    def test_part_is_a_link(self) -> None:
        """A link that somebody put where the part belongs is not followed."""
        victim = os.path.join(self.folder, "victim")
        with open(victim, "wb") as file:
            file.write(b"precious")
        os.symlink(victim, self.path + ".part")
        self.assertRaises(FileExistsError, PartFile, self.path)
        part = PartFile(self.path, overwrite=True)
        self.assertRaises(OSError, part.start, 10, self.woken.set)
        with open(victim, "rb") as file:
            self.assertEqual(file.read(), b"precious")

    def test_a_write_in_pieces(self) -> None:
        """A disk that takes less than it is given is given the rest."""
        part = self.started()
        real = os.pwrite

        def grudging(fd: int, data: memoryview, offset: int) -> int:
            return real(fd, data[:1000], offset)

        with mock.patch("os.pwrite", grudging):
            part.write(5, memoryview(DATA)[5:5000])
        part.close(End.PEER_SILENT)
        with open(self.path + ".part", "rb") as file:
            self.assertEqual(file.read(5000)[5:], DATA[5:5000])

    def test_no_links(self) -> None:
        """A file system without hard links gets the file too, and nothing there is replaced."""
        refusal = OSError(errno.EPERM, "Operation not permitted")
        part = self.started()
        self.fill(part)
        with mock.patch("os.link", side_effect=refusal):
            verdict = self.finished(part)
        self.assertEqual((verdict and verdict.end, self.files()), (End.DONE, ["a.bin"]))
        os.unlink(self.path)
        self.woken.clear()
        part = self.started()
        self.fill(part)
        with open(self.path, "wb") as file:
            file.write(b"new")
        with mock.patch("os.link", side_effect=refusal):
            verdict = self.finished(part)
        self.assertEqual(verdict, Verdict(End.DISK_ERROR, "There is such a file already"))
        self.assertEqual(os.path.getsize(self.path), 3)

    def test_a_disk_that_fails(self) -> None:
        """What the system could not bring to the disk ends the download before all has come, and is
        not counted on later.
        """
        part = self.started()
        self.fail_to_sync(part, OSError(errno.EIO, "Input/output error"))
        self.assertEqual(part.verdict(), Verdict(End.DISK_ERROR, "Input/output error"))
        part.close(End.DISK_ERROR)
        self.assertEqual(self.files(), [])

    def test_a_disk_that_fails_later(self) -> None:
        """What was brought to the disk before is there for the next attempt, and nothing else."""
        synced: list[int] = []

        def fail_later(fd: int) -> None:
            synced.append(fd)
            if len(synced) > 2:  # the part, and then its journal
                raise OSError(errno.EDQUOT, "Disk quota exceeded")

        self.patch(download, "SYNC_SECONDS", 0.01)
        part = self.started()
        with mock.patch("os.fdatasync", fail_later):
            part.write(0, memoryview(DATA)[:1000])
            self.wait_for(lambda: len(synced) == 2)
            part.write(1000, memoryview(DATA)[1000:])
            self.assertTrue(self.woken.wait(PATIENCE))
            part.close(End.DISK_FULL)
            threads_gone()
        self.assertEqual(list(self.started().have), [(0, 1000)])

    def test_a_disk_that_fails_after_the_end(self) -> None:
        """Nor is what the disk was about to take counted on, when the download had just ended."""
        syncing, given_up = threading.Event(), threading.Event()

        def fail(fd: int) -> None:
            syncing.set()
            given_up.wait(PATIENCE)
            raise OSError(errno.EIO, "Input/output error")

        self.patch(download, "SYNC_SECONDS", 0.01)
        part = self.started()
        with mock.patch("os.fdatasync", fail):
            part.write(0, memoryview(DATA)[:1000])
            self.assertTrue(syncing.wait(PATIENCE))
            part.close(End.PEER_SILENT)
            given_up.set()
            threads_gone()
        self.assertEqual(self.files(), [])

    def fail_to_sync(self, part: PartFile, error: OSError) -> None:
        """Write all, and wait until the thread has failed to bring it to the disk."""
        self.patch(download, "SYNC_SECONDS", 0.01)
        with mock.patch("os.fdatasync", side_effect=error):
            part.write(0, memoryview(DATA))
            self.assertTrue(self.woken.wait(PATIENCE))

    def test_a_folder_that_cannot_be_brought_to_the_disk(self) -> None:
        """Nobody may read some folders, and of others the system says that this makes no sense."""
        refusal = OSError(errno.EINVAL, "Invalid argument")
        with mock.patch.object(Place, "sync_folder", side_effect=refusal) as tried:
            part = self.started()
            self.fill(part)
            verdict = self.finished(part)
        self.assertEqual(tried.call_count, 2)  # when it begins, and for its name
        self.assertEqual((verdict and verdict.end, self.files()), (End.DONE, ["a.bin"]))

    def test_a_disk_that_is_full_late(self) -> None:
        """Some systems say only then that there is no room."""
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            part = self.started()
            self.woken.clear()
            self.fail_to_sync(part, OSError(number, "No space left on device"))
            self.assertEqual(part.verdict(), Verdict(End.DISK_FULL, "No space left on device"))
            part.close(End.DISK_FULL)

    def test_a_disk_that_fails_last(self) -> None:
        """Nor is it when that shows only after the end."""
        part = self.started()
        with mock.patch("os.fdatasync", side_effect=OSError(errno.EIO, "Input/output error")):
            part.write(0, memoryview(DATA)[:1000])
            part.close(End.PEER_SILENT)
            threads_gone()
        self.assertEqual(self.files(), [])

    def test_a_verdict_that_nobody_heard(self) -> None:
        """A verdict that came early is told again when all has come."""
        part = self.started()
        self.patch(download, "SYNC_SECONDS", 0.01)
        with mock.patch("os.fdatasync", side_effect=OSError(errno.EIO, "Input/output error")):
            part.write(0, memoryview(DATA))
            self.assertTrue(self.woken.wait(PATIENCE))
        self.woken.clear()
        part.finish(DIGEST)
        self.assertTrue(self.woken.wait(PATIENCE))
        part.close(End.DISK_ERROR)


class ResumeTests(DownloadTestCase):
    """What one attempt leaves to the next."""

    def leave(self, *ranges: tuple[int, int], end: End = End.PEER_SILENT) -> None:
        """An attempt that got these ranges of DATA and then broke off."""
        part = self.started()
        for start, stop in ranges:
            part.write(start, memoryview(DATA)[start:stop])
        part.close(end)

    def complete(self, part: PartFile) -> None:
        """Write what is missing, then finish: the file must be right."""
        missing = RangeSet([(0, len(DATA))])
        for start, stop in part.have:
            missing.remove(start, stop)
        for start, stop in missing:
            part.write(start, memoryview(DATA)[start:stop])
        part.reached(len(DATA))
        self.assertEqual(self.finished(part), Verdict(End.DONE, "", self.path, DIGEST))
        with open(self.path, "rb") as file:
            self.assertEqual(file.read(), DATA)
        self.assertEqual(self.files(), ["a.bin"])

    def test_with_holes(self) -> None:
        """The next attempt has what the first one got, holes and all, and only the rest is
        written.
        """
        self.leave((0, 700_000), (1_000_000, 1_100_000), (2_000_000, len(DATA)))
        part = self.started()
        self.assertIs(part.beginning, Beginning.RESUMED)
        self.assertEqual(
            tuple(part.have), ((0, 700_000), (1_000_000, 1_100_000), (2_000_000, len(DATA)))
        )
        self.assertEqual(part.resumed_from, 800_000 + len(DATA) - 2_000_000)
        self.complete(part)

    def test_prefix_is_hashed_meanwhile(self) -> None:
        """The thread does not wait for new bytes to read what is there."""
        self.leave((0, 2 * READ_BYTES))
        hashed: list[int] = []
        real = os.preadv

        def reading(fd: int, buffers: list[memoryview], offset: int) -> int:
            hashed.append(offset)
            return real(fd, buffers, offset)

        with mock.patch("os.preadv", reading):
            part = self.started()
            self.wait_for(lambda: hashed == [0, READ_BYTES])
        self.complete(part)

    def test_everything_was_there(self) -> None:
        """An attempt that broke off between the last byte and the name leaves nothing to send."""
        self.leave((0, len(DATA)))
        part = self.started()
        self.assertEqual(tuple(part.have), ((0, len(DATA)),))
        self.complete(part)

    def test_another_file(self) -> None:
        """Of a file that has changed nothing is used."""
        known = b"d" * 32
        for change in (
            {"mtime_ms": MTIME_MS + 1},
            {"size": len(DATA) + 1},
            {"size": len(DATA) - 1},
            {"digest": b"e" * 32},
        ):
            first = self.started(digest=known)
            first.write(0, memoryview(DATA)[:1000])
            first.close(End.PEER_SILENT)
            part = self.started(**change)
            self.assertEqual((part.beginning, tuple(part.have)), (Beginning.CHANGED, ()), change)
            self.assertEqual(os.path.getsize(self.path + ".part"), 0)
            part.close(End.CANCELLED)

    def test_digest_where_known(self) -> None:
        """A digest that only one of the two attempts was told does not count."""
        for first, second in ((None, DIGEST), (DIGEST, None), (DIGEST, DIGEST)):
            attempt = self.started(digest=first)
            attempt.write(0, memoryview(DATA)[:1000])
            attempt.close(End.SERVER_STOPPING)
            part = self.started(digest=second)
            self.assertIs(part.beginning, Beginning.RESUMED)
            part.close(End.CANCELLED)

    def test_server_that_tells_late(self) -> None:
        """A server that tells only with its first packet when the file was changed is believed
        then.
        """
        part = self.started(mtime_ms=None)
        self.assertTrue(part.recognise(MTIME_MS * 1_000_000 + 999_999))
        part.write(0, memoryview(DATA)[:1000])
        part.close(End.PEER_SILENT)
        part = self.started(mtime_ms=None)
        self.assertIs(part.beginning, Beginning.RESUMED)
        self.assertFalse(part.recognise(MTIME_MS * 1_000_000 + 1_000_000))
        part.close(End.FILE_CHANGED)
        self.assertEqual(self.files(), [])

    def test_a_journal_that_cannot_be_written(self) -> None:
        """Whoever says which file it is can do nothing about it; whoever writes is told."""
        self.patch(download, "CLAIM_BYTES", 1)
        part = self.started(mtime_ms=None)
        with mock.patch.object(Journal, "claim_handed_over", side_effect=OSError(5, "I/O error")):
            self.assertTrue(part.recognise(MTIME_MS * 1_000_000))
            self.assertRaises(OSError, part.write, 0, memoryview(DATA)[:1000])

    def test_server_that_has_not_told_yet(self) -> None:
        """What came before it did is of no known file: it is let go, and not in the way later."""
        part = self.started(mtime_ms=None)
        part.write(0, memoryview(DATA)[:1000])
        part.close(End.INTERRUPTED)
        threads_gone()
        self.assertEqual(self.files(), [])
        self.assertIs(part.again().beginning, Beginning.NEW)

    def test_claimed_as_soon_as_it_can_be(self) -> None:
        """A part is known as ours from the first bytes on, also if the server tells late."""
        part = self.started(mtime_ms=None)
        part.recognise(MTIME_MS * 1_000_000)
        part.write(0, memoryview(bytes(1000)))  # which could be in any file
        self.assertEqual(self.claimed(), ())
        part.write(2000, memoryview(DATA)[2000:3000])
        self.assertEqual(self.claimed(), ((0, 1000), (2000, 3000)))

    def test_ends_that_leave_nothing_of_use(self) -> None:
        """What cannot be resumed takes no room on the disk."""
        for end in (End.HASH_MISMATCH, End.FILE_CHANGED, End.CANCELLED):
            self.leave((0, 1000), end=end)
            self.assertEqual(self.files(), [], end)

    def refused(self) -> None:
        """Whatever stands in the way is refused, and left as it is."""
        before = {name: self.contents(name) for name in self.files()}
        error = self.assertRaises(FileExistsError, PartFile, self.path)
        self.assertEqual(error.filename, self.path + ".part")
        self.assertIn("move it away", error.strerror)
        self.assertEqual({name: self.contents(name) for name in self.files()}, before)

    def contents(self, name: str) -> bytes:
        """What a file in the folder holds."""
        with open(os.path.join(self.folder, name), "rb") as file:
            return file.read()

    def test_damaged_journal(self) -> None:
        """A journal that was cut, overwritten or put there by somebody else names no part."""
        for damage in (b"", b"x" * 100, bytes(3 * 4096)):
            self.leave((0, 1000))
            threads_gone()
            with open(self.path + ".part.journal", "wb") as file:
                file.write(damage)
            self.refused()
            os.unlink(self.path + ".part")
            os.unlink(self.path + ".part.journal")

    def test_anothers_part(self) -> None:
        """What another program calls by such a name is left alone, empty or not; so is a part that
        took the place of ours, whatever the journal says.
        """
        for data in (b"precious", b""):
            with open(self.path + ".part", "wb") as file:
                file.write(data)
            self.refused()
            os.unlink(self.path + ".part")
        self.leave((0, 1000))
        threads_gone()
        with open(self.path + ".other", "wb") as file:
            file.write(bytes(len(DATA)))
        os.replace(self.path + ".other", self.path + ".part")
        self.refused()

    def copy_part(self) -> None:
        """Give the part an inode that it never had, as a file system may that makes them up."""
        kept = self.mktemp()
        os.rename(self.path + ".part", kept)
        shutil.copy(kept, self.path + ".part")

    def test_another_inode(self) -> None:
        """A part is known by what is in it, as often as it comes to have another number."""
        for stop in (1000, 2000):
            self.leave((0, stop))
            threads_gone()
            self.copy_part()
        part = self.started()
        self.assertEqual(tuple(part.have), ((0, 2000),))
        part.close(End.INTERRUPTED)
        threads_gone()
        self.copy_part()
        with mock.patch("chatbox.client.files.journal.this_boot", lambda: b"x" * 16):
            self.complete(self.started())

    def test_another_inode_of_what_says_nothing(self) -> None:
        """What could be in any file is no sign that a part is ours."""
        part = self.started()
        part.write(0, memoryview(bytes(5000)))
        part.close(End.PEER_SILENT)
        threads_gone()
        part = self.started()
        self.assertIs(part.beginning, Beginning.RESUMED)
        part.close(End.PEER_SILENT)
        threads_gone()
        self.copy_part()
        self.refused()

    def test_anothers_part_with_the_number_of_ours(self) -> None:
        """It is given to the next file when it has become free."""
        self.leave((0, 1000))
        threads_gone()
        with open(self.path + ".part", "r+b") as file:
            file.write(b"precious")
        self.refused()

    def test_sample_that_is_not_on_the_disk(self) -> None:
        """What has come since the disk was asked for the rest is no sign of what is on it."""
        claimed: list[Sample | None] = []
        syncing, written = threading.Event(), threading.Event()
        claim, sync = Journal.claim_on_disk, os.fdatasync

        def claiming(journal: Journal, subject: Subject, ranges: Any) -> None:
            claimed.append(subject.sample)
            claim(journal, subject, ranges)

        def slow(fd: int) -> None:
            syncing.set()
            written.wait(PATIENCE)
            sync(fd)

        part = self.started()
        on_disk = mock.patch.object(Journal, "claim_on_disk", claiming)
        with on_disk, mock.patch("os.fdatasync", slow):
            with mock.patch.object(download, "SYNC_SECONDS", 0.01):
                part.write(0, memoryview(bytes(1000)))
                self.assertTrue(syncing.wait(PATIENCE))
            part.write(2000, memoryview(DATA)[2000:3000])
            written.set()
            part.close(End.PEER_SILENT)
            threads_gone()
        sample = Sample.of(2000, memoryview(DATA)[2000:3000])
        self.assertEqual((claimed[0], claimed[-1]), (None, sample))

    def test_anothers_journal(self) -> None:
        """What another program calls like a journal of ours, or a link, is left alone, too."""
        journal = self.path + ".part.journal"
        for data in (b"precious", b"\0" * 12289, b"\0" * 4096 + b"precious"):
            with open(journal, "wb") as file:
                file.write(data)
            error = self.assertRaises(FileExistsError, PartFile, self.path)
            self.assertIn("move it away", error.strerror)
            self.assertEqual(error.filename, journal)
            self.assertEqual(self.files(), ["a.bin.part.journal"])
            self.assertEqual(self.contents("a.bin.part.journal"), data)
        os.unlink(journal)
        os.symlink("nowhere", journal)
        self.assertRaises(FileExistsError, PartFile, self.path)
        os.unlink(journal)
        for data in (b"", b"\0" * 12288):  # of ours, killed before it claimed anything
            with open(journal, "wb") as file:
                file.write(data)
            self.started().close(End.CANCELLED)
            threads_gone()
        with open(journal, "wb") as file:
            file.write(b"to be replaced")
        self.complete(self.started(overwrite=True))

    def test_anothers_part_meanwhile(self) -> None:
        """It is left alone, too, if it has appeared while the server was asked."""
        part = PartFile(self.path)
        with open(self.path + ".part", "wb") as file:
            file.write(b"precious")
        error = self.assertRaises(FileExistsError, part.start, 10, self.woken.set)
        self.assertIn("move it away", error.strerror)
        self.assertEqual(self.files(), ["a.bin.part"])
        self.assertEqual(self.contents("a.bin.part"), b"precious")

    def test_a_journal_that_cannot_be_read_now(self) -> None:
        """Whatever is to be replaced, what is here is kept, and the reason is told."""
        self.leave((0, 1000))
        threads_gone()
        path, real = self.path + ".part.journal", os.open

        def fail(name: str, flags: int, *rest: int) -> int:
            if name == path:
                raise OSError(errno.EMFILE, "Too many open files", name)
            return real(name, flags, *rest)

        with mock.patch("os.open", fail):
            self.assertRaises(OSError, PartFile, self.path)
            part = PartFile(self.path, overwrite=True)
            part.expect(MTIME_MS, None)
            error = self.assertRaises(OSError, part.start, len(DATA), self.woken.set)
        self.assertEqual(error.errno, errno.EMFILE)
        with mock.patch("os.pread", side_effect=OSError(errno.EIO, "Input/output error")):
            self.assertRaises(OSError, part.start, len(DATA), self.woken.set)
        part = self.started(overwrite=True)
        self.assertEqual(list(part.have), [(0, 1000)])
        self.complete(part)

    def test_one_look_at_the_journal(self) -> None:
        """Whose the part is and what is claimed of it are read at once, when nobody else writes."""
        self.leave((0, 1000))
        threads_gone()
        part, real = PartFile(self.path), os.open
        part.expect(MTIME_MS, None)
        opened: list[str] = []

        def note(path: str, *rest: int) -> int:
            opened.append(path)
            return real(path, *rest)

        with mock.patch("os.open", note):
            part.start(len(DATA), self.woken.set)
        self.assertEqual(opened, [f"{self.path}.part", f"{self.path}.part.journal"])
        self.assertEqual(list(part.have), [(0, 1000)])
        self.complete(part)

    def test_anothers_part_is_to_be_replaced(self) -> None:
        """Whoever wants files replaced wants that of this one, which is no attempt of ours."""
        with open(self.path + ".part", "wb") as file:
            file.write(b"precious" + DATA)
        part = self.started(overwrite=True)
        self.assertIs(part.beginning, Beginning.NEW)
        self.complete(part)

    def test_a_part_that_was_cut(self) -> None:
        """What is claimed of a part that has become shorter is not believed."""
        self.leave((0, 2000))
        threads_gone()
        os.truncate(self.path + ".part", 1500)
        self.assertIs(self.started().beginning, Beginning.UNUSABLE)

    def test_another_boot(self) -> None:
        """A part of which nothing had come to the disk when the machine stopped is still ours."""
        with mock.patch("chatbox.client.files.download.PartFile._sync"):
            self.leave((0, 1000))
            threads_gone()
        with mock.patch("chatbox.client.files.journal.this_boot", lambda: b"x" * 16):
            self.assertIs(self.started().beginning, Beginning.UNUSABLE)

    def test_killed_before_anything_was_claimed(self) -> None:
        """An empty part with a journal is one whose attempt was killed at its beginning."""
        for name in self.path + ".part", self.path + ".part.journal":
            with open(name, "wb"):
                pass
        self.assertIs(self.started().beginning, Beginning.NEW)

    def test_killed_before_the_part_lost_its_name(self) -> None:
        """A part that is a finished file too is let go, not written to."""
        self.leave((0, 1000))
        threads_gone()
        os.link(self.path + ".part", self.path)
        part = self.started(overwrite=True)
        self.assertEqual(tuple(part.have), ())
        with open(self.path, "rb") as file:
            self.assertEqual(file.read(1000), DATA[:1000])
        self.complete(part)

    def test_claims_come_early(self) -> None:
        """However a program is killed, what came before the last two megabytes is claimed."""
        part = self.started()
        # Nothing is brought to the disk, however long this takes.
        with mock.patch.multiple(download, SYNC_BYTES=1 << 60, SYNC_SECONDS=PATIENCE):
            part.write(0, memoryview(DATA)[:CLAIM_BYTES])
            part.write(CLAIM_BYTES, memoryview(DATA)[CLAIM_BYTES : CLAIM_BYTES + 1000])
            self.assertEqual(self.claimed(), ((0, CLAIM_BYTES),))
            part.close(End.INTERRUPTED)
            self.assertEqual(self.claimed(), ((0, CLAIM_BYTES + 1000),))

    def claimed(self) -> tuple[tuple[int, int], ...] | None:
        """What the journal says now."""
        journal = Journal(self.path + ".part.journal")
        try:
            claim = journal.read()
        finally:
            journal.close()
        return claim.ranges if claim else None

    def test_brought_to_the_disk(self) -> None:
        """What has come is brought to the disk before the journal says so: after enough of it,
        after a while, and at the end.
        """
        calls: list[str] = []
        real_sync, real_claim = os.fdatasync, Journal.claim_on_disk

        def syncing(fd: int) -> None:
            calls.append("sync")
            real_sync(fd)

        def claiming(*args: Any) -> None:
            calls.append("claim")
            real_claim(*args)

        boot = mock.patch("chatbox.client.files.journal.this_boot", lambda: None)
        patched = mock.patch.multiple("os", fdatasync=syncing)
        with boot, patched, mock.patch.object(Journal, "claim_on_disk", claiming):
            size = 3 * SYNC_BYTES
            part = self.started(size=size)
            calls.clear()
            part.write(0, memoryview(bytes(SYNC_BYTES)))
            self.wait_for(lambda: self.claimed() == ((0, SYNC_BYTES),))
            with mock.patch.object(download, "SYNC_SECONDS", 0.01):
                part.write(size - 5, memoryview(b"12345"))
                self.wait_for(lambda: len(self.claimed() or ()) == 2)
            part.write(size - 10, memoryview(b"12345"))
            part.close(End.PEER_SILENT)
            threads_gone()
            self.assertEqual(self.claimed(), ((0, SYNC_BYTES), (size - 10, size)))
        # First the part, then the claim, then the journal.
        self.assertEqual(calls, ["sync", "claim", "sync"] * (len(calls) // 3))
        self.assertGreaterEqual(len(calls), 9)

    def test_again_at_once(self) -> None:
        """The next attempt in the same program waits for the last one to let go."""
        gate = threading.Event()
        real = os.fdatasync

        def slow(fd: int) -> None:
            gate.wait(PATIENCE)
            real(fd)

        part = self.started()
        with mock.patch("os.fdatasync", slow):
            part.write(0, memoryview(DATA)[:1000])
            part.close(End.PEER_SILENT)
            threading.Timer(0.05, gate.set).start()
            part = self.started()
        self.assertEqual(tuple(part.have), ((0, 1000),))
        part.close(End.CANCELLED)

    def test_a_disk_that_takes_too_long(self) -> None:
        """Nobody waits for it for ever; what it was about to take is there when it has."""
        gate, real = threading.Event(), os.fdatasync

        def slow(fd: int) -> None:
            gate.wait(PATIENCE)
            real(fd)

        part = self.started()
        with mock.patch("os.fdatasync", slow):
            part.write(0, memoryview(DATA)[:1000])
            part.close(End.PEER_SILENT)
            with mock.patch.object(download, "LEAVE_SECONDS", 0.01):
                error = self.assertRaises(BlockingIOError, self.started)
            self.assertIn("try again later", error.strerror)
            gate.set()
            part = self.started()
        self.assertEqual(tuple(part.have), ((0, 1000),))
        self.complete(part)

    def test_prepared_and_given_up(self) -> None:
        """What was made ready for a transfer that never began is let go, and is not in the way."""
        for left in ([], ["a.bin.part", "a.bin.part.journal"]):
            part = PartFile(self.path)
            part.expect(MTIME_MS, None)
            part.prepare(len(DATA))
            part.give_up()
            part.give_up()
            self.assertEqual(self.files(), left)
            self.leave((0, 1000))
            threads_gone()

    def test_prepared_in_vain(self) -> None:
        """What was wrong is told when it is to begin."""
        part = PartFile(self.path)
        with self.free(0):
            part.prepare(len(DATA))
        self.assertRaises(OSError, part.start, len(DATA), self.woken.set)
        self.assertEqual(self.files(), [])

    def test_another_boot_and_inode(self) -> None:
        """What came to the disk by itself before the machine stopped tells whose it is."""
        with mock.patch("chatbox.client.files.download.PartFile._sync"):
            self.leave((0, 1000))
            threads_gone()
        self.copy_part()
        with mock.patch("chatbox.client.files.journal.this_boot", lambda: b"x" * 16):
            self.assertEqual(list(self.started().have), [])

    def test_a_full_disk(self) -> None:
        """What can be resumed waits for room; a start over that finds none leaves nothing."""
        self.patch(download, "ROOM_BYTES", 0)
        self.leave((0, 1_000_000))
        for mtime_ms, left in ((MTIME_MS, ["a.bin.part", "a.bin.part.journal"]), (1, [])):
            part = PartFile(self.path)
            part.expect(mtime_ms, None)
            with self.free(RESERVE_BYTES):
                error = self.assertRaises(OSError, part.start, len(DATA), self.woken.set)
            self.assertEqual(error.errno, errno.ENOSPC)
            self.assertEqual(self.files(), left)

    def test_room_for_the_rest(self) -> None:
        """What is there needs no room once more; that of older versions had all of it."""
        self.patch(download, "ROOM_BYTES", 0)
        self.leave((0, 1_000_000))
        threads_gone()
        with self.free(RESERVE_BYTES + len(DATA) - 1_000_000):
            part = self.started()
        self.assertIs(part.beginning, Beginning.RESUMED)
        part.close(End.INTERRUPTED)
        threads_gone()
        with open(self.path + ".part", "rb+") as file:
            os.posix_fallocate(file.fileno(), 0, len(DATA))
        with self.free(0):
            self.complete(self.started())


def threads_gone() -> None:
    """Wait until the threads of closed downloads have let go of their files."""
    for thread in list(download._leaving.values()):
        thread.join(PATIENCE)
