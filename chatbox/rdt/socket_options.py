"""
What RDT asks of a UDP socket, and what the kernel says of what arrives there.

The kernel decides how much one system call moves, and what is lost before anybody reads. So there
is more to gain here than in code of ours:

- *Segmentation offload* (UDP_SEGMENT, "GSO") cuts up what one call sends, as late as it can;
  *receive offload* (UDP_GRO) joins what arrives in a row. With both, a train goes from one program
  into another in two calls.
- *Large buffers*: a program that is elsewhere for ten milliseconds finds megabytes when it comes
  back, and what had no room was lost though the path carried it. How much a program may ask for is
  for root to say (net.core.rmem_max), so whoever runs it is told where that is too little.
- *No fragments* (IP_MTU_DISCOVER): a datagram that is cut up on its way is lost with any piece of
  it, and firewalls drop pieces. It is PROBE rather than DO, which would let the kernel refuse what
  it believes too long for the path; how long a packet may be we find out (`chatbox.rdt.pmtu`), and
  by packets that are sealed, which the ICMP that the kernel goes by is not.
- *Timestamps* (SO_TIMESTAMPNS): when a datagram came, which is before a busy program reads it.

All but the size of the buffers is Linux's. Elsewhere packets come and go one by one.
"""

from __future__ import annotations

import socket
import struct
import sys
from contextlib import suppress
from functools import cache

from twisted.logger import Logger

from chatbox.rdt.packet import BASE_DATAGRAM, MAX_DATAGRAM

_log = Logger()

UDP_SEGMENT = 103
"""Socket option and control message: cut what is sent into datagrams of this size (linux/udp.h)."""

UDP_GRO = 104
"""Socket option: join datagrams in a row; control message: the size that each had."""

SO_TIMESTAMPNS = 64
"""
Socket option and control message: when a datagram came (asm-generic/socket.h, SO_TIMESTAMPNS_NEW).
"""

IP_MTU_DISCOVER = 10
IPV6_MTU_DISCOVER = 23
PMTUDISC_PROBE = 3
"""Socket options: set "don't fragment", whatever the kernel believes of the path (linux/in.h)."""

IP_MTU = 14
IPV6_MTU = 24
"""Socket options: the longest packet of IP to where the socket is connected, in bytes."""

IP_AND_UDP_BYTES = 28
IPV6_AND_UDP_BYTES = 48
"""What of such a packet is headers."""

SOCKET_BUFFER = 4 << 20
"""Bytes asked for each way: some ten milliseconds at line rate while the reactor is elsewhere."""

Control = list[tuple[int, int, bytes]]
"""Control messages, as ``socket.recvmsg`` gives them: level, kind, data."""

_GRO = struct.Struct("=i")
_TIME = struct.Struct("=qq")

CONTROL_BYTES = (
    socket.CMSG_SPACE(_GRO.size) + socket.CMSG_SPACE(_TIME.size)
    if hasattr(socket, "CMSG_SPACE")
    else 0
)
"""Room for those that `read_control` reads; 0 where the system has none."""


def set_up(made: socket.socket, *, gso: bool) -> bool:
    """Set all of these that the system has; whether trains may be sent, if they should (`gso`)."""
    granted = min(ask_for_buffers(made))
    if granted < SOCKET_BUFFER:
        _warn_of_buffers(granted)
    if sys.platform == "linux":
        # One of IPv6 may send over IPv4, too, for which the other option goes. The network of a
        # sandbox (gVisor) may know neither: better a piece than nothing.
        with suppress(OSError):
            made.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
        if made.family == socket.AF_INET6:
            with suppress(OSError):
                made.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
        with suppress(OSError):
            made.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    if gso:
        try:
            made.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 0)
        except OSError:
            gso = False
    if hasattr(made, "recvmsg_into"):
        with suppress(OSError):
            made.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    return gso


def ask_for_buffers(made: socket.socket) -> tuple[int, int]:
    """Ask for large buffers; how many bytes are granted to receive, and to send."""
    granted = []
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        made.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER)
        got = made.getsockopt(socket.SOL_SOCKET, option)
        # Linux says twice what it grants, for its own bookkeeping (socket(7)).
        granted.append(got // 2 if sys.platform == "linux" else got)
    return granted[0], granted[1]


@cache
def _warn_of_buffers(granted: int) -> None:
    """Say it once, not for each port."""
    _log.warn(
        "sockets may hold {granted} bytes only, and fast downloads lose packets for it; as root:"
        " sysctl -w net.core.rmem_max={wanted} net.core.wmem_max={wanted} (to keep it, put the same"
        " into a file in /etc/sysctl.d)",
        granted=granted,
        wanted=SOCKET_BUFFER,
    )


def read_control(control: Control) -> tuple[int, float]:
    """
    What the kernel says of what was read: bytes of each of the datagrams that it joined, 0 if it
    did not; and when they came, in seconds since the epoch, 0 if it does not say.
    """
    joined, came_at = 0, 0.0
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIME.unpack(data)
            came_at = seconds + nanoseconds * 1e-9
        elif level == socket.IPPROTO_UDP and kind == UDP_GRO:
            joined = _GRO.unpack(data[: _GRO.size])[0]
    return joined, came_at


def longest_to(address: tuple[str, int]) -> int:
    """
    The longest datagram, in bytes, that this machine's interface carries to an IP address and a
    port, as far as the system knows; of those that there are at all.
    """
    six = ":" in address[0]
    family, level, option, headers = (
        (socket.AF_INET6, socket.IPPROTO_IPV6, IPV6_MTU, IPV6_AND_UDP_BYTES)
        if six
        else (socket.AF_INET, socket.IPPROTO_IP, IP_MTU, IP_AND_UDP_BYTES)
    )
    if sys.platform == "linux":
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)  # which sends nothing
            mtu: int = probe.getsockopt(level, option)
            return max(BASE_DATAGRAM, min(mtu - headers, MAX_DATAGRAM))
    return MAX_DATAGRAM
