"""What was said moves from a log in SQLite to one in Redis."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from chatbox.log.store import Writer
from tests.helpers.chat import NOON
from tests.helpers.log import say, texts
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
