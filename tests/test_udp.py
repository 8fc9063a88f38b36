"""Trains through one socket, and what the kernel may answer."""

from __future__ import annotations

import errno
import random
import socket
import struct
import sys
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chatbox.rdt.batch import DATAGRAMS
from chatbox.rdt.packet import Train
from chatbox.rdt.pump import Pump
from chatbox.rdt.seal import RECEIVE_BYTES, TRAIN_SENDS
from chatbox.rdt.socket_options import (
    IP_MTU_DISCOVER,
    PMTUDISC_PROBE,
    SO_TIMESTAMPNS,
    UDP_GRO,
    UDP_SEGMENT,
    Control,
)
from chatbox.rdt.udp import BATCH_FROM, FULL_TURN_BYTES, READ_INTERVAL, TrainPort, TrainProtocol
from tests.helpers.processes import PATIENCE

SO_PEEK_OFF = 42  # asm-generic/socket.h


def overhear(protocol: TrainProtocol) -> list[tuple[bytes, int, Any, float]]:
    """What a port hands to `protocol` from now on: bytes, of each datagram, from whom, and late by
    how many seconds.
    """
    heard: list[tuple[bytes, int, Any, float]] = []

    def hear(train: Train, address: Any, waited: float) -> None:
        heard.append((bytes(train.data), train.segment, address, waited))

    protocol.train_received = hear  # type: ignore[method-assign]  # the test is the engine
    return heard


class StubbornSocket:
    """A socket that refuses with the errors it is given, one a call (0 is none), and takes
    everything afterwards.
    """

    def __init__(self, *errors: int) -> None:
        self.errors = list(errors)
        self.sent: list[tuple[str, int]] = []
        self.arriving: list[tuple[bytes, object]] = []
        self.instants: list[float] = []
        """When each of them came, if the kernel says so."""

    def _take(self, how: str, size: int) -> int:
        if self.errors and (error := self.errors.pop(0)):
            raise OSError(error, "as the test says")
        self.sent.append((how, size))
        return size

    def recvfrom_into(self, buffer: memoryview) -> tuple[int, object]:
        """The next datagram that arrives."""
        if not self.arriving:
            raise BlockingIOError(errno.EAGAIN, "nothing more")
        data, address = self.arriving.pop(0)
        buffer[: len(data)] = data
        return len(data), address

    def recvmsg_into(
        self, buffers: list[memoryview], _: int
    ) -> tuple[int, list[tuple[int, int, bytes]], int, object]:
        """The same with what else the kernel has to say."""
        size, address = self.recvfrom_into(buffers[0])
        if not self.instants:
            return size, [], 0, address
        seconds, rest = divmod(self.instants.pop(0), 1.0)
        time = struct.pack("=qq", int(seconds), int(rest * 1e9))
        return size, [(socket.SOL_SOCKET, SO_TIMESTAMPNS, time)], 0, address

    def sendmsg(self, buffers: list[memoryview], *_: object) -> int:
        """A whole train."""
        return self._take("train", sum(len(buffer) for buffer in buffers))

    def sendto(self, data: memoryview, address: object) -> int:
        """One packet."""
        return self._take("packet", len(data))


class NullEngine:
    """An engine that wants nothing."""

    buffer = memoryview(bytearray(1 << 17))

    def receive(self, train: Train, address: object, now: float, waited: float) -> None:
        """Nothing."""

    def on_timer(self, now: float) -> None:
        """Nothing."""

    def next_timer(self) -> float | None:
        """Never."""
        return None

    def trains_to_send(self, now: float) -> Any:
        """Nothing."""
        return iter(())


class TrainPortTests(SynchronousTestCase):
    """What the kernel may answer."""

    def port(self, *errors: int, gso: bool = True) -> tuple[TrainPort, StubbornSocket]:
        """A port whose socket answers with these errors first."""
        self.clock = Clock()
        pump = Pump(self.clock, NullEngine(), lambda: None)
        port = TrainPort(0, pump, NullEngine.buffer, "", self.clock, gso=gso)
        stubborn = StubbornSocket(*errors)
        port.socket = cast(Any, stubborn)
        port.stopReading = lambda: None  # type: ignore[method-assign]
        port.writing = False  # type: ignore[attr-defined]
        port.startWriting = lambda: setattr(port, "writing", True)  # type: ignore[method-assign]
        port.stopWriting = lambda: setattr(port, "writing", False)  # type: ignore[method-assign]
        return port, stubborn

    def test_reading_is_moderated(self) -> None:
        """
        Packets that come one by one in quick succession are left to gather; what comes after a
        while, or many at a time, is not.
        """
        port, sock = self.port()
        port.connected = True
        reading: list[bool] = []
        port.startReading = lambda: reading.append(True)  # type: ignore[method-assign]
        port.stopReading = lambda: reading.append(False)  # type: ignore[method-assign]

        def read(size: int) -> list[bool]:
            reading.clear()
            sock.arriving = [(bytes(size), ("127.0.0.1", 1))]
            port.doRead()
            return list(reading)

        self.clock.advance(1.0)
        self.assertEqual(read(1200), [])
        self.clock.advance(READ_INTERVAL / 2)
        self.assertEqual(read(1200), [False])
        self.clock.advance(READ_INTERVAL)
        self.assertEqual(reading, [False, True])
        self.assertEqual(read(FULL_TURN_BYTES), [])
        self.clock.advance(10 * READ_INTERVAL)
        self.assertEqual(read(1200), [])
        self.assertEqual(read(1200), [False])
        reading.clear()
        port.connected = False
        self.clock.advance(READ_INTERVAL)
        self.assertEqual(reading, [])

    @pytest.mark.skipif(sys.platform != "linux", reason="other systems have other options")
    def test_sockets_are_set_up(self) -> None:
        """One that Twisted makes has the options that are asked for, and one that was bound."""
        port, _ = self.port()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
            port.adopt(bound)
            with port.createInternetSocket() as made:
                for each in (bound, made):
                    option = each.getsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER)
                    self.assertEqual(option, PMTUDISC_PROBE)

    def test_joined_by_us(self) -> None:
        """Datagrams of one length from one address are read as one train, others begin another."""
        here, there = ("127.0.0.1", 1), ("127.0.0.1", 2)
        port, sock = self.port()
        heard = overhear(port._protocol)
        sock.arriving = [
            (b"aaaa", here),
            (b"bbbb", here),
            (b"cc", here),  # shorter: the last of its train
            (b"dd", here),
            (b"eeee", here),  # longer: the first of another
            (b"ffff", there),
            (b"", there),
            (b"gggg", there),
        ]
        port.doRead()
        self.assertEqual(
            [(data, segment, address) for data, segment, address, _ in heard],
            [
                (b"aaaabbbbcc", 4, here),
                (b"dd", 2, here),
                (b"eeee", 4, here),
                (b"ffffgggg", 4, there),
            ],
        )

    def test_how_long_it_waited(self) -> None:
        """
        The engine hears how long ago the kernel took in what is read, unless a clock was set since;
        what came at different times is not joined.
        """
        port, sock = self.port()
        heard: list[tuple[int, float]] = []
        engine: Any = cast(Pump, port._protocol)._engine
        engine.receive = lambda train, address, now, waited: heard.append(
            (len(train.data), round(waited, 6))
        )
        here = ("127.0.0.1", 1)

        def came(*instants: float) -> list[tuple[int, float]]:
            heard.clear()
            sock.arriving = [(bytes(100), here) for _ in instants]
            sock.instants = list(instants)
            port.doRead()
            return list(heard)

        self.clock.advance(1000.0)
        self.assertEqual(came(999.75), [(100, 0.25)])
        self.assertEqual(came(999.75, 999.7505), [(200, 0.2495)])
        self.assertEqual(came(999.75, 999.76), [(100, 0.25), (100, 0.24)])
        self.assertEqual(came(1000.5), [(100, 0.0)])
        self.assertEqual(came(900.0), [(100, 0.0)])

    TRAIN = Train(memoryview(bytes(2500)), 1000)

    def test_train(self) -> None:
        """A train is one call."""
        port, sock = self.port()
        self.assertTrue(port.write_train(self.TRAIN, ("127.0.0.1", 1)))
        self.assertEqual(sock.sent, [("train", 2500)])

    def test_long_train(self) -> None:
        """A long train is as many calls as it takes, wherever it has to wait for the kernel."""
        train = Train(memoryview(bytes(149_500)), 1000)
        for at in range(3):
            port, sock = self.port(*[0] * at, errno.EAGAIN)
            self.assertFalse(port.write_train(train, ("127.0.0.1", 1)))
            port.doWrite()
            self.assertEqual([size for _, size in sock.sent], [64_000, 64_000, 21_500], at)
        port, sock = self.port(0, errno.EIO)
        self.assertTrue(port.write_train(train, ("127.0.0.1", 1)))
        self.assertEqual([size for _, size in sock.sent], [64_000, *[1000] * 85, 500])

    def test_no_gso(self) -> None:
        """Without it, packets go one by one."""
        port, sock = self.port(gso=False)
        self.assertTrue(port.write_train(self.TRAIN, ("127.0.0.1", 1)))
        self.assertEqual(sock.sent, [("packet", 1000), ("packet", 1000), ("packet", 500)])

    def test_refused_trains(self) -> None:
        """An interface that takes no trains gets packets from then on, and none is lost."""
        port, sock = self.port(errno.EIO)
        self.assertTrue(port.write_train(self.TRAIN, ("127.0.0.1", 1)))
        self.assertTrue(port.write_train(self.TRAIN, ("127.0.0.1", 1)))
        self.assertEqual([how for how, _ in sock.sent], ["packet"] * 6)

    def test_no_room(self) -> None:
        """A full kernel is waited for, and what it did not take goes first."""
        for code in (errno.EAGAIN, errno.ENOBUFS):
            for gso in (True, False):
                port, sock = self.port(code, code, gso=gso)
                self.assertFalse(port.write_train(self.TRAIN, ("127.0.0.1", 1)))
                self.assertTrue(port.writing)  # type: ignore[attr-defined]
                port.doWrite()
                self.assertTrue(port.writing)  # type: ignore[attr-defined]
                port.doWrite()
                self.assertFalse(port.writing)  # type: ignore[attr-defined]
                self.assertEqual(sum(size for _, size in sock.sent), 2500)

    def test_lost_packets(self) -> None:
        """Any other error is a lost packet, not an exception."""
        for code in (errno.EPERM, errno.ECONNREFUSED, errno.EMSGSIZE, errno.ENETUNREACH):
            port, _ = self.port(code, code)
            self.assertTrue(port.write_train(self.TRAIN, ("127.0.0.1", 1)))


class BatchTests(SynchronousTestCase):
    """Datagrams read many at a time, from real sockets."""

    if sys.platform != "linux":
        skip = "only Linux has recvmmsg"

    def setUp(self) -> None:
        """A port whose last turn ended with a row, and what it hands on."""
        pump = Pump(Clock(), NullEngine(), lambda: None)
        self.port = TrainPort(0, pump, memoryview(bytearray(RECEIVE_BYTES)), "", Clock(), gso=True)
        self.sockets: list[socket.socket] = []
        self.heard = overhear(pump)
        self.port.stopReading = lambda: None  # type: ignore[method-assign]

    def tearDown(self) -> None:
        """Close what was opened."""
        for each in self.sockets:
            each.close()

    def between(self, family: int, host: str, *, gro: bool = False) -> list[socket.socket]:
        """Let the port have a socket; two that are connected to it."""
        ours = socket.socket(family, socket.SOCK_DGRAM)
        ours.bind((host, 0))
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        ours.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        if gro:
            ours.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        others = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(2)]
        for other in others:
            other.connect(ours.getsockname())
        self.sockets = [ours, *others]
        self.port.socket = ours
        return others

    def read(self, row: int, size: int) -> list[tuple[bytes, Any]]:
        """All datagrams, which are `size` bytes together, read at first as rows of `row` bytes
        each; with addresses.
        """
        self.heard.clear()
        self.wait_for(size)
        self.port._row = row
        before = -1
        while len(self.heard) != before:
            before = len(self.heard)
            self.port.doRead()
        return [
            (data[start : start + segment], address)
            for data, segment, address, _ in self.heard
            for start in range(0, len(data), segment)
        ]

    def wait_for(self, size: int) -> float:
        """Wait until so many bytes have come, which the kernel may leave for later.

        When that was, by the clock of the kernel.
        """
        if not size:
            return 0.0
        ours = self.sockets[0]
        ours.settimeout(PATIENCE)
        ours.setsockopt(socket.SOL_SOCKET, SO_PEEK_OFF, size - 1)
        _, control, _, _ = ours.recvmsg(1, 128, socket.MSG_PEEK)
        ours.setsockopt(socket.SOL_SOCKET, SO_PEEK_OFF, -1)
        ours.setblocking(False)
        [stamp] = [data for _, kind, data in control if kind == SO_TIMESTAMPNS]
        seconds, nanoseconds = struct.unpack("qq", stamp)
        return float(seconds + nanoseconds * 1e-9)

    def test_a_row_is_one_train(self) -> None:
        """Both kinds of addresses, and the last datagram may be shorter."""
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            one, _ = self.between(family, host)
            sent = [bytes([number]) * 1000 for number in range(40)] + [b"the end"]
            for data in sent:
                one.send(data)
            got = self.read(1000, sum(map(len, sent)))
            self.assertEqual(got, [(data, one.getsockname()) for data in sent])
            self.assertEqual([(len(data), row) for data, row, _, _ in self.heard], [(40_007, 1000)])
            self.assertEqual(self.port._row, 1000)
            self.tearDown()

    def test_when_it_came(self) -> None:
        """The kernel says of the last one when that was."""
        one, _ = self.between(socket.AF_INET, "127.0.0.1")
        for _ in range(BATCH_FROM):
            one.send(bytes(1000))
        size = BATCH_FROM * 1000
        clock: Any = self.port._clock
        clock.rightNow = self.wait_for(size) + 10.0
        self.read(1000, size)
        [(_, _, _, waited)] = self.heard
        self.assertAlmostEqual(waited, 10.0)

    def test_a_row_begins_and_ends(self) -> None:
        """A port begins to read in batches when it has met a row, and stops when it meets none."""
        one, other = self.between(socket.AF_INET, "127.0.0.1")
        for _ in range(BATCH_FROM):
            one.send(bytes(500))
        self.read(0, BATCH_FROM * 500)
        self.assertEqual(self.port._row, 500)
        one.send(bytes(500))
        other.send(bytes(600))
        self.read(500, 1100)
        self.assertEqual(self.port._row, 0)

    def test_joined_by_the_kernel_after_all(self) -> None:
        """Trains that it joins arrive whole, and are read as such from then on."""
        one, _ = self.between(socket.AF_INET, "127.0.0.1", gro=True)
        one.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 700)
        train = random.Random(1).randbytes(20 * 700 + 99)
        one.send(train)
        one.send(train[:1400])
        pieces = [train[start : start + 700] for start in range(0, len(train), 700)]
        expected = [(piece, one.getsockname()) for piece in [*pieces, *pieces[:2]]]
        # Two packets together are as long as a row's.
        self.assertEqual(self.read(1400, len(train) + 1400), expected)
        self.assertEqual(self.port._row, 0)

    def test_more_than_a_turn_should_read(self) -> None:
        """Of what one call has read nothing is lost, though the kernel joined megabytes of it."""
        trains = [bytes([number]) * (45 * 1300) for number in range(DATAGRAMS)]
        joined = [(socket.IPPROTO_UDP, UDP_GRO, struct.pack("=i", 1300))]

        class Full:
            """A batch that is full."""

            def receive(self, _descriptor: int, _segment: int) -> int:
                """All there is room for."""
                return len(trains)

            def train(self) -> None:
                """They are many."""

            def datagrams(self) -> list[tuple[bytes, Control, object]]:
                """Each of them."""
                return [(train, joined, "peer") for train in trains]

        self.between(socket.AF_INET, "127.0.0.1")
        self.port._row = 1300
        self.port._batch = cast(Any, Full())
        self.port.doRead()
        self.assertTrue(b"".join(data for data, _, _, _ in self.heard) == b"".join(trains))
        # Rows that the kernel joined are handed on together, as long as there is room for one more.
        self.assertEqual(len(self.heard), DATAGRAMS // (TRAIN_SENDS + 1) + 1)

    @given(
        st.lists(
            st.tuples(st.integers(0, 1), st.sampled_from([1, 64, 999, 1000, 1001, 3000])),
            max_size=60,
        ),
        st.sampled_from([1, 64, 1000]),
    )
    def test_whatever_comes(self, sizes: list[tuple[int, int]], row: int) -> None:
        """Datagrams of any length from anywhere are what they were, in order."""
        others = self.between(socket.AF_INET, "127.0.0.1")
        sent = []
        for number, (which, size) in enumerate(sizes):
            data = bytes([number]) * size
            others[which].send(data)
            sent.append((data, others[which].getsockname()))
        self.assertEqual(self.read(row, sum(size for _, size in sizes)), sent)
        self.tearDown()
