"""Datagrams, from those who have the keys of a download and from those who have not."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from chatbox.errors import RemoteError
from chatbox.rdt.admissions import Admissions, Taker
from chatbox.rdt.congestion.cubic import Cubic
from chatbox.rdt.demux import Demux
from chatbox.rdt.packet import (
    DATA_HEADER,
    HEADER,
    MAX_ACK_RANGES,
    MAX_HAVE_RANGES,
    TAG_BYTES,
    Open,
    Train,
    pack_control,
    pack_open,
    pack_status,
    unpack_control,
    unpack_open,
    unpack_status,
)
from chatbox.rdt.packet import Kind as PacketKind
from chatbox.rdt.receiver import Ended, Receiver, Verdict
from chatbox.rdt.receiver import State as ReceiverState
from chatbox.rdt.seal import Keys, TrainSealer, client_keys, seal_packet, server_keys
from chatbox.rdt.sender import Sender
from chatbox.rdt.ticket import Ticket
from tests.fuzz.target import Check, Target
from tests.helpers import vectors
from tests.link import MemorySource

TICKET = Ticket(0x01020304, bytes(range(32)))
FILE = random.Random(8).randbytes(20_000)


def _packet() -> Check:
    def check(data: bytes) -> None:
        body = data[1:]
        try:
            match data[:1]:
                case b"c":
                    control = unpack_control(body)
                    assert unpack_control(pack_control(control)) == control
                    assert len(control.ranges) <= MAX_ACK_RANGES
                case b"o":
                    opening = unpack_open(body)
                    assert unpack_open(pack_open(opening)) == opening
                    assert len(opening.have) <= MAX_HAVE_RANGES
                case _:
                    status = unpack_status(body)
                    assert unpack_status(pack_status(status)) == status
        except RemoteError as error:
            assert error.code == "bad-packet"

    return check


def _datagram() -> Check:
    """A server's port with two downloads, one that has begun, and somebody without their keys.

    The first byte says how long each datagram of the train is.
    """
    demux = Demux(Cubic, Admissions(), random.Random(1).randbytes)
    for _ in range(2):
        ticket = demux.admit(Taker("alice"), MemorySource(FILE), 0.0)
    body = pack_open(Open(1200, 0.0, [], replace(vectors.CONTROL, window_end=0)))
    opening = seal_packet(
        client_keys(ticket.secret), PacketKind.OPEN, ticket.connection_id, 0, body
    )
    demux.receive(Train(memoryview(opening), len(opening)), "alice", 0.0)
    assert [address for _, address in demux.trains_to_send(0.0)]
    assert demux.next_event() is not None
    ids = [transfer.sender.connection_id for transfer in demux.transfers]

    def dropped() -> int:
        return demux.dropped + sum(one.sender.dropped for one in demux.transfers)

    def check(data: bytes) -> None:
        # The fuzzer need not guess 32 bits to get further.
        which = data[1:2]
        packet = bytearray(data[1:])
        if which and which[0] & 0x80 and len(packet) >= HEADER.size:
            packet[0] &= 0x3F
            packet[1:5] = ids[which[0] >> 6 & 1].to_bytes(4, "big")
        segment = max(len(packet) if data[:1] == b"\xff" else data[0] if data else 1, 1)
        before = dropped()
        demux.receive(Train(memoryview(packet), segment), "mallory", 0.0)
        assert dropped() - before == -(-len(packet) // segment)
        assert not list(demux.trains_to_send(0.0)), "somebody without keys was answered"
        assert demux.next_event() is None and len(demux) == 2

    return check


def _stray() -> Check:
    """A client's socket, and somebody without the keys; the first byte as in `_datagram`."""
    receiver = Receiver(TICKET, len(FILE), _Sink(), 0.0)
    assert list(receiver.trains_to_send(0.0))

    def check(data: bytes) -> None:
        packet = bytearray(data[1:])
        if data[1:2] >= b"\x80" and len(packet) >= HEADER.size:
            packet[0] &= 0x7F
            packet[1:5] = TICKET.connection_id.to_bytes(4, "big")
        segment = max(len(packet) if data[:1] == b"\xff" else data[0] if data else 1, 1)
        before = receiver.dropped
        receiver.receive(Train(memoryview(packet), segment), 0.0)
        assert receiver.dropped - before == -(-len(packet) // segment)
        assert receiver.state is ReceiverState.OPENING and receiver.next_event() is None
        assert not list(receiver.trains_to_send(0.0))

    return check


class _Sink:
    """A file in memory that takes nothing beyond its end."""

    have: Sequence[tuple[int, int]] = ()

    def __init__(self) -> None:
        self.reached_to = 0
        self.closed = 0
        self.finished = False

    def recognise(self, mtime_ns: int) -> bool:
        """Any will do."""
        return True

    def write(self, offset: int, data: memoryview) -> None:
        """Look at the bounds."""
        assert 0 <= offset <= len(FILE) - len(data) and not self.closed

    def reached(self, prefix: int) -> None:
        """It only grows."""
        assert self.reached_to < prefix <= len(FILE)
        self.reached_to = prefix

    def finish(self, digest: bytes) -> None:
        """It is whole."""
        assert self.reached_to == len(FILE) and len(digest) == 32 and not self.finished
        self.finished = True

    def verdict(self) -> Verdict | None:
        """Not yet."""
        return None

    def close(self, end: object) -> None:
        """Once."""
        self.closed += 1
        assert self.closed == 1


def _steps(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Cut bytes into things that happen: what, how far the number jumps, and a body."""
    at = 0
    while at + 3 <= len(data):
        what, jump, length = data[at : at + 3]
        if length == 0xFF and at + 5 <= len(data):
            length = int.from_bytes(data[at + 3 : at + 5], "big")
            at += 2
        yield what, jump, data[at + 3 : at + 3 + length]
        at += 3 + length


def _step(what: int, body: bytes, jump: int = 0) -> bytes:
    """What `_steps` reads."""
    size = bytes([len(body)]) if len(body) < 0xFF else b"\xff" + len(body).to_bytes(2, "big")
    return bytes([what, jump]) + size + body


def _sealed(keys: Keys, kind: int, number: int, body: bytes) -> bytes:
    """A datagram of any kind, one that does not exist too."""
    header = HEADER.pack(kind, TICKET.connection_id, number)
    return header + keys.at(number).encrypt(header[1:], body, header)


def _sender() -> Check:
    """A server whose client has the keys and says anything."""
    keys = client_keys(TICKET.secret)
    sealer = TrainSealer()

    def check(data: bytes) -> None:
        now, number = 0.0, 0
        sender = Sender(TICKET, MemorySource(FILE), Cubic, sealer, bytes, now)
        ended = 0
        for what, jump, body in islice(_steps(data), 40):
            if what >= 0xF0:
                now += jump * jump / 1000
                sender.on_timer(now)
            else:
                kind = (PacketKind.OPEN, PacketKind.CONTROL, what)[min(what, 2)]
                number += jump
                packet = _sealed(keys, kind, number, body)
                sender.receive(Train(memoryview(packet), len(packet)), what & 0x40, now)
                number += 1
            trains = list(islice(sender.trains_to_send(now), 1000))
            assert len(trains) < 1000, "it does not stop"
            while (event := sender.next_event()) is not None:
                ended += hasattr(event, "end")
            due = sender.next_timer()
            assert due is None if sender.closed else due is not None and due < now + 1e5
            assert 0 <= sender.confirmed <= len(FILE)
            assert ended == sender.ended

    return check


def _receiver() -> Check:
    """A client whose server has the keys and says anything."""
    keys = server_keys(TICKET.secret)
    orders = (Receiver.pause, Receiver.proceed, Receiver.cancel, Receiver.sink_ready)

    def check(data: bytes) -> None:
        now, number = 0.0, 0
        receiver = Receiver(TICKET, len(FILE), _Sink(), now)
        ended = 0
        for what, jump, body in islice(_steps(data), 40):
            if what >= 0xF0:
                now += jump * jump / 1000
                receiver.on_timer(now)
            elif what >= 0xE0:
                orders[what % len(orders)](receiver, now)
            else:
                number += jump << (what >> 2 & 0x1F)
                if what & 3 == 3 and len(body) >= 2:
                    offset = int.from_bytes(body[:8].rjust(8, b"\0"), "big")
                    header = DATA_HEADER.pack(PacketKind.DATA, TICKET.connection_id, number, offset)
                    plain = FILE[: int.from_bytes(body[-2:], "big") + 1]
                    sealed = keys.at(number).encrypt(header[1:13], plain, header)
                    packet = header + sealed
                else:
                    kind = (PacketKind.STATUS, PacketKind.PROBE, 0x20 + what)[min(what & 3, 2)]
                    packet = _sealed(keys, kind, number, body)
                number += 1
                receiver.receive(Train(memoryview(packet), len(packet)), now)
            for train in islice(receiver.trains_to_send(now), 3):
                assert len(train.data) <= 1400 + TAG_BYTES
            receiver.progress(now)
            while (event := receiver.next_event()) is not None:
                assert not ended, "something happened after the end"
                ended += isinstance(event, Ended)
            due = receiver.next_timer()
            assert (due is None) is receiver.closed
            assert 0 <= receiver.confirmed <= len(FILE)

    return check


# What they begin from.

_CONTROL = pack_control(vectors.CONTROL)
_ACK = pack_control(replace(vectors.CONTROL, ranges=[(8, 9), (0, 3)]))
_OPEN = pack_open(Open(1400, 0.05, [(0, 100), (200, 300)], vectors.CONTROL))
_STATUS = pack_status(replace(vectors.STATUS, size=len(FILE)))
_PACKETS = [b"c" + _CONTROL, b"c" + _ACK, b"o" + _OPEN, b"s" + _STATUS]

TARGETS = {
    "packet": Target(_packet, _PACKETS, max_bytes=1400),
    "datagram": Target(
        _datagram,
        [b"\xff\x91" + struct.pack(">IQ", 0, 1) + bytes(40), b"\x40\xd2" + bytes(200)],
    ),
    "stray": Target(
        _stray, [b"\xff\x93" + struct.pack(">IQQ", 0, 1, 0) + bytes(40), b"\x40\x94" + bytes(200)]
    ),
    "sender": Target(
        _sender,
        [
            _step(0, _OPEN) + _step(1, _ACK) + _step(0xF0, b"", 30) + _step(1, _CONTROL),
            _step(0, _OPEN) + _step(1, pack_control(replace(vectors.CONTROL, pause_at=5))),
        ],
        [_step(0xF0, b"", 255), _step(1, _CONTROL), _step(0, _OPEN)],
        1400,
    ),
    "receiver": Target(
        _receiver,
        [
            _step(0, _STATUS) + _step(3, b"\0\0\x04\x00") + _step(0xF0, b"", 30),
            _step(3, b"\0\0\x4e\x1f") + _step(0, _STATUS) + _step(0xE3, b""),
        ],
        [_step(0xF0, b"", 255), _step(0xE0, b""), _step(0, _STATUS), _step(3, b"\0\0\x4e\x1f")],
        1400,
    ),
}
