"""
Many datagrams in one system call: recvmmsg(2), which Python does not offer, through ctypes.

Where the kernel joins what arrives in a row (UDP_GRO), one call reads a train. Where it does not,
as behind many tunnels, each packet costs a call, and a receiver spends a quarter of its time on
them. So up to `DATAGRAMS` are read at once here, each to where it belongs in the train.

How they come to lie end to end without being copied: every datagram is scattered over two places.
Its first bytes, as many as the last datagrams had, go right behind those of the datagram before it;
whatever it has more goes to a place of its own. `Batch.train` is for the usual case, in which there
is no more. `Batch.datagrams` takes anything else apart.
"""

from __future__ import annotations

import ctypes
import mmap
import socket
import struct
import sys
from collections.abc import Iterator
from typing import Any

from chatbox.rdt.seal import LONGEST_DATAGRAM
from chatbox.rdt.socket_options import Control

DATAGRAMS = 64
"""Read at once at most."""

CONTROL_BYTES = 128
"""Room for what the kernel has to say of each datagram."""


class _Vector(ctypes.Structure):
    """struct iovec of readv(2)."""

    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """struct msghdr of recvmsg(2)."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_size", ctypes.c_uint32),
        ("vectors", ctypes.c_void_p),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_size", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """struct mmsghdr of recvmmsg(2)."""

    _fields_ = (("header", _Header), ("size", ctypes.c_uint))


_RECORD = ctypes.sizeof(_Message)
_NAME_BYTES = 28  # struct sockaddr_in6
_CMSG = struct.Struct("@Nii")  # struct cmsghdr: its size with the data, level, kind
_V4, _V6 = struct.Struct("!2xH4s"), struct.Struct("!2xHI16s")
_recvmmsg: Any = getattr(ctypes.CDLL(None, use_errno=True), "recvmmsg", None)

AVAILABLE = _recvmmsg is not None
"""Whether this system has it."""


class Batch:
    """Reads datagrams into the beginning of `room`, which has at least `LONGEST_DATAGRAM`."""

    def __init__(self, room: memoryview) -> None:
        self._room = room
        # This one takes no memory until it is needed.
        self._rest = memoryview(mmap.mmap(-1, DATAGRAMS * LONGEST_DATAGRAM))
        self._names = memoryview(bytearray(DATAGRAMS * _NAME_BYTES))
        self._control = memoryview(bytearray(DATAGRAMS * CONTROL_BYTES))
        self._vectors = (_Vector * (2 * DATAGRAMS))()
        self._messages = (_Message * DATAGRAMS)()
        # The array again, to read and to put right many of its numbers at once.
        self._bytes = memoryview(self._messages).cast("B")
        self._segment = 0
        self._count = 0
        self._known: tuple[bytes, Any] = (b"", None)
        for index, message in enumerate(self._messages):
            header, vectors = message.header, self._vectors
            vectors[2 * index + 1].base = _address(self._rest, index * LONGEST_DATAGRAM)
            vectors[2 * index + 1].size = LONGEST_DATAGRAM
            header.name = _address(self._names, index * _NAME_BYTES)
            header.name_size = _NAME_BYTES
            header.vectors = ctypes.addressof(vectors) + 2 * index * ctypes.sizeof(_Vector)
            header.vector_count = 2
            header.control = _address(self._control, index * CONTROL_BYTES)
            header.control_size = CONTROL_BYTES
        self._pristine = bytes(self._bytes)

    def receive(self, descriptor: int, segment: int) -> int:
        """How many datagrams there were; most have `segment` bytes, if all is as usual."""
        if segment != self._segment:
            self._segment = segment
            for index, vector in enumerate(self._vectors[::2]):
                vector.base = _address(self._room, 0) + index * segment
                vector.size = segment
        self._bytes[:] = self._pristine  # the kernel has written over it
        most = min(DATAGRAMS, len(self._room) // segment)
        count = _recvmmsg(descriptor, self._messages, most, socket.MSG_DONTWAIT, None)
        self._count = max(count, 0)
        return self._count

    def train(self) -> tuple[int, Control, Any] | None:
        """
        Their bytes, what the kernel said of the last, and the address; None if they are not all
        from one address, if a longer or a shorter one is among them that is not the last, or if the
        kernel did not say the same kinds of things of each.
        """
        count, segment = self._count, self._segment
        sizes, controls = self._field(_Message.size), self._field(_Header.control_size)
        name = bytes(self._names[:_NAME_BYTES])
        if (
            sizes[:-1].count(segment) == count - 1
            and sizes[-1] <= segment
            and controls.count(controls[0]) == count
            and self._names[: count * _NAME_BYTES] == name * count
        ):
            size = (count - 1) * segment + sizes[-1]
            return size, self._control_of(count - 1, controls[-1]), self._peer(name)
        return None

    def datagrams(self) -> Iterator[tuple[bytes, Control, Any]]:
        """Each: its bytes, what the kernel said of it, and its address."""
        controls = self._field(_Header.control_size)
        for index, size in enumerate(self._field(_Message.size)):
            start, rest = index * self._segment, index * LONGEST_DATAGRAM
            data = bytes(self._room[start : start + min(size, self._segment)])
            if size > self._segment:
                data += self._rest[rest : rest + size - self._segment]
            name = bytes(self._names[index * _NAME_BYTES :][:_NAME_BYTES])
            yield data, self._control_of(index, controls[index]), self._peer(name)

    def _field(self, field: Any) -> list[int]:
        """A number of each message."""
        small = field.size == ctypes.sizeof(ctypes.c_uint)
        view: Any = self._bytes  # of what can be cast to, the annotations leave out N
        numbers = view.cast("I" if small else "N")
        row = slice(field.offset // field.size, None, _RECORD // field.size)
        found: list[int] = numbers[row][: self._count].tolist()
        return found

    def _control_of(self, index: int, size: int) -> Control:
        """What the kernel said of a datagram: a row of struct cmsghdr (cmsg(3))."""
        room = self._control[index * CONTROL_BYTES :][:size]
        said = []
        while len(room) >= _CMSG.size:
            length, level, kind = _CMSG.unpack_from(room)
            said.append((level, kind, bytes(room[socket.CMSG_LEN(0) : length])))
            room = room[max(socket.CMSG_SPACE(length - socket.CMSG_LEN(0)), _CMSG.size) :]
        return said

    def _peer(self, name: bytes) -> Any:
        """A struct sockaddr as ``socket`` gives it."""
        if name != self._known[0]:
            family = int.from_bytes(name[:2], sys.byteorder)
            if family == socket.AF_INET:
                port, host = _V4.unpack_from(name)
                self._known = name, (socket.inet_ntop(family, host), port)
            else:
                port, flow, host = _V6.unpack_from(name)
                scope = int.from_bytes(name[24:28], sys.byteorder)
                self._known = name, (socket.inet_ntop(family, host), port, flow, scope)
        return self._known[1]


def _address(memory: memoryview, offset: int) -> int:
    """Where in the address space a byte of it is."""
    return ctypes.addressof(ctypes.c_char.from_buffer(memory, offset))
