"""A real server process with something on its shelf, for the tests of clients."""

from __future__ import annotations

import hashlib
import random
import socket
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from tests.helpers.processes import Running, script


@dataclass(frozen=True)
class Served:
    """A server on this machine."""

    process: Running
    host: str
    """What a client is told."""
    tcp_port: int
    udp_port: int
    film: Path
    """A file of a few hundred kilobytes on its shelf."""
    digest: str
    """The film's sha-256."""
    start: Callable[[], Running]
    """Starts it again, after it was killed."""


_SHARES: Final = 64
"""How many processes may run tests on this machine at once without ever getting into each other's
way: trial starts one for each processor."""


def free_port(kind: socket.SocketKind) -> int:
    """A port on this machine that nobody uses at the moment, and nobody else is told of.

    If there are others, it is none of those that the system gives to whoever does not care, so it
    is not given away before the server that it is for has it, or while that is being restarted.
    """
    ports = _share()
    for _ in range(len(ports)):
        port = ports.popleft()
        ports.append(port)
        with socket.socket(socket.AF_INET, kind) as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("all ports are taken")


@cache
def _share() -> deque[int]:
    """The ports that this process may use, in an order of chance."""
    told = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    first, last = map(int, told)
    ports = [port for port in range(20_000, 1 << 16) if not first <= port <= last]
    if len(ports) < 50 * _SHARES:  # the system gives away nearly all
        ports = list(range(20_000, 1 << 16))
    size = len(ports) // _SHARES
    for number in random.sample(range(_SHARES), _SHARES):
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with suppress(OSError):
            lock.bind(f"\0ports for tests of chatbox, share {number}")
            _locks.append(lock)
            return deque(random.sample(ports[number * size :][:size], size))
        lock.close()
    return deque(random.sample(ports, len(ports)))


_locks: Final[list[socket.socket]] = []
"""Open as long as this process has its share."""


@contextmanager
def serving(folder: Path, address: str = "127.0.0.1", kind: str = "tcp") -> Iterator[Served]:
    """Run a server at an address of this machine whose shelf is a new folder in `folder`.

    Of the `kind` tcp6 it is at all addresses.
    """
    shelf = folder / "shelf"
    shelf.mkdir()
    film = shelf / "film.bin"
    film.write_bytes(random.Random(1).randbytes(300_000))
    (shelf / "a note.txt").write_text("hello\n")
    tcp_port, udp_port = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)
    interface = f":interface={address.replace(':', chr(92) + ':')}" if kind == "tcp" else ""
    command = [
        *script("twistd"),
        *("-n", "--pidfile=", "chatbox", "--files", str(shelf)),
        *("--listen", f"{kind}:{tcp_port}{interface}"),
        *("--udp-ports", str(udp_port), "--state-dir", str(folder / "state")),
    ]

    def start() -> Running:
        return Running(command, cwd=folder)

    with start() as process:
        process.read_until(f"starting on {tcp_port}")
        process.read_until(f"starting on {udp_port}")
        digest = hashlib.sha256(film.read_bytes()).hexdigest()
        host = f"[{address}]:{tcp_port}" if ":" in address else f"{address}:{tcp_port}"
        yield Served(process, host, tcp_port, udp_port, film, digest, start)
