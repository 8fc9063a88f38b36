"""What the chat asks of whoever shares files: two interfaces and the values that cross them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from twisted.logger import Logger
from twisted.python.failure import Failure

from chatbox.chat.codes import Code
from chatbox.errors import RemoteError

__all__ = [
    "LIST_SECONDS",
    "LOOK_SECONDS",
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

LOOK_SECONDS: Final = 5.0
"""How long a look may take: on a disk that hangs, it has no end. All other answers to who asked
wait behind this one, and a client gives a server up that says nothing for 30 s."""

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


Found = Sequence[Listed] | RemoteError
"""What can be downloaded, or why that cannot be seen."""


class Files(Protocol):
    """What lies on the shelf."""

    def list(self, answer: Callable[[Found], None]) -> None:
        """Have `answer` told what can be downloaded, at once or later."""


class RecentFiles:
    """`Files` of a folder that is looked at once in `LIST_SECONDS`, in a thread.

    Who asks while it is being looked at hears what is found then, or after `LOOK_SECONDS` that it
    cannot be seen now; so does who asks from then on until the look ends. `now` is a clock that
    nobody sets, and `later` has something called after some seconds of it; `in_thread` has
    something called in another thread, and `from_thread` in ours.
    """

    def __init__(
        self,
        folder: Folder,
        now: Callable[[], float],
        later: Callable[[float, Callable[[], None]], Any],
        in_thread: Callable[[Callable[[], None]], object],
        from_thread: Callable[[Callable[[], None]], object],
    ) -> None:
        self._folder = folder
        self._now = now
        self._later = later
        self._in_thread = in_thread
        self._from_thread = from_thread
        self._found: Found = ()
        self._found_at: float | None = None
        """When the last look began, as long as what it has found is to be told."""
        self._looking = False
        self._asking: list[Callable[[Found], None]] = []
        """Those who wait for the look that is being taken, for `LOOK_SECONDS` at most."""
        self._patience: Any = None
        """Ends their wait."""
        self._wrong = ""
        """Why the files cannot be seen, as the operator was told."""

    def list(self, answer: Callable[[Found], None]) -> None:
        """Have `answer` told what could be downloaded a moment ago."""
        now = self._now()
        if self._looking and self._patience is None:
            answer(RemoteError(Code.UNAVAILABLE))
        elif self._looking:
            self._asking.append(answer)
        elif self._found_at is not None and now - self._found_at < LIST_SECONDS:
            answer(self._found)
        else:
            self._asking.append(answer)
            self._looking = True
            self._patience = self._later(LOOK_SECONDS, self._give_up)
            look = partial(self._look, now)
            try:
                self._in_thread(look)
            except RuntimeError:  # no threads are left: then everybody has to wait
                look()

    def _look(self, now: float) -> None:
        """In a thread: see what there is."""
        found: Found | Exception
        try:
            found = self._folder.list()
        except Exception as error:
            found = error
        self._from_thread(partial(self._seen, found, now))

    def _seen(self, found: Found | Exception, now: float) -> None:
        """The look has ended."""
        if isinstance(found, Exception):
            found = self._reason(found)
        elif self._wrong:
            self._wrong = ""
            _log.info("the shared files can be seen again")
        self._looking, self._found, self._found_at = False, found, now
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        self._tell(found)

    def _give_up(self) -> None:
        self._patience = None
        self._tell(self._reason(TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))))

    def _tell(self, found: Found) -> None:
        asking, self._asking = self._asking, []
        for answer in asking:
            with _log.failuresHandled("telling somebody the shared files failed"):
                answer(found)

    def _reason(self, error: Exception) -> RemoteError:
        """Return what whoever asks is told, and tell the operator, once until it is over."""
        wrong = repr(error)
        known, self._wrong = wrong == self._wrong, wrong
        if isinstance(error, RemoteError | OSError):
            if not known:
                _log.warn("the shared files cannot be seen: {error}", error=error)
            return error if isinstance(error, RemoteError) else RemoteError(Code.UNAVAILABLE)
        if not known:
            _log.failure("the shared files cannot be seen", Failure(error))
        return RemoteError(Code.INTERNAL_ERROR)


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
