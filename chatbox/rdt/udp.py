"""
RDT on real sockets: the only module of the package that knows the reactor.

`TrainPort` moves trains between a socket and the kernel, `Pump` drives one sans-I/O engine (many
senders behind a `Demux`, or one `Receiver`) over one such port, with one delayed call. After every
stimulus the pump does the same four things: send what the engine has, deliver its events, and arm
the timer for its next deadline.

Linux moves a whole train in one system call: sending, the kernel cuts it up (UDP_SEGMENT);
receiving, it joins what arrived in a row (UDP_GRO). Elsewhere, or where an interface refuses, the
packets of the train go one by one, and are read many at a time (`chatbox.rdt.batch`).

Linux also says when it took in what is read now. A program that was busy elsewhere tells its engine
how long ago that was, so that its own lateness does not pass for the network's.
"""

from __future__ import annotations

import errno
import math
import socket
import struct
import sys
from collections.abc import Callable, Hashable, Iterator
from contextlib import suppress
from functools import cache, partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet import udp
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger, LogLevel
from twisted.python import context
from twisted.python.log import ILogContext

from chatbox.rdt.packet import BASE_DATAGRAM, MAX_DATAGRAM, Train
from chatbox.rdt.seal import LONGEST_DATAGRAM, packets_in_send
from chatbox.steady import wall_clock

if TYPE_CHECKING:
    from chatbox.rdt.batch import Batch, Control

_log = Logger()

UDP_SEGMENT = 103
"""Socket option and control message: cut what is sent into datagrams of this size (linux/udp.h)."""

UDP_GRO = 104
"""Socket option: join datagrams in a row; control message: the size that each had."""

SO_TIMESTAMPNS = 64
"""
Socket option and control message: when a datagram came (asm-generic/socket.h, SO_TIMESTAMPNS_NEW).
"""

IP_MTU_DISCOVER = 10
IPV6_MTU_DISCOVER = 23
PMTUDISC_PROBE = 3
"""Socket options: set "don't fragment", whatever the kernel believes of the path (linux/in.h).
"""

IP_MTU = 14
IPV6_MTU = 24
"""Socket options: the longest packet of IP to where the socket is connected."""

IP_AND_UDP_BYTES = 28
IPV6_AND_UDP_BYTES = 48
"""What of such a packet is headers."""

SOCKET_BUFFER = 4 << 20
"""Bytes asked for each way: some ten milliseconds at line rate while the reactor is elsewhere."""

READS_PER_TURN = 64
"""System calls to read before other sockets get their turn..."""

READ_BYTES_PER_TURN = 1 << 20
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

TRAINS_PER_TURN = 16
"""Trains sent before the same..."""

SENT_BYTES_PER_TURN = 1 << 20
"""... or about as many bytes."""

JOIN_SECONDS = 0.001
"""Datagrams further apart are not joined, or the first would seem to have come with the last."""

LATEST = 1.0
"""Seconds for which something may have waited to be read; more is a clock that was set."""

_SEGMENT = struct.Struct("=H")
_GRO = struct.Struct("=i")
_TIME = struct.Struct("=qq")
_CMSG_BYTES = (
    socket.CMSG_SPACE(_GRO.size) + socket.CMSG_SPACE(_TIME.size)
    if hasattr(socket, "CMSG_SPACE")
    else 0
)
_TRY_AGAIN = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS})
_NO_GSO = frozenset({errno.EIO, errno.ENOPROTOOPT, errno.EOPNOTSUPP})
_TOO_LONG = frozenset({errno.EINVAL, errno.EMSGSIZE})


class Engine(Protocol):
    """What a pump drives."""

    @property
    def buffer(self) -> memoryview:
        """Where trains are received, from its beginning."""

    def receive(self, train: Train, address: Hashable, now: float, waited: float) -> None:
        """Take in what came, and waited for so many seconds until somebody read it."""

    def on_timer(self, now: float) -> None:
        """A deadline has come."""

    def next_timer(self) -> float | None:
        """When the next one does."""

    def trains_to_send(self, now: float) -> Iterator[tuple[Train, Hashable]]:
        """What may leave now."""


class TrainPort(udp.Port):
    """
    A UDP port that reads and writes trains.

    What the kernel has no room for is kept, one train of it, and sent when the socket is writable
    again; until then the pump is not asked for more.
    """

    def __init__(
        self, port: int, pump: Pump, buffer: memoryview, interface: str, reactor: Any, *, gso: bool
    ) -> None:
        super().__init__(port, pump, interface, len(buffer), reactor)
        self._pump = pump
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
        self._set_up(made)
        return made

    def adopt(self, bound: socket.socket) -> None:
        """Use this socket, which somebody else has bound, in place of one of our own."""
        bound.setblocking(False)
        self._set_up(bound)
        self._preexistingSocket = bound  # type: ignore[assignment]  # no annotation there

    def _set_up(self, made: socket.socket) -> None:
        """Large buffers, and joined trains where the kernel can."""
        granted = min(ask_for_buffers(made))
        if granted < SOCKET_BUFFER:
            _warn_of_buffers(granted)
        # Never cut a packet into fragments: the sender finds out itself how long they may be.
        if sys.platform == "linux":
            # One of IPv6 may send over IPv4, too, for which the other option goes.
            made.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
            if made.family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
            with suppress(OSError):
                made.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        if self._gso:
            try:
                made.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 0)
            except OSError:
                self._gso = False
        if hasattr(made, "recvmsg_into"):
            with suppress(OSError):
                made.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)

    def doRead(self) -> None:
        """The reactor says that there is something to read."""
        total = self._read_batch() if self._row else self._read(self._receive)
        # An exception from here would close the port, and with it every other transfer.
        with _log.failuresHandled("sending broke"):
            self._pump.pump()
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
            joined, came_at = _told(control)
            if not joined:
                self._hand_on(size, self._row, address, came_at)
                return size
        datagrams = iter(list(batch.datagrams()))

        def receive(room: memoryview) -> tuple[int, int, float, Any]:
            for data, control, address in datagrams:
                room[: len(data)] = data
                joined, came_at = _told(control)
                return len(data), joined or len(data), came_at, address
            raise BlockingIOError(errno.EAGAIN, "that was all")

        return self._read(receive, math.inf)

    def _moderate(self, read: int) -> None:
        """Let some packets gather before the next turn, as network cards do with interrupts."""
        now = self._clock.seconds()
        since, self._read_at = now - self._read_at, now
        if read < FULL_TURN_BYTES and 0 <= since < READ_INTERVAL:
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
        if not _CMSG_BYTES:
            size, address = self.socket.recvfrom_into(room)
            return size, size, 0.0, address
        size, control, _flags, address = self.socket.recvmsg_into([room], _CMSG_BYTES)
        joined, came_at = _told(control)
        return size, joined or size, came_at, address

    def _hand_on(self, filled: int, segment: int, address: Any, came_at: float) -> None:
        if segment:
            waited = self._wall() - came_at if came_at else 0.0
            with _log.failuresHandled("a train from {address} broke something", address=address):
                self._pump.train_received(Train(self._buffer[:filled], segment), address, waited)

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
        self._pump.writable()

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


def _told(control: Control) -> tuple[int, float]:
    """
    Bytes of each of the datagrams that the kernel joined, 0 if it did not, and when they came, 0 if
    it does not say.
    """
    joined, came_at = 0, 0.0
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIME.unpack(data)
            came_at = seconds + nanoseconds * 1e-9
        elif level == socket.IPPROTO_UDP and kind == UDP_GRO:
            joined = _GRO.unpack(data[: _GRO.size])[0]
    return joined, came_at


def ask_for_buffers(made: socket.socket) -> tuple[int, int]:
    """Ask for large buffers; how many bytes are granted to receive, and to send."""
    granted = []
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        made.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER)
        got = made.getsockopt(socket.SOL_SOCKET, option)
        # Linux says twice what it grants, for its own bookkeeping (socket(7)).
        granted.append(got // 2 if sys.platform == "linux" else got)
    return granted[0], granted[1]


def longest_to(address: tuple[str, int]) -> int:
    """
    The longest datagram that this machine's interface carries to an IP address and a port, as far
    as the system knows; of those that there are at all.
    """
    six = ":" in address[0]
    family, level, option, headers = (
        (socket.AF_INET6, socket.IPPROTO_IPV6, IPV6_MTU, IPV6_AND_UDP_BYTES)
        if six
        else (socket.AF_INET, socket.IPPROTO_IP, IP_MTU, IP_AND_UDP_BYTES)
    )
    if sys.platform == "linux":
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)  # which sends nothing
            mtu: int = probe.getsockopt(level, option)
            return max(BASE_DATAGRAM, min(mtu - headers, MAX_DATAGRAM))
    return MAX_DATAGRAM


@cache
def _warn_of_buffers(granted: int) -> None:
    """Say it once, not for each port."""
    _log.warn(
        "sockets may hold {granted} bytes only, and fast downloads lose packets for it; as root:"
        " sysctl -w net.core.rmem_max={wanted} net.core.wmem_max={wanted} (to keep it, put the same"
        " into a file in /etc/sysctl.d)",
        granted=granted,
        wanted=SOCKET_BUFFER,
    )


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


class Pump(DatagramProtocol):
    """Drives one engine over one port."""

    noisy = False

    def __init__(self, reactor: Any, engine: Engine, on_events: Callable[[], None]) -> None:
        self._reactor: IReactorTime = reactor
        self._any_reactor = reactor
        self._engine = engine
        self._on_events = on_events
        self._timer: IDelayedCall | None = None
        self._timer_at = 0.0
        self._latest = 0.0
        self._blocked = False
        self._port: TrainPort | None = None

    def listen(self, port: int | socket.socket, interface: str, *, gso: bool) -> int:
        """
        Begin on a port, or on a socket that is bound to one; returns the port number.

        :raises twisted.internet.error.CannotListenError: if the port cannot be had.
        """
        bound = None if isinstance(port, int) else port
        wanted = port if isinstance(port, int) else port.getsockname()[1]
        if bound is not None:
            interface = bound.getsockname()[0]
        self._port = TrainPort(
            wanted, self, self._engine.buffer, interface, self._any_reactor, gso=gso
        )
        if bound is not None:
            self._port.adopt(bound)
        self._port.startListening()
        number: int = self._port.getHost().port
        return number

    def now(self) -> float:
        """The reactor's clock. If that is the wall's it may step back: ours stands still then."""
        self._latest = max(self._latest, self._reactor.seconds())
        return self._latest

    def stop(self) -> Deferred[None]:
        """Close the port."""
        if self._port is None:
            return maybeDeferred(lambda: None)
        port, self._port = self._port, None
        return maybeDeferred(port.stopListening)

    def train_received(self, train: Train, address: Any, waited: float) -> None:
        """
        The port has read what has waited for so many seconds; it calls `pump` when it has read all.
        """
        waited = waited if 0 < waited < LATEST else 0.0
        self._engine.receive(train, address, self.now(), waited)

    def writable(self) -> None:
        """The kernel has room again."""
        self._blocked = False
        self.pump()

    def pump(self) -> None:
        """Send what may leave, deliver events, arm the timer."""
        port = self._port
        if port is None:
            return
        now = self.now()
        try:
            self._send(port, now)
            self._on_events()
        finally:
            # Whatever breaks in one transfer, the others must be called when their time comes.
            self._arm(now)

    def _send(self, port: TrainPort, now: float) -> None:
        if not self._blocked:
            room = SENT_BYTES_PER_TURN
            for train, address in islice(self._engine.trains_to_send(now), TRAINS_PER_TURN):
                room -= len(train.data)
                if not port.write_train(train, address):
                    self._blocked = True
                    break
                if room <= 0:
                    break

    def stopProtocol(self) -> None:
        """The port is closed."""
        self._cancel()

    def _arm(self, now: float) -> None:
        if self._port is None:
            return
        deadline = self._engine.next_timer()
        if deadline is None or (self._blocked and deadline <= now):
            self._cancel()
            return
        if self._timer is not None:
            if self._timer_at == deadline:
                return
            self._cancel()
        self._timer_at = deadline
        self._timer = self._reactor.callLater(max(0.0, deadline - now), self._on_timer)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self._timer = None
        # A timer may fire a hair before its time; the engine is to see its deadline come.
        self._latest = max(self.now(), self._timer_at)
        self._engine.on_timer(self._latest)
        self.pump()
