"""The list of shared files: seen in a thread, and not more often than need be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from chatbox.chat.sharing import LIST_SECONDS, RecentFiles
from chatbox.errors import RemoteError
from tests.helpers.chat import File


class FakeFolder:
    """A folder of one file."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.error: Exception | None = None
        self.looks = 0

    def list(self) -> Sequence[File]:
        """Look."""
        self.looks += 1
        if self.error is not None:
            raise self.error
        return [File(self.name, 5)]


def at_once(work: Callable[[], None]) -> None:
    """A thread that nobody has to wait for."""
    work()


class RecentFilesTests(SynchronousTestCase):
    """Who is told what, and when."""

    def test_looked_at_in_a_thread(self) -> None:
        """The shelf is looked at in a thread, and once a second at most, if that went well."""
        now, folder = [5.0], FakeFolder("a.txt")
        at_work: list[Callable[[], None]] = []
        looked: list[Callable[[], None]] = []
        files = RecentFiles(folder, lambda: now[0], at_work.append, looked.append)

        def turn() -> None:
            """Let the thread look, and then the reactor go on."""
            for work in (at_work, looked):
                while work:
                    work.pop()()

        def told() -> list[Any]:
            heard: list[Any] = []
            files.list(heard.append)
            turn()
            return [one if isinstance(one, Exception) else one[0].name for one in heard]

        self.assertEqual(told(), ["a.txt"])
        folder.name = "b.txt"
        now[0] += LIST_SECONDS - 0.1
        self.assertEqual(told(), ["a.txt"])
        now[0] += 0.1
        self.assertEqual(told(), ["b.txt"])
        self.assertEqual(folder.looks, 2)
        for error in (OSError(), RemoteError("file-unreadable")):
            folder.error = error
            now[0] += LIST_SECONDS
            self.assertEqual(told(), [error])
        folder.error = ZeroDivisionError()
        self.assertEqual([str(one.code) for one in told()], ["internal-error"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        folder.error, folder.name = None, "c.txt"
        self.assertEqual(told(), ["c.txt"])

    def test_many_at_one_time(self) -> None:
        """Those who ask at one time hear of one look, whatever becomes of one of them."""
        folder, at_work = FakeFolder("a.txt"), list[Callable[[], None]]()
        files = RecentFiles(folder, lambda: 5.0, at_work.append, at_once)
        heard: list[Any] = []

        def fail(_: object) -> None:
            raise ZeroDivisionError

        for hear in (heard.append, fail, heard.append):
            files.list(hear)
        self.assertEqual((heard, len(at_work)), ([], 1))
        at_work.pop()()
        self.assertEqual([one[0].name for one in heard], ["a.txt", "a.txt"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_no_threads(self) -> None:
        """A system that has no more threads has everybody wait for the disk."""

        def refuse(_: Callable[[], None]) -> None:
            raise RuntimeError("can't start new thread")

        files = RecentFiles(FakeFolder("a.txt"), lambda: 5.0, refuse, at_once)
        heard: list[Any] = []
        files.list(heard.append)
        self.assertEqual(heard[0][0].name, "a.txt")
