"""Behind a proxy: nobody inside sees the proxy, and nobody outside passes for it."""

from __future__ import annotations

import socket
import ssl
import struct
from pathlib import Path

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol, IProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides

from chatbox.proxied import HEADER_SECONDS, MAX_HELD, ProxiedFactory
from tests.helpers.processes import PATIENCE, Running, script
from tests.helpers.server import free_port

PROXY = IPv4Address("TCP", "127.0.0.1", 40000)
HERE = IPv4Address("TCP", "127.0.0.1", 50000)
ANN = IPv4Address("TCP", "203.0.113.5", 4000)
HEADER = b"PROXY TCP4 203.0.113.5 198.51.100.1 4000 50000\r\n"

V2 = b"\r\n\r\n\0\r\nQUIT\n"
"""How a header of version 2 begins."""


def header_v2(source: str) -> bytes:
    """A header of version 2 for a client with an IPv6 address."""
    addresses = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(
        socket.AF_INET6, "2001:db8::1"
    )
    body = addresses + struct.pack("!HH", 4000, 50000)
    return V2 + struct.pack("!BBH", 0x21, 0x21, len(body)) + body


class Inner(Protocol):
    """What is inside: it notes what it hears."""

    def __init__(self, notes: list[object]) -> None:
        self.notes = notes

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.notes.append(self.transport.getPeer())

    def dataReceived(self, data: bytes) -> None:
        self.notes.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.notes.append("lost")


class Wire(StringTransportWithDisconnection):
    """A connection of the proxy's."""

    def __init__(self, protocol: IProtocol) -> None:
        super().__init__(HERE, PROXY)
        self.protocol = protocol
        protocol.makeConnection(self)

    def abortConnection(self) -> None:
        """As a socket's."""
        self.loseConnection()


class ProxiedTests(SynchronousTestCase):
    """A connection, from the proxy to what is inside."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.notes: list[object] = []

        class Inside(Factory):
            def buildProtocol(inner, addr: IAddress | None) -> Protocol:
                return Inner(self.notes)

        self.factory = ProxiedFactory(Inside(), self.clock)

    def connect(self) -> Wire:
        """The proxy connects."""
        protocol = self.factory.buildProtocol(PROXY)
        assert protocol is not None
        return Wire(protocol)

    def test_name(self) -> None:
        """The log calls it what it calls the factory inside, and says what is in front."""
        self.assertEqual(self.factory.logPrefix(), "Inside (behind a proxy)")
        self.assertFalse(self.factory.noisy)

    def test_held_back(self) -> None:
        """The connection begins with the header, with the client's address, and nothing is lost."""
        for cut in range(1, len(HEADER) + 4):
            self.notes.clear()
            wire = self.connect()
            wire.protocol.dataReceived((HEADER + b"hello")[:cut])
            self.assertEqual(self.notes[:1], [ANN] if cut >= len(HEADER) else [])
            wire.protocol.dataReceived((HEADER + b"hello")[cut:])
            self.assertEqual(self.notes[0], ANN)
            self.assertEqual(b"".join(part for part in self.notes[1:]), b"hello")  # type: ignore[misc]
            self.clock.advance(2 * HEADER_SECONDS)
            self.assertTrue(wire.connected)
            wire.loseConnection()
            self.assertEqual(self.notes[-1], "lost")
        self.assertEqual(self.factory.held, 0)

    def test_version_2(self) -> None:
        """The binary header, with an address of IPv6."""
        wire = self.connect()
        wire.protocol.dataReceived(header_v2("2001:db8::7") + b"hello")
        self.assertEqual(self.notes, [IPv6Address("TCP", "2001:db8:0:0:0:0:0:7", 4000), b"hello"])

    def test_byte_by_byte(self) -> None:
        """A header may come in pieces of any size."""
        for header in (HEADER, header_v2("2001:db8::7")):
            self.notes.clear()
            wire = self.connect()
            for byte in header + b"hello":
                wire.protocol.dataReceived(bytes([byte]))
            self.assertEqual(self.notes[1:], [b"h", b"e", b"l", b"l", b"o"])

    def test_half_closed(self) -> None:
        """Who is inside hears that the client has ended its side, if they want to know."""
        wire = self.connect()
        wire.protocol.dataReceived(HEADER)
        self.assertIsNone(IHalfCloseableProtocol(wire.protocol, None))
        inner = wire.protocol.wrappedProtocol  # type: ignore[attr-defined]  # it is a wrapper
        alsoProvides(inner, IHalfCloseableProtocol)
        self.assertIs(IHalfCloseableProtocol(wire.protocol, None), inner)
        early = self.connect()
        early.protocol.dataReceived(HEADER[:-1])
        self.assertIsNone(IHalfCloseableProtocol(early.protocol, None))

    def test_nobody_named(self) -> None:
        """A proxy that speaks for nobody, as when it looks whether we live, gets nothing."""
        for header in (b"PROXY UNKNOWN 1 2 3 4\r\n", V2 + struct.pack("!BBH", 0x20, 0, 0)):
            wire = self.connect()
            wire.protocol.dataReceived(header + b"hello")
            self.assertFalse(wire.connected)
            wire = self.connect()
            wire.protocol.dataReceived(header)
            self.assertTrue(wire.connected)
            self.clock.advance(HEADER_SECONDS)
            self.assertFalse(wire.connected)
        self.assertEqual((self.notes, self.factory.held), ([], 0))

    def test_no_header(self) -> None:
        """Who comes around the proxy gets nothing, nor does who is silent."""
        for said in (
            b"<s:op><t:connect>\n",
            b"PROXY TCP4 nonsense\r\n",
            b"\0",
            b"\r\n<",
            V2 + b"\x91abc",
        ):
            wire = self.connect()
            wire.protocol.dataReceived(said)
            self.assertFalse(wire.connected, said)
        wire = self.connect()
        self.clock.advance(HEADER_SECONDS)
        self.assertFalse(wire.connected)
        self.connect().loseConnection()
        self.assertEqual((self.notes, self.factory.held), ([], 0))

    def test_many(self) -> None:
        """No more than so many wait for their header; those that had it do not count."""
        wires = [self.connect() for _ in range(MAX_HELD)]
        self.assertIsNone(self.factory.buildProtocol(PROXY))
        wires[0].protocol.dataReceived(HEADER)
        self.assertIsNotNone(self.factory.buildProtocol(PROXY))
        for wire in wires:
            wire.loseConnection()
        self.assertEqual(self.factory.held, 0)


def talk(port: int, header: bytes, said: bytes, *, tls: bool = False) -> bytes:
    """Say something through the proxy; the first line of the answer."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as plain:
        plain.sendall(header)
        stream = plain
        if tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            stream = context.wrap_socket(plain)
        stream.sendall(said)
        with stream.makefile("rb") as lines:
            return lines.readline()


def test_nobody_is_local(tmp_path: Path) -> None:
    """
    Who comes through a proxy of this machine is no operator for it, sends no password in the clear,
    and has limits of their own.
    """
    (tmp_path / "files").mkdir()
    (tmp_path / "operators").write_text("op\n")
    port, secure = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_STREAM)
    command = [
        *script("twistd"),
        *("-n", "--pidfile=", "chatbox", "--files", "files", "--log", "memory:", "--no-announce"),
        *("--listen", f"haproxy:tcp:{port}:interface=127.0.0.1", "--state-dir", "state"),
        *("--listen", f"tls-self-signed:haproxy:tcp:{secure}:interface=127.0.0.1"),
        *("--udp-ports", "0", "--operators", "operators", "--max-connections-per-address", "1"),
    ]
    with Running(command, cwd=tmp_path) as server:
        server.read_until("TLS on .* its fingerprint is")
        # Each time from another address, lest the last connection counts still.
        others = [HEADER.replace(b"203.0.113.5", b"203.0.113.%d" % n) for n in range(6, 10)]
        assert b"<e:name-reserved>" in talk(port, others[0], b"<s:op><t:connect>\n")
        assert b"<m:True>" in talk(port, header_v2("::1"), b"<s:op><t:connect>\n")
        assert b"<e:name-reserved>" in talk(secure, others[1], b"<s:op><t:connect>\n", tls=True)
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as first:
            first.sendall(HEADER + b"<s:ann><t:connect>\n")
            assert b"<m:True>" in first.recv(4096)
            assert b"<e:too-many-from-address>" in talk(port, HEADER, b"<s:bob><t:connect>\n")
            assert b"<m:True>" in talk(port, others[2], b"<s:bob><t:connect>\n")
        server.read_until("ann joined from 203.0.113.5")
        # Who has ended their side, as netcat does when its input ends, still gets their answers.
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as ended:
            ended.sendall(others[3] + b"<s:eve><t:connect>\n<t:ping><q:7>\n")
            ended.shutdown(socket.SHUT_WR)
            with ended.makefile("rb") as lines:
                assert b"<p:ping_response><q:7>" in lines.read()
