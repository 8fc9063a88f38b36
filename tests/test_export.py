"""What was said moves from a log in SQLite to one in Redis."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from chatbox.log import Kind
from chatbox.log.export import commands
from chatbox.log.keep import Keep
from chatbox.log.store import Reader, Writer
from tests.helpers.chat import NOON
from tests.helpers.log import presence, say, texts
from tests.helpers.processes import PATIENCE, environment
from tests.test_redis import RedisTestCase

NOON_MS = int(NOON * 1000)


class ExportTests(RedisTestCase):
    """A log in SQLite moves to Redis."""

    def test_export(self) -> None:
        """Everything is there afterwards, in its order, and letters for their readers only."""
        path = os.path.abspath(self.mktemp())
        writer = Writer(path)
        writer.open()
        entries = [
            say(f"{n}\r\n\N{GRINNING FACE}", *(["ann", "bob"] if n % 3 else [])) for n in range(9)
        ]
        for at in (NOON_MS, NOON_MS, NOON_MS - 5000, NOON_MS + 1):
            writer.commit(entries, at)
        writer.close()
        command = [sys.executable, "-m", "chatbox.log.export", path]
        exported = subprocess.run(command, check=True, env=environment(), capture_output=True)
        subprocess.run(
            ["redis-cli", "-p", str(self.server.port), "--pipe"],
            input=exported.stdout,
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=PATIENCE,
        )
        log, heard = self.node()
        log.append([say("new")])
        self.run_until(lambda: heard.records)
        for reader in ("", "ann", "bob"):
            answers: list[Any] = []
            log.history(0, 100, reader, answers.append)
            self.run_until(lambda found=answers: found)
            expected = [e.text for e in entries * 4 if not e.readers or reader in e.readers]
            self.assertEqual(texts(answers[0]), [*expected, "new"])

    def test_by_a_clock_that_is_ahead(self) -> None:
        """What was said by a clock that Redis's has not come to comes first, and keeps nobody from
        speaking."""
        path = os.path.abspath(self.mktemp())
        writer = Writer(path)
        writer.open()
        tomorrow = int((time.time() + 86_400) * 1000)
        writer.commit([say("a"), say("letter", "ann")], tomorrow)
        writer.close()
        for command in commands(path):
            self.assertNotIn(b"ERR", self.server.ask(command))
        log, heard = self.node()
        log.append([say("b"), say("answer", "ann")])
        self.run_until(lambda: heard.records or heard.failed)
        self.run_until(lambda: not log.busy)
        self.assertEqual((texts(heard.records), heard.failed), (["b", "answer"], []))
        found = self.ask(log, 0, "ann")
        self.assertEqual(texts(found), ["a", "letter", "b", "answer"])

    def fetch(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Go the way back."""
        command = [sys.executable, "-m", "chatbox.log.export", *arguments]
        return subprocess.run(
            command,
            check=False,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def test_the_way_back(self) -> None:
        """Everything has its place, in SQLite as in Redis, and what is said next comes behind."""
        log, heard = self.node()
        entries = [say(f"{n}\r\n", *(["ann", "bob"] if n % 3 else [])) for n in range(9)]
        log.append([*entries, say("to herself", "ann", "ann"), presence("left")])
        self.run_until(lambda: len(heard.records) == 11)
        expected = {reader: self.ask(log, 0, reader) for reader in ("", "ann", "bob", "eve")}
        self.stop_logs()
        path = os.path.abspath(self.mktemp())
        done = self.fetch(self.server.url, path)
        self.assertEqual((done.returncode, done.stderr), (0, f"{path}: 10 messages\n"))
        self.assertEqual(os.listdir(os.path.dirname(path)), [os.path.basename(path)])
        reader = Reader(path)
        self.addCleanup(reader.close)
        for who, records in expected.items():
            self.assertEqual(reader.history(0, 100, who), records)
        writer = Writer(path)
        writer.open()
        self.addCleanup(writer.close)
        self.assertEqual(writer._kept, 10)
        [new] = writer.commit([say("new")], NOON_MS)
        self.assertGreater(new.id, heard.records[-1].id)
        again = self.fetch(self.server.url, path)
        self.assertEqual(again.returncode, 1)
        self.assertIn("there is a file already", again.stderr)

    def test_what_is_gone_stays_gone(self) -> None:
        """Who has not heard all that Redis has forgotten by plan finds a mark in SQLite, too."""
        log, heard = self.node(Keep(count=10))
        log.append([say(str(n)) for n in range(500)])
        self.run_until(lambda: len(heard.records) == 500)
        after = heard.records[0].id
        [mark, *expected] = self.ask(log, after)
        self.assertEqual(mark.kind, Kind.GAP)
        self.stop_logs()
        path = os.path.abspath(self.mktemp())
        self.assertEqual(self.fetch(self.server.url, path).returncode, 0)
        reader = Reader(path)
        self.addCleanup(reader.close)
        [found, *records] = reader.history(after, 100, "")
        self.assertEqual((found.kind, records[: len(expected)]), (Kind.GAP, expected))
        self.assertLess(found.id, records[0].id)

    def test_nothing_to_fetch(self) -> None:
        """What is wrong is said in a sentence, and nothing is left of the attempt."""
        path = os.path.abspath(self.mktemp())
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            port = nobody.getsockname()[1]
            for url, words in (
                (self.server.url, "there are no messages"),
                (f"redis://127.0.0.1:{port}/0", "refused"),
                (self.server.url.replace("//", "//:secret@"), "without any password"),
                ("messages.sqlite", "Write redis://HOST"),
            ):
                done = self.fetch(url, path)
                self.assertEqual((done.returncode, done.stdout), (1, ""))
                self.assertIn(words, done.stderr)
                self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
                self.assertNotIn("secret", done.stderr)
        self.assertFalse(os.path.exists(path + ".part"))

    def test_nothing_to_export(self) -> None:
        """What is no log of ours is named."""
        missing, other = self.mktemp(), self.mktemp()
        Path(other).write_bytes(b"")
        for path, words in (
            (missing, b"there is no such file"),
            (other, b"no such table"),
            ("--help", b"usage: "),
        ):
            command = [sys.executable, "-m", "chatbox.log.export", path]
            done = subprocess.run(command, check=False, env=environment(), capture_output=True)
            self.assertEqual((done.returncode, done.stdout), (1, b""))
            self.assertIn(words, done.stderr)
        self.assertFalse(os.path.exists(missing))

    def test_nowhere_to_export_to(self) -> None:
        """A full disk is told in a sentence."""
        path = os.path.abspath(self.mktemp())
        writer = Writer(path)
        writer.open()
        writer.commit([say("hi")], NOON_MS)
        writer.close()
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                [sys.executable, "-m", "chatbox.log.export", path],
                check=False,
                env=environment(PYTHONUNBUFFERED=""),
                stdout=full,
                stderr=subprocess.PIPE,
            )
        said = b"the output cannot be written: No space left on device\n"
        self.assertEqual((done.returncode, done.stderr), (1, said))
