"""How bytes leave: at once where that is possible, and in order whatever the kernel takes."""

from __future__ import annotations

import errno
import random
import select
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from OpenSSL import SSL
from twisted.internet import reactor as _reactor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.internet.tcp import Server
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from chatbox.chat import transport as transport_module
from chatbox.chat.outbox import MAX_QUEUED_BYTES, Fanout, Outbox
from chatbox.chat.tcp import socket_below
from chatbox.chat.transport import (
    DirectFactory,
    DirectTransport,
    DirectWriter,
    TransportWriter,
    address_of,
    writer,
)
from chatbox.chat.turn import Turn
from chatbox.tls import load_from, secured
from tests.helpers.certificates import Authority
from tests.helpers.processes import PATIENCE

reactor: Any = _reactor


class Kernel:
    """A TCP transport whose kernel takes what the test says.

    It behaves as `twisted.internet.abstract.FileDescriptor` does towards its producer.
    """

    TLS = False

    def __init__(self) -> None:
        self.room: int | OSError = 1 << 30
        """How much the kernel takes from now on."""
        self.left = b""
        """What has left, in order."""
        self.sends = 0
        self.kept = b""
        self.producer: Any = None
        self.disconnecting = False

    def getHandle(self) -> Kernel:
        """The socket."""
        return self

    def send(self, data: bytes) -> int:
        """What the socket does."""
        self.sends += 1
        if isinstance(self.room, OSError):
            raise self.room
        if not self.room:
            raise BlockingIOError(errno.EAGAIN, "no room")
        sent = min(self.room, len(data))
        self.room -= sent
        self.left += data[:sent]
        return sent

    def write(self, data: bytes) -> None:
        """Send it when the socket can be written to."""
        self.kept += data

    def writeSequence(self, pieces: list[bytes]) -> None:
        """Send all of them."""
        self.write(b"".join(pieces))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Ask the producer when there is nothing to send."""
        assert self.producer is None and not streaming
        self.producer = producer
        producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """Ask no more."""
        self.producer = None

    def loseConnection(self) -> None:
        """End it when all has been sent."""
        self.disconnecting = True

    def drain(self, room: int) -> None:
        """The peer reads: the socket can be written to, so far."""
        self.room = room
        while self.kept and self.room:
            self.kept = self.kept[self.send(self.kept) :]
            if not self.kept and self.producer is not None:
                self.producer.resumeProducing()


class DirectWriterTests(SynchronousTestCase):
    """Writing straight to the socket."""

    def setUp(self) -> None:
        """Have an outbox that writes directly."""
        self.kernel = Kernel()
        self.waiting: list[Callable[[], None]] = []
        self.fanout = Fanout(Turn(self.waiting.append))
        self.overflows = 0
        direct = DirectWriter(self.kernel)
        self.outbox = Outbox(self.fanout, direct, on_overflow=self.overflow, on_change=lambda: None)
        direct.start(self.outbox)
        self.outbox.listen()

    def overflow(self) -> None:
        """Count."""
        self.overflows += 1

    def say(self, line: bytes) -> None:
        """One turn in which everybody hears this."""
        self.fanout.share(line)
        while self.waiting:
            self.waiting.pop(0)()

    def test_at_once(self) -> None:
        """While there is room the transport has nothing to do."""
        self.say(b"1\n")
        self.say(b"2\n")
        self.assertEqual((self.kernel.left, self.kernel.kept), (b"1\n2\n", b""))
        self.assertEqual(self.kernel.sends, 2)
        self.assertIsNone(self.kernel.producer)

    def test_part_of_it(self) -> None:
        """The rest of what was sent in part leaves before anything else."""
        self.kernel.room = 3
        self.say(b"12345\n")
        self.say(b"67\n")
        self.assertEqual((self.kernel.left, self.kernel.kept), (b"123", b"45\n"))
        self.assertTrue(self.outbox.congested)
        self.kernel.drain(2)
        self.assertEqual(self.kernel.left, b"12345")
        self.assertTrue(self.outbox.congested)
        self.kernel.drain(100)
        self.assertEqual(self.kernel.left, b"12345\n67\n")
        self.assertFalse(self.outbox.congested)
        self.assertIsNone(self.kernel.producer)
        self.say(b"8\n")
        self.assertEqual(self.kernel.left, b"12345\n67\n8\n")

    def test_none_of_it(self) -> None:
        """A socket without room is not asked again for every line."""
        self.kernel.room = 0
        self.say(b"x\n")
        asked = self.kernel.sends
        for _ in range(2):
            self.say(b"x\n")
        self.assertEqual(self.kernel.sends, asked)
        self.kernel.drain(100)
        self.assertEqual(self.kernel.left, b"x\n" * 3)

    def test_any_room(self) -> None:
        """However much the kernel takes each time, all arrives in order."""
        for seed in range(20):
            with self.subTest(seed=seed):
                self.setUp()
                self.say_with_any_room(random.Random(seed))

    def say_with_any_room(self, rng: random.Random) -> None:
        """Say a lot while the kernel takes now this, now that."""
        said = b""
        for number in range(500):
            line = b"%d %s\n" % (number, b"x" * rng.randrange(40))
            if rng.random() < 0.3:
                self.kernel.room = rng.choice([0, 1, 30, 200])
            if rng.random() < 0.3:
                self.kernel.drain(rng.choice([1, 30, 200]))
            self.say(line)
            said += line
            self.assertTrue(said.startswith(self.kernel.left))
        self.kernel.drain(1 << 30)
        self.assertEqual(self.kernel.left, said)
        self.assertIsNone(self.kernel.producer)

    def test_a_connection_that_has_ended(self) -> None:
        """That a send fails is for the transport to find out, and to say when its turn comes."""
        self.kernel.room = ConnectionResetError(errno.ECONNRESET, "reset")
        self.say(b"1\n")
        tried = self.kernel.sends
        self.say(b"2\n")
        self.assertEqual((self.kernel.left, self.kernel.kept), (b"", b"1\n"))
        self.outbox.discard()
        self.kernel.producer.stopProducing()
        self.say(b"3\n")
        self.assertEqual(self.kernel.sends, tried)

    def test_overflow(self) -> None:
        """Past the bound what waits is forgotten, but no line is cut off in the middle."""
        line = b"x" * 9999 + b"\n"
        self.kernel.room = 5
        for _ in range(MAX_QUEUED_BYTES // len(line) + 1):
            self.say(line)
        self.assertEqual(self.overflows, 0)
        self.say(line)
        self.assertEqual(self.overflows, 1)
        self.outbox.put(b"bye\n")
        self.outbox.close()
        self.assertIsNone(self.kernel.producer)
        self.kernel.drain(1 << 30)
        self.assertEqual(self.kernel.left, line + b"bye\n")

    def test_close_while_waiting(self) -> None:
        """The last words leave behind everything that waits."""
        self.kernel.room = 1
        self.say(b"1\n")
        self.say(b"2\n")
        self.outbox.put(b"bye\n")
        self.outbox.close()
        self.kernel.drain(1 << 30)
        self.assertEqual(self.kernel.left, b"1\n2\nbye\n")


class Sealer(Protocol):
    """Writes whenever it likes, as TLS does, and is told when there is enough."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def connectionMade(self) -> None:
        """Be told."""
        transport: Any = self.transport
        transport.registerProducer(self, True)

    def pauseProducing(self) -> None:
        """There is enough."""
        self.told.append("pause")

    def resumeProducing(self) -> None:
        """There may be more."""
        self.told.append("resume")


class DirectTransportTests(SynchronousTestCase):
    """A transport that sends at once, below a protocol that does not wait."""

    def setUp(self) -> None:
        """Have one whose kernel takes what we say."""
        self.patch(transport_module, "writer", DirectWriter)
        self.kernel = Kernel()
        self.sealer = Sealer()
        factory = DirectFactory(Factory.forProtocol(lambda: self.sealer))
        direct = factory.buildProtocol(None)
        assert isinstance(direct, DirectTransport)
        self.direct = direct
        self.direct.makeConnection(self.kernel)

    def test_at_once(self) -> None:
        """While there is room the transport below has nothing to do."""
        self.direct.write(b"1")
        self.direct.writeSequence([b"2", b"3"])
        self.assertEqual((self.kernel.left, self.kernel.sends), (b"123", 2))
        self.assertEqual(self.sealer.told, [])

    def test_full(self) -> None:
        """What does not go waits, in order, and the producer with it until all has left."""
        self.kernel.room = 1
        for piece in (b"12", b"34", b"56"):
            self.direct.write(piece)
        self.assertEqual((self.kernel.left, self.sealer.told), (b"1", ["pause"]))
        self.kernel.drain(2)
        self.assertEqual((self.kernel.left, self.sealer.told), (b"123", ["pause", "pause"]))
        self.kernel.drain(100)
        self.assertEqual(self.kernel.left, b"123456")
        self.assertEqual(self.sealer.told, ["pause", "pause", "resume"])
        self.direct.unregisterProducer()
        self.kernel.room = 0
        self.direct.write(b"7")
        self.kernel.drain(1)
        self.assertEqual(self.kernel.left, b"1234567")
        self.assertEqual(len(self.sealer.told), 3)

    def test_end_while_waiting(self) -> None:
        """The last words leave behind everything that waits; nothing overtakes them."""
        self.kernel.room = 1
        for piece in (b"12", b"34", b"bye"):
            self.direct.write(piece)
        self.direct.loseConnection()
        self.assertTrue(self.kernel.disconnecting)
        self.kernel.room = 100
        self.direct.write(b"too late")
        self.direct.loseConnection()
        self.kernel.drain(100)
        self.assertEqual(self.kernel.left, b"1234bye")
        self.assertIsNone(self.kernel.producer)


class ChoiceTests(SynchronousTestCase):
    """Which transport may be written to directly."""

    def test_plain_tcp_only(self) -> None:
        """TLS and whatever we do not know keep their own counsel."""
        plain: Any = Server.__new__(Server)
        plain.socket = Kernel()
        self.assertIsInstance(writer(plain), DirectWriter)
        plain.TLS = True
        self.assertIsInstance(writer(plain), TransportWriter)
        self.assertIsInstance(writer(StringTransport()), TransportWriter)


class Speaker(Protocol):
    """Shares lines through a real outbox as long as its client is not far behind."""

    def __init__(self, lines: list[bytes], paused: Callable[[], None]) -> None:
        self.lines = lines
        self.paused = paused
        self.direct = False

    def connectionMade(self) -> None:
        """Begin."""
        way_out = writer(self.transport)
        self.direct = isinstance(way_out, DirectWriter)
        self.fanout = Fanout(Turn(lambda work: reactor.callLater(0, work)))
        self.outbox = Outbox(self.fanout, way_out, on_overflow=self.fail, on_change=self.reconsider)
        way_out.start(self.outbox)
        self.outbox.listen()
        self.reconsider()

    def fail(self) -> None:
        """Nothing may be lost here."""
        raise AssertionError("overflow")

    def reconsider(self) -> None:
        """Go on, or have the client read."""
        if self.outbox.congested:
            self.paused()
        else:
            reactor.callLater(0, self.go_on)

    def go_on(self) -> None:
        """Share the next line."""
        if self.outbox.congested:
            return
        if self.lines:
            self.fanout.share(self.lines.pop(0))
            reactor.callLater(0, self.go_on)
        else:
            self.outbox.close()
            assert self.transport is not None
            self.transport.loseConnection()


class Listener(Protocol):
    """Takes everything, but nothing before it is told to, and stops now and then."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.heard: list[bytes] = []
        self.done: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        """Read nothing yet."""
        self.pause()

    def pause(self) -> None:
        """Do not read."""
        transport: Any = self.transport
        transport.pauseProducing()

    def resume(self) -> None:
        """Read."""
        transport: Any = self.transport
        if transport is not None and transport.connected:
            transport.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        """Take a piece."""
        self.heard.append(data)
        if self.rng.random() < 0.1:
            self.pause()
            reactor.callLater(0, self.resume)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """That was all."""
        self.done.callback(b"".join(self.heard))


class Client(CertificateOptions):
    """Speaks TLS with anybody."""

    def clientConnectionForTLS(self, _: object) -> SSL.Connection:
        """Make our end."""
        return SSL.Connection(self.getContext(), None)


def with_tls(factory: Factory, folder: Path) -> Any:
    """Put TLS around the connections of a factory."""
    path = folder / "localhost.pem"
    Authority(folder).issue(path)
    load = load_from(f"ssl:0:privateKey={path}:certKey={path}", str(folder), reactor.seconds)
    creator: Any = load()  # it provides the interface, which mypy does not see
    return secured(creator, factory)


@pytest.mark.parametrize("tls", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_real_kernel(tls: bool, tmp_path: Path) -> None:
    """Through a real socket that is full again and again, everything arrives in order."""
    rng = random.Random(5)
    lines = [b"%d %s\n" % (n, b"x" * rng.randrange(200_000)) for n in range(200)]
    whole = b"".join(lines)
    pauses: list[None] = []
    listener = Listener(rng)

    def paused() -> None:
        pauses.append(None)
        listener.resume()

    speaker = Speaker(lines, paused)
    factory: Any = Factory.forProtocol(lambda: speaker)
    factory = with_tls(factory, tmp_path) if tls else factory
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    try:
        client: Any = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        client = wrapClientTLS(Client(), client) if tls else client
        await connectProtocol(client, listener)
        heard = await listener.done
    finally:
        await port.stopListening()
    assert speaker.direct is not tls
    assert heard == whole
    assert pauses


class Answerer(Protocol):
    """Writes when it has heard something, and looks what the other end's socket has by then."""

    def __init__(self) -> None:
        self.there: Deferred[bool] = Deferred()
        """Whether it was there before another turn began."""
        self.peer: Any = None

    def dataReceived(self, data: bytes) -> None:
        """Write."""
        expected = self.waiting() + 101
        assert self.transport is not None
        self.transport.write(b"x" * 100)
        # It has left, and the kernel may take its time to carry it.
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, expected)
        select.select([self.peer], [], [], PATIENCE)
        self.there.callback(self.waiting() >= expected)

    def waiting(self) -> int:
        """How many bytes have come for the peer, who has not read them."""
        try:
            return len(self.peer.recv(1 << 16, socket.MSG_PEEK))
        except BlockingIOError:
            return 0


@pytest_twisted.ensureDeferred
async def test_tls_leaves_at_once(tmp_path: Path) -> None:
    """What is written to TLS has left when the write returns, without another turn."""
    answerer = Answerer()
    factory = with_tls(Factory.forProtocol(lambda: answerer), tmp_path)
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    try:
        client = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        protocol = await connectProtocol(wrapClientTLS(Client(), client), Protocol())
        assert protocol.transport is not None
        answerer.peer = socket_below(protocol.transport)
        protocol.transport.write(b"hello")
        there = await answerer.there
        protocol.transport.abortConnection()
    finally:
        await port.stopListening()
    assert there


class AddressTests(SynchronousTestCase):
    """What a peer is called in the log."""

    def test_as_people_write_it(self) -> None:
        """An address of IPv4 looks like one, whatever socket it comes by."""
        for address, expected in (
            (IPv4Address("TCP", "192.0.2.1", 5), "192.0.2.1 port 5"),
            (IPv6Address("TCP", "::ffff:192.0.2.1", 5), "192.0.2.1 port 5"),
            (IPv6Address("TCP", "2001:db8::1", 5), "2001:db8::1 port 5"),
            (IPv6Address("TCP", "fe80::1%eth0", 5), "fe80::1%eth0 port 5"),
            (UNIXAddress("/run/x"), "local"),
        ):
            self.assertEqual(address_of(address), expected)
