"""Where mistakes of ours are written down."""

from __future__ import annotations

import os

from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from chatbox.client.gui.mistakes import MAX_LOG_BYTES, Mistakes


class MistakesTests(SynchronousTestCase):
    """The file for mistakes of ours."""

    def test_bound(self) -> None:
        """When it is full it is put aside, and nobody else can read it."""
        folder = os.path.join(self.mktemp(), "window")
        mistakes, log = Mistakes(folder), Logger()
        self.addCleanup(mistakes.close)
        for number in range(3 * MAX_LOG_BYTES // 1000):
            log.warn("number {number}{much}", number=number, much="." * 1000)
        sizes = [os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder)]
        self.assertEqual(len(sizes), 2)
        self.assertLess(sum(sizes), 2 * MAX_LOG_BYTES + 4000)
        with open(mistakes.path) as file:
            self.assertIn(f"number {number}.", file.read())
        self.assertEqual(os.stat(mistakes.path).st_mode & 0o077, 0)

    def test_only_what_is_bad(self) -> None:
        """The rest is not kept, nor what comes when it is closed."""
        mistakes, log = Mistakes(self.mktemp()), Logger()
        path = mistakes.path
        log.info("all is well")
        mistakes.close()
        log.warn("late")
        self.assertEqual(os.path.getsize(path), 0)

    def test_nowhere(self) -> None:
        """Where nothing can be written there is none, and nothing breaks."""
        mistakes = Mistakes("/dev/null/window")
        self.assertEqual(mistakes.path, "")
        mistakes.close()
