"""How the command ``chatbox`` ends: every exit status with its meaning."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from chatbox.errors import ChatboxError

if TYPE_CHECKING:
    from chatbox.rdt.ends import End

__all__ = ["SIGNALS", "STOPPING", "Exit", "Stop", "Stopping", "exit_for_end", "exit_for_refusal"]


class Exit(IntEnum):
    """An exit status. The numbers are part of the interface: scripts rely on them."""

    meaning: str

    def __new__(cls, number: int, meaning: str) -> Exit:
        """Keep the meaning beside the number."""
        member = int.__new__(cls, number)
        member._value_ = number
        member.meaning = meaning
        return member

    OK = 0, "all went well"
    FAILED = 1, "something went wrong that has no number of its own"
    USAGE = 2, "the command line is wrong"
    NO_CONNECTION = 3, "the server cannot be reached"
    NOT_LET_IN = 4, "the server refused the name or the password"
    NOT_THERE = 5, "there is no such file, or nobody of that name is here"
    REFUSED = 6, "the server refused the request for another reason"
    LOST = 7, "the connection was lost, or the server stopped answering or is stopping"
    NO_UDP = 8, "no data comes through over UDP"
    BAD_DATA = 9, "the file that arrived is not the file that was sent, or nonsense arrived"
    FILE_TROUBLE = 10, "the server's file changed or could not be read"
    DISK_FULL = 11, "there is no room here for the file"
    CANNOT_SAVE = 12, "the file cannot be saved here, say because there is one of that name"
    CANCELLED = 13, "the download was cancelled"
    NOT_TRUSTED = 14, "the server's certificate is not the one that is known or expected"
    HUNG_UP = 129, "stopped because the terminal went away (SIGHUP)"
    INTERRUPTED = 130, "stopped by Ctrl-C (SIGINT)"
    TERMINATED = 143, "stopped by SIGTERM"


SIGNALS: Final[Mapping[signal.Signals, Exit]] = {
    signal.SIGINT: Exit.INTERRUPTED,
    signal.SIGTERM: Exit.TERMINATED,
    signal.SIGHUP: Exit.HUNG_UP,
}
"""The signals that end a command, and its status then."""


class Stop(ChatboxError):
    """The command cannot go on: the status to end with, and a sentence for the person."""

    def __init__(self, status: Exit, sentence: str) -> None:
        super().__init__(status, sentence)
        self.status = status
        self.sentence = sentence


class Stopping(Stop):
    """The server refuses because it is about to go away; it may be back soon."""


# By the name of the end, so that this does not load the transfer's code for a mere `chatbox who`.
_FOR_END: Final[Mapping[str, Exit]] = {
    "DONE": Exit.OK,
    "CANCELLED": Exit.CANCELLED,
    "INTERRUPTED": Exit.CANCELLED,
    "REFUSED": Exit.REFUSED,
    "PEER_SILENT": Exit.NO_UDP,
    "TOO_NARROW": Exit.NO_UDP,
    "FILE_CHANGED": Exit.FILE_TROUBLE,
    "FILE_UNREADABLE": Exit.FILE_TROUBLE,
    "DISK_FULL": Exit.DISK_FULL,
    "DISK_ERROR": Exit.CANNOT_SAVE,
    "HASH_MISMATCH": Exit.BAD_DATA,
    "SERVER_STOPPING": Exit.LOST,
    "PROTOCOL_ERROR": Exit.BAD_DATA,
}

# The refusals that mean "that does not exist", or cannot; every other one is plain REFUSED.
_NOT_THERE: Final = frozenset({"no-such-file", "bad-file-name", "no-such-user"})

STOPPING: Final = frozenset({"restarting", "server-stopping"})
"""Refusals of a server that is about to go away."""


def exit_for_end(end: End, *, was_heard: bool) -> Exit:
    """The exit status that tells how a transfer ended; `was_heard` if the server ever answered."""
    if end.name == "PEER_SILENT" and was_heard:
        return Exit.LOST
    return _FOR_END.get(end.name, Exit.FAILED)


def exit_for_refusal(code: str) -> Exit:
    """The exit status for a refused request with the error code `code`."""
    if code in STOPPING:
        return Exit.LOST
    return Exit.NOT_THERE if code in _NOT_THERE else Exit.REFUSED
