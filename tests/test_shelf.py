"""Tests of the shelf: which files are shared, and what becomes of a hostile name."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from chatbox import shelf as shelf_module
from chatbox.errors import LocalError, RemoteError
from chatbox.shelf import (
    _MAX_UNSHARED,
    FETCH_BYTES,
    MAX_REFUSALS,
    READ_AHEAD,
    Listed,
    SharedFile,
    Shelf,
)
from chatbox.text import is_plain_name

HOSTILE_NAMES = [
    # nothing at all, or this and other folders
    "", ".", "..", "...", "/", "//", "./", "../", "\\", "..\\",
    # out of the folder
    "../secret.txt", "../../etc/passwd", "..\\secret.txt", "a/../../secret.txt", "./good.txt",
    "inner/../good.txt", "inner/deep.txt", "inner/", "good.txt/", "/good.txt", "good.txt/..",
    "//good.txt", "\\good.txt", "inner\\deep.txt", "C:\\good.txt", "\\\\host\\share\\good.txt",
    # absolute
    "/etc/passwd", "/etc/shadow", "/proc/self/environ", "/proc/self/fd/0", "/dev/zero",
    "/dev/stdin", "~/.ssh/id_rsa", "file:///etc/passwd",
    # hidden
    ".hidden", ".htaccess", ".git", "..good.txt", "..%2fsecret.txt", ".good.txt.swp",
    ".\u200fgood.txt",
    # an end of the string before the end
    "\0", "good.txt\0", "good.txt\0.png", "\0good.txt", "../secret.txt\0good.txt",
    # characters that a terminal, a log or a line protocol would obey
    "good.txt\n", "good.txt\r\n", "good\ttxt", "\x1b[2Jgood.txt", "good\x7f.txt", "\x9b2Jgood.txt",
    "good.txt\u2028", "good\u2029.txt", "\u202etxt.doog", "\u2066good.txt\u2069", "good.txt\x85",
    # not to be written as UTF-8
    "\ud800", "good\udcff.txt", "\udc80", "\udcc0\udcaf..",
    # too long for any file system
    "x" * 256, "\u00e9" * 128, "a" * 5000, "../" * 2000 + "etc/passwd",
]  # fmt: skip
"""Names that must be refused without a look at the disk."""

NO_SUCH_NAMES = [
    # nearly the name of a shared file
    "missing.txt", "GOOD.TXT", "good.tx", "good.txt ", " good.txt", "good.txt.", "'good.txt'",
    "\uff47ood.txt", "good.txt:x", "<m:good.txt>", "good.txt\u200f",
    # what another program would expand, decode or run
    "*", "?", "good.*", "%2e%2e%2fsecret.txt", "$HOME", "`id`", "; ls", "-rf", "~", "~root",
    "\u2024\u2024\u2215secret.txt", "\uff0e\uff0e\uff0fsecret.txt", "CON", "NUL", "x" * 255,
    # what is there, but is no regular file
    "folder", "to-good", "to-secret", "to-folder", "to-passwd", "dangling", "loop", "fifo",
    "socket",
]  # fmt: skip
"""Names that could be a file's but are not a shared file's here."""


class ShelfTestCase(SynchronousTestCase):
    """A folder with something of each kind in it."""

    def setUp(self) -> None:
        self.base = self.mktemp()
        self.folder = os.path.join(self.base, "shared")
        os.makedirs(os.path.join(self.folder, "folder"))
        self.write("good.txt", b"good")
        self.write("folder/deep.txt", b"deep")
        self.write("../secret.txt", b"secret")
        self.shelf = Shelf(self.folder)

    def path(self, name: str) -> str:
        """Where `name` is on the disk."""
        return os.path.join(self.folder, name)

    def write(self, name: str, contents: bytes) -> None:
        """Make or replace a file."""
        with open(self.path(name), "wb") as file:
            file.write(contents)

    def open(self, name: str) -> SharedFile:
        """Open a shared file and close it after the test."""
        shared = self.shelf.open(name)
        self.addCleanup(shared.close)
        return shared

    def refusal(self, name: str) -> str:
        """The code with which opening `name` is refused."""
        before = self.open_paths()
        error = self.assertRaises(RemoteError, self.shelf.open, name)
        self.assertEqual(self.open_paths(), before, "a descriptor was left open")
        self.assertNotIn(os.path.abspath(self.base), error.detail)
        return str(error.code)

    def open_paths(self) -> list[str]:
        """What this process has open in the folder or beside it."""
        found = []
        for number in os.listdir("/proc/self/fd"):
            try:
                found.append(os.readlink(f"/proc/self/fd/{number}"))
            except FileNotFoundError:  # the one that listdir itself used
                continue
        return sorted(path for path in found if path.startswith(os.path.realpath(self.base)))


class ListTests(ShelfTestCase):
    """What the list shows."""

    def test_files_are_listed_by_name_with_their_sizes(self) -> None:
        """Regular files, sorted, empty ones and odd but plain names included."""
        self.write("b.bin", b"12345")
        self.write("a", b"")
        self.write("grüße 日本.txt", b"x")
        self.write("it's [one], <two> & three.txt", b"xy")
        self.assertEqual(
            self.shelf.list(),
            [
                Listed("a", 0),
                Listed("b.bin", 5),
                Listed("good.txt", 4),
                Listed("grüße 日本.txt", 1),
                Listed("it's [one], <two> & three.txt", 2),
            ],
        )

    def test_only_regular_files_are_listed(self) -> None:
        """No folder, dot file, link, fifo or socket is shared."""
        make_everything_else(self, self.folder)
        self.assertEqual(self.shelf.list(), [Listed("good.txt", 4)])

    def test_names_that_could_not_be_asked_for_are_not_listed(self) -> None:
        """A name that is not UTF-8, or holds control characters or a backslash, stays unseen."""
        folder = os.fsencode(self.folder)
        for name in (
            b"not utf-8 \xff",
            b"bell\x07",
            b"line\nbreak",
            b"back\\slash",
            b"\xe2\x80\xaeb",
        ):
            with open(os.path.join(folder, name), "wb"):
                pass
        self.write(".hidden\x07", b"")
        with capturedLogs() as logs:
            for _ in range(2):
                self.assertEqual(self.shelf.list(), [Listed("good.txt", 4)])
        said = [formatEvent(event).partition(". ")[0] for event in logs]
        expected = [r"'back\\slash'", r"'bell\x07'", r"'line\nbreak'", r"'\u202eb'"]
        expected += [r"'not utf-8 \udcff'"]
        self.assertCountEqual(said, [f"not shared: {name}" for name in expected])

    def test_log_of_them_is_bounded(self) -> None:
        """A folder full of such names does not fill the log."""
        for number in range(_MAX_UNSHARED + 3):
            self.write(f"{number}\x07", b"")
        with capturedLogs() as logs:
            self.shelf.list()
        self.assertEqual(len(logs), _MAX_UNSHARED + 1)
        self.assertIn("more files", formatEvent(logs[-1]))

    def test_list_is_fresh_each_time(self) -> None:
        """Files that come, grow and go are seen at the next request."""
        self.write("new", b"1")
        self.assertEqual(self.shelf.list(), [Listed("good.txt", 4), Listed("new", 1)])
        self.write("new", b"12")
        os.unlink(self.path("good.txt"))
        self.assertEqual(self.shelf.list(), [Listed("new", 2)])

    def test_list_is_bounded(self) -> None:
        """A huge folder gives the first names; a file past them can still be opened."""
        self.patch(shelf_module, "MAX_LISTED", 3)
        for name in "fedcba":
            self.write(name, b"")
        self.assertEqual([listed.name for listed in self.shelf.list()], ["a", "b", "c"])
        self.assertEqual(self.open("f").size, 0)

    def test_file_that_goes_while_listing_is_left_out(self) -> None:
        """A file deleted, or replaced by a folder, after its name was read is not listed."""
        self.write("gone", b"")
        self.write("replaced", b"")
        real_stat = os.stat

        def stat_after_changes(name: str, **options: object) -> os.stat_result:
            if name == "gone":
                os.unlink(self.path(name))
            if name == "replaced":
                os.unlink(self.path(name))
                os.mkdir(self.path(name))
            return real_stat(name, **options)  # type: ignore[arg-type]

        with patch("chatbox.shelf.os.stat", stat_after_changes):
            self.assertEqual(self.shelf.list(), [Listed("good.txt", 4)])

    def test_missing_folder_is_told_to_who_asks(self) -> None:
        """If the folder vanishes the request is refused; when it is back so are its files."""
        os.rename(self.folder, self.folder + ".away")
        error = self.assertRaises(RemoteError, self.shelf.list)
        self.assertEqual(error.code, "file-unreadable")
        self.assertEqual(self.refusal("good.txt"), "file-unreadable")
        os.rename(self.folder + ".away", self.folder)
        self.assertEqual(self.shelf.list(), [Listed("good.txt", 4)])

    def test_folder_that_opens_and_cannot_be_listed(self) -> None:
        """That is told to who asks, too."""
        for trouble in (errno.EMFILE, errno.EIO):
            with patch("chatbox.shelf.os.scandir", side_effect=OSError(trouble, "trouble")):
                for ask in (self.shelf.list, self.shelf.identities):
                    self.assertEqual(self.assertRaises(RemoteError, ask).code, "file-unreadable")

    def test_listing_leaves_nothing_open(self) -> None:
        """No descriptor stays behind."""
        before = self.open_paths()
        self.shelf.list()
        self.assertEqual(self.open_paths(), before)
        shared = self.open("good.txt")
        self.assertEqual(len(self.open_paths()), len(before) + 1)
        shared.close()
        self.assertEqual(self.open_paths(), before)


class FolderTests(SynchronousTestCase):
    """The folder given by who runs the server."""

    def test_folder_must_be_a_folder(self) -> None:
        """A missing folder and a file are refused at once."""
        path = self.mktemp()
        self.assertRaises(FileNotFoundError, Shelf, path)
        with open(path, "wb"):
            pass
        self.assertRaises(NotADirectoryError, Shelf, path)

    def test_folder_may_be_a_link(self) -> None:
        """Who runs the server may name the folder by a symbolic link."""
        folder, link = self.mktemp(), self.mktemp()
        os.mkdir(folder)
        os.symlink(os.path.abspath(folder), link)
        with open(os.path.join(folder, "file"), "wb"):
            pass
        self.assertEqual(Shelf(link).list(), [Listed("file", 0)])

    def test_relative_folder_survives_a_change_of_folder(self) -> None:
        """A daemon changes its working folder; the shelf stays where it was."""
        folder = self.mktemp()
        os.mkdir(folder)
        shelf = Shelf(os.path.relpath(folder))
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir("/")
        self.assertEqual(shelf.list(), [])


class OpenTests(ShelfTestCase):
    """What can be opened, and how it is refused."""

    def test_open_file_can_be_read(self) -> None:
        """The name, size and contents of a shared file are there to read."""
        self.write("data", bytes(range(100)))
        shared = self.open("data")
        self.assertEqual((shared.name, shared.size), ("data", 100))
        self.assertEqual(shared.mtime_ns, os.stat(self.path("data")).st_mtime_ns)
        buffer = memoryview(bytearray(10))
        self.assertEqual(shared.read_into(20, buffer), 10)
        self.assertEqual(bytes(buffer), bytes(range(20, 30)))

    def test_hostile_names_are_refused_unseen(self) -> None:
        """No hostile name gets as far as the disk."""
        self.assertEqual(len(HOSTILE_NAMES), len(set(HOSTILE_NAMES)))
        make_everything_else(self, self.folder)
        with patch("chatbox.shelf.os.open", side_effect=AssertionError("looked at the disk")):
            for name in HOSTILE_NAMES:
                self.assertEqual(self.refusal(name), "bad-file-name", repr(name))

    def test_names_of_no_shared_file_are_refused(self) -> None:
        """What is missing, a folder, a link, a fifo or a socket is no such file."""
        make_everything_else(self, self.folder)
        for name in NO_SUCH_NAMES:
            self.assertEqual(self.refusal(name), "no-such-file", repr(name))

    def test_links_are_not_followed(self) -> None:
        """Not even a link to a shared file is opened, and a hard link is a file."""
        os.symlink("good.txt", self.path("soft"))
        os.link(self.path("good.txt"), self.path("hard"))
        self.assertEqual(self.refusal("soft"), "no-such-file")
        self.assertEqual(self.open("hard").size, 4)

    def test_file_that_turns_into_a_link_is_not_followed(self) -> None:
        """A link put in the file's place between the look and the opening is refused."""

        def open_after_swap(path: str, flags: int, *, dir_fd: int) -> int:
            os.unlink(self.path("good.txt"))
            os.symlink("../secret.txt", self.path("good.txt"))
            return os.open(path, flags, dir_fd=dir_fd)

        self.shelf = Shelf(self.folder, opener=open_after_swap)
        self.assertEqual(self.refusal("good.txt"), "no-such-file")

    def test_file_that_turns_into_a_fifo_does_not_block(self) -> None:
        """A fifo put in the file's place between the look and the opening is closed again."""

        def open_after_swap(path: str, flags: int, *, dir_fd: int) -> int:
            os.unlink(self.path("good.txt"))
            os.mkfifo(self.path("good.txt"))
            return os.open(path, flags, dir_fd=dir_fd)

        self.shelf = Shelf(self.folder, opener=open_after_swap)
        self.assertEqual(self.refusal("good.txt"), "no-such-file")

    def test_devices_are_not_even_opened(self) -> None:
        """Opening a device may have effects, so the kind is looked at first."""
        opened: list[str] = []

        def note(path: str, flags: int, *, dir_fd: int) -> int:
            opened.append(path)
            return os.open(path, flags, dir_fd=dir_fd)

        self.shelf = Shelf("/dev", opener=note)
        self.assertEqual(self.refusal("null"), "no-such-file")
        self.assertEqual(opened, [])

    def test_unreadable_file_is_refused_with_the_reason(self) -> None:
        """A file that we may not read, or that the disk fails to give, is named unreadable."""
        for number in (errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE):

            def fail(path: str, flags: int, *, dir_fd: int, number: int = number) -> int:
                raise OSError(number, os.strerror(number), path)

            self.shelf = Shelf(self.folder, opener=fail)
            self.assertEqual(self.refusal("good.txt"), "file-unreadable")
            error = self.assertRaises(RemoteError, self.shelf.open, "good.txt")
            self.assertIn(os.strerror(number), error.detail)

    def test_file_that_cannot_be_looked_at(self) -> None:
        """Where a mount goes away after the file was opened, it is closed and refused."""
        before = self.open_paths()
        with patch("chatbox.shelf.os.fstat", side_effect=OSError(errno.ENOTCONN, "gone")):
            self.assertEqual(self.refusal("good.txt"), "file-unreadable")
        self.assertEqual(self.open_paths(), before)

    def test_opening_does_not_wait_or_follow_or_leak_into_children(self) -> None:
        """The flags that the rules rest on are set, and the file is only read."""
        seen: list[int] = []

        def note(path: str, flags: int, *, dir_fd: int) -> int:
            seen.append(flags)
            return os.open(path, flags, dir_fd=dir_fd)

        self.shelf = Shelf(self.folder, opener=note)
        self.open("good.txt")
        wanted = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        self.assertEqual(seen[0] & wanted, wanted)
        self.assertEqual(seen[0] & os.O_ACCMODE, os.O_RDONLY)

    def test_file_deleted_after_listing_is_no_such_file(self) -> None:
        """Who asks for what has just gone is told so."""
        self.assertEqual([listed.name for listed in self.shelf.list()], ["good.txt"])
        os.unlink(self.path("good.txt"))
        self.assertEqual(self.refusal("good.txt"), "no-such-file")

    @given(st.text(st.characters(), max_size=20))
    def test_any_name_opens_a_listed_file_or_is_refused(self, name: str) -> None:
        """Names made at random raise RemoteError or nothing."""
        try:
            self.shelf.open(name).close()
        except RemoteError as error:
            expected = {True: "no-such-file", False: "bad-file-name"}[is_plain_name(name)]
            self.assertEqual(error.code, expected)
        else:
            self.assertEqual(name, "good.txt")


@pytest.mark.parametrize("name", [*HOSTILE_NAMES, *NO_SUCH_NAMES], ids=ascii)
def test_hostile_name_is_neither_opened_nor_listed(name: str, tmp_path: os.PathLike[str]) -> None:
    """Even where the disk has a file of that very name beside the shelf, it cannot be had."""
    folder = os.path.join(tmp_path, "shared")
    os.makedirs(folder)
    with open(os.path.join(tmp_path, "secret.txt"), "wb"):
        pass
    shelf = Shelf(folder)
    with pytest.raises(RemoteError):
        shelf.open(name)
    assert shelf.list() == []


class ReadTests(ShelfTestCase):
    """An open file while the disk changes under it."""

    def read(self, shared: SharedFile, offset: int, size: int) -> bytes:
        """Read up to `size` bytes."""
        buffer = memoryview(bytearray(size))
        return bytes(buffer[: shared.read_into(offset, buffer)])

    def test_cold_file(self) -> None:
        """What is not in memory is not waited for, but asked for; then it is all there."""
        contents = os.urandom(1 << 20)
        self.write("data", contents)
        shared = self.open("data")
        with open(self.path("data"), "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        read = b""
        while len(read) < len(contents):
            with contextlib.suppress(BlockingIOError):
                read += self.read(shared, len(read), 50_000)
        self.assertEqual(read, contents)

    def test_a_disk_that_is_not_ready(self) -> None:
        """The system is asked to fetch what it does not have, and again if it has forgotten."""
        self.write("data", bytes(100))
        shared = self.open("data")
        refuse = patch("chatbox.shelf.os.preadv", side_effect=BlockingIOError)
        with refuse, patch("chatbox.shelf.os.posix_fadvise") as fetch:
            for _ in range(2):
                with self.assertRaises(BlockingIOError):
                    self.read(shared, 30, 10)
        self.assertEqual([args[1] for args, _ in fetch.call_args_list], [30, 30, 30])
        self.assertEqual(self.read(shared, 30, 10), bytes(10))

    def test_a_disk_that_is_never_ready(self) -> None:
        """What cannot be read is never there: in the end it is waited for, and the error told."""
        shared = self.open("good.txt")

        def broken(fd: int, buffers: list[memoryview], offset: int, flags: int) -> int:
            raise BlockingIOError if flags else OSError(errno.EIO, "bad sector")

        with patch("chatbox.shelf.os.preadv", side_effect=broken):
            for _ in range(MAX_REFUSALS):
                self.assertRaises(BlockingIOError, self.read, shared, 0, 4)
            error = self.assertRaises(OSError, self.read, shared, 0, 4)
            self.assertEqual(error.errno, errno.EIO)
        self.assertEqual(self.read(shared, 0, 4), b"good")

    def test_a_system_that_takes_it_for_the_end(self) -> None:
        """Some kernels say of what the disk has not given that the file ends there."""
        shared = self.open("good.txt")
        plain = os.preadv

        def empty(fd: int, buffers: list[memoryview], offset: int, flags: int) -> int:
            return 0 if flags else plain(fd, buffers, offset)

        with patch("chatbox.shelf.os.preadv", side_effect=empty):
            for _ in range(MAX_REFUSALS):
                self.assertRaises(BlockingIOError, self.read, shared, 0, 4)
            self.assertEqual(self.read(shared, 0, 4), b"good")
            os.truncate(self.path("good.txt"), 2)
            self.assertEqual(self.read(shared, 2, 2), b"")  # it is the end

    def test_fetched_ahead(self) -> None:
        """A file that is read from its beginning is asked for once, always some way ahead."""
        self.write("data", b"")
        os.truncate(self.path("data"), READ_AHEAD + (2 << 20))
        shared = self.open("data")
        with patch("chatbox.shelf.os.posix_fadvise") as fetch:
            for offset in range(0, shared.size, 60_000):
                self.read(shared, offset, 60_000)
        starts = [args[1] for args, _ in fetch.call_args_list]
        self.assertEqual(starts, list(range(0, shared.size, FETCH_BYTES)))

    def test_file_system_that_only_waits(self) -> None:
        """Where reading without waiting is not known, it is read all the same."""
        shared = self.open("good.txt")
        plain = os.preadv

        def old(fd: int, buffers: list[memoryview], offset: int, flags: int) -> int:
            if flags:
                raise OSError(errno.EOPNOTSUPP, "not supported")
            return plain(fd, buffers, offset)

        with patch("chatbox.shelf.os.preadv", side_effect=old):
            self.assertEqual(self.read(shared, 0, 4), b"good")

    def test_system_that_takes_no_advice(self) -> None:
        """Where nothing can be fetched ahead, it is read all the same."""
        shared = self.open("good.txt")
        refusal = OSError(errno.ENOSYS, "Function not implemented")
        with patch("chatbox.shelf.os.posix_fadvise", side_effect=refusal):
            self.assertEqual(self.read(shared, 0, 4), b"good")

    def test_deleted_file_can_be_read_to_its_end(self) -> None:
        """Deleting or renaming leaves an open file whole and unchanged."""
        shared = self.open("good.txt")
        os.unlink(self.path("good.txt"))
        self.assertEqual(self.read(shared, 0, 4), b"good")
        self.assertFalse(shared.changed())

    def test_shortened_file_gives_fewer_bytes(self) -> None:
        """What is no longer there is not made up."""
        shared = self.open("good.txt")
        os.truncate(self.path("good.txt"), 2)
        self.assertEqual(self.read(shared, 0, 4), b"go")
        self.assertEqual(self.read(shared, 3, 1), b"")
        self.assertTrue(shared.changed())

    def test_change_of_contents_is_noticed(self) -> None:
        """A file that grew or was rewritten in its old size has changed."""
        shared = self.open("good.txt")
        self.assertFalse(shared.changed())
        os.utime(self.path("good.txt"), ns=(0, shared.mtime_ns + 1))
        self.assertTrue(shared.changed())
        grown = self.open("good.txt")
        self.write("good.txt", b"goods")
        os.utime(self.path("good.txt"), ns=(0, grown.mtime_ns))
        self.assertTrue(grown.changed())

    def test_change_of_rights_is_none_of_contents(self) -> None:
        """A change of mode or a new link leaves the contents alone."""
        shared = self.open("good.txt")
        os.chmod(self.path("good.txt"), stat.S_IRUSR)
        os.link(self.path("good.txt"), self.path("second"))
        self.assertFalse(shared.changed())

    def test_empty_file(self) -> None:
        """An empty file opens and has nothing to read."""
        self.write("empty", b"")
        shared = self.open("empty")
        self.assertEqual(shared.size, 0)
        self.assertEqual(self.read(shared, 0, 10), b"")

    def test_sparse_file_past_4_gib(self) -> None:
        """Sizes and offsets need more than 32 bits."""
        size = (5 << 30) + 3
        with open(self.path("large"), "wb") as file:
            file.truncate(size)
            file.seek(size - 3)
            file.write(b"end")
        self.assertIn(Listed("large", size), self.shelf.list())
        shared = self.open("large")
        self.assertEqual(shared.size, size)
        self.assertEqual(self.read(shared, size - 4, 10), b"\0end")

    def test_short_reads_are_joined(self) -> None:
        """A system call may give less than is there; the caller does not notice."""
        real_preadv = os.preadv

        def stingy(fd: int, buffers: list[memoryview], offset: int, flags: int) -> int:
            return real_preadv(fd, [buffers[0][:1]], offset, flags)

        shared = self.open("good.txt")
        with patch("chatbox.shelf.os.preadv", stingy):
            self.assertEqual(self.read(shared, 0, 10), b"good")

    def test_failing_disk_is_the_weather(self) -> None:
        """An error of the disk stays an OSError."""
        shared = self.open("good.txt")
        with patch("chatbox.shelf.os.preadv", side_effect=OSError(errno.EIO, "broken")):
            self.assertRaises(OSError, self.read, shared, 0, 4)

    def test_closing_twice_is_closing_once(self) -> None:
        """Closing is idempotent and does not close what has the number now."""
        shared = self.shelf.open("good.txt")
        shared.close()
        other = self.open("good.txt")
        shared.close()
        self.assertEqual(self.read(other, 0, 4), b"good")

    def test_closing_with_trouble(self) -> None:
        """Whatever the system says of it, a descriptor is closed then, and perhaps another's."""
        file = self.shelf.open("good.txt")
        close, closed = os.close, list[int]()

        def fail(fd: int) -> None:
            closed.append(fd)
            close(fd)
            raise OSError(errno.EIO, "Input/output error")

        with patch("os.close", fail):
            file.close()
            file.close()
        self.assertEqual(len(closed), 1)

    def test_closed_file_is_not_to_be_used(self) -> None:
        """To read from a closed file is a bug of ours, and is called one."""
        shared = self.shelf.open("good.txt")
        shared.close()
        self.assertRaises(LocalError, self.read, shared, 0, 4)
        self.assertRaises(LocalError, shared.changed)
        self.assertRaises(LocalError, shared.start_hashing, lambda: None)


def make_everything_else(case: SynchronousTestCase, folder: str) -> None:
    """Put into `folder` one of each kind of thing that is not shared."""
    with open(os.path.join(folder, ".hidden"), "wb"):
        pass
    for name, target in {
        "to-good": "good.txt",
        "to-secret": "../secret.txt",
        "to-folder": "folder",
        "dangling": "nothing",
        "loop": "loop",
        "to-passwd": "/etc/passwd",
    }.items():
        os.symlink(target, os.path.join(folder, name))
    os.mkfifo(os.path.join(folder, "fifo"))
    listener = socket.socket(socket.AF_UNIX)
    case.addCleanup(listener.close)
    before = os.getcwd()
    os.chdir(folder)  # the paths of sockets must be short
    try:
        listener.bind("socket")
    finally:
        os.chdir(before)
