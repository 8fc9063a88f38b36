"""The terminal itself: its settings taken and given back, and its size.

While we have it, keys come one by one and unseen, and the kernel makes nothing of them: Ctrl-C,
Ctrl-Z and Ctrl-D are keys like others. The shell shares the terminal with us, and its settings are
not those of a process but of the terminal, so whoever takes must give back, however the program
ends. `give_back` may be called any number of times.
"""

from __future__ import annotations

import atexit
import os
import termios
from contextlib import suppress
from typing import Any, Final

__all__ = ["Terminal"]

USUAL_SIZE: Final = (80, 24)

# Places in what `termios.tcgetattr` returns.
_IFLAG: Final = 0
_OFLAG: Final = 1
_LFLAG: Final = 3
_CC: Final = 6


class Terminal:
    """The terminal that the keyboard is read from as `stdin` and that shows `stdout`.

    `reset` is written whenever it is given back.
    """

    def __init__(self, reset: bytes, stdin: int = 0, stdout: int = 1) -> None:
        self._reset = reset
        self.stdin = stdin
        self.stdout = stdout
        self.is_taken = False
        self._usual: list[Any] = termios.tcgetattr(stdin)
        self._blocking = {fd: os.get_blocking(fd) for fd in (stdin, stdout)}

    def take(self) -> None:
        """Have every key at once, and only we say what is shown."""
        ours = [*self._usual]
        ours[_IFLAG] &= ~(
            termios.BRKINT | termios.ICRNL | termios.INPCK | termios.ISTRIP | termios.IXON
        )
        ours[_OFLAG] &= ~termios.OPOST
        ours[_LFLAG] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG)
        ours[_CC] = [*ours[_CC]]
        ours[_CC][termios.VMIN], ours[_CC][termios.VTIME] = 1, 0
        # Now, not when all is written: a terminal that takes nothing must not stop us.
        termios.tcsetattr(self.stdin, termios.TCSANOW, ours)
        for fd in self._blocking:
            os.set_blocking(fd, False)
        if not self.is_taken:
            self.is_taken = True
            atexit.register(self.give_back)

    def give_back(self) -> None:
        """Leave it as it was found."""
        if not self.is_taken:
            return
        self.is_taken = False
        atexit.unregister(self.give_back)
        with suppress(OSError):
            os.write(self.stdout, self._reset)
        with suppress(termios.error):  # it may be gone
            termios.tcsetattr(self.stdin, termios.TCSANOW, self._usual)
        for fd, was_blocking in self._blocking.items():
            with suppress(OSError):
                os.set_blocking(fd, was_blocking)

    @property
    def is_ours(self) -> bool:
        """Whether we are in the foreground: a shell's background job must leave it alone."""
        try:
            return os.tcgetpgrp(self.stdin) == os.getpgrp()
        except OSError:  # it controls no processes, as under some test tools
            return True

    def size(self) -> tuple[int, int]:
        """Its columns and rows."""
        try:
            columns, rows = os.get_terminal_size(self.stdout)
        except OSError:
            return USUAL_SIZE
        return columns or USUAL_SIZE[0], rows or USUAL_SIZE[1]
