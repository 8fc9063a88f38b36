"""What was typed before, to be typed again.

It is kept for one conversation only, in memory: it holds private messages, and a file of them in
somebody's home would outlive the reason for it.
"""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["MAX_KEPT", "MAX_KEPT_CHARACTERS", "History"]

MAX_KEPT: Final = 500
"""Lines that are kept: a long evening's talk."""

MAX_KEPT_CHARACTERS: Final = 2 * 1024 * 1024
"""And no more than so many characters of them: some thirty, if every one is as long as may be."""


class History:
    """The lines that were entered, and how far back in them the person is.

    What was being typed when they went back waits at the near end. A line that is changed on the
    way and not entered is as it was when they come by again.
    """

    def __init__(self) -> None:
        self._lines: deque[str] = deque()
        self._characters = 0
        self._back = 0  # how many lines back; 0 is the one being typed
        self._draft = ""

    def add(self, line: str) -> None:
        """A line was entered. Blank ones and repetitions are not kept."""
        self._back = 0
        if line.strip() and (not self._lines or self._lines[-1] != line):
            self._lines.append(line)
            self._characters += len(line)
            while len(self._lines) > MAX_KEPT or self._characters > MAX_KEPT_CHARACTERS:
                self._characters -= len(self._lines.popleft())

    def older(self, text: str) -> str | None:
        """The line before; `text` is what stands there now. None if there is none."""
        if self._back >= len(self._lines):
            return None
        if self._back == 0:
            self._draft = text
        self._back += 1
        return self._lines[-self._back]

    def newer(self) -> str | None:
        """The line after; at last, what was being typed."""
        if self._back == 0:
            return None
        self._back -= 1
        return self._lines[-self._back] if self._back else self._draft

    def search(self, part: str, skip: int = 0) -> str | None:
        """The newest line with `part` in it, in either case, `skip` of which are passed over."""
        wanted = part.casefold()
        for line in reversed(self._lines):
            if wanted in line.casefold():
                if not skip:
                    return line
                skip -= 1
        return None
