"""What was typed before, to be typed again.

It is kept for one conversation only, in memory: it holds private messages, and a file of them in
somebody's home would outlive the reason for it.
"""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["MAX_KEPT", "History"]

MAX_KEPT: Final = 500
"""Lines that are kept: a long evening's talk, and 2 MB if every one is as long as may be."""


class History:
    """The lines that were entered, and how far back in them the person is.

    What was being typed when they went back waits at the near end. A line that is changed on the
    way and not entered is as it was when they come by again.
    """

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=MAX_KEPT)
        self._back = 0  # how many lines back; 0 is the one being typed
        self._draft = ""

    def add(self, line: str) -> None:
        """A line was entered. Blank ones and repetitions are not kept."""
        self._back = 0
        if line.strip() and (not self._lines or self._lines[-1] != line):
            self._lines.append(line)

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
