"""The downloads as rows of the window: those on their way, and the last ones that have ended.

A conversation forgets a download when it has ended. A person wants to see how, and where the file
is, so its row stays until it is dismissed or pushed out by newer ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from chatbox.client import words
from chatbox.client.actions import Steering
from chatbox.client.exits import Exit
from chatbox.client.files.transfers import Download, Stage
from chatbox.text import printable

__all__ = ["MAX_ENDED", "STANDING", "Row", "Rows"]

MAX_ENDED: Final = 5
"""Rows of downloads that have ended: what fits beside those that run."""

STANDING: Final = "Proceed lets it go on, Cancel gives it up."
"""What to do about a download that stands."""

_STANDS: Final = (Stage.PAUSED, Stage.HALF_WAY)


@dataclass(frozen=True, slots=True)
class Row:
    """What one row shows, and which of its buttons are there."""

    name: str
    text: str
    """Where it stands, in words."""
    percent: float
    can_proceed: bool
    can_pause: bool
    is_asking: bool
    """It stands half way and waits for an answer."""
    has_ended: bool
    is_complete: bool
    path: str
    """Where it is, or will be."""


class Rows:
    """All downloads of the window, oldest first. They outlive the room where they began."""

    def __init__(self) -> None:
        self.downloads: list[Download] = []
        self._stages: dict[int, Stage] = {}
        """Of each download, where it stood when it was last looked at."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when a row has come, gone, or says something else."""

    @property
    def is_moving(self) -> bool:
        """Whether a row shows something else by itself from moment to moment."""
        return any(one.stage is Stage.RUNNING for one in self.downloads)

    def follow(self, running: Sequence[Download]) -> list[str]:
        """One of the downloads `running` has changed, or is new.

        Returns sentences about those that have come half way or to an end.
        """
        self.downloads += [one for one in running if one not in self.downloads]
        stages = {id(one): one.stage for one in self.downloads}
        news = [
            _announcement(one)
            for one in self.downloads
            if one.stage in (Stage.HALF_WAY, Stage.ENDED)
            and one.stage is not self._stages.get(id(one))
        ]
        self._stages = stages
        ended = [one for one in self.downloads if one.stage is Stage.ENDED]
        for one in ended[:-MAX_ENDED]:
            self.downloads.remove(one)
        self.on_change()
        return news

    def steer(self, download: Download, steering: Steering) -> None:
        """Let it wait, go on, or be given up."""
        download.steer(steering)
        self.on_change()

    def dismiss(self, download: Download) -> None:
        """Show a download that has ended no longer."""
        if download.stage is Stage.ENDED and download in self.downloads:
            self.downloads.remove(download)
            self.on_change()

    def stop(self) -> None:
        """The window closes: keep the beginning of each download, so that it can be resumed."""
        for one in self.downloads:
            one.interrupt()

    @staticmethod
    def row(download: Download) -> Row:
        """What the row of a download shows now."""
        stage, progress = download.stage, download.progress()
        complete = download.status is Exit.OK
        share = words.percent(progress) if progress is not None else 100 if complete else 0
        match stage:
            case Stage.ASKED | Stage.OPENING:
                text = "Asking the server…"
            case Stage.RUNNING if progress is not None:
                text = words.progress_text("", progress).strip()
            case Stage.HALF_WAY:
                text = f"Half way, at {share} %. Go on?"
            case Stage.PAUSED:
                text = f"Paused at {share} %."
            case _ if complete:
                text = f"Complete and checked: {printable(_short(_path(download)))}"
            case _:
                text = download.last_words
        return Row(
            name=printable(download.name),
            text=text,
            percent=share,
            can_proceed=stage in _STANDS,
            can_pause=stage is Stage.RUNNING,
            is_asking=stage is Stage.HALF_WAY,
            has_ended=stage is Stage.ENDED,
            is_complete=complete,
            path=os.path.abspath(_path(download)),
        )


def _announcement(download: Download) -> str:
    """A sentence about a download that stands half way, or has ended."""
    name, progress = printable(download.name), download.progress()
    if download.stage is Stage.HALF_WAY:
        share = words.percent(progress) if progress is not None else 50
        return f"{name} stands half way, at {share} %. {STANDING}"
    if download.status is Exit.OK:
        return f"{name} is complete: {printable(_short(_path(download)))}"
    return download.last_words


def _path(download: Download) -> str:
    ended = download.ended
    return ended.path if ended is not None and ended.path else download.path


def _short(path: str) -> str:
    """A path with ~ for the home folder."""
    home = os.path.expanduser("~")
    return f"~{path[len(home) :]}" if home != "/" and path.startswith(f"{home}/") else path
