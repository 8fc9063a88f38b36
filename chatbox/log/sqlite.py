"""The log that stays: one SQLite file, written by one thread, a batch a commit.

A commit that reaches the disk takes as long as the disk takes, whatever is in it. So while one is
on its way everything that is appended gathers, and leaves together with the next::

    append -> waiting ->  [writer thread: one commit]  -> call_from_thread -> subscriber
    history -----------> [reader thread: one query]   -> call_from_thread -> answer
                          [keeper thread: checkpoints, when enough was written]

Three threads with a connection each, so that none waits for another: reading does not stop writing,
and copying the WAL into the file, which SQLite would do inside every thousandth commit or so, does
not either. Only what is committed meanwhile the writer copies itself, so that the WAL begins anew:
one that grew would cost more than one that is written over, since each commit would also wait for
what the file system notes of that. What must be forgotten (`Keep`) goes in small steps with commits
that happen anyway.

When the disk is full or fails, the batch has failed and its senders hear so. Nothing is queued for
better times: the next batch tries again, with the file opened anew, and so the log recovers when
the disk does. Nobody is told that a message is stored who might have to be told otherwise later.

Way not taken: `twisted.enterprise.adbapi` (a pool of threads has no order, and each call is its own
commit).
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Final
from urllib.parse import parse_qsl

from twisted.logger import Logger

from chatbox.errors import LocalError
from chatbox.log import Entry, Kind, Record
from chatbox.log.keep import EVERYTHING, Keep
from chatbox.log.store import Reader, Writer, checkpoint
from chatbox.log.subscriber import OneSubscriber
from chatbox.text import printable
from chatbox.threads import start_thread

__all__ = ["FILE_NAME", "MAX_BATCH", "SqliteLog", "parse_place"]

FILE_NAME: Final = "messages.sqlite"
"""The log in a state directory."""

MAX_BATCH: Final = 1000
"""Entries in one commit: some 5 ms of work, so that a burst does not wait for its own end."""

FORGET_SECONDS: Final = 1.0
"""How often to look for something to forget while there is traffic."""

IDLE_SECONDS: Final = 30.0
"""The same while there is none."""

CHECKPOINT_BYTES: Final = 8 << 20
"""What is written between two checkpoints. A start after a crash reads it again."""

WAL_BYTES: Final = CHECKPOINT_BYTES * 3
"""How long the WAL is from the start: what comes while a checkpoint is at work has room too, on a
machine that has other work as well."""

FULL_BYTES: Final = 64 << 10
"""A disk with less room than this is full: the companions of a file grow in such steps."""

_log = Logger()

_Question = tuple["int | None", int, str, Callable[["Sequence[Record] | None"], None], int]


class SqliteLog(OneSubscriber):
    """A `MessageLog` in the file `path`.

    `call_from_thread` is called by other threads, with a function and its arguments, to have it
    called in the thread that everything else happens in.
    """

    def __init__(
        self,
        path: str,
        now: Callable[[], float],
        call_from_thread: Callable[..., object],
        sync: str = "full",
        keep: Keep = EVERYTHING,
    ) -> None:
        super().__init__()
        self.path = os.path.abspath(path)
        self._now = now
        self._call = call_from_thread
        self._keep = keep
        self._writer = Writer(self.path, sync, keep, wal_bytes=WAL_BYTES)
        self._owed = 0
        self._reported = 0
        """The newest place that the subscriber may know."""
        self._failing = False
        self._condition = threading.Condition()
        # The writer's, under the condition.
        self._waiting: list[Entry] = []
        self._stopping = False
        self._stopped: Callable[[], None] = lambda: None
        self._copied = False
        """Whether all of the WAL but its end is copied, so that the writer can do the rest."""
        self._questions: SimpleQueue[_Question | None] = SimpleQueue()
        self._checkpoints: SimpleQueue[bool] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._file: int | None = None
        """The file, open until nobody has a connection to it: see `checkpoint`."""

    @property
    def busy(self) -> bool:
        """Whether an entry or a question waits for its answer."""
        return self._owed > 0

    def start(self) -> None:
        """Open the file, or make it. Raises OSError or LocalError if it cannot be used."""
        os.makedirs(os.path.dirname(self.path), 0o700, exist_ok=True)
        try:
            self._writer.open()
        except sqlite3.Error as error:
            raise OSError(f"The message log {self.path} cannot be used: {error}") from error
        self._file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self._reported = self._writer.last_id
        try:
            for work, name in (
                (self._read, "reader"),
                (self._checkpoint, "keeper"),
                (self._write, "writer"),  # it ends last
            ):
                self._threads.append(start_thread(work, f"message log {name}"))
        except OSError:
            self._let_go()
            self._threads.clear()
            raise

    def stop(self, stopped: Callable[[], None]) -> None:
        """Take no more; commit and answer what is on its way."""
        self._stopped = stopped
        with self._condition:
            self._stopping = True
            self._condition.notify()
        if not self._threads:
            stopped()

    def append(self, entries: Sequence[Entry]) -> None:
        """Have these committed with the next batch."""
        if self._on_failure is None:
            raise LocalError("This log has no subscriber")
        if self._stopping or not self._threads:
            self._on_failure(entries)
        elif entries:
            self._owed += len(entries)
            with self._condition:
                self._waiting += entries
                self._condition.notify()

    def history(
        self,
        after: int | None,
        count: int,
        reader: str,
        answer: Callable[[Sequence[Record] | None], None],
        before: int | None = None,
    ) -> None:
        """Have this looked up; None is the answer if the file cannot be read."""
        if self._stopping or not self._threads:
            answer(None)
        else:
            self._owed += 1
            # Whoever asks hears of what is not reported yet, though it may be stored already.
            bound = self._reported + 1
            if after is None and before is not None:
                bound = min(before, bound)
            self._questions.put((after, count, reader, answer, bound))

    # In the thread of the caller.

    def _committed(self, records: Sequence[Record]) -> None:
        self._owed -= len(records)
        # Who comes and goes is committed without a disk, too.
        if self._failing and any(r.kind is Kind.MESSAGE and not r.repeated for r in records):
            self._failing = False
            _log.info("the message log {path} works again", path=self.path)
        self._reported = max(self._reported, *(record.id for record in records))
        assert self._on_commit is not None
        self._on_commit(records)

    def _failed(self, entries: Sequence[Entry], error: Exception) -> None:
        self._owed -= len(entries)
        if not self._failing:
            self._failing = True
            _log.error(
                "the message log {path} cannot be written, and messages are refused: {error}",
                path=self.path,
                error=self._reason(error),
            )
        assert self._on_failure is not None
        self._on_failure(entries)

    def _reason(self, error: Exception) -> str:
        """Say what is wrong. Of a full disk SQLite says "disk I/O error" as well."""
        with suppress(OSError):
            if shutil.disk_usage(os.path.dirname(self.path)).free < FULL_BYTES:
                return f"the disk is full ({printable(str(error))})"
        return printable(str(error))

    def _found(
        self, records: Sequence[Record] | None, answer: Callable[[Sequence[Record] | None], None]
    ) -> None:
        self._owed -= 1
        answer(records)

    def _ended(self) -> None:
        self._threads.clear()
        self._stopped()

    # In threads of our own.

    def _write(self) -> None:
        forget_at = 0.0
        while True:
            batch, copied = self._take(FORGET_SECONDS if self._writer.forgetting else IDLE_SECONDS)
            if batch is None:
                break
            now = time.monotonic()
            forget = self._keep != EVERYTHING and (self._writer.forgetting or now >= forget_at)
            if forget:
                forget_at = now + FORGET_SECONDS
            at = int(self._now() * 1000)
            # Who comes and goes costs no commit that could forget in passing, nor is it to fail.
            in_passing = any(entry.kind is Kind.MESSAGE for entry in batch)
            try:
                if batch:
                    records = self._writer.commit(batch, at, forget=forget and in_passing)
                    self._call(self._committed, records)
                    batch = []
                if forget and not in_passing:
                    self._writer.forget(at)
            except Exception as error:
                # Whatever it is, the thread must go on and the senders must hear.
                self._call(self._failed, batch, error)
            if copied:
                self._writer.checkpoint()
            elif self._writer.written > CHECKPOINT_BYTES:
                self._writer.written = 0
                self._checkpoints.put(True)
        self._let_go()
        self._call(self._ended)

    def _take(self, patience: float) -> tuple[list[Entry] | None, bool]:
        """Wait for a batch; it is None at the end, and empty when `patience` is over."""
        with self._condition:
            if not self._waiting and not self._stopping:
                self._condition.wait(patience)
            if not self._waiting and self._stopping:
                return None, False
            if len(self._waiting) <= MAX_BATCH:
                batch, self._waiting = self._waiting, []
            else:
                batch = self._waiting[:MAX_BATCH]
                del self._waiting[:MAX_BATCH]
            copied, self._copied = self._copied, False
            return batch, copied

    def _read(self) -> None:
        reader, unreadable = Reader(self.path), False
        while (question := self._questions.get()) is not None:
            after, count, who, answer, before = question
            try:
                found: Sequence[Record] | None = reader.history(after, count, who, before)
                unreadable = False
            except Exception as error:
                if not unreadable:  # each who comes in asks
                    _log.error("history cannot be read: {error}", error=self._reason(error))
                found, unreadable = None, True
            self._call(self._found, found, answer)
        reader.close()

    def _checkpoint(self) -> None:
        assert self._file is not None
        while self._checkpoints.get():
            with suppress(sqlite3.Error, OSError):  # the next one may succeed
                checkpoint(self.path, self._file)
            with self._condition:
                self._copied = True
                self._condition.notify()

    def _let_go(self) -> None:
        """Let the other threads end, and then go the file."""
        self._questions.put(None)
        self._checkpoints.put(False)
        for thread in self._threads[:2]:
            thread.join()
        # A disk that is gone may say so even now; what is closed is closed all the same.
        with suppress(OSError):
            self._writer.close()
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                os.close(file)


def parse_place(place: str, state_dir: str | None) -> tuple[str, str]:
    """Return the path and the kind of sync that ``PATH?sync=...`` means; see `open_log`.

    Raises ValueError with a sentence for people.
    """
    path, _, query = place.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    sync = options.pop("sync", "full")
    if sync not in ("full", "normal") or options:
        raise ValueError(f"?{query} means nothing here; write ?sync=full or ?sync=normal.")
    if not path and state_dir is None:
        raise ValueError("The file is missing; write sqlite:PATH.")
    return path or os.path.join(state_dir or "", FILE_NAME), sync
