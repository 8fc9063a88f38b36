"""The command ``chatbox`` where its standard streams are closed, full, or read by nobody."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatbox.client.exits import Exit
from tests.helpers.processes import PATIENCE, environment, patient
from tests.helpers.server import Served, serving

NOBODY = "no-such-host.invalid"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for all."""
    with serving(tmp_path_factory.mktemp("server")) as served:
        yield served


def ended(redirected: str, *argv: str, cwd: Path | None = None) -> tuple[int, str, str]:
    """Run the command with streams that the shell has `redirected`: status, output, errors.

    ``| gone`` means output to a pipe that nobody reads, ``|& gone`` errors.
    """
    read_end, gone = os.pipe()
    os.close(read_end)
    redirection, _, _ = redirected.partition("|")
    try:
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {redirection}', "sh", *patient("chatbox"), *argv],
            stdin=subprocess.DEVNULL,
            stdout=gone if redirected == "| gone" else subprocess.PIPE,
            stderr=gone if redirected == "|& gone" else subprocess.PIPE,
            encoding="utf-8",
            env=environment(CHATBOX_NAME="zoe", PYTHONUNBUFFERED=""),
            cwd=cwd,
            timeout=PATIENCE,
            check=False,
        )
    finally:
        os.close(gone)
    return done.returncode, done.stdout or "", done.stderr or ""


@pytest.mark.parametrize("nowhere", ["|& gone", "2>/dev/full", "2>&-"])
def test_errors_that_nobody_reads(server: Served, tmp_path: Path, nowhere: str) -> None:
    """What is said to people is lost, and nothing else: not the result, nor the status."""
    assert ended(nowhere, "who", NOBODY) == (Exit.NO_CONNECTION, "", "")
    assert ended(nowhere, "who", "-") == (Exit.USAGE, "", "")
    assert ended(nowhere, "bogus") == (Exit.USAGE, "", "")
    status, result, _ = ended(nowhere, "get", server.host, "a note.txt", cwd=tmp_path)
    assert (status, result[64:]) == (Exit.OK, f"  {tmp_path / 'a note.txt'}\n")


@pytest.mark.parametrize("command", ["--help", "--version", "files", "doctor"])
def test_results_that_cannot_be_written(server: Served, command: str) -> None:
    """That is a failure, which is told in a sentence, unless whoever read has gone away."""
    argv = [command] if command.startswith("-") else [command, server.host]
    said = "chatbox: The output cannot be written: No space left on device.\n"
    assert ended(">/dev/full", *argv) == (Exit.FAILED, "", said)
    assert ended("| gone", *argv) == (Exit.FAILED, "", "")


def test_closed_streams(server: Served, tmp_path: Path) -> None:
    """A stream that is closed is an empty one, and its number is not given to something else."""
    assert ended(">&-", "files", server.host) == (Exit.OK, "", "")
    assert ended("<&-", "join", server.host)[::2] == (Exit.OK, "")
    assert ended("<&- >&- 2>&-", "join", server.host) == (Exit.OK, "", "")
    status, _, said = ended("<&-", "say", server.host, "-")
    assert (status, "standard input is empty" in said) == (Exit.USAGE, True)
    get = ["get", server.host, "a note.txt", "--pause"]
    assert ended("<&- >&- 2>&-", *get, cwd=tmp_path) == (Exit.OK, "", "")
    assert (tmp_path / "a note.txt").stat().st_size == 6
