"""What a sender asks of the file that it sends."""

from __future__ import annotations

from typing import Protocol

from chatbox.rdt.ends import End


class Source(Protocol):
    """The file that is sent."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def mtime_ns(self) -> int:
        """When it was last changed, nanoseconds since the epoch."""

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """
        Fill the buffer from `offset` on; fewer bytes than it holds mean that the file has shrunk.

        :raises BlockingIOError: if they are not there yet.
        :raises OSError: if they cannot be had.
        """

    def changed(self) -> bool:
        """
        Whether the file is no longer what it was when opened.

        :raises OSError: if that cannot be seen.
        """

    def digest(self) -> bytes | None:
        """The sha-256 of the whole file, None until it is known."""


def look_at(source: Source) -> End:
    """Why a file can be sent no further; `End.NONE` if it can."""
    try:
        return End.FILE_CHANGED if source.changed() else End.NONE
    except OSError:
        return End.FILE_UNREADABLE
