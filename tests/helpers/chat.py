"""Stand-ins for what surrounds the chat: a reactor's turns, a wire, a log that takes its time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count

from chatbox.chat.codes import Code
from chatbox.chat.names import Claim, LocalNames, Name
from chatbox.chat.sharing import Found, Offer, Probe
from chatbox.chat.wire import Message, format_line, parse_line
from chatbox.errors import RemoteError
from chatbox.log import Entry, Record
from chatbox.log.keep import EVERYTHING, Keep
from chatbox.log.memory import MemoryLog

NOON = 1_700_000_000.0
"""A time at which tests happen, in seconds since the epoch."""


class Turns:
    """A reactor that does nothing but end its turns when told."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[], None]] = []

    def later(self, work: Callable[[], None]) -> None:
        """What a `chatbox.chat.outbox.Turn` is made with."""
        self._waiting.append(work)

    @property
    def asked(self) -> int:
        """How many calls wait for the end of the turn."""
        return len(self._waiting)

    def end(self) -> None:
        """End this turn, and those that it causes."""
        for _ in range(100):
            if not self._waiting:
                return
            self.end_one()
        raise AssertionError("The turns never end")

    def end_one(self) -> None:
        """End this turn."""
        waiting, self._waiting = self._waiting, []
        for work in waiting:
            work()


class Wire:
    """A transport that remembers what was written, write by write."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.sends = 0
        """How many of them were sent, without a call of the outbox."""
        self.on_write: Callable[[], None] = lambda: None

    def send(self, data: bytes) -> int:
        """Take all."""
        self.sends += 1
        self.write(data)
        return len(data)

    def write(self, data: bytes) -> None:
        """Remember one write."""
        self.writes.append(data)
        self.on_write()

    def finish(self, pieces: Iterable[bytes]) -> None:
        """Remember one write in pieces."""
        self.write(b"".join(pieces))

    def take(self) -> bytes:
        """Return what was written, once."""
        writes, self.writes = self.writes, []
        return b"".join(writes)

    def take_messages(self) -> list[Message]:
        """Return the lines that were written, once. Their fields are in the order of all lines."""
        lines = self.take().splitlines(keepends=True)
        messages = [parse_line(line) for line in lines]
        assert [format_line(message) for message in messages] == lines
        return messages


class DelayedNames(LocalNames):
    """Names that are given out when the test says so, if it is set to say so."""

    def __init__(self, make_token: Callable[[], str]) -> None:
        super().__init__(make_token)
        self.delayed = False
        self.asked: list[Callable[[], None]] = []

    def claim(self, name: Name, token: str | None, answer: Callable[[Claim | Code], None]) -> None:
        """Let the claim wait."""
        claim = super().claim
        if self.delayed:
            self.asked.append(lambda: claim(name, token, answer))
        else:
            claim(name, token, answer)

    def give(self) -> None:
        """Decide the oldest claim."""
        self.asked.pop(0)()


class DelayedLog:
    """A log that answers only when it is told to, and fails when it is told to."""

    def __init__(self, now: Callable[[], float] = lambda: NOON, keep: Keep = EVERYTHING) -> None:
        self._memory = MemoryLog(now, keep)
        self._on_failure: Callable[[Sequence[Entry]], None] | None = None
        self.appended: deque[Sequence[Entry]] = deque()
        """Batches that are neither committed nor failed."""
        self.asked: deque[Callable[[], None]] = deque()
        """Questions about history without their answer."""
        self.reachable = True

    def subscribe(
        self,
        on_commit: Callable[[Sequence[Record]], None],
        on_failure: Callable[[Sequence[Entry]], None],
    ) -> None:
        """Name the one subscriber."""
        self._on_failure = on_failure
        self._memory.subscribe(on_commit, on_failure)

    def start(self) -> None:
        """Begin."""
        self._memory.start()

    def stop(self, stopped: Callable[[], None]) -> None:
        """Commit what waits, and end."""
        self.settle()
        self._memory.stop(stopped)

    def append(self, entries: Sequence[Entry]) -> None:
        """Let these wait."""
        self.appended.append(entries)

    def history(
        self,
        after: int | None,
        count: int,
        reader: str,
        answer: Callable[[Sequence[Record] | None], None],
        before: int | None = None,
    ) -> None:
        """Let the question wait; answer None if the log cannot be reached by then."""

        def reply() -> None:
            if self.reachable:
                self._memory.history(after, count, reader, answer, before)
            else:
                answer(None)

        self.asked.append(reply)

    def commit(self) -> None:
        """Commit the oldest batch."""
        self._memory.append(self.appended.popleft())

    def fail(self) -> None:
        """Fail the oldest batch."""
        assert self._on_failure is not None
        self._on_failure(self.appended.popleft())

    def reply(self) -> None:
        """Answer the oldest question."""
        self.asked.popleft()()

    def settle(self) -> None:
        """Commit and answer everything."""
        while self.appended:
            self.commit()
        while self.asked:
            self.reply()


@dataclass(frozen=True)
class File:
    """A file on a `FakeShelf`."""

    name: str
    size: int


class FakeShelf:
    """`Files` and `Downloads` of a few names; what they raise can be set."""

    def __init__(self, *files: File) -> None:
        self.files = files
        self.error: Exception | None = None
        self.offered: list[tuple[str, str]] = []

    def list(self, answer: Callable[[Found], None]) -> None:
        """Tell the files."""
        if self.error is None:
            answer(self.files)
        else:
            assert isinstance(self.error, RemoteError)
            answer(self.error)

    def offer(self, name: str, host: str, file_name: str) -> Offer:
        """Offer a file that is there."""
        if self.error is not None:
            raise self.error
        for file in self.files:
            if file.name == file_name:
                self.offered.append((name, file_name))
                return Offer(port=55000, ticket="TICKET", size=file.size)
        raise RemoteError("no-such-file")

    def probe(self, name: str, host: str, size: int | None, which: int | None) -> Probe:
        """Offer a look at the path."""
        if self.error is not None:
            raise self.error
        self.offered.append((name, f"probe {which}"))
        return Probe(port=55000 + (which or 1), ticket="TICKET", size=size or 7, ports=20)


def tokens() -> Callable[[], str]:
    """Return a maker of tokens that are well formed, different, and the same in every run."""
    numbers = count(1)
    return lambda: f"token-{next(numbers):0>16}"
