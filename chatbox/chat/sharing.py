"""What the chat asks of whoever shares files: two interfaces and the values that cross them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Downloads", "Files", "Listed", "Offer"]


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


class Downloads(Protocol):
    """What makes files ready to be sent."""

    def offer(self, user: str, name: str) -> Offer:
        """Make the file called `name` ready for `user`. Raises RemoteError or OSError."""
