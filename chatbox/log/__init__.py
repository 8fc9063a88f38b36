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
- What is *attempted* again is said once. An entry may carry an `Attempt`, which names the message
  rather than the entry. If the log has that message already, by another connection, the entry is
  answered with a record that is marked `repeated`; nobody else hears of it. How far back a log
  knows is bounded, see `chatbox.log.attempts`.
- History shows nothing that has not been reported yet. Whoever listens already, and asks what came
  before, hears everything exactly once.
- A log may lose its beginning, by plan (`--keep`) or not. Whoever asks for what follows a place
  before the loss finds a record of the kind GAP ahead of the messages.
- A log knows nothing of rooms and names. Who may read a record is in the record.

Ways not taken: Deferreds (a batch has many parties, each with its own interest, and the room wants
one call for all of them); one record a call (group commit and one write a turn live from batches);
frozen dataclasses for entries and records (a tuple is made in a quarter of the time, and a busy
room makes several of them for each message).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from chatbox.errors import LocalError

if TYPE_CHECKING:
    from chatbox.log.keep import Keep

__all__ = ["KINDS", "Attempt", "Entry", "Kind", "MessageLog", "Record", "gap", "open_log"]

KINDS: Final = (
    "memory:, sqlite:PATH, redis://HOST/DB or redis+sentinel://HOST/SERVICE/DB,"
    " with TLS rediss:// or rediss+sentinel://"
)
"""Every kind of log that there is, for people."""


class Kind(Enum):
    """What sort of thing is said."""

    MESSAGE = "message"
    """Something that a person said. Kept, and shown in history."""
    PRESENCE = "presence"
    """Somebody comes or goes. It takes its place among the messages, and is not kept."""
    ROLL = "roll"
    """Forget who is here by other processes: whoever is, follows."""
    HERE = "here"
    """Somebody is here, by another process or newly by this one, and the others know it already."""
    MOVED = "moved"
    """Somebody's name is held by another process now; `text` says by which. Nobody hears it."""
    GONE = "gone"
    """Somebody is not here any more, and nobody need hear it."""
    ORDER = "order"
    """An operator does something to somebody: `text` says what. Told in its place, and not kept."""
    GAP = "gap"
    """Messages up to this place are gone. It is the log that says so; nobody appends it."""


class Attempt(NamedTuple):
    """What all attempts to say one message have in common."""

    who: str
    """Who tries: the identity. Marks of different people never meet."""
    mark: bytes
    """A few bytes: the same whenever this message is tried, and other ones for any other."""
    via: str = ""
    """The connection that it comes by, if that is known. Only who has lost a connection has a
    reason to try again: the same mark by the same connection is another message."""


class Entry(NamedTuple):
    """What somebody wants to have said."""

    kind: Kind
    sender: str
    recipient: str
    text: str
    readers: tuple[str, ...] = ()
    """The identities that alone may read this in history; nobody named means everybody."""
    origin: object = None
    """Whatever the appender wants to find in the record again. It is not kept."""
    attempt: Attempt | None = None
    """Which message this is a try at; None if it will not be tried again."""
    identity: str = ""
    """Who comes or goes, whatever the name; other processes that share the log want to know."""


class Record(NamedTuple):
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
    repeated: bool = False
    """Whether this was said before, at this place: its appender may know, nobody should hear it."""
    identity: str = ""


def gap(floor: int) -> Record:
    """Return the record that says that messages up to the place `floor` are gone."""
    return Record(floor, 0, Kind.GAP, "", "", "")


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
        before: int | None = None,
    ) -> None:
        """Find kept messages that the identity `reader` may read, and give them to `answer`, once.

        These are the first `count` after the place `after`, or if that is None the last `count`
        before the place `before`, or of all; always in order, and fewer if there are fewer. None
        means that the log cannot tell now.
        """


def open_log(
    url: str,
    *,
    now: Callable[[], float] = time.time,
    call_from_thread: Callable[..., object] | None = None,
    state_dir: str | None = None,
    keep: Keep | None = None,
    reactor: Any = None,
) -> MessageLog:
    """Make the log that `url` describes; it does nothing before `start`.

    - ``memory:`` keeps a bounded number of messages until the process ends.
    - ``sqlite:PATH`` keeps them in a file; without a path, in `state_dir`. With ``?sync=normal``
      it does not wait for the disk: faster, and a power cut may take the last messages.
    - ``redis://HOST:PORT/DB`` is shared by several processes: see `chatbox.log.redis`. All that
      `chatbox.log.place` reads goes: ``rediss:``, ``redis+sentinel:`` and ``rediss+sentinel:``.

    `now` is the clock, in seconds since the epoch. `call_from_thread` has a function called in the
    thread of the caller, soon: a reactor's ``callFromThread``. `keep` says what may be forgotten.
    `reactor` is for connections; None is that of the process.
    Raises ValueError, with a sentence for people, if there is no such log.
    """
    from chatbox.log.keep import EVERYTHING
    from chatbox.log.place import SCHEMES

    kind, _, rest = url.partition(":")
    if url == "memory:":
        from chatbox.log.memory import MemoryLog

        return MemoryLog(now, keep or EVERYTHING)
    if kind == "sqlite" and url != kind:
        from chatbox.log.sqlite import SqliteLog, parse_place

        path, sync = parse_place(rest, state_dir)
        return SqliteLog(path, now, call_from_thread or _no_thread, sync, keep or EVERYTHING)
    if kind in SCHEMES and url != kind:
        from chatbox.log.redis import RedisLog

        return RedisLog(url, keep or EVERYTHING, reactor)
    raise ValueError(f"There is no log of the kind {url!r}; write {KINDS}.")


def _no_thread(*_: object) -> None:
    raise LocalError("This log needs a way to call back")
