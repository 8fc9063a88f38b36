"""What the tests of several logs share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

from chatbox.log import Attempt, Entry, Kind, MessageLog, Record
from tests.helpers.processes import PATIENCE


def say(text: str, *readers: str, origin: object = None, attempt: Attempt | None = None) -> Entry:
    """Make an entry of something that alice says."""
    return Entry(Kind.MESSAGE, "alice", "all", text, readers, origin, attempt)


def presence(text: str) -> Entry:
    """Make an entry of alice coming or going."""
    return Entry(Kind.PRESENCE, "alice", "all", text)


def texts(records: Sequence[Record] | None) -> list[str] | None:
    """Return what was said."""
    return None if records is None else [record.text for record in records]


class Calls:
    """Calls from other threads, made in ours when we say so: a reactor for one log."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Callable[..., object], tuple[Any, ...]]] = SimpleQueue()

    def call_from_thread(self, call: Callable[..., object], *arguments: object) -> None:
        """Have this called soon."""
        self._calls.put((call, arguments))

    def run_one(self) -> None:
        """Wait for a call, and make it. Raises queue.Empty if none comes."""
        call, arguments = self._calls.get(timeout=PATIENCE)
        call(*arguments)

    def run_until(self, done: Callable[[], bool]) -> None:
        """Make calls until `done`."""
        while not done():
            self.run_one()


class Heard:
    """The subscriber of a log, who remembers what was said, and who came and went."""

    def __init__(self, log: MessageLog) -> None:
        self.records: list[Record] = []
        self.silent: list[Record] = []
        """What only rooms want to know."""
        self.failed: list[Entry] = []
        log.subscribe(self._hear, self.failed.extend)

    def _hear(self, records: Sequence[Record]) -> None:
        for record in records:
            loud = record.kind in (Kind.MESSAGE, Kind.PRESENCE, Kind.GAP)
            (self.records if loud else self.silent).append(record)
