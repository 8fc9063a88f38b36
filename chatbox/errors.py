"""Who is to blame.

Every failure in chatbox has one of three causes, and its type says which:

- `LocalError`: our own caller broke a contract. That is a bug in this program; let it be seen.
- `RemoteError`: the peer did something wrong or asked for something that cannot be had. Over TCP it
  becomes an error answer; over UDP the datagram is dropped and counted.
- `OSError`: the weather, such as a full disk or a lost network. It is Python's own and stays so;
  where more than one thing may be wrong, `NoSocket` says which it was.
"""

from __future__ import annotations

__all__ = ["CannotStart", "ChatboxError", "LocalError", "NoSocket", "RemoteError"]


class CannotStart(SystemExit, Exception):
    """The server cannot start, for a reason that its operator can see to: a whole sentence.

    Python ends with the sentence and status 1, and without a traceback, as with any `SystemExit`.
    And ``twistd`` in the background, which looks out for an `Exception` only, passes it on to the
    one who waits at the terminal, for ever else, and takes its pid file away.
    """


class ChatboxError(Exception):
    """What the two errors of our own have in common."""


class LocalError(ChatboxError):
    """Our own caller broke a contract: a bug on this side of the wire."""


class RemoteError(ChatboxError):
    """The peer broke the protocol, or asked for what it cannot have.

    `code` is a short word for programs, as it goes over the wire (``no-such-file``); `detail` is a
    sentence for people and may be empty.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}" if self.detail else self.code


class NoSocket(OSError):
    """The system gives us no socket: it has no such network, or we have too many files open."""
