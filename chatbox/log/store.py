"""One SQLite file of messages: commit a batch, forget the oldest, look something up.

Everything here blocks and belongs to one thread at a time; `chatbox.log.sqlite` has the threads.
A `Writer` is the only one that writes to its file, in this process and in all others: it holds a
lock beside it. Readers do not disturb it, nor it them (WAL, https://www.sqlite.org/wal.html).
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final

from twisted.logger import Logger

from chatbox.errors import LocalError
from chatbox.log import Attempt, Entry, Kind, Record, gap
from chatbox.log.attempts import Attempts
from chatbox.log.keep import EVERYTHING, Keep
from chatbox.log.schema import (
    ATTEMPTS,
    CHECKPOINT,
    COUNT,
    FORGET,
    HISTORY_AFTER,
    HISTORY_LAST,
    OLDEST,
    REVOKE,
    STATE,
    Statement,
    insertions,
    migrate,
)

__all__ = ["ATTEMPTS_KNOWN", "FORGET_STEP", "RESERVED", "Reader", "Writer", "checkpoint"]

FORGET_STEP: Final = 500
"""Messages forgotten in one commit at most: some 2 ms."""

RESERVED: Final = 10_000
"""Places that may be given out before the next is written down, so that people who come and go cost
no commit. A start after a crash skips them, so no place is ever given out twice, and counts the
rows that have taken them."""

ATTEMPTS_KNOWN: Final = 1 << 16
"""Messages of which the next server knows who tried to say them: what a start reads, in some
0.1 s."""

BUSY_SECONDS: Final = 2.0
"""How long to wait if another program has locked the file, such as a backup."""

CACHE_KB: Final = 16 << 10
"""Memory for pages of the file, for each connection."""

_COMMIT_BYTES: Final = 4 << 10
_ROW_BYTES: Final = 300
"""What a commit writes, and each message in it besides its text, roughly."""

_log = Logger()

MAX_PLACE: Final = (1 << 63) - 1
_NO_TIME: Final = MAX_PLACE


class Writer:
    """The one who writes.

    `sync` is ``full`` (a commit waits until the disk has it) or ``normal`` (it does not), and
    `wal_bytes` how long to make the WAL in advance. Every method raises sqlite3.Error or OSError
    when the disk does not do what it should. Then nothing has changed, and the file is opened anew.
    If the disk failed at the very end of a commit, SQLite may find that commit there: at once, or
    only when nobody has the file open, as at the next start. It will be told as failed, so before
    that it is taken out again; if the disk does not do that either, before anything else is done.
    """

    def __init__(
        self, path: str, sync: str = "full", keep: Keep = EVERYTHING, *, wal_bytes: int = 0
    ) -> None:
        self.path = path
        self._sync = sync
        self._keep = keep
        self._wal_bytes = wal_bytes
        self._db: sqlite3.Connection | None = None
        self._lock: int | None = None
        self._last_id = 0
        self._reserved = 0
        self._kept = 0
        self._attempts = Attempts()
        self._sure: int | None = None
        """If a commit has failed since the file was opened, the newest place before it."""
        self.forgetting = False
        """Whether there was more to forget than fitted into one commit."""
        self.written = 0
        """Roughly the bytes that were written since somebody set this to 0."""

    @property
    def last_id(self) -> int:
        """The newest place that was given out."""
        return self._last_id

    def open(self) -> None:
        """Open the file, or make it. Raises LocalError too, if it cannot be a log of ours."""
        held = self._lock is not None
        if not held:
            self._lock = _lock(self.path)
        try:
            self._open()
            if not held:
                _close_to_others(self.path)
        except BaseException:
            if not held:
                self.close()
            raise

    def _open(self) -> None:
        with suppress(FileExistsError):
            # SQLite would let everybody read it; its companions get the rights of the file.
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        db = _connect(self.path)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute(f"PRAGMA synchronous = {self._sync}")
            db.execute("PRAGMA wal_autocheckpoint = 0")
            migrate(db)
            if self._sure is not None:
                values = {"after": self._sure, "reserved": self._last_id + RESERVED}
                _run(db, [(statement, values) for statement in REVOKE])
                self._sure = None
            self._reserved, self._kept = db.execute(COUNT).fetchone()
            _lengthen(self.path + "-wal", self._wal_bytes)
            values = {"most": ATTEMPTS_KNOWN}
            attempts = [] if self._last_id else db.execute(ATTEMPTS, values).fetchall()
        except BaseException:
            db.close()
            raise
        if not self._last_id:
            self._last_id = self._reserved
            for id, at, who, mark in attempts:
                self._attempts.add(Attempt(who, mark), id, at)
        self._db = db

    def close(self) -> None:
        """Let go of the file. Raises OSError from a disk that is gone, and has let go then, too."""
        if self._sure is not None:
            self._take_out()
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.execute(STATE, (self._last_id, self._kept, self._last_id))
            self._disconnect()
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def commit(self, entries: Sequence[Entry], at: int, *, forget: bool = False) -> list[Record]:
        """Make records of the entries, at the time `at` in milliseconds, and store them.

        With `forget`, some of the oldest messages are removed in passing.
        """
        records: list[Record] = []
        fresh: list[tuple[Record, Attempt | None]] = []
        tried: dict[tuple[str, bytes], tuple[Attempt, int]] = {}
        id = self._last_id
        for e in entries:
            said = None
            if (attempt := e.attempt) is not None:
                said = self._attempts.find(attempt, at)
                if said is None and (known := tried.get(attempt[:2])):
                    first, place = known
                    said = None if first.via and first.via == attempt.via else place
                if said is None:
                    tried[attempt[:2]] = attempt, id + 1
            if said is None:
                id += 1
            record = Record(said or id, at, *e[:6], said is not None)
            records.append(record)
            if said is None and e.kind is Kind.MESSAGE:
                fresh.append((record, attempt))
        if fresh or id > self._reserved or self._sure is not None:
            self._store(fresh, id, at if forget else None)
        self._last_id = id
        for attempt, place in tried.values():
            self._attempts.add(attempt, place, at)
        return records

    def take_over(self, records: Sequence[Record], last_id: int, floor: int) -> None:
        """Store what another log has, at its places. Nothing of it is in this one.

        Up to the place `last_id` it has given out all places, and up to `floor` it has forgotten
        all messages.
        """
        self._store([(record, None) for record in records], last_id, None)
        self._last_id = last_id
        assert self._db is not None
        self._db.execute(FORGET[-1], {"to": floor})

    def forget(self, at: int) -> None:
        """Remove some of what is too old, or too much."""
        self._store([], self._last_id, at)

    def checkpoint(self) -> None:
        """Finish what a `checkpoint` beside us has begun, so that the WAL begins anew."""
        with suppress(sqlite3.Error):  # the next one may succeed
            if self._db is not None:
                self._db.execute(CHECKPOINT)

    def _store(
        self, fresh: Sequence[tuple[Record, Attempt | None]], last_id: int, at: int | None
    ) -> None:
        if self._db is None:
            self.open()
        db = self._db
        assert db is not None
        try:
            to, old = (0, 0) if at is None else self._excess(db, at)
            if at is not None:
                self.forgetting = old >= FORGET_STEP
            reserved, kept = self._reserved, self._kept + len(fresh) - old
            statements = list(_insertions(fresh))
            if old or last_id > reserved:
                reserved = last_id + RESERVED
                statements.append((STATE, (reserved, kept, last_id)))
            if old:
                statements += [(statement, {"to": to}) for statement in FORGET]
            _run(db, statements)
        except BaseException:
            self._disconnect()
            # The file may have it all the same, and may have counted up to there.
            self._sure, self._last_id = self._last_id, last_id
            self._take_out()
            raise
        self._reserved = reserved
        self._kept = kept
        self.written += _COMMIT_BYTES + sum(_ROW_BYTES + len(r.text) for r, _ in fresh)

    def _take_out(self) -> None:
        """Take out of the file what is not sure to be in it, if the disk allows that now."""
        with suppress(sqlite3.Error, OSError, LocalError):
            self._open()

    def _excess(self, db: sqlite3.Connection, at: int) -> tuple[int, int]:
        """Choose what to forget: up to which place, and how many messages that is."""
        keep, excess = self._keep, 0
        if keep.count is not None:
            excess = max(self._kept - keep.count, 0)
        if keep.size is not None and _bytes_used(db) > keep.size:
            excess = FORGET_STEP
        before = _NO_TIME
        if keep.age is not None and not excess:
            excess, before = FORGET_STEP, at - keep.age * 1000
        if not excess:
            return 0, 0
        values = {"most": min(excess, FORGET_STEP), "before": before}
        to, rows = db.execute(OLDEST, values).fetchone()
        return int(to or 0), int(rows)

    def _disconnect(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with suppress(sqlite3.Error):
                db.close()  # what was not committed is rolled back


def _insertions(fresh: Sequence[tuple[Record, Attempt | None]]) -> Iterator[Statement]:
    """Yield what stores some messages."""
    values: dict[str, list[object]] = {"message": [], "letter": [], "mailbox": []}
    for r, attempt in fresh:
        who, mark = (None, None) if attempt is None else attempt[:2]
        if r.readers:
            readers = json.dumps(r.readers)
            values["letter"] += (r.id, r.at, r.sender, r.recipient, r.text, readers, who, mark)
            for reader in set(r.readers):
                values["mailbox"] += (reader, r.id)
        else:
            values["message"] += (r.id, r.at, r.sender, r.recipient, r.text, who, mark)
    for table, of_table in values.items():
        yield from insertions(table, of_table)


def _run(db: sqlite3.Connection, statements: Sequence[Statement]) -> None:
    """Run these in one commit. One alone is one by itself, and takes no more than its own step."""
    if len(statements) == 1:
        db.execute(*statements[0])
    elif statements:
        db.execute("BEGIN IMMEDIATE")
        for statement in statements:
            db.execute(*statement)
        db.execute("COMMIT")


class Reader:
    """One who looks things up."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None

    def history(
        self, after: int | None, count: int, reader: str, before: int | None = None
    ) -> list[Record]:
        """Answer as `MessageLog.history` does, but for what is at the place `before` or after it.

        Raises sqlite3.Error if the file cannot be read.
        """
        if self._db is None:
            self._db = _connect(self._path)
            self._db.execute("PRAGMA query_only = ON")
        statement = HISTORY_LAST if after is None else HISTORY_AFTER
        before = MAX_PLACE if before is None else min(before, MAX_PLACE)
        values = {
            "after": min(after or 0, MAX_PLACE),
            "before": before,
            "count": count,
            "reader": reader,
        }
        try:
            floor, *columns = self._db.execute(statement, values).fetchone()
        except sqlite3.Error:
            self.close()
            raise
        records = [
            Record(id, at, Kind.MESSAGE, sender, recipient, text, tuple(readers) if readers else ())
            for id, at, sender, recipient, text, readers in zip(
                *map(json.loads, columns), strict=True
            )
        ]
        records.sort(key=lambda record: record.id)
        if after is not None and 0 < after < (gone := min(floor, before - 1)):
            records.insert(0, gap(gone))
        return records

    def close(self) -> None:
        """Let go of the file."""
        db, self._db = self._db, None
        if db is not None:
            db.close()


def checkpoint(path: str, descriptor: int) -> None:
    """Copy what was written from the WAL into the file itself, beside the writer.

    What is written meanwhile is left to the writer's own `checkpoint`, for only when all is copied
    the WAL begins anew. SQLite has the disk keep a copy only then: the writer would wait for all of
    it. So the disk is told here, through a `descriptor` of the file. That must stay open as long as
    any connection to it: who closes one gives up the locks that a process has by others (fcntl(2)).
    Raises sqlite3.Error or OSError.
    """
    db = _connect(path)
    try:
        db.execute(CHECKPOINT)
    finally:
        db.close()
    os.fdatasync(descriptor)


def _connect(path: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    db.execute(f"PRAGMA cache_size = -{CACHE_KB}")
    return db


def _bytes_used(db: sqlite3.Connection) -> int:
    [pages] = db.execute("PRAGMA page_count").fetchone()
    [free] = db.execute("PRAGMA freelist_count").fetchone()
    [size] = db.execute("PRAGMA page_size").fetchone()
    return int((pages - free) * size)


def _lengthen(path: str, size: int) -> None:
    """Make a WAL longer, with zeros, which stand for nothing in it.

    Every time it grows by itself the file system has to find a place and write that down: of a
    hundred commits one or two took ten times as long. It is never made shorter while it is open.
    Only for the one who has the lock: nobody else may be writing.
    """
    with suppress(OSError), open(path, "r+b") as file:  # without the space it goes on as it is
        while (end := file.seek(0, os.SEEK_END)) < size:
            file.write(bytes(min(size - end, 1 << 20)))
        os.fdatasync(file.fileno())


def _close_to_others(path: str) -> None:
    """Let only their owner read the files of a log, which has letters: a copy may be open to all.

    What SQLite makes beside the file has the rights of the file.
    """
    for name in (path, path + "-wal", path + "-shm"):
        with suppress(FileNotFoundError):
            mode = stat.S_IMODE(os.stat(name).st_mode)
            if not mode & 0o077:
                continue
            try:
                os.chmod(name, mode & 0o700)
                _log.warn("others could read {name}; now only its owner can", name=name)
            except OSError as error:  # we are not its owner, or the file system knows no rights
                _log.warn(
                    "others can read {name}, which has private messages, and that cannot be changed"
                    " ({error}); its owner can with: chmod go= {name}",
                    name=name,
                    error=error.strerror,
                )


def _lock(path: str) -> int:
    """Take the lock that a writer holds while it lives. Raises LocalError if another has it."""
    lock = os.open(path + ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise LocalError(f"Another server is writing to {path}") from None
    return lock
