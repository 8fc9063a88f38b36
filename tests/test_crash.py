"""The server is killed while people talk, and nothing that was acknowledged is lost or doubled.

This is the short version; ``benchmarks/crash.py`` kills a hundred times.
"""

from __future__ import annotations

import random
import resource
import socket
from pathlib import Path

from chatbox.log.sqlite import FILE_NAME
from chatbox.log.store import Reader
from tests.helpers.crash import Server, Talker, check, drive, talk_through_kills
from tests.helpers.server import free_port

SEED = 4


def stored(folder: Path) -> list[tuple[int, str]]:
    """What is in the log of a server whose home is `folder`."""
    reader = Reader(str(folder / "state" / FILE_NAME))
    found = reader.history(0, 10_000_000, "")
    reader.close()
    return [(record.id, record.text) for record in found]


def make_server(folder: Path) -> Server:
    """A server that keeps its log in `folder`."""
    port = free_port(socket.SOCK_STREAM)
    return Server(folder, port, "--state-dir", str(folder / "state"))


def test_killed_while_people_talk(tmp_path: Path) -> None:
    """Every acknowledged message is in the log once, and in everybody's transcript once."""
    server = make_server(tmp_path)
    try:
        talkers = talk_through_kills([server], people=8, kills=4, rng=random.Random(SEED))
        server.stop()
    finally:
        server.kill()
    check(talkers, stored(tmp_path))
    assert min(len(t.acknowledged) for t in talkers) >= 10
    assert min(t.cuts for t in talkers) >= 4


def test_full_disk(tmp_path: Path) -> None:
    """While the disk is full, people are told so; once it is not, the server goes on by itself."""
    server = make_server(tmp_path)
    server.start()
    talkers = [Talker(f"talker{number}", [server.port]) for number in range(3)]
    try:
        drive(talkers, lambda: all(len(t.acknowledged) > 2 for t in talkers))
        assert server.process is not None
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        drive(talkers, lambda: all(t.refused > 2 for t in talkers))
        before = [len(t.acknowledged) for t in talkers]
        drive(talkers, lambda: all(t.refused > 5 for t in talkers))
        assert [len(t.acknowledged) for t in talkers] == before
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, unlimited)
        drive(
            talkers,
            lambda: all(len(t.acknowledged) > b + 2 for t, b in zip(talkers, before, strict=True)),
        )
        for talker in talkers:
            talker.quiet = True
        drive(talkers, lambda: all(not t.text for t in talkers))
        last = max(t.last_id for t in talkers)
        drive(talkers, lambda: all(t.last_id >= last for t in talkers))
        server.stop()
    finally:
        server.kill()
    check(talkers, stored(tmp_path))
