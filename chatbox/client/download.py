"""
A file on its way to the disk: `NAME.part` until it is whole and right, then `NAME`, never anything
in between.

The bytes are written where they belong as they come, in any order. A thread of its own follows the
part that is there without a gap and takes its sha-256, so that the digest is known moments after
the last byte, and does at the end what may take a while: compare the digest, bring the file to the
disk (fsync), give it its name, and bring the name to the disk (fsync of the folder). A program that
shows `NAME` to somebody can rely on it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import threading
from collections.abc import Callable, Sequence

from chatbox.rdt.ends import End
from chatbox.rdt.receiver import Verdict

PART_SUFFIX = ".part"

READ_BYTES = 1 << 20
"""One read of the hashing thread: long enough that the interpreter lock is rarely asked for."""


class PartFile:
    """
    One download's file: where `chatbox.rdt.receiver.Receiver` writes to (its `Sink`).

    :raises FileExistsError: if `path` is there already and `overwrite` is not given.
    :raises OSError: if it cannot become a file for another reason; its `strerror` is for people.
    """

    def __init__(self, path: str, *, overwrite: bool = False) -> None:
        self.path = os.path.abspath(path)
        self._part_path = self.path + PART_SUFFIX
        self._folder = os.path.dirname(self.path)
        self._overwrite = overwrite
        self._fd = -1
        self._wake: Callable[[], None] = lambda: None
        self._changed = threading.Condition()
        self._reached = 0
        self._wanted: bytes | None = None
        self._stopped = False
        self._verdict: Verdict | None = None
        self._thread: threading.Thread | None = None
        if not os.path.isdir(self._folder):
            raise FileNotFoundError(errno.ENOENT, "There is no such folder", self._folder)
        if os.path.isdir(self.path):
            raise IsADirectoryError(errno.EISDIR, "That is a folder, not a file name", self.path)
        if os.path.lexists(self.path) and not overwrite:
            raise FileExistsError(errno.EEXIST, "There is such a file already", self.path)

    @property
    def have(self) -> Sequence[tuple[int, int]]:
        """Bytes that are there from an earlier attempt."""
        return ()

    def start(self, size: int, wake: Callable[[], None]) -> None:
        """
        Make the file and room for all of it; `wake` is called from a thread when there is a
        verdict.

        :raises OSError: if the disk has not enough room, or the file cannot be made.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(self._part_path, flags, 0o666)
        try:
            self._claim()
            os.ftruncate(self._fd, 0)
            if size:
                os.posix_fallocate(self._fd, 0, size)
        except OSError as error:
            os.close(self._fd)
            self._fd = -1
            if error.errno == errno.ENOSPC:
                os.unlink(self._part_path)
                raise OSError(
                    errno.ENOSPC, "There is not enough room on the disk", self.path
                ) from None
            raise
        self._wake = wake
        self._thread = threading.Thread(target=self._follow, name="download digest", daemon=True)
        self._thread.start()

    def write(self, offset: int, data: memoryview) -> None:
        """Write down bytes of the file."""
        while data:
            written = os.pwrite(self._fd, data, offset)
            offset += written
            data = data[written:]

    def reached(self, prefix: int) -> None:
        """All before `prefix` is written."""
        with self._changed:
            self._reached = prefix
            self._changed.notify()

    def finish(self, digest: bytes) -> None:
        """The file is whole: if its sha-256 is `digest`, give it its name."""
        with self._changed:
            self._wanted = digest
            self._changed.notify()

    def verdict(self) -> Verdict | None:
        """What became of it, None until that is known."""
        return self._verdict

    def close(self, end: End) -> None:
        """Nothing more will be written. A cancelled download leaves nothing behind."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._fd >= 0:
            if end is End.CANCELLED:
                os.unlink(self._part_path)
            os.close(self._fd)
            self._fd = -1

    def _claim(self) -> None:
        """Two downloads must not write to one file."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(
                errno.EAGAIN, "Another download is writing to this file", self._part_path
            ) from None

    # ---- the thread

    def _follow(self) -> None:
        try:
            verdict = self._judge()
        except OSError as error:
            end = End.DISK_FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else End.DISK_ERROR
            verdict = Verdict(end, error.strerror or str(error))
        if verdict is not None:
            self._verdict = verdict
            self._wake()

    def _judge(self) -> Verdict | None:
        sha256 = hashlib.sha256()
        block = memoryview(bytearray(READ_BYTES))
        done = 0
        while True:
            with self._changed:
                while not self._stopped and self._reached == done and self._wanted is None:
                    self._changed.wait()
                if self._stopped:
                    return None
                reached = self._reached
            if reached == done:
                break
            while done < reached and not self._stopped:
                got = os.preadv(self._fd, [block[: reached - done]], done)
                if not got:
                    return Verdict(
                        End.DISK_ERROR, "The file was shortened while it was being written"
                    )
                sha256.update(block[:got])
                done += got
        digest = sha256.digest()
        if digest != self._wanted:
            return Verdict(End.HASH_MISMATCH)
        self._name_it()
        return Verdict(End.DONE, path=self.path, digest=digest)

    def _name_it(self) -> None:
        os.fsync(self._fd)
        if self._overwrite:
            os.replace(self._part_path, self.path)
        else:
            # Unlike a rename, a link never takes the place of a file that has appeared meanwhile.
            try:
                os.link(self._part_path, self.path)
            except FileExistsError:
                raise OSError(errno.EEXIST, "There is such a file already", self.path) from None
            os.unlink(self._part_path)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
