"""The log that forgets: in memory, bounded, and gone with the process. It commits at once."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

from chatbox.errors import LocalError
from chatbox.log import Entry, Kind, Record, gap
from chatbox.log.attempts import Attempts
from chatbox.log.keep import EVERYTHING, Keep
from chatbox.log.subscriber import OneSubscriber

__all__ = ["MAX_BYTES", "MAX_RECORDS", "MemoryLog"]

MAX_RECORDS: Final = 10_000
"""Messages kept: a day of a lively room."""

MAX_BYTES: Final = 16 << 20
"""Memory for messages kept, by `_cost`, so that long ones cannot fill the machine: the records
alone would allow 40 MB of text."""

_RECORD_BYTES: Final = 300
"""What one record takes besides its text, measured roughly on CPython 3.11."""


class MemoryLog(OneSubscriber):
    """A `MessageLog` of the last messages.

    An `append` out of the subscriber's callback is committed when that callback returns, as part of
    the `append` that is being reported.
    """

    def __init__(
        self,
        now: Callable[[], float],
        keep: Keep = EVERYTHING,
        *,
        max_records: int = MAX_RECORDS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        super().__init__()
        self._now = now
        self._max_age = keep.age
        self._max_records = min(max_records, keep.count or max_records)
        self._max_bytes = min(max_bytes, keep.size or max_bytes)
        self._last_id = 0
        self._floor = 0
        """The place of the newest message that was forgotten."""
        self._attempts = Attempts()
        self._kept: deque[Record] = deque()
        self._kept_bytes = 0
        self._waiting: deque[Sequence[Entry]] = deque()
        self._reporting = False
        self._stopped = False

    def start(self) -> None:
        """Begin; there is nothing to do."""

    def stop(self, stopped: Callable[[], None]) -> None:
        """Take no more; everything appended has been committed already."""
        self._stopped = True
        stopped()

    def append(self, entries: Sequence[Entry]) -> None:
        """Commit these now, or right after the callback that this is called from."""
        self._waiting.append(entries)
        if self._reporting:
            return
        self._reporting = True
        try:
            while self._waiting:
                self._settle(self._waiting.popleft())
        finally:
            self._reporting = False

    def history(
        self,
        after: int | None,
        count: int,
        reader: str,
        answer: Callable[[Sequence[Record] | None], None],
        before: int | None = None,
    ) -> None:
        """Answer at once."""
        self._forget()
        if after is None:
            newer = 0 if before is None else len(self._kept) - self._first_from(before)
            newest_first = islice(reversed(self._kept), newer, None)
            found = list(islice((r for r in newest_first if _may_read(reader, r)), count))
            found.reverse()
        else:
            start = self._first_from(after + 1)
            later = (r for r in islice(self._kept, start, None) if _may_read(reader, r))
            found = list(islice(later, count))
            if 0 < after < self._floor:
                found.insert(0, gap(self._floor))
        answer(found)

    def _first_from(self, place: int) -> int:
        """Which record kept is the first that is at a place or after it."""
        return bisect_left(self._kept, place, key=lambda record: record.id)

    def _settle(self, entries: Sequence[Entry]) -> None:
        if self._on_commit is None or self._on_failure is None:
            raise LocalError("This log has no subscriber")
        if self._stopped:
            self._on_failure(entries)
            return
        at = int(self._now() * 1000)
        records = [self._record(entry, at) for entry in entries]
        self._keep(records)
        self._on_commit(records)

    def _record(self, e: Entry, at: int) -> Record:
        said = self._attempts.find(e.attempt, at)
        if said is None:
            self._last_id += 1
            self._attempts.add(e.attempt, self._last_id, at)
        id = said or self._last_id
        return Record(
            id, at, e.kind, e.sender, e.recipient, e.text, e.readers, e.origin, said is not None
        )

    def _keep(self, records: Sequence[Record]) -> None:
        for record in records:
            if record.kind is Kind.MESSAGE and not record.repeated:
                # Without its origin, which would keep a connection's objects alive.
                kept = Record(
                    record.id,
                    record.at,
                    record.kind,
                    record.sender,
                    record.recipient,
                    record.text,
                    record.readers,
                )
                self._kept.append(kept)
                self._kept_bytes += _cost(kept)
        self._forget()

    def _forget(self) -> None:
        oldest = 0 if self._max_age is None else int(self._now() * 1000) - self._max_age * 1000
        while self._kept and (
            len(self._kept) > self._max_records
            or self._kept_bytes > self._max_bytes
            or self._kept[0].at < oldest
        ):
            forgotten = self._kept.popleft()
            self._floor = forgotten.id
            self._kept_bytes -= _cost(forgotten)


def _cost(record: Record) -> int:
    """Bytes that a kept record takes, four a character: what the widest strings need."""
    return _RECORD_BYTES + 4 * len(record.text)


def _may_read(reader: str, record: Record) -> bool:
    return not record.readers or reader in record.readers
