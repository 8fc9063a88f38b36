"""A file on its way to the disk, stopped at every point: by a kill, and by a loss of power."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any, Final
from unittest import mock

from chatbox.client.files import download, journal
from chatbox.client.files.journal import PAGE_BYTES, pack, unpack
from chatbox.rdt.ends import End
from tests.helpers.processes import PATIENCE
from tests.test_download import DATA, MTIME_MS, DownloadTestCase, threads_gone

FILE: Final = DATA[:9000]

ZEROS: Final = bytes(9000)
"""A file in which nothing tells it from others."""

Names = dict[str, int]
"""The files of a folder, by number."""

Change = Callable[[bytes], bytes]
"""What a system call makes of a file's contents."""


class Recorded:
    """What a folder and its files were at each point, and what of it was on the disk."""

    def __init__(self) -> None:
        self.points = 0
        self.inodes: list[int] = []
        """What the file system called each file."""
        self._names: list[tuple[int, Names]] = [(0, {})]
        """Since which point they were what."""
        self._folder_syncs = [0]
        self._changes: list[list[tuple[int, Change]]] = []
        """Of each file, at which points."""
        self._syncs: list[list[int]] = []

    def names_become(self, names: Names) -> None:
        """A name came, went or was changed."""
        self.points += 1
        self._names.append((self.points, dict(names)))

    def new_file(self, inode: int) -> int:
        """There is another one; returns its number."""
        self.inodes.append(inode)
        self._changes.append([])
        self._syncs.append([0])
        return len(self.inodes) - 1

    def change(self, file: int, change: Change) -> None:
        """A file's contents were changed."""
        self.points += 1
        self._changes[file].append((self.points, change))

    def sync(self, file: int | None) -> None:
        """A file was brought to the disk, or the names."""
        self.points += 1
        (self._folder_syncs if file is None else self._syncs[file]).append(self.points)

    def names(self) -> Names:
        """The present ones."""
        return dict(self._names[-1][1])

    def after_kill(self, point: int) -> dict[str, tuple[int, bytes]]:
        """What is there when the program ends at some point: files and contents."""
        names = [names for at, names in self._names if at <= point][-1]
        return {
            name: (file, _made(change for at, change in self._changes[file] if at <= point))
            for name, file in names.items()
        }

    def after_power_cut(self, point: int) -> Iterator[dict[str, tuple[int, bytes]]]:
        """What may be there if the machine stops. What was brought to the disk is; of the rest the
        names change in their order, up to anywhere, and contents in any order: all of it may be
        there, nothing, one change alone, or all but one.
        """
        synced = max(at for at in self._folder_syncs if at <= point)
        since = max(at for at, _ in self._names if at <= synced)
        for names in [names for at, names in self._names if since <= at <= point]:
            choices = [list(self._contents(file, point)) for file in names.values()]
            for contents in product(*choices):
                yield {
                    name: (file, data)
                    for (name, file), data in zip(names.items(), contents, strict=True)
                }

    def _contents(self, file: int, point: int) -> Iterable[bytes]:
        synced = max(at for at in self._syncs[file] if at <= point)
        sure = [change for at, change in self._changes[file] if at <= synced]
        rest = [change for at, change in self._changes[file] if synced < at <= point]
        kept = [rest, []]
        kept += [[change] for change in rest]
        kept += [rest[:at] + rest[at + 1 :] for at in range(len(rest))]
        return {_made([*sure, *some]) for some in kept}


def _made(changes: Iterable[Change]) -> bytes:
    data = b""
    for change in changes:
        data = change(data)
    return data


@contextmanager
def recorded(folder: str) -> Iterator[Recorded]:
    """Note what is done to a folder and its files."""
    notes, files = Recorded(), dict[int, int | None]()
    real = {name: getattr(os, name) for name in ("open", "close")}

    def opening(path: str, flags: int, *rest: int) -> int:
        is_new = not os.path.lexists(path)
        fd: int = real["open"](path, flags, *rest)
        if path == folder:
            files[fd] = None
        elif os.path.dirname(path) == folder:
            names = notes.names()
            if is_new:
                names[path] = notes.new_file(os.fstat(fd).st_ino)
                notes.names_become(names)
            files[fd] = names[path]
        return fd

    def closing(fd: int) -> None:
        files.pop(fd, None)
        real["close"](fd)

    def noting(name: str, note: Callable[..., None]) -> Callable[..., Any]:
        call = getattr(os, name)

        def noted(*args: Any) -> Any:
            found = call(*args)
            note(*args)
            return found

        return noted

    def write(fd: int, data: bytes, offset: int) -> None:
        contents = bytes(data)
        for start in range(0, len(contents), PAGE_BYTES):  # which is what a disk writes whole
            notes.change(_file(fd), _writing(contents[start : start + PAGE_BYTES], offset + start))

    def reserve(fd: int, offset: int, size: int) -> None:
        notes.change(_file(fd), lambda data: data.ljust(offset + size, b"\0"))

    def truncate(fd: int, size: int) -> None:
        notes.change(_file(fd), lambda data: data[:size].ljust(size, b"\0"))

    def link(source: str, target: str) -> None:
        names = notes.names()
        names[target] = names[source]
        notes.names_become(names)

    def unlink(path: str) -> None:
        names = notes.names()
        del names[path]
        notes.names_become(names)

    def rename(source: str, target: str) -> None:
        names = notes.names()
        names[target] = names.pop(source)
        notes.names_become(names)

    def sync(fd: int) -> None:
        notes.sync(files[fd])

    def _file(fd: int) -> int:
        file = files[fd]
        assert file is not None
        return file

    with ExitStack() as patches:
        for name, instead in (
            ("open", opening),
            ("close", closing),
            ("pwrite", noting("pwrite", write)),
            ("posix_fallocate", noting("posix_fallocate", reserve)),
            ("ftruncate", noting("ftruncate", truncate)),
            ("fdatasync", noting("fdatasync", sync)),
            ("fsync", noting("fsync", sync)),
            ("link", noting("link", link)),
            ("unlink", noting("unlink", unlink)),
            ("rename", noting("rename", rename)),
            ("replace", noting("replace", rename)),
        ):
            patches.enter_context(mock.patch(f"os.{name}", instead))
        yield notes


def _writing(piece: bytes, at: int) -> Change:
    return lambda data: data[:at].ljust(at, b"\0") + piece + data[at + len(piece) :]


class CrashTests(DownloadTestCase):
    """Whenever it is stopped, the next attempt goes on, or starts over, by itself."""

    def setUp(self) -> None:
        """A thread that does nothing by itself."""
        super().setUp()
        self.patch(download, "SYNC_SECONDS", 10 * PATIENCE)
        self.patch(download, "ROOM_BYTES", 100)

    def attempt(self, file: bytes, end: End | None = None, *, mtime_ms: int = MTIME_MS) -> None:
        """Get a file to its end, the last part first, or half of it to another end."""
        part = self.started(size=len(file), mtime_ms=mtime_ms)
        for start, stop in part.have:
            with open(f"{self.path}.part", "rb") as found:
                found.seek(start)
                self.assertEqual(found.read(stop - start), file[start:stop], "a false claim")
        view, half = memoryview(file), len(file) // 2
        part.write(half, view[half:])
        if end is None:
            part.write(0, view[:half])
            part.reached(len(file))
            self.woken.clear()
            verdict = self.finished(part, hashlib.sha256(file).digest())
            self.assertEqual((verdict and verdict.end), End.DONE)
        else:
            part.close(end)
        threads_gone()

    def lay_out(self, notes: Recorded, state: dict[str, tuple[int, bytes]]) -> None:
        """Make the folder what it was then."""
        for name in self.files():
            os.unlink(os.path.join(self.folder, name))
        made: dict[int, str] = {}
        for path, (file, data) in state.items():
            if file in made:
                os.link(made[file], path)
                continue
            made[file] = path
            with open(path, "wb") as new:
                new.write(data)
        inodes = {notes.inodes[file]: os.stat(path).st_ino for file, path in made.items()}
        for path, (_, data) in state.items():
            if path.endswith(".journal"):
                with open(path, "r+b") as new:
                    new.write(_renumbered(data, inodes))

    def check(self, notes: Recorded, state: dict[str, tuple[int, bytes]], file: bytes) -> None:
        """Lay out what was left, and get the file."""
        self.lay_out(notes, state)
        if self.path in state:
            self.assertRaises(FileExistsError, download.PartFile, self.path)
        else:
            self.attempt(file)
        with open(self.path, "rb") as found:
            self.assertEqual(found.read(), file)

    def stop_everywhere(self, file: bytes, *attempts: Callable[[], None]) -> None:
        """Let some attempts run, then see what becomes of each point at which they may stop."""
        self.boot(b"a")
        with recorded(os.path.abspath(self.folder)) as notes:
            for attempt in attempts:
                attempt()
        seen: set[tuple[bytes, tuple[tuple[str, tuple[int, bytes]], ...]]] = set()
        for point in range(notes.points + 1):
            stops = [(b"a", notes.after_kill(point))]
            stops += [(b"b", state) for state in notes.after_power_cut(point)]
            for boot, state in stops:
                key = boot, tuple(sorted(state.items()))
                if key not in seen:
                    seen.add(key)
                    self.boot(boot)
                    self.check(notes, state, file)

    def boot(self, boot: bytes) -> None:
        """Let the machine be one that has started for this time."""
        self.patch(journal, "this_boot", lambda: boot * 16)

    def test_one_attempt(self) -> None:
        """From nothing to the file, one that is like no other and one that is."""
        for file in (FILE, ZEROS):
            self.stop_everywhere(file, partial(self.attempt, file))
            os.unlink(self.path)

    def test_given_up(self) -> None:
        """What is cancelled is no better known than what is not."""
        self.stop_everywhere(FILE, lambda: self.attempt(FILE, End.CANCELLED))

    def test_goes_on(self) -> None:
        """With what the attempt before has brought to the disk when it ended."""
        for file in (FILE, ZEROS):
            self.stop_everywhere(
                file,
                partial(self.attempt, file, End.PEER_SILENT),
                partial(self.attempt, file),
            )
            os.unlink(self.path)

    def test_starts_over(self) -> None:
        """When the server's file has changed."""
        self.stop_everywhere(
            FILE,
            lambda: self.attempt(ZEROS, End.PEER_SILENT, mtime_ms=MTIME_MS - 1),
            lambda: self.attempt(FILE),
        )
        os.unlink(self.path)
        self.stop_everywhere(
            FILE,
            lambda: self.attempt(FILE[::-1], End.PEER_SILENT, mtime_ms=MTIME_MS - 1),
            lambda: self.attempt(FILE),
        )


def _renumbered(data: bytes, inodes: dict[int, int]) -> bytes:
    """The pages of a journal, about parts that have other inodes now."""
    pages = [data[at : at + PAGE_BYTES] for at in range(0, len(data), PAGE_BYTES)]
    for number, page in enumerate(pages):
        claim = unpack(page)
        if claim is not None:
            inode = inodes.get(claim.subject.inode, 0)
            pages[number] = pack(replace(claim, subject=replace(claim.subject, inode=inode)))
    return b"".join(pages)
