"""The shelf: the files that a server shares.

A name that a peer sent becomes an open file here or nowhere, and these are the rules:

1. What is shared is the regular files directly in one folder, looked up afresh at each request.
2. A name is a plain base name: UTF-8, no ``/`` or ``\\``, no control characters, no dot in front.
   A file whose own name breaks that rule is not shared, and unless it is hidden by a dot the log
   says so. (``\\`` separates folders for a client on Windows.)
3. Symbolic links are neither listed nor opened, wherever they lead. Following only those that stay
   inside would mean to resolve and compare paths that may change in between; not following any is
   one flag of `os.open`. A file can be shared under a second name by a hard link.
4. What was opened must turn out to be a regular file, or is closed again. Opening never waits, so a
   fifo cannot stop the server. A device is not opened at all, for that alone may have effects.

A shared file is read by the reactor's own thread, which must not wait for a disk. So a read never
does: the system is asked for what comes next some megabytes ahead, and what is not there yet is
asked for again later.

The shared folder itself may be reached through links: who runs the server chose it. It is opened
anew each time, so a folder that was replaced by another of the same name is followed.
"""

from __future__ import annotations

import errno
import heapq
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, Protocol

from twisted.logger import Logger

from chatbox.errors import LocalError, RemoteError
from chatbox.hashing import Hasher, Hashing, Identity
from chatbox.text import is_plain_name

__all__ = ["MAX_LISTED", "Listed", "SharedFile", "Shelf"]

MAX_LISTED: Final = 10_000
"""Names in one list, the first ones in order. The list is one line of the chat; so many names of
255 bytes make 2.5 MB. A file past them is not listed but can be had by who knows its name."""

READ_AHEAD: Final = 8 << 20
"""Bytes that the system is asked to fetch before they are read: what 2.5 Gbit/s take while a disk
seeks twice."""

FETCH_BYTES: Final = 256 << 10
"""Bytes asked for in one call. Linux fetches no more at a time than the disk takes in one go, and
forgets the rest."""

_MAX_UNSHARED: Final = 20
"""Names in the log of files that are not shared: after some the operator knows why."""

MAX_REFUSALS: Final = 500
"""So often in a row a read may find nothing: a second, at the sender's pace. Then the disk is
waited for after all, since what cannot be read is never there, and only waiting tells."""

_NOWAIT: Final[int] = getattr(os, "RWF_NOWAIT", 0)
_FETCHES: Final = hasattr(os, "posix_fadvise")

_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_NOT_THERE: Final = frozenset(
    {errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ENXIO, errno.ENODEV}
)
"""Errors of opening a file that mean: there is no such regular file. ELOOP is O_NOFOLLOW's word for
a link, ENXIO and ENODEV are said of sockets and devices."""

_log = Logger()


class Opener(Protocol):
    """`os.open`, or a stand-in for it."""

    def __call__(self, path: str, flags: int, *, dir_fd: int) -> int:
        """Open `path` below `dir_fd` and return the descriptor."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of the list: a file's name and its size in bytes."""

    name: str
    size: int


class Shelf:
    """The shared folder."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        hasher: Hasher | None = None,
        opener: Opener = os.open,
    ) -> None:
        """Raises OSError if `folder` is not a folder that can be read."""
        self.folder = os.path.abspath(folder)
        self.hasher: Final = hasher or Hasher()
        self._opener = opener
        self._unshared: set[str] = set()
        """Names of which the log has said that they are not shared."""
        os.close(os.open(self.folder, _FOLDER_FLAGS))

    def list(self) -> list[Listed]:
        """Return the shared files, sorted by name, at most `MAX_LISTED` of them.

        Raises RemoteError if the folder cannot be read at present.
        """
        return [Listed(name, status.st_size) for name, status in self._look()]

    def identities(self) -> Sequence[tuple[str, Identity]]:
        """Return the same files, and in which condition they are. Raises RemoteError."""
        return [(name, Identity.of(status)) for name, status in self._look()]

    def open(self, name: str) -> SharedFile:
        """Open the shared file called `name`; the caller closes it.

        Raises RemoteError: ``bad-file-name`` if no shared file could be called that,
        ``no-such-file``, or ``file-unreadable`` if it is there but cannot be opened.
        """
        if not is_plain_name(name):
            raise RemoteError("bad-file-name", "A file's name is a plain name, without any folder.")
        with self._open_folder() as folder:
            try:
                fd, status = self._open_regular(folder, name)
            except OSError as error:
                if error.errno in _NOT_THERE:
                    raise RemoteError("no-such-file", "There is no file of that name.") from error
                raise _unreadable("this file", error) from error
        return SharedFile(name, fd, Identity.of(status), self.hasher)

    def _look(self) -> Iterator[tuple[str, os.stat_result]]:
        """Yield the shared files by name."""
        with self._open_folder() as folder:
            try:
                names = heapq.nsmallest(MAX_LISTED, self._names_in(folder))
            except OSError as error:
                raise _unreadable("its folder of files", error) from error
            for name in names:
                status = _status_of(folder, name)
                if status is not None:
                    yield name, status

    def _names_in(self, folder: int) -> Iterator[str]:
        """Yield the names of the regular files in `folder` that may be shared."""
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or not entry.is_file(follow_symlinks=False):
                    continue
                if is_plain_name(entry.name):
                    yield entry.name
                else:
                    self._note_unshared(entry.name)

    def _note_unshared(self, name: str) -> None:
        """Say once that a file cannot be shared."""
        if name in self._unshared or len(self._unshared) > _MAX_UNSHARED:
            return
        self._unshared.add(name)
        if len(self._unshared) > _MAX_UNSHARED:
            _log.warn("more files are not shared for their names")
        else:
            _log.warn(
                "not shared: {name}. A name must be UTF-8 without control characters or \\",
                name=ascii(name),
            )

    @contextmanager
    def _open_folder(self) -> Iterator[int]:
        """Lend a descriptor of the folder."""
        try:
            folder = os.open(self.folder, _FOLDER_FLAGS)
        except OSError as error:
            raise _unreadable("its folder of files", error) from error
        try:
            yield folder
        finally:
            os.close(folder)

    def _open_regular(self, folder: int, name: str) -> tuple[int, os.stat_result]:
        """Open `name` in `folder` (rules 3 and 4). Raises OSError."""
        # The first look keeps us from opening devices; the second is the one that can be relied on.
        if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise OSError(errno.ENOENT, "not a regular file")
        fd = self._opener(name, _FILE_FLAGS, dir_fd=folder)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.ENOENT, "not a regular file")
        except OSError:
            os.close(fd)
            raise
        return fd, status


class SharedFile:
    """A shared file, open for reading, as it was when it was opened."""

    def __init__(self, name: str, fd: int, identity: Identity, hasher: Hasher) -> None:
        """Take ownership of `fd`."""
        self._fd = fd
        self._hasher = hasher
        self._hashing: Hashing | None = None
        self.identity: Final = identity
        self._flags = _NOWAIT
        self._fetched = 0
        self._refusals = 0
        self.name: Final = name
        self.size: Final = self.identity.size
        self.mtime_ns: Final = self.identity.mtime_ns

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill `buffer` with what stands at byte `offset`; return how many bytes that were.

        Fewer than asked for means that the file ends there. Raises BlockingIOError if the disk has
        not given it yet, which it has been asked to: try again soon. Raises OSError.
        """
        fd = self._open_fd()
        self._fetch(max(self._fetched, offset), offset + READ_AHEAD)
        done = 0
        while done < len(buffer):
            flags = self._flags if self._refusals < MAX_REFUSALS else 0
            try:
                got = os.preadv(fd, [buffer[done:]], offset + done, flags)
                if not got and flags and os.fstat(fd).st_size > offset + done:
                    # So Linux 5.9 and 5.10 say that the disk has not given it (preadv2(2), "Bugs").
                    raise BlockingIOError(errno.EAGAIN, "not there yet")
            except BlockingIOError:
                self._refusals += 1
                self._fetch(offset + done, self.size)  # it has been asked to, and forgot
                raise
            except OSError as error:
                if not flags or error.errno != errno.EOPNOTSUPP:
                    raise
                self._flags = 0  # some file systems only know how to wait
                continue
            if not got:
                break
            done += got
        self._refusals = 0
        return done

    def _fetch(self, start: int, stop: int) -> None:
        """Ask for a little of what lies between two offsets, unless all of it was asked for."""
        if _FETCHES and start < min(stop, self.size):
            with suppress(OSError):  # it is a piece of advice, which some systems do not take
                os.posix_fadvise(self._open_fd(), start, FETCH_BYTES, os.POSIX_FADV_WILLNEED)
            self._fetched = max(self._fetched, start + FETCH_BYTES)

    def changed(self) -> bool:
        """Say whether the contents may differ from when the file was opened. Raises OSError.

        A file that was deleted or renamed meanwhile keeps its contents for us.
        """
        return not self.identity.same_contents(Identity.of(os.fstat(self._open_fd())))

    def start_hashing(self, wake: Callable[[], None]) -> None:
        """Begin to take the digest; `wake` is called, from another thread, when that has ended.

        Look at `digest` then: it is still None if the file could not be read to its end or changed
        meanwhile. Raises OSError if there are no descriptors left, or no threads.
        """
        if self._hashing is not None:
            raise LocalError("this file is being hashed already")
        self._hashing = self._hasher.start(self._open_fd(), self.identity, wake)

    def digest(self) -> bytes | None:
        """Return the sha-256 of the whole file (32 bytes), or None as long as it is not known."""
        if self._hashing is None:
            return self._hasher.remembered(self.identity)
        return self._hashing.digest

    def doubt(self) -> None:
        """Whoever got the file found another digest; may be said after closing."""
        self._hasher.doubt(self.identity)

    def close(self) -> None:
        """Close the file and stop hashing it. What was known stays known."""
        if self._hashing is not None and not self._hashing.done:
            self._hasher.stop(self._hashing)
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with suppress(OSError):  # it is closed all the same, and was only read
                os.close(fd)

    def _open_fd(self) -> int:
        if self._fd < 0:
            raise LocalError("this file was closed")
        return self._fd


def _status_of(folder: int, name: str) -> os.stat_result | None:
    """Look at a file; None if it has gone or become something else meanwhile."""
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _unreadable(what: str, error: OSError) -> RemoteError:
    """Tell the peer why, but not where: the server's paths are its own affair."""
    return RemoteError("file-unreadable", f"The server cannot read {what}: {error.strerror}.")
