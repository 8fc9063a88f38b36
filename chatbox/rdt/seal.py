"""
Keys, and sealing and opening datagrams: AES-128-GCM with the packet's header as associated data
(RFC 5116).

Both keys of a transfer come from the secret of its ticket by HKDF-SHA256 (RFC 5869), one for each
direction, so that the two sides never use a key and nonce twice though both number their packets
from 0. The nonce needs no arithmetic: it is the connection id and the packet number as they stand
in the header.

One AES-GCM key should not seal without end: RFC 9001 section 6.6 stops at 2^23 packets. A transfer
of a few terabytes needs more, so keys have generations. The packet number says which one, as every
packet carries its number in full: generation = number >> 22. Nothing is negotiated and nothing can
fall out of step.

Packets of file data are sealed a train at a time: the bytes of the file lie in one block, the
sealed packets in another, and each slice of the one is encrypted straight into its place in the
other. Opening is the mirror of it. This loop is where a transfer spends its time, so the slices are
made once for each packet size and used for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from chatbox.errors import RemoteError
from chatbox.rdt.packet import (
    DATA_HEADER,
    DATA_OVERHEAD,
    HEADER,
    MAX_DATAGRAM,
    MIN_DATAGRAM,
    TAG_BYTES,
    Kind,
    Train,
)

KEY_BYTES = 16
"""AES-128."""

GENERATION_BITS = 22
"""A key seals 2^22 packets, half of what RFC 9001 section 6.6 allows, then the next one takes over.
"""

TRAIN_PACKETS = 64
"""The most that Linux takes in one UDP_SEGMENT send (UDP_MAX_SEGMENTS before 6.9)."""

_SALT = b"chatbox rdt 1"


class Keys:
    """The keys of one direction of one transfer: `b"client"` is what the client sends with."""

    __slots__ = ("_generation", "_key", "_label", "_secret")

    def __init__(self, secret: bytes, sender: bytes) -> None:
        self._secret = secret
        self._label = sender
        self._generation = -1
        self._key: AESGCM

    def at(self, number: int) -> AESGCM:
        """The key that packet `number` is sealed with."""
        generation = number >> GENERATION_BITS
        if generation != self._generation:
            info = self._label + generation.to_bytes(8, "big")
            key = HKDF(SHA256(), KEY_BYTES, _SALT, info).derive(self._secret)
            self._key = AESGCM(key)
            self._generation = generation
        return self._key


def client_keys(secret: bytes) -> Keys:
    """What the client seals with and the server opens with."""
    return Keys(secret, b"client")


def server_keys(secret: bytes) -> Keys:
    """What the server seals with and the client opens with."""
    return Keys(secret, b"server")


def seal_packet(keys: Keys, kind: Kind, connection_id: int, number: int, body: bytes) -> bytes:
    """One datagram that is not DATA."""
    header = HEADER.pack(kind, connection_id, number)
    return header + keys.at(number).encrypt(header[1:], body, header)


def open_packet(keys: Keys, datagram: memoryview) -> bytes:
    """
    The body of a datagram that is not DATA, at least `MIN_DATAGRAM` long.

    :raises RemoteError: ``bad-seal`` if it was not made with these keys, or not arrived as it was
      made.
    """
    header = datagram[: HEADER.size]
    number = HEADER.unpack(header)[2]
    try:
        return keys.at(number).decrypt(header[1:], datagram[HEADER.size :], header)
    except InvalidTag:
        raise RemoteError("bad-seal") from None


class _Slot(NamedTuple):
    """The place of one packet in a train: slices of the block and of the sealed train."""

    nonce: memoryview
    plain: memoryview
    header: memoryview
    sealed: memoryview
    start: int


def _slots(block: memoryview, train: memoryview, payload: int) -> list[_Slot]:
    """All the places that a train of packets with `payload` bytes of file each has."""
    stride = payload + DATA_OVERHEAD
    return [
        _Slot(
            train[at + 1 : at + HEADER.size],
            block[index * payload : (index + 1) * payload],
            train[at : at + DATA_HEADER.size],
            train[at + DATA_HEADER.size : at + stride],
            at,
        )
        for index, at in enumerate(
            range(0, min(TRAIN_PACKETS, len(train) // stride) * stride, stride)
        )
    ]


class TrainSealer:
    """
    Makes trains of DATA packets.

    It owns two blocks of memory that every train goes through, so one sealer serves all transfers
    of a process: a train is sent before the next is made.
    """

    def __init__(self) -> None:
        self._block = memoryview(bytearray(MAX_DATAGRAM))
        self._train = memoryview(bytearray(MAX_DATAGRAM))
        self._slots: dict[int, list[_Slot]] = {}

    @staticmethod
    def most_packets(datagram: int) -> int:
        """How many packets of `datagram` bytes one train can hold."""
        return min(TRAIN_PACKETS, MAX_DATAGRAM // datagram)

    def block(self, length: int) -> memoryview:
        """Where to put the `length` bytes of file that the next train is to carry."""
        return self._block[:length]

    def seal(
        self, keys: Keys, connection_id: int, number: int, offset: int, length: int, datagram: int
    ) -> Train:
        """
        Seal the first `length` bytes of the block as packets `number`, `number` + 1, ... of
        `datagram` bytes each, the last one as long as it needs to be. All of them are of one key
        generation (see `same_generation`).
        """
        payload = datagram - DATA_OVERHEAD
        slots = self._slots.get(payload)
        if slots is None:
            if (
                len(self._slots) >= 8
            ):  # sizes come from path MTUs: few at a time, and stale ones may go
                self._slots.clear()
            slots = self._slots[payload] = _slots(self._block, self._train, payload)
        encrypt_into = keys.at(number).encrypt_into
        pack_into, train = DATA_HEADER.pack_into, self._train
        whole, rest = divmod(length, payload)
        for nonce, plain, header, sealed, start in slots[:whole]:
            pack_into(train, start, Kind.DATA, connection_id, number, offset)
            encrypt_into(nonce, plain, header, sealed)
            number += 1
            offset += payload
        end = whole * datagram
        if rest:
            pack_into(train, end, Kind.DATA, connection_id, number, offset)
            body = end + DATA_HEADER.size
            encrypt_into(
                train[end + 1 : end + HEADER.size],
                self._block[whole * payload : length],
                train[end:body],
                train[body : body + rest + TAG_BYTES],
            )
            end = body + rest + TAG_BYTES
        return Train(train[:end], datagram)


def same_generation(number: int, count: int) -> int:
    """How many of `count` packets from `number` on have the key of the first."""
    return min(count, (((number >> GENERATION_BITS) + 1) << GENERATION_BITS) - number)


class Run(NamedTuple):
    """DATA packets in a row, opened: consecutive numbers, consecutive bytes of the file."""

    number: int
    packets: int
    offset: int
    data: memoryview


class Packet(NamedTuple):
    """One opened packet that is not DATA."""

    kind: int
    number: int
    body: bytes


class TrainOpener:
    """
    Opens what arrives for one connection.

    It owns the block that file data is opened into: what a `Run` shows is there only until the next
    one is asked for.
    """

    def __init__(self, keys: Keys, connection_id: int) -> None:
        self._keys = keys
        self._connection_id = connection_id
        self._block = memoryview(bytearray(1 << 16))
        self.dropped = 0
        """Datagrams that were not ours, or not as they were made."""

    def open(self, train: Train) -> Iterator[Run | Packet]:
        """Whatever in the train is genuine, in order, rows of DATA packets joined."""
        data, segment = train
        unpack_from, block, ours = DATA_HEADER.unpack_from, self._block, self._connection_id
        first = count = filled = 0
        run_offset = next_number = next_offset = -1
        key, generation = None, -1
        total = len(data)
        for start in range(0, total, segment):
            stop = min(start + segment, total)
            length = stop - start - DATA_OVERHEAD
            if length <= 0 or data[start] != Kind.DATA:
                if count:
                    yield Run(first, count, run_offset, block[:filled])
                    count = filled = 0
                packet = self._open_other(data[start:stop])
                if packet is not None:
                    yield packet
                continue
            _, connection_id, number, offset = unpack_from(data, start)
            if count and (number != next_number or offset != next_offset):
                yield Run(first, count, run_offset, block[:filled])
                count = filled = 0
            if number >> GENERATION_BITS != generation:
                generation = number >> GENERATION_BITS
                key = self._keys.at(number)
            assert key is not None
            body = start + DATA_HEADER.size
            try:
                if connection_id != ours:
                    raise InvalidTag
                key.decrypt_into(
                    data[start + 1 : start + HEADER.size],
                    data[body:stop],
                    data[start:body],
                    block[filled : filled + length],
                )
            except InvalidTag:
                self.dropped += 1
                continue
            if not count:
                first, run_offset = number, offset
            count += 1
            filled += length
            next_number, next_offset = number + 1, offset + length
        if count:
            yield Run(first, count, run_offset, block[:filled])

    def _open_other(self, datagram: memoryview) -> Packet | None:
        if len(datagram) < MIN_DATAGRAM:
            self.dropped += 1
            return None
        kind, connection_id, number = HEADER.unpack_from(datagram)
        try:
            if connection_id != self._connection_id or kind == Kind.DATA:
                raise RemoteError("bad-seal")
            return Packet(kind, number, open_packet(self._keys, datagram))
        except RemoteError:
            self.dropped += 1
            return None
