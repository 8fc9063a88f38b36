"""Sealing and opening: the documented layout, trains of every shape, and everything forged."""

from __future__ import annotations

import random
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

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
from chatbox.rdt.seal import (
    GENERATION_BITS,
    MAX_SIZES,
    RECEIVE_BYTES,
    SEND_PACKETS,
    TRAIN_SENDS,
    Packet,
    Run,
    TrainOpener,
    TrainSealer,
    client_keys,
    open_packet,
    same_generation,
    seal_packet,
    server_keys,
)
from tests.helpers import vectors

SECRET = random.Random(1).randbytes(32)
CONNECTION = 0x01020304
BLOCK = random.Random(2).randbytes(TRAIN_SENDS * MAX_DATAGRAM)
MOST_PACKETS = TRAIN_SENDS * SEND_PACKETS

datagram_sizes = st.sampled_from([BASE_DATAGRAM, 1472, 8972, 32500, MAX_DATAGRAM]) | st.integers(
    BASE_DATAGRAM, MAX_DATAGRAM
)
numbers = st.integers(0, (1 << 64) - 1 - MOST_PACKETS)


# The documented layout, written down once more, with nothing of ours.


def reference_key(secret: bytes, sender: str, generation: int) -> bytes:
    """The key of a direction and a generation."""
    info = sender.encode("ascii") + generation.to_bytes(8, "big")
    return HKDF(algorithm=SHA256(), length=16, salt=b"chatbox rdt 1", info=info).derive(secret)


def reference_seal(
    secret: bytes, sender: str, kind: int, connection: int, number: int, clear: bytes, body: bytes
) -> bytes:
    """One datagram; `clear` follows the header and is not encrypted."""
    nonce = connection.to_bytes(4, "big") + number.to_bytes(8, "big")
    header = bytes([kind]) + nonce + clear
    key = reference_key(secret, sender, number // 4194304)
    return header + AESGCM(key).encrypt(nonce, body, header)


class LayoutTests(SynchronousTestCase):
    """Our code and the reference agree to the byte."""

    def test_keys(self) -> None:
        """The keys that the documentation shows come from its ticket."""
        for (sender, generation), key in vectors.KEYS.items():
            self.assertEqual(reference_key(bytes(range(32)), sender, generation).hex(), key)

    def test_worked_example_by_reference(self) -> None:
        """The datagrams that the documentation shows are made by its rules."""
        for example in vectors.PACKETS:
            body, clear, kind = example.body, b"", int(vectors.kind_of(example))
            sealed = vectors.pack(body)
            if isinstance(body, vectors.Data):
                clear = body.offset.to_bytes(8, "big")
            datagram = reference_seal(
                bytes(range(32)), example.sender, kind, 0xC0FFEE01, example.number, clear, sealed
            )
            self.assertEqual(datagram.hex(), vectors.DATAGRAMS[example.name], example.name)

    def test_worked_example_by_us(self) -> None:
        """They are made so by our code, and opened by it."""
        self.assertEqual({e.name for e in vectors.PACKETS}, set(vectors.DATAGRAMS))
        for example in vectors.PACKETS:
            datagram = bytes.fromhex(vectors.DATAGRAMS[example.name])
            self.assertEqual(vectors.seal(example), datagram, example.name)
            keys = client_keys if example.sender == "client" else server_keys
            opener = TrainOpener(keys(vectors.TICKET.secret), vectors.TICKET.connection_id)
            [item] = opener.open(Train(memoryview(datagram), len(datagram)))
            self.assertEqual(item.number, example.number)
            opened = bytes(item.data if isinstance(item, Run) else item.body)
            self.assertEqual(opened, vectors.pack(example.body))

    @given(
        st.sampled_from([Kind.OPEN, Kind.CONTROL, Kind.STATUS, Kind.PROBE]),
        st.integers(0, 0xFFFFFFFF),
        st.integers(0, (1 << 64) - 1),
        st.binary(max_size=64),
    )
    def test_packets(self, kind: Kind, connection: int, number: int, body: bytes) -> None:
        """Any packet that is not DATA is sealed as the reference does it, in both directions."""
        for sender, keys in (("client", client_keys), ("server", server_keys)):
            datagram = seal_packet(keys(SECRET), kind, connection, number, body)
            self.assertEqual(
                datagram, reference_seal(SECRET, sender, kind, connection, number, b"", body)
            )
            self.assertEqual(open_packet(keys(SECRET), memoryview(datagram)), body)

    @given(datagram_sizes, numbers, st.integers(0, 1 << 62), st.integers(1, len(BLOCK)))
    def test_trains(self, datagram: int, number: int, offset: int, length: int) -> None:
        """Every packet of a train is sealed as the reference does it, the short last one too."""
        sealed = Sealed(datagram, number, offset, length)
        payload = datagram - DATA_OVERHEAD
        data = BLOCK[: sealed.length]
        expected = [
            reference_seal(
                SECRET,
                "server",
                0x13,
                CONNECTION,
                number + index,
                (offset + index * payload).to_bytes(8, "big"),
                data[index * payload : (index + 1) * payload],
            )
            for index in range(sealed.packets)
        ]
        self.assertEqual([bytes(one) for one in sealed.train.datagrams()], expected)


@dataclass
class Sealed:
    """A train of the server with the first bytes of `BLOCK`: `length` of them, if it may."""

    datagram: int
    number: int
    offset: int
    length: int
    sealer: TrainSealer | None = None

    def __post_init__(self) -> None:
        sealer = self.sealer or TrainSealer()
        payload = self.datagram - DATA_OVERHEAD
        most = same_generation(self.number, sealer.most_packets(self.datagram))
        self.length = min(self.length, most * payload)
        self.packets = -(-self.length // payload)
        sealer.block(self.length)[:] = BLOCK[: self.length]
        self.train = sealer.seal(
            server_keys(SECRET), CONNECTION, self.number, self.offset, self.length, self.datagram
        )


def opener() -> TrainOpener:
    """What a client opens the server's packets with."""
    return TrainOpener(server_keys(SECRET), CONNECTION)


def opened(opener: TrainOpener, data: bytes, segment: int) -> list[tuple[int, int, int, bytes]]:
    """Open a train; what comes out as (number, packets, offset, bytes), packets without offset."""
    items: list[tuple[int, int, int, bytes]] = []
    for item in opener.open(Train(memoryview(data), segment)):
        if isinstance(item, Run):
            items.append((item.number, item.packets, item.offset, bytes(item.data)))
        else:
            items.append((item.number, 0, 0, item.body))
    return items


class TrainTests(SynchronousTestCase):
    """Trains of every size and shape."""

    @given(datagram_sizes, numbers, st.integers(0, 1 << 62), st.integers(1, len(BLOCK)))
    def test_round_trip(self, datagram: int, number: int, offset: int, length: int) -> None:
        """What is sealed as one train is opened as one run, wherever it was received."""
        sealed = Sealed(datagram, number, offset, length)
        expected = [(number, sealed.packets, offset, BLOCK[: sealed.length])]
        data = bytes(sealed.train.data)
        elsewhere, in_place = opener(), opener()
        self.assertEqual(opened(elsewhere, data, datagram), expected)
        in_place.buffer[: len(data)] = data
        train = Train(in_place.buffer[: len(data)], datagram)
        self.assertEqual([bytes(run.data) for run in in_place.open(train)], [expected[0][3]])  # type: ignore[union-attr]  # only runs
        self.assertEqual((elsewhere.dropped, in_place.dropped), (0, 0))

    def test_every_edge(self) -> None:
        """One byte, whole packets only, one byte more and one less, from the least to the largest
        packet, all through one sealer and one opener.
        """
        sealer, client = TrainSealer(), opener()
        number = 0
        for datagram in (1200, 1201, 1472, 4000, 8972, 32500, 32501, 64999, 65000):
            payload = datagram - DATA_OVERHEAD
            most = sealer.most_packets(datagram)
            for length in {
                1,
                payload - 1,
                payload,
                payload + 1,
                most * payload - 1,
                most * payload,
            }:
                sealed = Sealed(datagram, number, 7, length, sealer)
                data = bytes(sealed.train.data)
                self.assertTrue(len(data) <= len(BLOCK))
                expected = [(number, sealed.packets, 7, BLOCK[: sealed.length])]
                self.assertEqual(opened(client, data, datagram), expected)
                number += sealed.packets
        self.assertEqual(client.dropped, 0)

    def test_length_of_trains(self) -> None:
        """A train is eight sends long, each of at most 64 packets and 65000 bytes."""
        self.assertEqual(TrainSealer.most_packets(500), 8 * 64)
        self.assertEqual(TrainSealer.most_packets(1200), 8 * 54)
        self.assertEqual(TrainSealer.most_packets(65000), 8)

    @given(st.integers(0, 1 << 40), st.integers(1, MOST_PACKETS))
    def test_same_generation(self, number: int, count: int) -> None:
        """A train ends where its key does."""
        may = same_generation(number, count)
        self.assertTrue(1 <= may <= count)
        self.assertEqual(number >> GENERATION_BITS, (number + may - 1) >> GENERATION_BITS)
        if may < count:
            self.assertNotEqual(number >> GENERATION_BITS, (number + may) >> GENERATION_BITS)

    def test_generation_changes_within_a_train(self) -> None:
        """What the kernel joins over a change of the key is opened as one run; the old key still
        opens what comes late.
        """
        sealer, client = TrainSealer(), opener()
        last = (1 << GENERATION_BITS) - 1
        payload = 1200 - DATA_OVERHEAD
        before = bytes(Sealed(1200, last, 0, 5 * payload, sealer).train.data)
        after = bytes(Sealed(1200, last + 1, payload, 2 * payload, sealer).train.data)
        self.assertEqual(len(before), 1200)
        expected = BLOCK[:payload] + BLOCK[: 2 * payload]
        self.assertEqual(opened(client, before + after, 1200), [(last, 3, 0, expected)])
        self.assertEqual(opened(client, before, 1200), [(last, 1, 0, BLOCK[:payload])])
        self.assertEqual(client.dropped, 0)

    def test_keys_differ(self) -> None:
        """No two directions and generations have a key in common."""
        packets = {
            seal_packet(keys(SECRET), Kind.STATUS, 1, number, bytes(16))[HEADER.size : -16]
            for keys in (client_keys, server_keys)
            for number in (0, 1 << 22, 2 << 22)
        }
        self.assertEqual(len(packets), 6)

    def test_nearly_a_row(self) -> None:
        """What differs from a row in one packet only is taken apart there, wherever that is."""
        payload = 1200 - DATA_OVERHEAD
        body = BLOCK[:payload]

        def packet(number: int, offset: int, kind: int = 0x13, of: int = CONNECTION) -> bytes:
            clear = offset.to_bytes(8, "big")
            return reference_seal(SECRET, "server", kind, of, number, clear, body)

        for at in range(5):
            row = [packet(index, index * payload) for index in range(5)]
            for other, keeps in (
                (packet(at + 9, at * payload), True),
                (packet(at, (at + 9) * payload), True),
                (packet(at, at * payload, of=CONNECTION + 1), False),
                (packet(at, at * payload, kind=0x14), False),
                (row[at][:-1] + bytes([row[at][-1] ^ 1]), False),
            ):
                client = opener()
                data = b"".join([*row[:at], other, *row[at + 1 :]])
                found = [(number, count) for number, count, _, _ in opened(client, data, 1200)]
                _, number, offset = DATA_HEADER.unpack(other[: DATA_HEADER.size])[1:]
                expected = [(0, at)] * (at > 0)
                expected += [(number, 1)] * keeps
                expected += [(at + 1, 4 - at)] * (at < 4)
                self.assertEqual(found, expected, (at, number, offset))
                self.assertEqual(client.dropped, not keeps)

    @given(st.data())
    def test_mixed_trains(self, data: st.DataObject) -> None:
        """Rows, gaps, other packets, damaged and foreign datagrams in one train: what is genuine
        comes out in order, rows joined, and the rest is counted.
        """
        segment, payload = 1200, 1200 - DATA_OVERHEAD
        pieces: list[bytes] = []
        expected: list[tuple[int, int, int, bytes]] = []
        number, offset, bad, joins = 0, 0, 0, False
        for _ in range(data.draw(st.integers(1, 20))):
            what = data.draw(
                st.sampled_from(
                    ["next", "next", "gap", "skip", "status", "damaged", "foreign", "disguised"]
                )
            )
            if what in ("gap", "skip"):
                number += 1
            if what == "gap":
                offset += payload
            body = random.Random(number).randbytes(payload)
            clear = offset.to_bytes(8, "big")
            if what == "status":
                filler = bytes(segment - MIN_DATAGRAM)
                pieces.append(
                    reference_seal(SECRET, "server", 0x14, CONNECTION, number, b"", filler)
                )
                expected.append((number, 0, 0, filler))
                number, joins = number + 1, False
                continue
            connection = CONNECTION + (what == "foreign")
            kind = 0x14 if what == "disguised" else 0x13
            piece = bytearray(
                reference_seal(SECRET, "server", kind, connection, number, clear, body)
            )
            if what == "damaged":
                piece[data.draw(st.integers(0, segment - 1))] ^= 1 << data.draw(st.integers(0, 7))
            pieces.append(bytes(piece))
            if what in ("damaged", "foreign", "disguised"):
                bad, joins = bad + 1, False
            elif joins and what == "next":
                first, count, begin, so_far = expected[-1]
                expected[-1] = (first, count + 1, begin, so_far + body)
            else:
                expected.append((number, 1, offset, body))
                joins = True
            number, offset = number + 1, offset + payload
        client = opener()
        self.assertEqual(opened(client, b"".join(pieces), segment), expected)
        self.assertEqual(client.dropped, bad)


class ForgeryTests(SynchronousTestCase):
    """What was not sealed with these keys, or did not arrive as it was sealed."""

    def test_every_single_bit(self) -> None:
        """Whichever bit of a packet of whatever kind is turned over, the packet is dropped."""
        packets = [
            reference_seal(SECRET, "server", 0x13, CONNECTION, 5, bytes(8), b"data"),
            reference_seal(SECRET, "server", 0x14, CONNECTION, 5, b"", b"status"),
            reference_seal(SECRET, "server", 0x15, CONNECTION, 5, b"", b""),
        ]
        client = opener()
        bits = 0
        for packet in packets:
            self.assertEqual(len(opened(client, packet, len(packet))), 1)
            for bit in range(8 * len(packet)):
                damaged = bytearray(packet)
                damaged[bit // 8] ^= 1 << bit % 8
                self.assertEqual(opened(client, bytes(damaged), len(damaged)), [], bit)
                bits += 1
        self.assertEqual(client.dropped, bits)

    def test_every_single_bit_for_the_server(self) -> None:
        """The same where the server opens a packet of its client."""
        packet = seal_packet(client_keys(SECRET), Kind.CONTROL, CONNECTION, 5, b"control")
        for bit in range(8 * len(packet)):
            damaged = bytearray(packet)
            damaged[bit // 8] ^= 1 << bit % 8
            error = self.assertRaises(
                RemoteError, open_packet, client_keys(SECRET), memoryview(damaged)
            )
            self.assertEqual(error.code, "bad-seal")

    def test_cut_off_and_lengthened(self) -> None:
        """A packet that lost its end, or has more than its end, is dropped."""
        for clear, kind in ((bytes(8), 0x13), (b"", 0x14)):
            packet = reference_seal(SECRET, "server", kind, CONNECTION, 5, clear, b"body")
            for bad in [packet[:stop] for stop in range(1, len(packet))] + [packet + b"\0"]:
                client = opener()
                self.assertEqual(opened(client, bad, len(bad)), [])
                self.assertEqual(client.dropped, 1)

    def test_wrong_key(self) -> None:
        """Another secret, or the other direction, opens nothing."""
        data = bytes(Sealed(1200, 0, 0, 5000).train.data)
        status = seal_packet(server_keys(SECRET), Kind.STATUS, CONNECTION, 9, b"body")
        for keys in (server_keys(bytes(32)), client_keys(SECRET)):
            client = TrainOpener(keys, CONNECTION)
            self.assertEqual(opened(client, data, 1200), [])
            self.assertEqual(opened(client, status, len(status)), [])
            self.assertEqual(client.dropped, 6)

    def test_wrong_connection(self) -> None:
        """Packets that name another connection are dropped, though their seal is right."""
        data = bytes(Sealed(1200, 0, 0, 5000).train.data)
        status = seal_packet(server_keys(SECRET), Kind.STATUS, CONNECTION, 9, b"body")
        client = TrainOpener(server_keys(SECRET), CONNECTION + 1)
        self.assertEqual(opened(client, data, 1200), [])
        self.assertEqual(opened(client, status, len(status)), [])
        self.assertEqual(client.dropped, 6)

    def test_empty_data(self) -> None:
        """DATA without a byte of the file is dropped, though its seal is right."""
        client = opener()
        packet = reference_seal(SECRET, "server", 0x13, CONNECTION, 5, bytes(8), b"")
        self.assertEqual(opened(client, packet, len(packet)), [])
        self.assertEqual(client.dropped, 1)

    @given(st.binary(min_size=1, max_size=400), st.integers(1, 100))
    def test_noise(self, data: bytes, segment: int) -> None:
        """Noise in pieces of any size is dropped piece by piece."""
        client = opener()
        self.assertEqual(opened(client, data, segment), [])
        self.assertEqual(client.dropped, -(-len(data) // segment))

    @given(st.sampled_from(Kind), st.integers(1, 80), st.integers(1, 80))
    def test_short_datagrams(self, kind: Kind, length: int, segment: int) -> None:
        """Datagrams too short for what they claim to be are dropped, alone and in rows."""
        data = (DATA_HEADER.pack(kind, CONNECTION, 0, 0) + bytes(80))[:length]
        client = opener()
        self.assertEqual(opened(client, data, segment), [])
        self.assertEqual(client.dropped, -(-length // segment))

    def test_rows_of_tiny_datagrams_cost_no_memory(self) -> None:
        """Rows of datagrams that are no packets of ours leave nothing behind, whatever their
        size.
        """
        client = opener()
        for segment in range(1, 200):
            self.assertEqual(opened(client, bytes(2 * segment), segment), [])
        self.assertEqual(client._places._places, {})

    def test_sizes_that_are_kept(self) -> None:
        """What belongs to a size is made once for many sizes, and not kept for any number of
        them.
        """
        sealer = TrainSealer()
        made = {size: sealer._places.of(size) for size in range(1200, 1200 + MAX_SIZES)}
        for size, places in made.items():
            self.assertIs(sealer._places.of(size), places)
        for size in range(1300, 1300 + 2 * MAX_SIZES):
            sealer._places.of(size)
            self.assertLessEqual(len(sealer._places._places), MAX_SIZES)

    def test_full_buffer(self) -> None:
        """As much as one read can bring is opened, or dropped, like anything else."""
        client = opener()
        whole = RECEIVE_BYTES // 1200
        data = b"".join(
            reference_seal(SECRET, "server", 0x13, CONNECTION, n, bytes(8), bytes(1163))
            for n in range(whole)
        )
        data += bytes(RECEIVE_BYTES - len(data))
        self.assertEqual(len(opened(client, data, 1200)), whole)
        self.assertEqual(client.dropped, 1)

    def test_unknown_kind(self) -> None:
        """A genuine packet of a kind that does not exist yet comes out: it was received, and a
        newer server may send it.
        """
        packet = reference_seal(SECRET, "server", 0x1F, CONNECTION, 5, b"", b"new")
        [item] = opener().open(Train(memoryview(packet), len(packet)))
        self.assertEqual(item, Packet(0x1F, 5, b"new"))
