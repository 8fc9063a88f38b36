"""Sockets that a supervisor such as systemd has opened for us, and keeps open between two servers.

They stand as open descriptors from 3 on, with their number in the environment (``LISTEN_FDS``,
sd_listen_fds(3)). Twisted reads that once, when its endpoints are first loaded, and removes it; so
we ask its parser of ``systemd:`` endpoints, which stays the only one to know.
"""

from __future__ import annotations

import os
import socket
from typing import Any, Final

from twisted.internet import endpoints, task

__all__ = ["INHERITED", "datagram_sockets", "stream_endpoints"]

INHERITED: Final = "systemd"
"""What the options call all sockets of a kind that were passed to us."""


def stream_endpoints() -> list[str]:
    """Describe an endpoint for each of the stream sockets."""
    return [
        f"{INHERITED}:domain={family.name.removeprefix('AF_')}:index={index}"
        for index, (_, family, kind) in enumerate(_inherited())
        if kind == socket.SOCK_STREAM
    ]


def datagram_sockets() -> list[int]:
    """Return the descriptors of the UDP sockets."""
    return [
        descriptor
        for descriptor, family, kind in _inherited()
        if kind == socket.SOCK_DGRAM and family in (socket.AF_INET, socket.AF_INET6)
    ]


def _inherited() -> list[tuple[int, socket.AddressFamily, socket.SocketKind]]:
    """Return the descriptor, the family and the kind of each, in their order."""
    found: list[tuple[int, socket.AddressFamily, socket.SocketKind]] = []
    while True:
        description = f"{INHERITED}:domain=INET:index={len(found)}"
        try:
            endpoint: Any = endpoints.serverFromString(task.Clock(), description)
        except IndexError:
            return found
        # A duplicate, since a socket object closes what it has.
        with socket.socket(fileno=os.dup(endpoint.fileno)) as one:
            found.append((endpoint.fileno, socket.AddressFamily(one.family), one.type))
