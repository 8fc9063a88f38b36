"""What the chat asks of whoever shares files: two interfaces and the values that cross them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

__all__ = ["LIST_SECONDS", "Downloads", "Files", "Listed", "Offer", "Probe", "RecentFiles"]

LIST_SECONDS: Final = 1.0
"""How old a list of files may be. To look at ten thousand takes 40 ms, and many who come ask."""


class Listed(Protocol):
    """A file that can be downloaded."""

    @property
    def name(self) -> str:
        """What to ask for."""

    @property
    def size(self) -> int:
        """How long it is, in bytes."""


class Files(Protocol):
    """What lies on the shelf."""

    def list(self) -> Sequence[Listed]:
        """Return what can be downloaded now. Raises RemoteError or OSError."""


class RecentFiles:
    """`Files` that are looked at once in `LIST_SECONDS`; `now` is a clock that nobody sets."""

    def __init__(self, files: Files, now: Callable[[], float]) -> None:
        self._files = files
        self._now = now
        self._found: Sequence[Listed] = ()
        self._found_at: float | None = None

    def list(self) -> Sequence[Listed]:
        """Return what could be downloaded a moment ago. Raises RemoteError or OSError."""
        now = self._now()
        if self._found_at is None or now - self._found_at >= LIST_SECONDS:
            self._found_at = None
            self._found = self._files.list()
            self._found_at = now
        return self._found


@dataclass(frozen=True, slots=True)
class Offer:
    """A download that the client may begin: over UDP, at `port`, with `ticket`."""

    port: int
    ticket: str
    size: int
    mtime_ms: int | None = None
    """When the file was last changed, milliseconds since the epoch."""
    digest: str | None = None
    """Its sha-256 in hexadecimal digits, if that is known already."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A download of nothing in particular, which shows what the path is like."""

    port: int
    ticket: str
    size: int
    ports: int
    """How many UDP ports there are."""


class Downloads(Protocol):
    """What makes files ready to be sent to somebody: their name, and the host they come from."""

    def probe(self, name: str, host: str, size: int | None, which: int | None) -> Probe:
        """Make a probe of `size` bytes ready, at the UDP port `which`, from 1 on.

        None is for a usual size, and for any port. Raises RemoteError.
        """

    def offer(self, name: str, host: str, file_name: str) -> Offer:
        """Make a file ready. Raises RemoteError or OSError."""
