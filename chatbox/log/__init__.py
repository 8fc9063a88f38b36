"""What has been said. The log is the bus: the room delivers what it has committed, nothing else.

A log takes *entries*, what somebody wants to have said, and makes *records* of them: each gets its
place, a number that only grows, and its time. It hands records to its subscriber in the order of
their places, in batches, once each. Whoever waits for a record can therefore rely on it: it is kept
as well as this log keeps anything, and everybody else gets it at the same place.

The rules that every kind of log follows, and that `tests/test_log.py` checks:

- Committing may take any time. `append` returns at once and may or may not have committed by then.
  Every entry is either committed or reported as failed, exactly once, with the very `origin` that
  it came with. What another process appended arrives with no origin.
- Everything happens in one thread, the caller's. Callbacks may call any method again. A commit
  caused inside the subscriber's callback is reported after that callback has returned, so that
  nobody sees records out of order.
- A log knows nothing of rooms and names. Who may read a record is in the record.

Ways not taken: Deferreds (a batch has many parties, each with its own interest, and the room wants
one call for all of them); one record a call (group commit and one write a turn live from batches).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

__all__ = ["Entry", "Kind", "MessageLog", "Record", "open_log"]


class Kind(Enum):
    """What sort of thing is said."""

    MESSAGE = "message"
    """Something that a person said. Kept, and shown in history."""
    PRESENCE = "presence"
    """Somebody comes or goes. It takes its place among the messages, and is not kept."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What somebody wants to have said."""

    kind: Kind
    sender: str
    recipient: str
    text: str
    readers: tuple[str, ...] = ()
    """The identities that alone may read this in history; nobody named means everybody."""
    origin: object = None
    """Whatever the appender wants to find in the record again. It is not kept."""


@dataclass(frozen=True, slots=True)
class Record:
    """What has been said: an entry with its place and its time."""

    id: int
    """The place in the log, from 1. Later records have greater numbers; numbers may be skipped."""
    at: int
    """When it was committed, in milliseconds since the epoch, by a clock that may be set."""
    kind: Kind
    sender: str
    recipient: str
    text: str
    readers: tuple[str, ...] = ()
    origin: object = None


class MessageLog(Protocol):
    """What every kind of log can do."""

    def subscribe(
        self,
        on_commit: Callable[[Sequence[Record]], None],
        on_failure: Callable[[Sequence[Entry]], None],
    ) -> None:
        """Name the one subscriber, before `start`.

        `on_commit` hears of each batch of records, in order; `on_failure` of entries that will not
        be committed. Why is for the log to tell its operator; to everyone else it is unavailable.
        """

    def start(self) -> None:
        """Begin to work. Raises OSError or LocalError if that is impossible."""

    def stop(self, stopped: Callable[[], None]) -> None:
        """Take no more. Commit or fail what has been appended, let go of everything; `stopped`."""

    def append(self, entries: Sequence[Entry]) -> None:
        """Commit these, in this order, as one batch if that is cheaper."""

    def history(
        self,
        after: int | None,
        count: int,
        reader: str,
        answer: Callable[[Sequence[Record] | None], None],
    ) -> None:
        """Find kept messages that the identity `reader` may read, and give them to `answer`, once.

        These are the first `count` after the place `after`, or the last `count` if that is None;
        always in order, and fewer if there are fewer. None means that the log cannot tell now.
        """


def open_log(url: str, *, now: Callable[[], float] = time.time) -> MessageLog:
    """Make the log that `url` describes; it does nothing before `start`.

    ``memory:`` keeps a bounded number of messages until the process ends. `now` is the clock, in
    seconds since the epoch. Raises ValueError, with a sentence for people, for anything else.
    """
    from chatbox.log.memory import MemoryLog

    if url == "memory:":
        return MemoryLog(now)
    raise ValueError(f"There is no log of the kind {url!r}; there is memory: only.")
