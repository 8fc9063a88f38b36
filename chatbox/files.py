"""Small files that must be whole, or as they were: keys, accounts, bans, known servers.

Everything here but `Latest` blocks, for as long as the disk takes. These files are a few kilobytes
and change when a person changes them.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress

from chatbox.threads import start_thread

__all__ = ["Latest", "Stamp", "stamp", "sync_folder", "write_whole"]

Stamp = tuple[int, int, int] | None
"""What tells one state of a file from another; None if there is no file."""


def stamp(path: str) -> Stamp:
    """Return what changes when the file is written or replaced. Raises OSError."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def write_whole(path: str, data: bytes, *, replace: bool = True) -> None:
    """Write a file that only its owner may read; after a crash it has all of `data`, or none.

    Folders that are missing are made. The file that is there is replaced, or without `replace` it
    stays and FileExistsError is raised. Raises OSError.
    """
    # What a symbolic link points to is what people want changed.
    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    os.makedirs(folder, 0o700, exist_ok=True)
    draft = os.path.join(folder, f".{os.path.basename(path)}.{secrets.token_hex(8)}")
    try:
        handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with open(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(draft, path)
        else:
            os.link(draft, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(draft)
    sync_folder(folder)


def sync_folder(folder: str) -> None:
    """Bring to the disk which names are in a folder. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Latest:
    """A file that always gets the latest of what it is given, in a thread, so that nobody waits.

    What is given while it is being written replaces what waits. The thread is there while there is
    something to write, and the program does not end before it has: what was given last stays.
    """

    def __init__(self, path: str, failed: Callable[[OSError], None]) -> None:
        """`failed` is called in the thread, or at once if none can be had."""
        self.path = path
        self._failed = failed
        self._lock = threading.Lock()
        self._next: Callable[[], bytes] | None = None
        self._thread: threading.Thread | None = None

    def put(self, make: Callable[[], bytes]) -> None:
        """Write what `make` returns, which is called in the thread."""
        with self._lock:
            self._next = make
            if self._thread is None:
                try:
                    self._thread = start_thread(self._run, f"write {self.path}", daemon=False)
                except OSError as error:
                    self._failed(error)

    def flush(self) -> None:
        """Wait until everything is written."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _take(self) -> Callable[[], bytes] | None:
        with self._lock:
            make, self._next = self._next, None
            if make is None:
                self._thread = None
            return make

    def _run(self) -> None:
        while (make := self._take()) is not None:
            try:
                write_whole(self.path, make())
            except OSError as error:
                self._failed(error)
