"""
A UDP port that reads and writes trains: what is between a `chatbox.rdt.pump.Pump` and the kernel.

Linux moves a whole train in one system call: sending, the kernel cuts it up (UDP_SEGMENT);
receiving, it joins what arrived in a row (UDP_GRO). Elsewhere, or where an interface refuses, the
packets of the train go one by one, and are read many at a time (`chatbox.rdt.batch`) and joined
here. So all above this is written for trains, wherever it runs.

Linux also says when it took in what is read now. A program that was busy elsewhere tells its engine
how long ago that was, so that its own lateness does not pass for the network's.

No turn reads or sends without end: other sockets, the chat's among them, want theirs.
"""

from __future__ import annotations

import errno
import math
import socket
import struct
import sys
from abc import abstractmethod
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from twisted.internet import udp
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger, LogLevel
from twisted.python import context
from twisted.python.log import ILogContext

from chatbox.rdt.packet import Train
from chatbox.rdt.seal import LONGEST_DATAGRAM, packets_in_send
from chatbox.rdt.socket_options import CONTROL_BYTES, UDP_SEGMENT, read_control, set_up
from chatbox.steady import wall_clock

if TYPE_CHECKING:
    from chatbox.rdt.batch import Batch

_log = Logger()

READS_PER_TURN = 64
"""System calls to read before other sockets get their turn..."""

READ_BYTES_PER_TURN = 2 << 20
"""... or as many bytes, where the kernel joins what arrives."""

BATCH_FROM = 4
"""After a turn that ended with a row of so many datagrams, the next is read in one call."""

READ_INTERVAL = 0.001
"""
Seconds between two turns of reading where packets come fast and the kernel does not join them. Each
turn costs as much as some packets do, and left to itself the reactor would wake up for every one.
"""

FULL_TURN_BYTES = 1 << 16
"""A turn that read so much is worth its cost: no waiting after that, or the buffer runs over."""

JOIN_SECONDS = 0.001
"""Datagrams further apart are not joined, or the first would seem to have come with the last."""

_SEGMENT = struct.Struct("=H")
_TRY_AGAIN = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS})
_NO_GSO = frozenset({errno.EIO, errno.ENOPROTOOPT, errno.EOPNOTSUPP})
_TOO_LONG = frozenset({errno.EINVAL, errno.EMSGSIZE})


class TrainProtocol(DatagramProtocol):
    """What a `TrainPort` tells of: Twisted's protocol of a port of datagrams, but for trains."""

    @abstractmethod
    def train_received(self, train: Train, address: Any, waited: float) -> None:
        """A train came from `address`, and `waited` for so many seconds until it was read."""

    @abstractmethod
    def pump(self) -> None:
        """All that there was, or what one turn may read, was handed on."""

    @abstractmethod
    def writable(self) -> None:
        """There is room again, after `TrainPort.write_train` said that there was none."""


class TrainPort(udp.Port):
    """
    A UDP port that reads and writes trains.

    What the kernel has no room for is kept, one train of it, and sent when the socket is writable
    again; until then nobody should write more.
    """

    def __init__(
        self,
        port: int,
        protocol: TrainProtocol,
        buffer: memoryview,
        interface: str,
        reactor: Any,
        *,
        gso: bool,
    ) -> None:
        """Read into `buffer`, from its beginning."""
        super().__init__(port, protocol, interface, len(buffer), reactor)
        self._protocol = protocol
        self._gso = gso and hasattr(socket.socket, "sendmsg")
        self._buffer = buffer
        # Behind what is filled there must be room for the longest datagram.
        self._most_filled = len(buffer) - LONGEST_DATAGRAM
        self._left: tuple[Train, Any] | None = None
        self._clock: IReactorTime = reactor
        self._wall = wall_clock(reactor)
        self._read_at = 0.0
        self._row = 0
        """
        Bytes of each datagram in the row that the last turn ended with, if we had to join it; or 0.
        """
        self._batch: Batch | None = None

    def startListening(self) -> None:
        """Begin, without a line in the log: see `_unsaid`."""
        _unsaid(super().startListening)

    def connectionLost(self, reason: Any = None) -> None:
        """The port is closed."""
        waiting = vars(self).pop("d", None)  # who waits for this may have something to say
        _unsaid(partial(super().connectionLost, reason))
        if waiting is not None:
            waiting.callback(None)

    def createInternetSocket(self) -> socket.socket:
        """Twisted makes the socket here."""
        made: socket.socket = super().createInternetSocket()
        self._gso = set_up(made, gso=self._gso)
        return made

    def adopt(self, bound: socket.socket) -> None:
        """Use this socket, which somebody else has bound, in place of one of our own."""
        bound.setblocking(False)
        self._gso = set_up(bound, gso=self._gso)
        self._preexistingSocket = bound  # type: ignore[assignment]  # no annotation there

    def doRead(self) -> None:
        """The reactor says that there is something to read."""
        total = self._read_batch() if self._row else self._read(self._receive)
        # An exception from here would close the port, and with it every other transfer.
        with _log.failuresHandled("sending broke"):
            self._protocol.pump()
        self._moderate(total)

    def _read(
        self,
        receive: Callable[[memoryview], tuple[int, int, float, Any]],
        most: float = READ_BYTES_PER_TURN,
    ) -> int:
        """
        Take in what there is, about `most` bytes of it; how many that was.

        Where the kernel does not join what arrived in a row (the network device has a say in it),
        we do: datagrams of one length from one address are read end to end and handed on as one.
        """
        filled = segment = total = row = 0
        since = until = 0.0
        source = None
        for _ in range(READS_PER_TURN):
            try:
                size, joined, came_at, address = receive(self._buffer[filled:])
            except OSError as error:
                # What the network says of an earlier datagram of ours (ECONNREFUSED and the like)
                # is news to recovery only.
                if error.errno in _TRY_AGAIN:
                    break
                continue
            if filled and (
                address != source
                or joined > segment
                or joined < min(segment, size)
                or came_at - since > JOIN_SECONDS
            ):
                self._hand_on(filled, segment, source, until)
                self._buffer[:size] = self._buffer[filled : filled + size]
                filled = 0
            if not filled:
                if (joined, address) != (segment, source):
                    row = 0
                segment, source, since = joined, address, came_at
            until = came_at
            filled += size
            total += size
            row = row + 1 if joined == size else 0
            if filled % max(segment, 1) or filled > self._most_filled:
                self._hand_on(filled, segment, source, until)
                filled = 0
            if total >= most:
                break
        if filled:
            self._hand_on(filled, segment, source, until)
        self._row = segment if row >= BATCH_FROM and batch_class() is not None else 0
        return total

    def _read_batch(self) -> int:
        """
        The same in one call, where a row is expected that the kernel does not join. All of it came
        when the last did: that is the one whose delay an acknowledgement tells.
        """
        if self._batch is None:
            made = batch_class()
            assert made is not None
            self._batch = made(self._buffer)
        batch = self._batch
        if not batch.receive(self.socket.fileno(), self._row):
            return 0
        train = batch.train()
        if train is not None:
            size, control, address = train
            joined, came_at = read_control(control)
            if not joined:
                self._hand_on(size, self._row, address, came_at)
                return size
        datagrams = iter(list(batch.datagrams()))

        def receive(room: memoryview) -> tuple[int, int, float, Any]:
            for data, control, address in datagrams:
                room[: len(data)] = data
                joined, came_at = read_control(control)
                return len(data), joined or len(data), came_at, address
            raise BlockingIOError(errno.EAGAIN, "that was all")

        return self._read(receive, math.inf)

    def _moderate(self, read: int) -> None:
        """Let some packets gather before the next turn, as network cards do with interrupts."""
        now = self._clock.seconds()
        since, self._read_at = now - self._read_at, now
        if read < FULL_TURN_BYTES and since < READ_INTERVAL:
            self.stopReading()
            self._clock.callLater(READ_INTERVAL, self._resume_reading)

    def _resume_reading(self) -> None:
        if self.connected:
            self.startReading()

    def _receive(self, room: memoryview) -> tuple[int, int, float, Any]:
        """
        Read a datagram, or some that the kernel joined: bytes, bytes of each, when they came
        (0 if the kernel does not say), and from where.
        """
        if not CONTROL_BYTES:
            size, address = self.socket.recvfrom_into(room)
            return size, size, 0.0, address
        size, control, _flags, address = self.socket.recvmsg_into([room], CONTROL_BYTES)
        joined, came_at = read_control(control)
        return size, joined or size, came_at, address

    def _hand_on(self, filled: int, segment: int, address: Any, came_at: float) -> None:
        if segment:
            waited = self._wall() - came_at if came_at else 0.0
            with _log.failuresHandled("a train from {address} broke something", address=address):
                self._protocol.train_received(
                    Train(self._buffer[:filled], segment), address, waited
                )

    def write_train(self, train: Train, address: Any) -> bool:
        """Send a train; False if it was kept because the kernel has no room, and no more should
        come.
        """
        rest = self._send(train, address)
        if rest is None:
            return True
        self._left = (rest._replace(data=memoryview(bytes(rest.data))), address)
        self.startWriting()
        return False

    def doWrite(self) -> None:
        """The reactor says that there is room again."""
        if self._left is not None:
            train, address = self._left
            rest = self._send(train, address)
            if rest is not None:
                self._left = (rest, address)
                return
            self._left = None
        self.stopWriting()
        self._protocol.writable()

    def _send(self, train: Train, address: Any) -> Train | None:
        """Send as much as the kernel takes; what is left over."""
        data, segment, joined = train
        begin, packets = 0, packets_in_send(segment)
        if self._gso and joined and len(data) > segment and packets > 1:
            control = [(socket.IPPROTO_UDP, UDP_SEGMENT, _SEGMENT.pack(segment))]
            try:
                for begin in range(0, len(data), packets * segment):
                    row = data[begin : begin + packets * segment]
                    self.socket.sendmsg([row], control, 0, address)
                return None
            except OSError as error:
                if error.errno in _TRY_AGAIN:
                    return Train(data[begin:], segment, joined)
                if error.errno in _NO_GSO:
                    self._gso = False
                    _log.info("this interface does not take trains: packets go one by one")
                elif error.errno not in _TOO_LONG:
                    return None
        for start in range(begin, len(data), segment):
            try:
                self.socket.sendto(data[start : start + segment], address)
            except OSError as error:
                if error.errno in _TRY_AGAIN:
                    return Train(data[start:], segment, joined)
                # Any other refusal is a lost packet: recovery sees to it.
        return None


@cache
def batch_class() -> type[Batch] | None:
    """`Batch` where the system has what it needs; loading it takes a while, so only when needed."""
    if sys.platform != "linux":
        return None
    from chatbox.rdt import batch

    return batch.Batch if batch.AVAILABLE else None


def _unsaid(work: Callable[[], None]) -> None:
    """
    Call what Twisted does for a port, less the line that it logs: a server has twenty of them, and
    says in one line which.
    """
    empty = {"log_format": "", "log_level": LogLevel.debug}
    context.call({ILogContext: {**context.get(ILogContext), **empty}}, work)
