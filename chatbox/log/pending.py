"""What was appended to a log that others write to, and has not been read back from it yet.

Each entry has a number, one after the other, under which it is appended again if nobody knows what
became of it; so the log can tell a second attempt from a second entry. An entry leaves when it is
read back, when it turns out that it was said before (`repeat`), or when it has waited too long.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from chatbox.log import Entry, Kind, Record
from chatbox.log.streams import record_of

__all__ = ["MAX_APPEND", "Pending"]

MAX_APPEND: Final = 200
"""Entries appended at once, which stops all others meanwhile: some 2 ms."""

_PRESENCE: Final = frozenset({Kind.PRESENCE, Kind.HERE})
"""Nobody waits to hear of these; they never come too late."""


class Pending:
    """Entries by their numbers, in order. Times are those of one clock, in seconds."""

    def __init__(self) -> None:
        self._number = 0
        self._entries: dict[int, Entry] = {}
        self._deadlines: dict[int, float] = {}
        self._repeats: dict[int, int] = {}
        """Of these, what is in the log already, and where."""

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[int]:
        return iter(self._entries)

    def __getitem__(self, number: int) -> Entry:
        return self._entries[number]

    def add(self, entries: Sequence[Entry], deadline: float) -> int:
        """Number these, and return the first number."""
        first = self._number + 1
        for entry in entries:
            self._number += 1
            self._entries[self._number] = entry
            if entry.kind not in _PRESENCE:
                self._deadlines[self._number] = deadline
        return first

    def runs(self, first: int = 0) -> Iterator[list[int]]:
        """Yield the numbers from `first` on: in pieces without holes, and not too long."""
        # Numbers that are appended together follow each other; what has failed has left a hole.
        run: list[int] = []
        for number in range(first, self._number + 1) if first else list(self._entries):
            if run and (run[-1] != number - 1 or len(run) == MAX_APPEND):
                yield run
                run = []
            run.append(number)
        if run:
            yield run

    def take(self, number: int) -> Entry | None:
        """Let one leave, if it is there."""
        self._deadlines.pop(number, None)
        self._repeats.pop(number, None)
        return self._entries.pop(number, None)

    def take_all(self, numbers: Iterable[int]) -> list[Entry]:
        """Let these leave; return those that are there."""
        return [entry for number in numbers if (entry := self.take(number)) is not None]

    def take_presence(self) -> None:
        """Let all leave that say who comes and goes."""
        self.take_all([n for n, entry in self._entries.items() if entry.kind in _PRESENCE])

    def repeat(self, number: int, place: int) -> None:
        """It was said before, at this place."""
        if number in self._entries:
            self._repeats[number] = place

    def take_repeats(self, position: int) -> list[Record]:
        """Let what was said before leave, once it must have been read back were it ours."""
        records = []
        for number in [n for n, place in self._repeats.items() if place <= position]:
            place = self._repeats[number]
            entry = self.take(number)
            if entry is not None:
                records.append(record_of(place, entry, repeated=True))
        return records

    def late(self, now: float) -> list[int]:
        """Return the numbers of those that have waited too long."""
        return [number for number, deadline in self._deadlines.items() if deadline < now]

    def hurry(self, deadline: float) -> None:
        """Let all of them, presence too, wait no longer than this."""
        self._deadlines = dict.fromkeys(self._entries, deadline)
