"""What this machine's system does for trains of packets, tried out on loopback.

A train leaves in one call and is cut up by the kernel (GSO); what arrives in a row may be joined by
it (GRO). There are kernels that have neither, and some that damage what they cut up. So a train is
sent from one socket of ours to another and compared. It takes a millisecond, and no server.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Final

from chatbox.client.doctor.diagnosis import Buffers, Offload
from chatbox.rdt.socket_options import SOCKET_BUFFER, UDP_GRO, UDP_SEGMENT, ask_for_buffers

__all__ = ["measure_buffers", "try_offload"]

SEGMENT_BYTES: Final = 1000
SEGMENTS: Final = 8
"""A train of a usual size; each packet of it is random, so that a mix-up shows."""

TIMEOUT: Final = 0.5
"""Seconds that a packet may take on loopback."""


def measure_buffers() -> Buffers:
    """Ask for what a transfer asks for, and see what is granted."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return Buffers(SOCKET_BUFFER, *ask_for_buffers(probe))


def try_offload() -> tuple[Offload, Offload]:
    """Send trains, and see what arrives: GSO, then GRO. Raises OSError if there is no loopback."""
    gso = _try(gro=False)
    if gso is Offload.WORKS:
        return gso, _try(gro=True)
    # Without trains there is nothing to join; whether the system could is all that can be said.
    return gso, Offload.WORKS if _has_gro() else Offload.MISSING


def _try(*, gro: bool) -> Offload:
    """Send a train to a socket that takes packets one by one, or joined."""
    train = os.urandom(SEGMENT_BYTES * SEGMENTS)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
    ):
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(TIMEOUT)
        if gro:
            try:
                receiver.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
            except OSError:
                return Offload.MISSING
        control = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", SEGMENT_BYTES))]
        try:
            sender.sendmsg([train], control, 0, receiver.getsockname())
        except (OSError, AttributeError):
            return Offload.MISSING
        arrived = b""
        try:
            while len(arrived) < len(train):
                data = receiver.recv(1 << 16)
                if not gro and len(data) != SEGMENT_BYTES:
                    return Offload.BROKEN
                arrived += data
        except TimeoutError:
            return Offload.BROKEN
    return Offload.WORKS if arrived == train else Offload.BROKEN


def _has_gro() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        except OSError:
            return False
    return True
