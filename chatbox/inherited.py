"""Sockets that a supervisor such as systemd has opened for us, and keeps open between two servers.

They stand as open descriptors from 3 on, with their number and names in the environment
(``LISTEN_FDS``, ``LISTEN_FDNAMES``, sd_listen_fds(3)). Twisted reads that once, when its endpoints
are first loaded, and removes it; so we ask what its parser of ``systemd:`` endpoints has read.

All sockets of one unit have one name, which that parser takes for the last of them, and it wants
to be told what kind of address each has. So here ``systemd`` alone means all, and
``systemd:name=NAME`` all of a name, of the kind that is wanted.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from twisted.internet import endpoints

from chatbox.descriptions import read_description

__all__ = ["INHERITED", "datagram_sockets", "stream_endpoints", "which"]

INHERITED: Final = "systemd"
"""What the options call all sockets of a kind that were passed to us."""


def which(text: str) -> str | None:
    """Read ``systemd`` or ``systemd:name=NAME``: the name, "" for all; None if it is neither."""
    said = read_description(text)
    name = said.options.get("name", "")
    if said.front or said.kind != INHERITED or said.values or len(said.options) != bool(name):
        return None
    return name


def stream_endpoints(name: str = "") -> list[str]:
    """Describe an endpoint for each of the stream sockets, or of those called `name`."""
    return [
        f"{INHERITED}:domain={one.family.name.removeprefix('AF_')}:index={index}"
        for index, one in enumerate(_inherited())
        if one.kind == socket.SOCK_STREAM and name in ("", one.name)
    ]


def datagram_sockets(name: str = "") -> list[int]:
    """Return the descriptors of the UDP sockets, or of those called `name`."""
    return [
        one.descriptor
        for one in _inherited()
        if one.kind == socket.SOCK_DGRAM
        and one.family in (socket.AF_INET, socket.AF_INET6)
        and name in ("", one.name)
    ]


class _Inherited(NamedTuple):
    descriptor: int
    name: str
    family: socket.AddressFamily
    kind: socket.SocketKind


def _inherited() -> Iterator[_Inherited]:
    """Yield what was passed to us, in its order."""
    # Its public face has one descriptor for each name.
    passed: Any = endpoints._SystemdParser._sddaemon
    for descriptor, name in zip(passed._descriptors, passed._names, strict=True):
        # A duplicate, since a socket object closes what it has.
        with socket.socket(fileno=os.dup(descriptor)) as one:
            yield _Inherited(descriptor, name, socket.AddressFamily(one.family), one.type)
