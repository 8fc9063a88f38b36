"""Bytes that arrive in pieces of any size become lines, within a bound."""

from __future__ import annotations

__all__ = ["LineBuffer"]


class LineBuffer:
    """Cuts a stream of bytes at each LF.

    A line longer than `max_bytes` is thrown away as it comes, and None stands in its place, so that
    what follows it is still read.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._rest = bytearray()
        self._skipping = False

    def feed(self, data: bytes) -> list[bytes | None]:
        """Take a piece of the stream; return the lines that it ends, without LF or CRLF."""
        self._rest += data
        *pieces, self._rest = self._rest.split(b"\n")
        lines: list[bytes | None] = []
        for piece in pieces:
            too_long = self._skipping or len(piece) > self._max_bytes
            lines.append(None if too_long else bytes(piece).removesuffix(b"\r"))
            self._skipping = False
        if len(self._rest) > self._max_bytes:
            self._skipping = True
            self._rest.clear()
        return lines

    def end(self) -> list[bytes | None]:
        """The stream is over; return what stood after its last LF, if anything."""
        return self.feed(b"\n") if self._rest or self._skipping else []
