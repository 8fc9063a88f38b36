"""Where a download's file goes: its names on the disk, whose they are, and what becomes of them.

There are three: `NAME`, `NAME.part` until the file is whole, and the part's journal beside it; what
NAME may be is said in `chatbox.client.files.names`. A part that no journal names is somebody
else's, for other programs have files of that name, too: it is left alone, as a file that is there
already is, unless a person has asked to replace what is there (`overwrite`). What comes into the
part, and when it is whole, is the business of `chatbox.client.files.download`.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from typing import Final

from chatbox.client import words
from chatbox.client.files.journal import Journal, is_anothers, is_of
from chatbox.client.files.names import JOURNAL_SUFFIX, PART_SUFFIX
from chatbox.files import sync_folder

__all__ = ["RESERVE_BYTES", "Place"]

RESERVE_BYTES: Final = 16 << 20
"""What is left free on the disk, for others write to it, too."""

_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})
"""What a file system without hard links (FAT) says when asked for one."""

_BAD_NAME: Final = frozenset({errno.EINVAL, errno.ENOENT, errno.EILSEQ})
"""What FAT and its like say when a new file's name has a letter that theirs cannot have, as `:`."""


class Place:
    """
    The place of one download's file, and of what is there meanwhile.

    :raises FileExistsError: if `path` is there already, or a part or journal of it that no download
        of ours has left, and `overwrite` is not given.
    :raises OSError: if it cannot become a file for another reason; its `strerror` is for people.
    """

    def __init__(self, path: str, *, overwrite: bool) -> None:
        self.path = os.path.abspath(path)
        self.part_path = self.path + PART_SUFFIX
        self.journal_path = self.path + JOURNAL_SUFFIX
        self.overwrite = overwrite
        self._folder = os.path.dirname(self.path)
        self._opened: os.stat_result | None = None
        """The part, once it is ours."""
        try:
            os.fsencode(self.path)
        except UnicodeEncodeError:
            what = "The locale here has no letters for a file of that name"
            raise OSError(errno.EILSEQ, what, self.path) from None
        if not os.path.isdir(self._folder):
            raise FileNotFoundError(errno.ENOENT, "There is no such folder", self._folder)
        if os.path.isdir(self.path):
            raise IsADirectoryError(errno.EISDIR, "That is a folder, not a file name", self.path)
        self._refuse_taken()
        with suppress(FileNotFoundError):
            os.lstat(self.journal_path)  # the longest of the names, which may be too long
        if overwrite:
            return
        with suppress(FileNotFoundError):
            size = os.lstat(self.part_path).st_size
            is_ours = is_of(self.journal_path, self.part_path)
            # Of nothing there may be no claim yet.
            self.refuse_anothers(is_ours or (not size and os.path.lexists(self.journal_path)))
        if is_anothers(self.journal_path):
            raise FileExistsError(
                errno.EEXIST,
                "There is such a file already, no journal of a download; move it away",
                self.journal_path,
            )

    def open_part(self) -> int:
        """
        Open the part, which may be new, and lock it: two downloads must not write to one file.

        :raises OSError: if that cannot be; BlockingIOError if another one does, FileExistsError if
            there is the whole file by now.
        """
        self._refuse_taken()
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        while True:
            if not os.path.lexists(self.part_path):
                # With no journal beside it, it would be somebody else's, and a kill may come now.
                self._make_journal(flags)
            fd = os.open(self.part_path, flags, 0o666)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                opened = os.fstat(fd)
                is_part = self._is_part(opened)
            except OSError as error:
                os.close(fd)
                if not isinstance(error, BlockingIOError):
                    raise
                raise BlockingIOError(
                    errno.EAGAIN, "Another download is writing to this file", self.part_path
                ) from None
            if is_part and opened.st_nlink <= 1:  # not every file system counts
                self._opened = opened
                return fd
            os.close(fd)
            if is_part:
                # It is a finished file too: a kill came between giving it its name and taking this
                # one away.
                os.unlink(self.part_path)

    def _make_journal(self, flags: int) -> None:
        """The first file of the three."""
        try:
            os.close(os.open(self.journal_path, flags, 0o666))
        except OSError as error:
            if error.errno not in _BAD_NAME or not os.path.isdir(self._folder):
                raise
            what = "The disk there takes no file of that name; save it under another"
            raise OSError(errno.EINVAL, what, self.path) from None

    def _refuse_taken(self) -> None:
        if os.path.exists(self.path) and not os.path.isfile(self.path):
            what = "That is a device or the like, not a file"
            raise OSError(errno.EINVAL, what, self.path)
        if os.path.lexists(self.path) and not self.overwrite:
            self._tidy_up()
            raise FileExistsError(errno.EEXIST, "There is such a file already", self.path)

    def _tidy_up(self) -> None:
        """Take away what a kill has left that came when the file had just been given its name."""
        with suppress(OSError):
            part = os.lstat(self.part_path)
            is_ours = is_of(self.journal_path, self.part_path)
            if is_ours and os.path.samestat(part, os.lstat(self.path)):
                self._remove(self.part_path, self.journal_path)

    def _is_part(self, opened: os.stat_result) -> bool:
        """Whether an open file is the part still. Until we had its lock another could end it, and a
        person may tidy up at any time."""
        try:
            return os.path.samestat(opened, os.lstat(self.part_path))
        except FileNotFoundError:
            return False

    def open_journal(self, part_bytes: int) -> Journal:
        """
        Open the journal of the part, which holds so much; of nothing it may be new.

        :raises OSError: if that cannot be; FileExistsError if there is none.
        """
        try:
            return Journal(self.journal_path, may_be_new=self.overwrite or not part_bytes)
        except FileNotFoundError:
            self.refuse_anothers(is_ours=False)
            raise

    def refuse_anothers(self, is_ours: bool) -> None:
        """Raise FileExistsError if the part is not known to be ours, and not to be replaced."""
        if not (is_ours or self.overwrite):
            raise FileExistsError(
                errno.EEXIST,
                "There is such a file already, not known to be an unfinished download;"
                " move it away",
                self.part_path,
            )

    def check_room(self, fd: int, size: int) -> None:
        """Raise OSError if a file of `size` bytes cannot be there, whose part is open as `fd`."""
        try:
            os.lseek(fd, size, os.SEEK_SET)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOVERFLOW):
                raise
            what = f"The disk there takes no file of {words.size_text(size)}"
            raise OSError(errno.EFBIG, what, self.path) from None
        disk = os.statvfs(self._folder)
        free = max(0, disk.f_bavail * disk.f_frsize - RESERVE_BYTES)
        missing = size - os.fstat(fd).st_blocks * 512
        if missing > free and disk.f_blocks:  # some file systems do not know
            needed, left = words.size_text(missing), words.size_text(free)
            others = words.size_text(RESERVE_BYTES)
            raise OSError(
                errno.ENOSPC,
                f"There is not enough room on the disk: {needed} to come, and {left} free"
                f" besides {others} for others",
                self.path,
            )

    def give_name(self) -> None:
        """The part is whole: give it its name, and take away the other one and the journal."""
        if self._opened is None or not self._is_part(self._opened):
            what = "The unfinished file was moved or replaced meanwhile; ask for it again"
            raise OSError(errno.ENOENT, what, self.part_path)
        if self.overwrite:
            os.replace(self.part_path, self.path)
        else:
            self._give_free_name()
        self._remove(self.journal_path)

    def _give_free_name(self) -> None:
        """Unlike a rename, a link never takes the place of a file that has appeared meanwhile."""
        taken = OSError(errno.EEXIST, "There is such a file already", self.path)
        try:
            os.link(self.part_path, self.path)
        except FileExistsError:
            raise taken from None
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if os.path.lexists(self.path):
                raise taken from None
            os.rename(self.part_path, self.path)
        else:
            with suppress(OSError):  # the next attempt takes it away
                os.unlink(self.part_path)

    def clear(self) -> None:
        """Leave nothing there of ours, unless the disk is gone, or nobody may look there."""
        with suppress(OSError):
            if self._opened is not None and self._is_part(self._opened):
                self._remove(self.part_path, self.journal_path)
            elif not os.path.lexists(self.part_path):
                self._remove(self.journal_path)

    def sync_folder(self) -> None:
        """Bring the names that are there to the disk."""
        sync_folder(self._folder)

    @staticmethod
    def _remove(*paths: str) -> None:
        """Take these away. Where one stays so does the next: a journal says whose a part is."""
        for path in paths:
            try:
                os.unlink(path)
            except FileNotFoundError:
                continue
            except OSError:
                return
