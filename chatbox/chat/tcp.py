"""What the kernel is told about the TCP connection of a chat, on either end of it.

Nobody writes into a quiet room for hours. So it is the kernel that asks whether the other end is
there still, and ends the connection if no answer comes; on Linux the limit for data that is not
acknowledged is that for an answer, too.

A client gives up sooner than a server. It comes back by itself, and finds its name still kept for
it; while whoever sits in a tunnel for a minute has not left for the others.
"""

from __future__ import annotations

import socket
from typing import Any, Final

__all__ = [
    "CLIENT_TIMEOUT_MS",
    "KEEP_ALIVE_IDLE_SECONDS",
    "KEEP_ALIVE_INTERVAL_SECONDS",
    "KEEP_ALIVE_PROBES",
    "SERVER_TIMEOUT_MS",
    "socket_below",
    "tune",
]

KEEP_ALIVE_IDLE_SECONDS: Final = 60
KEEP_ALIVE_INTERVAL_SECONDS: Final = 15
KEEP_ALIVE_PROBES: Final = 4
"""A peer that vanished silently is found 60 + 4 x 15 = 120 seconds after it was last heard, or on
Linux when the first probe is due after the time-out below."""

SERVER_TIMEOUT_MS: Final = 120_000
"""The same limit for data that is never acknowledged (RFC 5482)."""

CLIENT_TIMEOUT_MS: Final = 60_000
"""Half of that: a person waits meanwhile."""


def tune(transport: Any, timeout_ms: int) -> None:
    """Have the kernel send at once, and find out when the peer is gone: if it is TCP down below."""
    connection = socket_below(transport)
    if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # We write once a turn, so there are no small writes that are worth holding back.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in (
        ("TCP_KEEPIDLE", KEEP_ALIVE_IDLE_SECONDS),
        ("TCP_KEEPINTVL", KEEP_ALIVE_INTERVAL_SECONDS),
        ("TCP_KEEPCNT", KEEP_ALIVE_PROBES),
        ("TCP_USER_TIMEOUT", timeout_ms),
    ):
        option = getattr(socket, name, None)  # Not every platform has all of them.
        if option is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)


def socket_below(transport: Any) -> socket.socket | None:
    """Return the socket that a transport writes to, through wrappers such as TLS."""
    while transport is not None:
        handle = getattr(transport, "getHandle", lambda: None)()
        if isinstance(handle, socket.socket):
            return handle
        transport = getattr(transport, "transport", None)
    return None
