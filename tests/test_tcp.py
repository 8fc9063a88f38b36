"""What the kernel is told about a connection of the chat."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.protocol import Factory
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase

from chatbox.chat.tcp import CLIENT_TIMEOUT_MS, SERVER_TIMEOUT_MS, tune
from chatbox.client.chat.session import ClientSession
from chatbox.client.connect.connection import ChatConnection


class Transport(StringTransport):
    """One with a socket below."""

    def __init__(self, below: socket.socket) -> None:
        super().__init__()
        self._below = below

    def getHandle(self) -> socket.socket:
        """Return the socket, as Twisted's transports do."""
        return self._below


class TuneTests(SynchronousTestCase):
    """Sockets that are connected to nobody take the options too."""

    def make_socket(self, family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
        """Make one, for this test."""
        made = socket.socket(family, socket.SOCK_STREAM)
        self.addCleanup(made.close)
        return made

    def check(self, tuned: socket.socket, timeout_ms: int) -> None:
        """See that the peer of this socket is looked for."""
        self.assertTrue(tuned.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
        self.assertTrue(tuned.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            self.assertEqual(tuned.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 60)
            found = tuned.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            self.assertEqual(found, timeout_ms)

    def test_client(self) -> None:
        """A client looks for a server that has vanished, with TLS between too."""
        for tls in (False, True):
            below = self.make_socket()
            factory: Any = Factory.forProtocol(lambda: ChatConnection(ClientSession()))
            if tls:
                factory = TLSMemoryBIOFactory(optionsForClientTLS("h"), True, factory)
            factory.buildProtocol(None).makeConnection(Transport(below))
            self.check(below, CLIENT_TIMEOUT_MS)

    def test_who_gives_up_first(self) -> None:
        """A client is back before the server gives its name away."""
        self.assertLess(CLIENT_TIMEOUT_MS, SERVER_TIMEOUT_MS)

    def test_no_tcp(self) -> None:
        """What is no TCP is left alone."""
        tune(StringTransport(), SERVER_TIMEOUT_MS)
        below = self.make_socket(socket.AF_UNIX)
        tune(Transport(below), SERVER_TIMEOUT_MS)
        self.assertFalse(below.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
