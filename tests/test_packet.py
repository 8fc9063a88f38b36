"""The packets of RDT as bytes: what is written is read back, and nothing else is ever read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatbox.errors import RemoteError
from chatbox.rdt import packet
from chatbox.rdt.ends import End
from chatbox.rdt.packet import (
    BASE_DATAGRAM,
    MAX_ACK_RANGES,
    MAX_HAVE_RANGES,
    MAX_SIZE,
    MIN_DATAGRAM,
    NO_LIMIT,
    Control,
    Open,
    Phase,
    Status,
    Train,
    Wish,
    pack_control,
    pack_open,
    pack_status,
    unpack_control,
    unpack_open,
    unpack_status,
)
from tests.helpers import vectors

unsigned = st.integers(0, NO_LIMIT)
seconds = st.integers(0, 0xFFFFFFFF).map(lambda microseconds: microseconds / 1e6)


@st.composite
def number_ranges(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Ranges of packet numbers as a CONTROL has them: the highest first, none touching another."""
    steps = st.integers(1, 1 << 31)
    lengths = draw(st.lists(st.tuples(steps, steps), max_size=MAX_ACK_RANGES))
    floor = draw(st.integers(0, 1 << 50)) + sum(map(sum, lengths))
    ranges: list[tuple[int, int]] = []
    for gap, length in lengths:
        # The gap above the first range is not written: a range begins where the numbers end.
        stop = floor - gap if ranges else floor
        ranges.append((stop - length, stop))
        floor = stop - length
    return ranges


@st.composite
def byte_ranges(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Ranges of bytes as an OPEN has them: ascending, none touching another."""
    steps = st.integers(1, 1 << 40)
    at = draw(st.integers(0, 1 << 40))
    ranges = []
    for length, gap in draw(st.lists(st.tuples(steps, steps), max_size=MAX_HAVE_RANGES)):
        ranges.append((at, at + length))
        at += length + gap
    return ranges


controls = st.builds(
    Control,
    wish=st.sampled_from(Wish),
    end=st.sampled_from(End),
    pause_at=unsigned,
    window_end=unsigned,
    rate_limit=st.integers(1, NO_LIMIT),
    confirmed=unsigned,
    challenge=unsigned,
    ack_delay=seconds,
    ranges=number_ranges(),
)
opens = st.builds(
    Open,
    max_datagram=st.integers(BASE_DATAGRAM, 0xFFFFFFFF),
    rtt=seconds,
    have=byte_ranges(),
    control=controls,
)
statuses = st.builds(
    Status,
    phase=st.sampled_from(Phase),
    end=st.sampled_from(End),
    size=st.integers(0, MAX_SIZE),
    mtime_ns=unsigned,
    heard=unsigned,
    challenge=unsigned,
    ack_delay=seconds,
    ack_bytes=st.integers(0, 0xFFFFFFFF),
    digest=st.none() | st.binary(min_size=32, max_size=32),
)

UNPACKERS: list[Callable[[bytes], Any]] = [unpack_control, unpack_open, unpack_status]


class RoundTripTests(SynchronousTestCase):
    """What is packed is unpacked again."""

    @given(controls)
    def test_control(self, control: Control) -> None:
        """Every CONTROL comes back as it was."""
        self.assertEqual(unpack_control(pack_control(control)), control)

    @given(opens)
    def test_open(self, opening: Open) -> None:
        """Every OPEN comes back as it was, with the CONTROL that it carries."""
        self.assertEqual(unpack_open(pack_open(opening)), opening)

    @given(statuses)
    def test_status(self, status: Status) -> None:
        """Every STATUS comes back as it was."""
        self.assertEqual(unpack_status(pack_status(status)), status)

    def test_worked_example(self) -> None:
        """The bodies that the documentation shows are packed so, and mean what it says."""
        examples = [example for example in vectors.PACKETS if example.name in vectors.BODIES]
        self.assertEqual(len(examples), len(vectors.BODIES))
        unpackers = {Control: unpack_control, Open: unpack_open, Status: unpack_status}
        for example in examples:
            body = bytes.fromhex(vectors.BODIES[example.name])
            self.assertEqual(vectors.pack(example.body), body, example.name)
            unpack: Any = unpackers[type(example.body)]
            self.assertEqual(unpack(body), example.body)


class HostileTests(SynchronousTestCase):
    """Bytes that nobody of ours wrote."""

    @given(st.binary(max_size=200))
    def test_any_bytes(self, body: bytes) -> None:
        """Any bytes mean something or raise RemoteError, and nothing else."""
        for unpack in UNPACKERS:
            try:
                unpack(body)
            except RemoteError as error:
                self.assertEqual(error.code, "bad-packet")

    @given(controls | opens | statuses, st.data())
    def test_nearly_right(self, value: Control | Open | Status, data: st.DataObject) -> None:
        """A body with some bytes changed, cut off or added means something or raises RemoteError;
        what it means can be written again.
        """
        pack: Any
        unpack: Any
        pack, unpack = {
            Control: (pack_control, unpack_control),
            Open: (pack_open, unpack_open),
            Status: (pack_status, unpack_status),
        }[type(value)]
        body = bytearray(pack(value))
        for at in data.draw(st.lists(st.integers(0, len(body) - 1), max_size=3)):
            body[at] = data.draw(st.integers(0, 255))
        stop = data.draw(st.integers(0, len(body)) | st.just(len(body)))
        damaged = bytes(body[:stop]) + data.draw(st.binary(max_size=4))
        try:
            meant = unpack(damaged)
        except RemoteError as error:
            self.assertEqual(error.code, "bad-packet")
        else:
            self.assertEqual(unpack(pack(meant)), meant)

    def refused(self, unpack: Callable[[bytes], Any], body: bytes) -> None:
        """Check that a body is refused."""
        self.assertEqual(self.assertRaises(RemoteError, unpack, body).code, "bad-packet")

    def test_ranges_that_are_none(self) -> None:
        """Empty ranges, ranges that touch, ranges below 0 and a wrong count are refused."""
        for gaps, top in [
            ([(0, 0)], 9),
            ([(0, 2), (0, 2)], 9),
            ([(0, 10)], 9),
            ([(0, 2), (8, 1)], 9),
            ([(1, 1)] * (MAX_ACK_RANGES + 1), 1 << 20),
        ]:
            body = pack_control(vectors.CONTROL)[:-10]
            body += top.to_bytes(8, "big") + len(gaps).to_bytes(2, "big")
            body += b"".join(gap.to_bytes(4, "big") + n.to_bytes(4, "big") for gap, n in gaps)
            self.refused(unpack_control, body)

    def test_gap_above_first_range(self) -> None:
        """Whoever writes a top above the first range may do so."""
        body = pack_control(vectors.CONTROL)[:-10] + bytes.fromhex("00000000000000090001")
        self.assertEqual(unpack_control(body + bytes.fromhex("0000000300000002")).ranges, [(4, 6)])

    def test_no_rate(self) -> None:
        """A rate of 0 is refused: for that there is a pause."""
        self.refused(unpack_control, pack_control(replace(vectors.CONTROL, rate_limit=0)))

    def test_unknown_words(self) -> None:
        """A wish, a phase or an end that nobody knows is refused."""
        control, status = pack_control(vectors.CONTROL), pack_status(vectors.STATUS)
        for word in (0, 4, 255):
            self.refused(unpack_control, bytes([word]) + control[1:])
        for word in (0, 5, 255):
            self.refused(unpack_status, bytes([word]) + status[1:])
        strange = bytes([max(End) + 1])
        self.refused(unpack_control, control[:1] + strange + control[2:])
        self.refused(unpack_status, status[:1] + strange + status[2:])

    def test_open_out_of_bounds(self) -> None:
        """Datagrams below the least, ranges in disorder and too many of them are refused."""
        opening = Open(BASE_DATAGRAM, 0.0, [], vectors.CONTROL)
        for bad in [
            replace(opening, max_datagram=BASE_DATAGRAM - 1),
            replace(opening, have=[(5, 5)]),
            replace(opening, have=[(5, 9), (9, 12)]),
            replace(opening, have=[(5, 9), (1, 2)]),
            replace(opening, have=[(0, MAX_SIZE + 1)]),
            replace(opening, have=[(4 * n, 4 * n + 1) for n in range(MAX_HAVE_RANGES + 1)]),
        ]:
            self.refused(unpack_open, pack_open(bad))

    def test_status_out_of_bounds(self) -> None:
        """A file larger than any, and flags that nobody knows, are refused."""
        self.refused(unpack_status, pack_status(replace(vectors.STATUS, size=MAX_SIZE + 1)))
        body = bytearray(pack_status(vectors.STATUS))
        body[-33] = 4
        self.refused(unpack_status, bytes(body))


class SizeTests(SynchronousTestCase):
    """Every packet but DATA and PROBE fits on every path."""

    def test_largest_packets(self) -> None:
        """The longest CONTROL and the longest OPEN fit into the smallest full datagram, and one
        more range would not.
        """
        ranges = [(2 * n, 2 * n + 1) for n in range(MAX_ACK_RANGES, 0, -1)]
        control = replace(vectors.CONTROL, ranges=ranges)
        length = MIN_DATAGRAM + len(pack_control(control))
        self.assertTrue(BASE_DATAGRAM - 8 < length <= BASE_DATAGRAM, length)
        have = [(2 * n, 2 * n + 1) for n in range(MAX_HAVE_RANGES)]
        opening = Open(BASE_DATAGRAM, 0.0, have, vectors.CONTROL)
        self.assertTrue(MIN_DATAGRAM + len(pack_open(opening)) <= BASE_DATAGRAM)

    def test_times_are_capped(self) -> None:
        """A time or a size that its field cannot hold becomes the largest that it can."""
        control = unpack_control(pack_control(replace(vectors.CONTROL, ack_delay=1e9)))
        self.assertEqual(control.ack_delay, 4294.967295)
        status = replace(vectors.STATUS, ack_delay=1e9, ack_bytes=1 << 40)
        status = unpack_status(pack_status(status))
        self.assertEqual((status.ack_delay, status.ack_bytes), (4294.967295, 0xFFFFFFFF))

    def test_file_older_than_the_epoch(self) -> None:
        """A time before 1970 is written as the two's complement, and can still be compared."""
        status = unpack_status(pack_status(replace(vectors.STATUS, mtime_ns=-1)))
        self.assertEqual(status.mtime_ns, (1 << 64) - 1)

    def test_overhead(self) -> None:
        """The headers are as long as the documentation says."""
        self.assertEqual((packet.MIN_DATAGRAM, packet.DATA_OVERHEAD), (29, 37))


class TrainTests(SynchronousTestCase):
    """Datagrams that lie end to end."""

    @given(st.binary(max_size=100), st.integers(1, 30))
    def test_datagrams(self, data: bytes, segment: int) -> None:
        """A train falls into pieces of one size, the last one shorter, that join to the whole."""
        pieces = [bytes(piece) for piece in Train(memoryview(data), segment).datagrams()]
        self.assertEqual(b"".join(pieces), data)
        self.assertTrue(all(len(piece) == segment for piece in pieces[:-1]))
        self.assertTrue(all(0 < len(piece) <= segment for piece in pieces))
