"""The log in a SQLite file: it is a log, it stays, it forgets as told, and it survives its disk."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import capturedLogs, formatEvent
from twisted.python.monkey import MonkeyPatcher
from twisted.trial.unittest import SynchronousTestCase

from chatbox.errors import LocalError
from chatbox.log import Attempt, Entry, Kind, MessageLog, Record, open_log, sqlite, store
from chatbox.log.keep import EVERYTHING, Keep
from chatbox.log.memory import MemoryLog
from chatbox.log.schema import MIGRATIONS, migrate
from chatbox.log.sqlite import FILE_NAME, SqliteLog, parse_place
from chatbox.log.store import FORGET_STEP, Reader, Writer, checkpoint
from tests.helpers.chat import NOON
from tests.helpers.log import Calls, Heard, presence, say, texts
from tests.helpers.processes import PATIENCE
from tests.helpers.threads import no_threads
from tests.test_log import FailingLogConformance

NOON_MS = int(NOON * 1000)


def full(*_: object) -> None:
    """Fail as a full disk does."""
    raise sqlite3.OperationalError("database or disk is full")


class SqliteConformanceTests(FailingLogConformance, SynchronousTestCase):
    """The log in a file is a log."""

    def setUp(self) -> None:
        """Start a log that nothing has been said in, and that forgets when the test says so."""
        self.patch(sqlite, "FORGET_SECONDS", PATIENCE)
        self.patch(sqlite, "IDLE_SECONDS", PATIENCE)
        super().setUp()

    def make_log(self, keep: Keep = EVERYTHING) -> MessageLog:
        """Open it as the server does, on a new file."""
        self.calls = Calls()
        log = open_log(
            "sqlite:",
            now=self.now,
            call_from_thread=self.calls.call_from_thread,
            state_dir=os.path.abspath(self.mktemp()),
            keep=keep,
        )
        assert isinstance(log, SqliteLog)
        self.made = log
        self.addCleanup(self.end, log, self.calls)
        return log

    def settle(self) -> None:
        """Make the calls that come from its threads."""
        while self.made.busy:
            self.calls.run_one()

    def forget(self) -> None:
        """Go on with what would take a second each time."""
        writer = self.made._writer
        writer.forget(int(self.now() * 1000))
        while writer.forgetting:
            writer.forget(int(self.now() * 1000))

    def break_log(self) -> None:
        """Let the disk be full."""
        self.full_disk = self.patch(store, "_run", full)

    def mend_log(self) -> None:
        """Let there be room."""
        self.full_disk.restore()

    def settle_stop(self, stopped: list[bool]) -> None:
        """Let its threads end."""
        self.calls.run_until(lambda: bool(stopped))

    def end(self, log: SqliteLog, calls: Calls) -> None:
        """Stop its threads."""
        stopped: list[bool] = []
        log.stop(lambda: stopped.append(True))
        calls.run_until(lambda: bool(stopped))


class SqliteTestCase(SynchronousTestCase):
    """A file, and logs on it."""

    def setUp(self) -> None:
        self.folder = os.path.abspath(self.mktemp())
        os.mkdir(self.folder)
        self.path = os.path.join(self.folder, "log")

    def writer(self, keep: Keep = EVERYTHING) -> Writer:
        """Open the file for writing."""
        writer = Writer(self.path, keep=keep)
        writer.open()
        self.addCleanup(writer.close)
        return writer

    def crash(self, writer: Writer) -> None:
        """Let go of the file as a process does that is killed."""
        writer._disconnect()
        writer._sure = None
        writer.close()

    def copy(self) -> int:
        """Copy what is in the WAL, as the keeper does; return the descriptor that the disk got."""
        descriptor = os.open(self.path, os.O_RDONLY)
        self.addCleanup(os.close, descriptor)
        checkpoint(self.path, descriptor)
        return descriptor

    def kept(self, after: int | None = 0, reader: str = "") -> list[str] | None:
        """What is in the file."""
        one = Reader(self.path)
        found = one.history(after, 1_000_000, reader)
        one.close()
        return texts(found)


class StoreTests(SqliteTestCase):
    """What one file holds."""

    def test_numbers_go_on(self) -> None:
        """Places grow over a stop and over a crash, those of presence too."""
        last = 0
        for clean in (True, False, False, True, True):
            writer = self.writer()
            entries = [say("a"), presence("joined"), presence("left")]
            ids = [r.id for r in writer.commit(entries, NOON_MS)]
            ids += [r.id for r in writer.commit(entries[1:], NOON_MS)]
            self.assertEqual(ids, list(range(ids[0], ids[0] + 5)))
            self.assertGreater(ids[0], last)
            last = ids[-1]
            if clean:
                writer.close()
            else:
                self.crash(writer)

    def test_clean_stop_skips_no_places(self) -> None:
        """After a clean stop the next place is the next number."""
        writer = self.writer()
        writer.commit([say("a")], NOON_MS)
        writer.close()
        self.assertEqual([r.id for r in self.writer().commit([say("b")], NOON_MS)], [2])

    def test_presence_alone_writes_nothing(self) -> None:
        """People who come and go cost no commit."""
        writer = self.writer()
        writer.commit([say("a")], NOON_MS)
        before = os.stat(self.path + "-wal").st_size
        writer.commit([presence("joined")], NOON_MS)
        self.assertEqual(os.stat(self.path + "-wal").st_size, before)

    def test_attempts_are_known_after_a_crash(self) -> None:
        """A message that was stored is not stored again by the next server."""
        attempt = Attempt("ann", b"x")
        writer = self.writer()
        [first] = writer.commit([say("a", attempt=attempt)], NOON_MS)
        self.crash(writer)
        [again] = self.writer().commit([say("a", attempt=attempt)], NOON_MS)
        self.assertEqual((again.id, again.repeated), (first.id, True))
        self.assertEqual(self.kept(), ["a"])

    def test_attempts_are_bounded(self) -> None:
        """The next server knows of the newest messages who tried to say them, and no others."""
        attempts = [Attempt("ann", bytes([number])) for number in range(6)]
        writer = self.writer()
        for number, attempt in enumerate(attempts):
            letter = ["ann"] if number % 2 else []
            writer.commit([say("a", *letter, attempt=attempt), say("b")], NOON_MS)
        self.crash(writer)
        self.patch(store, "ATTEMPTS_KNOWN", 6)
        said = self.writer().commit([say("a", attempt=attempt) for attempt in attempts], NOON_MS)
        self.assertEqual([record.repeated for record in said], [False] * 3 + [True] * 3)

    def test_a_commit_is_small(self) -> None:
        """A few messages for everybody are one statement, and one page."""
        writer = self.writer()
        writer.commit([say("a")], NOON_MS)
        assert writer._db is not None
        statements: list[str] = []
        writer._db.set_trace_callback(statements.append)
        before = os.stat(self.path + "-wal").st_size
        said = [say(str(n), attempt=Attempt("ann", bytes([n]))) for n in range(7)]
        writer.commit(said, NOON_MS)
        self.assertEqual(len(statements), 1)
        self.assertLess(os.stat(self.path + "-wal").st_size - before, 2 * 4096)

    def test_batches_of_any_size(self) -> None:
        """All that is said is stored, in its order, however much it is."""
        writer = self.writer()
        said: list[str] = []
        for size in (1, 15, 16, 17, 127, 128, 129, 200, 1000):
            texts = [f"{size} {number}" for number in range(size)]
            writer.commit([say(text, *["ann"][: n % 2]) for n, text in enumerate(texts)], NOON_MS)
            said += texts
        self.assertEqual(self.kept(reader="ann"), said)

    def test_a_failed_commit_changes_nothing(self) -> None:
        """Attempts are not used up, only places are; the next commit opens the file again."""
        writer = self.writer()
        attempt = Attempt("ann", b"x")
        assert writer._db is not None
        writer._db.execute("PRAGMA max_page_count = 1")
        long = say("x" * 4000, attempt=attempt)
        self.assertRaises(sqlite3.Error, writer.commit, [long] * 1 + [say("y" * 9000)], NOON_MS)
        [record] = writer.commit([long], NOON_MS)
        self.assertEqual((record.id, record.repeated), (3, False))
        self.assertEqual(self.kept(), ["x" * 4000])

    def break_at_the_end(self, *, for_good: bool = True) -> MonkeyPatcher:
        """Have the disk fail when a commit is in the file already; until this is restored.

        After that it takes nothing more, or if not `for_good`, it works again.
        """
        run, failed = store._run, list[bool]()

        def fail_at_the_end(*args: Any) -> None:
            if not (failed and for_good):
                run(*args)
            if not failed or for_good:
                failed.append(True)
                raise sqlite3.OperationalError("disk I/O error")

        patcher = self.patch(store, "_run", fail_at_the_end)
        assert isinstance(patcher, MonkeyPatcher)
        return patcher

    def test_a_commit_that_seemed_to_fail(self) -> None:
        """What the file has all the same is taken out again, so that it can be said anew."""
        writer = self.writer()
        writer.commit([say("a")], NOON_MS)
        lost = [say("b", attempt=Attempt("ann", b"b")), say("letter", "ann")]
        broken = self.break_at_the_end()
        self.assertRaises(sqlite3.Error, writer.commit, lost, NOON_MS)
        self.assertEqual(self.kept(reader="ann"), ["a", "b", "letter"])
        broken.restore()
        [c, b] = writer.commit([say("c"), lost[0]], NOON_MS)
        self.assertEqual((c.id, b.id, b.repeated), (4, 5, False))
        self.assertEqual(self.kept(reader="ann"), ["a", "c", "b"])

    def test_a_commit_that_seemed_to_fail_at_the_end(self) -> None:
        """It is taken out before anybody is told, so it is not there after a crash; and after a
        stop it is not if the disk works by then."""
        for for_good in (False, True):
            writer = self.writer()
            broken = self.break_at_the_end(for_good=for_good)
            self.assertRaises(sqlite3.Error, writer.commit, [say("b")], NOON_MS)
            broken.restore()
            if for_good:
                self.assertEqual(self.kept(), ["b"])
                writer.close()
            else:
                self.crash(writer)
            self.assertEqual(self.kept(), [])

    def test_a_commit_that_nobody_sees(self) -> None:
        """If the disk does not confirm it, it is in the WAL, but comes to light at the next start
        only; it is written over before that."""
        writer = self.writer()
        writer.commit([say("a")], NOON_MS)
        run, index = store._run, self.path + "-shm"
        seen = Path(index).read_bytes()[:96]  # what tells how far the WAL goes

        def fail_unseen(*args: Any) -> None:
            run(*args)
            with open(index, "r+b") as file:
                file.write(seen)
            patcher.restore()
            raise sqlite3.OperationalError("disk I/O error")

        patcher: Any = self.patch(store, "_run", fail_unseen)
        reader = Reader(self.path)  # as long as one has the file open, it is told by the index
        reader.history(None, 1, "")
        self.addCleanup(reader.close)
        self.assertRaises(sqlite3.Error, writer.commit, [say("b")], NOON_MS)
        self.path, crashed = self.path + "-after", self.path
        for end in ("", "-wal"):
            shutil.copyfile(crashed + end, self.path + end)
        self.assertEqual(self.kept(), ["a"])

    def test_a_place_in_doubt(self) -> None:
        """No places are given out, and so no history goes up to there, before that is done."""
        writer = self.writer()
        writer.commit([say("a")], NOON_MS)
        broken = self.break_at_the_end()
        self.assertRaises(sqlite3.Error, writer.commit, [say("b")], NOON_MS)
        self.assertRaises(sqlite3.Error, writer.commit, [presence("joined")], NOON_MS)
        broken.restore()
        [record] = writer.commit([presence("joined")], NOON_MS)
        self.assertEqual(record.id, 3)
        self.assertEqual(self.kept(), ["a"])

    def test_what_seemed_to_fail_is_not_counted(self) -> None:
        """Neither if the rows alone were in the file, nor if it had the number of all, too."""
        writer = self.writer(Keep(count=3))
        writer.commit([say("a")] * 4, NOON_MS)
        for forget in (False, True):
            broken = self.break_at_the_end()
            lost = [say("b"), say("letter", "ann")]
            call = partial(writer.commit, forget=forget)
            self.assertRaises(sqlite3.Error, call, lost, NOON_MS)
            broken.restore()
            writer.commit([say("c")], NOON_MS)
            self.assertEqual(writer._kept, len(self.kept(reader="ann") or ()))
            self.crash(writer)
            writer.open()
            self.assertEqual(writer._kept, len(self.kept(reader="ann") or ()))

    def test_a_crash_after_a_commit_that_seemed_to_fail(self) -> None:
        """If the disk took nothing more, the next server knows it, so that who says it again is
        told that it is said."""
        writer = self.writer()
        lost = say("a", attempt=Attempt("ann", b"a"))
        broken = self.break_at_the_end()
        self.assertRaises(sqlite3.Error, writer.commit, [lost], NOON_MS)
        broken.restore()
        self.crash(writer)
        [record] = self.writer().commit([lost], NOON_MS)
        self.assertTrue(record.repeated)
        self.assertEqual(self.kept(), ["a"])

    def test_one_writer(self) -> None:
        """A second server on the same file is refused, whatever process it is in."""
        self.writer()
        other = Writer(self.path)
        error = self.assertRaises(LocalError, other.open)
        self.assertIn("Another server", str(error))

    def test_nobody_else_may_read(self) -> None:
        """There are letters in the file, so it belongs to its owner alone."""
        self.writer().commit([say("a", "ann")], NOON_MS)
        for name in os.listdir(self.folder):
            self.assertEqual(os.stat(os.path.join(self.folder, name)).st_mode & 0o077, 0, name)

    def test_a_copy_that_others_may_read(self) -> None:
        """What `cp` has put in place is closed to them, or if that cannot be, it is told."""
        self.writer().commit([say("a", "ann")], NOON_MS)
        for copy, mode in {"mine": 0o600, "theirs": 0o644}.items():
            paths = [os.path.join(self.folder, copy) + end for end in ("", "-wal", "-shm")]
            for path in paths:
                shutil.copyfile(path.replace(copy, "log"), path)
                os.chmod(path, 0o644)
            if copy == "theirs":
                self.patch(os, "chmod", self.refuse)
            writer = Writer(paths[0])
            with capturedLogs() as logs:
                writer.open()
            self.addCleanup(writer.close)
            self.assertEqual([os.stat(path).st_mode & 0o777 for path in paths], [mode] * 3)
            for path, event in zip(paths, logs, strict=True):
                self.assertEqual(event["name"], path)
                self.assertEqual("chmod go= " in str(formatEvent(event)), copy == "theirs")

    def refuse(self, path: str, mode: int) -> None:
        """Fail as it does for who is not the owner."""
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)

    def test_reading_does_not_hinder_writing(self) -> None:
        """A reader in the middle of its work sees its own moment, and the writer goes on."""
        writer = self.writer()
        writer.commit([say("a")], NOON_MS)
        slow = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(slow.close)
        slow.execute("BEGIN")
        slow.execute("SELECT * FROM message").fetchall()
        writer.commit([say("b")], NOON_MS)
        self.assertEqual(slow.execute("SELECT count(*) FROM message").fetchone(), (1,))
        self.assertEqual(self.kept(), ["a", "b"])

    def test_checkpoint(self) -> None:
        """What is copied from the WAL is still there, and the WAL is used again."""
        writer = self.writer()
        for _ in range(3):
            writer.commit([say("x" * 3000)] * 10, NOON_MS)
            self.copy()
        self.assertLess(os.stat(self.path + "-wal").st_size, 100_000)
        self.assertEqual(len(self.kept() or ()), 30)

    def test_a_checkpoint_that_is_overtaken(self) -> None:
        """What was written meanwhile the writer copies itself, so that the WAL is used again.

        What is copied already the disk has been told to keep: the writer need not wait for that.
        """
        synced: list[int] = []
        self.patch(os, "fdatasync", synced.append)
        writer = self.writer()
        slow = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(slow.close)
        slow.execute("BEGIN")
        slow.execute("SELECT * FROM message").fetchall()
        writer.commit([say("x" * 3000)] * 10, NOON_MS)
        self.assertEqual(self.copy(), synced[-1])
        slow.execute("COMMIT")
        writer.checkpoint()
        size = os.stat(self.path + "-wal").st_size
        writer.commit([say("x" * 3000)] * 5, NOON_MS)
        self.assertEqual(os.stat(self.path + "-wal").st_size, size)
        self.assertEqual(len(self.kept() or ()), 15)

    def test_synchronous(self) -> None:
        """By default a commit waits for the disk."""
        for sync, number in {"full": 2, "normal": 1}.items():
            writer = Writer(f"{self.path}-{sync}", sync)
            writer.open()
            self.addCleanup(writer.close)
            assert writer._db is not None
            self.assertEqual(writer._db.execute("PRAGMA synchronous").fetchone(), (number,))
            self.assertEqual(writer._db.execute("PRAGMA journal_mode").fetchone(), ("wal",))

    def test_history_walks_an_index(self) -> None:
        """No question reads the whole file."""
        from chatbox.log.schema import HISTORY_AFTER, HISTORY_LAST

        writer = self.writer()
        assert writer._db is not None
        values = {"after": 1, "before": 9, "count": 1, "reader": "ann"}
        for statement in (HISTORY_AFTER, HISTORY_LAST):
            plan = [row[3] for row in writer._db.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
            self.assertTrue([line for line in plan if "SEARCH m USING PRIMARY KEY" in line], plan)
            self.assertTrue([line for line in plan if "SEARCH l USING INTEGER" in line], plan)
            if "message" in str(plan):
                words = "SEARCH message USING INTEGER"
                self.assertTrue([line for line in plan if words in line], plan)

    @given(
        st.lists(
            st.tuples(st.sampled_from(["", "a", "b", "ab"]), st.booleans(), st.text(max_size=5)),
            max_size=30,
        ),
        st.integers(0, 35),
        st.integers(0, 10),
        st.sampled_from(["after", "before", "last"]),
    )
    @settings(max_examples=40, deadline=None)
    def test_as_the_log_in_memory(
        self, said: list[tuple[str, bool, str]], place: int, count: int, how: str
    ) -> None:
        """Whatever is said and asked, both logs answer the same."""
        entries = [
            Entry(Kind.MESSAGE if kept else Kind.PRESENCE, "s", "r", text, tuple(readers))
            for readers, kept, text in said
        ]
        writer, memory = Writer(":memory:"), MemoryLog(lambda: NOON)
        writer.path = os.path.join(self.folder, os.urandom(8).hex())
        writer.open()
        heard = Heard(memory)
        memory.append(entries)
        self.assertEqual(writer.commit(entries, NOON_MS), heard.records)
        reader = Reader(writer.path)
        after, before = (place if how == way else None for way in ("after", "before"))
        for who in ("", "a", "b", "c"):
            answers: list[Sequence[Record] | None] = []
            memory.history(after, count, who, answers.append, before)
            self.assertEqual([reader.history(after, count, who, before)], answers)
        reader.close()
        writer.close()


class ForgetTests(SqliteTestCase):
    """What is too old or too much goes, the oldest first, in small steps."""

    def fill(self, writer: Writer, count: int, at: int = NOON_MS, size: int = 1) -> None:
        """Say something many times, every third time to ann alone."""
        writer.commit([say("x" * size, *(["ann"] if n % 3 == 2 else [])) for n in range(count)], at)

    def tables(self) -> list[int]:
        """How many rows each table has."""
        with sqlite3.connect(self.path) as db:
            return [
                db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                for table in ("message", "letter", "mailbox")
            ]

    def test_by_count(self) -> None:
        """One step after the other, until so many are left."""
        writer = self.writer(Keep(count=6))
        self.fill(writer, 3 * FORGET_STEP)
        steps = 0
        while not steps or writer.forgetting:
            writer.forget(NOON_MS)
            steps += 1
        self.assertEqual(steps, 3)
        self.assertEqual(self.tables(), [4, 2, 2])

    def test_the_next_server_knows_how_many_there_are(self) -> None:
        """After a clean end and after a crash, whenever they were counted last."""
        self.patch(store, "RESERVED", 10)
        keep, expected = Keep(count=30), 0
        for end in (Writer.close, self.crash, self.crash, Writer.close):
            writer = self.writer(keep)
            self.assertEqual(writer._kept, expected)
            for _ in range(7):
                self.fill(writer, 3)
                expected += 3
            if expected > 50:
                writer.forget(NOON_MS)
                expected = 30
            writer.commit([say("a")], NOON_MS)
            expected += 1
            self.assertEqual(sum(self.tables()[:2]), expected)
            end(writer)

    def test_by_age(self) -> None:
        """What was said before a moment goes, and nothing else."""
        writer = self.writer(Keep(age=60))
        self.fill(writer, 6, NOON_MS - 60_001)
        self.fill(writer, 3, NOON_MS - 60_000)
        writer.forget(NOON_MS)
        self.assertEqual(self.tables(), [2, 1, 1])
        self.assertFalse(writer.forgetting)

    def test_by_size(self) -> None:
        """The file stops growing: what is freed is used again."""
        writer = self.writer(Keep(size=1_000_000))
        sizes = []
        for _ in range(12):
            self.fill(writer, 400, size=1000)
            writer.forget(NOON_MS)
            while writer.forgetting:
                writer.forget(NOON_MS)
            self.copy()
            sizes.append(os.stat(self.path).st_size)
        self.assertEqual(sizes[-1], sizes[5])
        self.assertLess(sizes[-1], 2_500_000)

    def test_with_a_commit(self) -> None:
        """Forgetting and storing share a commit."""
        writer = self.writer(Keep(count=5))
        self.fill(writer, 9)
        writer.commit([say("new")], NOON_MS, forget=True)
        self.assertEqual(self.kept(reader="ann"), ["x"] * 5 + ["new"])

    def test_nothing_to_forget(self) -> None:
        """Looking costs no write."""
        writer = self.writer(Keep(count=5, age=60, size=10**9))
        self.fill(writer, 5)
        before = os.stat(self.path + "-wal").st_size
        writer.forget(NOON_MS)
        self.assertEqual(os.stat(self.path + "-wal").st_size, before)

    def test_gap(self) -> None:
        """Who asks for what follows a forgotten place is told so."""
        writer = self.writer(Keep(count=3))
        self.fill(writer, 9)
        writer.forget(NOON_MS)
        reader = Reader(self.path)
        self.addCleanup(reader.close)
        for after, gaps in {0: [], 5: [6], 6: [], 8: []}.items():
            found = reader.history(after, 9, "")
            self.assertEqual([r.id for r in found if r.kind is Kind.GAP], gaps, after)
        self.assertEqual([r.kind for r in reader.history(None, 9, "")], [Kind.MESSAGE] * 2)
        # Where somebody has asked before that was forgotten, for what they had not heard then.
        for before, gaps in {7: [6], 5: [4], 4: [3], 3: []}.items():
            found = reader.history(2, 9, "", before)
            self.assertEqual([(r.id, r.kind) for r in found], [(n, Kind.GAP) for n in gaps])


class MigrationTests(SqliteTestCase):
    """Files of other versions."""

    def test_older_file(self) -> None:
        """A file of an older version gets the steps that it lacks, and keeps what it has."""
        self.writer().commit([say("a")], NOON_MS)
        db = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(db.close)
        newer = (*MIGRATIONS, ("ALTER TABLE message ADD COLUMN mood TEXT DEFAULT 'calm'",))
        for _ in range(2):
            migrate(db, newer)
            self.assertEqual(db.execute("PRAGMA user_version").fetchone(), (len(newer),))
            self.assertEqual(
                db.execute("SELECT text, mood FROM message").fetchall(), [("a", "calm")]
            )

    def test_version_1(self) -> None:
        """What its ring of 65536 slots knew of attempts goes to the rows themselves."""
        with sqlite3.connect(self.path) as db:
            migrate(db, MIGRATIONS[:1])
            for n in (5, 6, 65_535, 65_536, 65_541, 65_550):
                if n % 2:
                    db.execute("INSERT INTO message VALUES (?, 1, 'ann', 'all', 'x')", (n,))
                else:
                    readers = '["ann","bob"]'
                    db.execute("INSERT INTO letter VALUES (?, 1, 'ann', 'b', 'y', ?)", (n, readers))
                    db.execute("INSERT INTO mailbox VALUES ('ann', ?), ('bob', ?)", (n, n))
                if n < 65_550:
                    values = n % 65_536, n, "ann", n.to_bytes(8, "big")
                    db.execute("REPLACE INTO attempt VALUES (?, ?, ?, ?)", values)
            db.execute("UPDATE state SET reserved = 70000, kept = 6")
        db.close()
        writer = self.writer()
        self.assertEqual((writer.last_id, writer._kept), (70_000, 6))
        self.assertEqual(
            {place: mark for mark, (place, _, _) in writer._attempts._people["ann"].items()},
            {n: n.to_bytes(8, "big") for n in (6, 65_535, 65_536, 65_541)},
        )
        assert writer._db is not None
        known = writer._db.execute("SELECT id FROM message WHERE mark NOT NULL").fetchall()
        self.assertEqual(known, [(65_535,), (65_541,)])
        writer.commit([say("z")], NOON_MS)
        self.assertEqual(self.kept(5, "bob"), ["y", "x", "y", "x", "y", "z"])

    def test_failed_step(self) -> None:
        """A step that fails leaves the file as it was."""
        self.writer()
        db = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(db.close)
        bad = (*MIGRATIONS, ("CREATE TABLE extra (a)", "nonsense"))
        self.assertRaises(sqlite3.Error, migrate, db, bad)
        self.assertEqual(db.execute("PRAGMA user_version").fetchone(), (len(MIGRATIONS),))
        self.assertEqual(
            db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'extra'").fetchone(), (0,)
        )

    def test_newer_file(self) -> None:
        """A file that a newer program has made is not touched."""
        self.writer().close()
        with sqlite3.connect(self.path) as db:
            db.execute("PRAGMA user_version = 99")
        error = self.assertRaises(LocalError, Writer(self.path).open)
        self.assertIn("A newer chatbox", str(error))

    def test_foreign_file(self) -> None:
        """Another program's database is not touched either, nor is what is none."""
        with sqlite3.connect(self.path) as db:
            db.execute("CREATE TABLE theirs (a)")
        error = self.assertRaises(LocalError, Writer(self.path).open)
        self.assertIn("another program", str(error))
        with open(self.path, "wb") as file:
            file.write(b"something else entirely, " * 100)
        self.assertRaises(OSError, self.log().start)

    def log(self) -> SqliteLog:
        """Make a log on the file."""
        return SqliteLog(self.path, lambda: NOON, Calls().call_from_thread)


class SqliteLogTests(SqliteTestCase):
    """The threads around the file."""

    def start(self, keep: Keep = EVERYTHING) -> tuple[SqliteLog, Calls, Heard]:
        """Start a log."""
        calls = Calls()
        log = SqliteLog(self.path, lambda: NOON, calls.call_from_thread, keep=keep)
        heard = Heard(log)
        log.start()
        self.addCleanup(self.stop, log, calls)
        return log, calls, heard

    def stop(self, log: SqliteLog, calls: Calls) -> None:
        """Stop it."""
        stopped: list[bool] = []
        log.stop(lambda: stopped.append(True))
        calls.run_until(lambda: bool(stopped))

    def test_answers_come_in_our_thread(self) -> None:
        """The subscriber is never called by another thread."""
        log, calls, _ = self.start()
        threads: list[threading.Thread] = []
        log._on_commit = lambda records: threads.append(threading.current_thread())
        log.append([say("a")])
        log.history(None, 1, "", lambda found: threads.append(threading.current_thread()))
        calls.run_until(lambda: not log.busy)
        self.assertEqual(threads, [threading.current_thread()] * 2)

    def test_stopped_on_a_disk_that_is_gone(self) -> None:
        """It lets go of everything and says so, though nothing can be closed without an error."""
        log, calls, _ = self.start()
        close = os.close

        def gone(descriptor: int) -> None:
            close(descriptor)
            raise OSError(errno.EIO, "Input/output error")

        patcher = MonkeyPatcher((os, "close", gone))
        patcher.runWithPatches(self.stop, log, calls)
        again, calls, _ = self.start()
        again.append([say("a")])
        calls.run_until(lambda: not again.busy)

    def test_no_threads(self) -> None:
        """A system that has not enough threads is told of as the weather, and nothing stays."""
        start, left = threading.Thread.start, [2]

        def refuse(thread: threading.Thread) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise RuntimeError("can't start new thread")
            start(thread)

        log, before = (
            SqliteLog(self.path, lambda: NOON, Calls().call_from_thread),
            threading.active_count(),
        )
        patcher = MonkeyPatcher((threading.Thread, "start", refuse))
        error = self.assertRaises(OSError, patcher.runWithPatches, log.start)
        self.assertEqual((error.errno, threading.active_count()), (errno.EAGAIN, before))
        stopped: list[bool] = []
        log.stop(lambda: stopped.append(True))
        self.assertEqual(stopped, [True])
        self.start()

    def test_stopped_without_a_thread(self) -> None:
        """It stops though there is not one thread more to be had."""
        log, calls, _ = self.start()
        with no_threads():
            self.stop(log, calls)

    def test_many_appends_share_a_commit(self) -> None:
        """What gathers while a commit is on its way is one batch."""
        log, calls, _ = self.start()
        sizes: list[int] = []
        log._on_commit = lambda records: sizes.append(len(records))
        with log._condition:  # the writer cannot take anything for now
            waiting = [say(str(number)) for number in range(50)]
            log._owed += len(waiting)
            log._waiting += waiting
            log._condition.notify()
        calls.run_until(lambda: not log.busy)
        self.assertEqual(sizes, [50])

    def test_history_does_not_run_ahead(self) -> None:
        """What is stored but not reported yet is not shown, for it will be heard."""
        log, calls, heard = self.start()
        log.append([say("a")])
        calls.run_until(lambda: not log.busy)
        log._writer.commit([say("b")], NOON_MS)  # its report is on the way
        answers: list[Sequence[Record] | None] = []
        log.history(0, 9, "", answers.append)
        log.history(None, 1, "", answers.append)
        log.history(None, 1, "", answers.append, 9)
        calls.run_until(lambda: not log.busy)
        self.assertEqual([texts(answer) for answer in answers], [["a"]] * 3)
        log.append([say("c")])
        calls.run_until(lambda: not log.busy)
        log.history(0, 9, "", answers.append)
        calls.run_until(lambda: not log.busy)
        self.assertEqual(texts(answers[-1]), ["a", "b", "c"])
        self.assertEqual(texts(heard.records), ["a", "c"])

    def test_history_does_not_repeat_what_was_heard(self) -> None:
        """What is reported between question and answer is not in the answer."""
        log, calls, heard = self.start()
        log.append([say("a")])
        calls.run_until(lambda: not log.busy)
        real, may_read = Reader.history, threading.Event()
        self.addCleanup(may_read.set)

        def read_later(*args: Any) -> list[Record]:
            may_read.wait(PATIENCE)
            return real(*args)

        self.patch(Reader, "history", read_later)
        answers: list[Sequence[Record] | None] = []
        for after in (0, None):
            log.history(after, 9, "", answers.append)
        log.append([say("b")])
        calls.run_until(lambda: len(heard.records) == 2)
        may_read.set()
        calls.run_until(lambda: not log.busy)
        self.assertEqual([texts(answer) for answer in answers], [["a"], ["a"]])

    def test_a_locked_file(self) -> None:
        """If another program holds the file for too long, the batch fails; then it works again."""
        log, calls, heard = self.start()
        log.append([say("before")])
        calls.run_until(lambda: not log.busy)
        assert log._writer._db is not None
        log._writer._db.execute("PRAGMA busy_timeout = 10")
        other = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        log.append([say("a")])
        calls.run_until(lambda: not log.busy)
        self.assertEqual([entry.text for entry in heard.failed], ["a"])
        other.execute("ROLLBACK")
        log.append([say("b")])
        calls.run_until(lambda: not log.busy)
        self.assertEqual(texts(heard.records), ["before", "b"])

    def test_it_forgets_by_itself(self) -> None:
        """With limits, a log forgets while it is used."""
        log, calls, heard = self.start(Keep(count=10))
        log.append([say(str(number)) for number in range(50)])
        calls.run_until(lambda: not log.busy)
        log._writer.forgetting = True  # as if the second were over
        log.append([say("last")])
        calls.run_until(lambda: not log.busy)
        self.assertEqual(len(heard.records), 51)
        self.assertEqual(len(self.kept() or ()), 11)

    def test_it_forgets_while_nobody_speaks(self) -> None:
        """Who only comes and goes does not put it off, and nothing of that fails with it."""
        log, calls, heard = self.start(Keep(count=10))
        log.append([say(str(number)) for number in range(50)])
        calls.run_until(lambda: not log.busy)
        broken = self.patch(store, "_run", full)
        log._writer.forgetting = True  # as if the second were over
        log.append([presence("joined")])
        calls.run_until(lambda: not log.busy)
        log.append([presence("left")])  # it is taken when that is done
        calls.run_until(lambda: not log.busy)
        self.assertEqual((len(heard.records), len(self.kept() or ())), (51, 50))
        broken.restore()
        log._writer.forgetting = True
        for what in ("joined", "left"):
            log.append([presence(what)])
            calls.run_until(lambda: not log.busy)
        self.assertEqual((len(heard.records), len(self.kept() or ())), (53, 10))

    def test_what_the_operator_is_told(self) -> None:
        """Once that nothing can be written, and why; that it works again once something was."""
        log, calls, heard = self.start()
        real = store._run

        def full_for_messages(db: sqlite3.Connection, statements: Sequence[Any]) -> None:
            if any("INSERT" in statement[0] for statement in statements):
                raise sqlite3.OperationalError("disk I/O error")
            real(db, statements)

        room = shutil.disk_usage(self.folder)._replace(free=4096)
        self.patch(shutil, "disk_usage", lambda folder: room)
        broken = self.patch(store, "_run", full_for_messages)
        with capturedLogs() as events:
            for entry in [say("a"), presence("joined"), say("b"), presence("left")]:
                log.append([entry])
                calls.run_until(lambda: not log.busy)
            [told] = map(formatEvent, events)
            broken.restore()
            for entry in [presence("joined"), say("c")]:
                log.append([entry])
                calls.run_until(lambda: not log.busy)
        self.assertIn("refused: the disk is full (disk I/O error)", str(told))
        self.assertIn("works again", str(formatEvent(events[-1])))
        self.assertEqual(len(events), 2)
        self.assertEqual([entry.text for entry in heard.failed], ["a", "b"])
        self.assertEqual(texts(heard.records), ["joined", "left", "joined", "c"])

    def test_history_that_cannot_be_read(self) -> None:
        """Each who asks is told, and the operator once until it can be again."""
        log, calls, _ = self.start()
        real = Reader.history
        answers: list[Sequence[Record] | None] = []
        with capturedLogs() as events:
            for history in (full, full, real, full):
                self.patch(Reader, "history", history)
                log.history(0, 9, "", answers.append)
                calls.run_until(lambda: not log.busy)
        self.assertEqual(answers, [None, None, [], None])
        told = [str(formatEvent(event)) for event in events]
        self.assertEqual(len(told), 2)
        self.assertIn("history cannot be read: database or disk is full", told[0])

    def test_the_writer_finishes_a_checkpoint(self) -> None:
        """What is written while one is at work the writer copies itself, without being asked to."""
        log, calls, _ = self.start()
        real, finish = checkpoint, log._writer.checkpoint
        order: list[str] = []
        finished = threading.Event()

        def copy(path: str, descriptor: int) -> None:
            real(path, descriptor)
            log._writer.commit([say("meanwhile")], NOON_MS)  # the writer waits
            order.append("copied")

        def do_the_rest() -> None:
            finish()
            order.append("finished")
            finished.set()

        self.patch(sqlite, "checkpoint", copy)
        log._writer.checkpoint = do_the_rest  # type: ignore[method-assign]
        log._writer.written = sqlite.CHECKPOINT_BYTES
        log.append([say("a")])
        calls.run_until(lambda: not log.busy)
        self.assertTrue(finished.wait(PATIENCE))
        self.assertEqual(order, ["copied", "finished"])
        self.assertEqual(self.kept(), ["a", "meanwhile"])

    def test_the_file_stays_locked(self) -> None:
        """After a checkpoint, too, other programs may come and go: the WAL is still in use."""
        log, calls, _ = self.start()
        copied = threading.Event()

        def copy(path: str, descriptor: int) -> None:
            checkpoint(path, descriptor)
            copied.set()

        self.patch(sqlite, "checkpoint", copy)
        log._writer.written = sqlite.CHECKPOINT_BYTES
        log.append([say("a")])
        calls.run_until(lambda: not log.busy)
        self.assertTrue(copied.wait(PATIENCE))
        other = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchall()"
        question = "SELECT * FROM message"
        subprocess.run([sys.executable, "-c", other, self.path, question], check=True)
        self.assertTrue(os.path.exists(self.path + "-wal"))

    def test_a_folder_that_cannot_be(self) -> None:
        """What is in the way is named."""
        with open(self.path, "wb"):
            pass
        log = SqliteLog(os.path.join(self.path, "log"), lambda: NOON, Calls().call_from_thread)
        self.assertRaises(OSError, log.start)


class PlaceTests(SynchronousTestCase):
    """Where a log is, and how much it waits for the disk."""

    def test_places(self) -> None:
        """A path, or the state directory; full sync unless told otherwise."""
        self.assertEqual(parse_place("/a/b", None), ("/a/b", "full"))
        self.assertEqual(parse_place("b?sync=normal", "/s"), ("b", "normal"))
        self.assertEqual(parse_place("", "/s"), (os.path.join("/s", FILE_NAME), "full"))
        self.assertEqual(parse_place("?sync=full", "/s"), (os.path.join("/s", FILE_NAME), "full"))

    def test_nonsense(self) -> None:
        """What means nothing is refused in words."""
        for place in ("a?", "a?sync=off", "a?sync", "a?fast=1", "a?sync=full&x=y"):
            if place != "a?":
                self.assertRaises(ValueError, parse_place, place, None)
        self.assertIn("sqlite:PATH", str(self.assertRaises(ValueError, parse_place, "", None)))
