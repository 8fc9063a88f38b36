"""Lines for a person and, on a terminal, one line below them that says how far the downloads are.

That line is redrawn in place; another one takes it away, prints itself, and puts it back. Where
there is no terminal nothing is redrawn and no terminal code is written: a download says so when it
has reached a quarter, a half, three quarters, and if nothing moves, why, and when it moves again.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.interfaces import IDelayedCall

from chatbox.client import words
from chatbox.client.files.transfers import Download, Stage
from chatbox.client.width import clip

if TYPE_CHECKING:
    from chatbox.rdt.progress import Progress

__all__ = [
    "REDRAW_EVERY",
    "STANDS_AFTER",
    "Screen",
    "Ticker",
    "columns_of",
    "is_terminal",
]

REDRAW_EVERY: Final = 0.25
"""Seconds between two looks at the downloads: four a second is what an eye can read."""

STANDS_AFTER: Final = 5.0
"""Seconds without a byte after which a log tells why, which for an eye would be long."""

STANDS_EVERY: Final = 30.0
"""Seconds between two such lines about one download: what moves a little each time is not news."""

USUAL_COLUMNS: Final = 80
_CLEAR_LINE: Final = "\r\x1b[K"
_MILESTONES: Final = (75, 50, 25)  # per cent
# Other stages are told as they begin.
_MOVING: Final = (Stage.OPENING, Stage.RUNNING)


def is_terminal(fd: int) -> bool:
    """Whether `fd` is a terminal that understands the one code that we use."""
    return os.isatty(fd) and os.environ.get("TERM", "") not in ("", "dumb")


def columns_of(fd: int) -> int:
    """How wide the terminal `fd` is, in characters."""
    try:
        return os.get_terminal_size(fd).columns or USUAL_COLUMNS
    except OSError:
        return USUAL_COLUMNS


@dataclass(slots=True)
class _Told:
    """What a log has been told of one download."""

    milestone: int = 0
    stands: bool = False
    """That it stands, and not yet that it moves again."""
    since: float | None = None
    """When it came to stand; None while it moves."""
    quiet_until: float = -math.inf
    """When it may be told again that it stands."""


class Screen:
    """Lines for a person and, below them on a terminal, one line about the downloads."""

    def __init__(
        self,
        write: Callable[[str], None],
        *,
        terminal: bool,
        columns: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        self._write = write
        self._terminal = terminal
        self._columns = columns
        self._status = ""
        self._clock = clock
        self._told: dict[int, _Told] = {}  # by a download's identity

    def line(self, text: str) -> None:
        """Print a line."""
        if self._status:
            self._write(f"{_CLEAR_LINE}{text}\n{self._status}")
        else:
            self._write(f"{text}\n")

    def show(self, downloads: Sequence[Download]) -> None:
        """Say how far the downloads are, where it has changed."""
        if self._terminal:
            self._redraw(downloads)
        else:
            self._tell_milestones(downloads)

    def clear(self) -> None:
        """Take the line about the downloads away."""
        if self._status:
            self._write(_CLEAR_LINE)
            self._status = ""

    def _redraw(self, downloads: Sequence[Download]) -> None:
        texts = [
            words.progress_text(download.name, progress)
            for download in downloads
            if download.stage is Stage.RUNNING and (progress := download.progress()) is not None
        ]
        # One column stays free: a full line makes some terminals go to the next.
        status = clip(" | ".join(texts), self._columns() - 1)
        if status != self._status:
            self._write(f"{_CLEAR_LINE}{status}")
            self._status = status

    def _tell_milestones(self, downloads: Sequence[Download]) -> None:
        self._told = {id(one): self._told.get(id(one)) or _Told() for one in downloads}
        for download in downloads:
            told = self._told[id(download)]
            progress = download.progress()
            if progress is None:
                told.stands, told.since = False, None
                continue
            reached = next((one for one in _MILESTONES if words.percent(progress) >= one), 0)
            if reached > told.milestone:
                told.milestone = reached
                if download.stage is Stage.RUNNING:  # else it has been said where it stands
                    self.line(words.progress_text(download.name, progress))
            self._tell_stall(download, progress, told)

    def _tell_stall(self, download: Download, progress: Progress, told: _Told) -> None:
        """Say why nothing moves if that has been so for a while, and that it moves again."""
        now = self._clock()
        if download.stage not in _MOVING or not progress.reason:
            if told.stands and download.stage is Stage.RUNNING:
                self.line(words.moving_text(download.name, progress))
            told.stands, told.since = False, None
        elif told.since is None:
            told.since = now
        elif not told.stands and now >= max(told.since + STANDS_AFTER, told.quiet_until):
            told.stands, told.quiet_until = True, now + STANDS_EVERY
            self.line(words.progress_text(download.name, progress))


class Ticker:
    """The one timer of a client that shows downloads; it runs only while there are any."""

    def __init__(
        self,
        reactor: Any,
        show: Callable[[Sequence[Download]], None],
        downloads: Callable[[], list[Download]],
    ) -> None:
        self._reactor = reactor
        self._show = show
        self._downloads = downloads
        self._call: IDelayedCall | None = None

    def update(self) -> None:
        """Show the downloads now, and go on showing them while there are any."""
        downloads = self._downloads()
        self._show(downloads)
        if downloads and self._call is None:
            self._call = self._reactor.callLater(REDRAW_EVERY, self._tick)
        elif not downloads:
            self.stop()

    def stop(self) -> None:
        """Disarm the timer."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _tick(self) -> None:
        self._call = None
        self.update()
