"""What the chat asks of whoever shares files: two interfaces and the values that cross them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from twisted.logger import Logger

from chatbox.chat.codes import Code
from chatbox.errors import RemoteError

__all__ = [
    "LIST_SECONDS",
    "Downloads",
    "Files",
    "Folder",
    "Found",
    "Listed",
    "Offer",
    "Probe",
    "RecentFiles",
]

LIST_SECONDS: Final = 1.0
"""How old a list of files may be. To look at ten thousand takes 40 ms, and many who come ask."""

_log = Logger()


class Listed(Protocol):
    """A file that can be downloaded."""

    @property
    def name(self) -> str:
        """What to ask for."""

    @property
    def size(self) -> int:
        """How long it is, in bytes."""


class Folder(Protocol):
    """Where the files are."""

    def list(self) -> Sequence[Listed]:
        """Return what can be downloaded now. It may take long. Raises RemoteError or OSError."""


Found = Sequence[Listed] | RemoteError | OSError
"""What can be downloaded, or why that cannot be seen."""


class Files(Protocol):
    """What lies on the shelf."""

    def list(self, answer: Callable[[Found], None]) -> None:
        """Have `answer` told what can be downloaded, at once or later."""


class RecentFiles:
    """`Files` of a folder that is looked at once in `LIST_SECONDS`, in a thread.

    Who asks while it is being looked at hears what is found then. `now` is a clock that nobody
    sets; `in_thread` has something called in another thread, and `from_thread` in ours.
    """

    def __init__(
        self,
        folder: Folder,
        now: Callable[[], float],
        in_thread: Callable[[Callable[[], None]], object],
        from_thread: Callable[[Callable[[], None]], object],
    ) -> None:
        self._folder = folder
        self._now = now
        self._in_thread = in_thread
        self._from_thread = from_thread
        self._found: Found = ()
        self._found_at: float | None = None
        """When the last look began, if it went well."""
        self._asking: list[Callable[[Found], None]] = []
        """Those who wait for the look that is being taken."""

    def list(self, answer: Callable[[Found], None]) -> None:
        """Have `answer` told what could be downloaded a moment ago."""
        now = self._now()
        if self._found_at is not None and now - self._found_at < LIST_SECONDS:
            answer(self._found)
            return
        self._asking.append(answer)
        if len(self._asking) == 1:
            look = partial(self._look, now)
            try:
                self._in_thread(look)
            except RuntimeError:  # no threads are left: then everybody has to wait
                look()

    def _look(self, now: float) -> None:
        """In a thread: see what there is."""
        found: Found
        try:
            found = self._folder.list()
        except (RemoteError, OSError) as error:
            found = error
        except Exception:
            _log.failure("the shared files cannot be listed")
            found = RemoteError(Code.INTERNAL_ERROR)
        self._from_thread(partial(self._tell, found, now))

    def _tell(self, found: Found, now: float) -> None:
        self._found = found
        self._found_at = None if isinstance(found, Exception) else now
        asking, self._asking = self._asking, []
        for answer in asking:
            with _log.failuresHandled("telling somebody the shared files failed"):
                answer(found)


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
