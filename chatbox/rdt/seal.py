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
other. Opening is the mirror of it. This is where a transfer spends its time, so nothing is done for
each packet that can be done for all:

- the slices are made once for each packet size and used for ever;
- the headers of a train are one `struct.Struct`, in which what lies between them is padding;
- encrypting a train is one walk of `itertools.starmap` along the slices, in which the interpreter
  has no part.

What arrives is nearly always a row: packets of our server's, numbers and offsets ascending without
a gap. Its headers are read and compared all at once, too. Anything else is looked at one by one.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from itertools import starmap
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from chatbox.errors import RemoteError
from chatbox.rdt.packet import (
    BASE_DATAGRAM,
    DATA_HEADER,
    DATA_OVERHEAD,
    HEADER,
    MAX_DATAGRAM,
    MIN_DATAGRAM,
    Kind,
    Train,
)

KEY_BYTES = 16
"""AES-128."""

GENERATION_BITS = 22
"""A key seals 2^22 packets, half of what RFC 9001 section 6.6 allows, then the next one takes over.
"""

SEND_PACKETS = 64
"""The most that Linux takes in one UDP_SEGMENT send (UDP_MAX_SEGMENTS before 6.9)."""

TRAIN_SENDS = 8
"""
Sends in one train, if so much may leave at once, which takes more than two gigabits per second. A
train costs the same whatever its length, until its memory does not stay in a core's cache.
"""

LONGEST_DATAGRAM = 1 << 16
"""Bytes of the longest datagram, and of the longest row that the kernel joins."""

RECEIVE_BYTES = (TRAIN_SENDS + 1) * LONGEST_DATAGRAM
"""Where a train is received: one row may be read behind those that were read before."""

MAX_SIZES = 16
"""
Packet sizes whose places are kept, up to 400 kB for each. All downloads of a server share them, and
each client may name a size of its own; to make the places anew for each train doubles its cost.
"""

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


_Slices = tuple[memoryview, memoryview, memoryview, memoryview]
"""Of one packet, as `AESGCM.encrypt_into` and `decrypt_into` want them."""

_HEADER_FIELDS = len(DATA_HEADER.unpack(bytes(DATA_HEADER.size)))

_drain = deque[object](maxlen=0).extend
"""Walks along an iterator to its end."""


@lru_cache(maxsize=128)
def _headers(datagram: int, packets: int) -> struct.Struct:
    """The headers of a row of DATA packets of so many bytes each, one behind the other."""
    one = f"{DATA_HEADER.format[1:]}{datagram - DATA_HEADER.size}x"
    return struct.Struct(">" + one * packets)


def _sends(packets: int, datagram: int) -> Iterator[tuple[int, int]]:
    """
    Where each send of a train begins, and how many packets it has. Their headers are handled send
    by send: most are full, so that few structs do for trains of any length.
    """
    most = packets_in_send(datagram)
    for begin in range(0, packets, most):
        yield begin, min(most, packets - begin)


def _may_be_row(count: int, segment: int) -> bool:
    """
    Only our server's packets come in rows, and those are never short. Whoever sends rows of other
    sizes gets no memory for it.
    """
    return count > 1 and segment >= BASE_DATAGRAM


class Places:
    """
    Two blocks of memory, for trains and for what is in them, and for each packet size that is in
    use its places in both.
    """

    def __init__(self, size: int, *, sealing: bool) -> None:
        self.train = memoryview(bytearray(size))
        self.block = memoryview(bytearray(size))
        self._sealing = sealing
        self._places: dict[int, list[_Slices]] = {}

    def of(self, datagram: int) -> list[_Slices]:
        """The places of packets of `datagram` bytes, as many as a train can have."""
        places = self._places.get(datagram)
        if places is None:
            if len(self._places) >= MAX_SIZES:
                self._places.clear()
            places = self._places[datagram] = [
                self.one(index, datagram, datagram) for index in range(len(self.train) // datagram)
            ]
        return places

    def one(self, index: int, datagram: int, size: int) -> _Slices:
        """
        That of a packet of `size` bytes behind so many of `datagram` bytes: nonce, what is given,
        header, and where the result belongs.
        """
        start, at = index * datagram, index * max(datagram - DATA_OVERHEAD, 0)
        body, stop = start + DATA_HEADER.size, start + size
        nonce = self.train[start + 1 : start + HEADER.size]
        header = self.train[start:body]
        sealed = self.train[body:stop]
        plain = self.block[at : at + max(size - DATA_OVERHEAD, 0)]
        return (nonce, plain, header, sealed) if self._sealing else (nonce, sealed, header, plain)


class TrainSealer:
    """
    Makes trains of DATA packets.

    It owns two blocks of memory that every train goes through, so one sealer serves all transfers
    of a process: a train is sent before the next is made.
    """

    def __init__(self) -> None:
        self._places = Places(TRAIN_SENDS * MAX_DATAGRAM, sealing=True)

    @staticmethod
    def most_packets(datagram: int) -> int:
        """How many packets of `datagram` bytes one train can hold."""
        return TRAIN_SENDS * packets_in_send(datagram)

    def block(self, length: int) -> memoryview:
        """Where to put the `length` bytes of file that the next train is to carry."""
        return self._places.block[:length]

    def seal(
        self, keys: Keys, connection_id: int, number: int, offset: int, length: int, datagram: int
    ) -> Train:
        """
        Seal the first `length` bytes of the block as packets `number`, `number` + 1, ... of
        `datagram` bytes each, the last one as long as it needs to be. All of them are of one key
        generation (see `same_generation`).
        """
        payload = datagram - DATA_OVERHEAD
        whole, rest = divmod(length, payload)
        train, end = self._places.train, whole * datagram
        # Kind, connection, number and offset of each, all headers in a row.
        fields = [Kind.DATA, connection_id, 0, 0] * whole
        fields[2::_HEADER_FIELDS] = range(number, number + whole)
        fields[3::_HEADER_FIELDS] = range(offset, offset + whole * payload, payload)
        for begin, count in _sends(whole, datagram):
            ours = fields[begin * _HEADER_FIELDS : (begin + count) * _HEADER_FIELDS]
            _headers(datagram, count).pack_into(train, begin * datagram, *ours)
        places = self._places.of(datagram)[:whole]
        if rest:
            size = rest + DATA_OVERHEAD
            last = (number + whole, offset + whole * payload)
            DATA_HEADER.pack_into(train, end, Kind.DATA, connection_id, *last)
            places.append(self._places.one(whole, datagram, size))
            end += size
        _drain(starmap(keys.at(number).encrypt_into, places))
        return Train(train[:end], datagram)


def packets_in_send(datagram: int) -> int:
    """How many packets of `datagram` bytes may leave in one system call."""
    return min(SEND_PACKETS, max(1, MAX_DATAGRAM // datagram))


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


def places_to_open() -> Places:
    """The memory of one `TrainOpener`, or of those that take turns."""
    return Places(RECEIVE_BYTES, sealing=False)


class TrainOpener:
    """
    Opens what arrives for one connection.

    Trains are received into memory (`buffer`, from its beginning) and opened into memory: what a
    `Run` shows is there only until the next train is opened.
    """

    def __init__(self, keys: Keys, connection_id: int, places: Places | None = None) -> None:
        """That memory may be given, `places_to_open`: all openers of one thread can share it."""
        self._keys = keys
        self._connection_id = connection_id
        self._places = places_to_open() if places is None else places
        self.dropped = 0
        """Datagrams that were not ours, or not as they were made."""

    @property
    def buffer(self) -> memoryview:
        """Where to receive trains. A train that was received elsewhere is copied here."""
        return self._places.train

    def open(self, train: Train) -> Iterator[Run | Packet]:
        """Whatever in the train is genuine, in order, rows of DATA packets joined."""
        data, segment, _ = train
        view, block, ours = self._places.train, self._places.block, self._connection_id
        if data.obj is not view.obj:
            view[: len(data)] = data
        places = self._places_of(len(data), segment)
        payload = max(segment - DATA_OVERHEAD, 0)
        # The row that is being joined.
        first, run_offset, packets = self._open_row(places, len(data), segment)
        begin, end = 0, packets * payload
        next_number, next_offset = first + packets, run_offset + end
        for index in range(packets, len(places)):
            nonce, sealed, header, plain = places[index]
            start, at = index * segment, index * payload
            if not plain or view[start] != Kind.DATA:
                other = self._open_other(view[start : start + segment][: len(data) - start])
                if other is not None:
                    if packets:
                        yield Run(first, packets, run_offset, block[begin:end])
                        packets = 0
                    yield other
                continue
            _, connection_id, number, offset = DATA_HEADER.unpack_from(view, start)
            if connection_id != ours:  # before it costs a key
                self.dropped += 1
                continue
            try:
                self._keys.at(number).decrypt_into(nonce, sealed, header, plain)
            except InvalidTag:
                self.dropped += 1
                continue
            if not (packets and number == next_number and offset == next_offset and end == at):
                if packets:
                    yield Run(first, packets, run_offset, block[begin:end])
                first, packets, run_offset, begin = number, 0, offset, at
            packets += 1
            end = at + len(plain)
            next_number, next_offset = number + 1, offset + len(plain)
        if packets:
            yield Run(first, packets, run_offset, block[begin:end])

    def _open_row(self, places: list[_Slices], size: int, segment: int) -> tuple[int, int, int]:
        """
        Open the whole packets of a train of `size` bytes if they are a row: the first one's number
        and offset, and how many there are; 0 if they are no row, or one of them is not genuine.
        """
        count, payload = size // segment, segment - DATA_OVERHEAD
        if not _may_be_row(count, segment):
            return 0, 0, 0
        fields: list[int] = []
        for begin, part in _sends(count, segment):
            fields += _headers(segment, part).unpack_from(self._places.train, begin * segment)
        kinds, ids, numbers, offsets = (fields[which::_HEADER_FIELDS] for which in range(4))
        number, offset = numbers[0], offsets[0]
        if not (
            kinds.count(Kind.DATA) == ids.count(self._connection_id) == count
            and numbers == list(range(number, number + count))
            and offsets == list(range(offset, offset + count * payload, payload))
        ):
            return 0, 0, 0
        try:
            _drain(starmap(self._keys.at(number).decrypt_into, places[:count]))
        except InvalidTag:
            return 0, 0, 0
        return number, offset, count

    def _places_of(self, size: int, segment: int) -> list[_Slices]:
        """The places of a train of `size` bytes; those of a row are kept for the next."""
        whole, rest = divmod(size, segment)
        if _may_be_row(whole, segment):
            places = self._places.of(segment)[:whole]
        else:
            places = [self._places.one(index, segment, segment) for index in range(whole)]
        if rest:
            places.append(self._places.one(whole, segment, rest))
        return places

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
