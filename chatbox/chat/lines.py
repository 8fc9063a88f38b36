"""Bytes that arrive in pieces of any size become lines, which are taken one by one.

Whoever takes them may stop, and then what has come stays as it came: bytes, no more than were read
at a time, and not thousands of small objects. What is kept of a line that is not whole is bounded.
"""

from __future__ import annotations

from chatbox.chat.codes import Code
from chatbox.errors import RemoteError

__all__ = ["Lines"]


class Lines:
    """What one client sends, cut at each LF. A line is at most `max_bytes` long without it."""

    __slots__ = ("_at", "_data", "_max_bytes", "_skipping", "skipped")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._data = b""
        self._at = 0
        """Where in `_data` the next line begins."""
        self._skipping = False
        self.skipped = 0
        """Bytes that were thrown away of a line that is too long and has no end yet."""

    @property
    def rest(self) -> bytes:
        """What has come and was not taken."""
        return self._data[self._at :]

    def add(self, data: bytes) -> None:
        """Take in what follows."""
        self._data = self.rest + data
        self._at = 0

    def take(self) -> bytes | None:
        """Return the next line without its LF; None if it is not whole yet.

        Raises RemoteError (too-long), once for each line that is too long, as soon as that is
        known. The rest of it is skipped.
        """
        while (end := self._data.find(b"\n", self._at)) >= 0:
            line = self._data[self._at : end]
            self._at = end + 1
            if self._skipping:
                self._skipping = False
                self.skipped = 0
            elif len(line) > self._max_bytes:
                raise self._too_long()
            else:
                return line
        unfinished = len(self._data) - self._at
        if self._skipping or unfinished > self._max_bytes:
            self._data, self._at = b"", 0
            self.skipped += unfinished
            if not self._skipping:
                self._skipping = True
                raise self._too_long()
        self._data, self._at = self.rest, 0  # the lines before it are not kept
        return None

    def _too_long(self) -> RemoteError:
        return RemoteError(
            Code.TOO_LONG, f"The line is too long: it may have {self._max_bytes} bytes."
        )
