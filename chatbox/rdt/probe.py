"""A file that nobody has: so many zeros, to see what the path to a client carries.

It is sent like any file, so a probe costs a server no more than a download does, and what it finds
is what downloads will find. The bytes are made as they leave, and encrypted, so no network can tell
or squeeze them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache

from chatbox.threads import start_thread

PROBE_BYTES = 16 << 20
"""The longest probe: a second at 130 Mbit/s, enough for the sender to find its rate on a home link,
and too little to be of use to somebody who wants to fill one."""

_CHUNK = bytes(1 << 16)


class ProbeFile:
    """`size` zeros, as a file that a `Demux` can send; at least one, at most `PROBE_BYTES`."""

    def __init__(self, size: int) -> None:
        self.size = max(1, min(size, PROBE_BYTES))
        self.mtime_ns = 0
        self._digest: bytes | None = None
        self._closed = False

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill the buffer as far as the file goes."""
        length = max(0, min(len(buffer), self.size - offset))
        buffer[:length] = bytes(length)
        return length

    def changed(self) -> bool:
        """Zeros stay zeros."""
        return False

    def digest(self) -> bytes | None:
        """The sha-256, once it is known."""
        return self._digest

    def start_hashing(self, wake: Callable[[], None]) -> None:
        """Take the sha-256 in a thread, for some milliseconds. Raises OSError if there is none."""

        def take() -> None:
            self._digest = _digest(self.size)
            if not self._closed:
                wake()

        start_thread(take, "probe")

    def doubt(self) -> None:
        """Of zeros there is no doubt."""

    def close(self) -> None:
        """Nobody wants it any more."""
        self._closed = True


@lru_cache(maxsize=16)
def _digest(size: int) -> bytes:
    """The sha-256 of so many zeros."""
    taken = hashlib.sha256()
    for _ in range(size // len(_CHUNK)):
        taken.update(_CHUNK)
    taken.update(_CHUNK[: size % len(_CHUNK)])
    return taken.digest()
