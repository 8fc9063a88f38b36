"""How a transfer ends: every end has a number on the wire, a name, and a sentence for people."""

from __future__ import annotations

import errno
from enum import IntEnum
from typing import Final


class End(IntEnum):
    """Why a transfer is over. The number is what travels in STATUS and CONTROL packets."""

    NONE = 0
    DONE = 1
    CANCELLED = 2
    REFUSED = 3
    PEER_SILENT = 4
    FILE_CHANGED = 5
    FILE_UNREADABLE = 6
    DISK_FULL = 7
    DISK_ERROR = 8
    HASH_MISMATCH = 9
    SERVER_STOPPING = 10
    PROTOCOL_ERROR = 11
    INTERRUPTED = 12
    TOO_NARROW = 13

    @property
    def sentence(self) -> str:
        """What to tell a person."""
        return _SENTENCES[self]


_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The disk is full, or what we may have of it, or it takes no file so long."""


def end_for(error: OSError) -> End:
    """The end of a transfer whose file cannot be written for this reason."""
    return End.DISK_FULL if error.errno in _NO_ROOM else End.DISK_ERROR


_SENTENCES = {
    End.NONE: "The transfer goes on.",
    End.DONE: "The whole file has arrived and its digest is right.",
    End.CANCELLED: "The download was cancelled.",
    End.REFUSED: "The server no longer sends this download to you.",
    End.PEER_SILENT: "The other side has not answered for too long.",
    End.FILE_CHANGED: "The file on the server changed while it was being sent; ask for it again.",
    End.FILE_UNREADABLE: "The server could not read the file.",
    End.DISK_FULL: "There is not enough room on the disk for the file.",
    End.DISK_ERROR: "The file could not be written.",
    End.HASH_MISMATCH: "The file that arrived is not the file that was sent; ask for it again.",
    End.SERVER_STOPPING: "The server is shutting down; ask for the file again when it is back.",
    End.PROTOCOL_ERROR: "The other side does not follow the protocol.",
    End.INTERRUPTED: "The download was interrupted; what has arrived is kept.",
    End.TOO_NARROW: "The path carries no packets of 1200 bytes, most likely for a tunnel or a VPN"
    " whose MTU is too small: 1280 will do.",
}
