"""The list of shared files: seen in a thread, and not more often than need be."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from chatbox.chat.sharing import LIST_SECONDS, LOOK_SECONDS, Found, RecentFiles
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

    def setUp(self) -> None:
        """Make the list of a folder, whose thread and reactor go on when the test says so."""
        self.clock, self.folder = Clock(), FakeFolder("a.txt")
        self.at_work: list[Callable[[], None]] = []
        self.looked: list[Callable[[], None]] = []
        self.files = RecentFiles(
            self.folder,
            self.clock.seconds,
            self.clock.callLater,
            self.at_work.append,
            self.looked.append,
        )

    def turn(self) -> None:
        """Let the thread look, and then the reactor go on."""
        for work in (self.at_work, self.looked):
            while work:
                work.pop()()

    def ask(self) -> list[str]:
        """Ask, and return the list for what is told: names of files, or the code of an error."""
        told: list[str] = []

        def hear(found: Found) -> None:
            told.append(str(found.code) if isinstance(found, RemoteError) else found[0].name)

        self.files.list(hear)
        return told

    def told(self) -> list[str]:
        """What somebody is told who asks now and waits."""
        told = self.ask()
        self.turn()
        return told

    def test_looked_at_in_a_thread(self) -> None:
        """The shelf is looked at in a thread, and once a second at most."""
        self.assertEqual(self.told(), ["a.txt"])
        self.folder.name = "b.txt"
        self.clock.advance(LIST_SECONDS - 0.1)
        self.assertEqual(self.told(), ["a.txt"])
        self.clock.advance(0.1)
        self.assertEqual(self.told(), ["b.txt"])
        self.assertEqual(self.folder.looks, 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_is_wrong(self) -> None:
        """It is told as a code; and to the operator once, however many ask, until it is over."""
        with capturedLogs() as logs:
            for error, code in (
                (OSError(5, "Input/output error"), "unavailable"),
                (RemoteError("file-unreadable"), "file-unreadable"),
                (ZeroDivisionError(), "internal-error"),
                (None, "a.txt"),
            ):
                self.folder.error = error
                for _ in range(3):
                    self.clock.advance(LIST_SECONDS)
                    self.assertEqual([self.told() for _ in range(5)], [[code]] * 5)
        self.assertEqual(self.folder.looks, 12)
        said = [str(formatEvent(event)) for event in logs]
        cannot, again = "the shared files cannot be seen", "the shared files can be seen again"
        self.assertEqual(said[0], f"{cannot}: [Errno 5] Input/output error")
        self.assertEqual(said[1:], [f"{cannot}: file-unreadable", cannot, again])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_disk_that_hangs(self) -> None:
        """Who asks does not wait for ever, nor is kept; once it goes on all is as before."""
        waiting = [self.ask() for _ in range(3)]
        self.clock.advance(LOOK_SECONDS)
        self.assertEqual(waiting, [["unavailable"]] * 3)
        self.assertEqual([self.ask() for _ in range(3)], [["unavailable"]] * 3)
        self.assertEqual((len(self.at_work), self.files._asking), (1, []))
        self.turn()
        self.clock.advance(LIST_SECONDS)
        self.assertEqual(self.told(), ["a.txt"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_many_at_one_time(self) -> None:
        """Those who ask at one time hear of one look, whatever becomes of one of them."""

        def fail(_: object) -> None:
            raise ZeroDivisionError

        first = self.ask()
        self.files.list(fail)
        second = self.ask()
        self.assertEqual((first, second, len(self.at_work)), ([], [], 1))
        self.turn()
        self.assertEqual((first, second), (["a.txt"], ["a.txt"]))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_no_threads(self) -> None:
        """A system that has no more threads has everybody wait for the disk."""

        def refuse(_: Callable[[], None]) -> None:
            raise RuntimeError("can't start new thread")

        clock = self.clock
        self.files = RecentFiles(self.folder, clock.seconds, clock.callLater, refuse, at_once)
        self.assertEqual(self.told(), ["a.txt"])
