"""Time and TCP as a reactor has them, with kernels whose buffers the test chooses."""

from __future__ import annotations

import errno
from typing import Any, Final

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tests.helpers.chat import NOON

READ_BYTES: Final = 1 << 16
"""What a reactor reads from one connection in a turn."""

WRITE_BYTES: Final = 1 << 16
"""What a transport keeps before it pushes back."""


class Reactor(Clock):
    """Turns, one by one: what is asked for in one happens in a later one."""

    def __init__(self) -> None:
        super().__init__()
        self.rightNow = NOON

    def turn(self) -> None:
        """Do what is due."""
        now = self.seconds()
        for call in [one for one in self.calls if one.getTime() <= now]:
            if call.active() and call.getTime() <= now:
                self.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)


class Link:
    """One connection: the server's transport, and the kernels between it and its client.

    It behaves towards its protocol as Twisted's `twisted.internet.tcp.Server` does.
    """

    TLS = False

    def __init__(self, reactor: Reactor, host: str, room: int) -> None:
        self._reactor = reactor
        self._host = host
        self.room = room
        """How many bytes the kernels hold for the client."""
        self._protocol: Any = None
        self._outgoing = b""
        """What the transport keeps."""
        self._on_way_out = b""
        """What the client has not read."""
        self._on_way_in = b""
        """What the server has not read."""
        self._input_ends = False
        self._reading = True
        self._producer: Any = None
        self._streaming = self._producer_paused = False
        self.disconnecting = False
        self.over = False
        """Whether the server knows that the connection is gone."""
        self.aborted = False
        """Whether the server has ended it without waiting for what was to be said."""
        self._reset = False

    def connect(self, protocol: Any) -> None:
        """Begin."""
        self._protocol = protocol
        protocol.makeConnection(self)

    # What the client does.

    def send(self, data: bytes) -> None:
        """Send to the server."""
        self._on_way_in += data

    def end_input(self) -> None:
        """Send nothing more."""
        self._input_ends = True

    def read(self, size: int = 1 << 30) -> bytes:
        """Read what has come, or some of it."""
        data, self._on_way_out = self._on_way_out[:size], self._on_way_out[size:]
        return data

    def cut(self) -> None:
        """Break the connection; what the server has not read is lost."""
        self._reset = True
        self._lose(ConnectionLost())

    @property
    def moving(self) -> bool:
        """Whether anything is on its way that can arrive."""
        ahead = self._on_way_in and self._reading and not self.disconnecting
        return not self.over and bool(ahead or self._outgoing or self._on_way_out)

    # What the reactor does.

    def run(self) -> None:
        """One turn's reading and writing."""
        if self._reading and not self.over and not self.disconnecting:
            data, self._on_way_in = self._on_way_in[:READ_BYTES], self._on_way_in[READ_BYTES:]
            if data:
                self._protocol.dataReceived(data)
            elif self._input_ends:
                self._input_ends = False
                self._protocol.readConnectionLost()
        if not self.over:
            self._write_on()

    def _write_on(self) -> None:
        sent = min(self._free, len(self._outgoing))
        self._on_way_out += self._outgoing[:sent]
        self._outgoing = self._outgoing[sent:]
        if self._outgoing:
            return
        if self._producer is not None and (not self._streaming or self._producer_paused):
            self._producer_paused = False
            self._producer.resumeProducing()
        elif self.disconnecting:
            self._lose(ConnectionDone())

    def _lose(self, reason: Exception) -> None:
        if not self.over:
            self.over = self.disconnecting = True
            producer, self._producer = self._producer, None
            if producer is not None:
                producer.stopProducing()
            self._outgoing = b""
            self._protocol.connectionLost(Failure(reason))

    @property
    def _free(self) -> int:
        return max(0, self.room - len(self._on_way_out))

    # What the protocol calls.

    def getHandle(self) -> Any:
        """The socket."""
        return _Socket(self)

    def push(self, data: bytes) -> int:
        """What sending to the socket does."""
        if self._reset or self.over:
            raise BrokenPipeError(errno.EPIPE, "gone")
        sent = min(self._free, len(data))
        if not sent:
            raise BlockingIOError(errno.EAGAIN, "no room")
        self._on_way_out += data[:sent]
        return sent

    def write(self, data: bytes) -> None:
        """Send as soon as may be."""
        if not self.over:
            self._outgoing += data
            self._push_back()

    def writeSequence(self, pieces: Any) -> None:
        """Send all of these."""
        self.write(b"".join(pieces))

    def _push_back(self) -> None:
        if self._producer is not None and self._streaming and len(self._outgoing) > WRITE_BYTES:
            self._producer_paused = True
            self._producer.pauseProducing()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Tell a producer when there is room, and one that streams when there is none."""
        if self._producer is not None:
            raise RuntimeError("there is a producer already")
        if self.over:
            producer.stopProducing()
            return
        self._producer, self._streaming, self._producer_paused = producer, streaming, False
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """Tell it no more."""
        self._producer = None

    def loseConnection(self) -> None:
        """End when all has left."""
        if not self.over:
            self.disconnecting = True

    def abortConnection(self) -> None:
        """End soon, whatever has not left."""
        if not self.over:
            self.disconnecting = self.aborted = True
            self._outgoing = b""
            self._producer = None
            self._reactor.callLater(0, self._lose, ConnectionAborted())

    def pauseProducing(self) -> None:
        """Read no more."""
        self._reading = False

    def resumeProducing(self) -> None:
        """Read on."""
        self._reading = not self.disconnecting

    def getPeer(self) -> IPv4Address:
        """Where the client is."""
        return IPv4Address("TCP", self._host, 40000)

    def getHost(self) -> IPv4Address:
        """Where the server is."""
        return IPv4Address("TCP", "192.0.2.1", 50000)


class _Socket:
    """The socket of a link. It is its `send` that an outbox knows a client by."""

    def __init__(self, link: Link) -> None:
        self.send = link.push
