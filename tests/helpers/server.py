"""A real server process with something on its shelf, for the tests of clients."""

from __future__ import annotations

import hashlib
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle, islice
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


_PORTS: Final = range(20_000, 32_000)
"""Below those that the system gives to whoever does not care, so that none of them is given away
before the server that it is for has it, or while that server is being restarted."""

_next_port = cycle(random.Random().sample(_PORTS, len(_PORTS)))


def free_port(kind: socket.SocketKind) -> int:
    """A port on this machine that nobody uses at the moment, and nobody else here is told of."""
    for port in islice(_next_port, len(_PORTS)):
        with socket.socket(socket.AF_INET, kind) as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("all ports are taken")


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
