"""
The packets of RDT: values <-> bytes. Nothing here keeps state, encrypts, or knows what comes before
or after.

Every datagram begins with the same header, in the clear but authenticated::

     0               1               5                               13
    +---------------+---------------+-------------------------------+----------------------
    | kind (1)      | connection (4)| packet number (8)             | sealed body, tag (16)
    +---------------+---------------+-------------------------------+----------------------
                    |<-------- nonce of the seal (12) ------------->|

All integers are big-endian and unsigned. Each direction numbers its packets from 0 and never uses a
number twice, so the connection and the number together are the nonce, as they stand. DATA carries
the place in the file, 8 bytes more, in the clear behind the header; what is sealed is then nothing
but bytes of the file, which is what lets a train be sealed from, and opened into, one stretch of
memory.

Two of the kinds travel to the server and three to the client. There is no packet that says "pause"
and none that says "go on". Each side tells the other its *whole state*, in a packet that replaces
all that it said before: CONTROL says what the client has and what it wants, STATUS how the transfer
stands. So nothing that is said can be lost, doubled or overtaken: the newest packet (the highest
number) is the truth, an older one that comes late is dropped.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from chatbox.errors import RemoteError
from chatbox.rdt.ends import End

HEADER = struct.Struct(">BIQ")
"""kind, connection id, packet number"""

DATA_HEADER = struct.Struct(">BIQQ")
"""The same and the offset in the file."""

TAG_BYTES = 16
"""AES-GCM's tag (RFC 5116 section 5.1)."""

DATA_OVERHEAD = DATA_HEADER.size + TAG_BYTES
"""What a DATA packet is longer than the bytes of the file that it carries."""

MIN_DATAGRAM = HEADER.size + TAG_BYTES
"""No datagram of ours is shorter."""

BASE_DATAGRAM = 1200
"""Bytes of UDP payload that every path is taken to carry (RFC 9000 section 14, RFC 8899
BASE_PLPMTU).
"""

MAX_DATAGRAM = 65000
"""Above this, headers of UDP and IP and some room for tunnels no longer fit in what IP can carry.
"""

MAX_ACK_RANGES = 139
"""As many fit in a packet of BASE_DATAGRAM bytes; older ones were in the acknowledgements before.
"""

MAX_HAVE_RANGES = 64
"""As many stretches of a half-finished file an OPEN can name; what it does not name is sent again.
"""

NO_LIMIT = (1 << 64) - 1
"""As an offset: beyond the end of any file. As a rate: as fast as the path allows."""

MAX_SIZE = 1 << 62
"""Bytes in a file. Larger offsets are an attack, not a file."""


class Kind(IntEnum):
    """The first byte: the version of the protocol in the high four bits, 1, and the kind of packet
    in the low ones.
    """

    OPEN = 0x11
    CONTROL = 0x12
    DATA = 0x13
    STATUS = 0x14
    PROBE = 0x15


class Wish(IntEnum):
    """What the client wants to happen."""

    RUN = 1
    PAUSE = 2
    END = 3


class Phase(IntEnum):
    """How the transfer stands, as the server tells it."""

    SENDING = 1
    PAUSED = 2
    SENT = 3
    ENDED = 4


class Train(NamedTuple):
    """
    Datagrams that travel as one: in a few system calls, and in one record of what is in flight.

    They lie end to end in `data`, each `segment` bytes long but the last, which may be shorter. The
    memory belongs to whoever made the train and is used again for the next one: a train is sent,
    opened or copied, never kept.
    """

    data: memoryview
    segment: int
    joined: bool = True
    """Whether the kernel may cut it up; there are some that damage it then."""

    def datagrams(self) -> Iterator[memoryview]:
        """The datagrams, one by one."""
        data, segment = self.data, self.segment
        for start in range(0, len(data), segment):
            yield data[start : start + segment]


@dataclass(frozen=True, slots=True)
class Control:
    """CONTROL: all that the client has to say. OPEN carries it too."""

    wish: Wish
    end: End
    """With `Wish.END`: why."""
    pause_at: int
    """Send nothing at or beyond this offset until I say a higher one; `NO_LIMIT` for no pause."""
    window_end: int
    """I can take the bytes below this offset (flow control)."""
    rate_limit: int
    """Bytes per second that I want at most; `NO_LIMIT` for none."""
    confirmed: int
    """How many bytes of the file I have written down: progress as I see it."""
    challenge: int
    """The latest challenge of a STATUS, given back: proof that I receive where I send from."""
    ack_delay: float
    """Seconds since the highest packet acknowledged here arrived."""
    ranges: Sequence[tuple[int, int]]
    """Half-open ranges of packet numbers that arrived, the highest first, none touching another."""


_CONTROL = struct.Struct(">BBQQQQQIQH")
_GAP = struct.Struct(">II")


def pack_control(control: Control) -> bytes:
    """The body of a CONTROL packet."""
    ranges = control.ranges
    parts = [
        _CONTROL.pack(
            control.wish,
            control.end,
            control.pause_at,
            control.window_end,
            control.rate_limit,
            control.confirmed,
            control.challenge,
            min(round(control.ack_delay * 1e6), 0xFFFFFFFF),
            ranges[0][1] if ranges else 0,
            len(ranges),
        )
    ]
    floor = ranges[0][1] if ranges else 0
    for start, stop in ranges:
        parts.append(_GAP.pack(floor - stop, stop - start))
        floor = start
    return b"".join(parts)


def unpack_control(body: bytes) -> Control:
    """
    Read the body of a CONTROL packet.

    :raises RemoteError: ``bad-packet``.
    """
    try:
        wish, end, pause_at, window_end, rate_limit, confirmed, challenge, delay, top, count = (
            _CONTROL.unpack_from(body)
        )
        numbers = struct.unpack_from(f">{2 * count}I", body, _CONTROL.size)
        if count > MAX_ACK_RANGES or len(body) != _CONTROL.size + count * _GAP.size:
            raise ValueError("wrong number of ranges")
        ranges = []
        floor = top
        for index in range(0, 2 * count, 2):
            stop = floor - numbers[index]
            floor = stop - numbers[index + 1]
            # A gap of 0 is right for the first range only: elsewhere two ranges would touch.
            if floor < 0 or floor == stop or (index and not numbers[index]):
                raise ValueError("ranges that are none")
            ranges.append((floor, stop))
        if not rate_limit:
            raise ValueError("a rate of nothing")
        return Control(
            Wish(wish),
            End(end),
            pause_at,
            window_end,
            rate_limit,
            confirmed,
            challenge,
            delay / 1e6,
            ranges,
        )
    except (struct.error, ValueError) as error:
        raise RemoteError("bad-packet", f"CONTROL: {error}") from None


@dataclass(frozen=True, slots=True)
class Open:
    """OPEN: the first thing that a client says, again and again until it is answered."""

    max_datagram: int
    """The longest datagram that I can take."""
    rtt: float
    """The round-trip time of the chat connection in seconds, 0 if not measured: something to pace
    the first flight by.
    """
    have: Sequence[tuple[int, int]]
    """Half-open ranges of bytes that I have from before, ascending, none touching another."""
    control: Control


_OPEN = struct.Struct(">IIH")
_HAVE = struct.Struct(">QQ")


def pack_open(opening: Open) -> bytes:
    """The body of an OPEN packet."""
    return b"".join(
        [
            _OPEN.pack(
                opening.max_datagram, min(round(opening.rtt * 1e6), 0xFFFFFFFF), len(opening.have)
            ),
            *(_HAVE.pack(start, stop) for start, stop in opening.have),
            pack_control(opening.control),
        ]
    )


def unpack_open(body: bytes) -> Open:
    """
    Read the body of an OPEN packet.

    :raises RemoteError: ``bad-packet``.
    """
    try:
        max_datagram, rtt, count = _OPEN.unpack_from(body)
        if count > MAX_HAVE_RANGES or not max_datagram >= BASE_DATAGRAM:
            raise ValueError("out of bounds")
        have = [_HAVE.unpack_from(body, _OPEN.size + index * _HAVE.size) for index in range(count)]
        last = -1
        for start, stop in have:
            if not last < start < stop <= MAX_SIZE:
                raise ValueError("ranges that are none")
            last = stop
    except (struct.error, ValueError) as error:
        raise RemoteError("bad-packet", f"OPEN: {error}") from None
    control = unpack_control(body[_OPEN.size + count * _HAVE.size :])
    return Open(max_datagram, rtt / 1e6, have, control)


@dataclass(frozen=True, slots=True)
class Status:
    """STATUS: how the transfer stands at the server."""

    phase: Phase
    end: End
    """With `Phase.ENDED`: why."""
    size: int
    """Bytes in the file."""
    mtime_ns: int
    """When it was last changed, nanoseconds since the epoch (modulo 2^64, for files older than
    that): with the size, the identity that a resume checks.
    """
    heard: int
    """One more than the highest packet number that the client's words are known up to; 0 for none.
    """
    challenge: int
    """Give this number back in CONTROL."""
    ack_delay: float
    """Acknowledge at the latest so many seconds after the first packet not acknowledged yet..."""
    ack_bytes: int
    """... or once so many bytes have come, whichever is first."""
    digest: bytes | None
    """The sha-256 of the whole file, None while it is not known yet."""
    limited: bool = False
    """Whether what the server may send in all holds this transfer back, and not the path."""


_STATUS = struct.Struct(">BBQQQQIIB32s")


def pack_status(status: Status) -> bytes:
    """The body of a STATUS packet."""
    return _STATUS.pack(
        status.phase,
        status.end,
        status.size,
        status.mtime_ns & 0xFFFFFFFFFFFFFFFF,
        status.heard,
        status.challenge,
        min(round(status.ack_delay * 1e6), 0xFFFFFFFF),
        min(status.ack_bytes, 0xFFFFFFFF),
        (status.digest is not None) | status.limited << 1,
        status.digest or bytes(32),
    )


def unpack_status(body: bytes) -> Status:
    """
    Read the body of a STATUS packet.

    :raises RemoteError: ``bad-packet``.
    """
    try:
        phase, end, size, mtime_ns, heard, challenge, delay, ack_bytes, flags, digest = (
            _STATUS.unpack(body)
        )
        if size > MAX_SIZE or flags > 3:
            raise ValueError("out of bounds")
        return Status(
            Phase(phase),
            End(end),
            size,
            mtime_ns,
            heard,
            challenge,
            delay / 1e6,
            ack_bytes,
            digest if flags & 1 else None,
            bool(flags & 2),
        )
    except (struct.error, ValueError) as error:
        raise RemoteError("bad-packet", f"STATUS: {error}") from None
