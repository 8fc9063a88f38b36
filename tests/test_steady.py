"""A reactor's clock when the clock on the wall is set."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet.base import ReactorBase
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chatbox import steady
from chatbox.chat.limits import Bucket
from chatbox.chat.sharing import RecentFiles
from chatbox.sparing import SPAN_SECONDS, SparingLog
from chatbox.steady import keep_steady, wall_clock
from tests.helpers.processes import PATIENCE, environment
from tests.test_sharing import FakeFolder, at_once


class SteadyTests(SynchronousTestCase):
    """What is called later, and when."""

    def setUp(self) -> None:
        self.wall, self.elapsed = 1_700_000_000.0, 50.0
        self.patch(steady, "steady_seconds", lambda: self.elapsed)

        class Reactor(ReactorBase):
            """As any, but that it waits for nothing."""

            def installWaker(self) -> None:
                """Nobody wakes it."""

        self.reactor = Reactor()
        self.reactor.seconds = lambda: self.wall
        keep_steady(self.reactor)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.wall += seconds
        self.elapsed += seconds
        self.reactor.runUntilCurrent()

    def test_it_goes_on_from_where_it_was(self) -> None:
        """So long as nobody sets the clock nothing is to be seen of it."""
        self.assertEqual(self.reactor.seconds(), 1_700_000_000.0)
        self.wait(1.5)
        self.assertEqual(self.reactor.seconds(), self.wall)

    def test_clock_that_is_set(self) -> None:
        """What was to be called in a second is called in a second."""
        for jump in (-3600.0, 3600.0):
            called: list[bool] = []
            self.reactor.callLater(1.0, called.append, True)
            self.wall += jump
            self.wait(0.5)
            self.assertEqual(called, [])
            self.wait(0.5)
            self.assertEqual(called, [True])
            self.assertEqual(wall_clock(self.reactor)(), self.wall)

    def test_what_goes_by_the_second(self) -> None:
        """Whoever measures by the reactor waits no longer than without a jump, and no shorter."""
        for jump in (-3600.0, 3600.0):
            self.measure(jump)

    def measure(self, jump: float) -> None:
        """See what happens by the second around a jump."""
        now = self.reactor.seconds
        bucket = Bucket(rate=1, burst=1, now=now())
        self.assertEqual(bucket.take(now()), 1.0)
        folder, told = FakeFolder("a.txt"), list[Any]()
        files = RecentFiles(folder, now, Clock().callLater, at_once, at_once)
        files.list(told.append)
        written: list[str] = []
        log = SparingLog(lambda form, **_: written.append(form), now, 1, "more")
        log("first")
        self.wall += jump
        files.list(told.append)
        self.assertEqual((len(told), folder.looks), (2, 1))
        log("left out")
        self.wait(SPAN_SECONDS)
        self.assertEqual(bucket.take(now()), 1.0)
        files.list(told.append)
        self.assertEqual(folder.looks, 2)
        log("second")
        self.assertEqual(written, ["first", "more", "second"])

    def test_twice(self) -> None:
        """The clock on the wall is not forgotten when somebody asks again."""
        self.wall += 10
        keep_steady(self.reactor)
        self.assertEqual(wall_clock(self.reactor)(), self.wall)

    def test_reactor_that_is_left_alone(self) -> None:
        """There is only one clock, for tests."""
        clock = Clock()
        clock.advance(5)
        self.assertEqual(wall_clock(clock)(), 5)


def test_time_passes() -> None:
    """It is a clock that the system has."""
    assert 0 < steady.steady_seconds() <= steady.steady_seconds()


def test_the_server_has_it(tmp_path: Path) -> None:
    """Whoever makes the service for a real reactor gets it."""
    program = (
        "from chatbox.tap import Options, makeService; from twisted.internet import reactor;"
        "options = Options(); options.parseOptions(['--log', 'memory:', '--files', '.',"
        " '--state-dir', '.']); makeService(options); print(hasattr(reactor, 'wall_seconds'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=False,
        env=environment(),
        timeout=PATIENCE,
        cwd=tmp_path,
    )
    assert done.stdout == b"True\n", done.stderr
