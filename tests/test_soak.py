"""A short soak: ``benchmarks/soak.py`` does the same for hours."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.helpers.crash import check
from tests.helpers.server import free_port
from tests.helpers.soak import MAX_GROWTH, Rest, Soak, judge
from tests.test_crash import stored

SEED = 5


def test_soak(tmp_path: Path) -> None:
    """After cuts, floods, garbage and a restart the server is what it was, and so is the log."""
    tcp, udp = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)
    soak = Soak(tmp_path, tcp, udp, seed=SEED, people=6, breath=0.05, kill_downloads=False)
    try:
        soak.round(2.0)
        soak.round(3.0, restart_after=0.0)
        soak.server.stop()
    finally:
        soak.close()
    check(soak.people, stored(tmp_path))
    assert judge(soak.tally.rests) == [], f"seed {SEED}: {soak.tally.rests}"
    assert soak.tally.restarts == 1
    assert sum(soak.tally.enemies.values()) > 10
    assert "Traceback" not in (tmp_path / "twistd.log").read_text()


def test_judge() -> None:
    """More of anything is complained of; less of it, or a little more memory, is not."""
    before = Rest(memory=50 << 20, descriptors=20, threads=3, people=5, open_files=0, sockets=9)
    better = Rest((50 << 20) + MAX_GROWTH, 22, 12, 5, 0, 9)
    worse = Rest((51 << 20) + MAX_GROWTH, 23, 13, 6, 1, 10)
    assert judge([before, worse, better]) == []
    assert judge([before, worse]) == [
        "3 more descriptors",
        "10 more threads",
        "1 more people",
        "1 more open files",
        "1 more sockets",
        "9.0 MiB more memory",
    ]
