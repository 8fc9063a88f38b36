"""What a client asks a server, and what it hears: the values that the session hands out.

Text in them is as the server sent it. Whoever shows it passes it through `chatbox.text.printable`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

__all__ = [
    "EVERYONE",
    "Back",
    "BanList",
    "Banned",
    "Cut",
    "Event",
    "Failed",
    "FileList",
    "Gap",
    "Garbled",
    "Headcount",
    "HistoryPage",
    "JoinRefused",
    "Joined",
    "Kind",
    "Left",
    "Listed",
    "Lost",
    "Moderated",
    "Offer",
    "Presence",
    "Problem",
    "Request",
    "Said",
    "Succeeded",
    "UserList",
]

EVERYONE: Final = "all"
"""The recipient of what is said to the whole room."""


class Kind(Enum):
    """What a request asks for; `wire` is its name on the wire."""

    CONNECT = "connect"
    DISCONNECT = "disconnect"
    USERS = "get_user_list"
    FILES = "get_file"
    SAY = "message_request"
    DOWNLOAD = "download"
    HISTORY = "history"
    PING = "ping"
    PROBE = "probe"
    KICK = "kick"
    BAN = "ban"
    MUTE = "mute"
    UNBAN = "unban"
    UNMUTE = "unmute"
    BANS = "get_ban_list"
    CATCH_UP = "catch up"
    """History again, that we ask for ourselves after a cut."""

    @property
    def wire(self) -> str:
        """How the request is spelt."""
        return Kind.HISTORY.value if self is Kind.CATCH_UP else str(self.value)


@dataclass(frozen=True, slots=True)
class Request:
    """A request that was sent: enough to tell a person later what became of it."""

    number: int
    kind: Kind
    recipient: str = ""  # of SAY; whom it is done to, of what operators do
    text: str = ""  # what was said; the file's name of DOWNLOAD; the name asked for of CONNECT


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something was refused: a code for programs and a sentence (foreign text!) for people."""

    code: str
    detail: str = ""
    wait: int | None = None
    """After how many seconds it is worth trying again, if the server says so."""


@dataclass(frozen=True, slots=True)
class Joined:
    """We are in, as `name`; `key` takes this name over again after a cut connection.

    `limits` is what the server would have us keep to, such as ``{"rate": 50}``.
    """

    name: str
    key: str
    limits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JoinRefused:
    """The server does not want us under this name; another may be tried at once."""

    name: str
    problem: Problem


@dataclass(frozen=True, slots=True)
class Said:
    """Somebody said something. `id` is its place in the log, `at` milliseconds since the epoch."""

    sender: str
    recipient: str
    text: str
    id: int = 0
    at: int | None = None


@dataclass(frozen=True, slots=True)
class Presence:
    """Somebody came (`here`) or went."""

    name: str
    here: bool
    at: int | None = None


@dataclass(frozen=True, slots=True)
class Moderated:
    """An operator has done something to somebody."""

    by: str
    what: str
    """``kicked``, ``banned``, ``muted``, ``unbanned`` or ``unmuted``."""
    whom: str
    """A name; empty for an address, which nobody is told."""
    seconds: int | None
    """For how long; None for good, or where that means nothing."""
    reason: str
    at: int | None = None


@dataclass(frozen=True, slots=True)
class Banned:
    """A row of the list of bans: `kind` is ``ban`` or ``mute``, `whom` a name or a network."""

    kind: str
    whom: str
    by: str
    seconds: int | None
    """How long it goes on; None for good."""
    reason: str
    at: int | None = None


@dataclass(frozen=True, slots=True)
class Headcount:
    """So many are here. In a crowd this is told now and then, instead of who comes and goes."""

    count: int


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages are missing here: the server no longer has them."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A file on the server's shelf; the size in bytes is None when the server does not say."""

    name: str
    size: int | None


@dataclass(frozen=True, slots=True)
class Succeeded:
    """A SAY or what an operator does is in the log, or a PING came back."""

    request: Request
    at: int | None = None


@dataclass(frozen=True, slots=True)
class UserList:
    """Who is here, in the server's order."""

    request: Request
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FileList:
    """What lies on the shelf, in the server's order."""

    request: Request
    files: tuple[Listed, ...]


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """What was said before, oldest first.

    `more` is the place after which there is more to be asked for, None if this is all. Where no
    place was named to begin after, `before` is the one before which there is more, 0 if this is
    all, None if the server does not say.
    """

    request: Request
    said: tuple[Said, ...]
    more: int | None = None
    before: int | None = None


@dataclass(frozen=True, slots=True)
class BanList:
    """Who is banned or muted, oldest first."""

    request: Request
    bans: tuple[Banned, ...]


@dataclass(frozen=True, slots=True)
class Offer:
    """A file may be fetched from this UDP port with this ticket; `size` in bytes.

    `mtime_ms` (when it was last changed, milliseconds since the epoch) and `digest` (sha-256) are
    None where the server does not say.
    """

    request: Request
    port: int
    ticket: str
    size: int
    mtime_ms: int | None = None
    digest: bytes | None = None
    ports: int | None = None
    """How many UDP ports the server has; only of a PROBE."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A request was refused; `request` is None when the server did not say which."""

    request: Request | None
    problem: Problem


@dataclass(frozen=True, slots=True)
class Garbled:
    """The server sent a line that makes no sense. Told once a connection; the rest is counted."""

    detail: str


@dataclass(frozen=True, slots=True)
class Left:
    """The server has taken our goodbye."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection is gone. `expected` if we said goodbye; `unanswered` in the order sent."""

    expected: bool
    unanswered: tuple[Request, ...]


@dataclass(frozen=True, slots=True)
class Cut:
    """The connection is gone, and the session waits for another one."""

    restarting: bool = False
    """Whether the server has announced that it restarts."""


@dataclass(frozen=True, slots=True)
class Back:
    """There is a connection again, what was missed has been handed out, nothing is said twice."""

    restarted: bool = False
    """Whether the server had announced that it restarts, so that nobody need be told."""


Event = (
    Back
    | Cut
    | Gap
    | Joined
    | JoinRefused
    | Said
    | Presence
    | Moderated
    | Headcount
    | Succeeded
    | UserList
    | FileList
    | HistoryPage
    | BanList
    | Offer
    | Failed
    | Garbled
    | Left
    | Lost
)
