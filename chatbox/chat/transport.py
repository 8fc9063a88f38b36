"""A client's transport: how bytes leave it.

Twisted's transports write in the next turn: they keep what they are given, have the reactor watch
the socket, send when it says that there is room, and have it watched no more. That is three system
calls where one would do, for nearly always there is room. So a `DirectWriter` sends at once. What
the kernel does not take goes the usual way, and until that has left nothing else is given to the
transport: it would overtake.

Only plain TCP can be written to like that. Everything else (TLS, UNIX sockets, wrappers of any
kind) has a `TransportWriter`, which leaves all to the transport. But TLS writes to a transport too:
with a `DirectTransport` below it, what TLS has sealed is sent at once. In a room of 500 with one
message on its way that halves what TLS costs.
"""

# mypy: allow-untyped-calls
# Twisted's transports have no annotations yet.

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.interfaces import IProtocolFactory, IPullProducer, IPushProducer
from twisted.internet.tcp import Server
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from zope.interface import implementer

from chatbox.addresses import canonical

__all__ = [
    "DirectFactory",
    "DirectTransport",
    "DirectWriter",
    "Limited",
    "TransportWriter",
    "address_of",
    "host_of",
    "writer",
]


class Limited(Protocol):
    """Who is told when a transport has enough, and when it wants more: an `Outbox`."""

    def pause(self) -> None:
        """The transport has enough."""

    def resume(self) -> None:
        """The transport wants more."""


def writer(transport: Any) -> DirectWriter | TransportWriter:
    """Make the writer that fits a transport to which nothing has been written yet."""
    if type(transport) is Server and not transport.TLS:
        return DirectWriter(transport)
    return TransportWriter(transport)


@implementer(IPushProducer)
class TransportWriter:
    """Leaves everything to the transport, which pushes back when it has too much.

    The protocol itself cannot be the producer: its `pauseProducing` stops the reading.
    """

    __slots__ = ("_limited", "_transport")
    _limited: Limited

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def start(self, limited: Limited) -> None:
        """Tell `limited` from now on when the transport has enough."""
        self._limited = limited
        self._transport.registerProducer(self, True)

    def send(self, data: bytes) -> int:
        """Give this to the transport, which takes all."""
        self._transport.write(data)
        return len(data)

    def write(self, data: bytes) -> None:
        """Give this to the transport."""
        self._transport.write(data)

    def finish(self, pieces: Sequence[bytes]) -> None:
        """Send all of these, and be told nothing more."""
        self._transport.writeSequence(pieces)
        self._transport.unregisterProducer()

    # What the transport calls.

    def pauseProducing(self) -> None:
        """The transport has enough."""
        self._limited.pause()

    def resumeProducing(self) -> None:
        """The transport wants more."""
        self._limited.resume()

    def stopProducing(self) -> None:
        """The transport is gone; `connectionLost` follows."""


@implementer(IPullProducer)
class DirectWriter:
    """Sends at once. What does not go, the transport sends; then it is asked whether it is done.

    While the transport is at work `limited` is paused, so that nothing is written.
    """

    __slots__ = ("_limited", "_rest", "_transport", "send")
    _limited: Limited

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.send: Callable[[bytes], int] = transport.getHandle().send
        """The socket's own, so that nothing lies between it and a fan-out."""
        self._rest = b""

    def start(self, limited: Limited) -> None:
        """Tell `limited` from now on when the transport has enough."""
        self._limited = limited

    def write(self, data: bytes) -> None:
        """Send this, or as much as goes."""
        send = self.send
        try:
            sent = send(data)
        except OSError:
            # No room, or the connection has ended. If so the transport finds out the same way, and
            # says so when its turn comes; here we may be in the middle of a fan-out.
            sent = 0
        if sent != len(data):
            self._rest = data[sent:]
            self._limited.pause()
            self._transport.registerProducer(self, False)

    def finish(self, pieces: Sequence[bytes]) -> None:
        """Send all of these, and be told nothing more."""
        self._transport.unregisterProducer()
        self._transport.writeSequence(pieces)

    # What the transport calls.

    def resumeProducing(self) -> None:
        """The transport has nothing to send."""
        rest, self._rest = self._rest, b""
        if rest:
            self._transport.write(rest)
        else:
            self._transport.unregisterProducer()
            self._limited.resume()

    def stopProducing(self) -> None:
        """The transport is gone; `connectionLost` follows."""


class DirectTransport(ProtocolWrapper):
    """A transport that sends at once, for a protocol that knows no writers: TLS.

    TLS pauses its producer when it is told to, but goes on to write what it has: the rest of what
    it was given, an alert, an end. So what comes while the writer is at work waits here.
    """

    _producer: Any = None

    def makeConnection(self, transport: Any) -> None:
        """Begin."""
        self._queue: list[bytes] = []
        self._paused = False
        self._writer = writer(transport)
        self._writer.start(self)
        super().makeConnection(transport)

    # What the protocol above calls.

    def write(self, data: bytes) -> None:
        """Send this, as soon as all before it has left."""
        if self._paused:
            self._queue.append(data)
        else:
            self._writer.write(data)

    def writeSequence(self, pieces: Sequence[bytes]) -> None:
        """Send all of these."""
        self.write(b"".join(pieces))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Tell a push producer when we have enough; TLS makes one of every other kind."""
        self._producer = producer

    def unregisterProducer(self) -> None:
        """Tell it no more."""
        self._producer = None

    def loseConnection(self) -> None:
        """End the connection when all has left; what is written after this does not."""
        if not self.disconnecting:  # TLS may say it twice
            self._paused = True
            self._writer.finish(self._queue)
            super().loseConnection()

    # What the writer calls.

    def pause(self) -> None:
        """The transport has enough."""
        self._paused = True
        if self._producer is not None:
            self._producer.pauseProducing()

    def resume(self) -> None:
        """The transport wants more: what waits, and then what the producer has."""
        self._paused = False
        queue, self._queue = self._queue, []
        if queue:
            self._writer.write(b"".join(queue))
        if not self._paused and self._producer is not None:
            self._producer.resumeProducing()


class DirectFactory(WrappingFactory[DirectTransport]):
    """Puts a `DirectTransport` below each protocol of `factory`."""

    protocol = DirectTransport
    noisy = False

    def __init__(self, factory: IProtocolFactory) -> None:
        super().__init__(factory)
        self._factory: Any = factory

    def logPrefix(self) -> str:
        """What Twisted calls us when it says that a port starts: what it called the factory."""
        return str(self._factory.logPrefix())


def host_of(address: Any) -> str:
    """Return a host as people write it; a UNIX socket has none.

    An address of IPv4 comes in the clothes of IPv6 where one socket is for both.
    """
    host = str(getattr(address, "host", "local"))
    return canonical(host) if host.startswith("::ffff:") else host


def address_of(address: Any) -> str:
    """Return a peer's address for the operator's log."""
    port = getattr(address, "port", None)
    return host_of(address) if port is None else f"{host_of(address)} port {port}"
