"""A file on its way to the disk."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from chatbox.client.download import PartFile
from chatbox.rdt.ends import End
from chatbox.rdt.receiver import Verdict

DATA = bytes(range(256)) * 9000
DIGEST = hashlib.sha256(DATA).digest()


class PartFileTests(SynchronousTestCase):
    """`NAME.part` until it is whole and right, then `NAME`."""

    def setUp(self) -> None:
        """A folder of its own."""
        self.folder = self.mktemp()
        os.mkdir(self.folder)
        self.path = os.path.join(self.folder, "a.bin")
        self.woken = threading.Event()

    def started(self, *, overwrite: bool = False) -> PartFile:
        """A part file with room for DATA."""
        part = PartFile(self.path, overwrite=overwrite)
        part.start(len(DATA), self.woken.set)
        return part

    def fill(self, part: PartFile) -> None:
        """Write DATA in three pieces, the last one first."""
        view, third = memoryview(DATA), len(DATA) // 3
        for start, stop in ((2 * third, len(DATA)), (0, third), (third, 2 * third)):
            part.write(start, view[start:stop])
        part.reached(len(DATA))

    def finished(self, part: PartFile, digest: bytes = DIGEST) -> Verdict | None:
        """Finish, and wait for the thread's verdict; 60 s are a guard against a hang."""
        part.finish(digest)
        self.assertTrue(self.woken.wait(60))
        verdict = part.verdict()
        part.close(verdict.end if verdict else End.DISK_ERROR)
        return verdict

    def files(self) -> list[str]:
        """What is in the folder."""
        return sorted(os.listdir(self.folder))

    def test_whole_and_right(self) -> None:
        """A file whose digest is right gets its name, and nothing else is left."""
        part = self.started()
        self.assertEqual(self.files(), ["a.bin.part"])
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
        """A file whose digest is wrong does not get its name."""
        part = self.started()
        self.fill(part)
        verdict = self.finished(part, bytes(32))
        self.assertEqual(verdict and verdict.end, End.HASH_MISMATCH)
        self.assertEqual(self.files(), ["a.bin.part"])

    def test_room_is_made_first(self) -> None:
        """The whole file has its blocks before the first byte comes."""
        part = self.started()
        status = os.stat(self.path + ".part")
        self.assertEqual(status.st_size, len(DATA))
        self.assertGreaterEqual(status.st_blocks * 512, len(DATA))
        part.close(End.CANCELLED)

    def test_no_room(self) -> None:
        """A disk that is too full says so before the first byte, and nothing is left on it."""
        part = PartFile(self.path)
        full = OSError(errno.ENOSPC, "No space left on device")
        with mock.patch("os.posix_fallocate", side_effect=full):
            error = self.assertRaises(OSError, part.start, 10, self.woken.set)
        self.assertEqual(
            (error.errno, error.strerror), (errno.ENOSPC, "There is not enough room on the disk")
        )
        self.assertEqual(self.files(), [])

    def test_cancelled_leaves_nothing(self) -> None:
        """What somebody cancelled is gone."""
        part = self.started()
        part.write(0, memoryview(DATA)[:1000])
        part.close(End.CANCELLED)
        self.assertEqual(self.files(), [])

    def test_broken_off_leaves_the_part(self) -> None:
        """What broke off by itself is kept."""
        part = self.started()
        part.close(End.PEER_SILENT)
        part.close(End.PEER_SILENT)
        self.assertEqual(self.files(), ["a.bin.part"])

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
        self.assertEqual(self.files(), ["a.bin", "a.bin.part"])
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

    def test_bad_names(self) -> None:
        """A folder that is not there, and a name that is a folder, are refused in words."""
        missing = self.assertRaises(
            FileNotFoundError, PartFile, os.path.join(self.folder, "no", "a")
        )
        self.assertEqual(missing.strerror, "There is no such folder")
        folder = self.assertRaises(IsADirectoryError, PartFile, self.folder)
        self.assertEqual(folder.strerror, "That is a folder, not a file name")

    def test_part_is_a_link(self) -> None:
        """A link that somebody put where the part belongs is not followed."""
        victim = os.path.join(self.folder, "victim")
        with open(victim, "wb") as file:
            file.write(b"precious")
        os.symlink(victim, self.path + ".part")
        part = PartFile(self.path)
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
