"""What is asked of a UDP socket, and what the kernel says of what arrives there."""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
from twisted.logger import LogLevel, capturedLogs, formatEvent

from chatbox.rdt import socket_options
from chatbox.rdt.packet import BASE_DATAGRAM, MAX_DATAGRAM
from chatbox.rdt.socket_options import (
    IP_MTU_DISCOVER,
    IPV6_MTU_DISCOVER,
    PMTUDISC_PROBE,
    SO_TIMESTAMPNS,
    UDP_GRO,
    UDP_SEGMENT,
    longest_to,
    read_control,
    set_up,
)

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems have other options")


@only_linux
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_no_fragments(family: socket.AddressFamily) -> None:
    """No packet is cut on its way, over IPv4 from a socket of IPv6 neither."""
    with socket.socket(family, socket.SOCK_DGRAM) as made:
        set_up(made, gso=False)
        assert made.getsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER) == PMTUDISC_PROBE
        if family == socket.AF_INET6:
            assert made.getsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER) == PMTUDISC_PROBE


class Refusing(socket.socket):
    """A socket of a system that refuses some options."""

    def refusal(self, level: int, option: int) -> int:
        """The number of the error that setting this option brings; 0 for none."""
        raise NotImplementedError

    def setsockopt(self, level: int, option: int, *value: int) -> None:  # type: ignore[override]  # all of ours are numbers
        """Set it, or refuse."""
        if number := self.refusal(level, option):
            raise OSError(number, os.strerror(number))
        super().setsockopt(level, option, *value)


class WithoutOptions(Refusing):
    """A socket of a system that has next to nothing to choose."""

    def refusal(self, level: int, option: int) -> int:
        """Let the buffers be chosen."""
        return 0 if option in (socket.SO_RCVBUF, socket.SO_SNDBUF) else errno.EOPNOTSUPP


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_no_options(family: socket.AddressFamily) -> None:
    """A socket is of use without them."""
    with WithoutOptions(family, socket.SOCK_DGRAM) as made:
        assert not set_up(made, gso=True)


class WithoutTrains(Refusing):
    """A socket of a kernel that neither cuts up nor joins anything."""

    def refusal(self, level: int, option: int) -> int:
        """Refuse what is new."""
        is_new = level == socket.IPPROTO_UDP and option in (UDP_SEGMENT, UDP_GRO)
        return errno.ENOPROTOOPT if is_new else 0


def test_no_trains() -> None:
    """A kernel that takes no trains gets none; and so does one that should get none."""
    with WithoutTrains(socket.AF_INET, socket.SOCK_DGRAM) as made:
        assert not set_up(made, gso=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        assert not set_up(made, gso=False)


@only_linux
def test_small_buffers() -> None:
    """Whoever runs a server is told once, with the command, that its sockets are too small."""
    socket_options._warn_of_buffers.cache_clear()
    with patch.object(socket_options, "SOCKET_BUFFER", 1 << 30), capturedLogs() as logged:
        for _ in range(2):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
                set_up(made, gso=False)
    socket_options._warn_of_buffers.cache_clear()
    (warning,) = logged
    assert warning["log_level"] is LogLevel.warn
    text = formatEvent(warning)
    assert "sysctl -w net.core.rmem_max=1073741824 net.core.wmem_max=1073741824" in text
    assert warning["granted"] < 1 << 30


def test_control_messages() -> None:
    """How long each datagram was that the kernel joined, and when they came; or neither."""
    joined = (socket.IPPROTO_UDP, UDP_GRO, struct.pack("=i", 1200))
    padded = (socket.IPPROTO_UDP, UDP_GRO, struct.pack("=ii", 1200, 0))
    came = (socket.SOL_SOCKET, SO_TIMESTAMPNS, struct.pack("=qq", 7, 500_000_000))
    other = (socket.IPPROTO_IP, SO_TIMESTAMPNS, b"")
    assert read_control([]) == read_control([other]) == (0, 0.0)
    assert read_control([joined]) == read_control([padded]) == (1200, 0.0)
    assert read_control([other, came, joined]) == (1200, 7.5)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")
def test_longest_datagram() -> None:
    """What an interface carries without the headers, within what there is at all."""
    lo = int(Path("/sys/class/net/lo/mtu").read_text())
    assert longest_to(("127.0.0.1", 9)) == min(lo - 28, MAX_DATAGRAM)
    for host, mtu, longest in (
        ("192.0.2.1", 1500, 1472),
        ("2001:db8::1", 1500, 1452),
        ("192.0.2.1", 1420, 1392),
        ("192.0.2.1", 576, BASE_DATAGRAM),
        ("192.0.2.1", 65536, MAX_DATAGRAM),
    ):
        with patch("socket.socket") as made:
            made.return_value.__enter__.return_value.getsockopt.return_value = mtu
            assert longest_to((host, 9)) == longest
    with patch("socket.socket", side_effect=OSError(errno.EAFNOSUPPORT, "no such family")):
        assert longest_to(("2001:db8::1", 9)) == MAX_DATAGRAM
