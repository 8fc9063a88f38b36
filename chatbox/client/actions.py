"""What a person can have done, as values: what `chatbox.client.commands` makes of what they type.

A button of the window makes the same. Whoever does them says nothing to a server but by the session
(`chatbox.client.chat.session`), and need not know how a person has said it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from chatbox.client.chat.events import EVERYONE, Kind

__all__ = [
    "DEFAULT_HISTORY",
    "Action",
    "FetchFile",
    "Help",
    "Limit",
    "Moderate",
    "OpenFile",
    "Quit",
    "Reply",
    "Say",
    "ShowBans",
    "ShowDownloads",
    "ShowFiles",
    "ShowHistory",
    "ShowOnline",
    "Steer",
    "Steering",
]

DEFAULT_HISTORY: Final = 20
"""Messages that `/history` shows: a screen."""


class Steering(Enum):
    """What can be asked of a running download."""

    PROCEED = "proceed"
    PAUSE = "pause"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class Say:
    """Send `text` to `recipient`."""

    text: str
    recipient: str = EVERYONE


@dataclass(frozen=True, slots=True)
class Reply:
    """Send `text` to whoever has last written to us privately."""

    text: str


@dataclass(frozen=True, slots=True)
class ShowOnline:
    """List who is here."""


@dataclass(frozen=True, slots=True)
class ShowFiles:
    """List the server's files."""


@dataclass(frozen=True, slots=True)
class ShowHistory:
    """Show the last `count` messages."""

    count: int = DEFAULT_HISTORY


@dataclass(frozen=True, slots=True)
class FetchFile:
    """Fetch the file `name`, and save it as `save_as` or under its own name here."""

    name: str
    save_as: str | None = None
    pause_half_way: bool = True


@dataclass(frozen=True, slots=True)
class Limit:
    """Let the download of `name`, or each one, take at most `rate` bytes per second; None: all."""

    rate: int | None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Steer:
    """Do `steering` to the download of `name`, or to the only one there is."""

    steering: Steering
    name: str | None = None


@dataclass(frozen=True, slots=True)
class ShowDownloads:
    """Say how far the downloads are, and where those are that have ended well."""


@dataclass(frozen=True, slots=True)
class OpenFile:
    """Open what was downloaded as `name`, or last, with the desktop's program for it."""

    name: str | None = None


@dataclass(frozen=True, slots=True)
class Moderate:
    """Do to somebody what only operators may do."""

    kind: Kind
    whom: str
    seconds: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ShowBans:
    """List who is banned or muted."""


@dataclass(frozen=True, slots=True)
class Help:
    """Say what can be typed, by everybody or by operators."""

    operators: bool = False


@dataclass(frozen=True, slots=True)
class Quit:
    """Leave."""


Action = (
    Say
    | Reply
    | ShowOnline
    | ShowFiles
    | ShowHistory
    | FetchFile
    | Limit
    | Steer
    | ShowDownloads
    | OpenFile
    | Moderate
    | ShowBans
    | Help
    | Quit
)
