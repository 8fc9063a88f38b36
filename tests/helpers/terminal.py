"""A person at a terminal: a program on a pseudo-terminal, its screen, and what is typed to it.

Nothing here sleeps. A test waits for something to be on the screen, and fails with the screen if
that does not come.
"""

from __future__ import annotations

import codecs
import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.helpers.emulator import Emulator
from tests.helpers.processes import PATIENCE, environment

__all__ = ["Person", "at_terminal"]

# Makes the terminal the one that controls the program, so that it has job control and signals.
_LAUNCH = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


class Person:
    """What a person sees of a program, and does to it."""

    def __init__(
        self,
        terminal: int,
        process: subprocess.Popen[bytes],
        emulator: Emulator,
        before: list[Any],
    ) -> None:
        self.terminal = terminal
        self.process = process
        self.emulator = emulator
        self.written = ""
        """All that was written to the terminal."""
        self.before = before
        """The terminal's settings before the program was started."""
        self._resized_at = 0
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.terminal, text.encode())

    def resize(self, columns: int, rows: int) -> None:
        """Pull at the window's corner."""
        self._resized_at = len(self.written)
        self.emulator.resize(columns, rows)
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    @property
    def is_repainted(self) -> bool:
        """Whether all has been written anew since the window's size has changed."""
        return "\x1b[H\x1b[J" in self.written[self._resized_at :]

    def see(self, expected: str | Callable[[list[str]], bool]) -> list[str]:
        """Wait until a text is on the screen, or what a function says of its rows; the rows.

        What is written at once may be read in parts. Whoever says something of a row that is not
        there yet says nothing.
        """
        deadline = time.monotonic() + PATIENCE
        while not self._sees(expected):
            left = deadline - time.monotonic()
            if left <= 0 or not self._read(left):
                rows = "\n".join(self.emulator.rows)
                raise AssertionError(f"not seen: {expected}\n{rows}")
        return self.emulator.rows

    def settings(self) -> list[Any]:
        """The terminal's settings, those of a line and its characters."""
        return termios.tcgetattr(self.terminal)

    def wait(self) -> int:
        """See all to the end; the exit status, negative for a signal."""
        deadline = time.monotonic() + PATIENCE
        while self._read(deadline - time.monotonic()):
            pass
        return self.process.wait(PATIENCE)

    def _sees(self, expected: str | Callable[[list[str]], bool]) -> bool:
        rows = self.emulator.rows
        if isinstance(expected, str):
            return expected in "\n".join(rows)
        with suppress(IndexError):
            return expected(rows)
        return False

    def _read(self, patience: float) -> bool:
        """Read what is there within some seconds; whether there was anything."""
        if not select.select([self.terminal], [], [], max(0, patience))[0]:
            return False
        try:
            data = os.read(self.terminal, 65536)
        except OSError:  # nobody has the other end any more
            return False
        text = self._utf8.decode(data)
        self.written += text
        self.emulator.feed(text)
        return bool(data)


@contextmanager
def at_terminal(
    command: list[str], folder: Path, size: tuple[int, int] = (80, 24), **environ: str
) -> Iterator[Person]:
    """Run a command on a terminal of so many columns and rows."""
    columns, rows = size
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    before = termios.tcgetattr(theirs)
    process = subprocess.Popen(
        [sys.executable, "-c", _LAUNCH, *command],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(**{"TERM": "xterm-256color", "NO_COLOR": "", **environ}),
        cwd=folder,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Person(ours, process, Emulator(columns, rows), before)
    finally:
        process.kill()
        process.wait()
        for pid in _members(process.pid):  # what it has started and left behind
            with suppress(ProcessLookupError):  # it may have ended by itself meanwhile
                os.kill(pid, signal.SIGKILL)
        os.close(ours)


def _members(session: int) -> list[int]:
    """The processes of a session."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.getsid(int(name)) == session:
                found.append(int(name))
        except ProcessLookupError:
            continue
    return found
