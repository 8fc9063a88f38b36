"""Files that have come, opened by the desktop's own program."""

from __future__ import annotations

import os
import select
import stat
from pathlib import Path
from unittest import mock

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase

from chatbox.client.files.desktop import open_file
from tests.helpers.processes import PATIENCE


class NotOpenedTests(SynchronousTestCase):
    """Where it cannot or should not be opened, a sentence says so."""

    def told(self, path: str, **environ: str) -> list[str]:
        """What is said of a file."""
        told: list[str] = []
        with mock.patch.dict(os.environ, {"DISPLAY": "", "WAYLAND_DISPLAY": "", **environ}):
            open_file(MemoryReactor(), path, told.append)
        return told

    def test_no_desktop(self) -> None:
        """Without a desktop the person is told where the file is."""
        self.assertIn("/tmp/a\N{REPLACEMENT CHARACTER}b", self.told("/tmp/a\x1bb")[0])

    def test_no_program(self) -> None:
        """And so without the program."""
        self.assertIn("no desktop", self.told("/tmp/a", DISPLAY=":9", PATH="/nowhere")[0])

    def test_what_would_be_run(self) -> None:
        """A .desktop file is a program to some desktops; it is never opened."""
        for path in ("/tmp/a.desktop", "/tmp/a.Desktop"):
            self.assertIn("would be run", self.told(path, DISPLAY=":9", PATH="/nowhere")[0])


@pytest.mark.parametrize("status", [0, 3])
@pytest_twisted.ensureDeferred
async def test_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """The program is given the path, in a session of its own, and its failure is told."""
    from twisted.internet import reactor

    seen = tmp_path / "seen"
    os.mkfifo(seen)
    program = tmp_path / "xdg-open"
    program.write_text(
        f"""#!/bin/sh
echo "$1 $(cut -d ' ' -f 6 /proc/$$/stat) $$" > {seen}
exit {status}
"""
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("DISPLAY", ":9")
    told: Deferred[str] = Deferred()
    reader = os.open(seen, os.O_RDWR)
    try:
        open_file(reactor, str(tmp_path / "a film.mp4"), told.callback)
        assert select.select([reader], [], [], PATIENCE)[0]
        path, session, pid = os.read(reader, 4096).decode().rsplit(maxsplit=2)
    finally:
        os.close(reader)
    assert path == str(tmp_path / "a film.mp4")
    assert session == pid
    if status:
        assert "Nothing here opens that file." in await told.addTimeout(PATIENCE, reactor)
