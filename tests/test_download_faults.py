"""A file on its way to the disk, and every system call that it makes, each of which may fail."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final
from unittest import mock

from chatbox.client.files import download
from chatbox.client.files.download import PartFile
from chatbox.rdt.ends import End, end_for
from chatbox.rdt.receiver import Verdict
from tests.helpers.processes import PATIENCE
from tests.test_download import DATA, MTIME_MS, DownloadTestCase, threads_gone

CALLS: Final = (
    *("open", "close", "fstat", "lstat", "statvfs", "lseek", "ftruncate", "posix_fallocate"),
    *("pread", "preadv", "pwrite", "fdatasync", "fsync", "link", "unlink"),
)

FILE: Final = DATA[:5000]

RIGHT: Final = hashlib.sha256(FILE).digest()


class Disk:
    """One on which a system call fails, the one of that `name` and `number`; without a name all
    from that number on, and without a number none.
    """

    def __init__(self, name: str = "", number: int = 0) -> None:
        self.failed = 0
        self._name = name
        self._number = number
        self._counts: Counter[str] = Counter()
        self._patches = ExitStack()

    def __enter__(self) -> Disk:
        for name in CALLS:
            self._patches.enter_context(mock.patch(f"os.{name}", self._failing(name)))
        return self

    def __exit__(self, *_: object) -> None:
        self._patches.close()

    def _failing(self, name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*args: Any, **options: Any) -> Any:
            self._counts[name] += 1
            fails = self._is_to_fail(name)
            self.failed += fails
            # What is closed is closed, whatever it says; and nobody waits for the disk here.
            if (not fails or name == "close") and name not in ("fdatasync", "fsync"):
                found = real(*args, **options)
            if fails:
                raise OSError(errno.EIO, "Input/output error")
            return None if name in ("fdatasync", "fsync") else found

        return call

    def _is_to_fail(self, name: str) -> bool:
        if self._name:
            return (name, self._counts[name]) == (self._name, self._number)
        return 0 < self._number <= self._counts.total()


class FaultTests(DownloadTestCase):
    """Whatever fails, a download ends, lets go of everything, and can be tried again."""

    def setUp(self) -> None:
        """A thread that does nothing by itself, and nothing that it must not raise."""
        super().setUp()
        self.patch(download, "SYNC_SECONDS", 10 * PATIENCE)
        self.raised: list[object] = []
        self.patch(threading, "excepthook", self.raised.append)

    def attempt(self, given_up: End | None = None) -> Verdict | None:
        """Get FILE, the last part first, to its end or to the first error."""
        woken = threading.Event()
        view, half = memoryview(FILE), len(FILE) // 2
        try:
            part = PartFile(self.path)
            part.expect(MTIME_MS, None)
            part.start(len(FILE), woken.set)
        except OSError as error:
            return Verdict(end_for(error))
        try:
            part.write(half, view[half:])
            part.write(0, view[:half])
            part.reached(len(FILE))
        except OSError as error:
            verdict: Verdict | None = Verdict(end_for(error))
        else:
            if given_up is None:
                part.finish(RIGHT)
                self.assertTrue(woken.wait(PATIENCE))
                verdict = part.verdict()
            else:
                verdict = Verdict(given_up)
        assert verdict is not None
        return part.close(verdict.end) or verdict

    def check(self, disk: Disk, given_up: End | None) -> int:
        """One attempt with failures and one without: how many there were."""
        with disk:
            verdict = self.attempt(given_up)
            threads_gone()
        self.assertEqual((download._leaving, self.raised), ({}, []))
        links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
        held = [os.readlink(link) for link in links if os.path.lexists(link)]
        self.assertEqual([path for path in held if path.startswith(self.path)], [])
        has_come = verdict is not None and verdict.end is End.DONE
        self.assertEqual(os.path.exists(self.path), has_come)
        if not has_come:
            with Disk():
                self.assertEqual(self.attempt(), Verdict(End.DONE, "", self.path, RIGHT))
                threads_gone()
        with open(self.path, "rb") as file:
            self.assertEqual(file.read(), FILE)
        for name in self.files():
            os.unlink(os.path.join(self.folder, name))
        return disk.failed

    def test_one_call_fails(self) -> None:
        """Each of them once, the rest goes well."""
        for end in (None, End.CANCELLED):
            for name in CALLS:
                number = 1
                while self.check(Disk(name, number), end):
                    number += 1

    def test_the_disk_is_gone(self) -> None:
        """As with a stick that is pulled out, all fail from one on."""
        for end in (None, End.CANCELLED):
            number = 1
            while self.check(Disk(number=number), end):
                number += 1
