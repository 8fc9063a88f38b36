"""A way to a server that fails when told to: it stalls, and breaks in the middle of a word."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from tests.helpers.server import free_port


class Proxy:
    """Carries bytes between clients and a server on this machine; `port` is where it listens."""

    def __init__(self, reactor: Any, server_port: int) -> None:
        self.reactor = reactor
        self.server_port = server_port
        self.port = free_port(socket.SOCK_STREAM)
        self.stalled = False
        """Whether replies wait until the end of the stall."""
        self.cuts = 0
        self._left: int | None = None
        self._ways: list[_Near] = []
        factory = Factory.forProtocol(lambda: _Near(self))
        factory.noisy = False
        self._listening = reactor.listenTCP(self.port, factory, interface="127.0.0.1")

    def cut_after(self, size: int) -> None:
        """Break that connection which carries the last of the next `size` bytes of replies."""
        self._left = size

    def go_on(self) -> None:
        """End a stall."""
        self.stalled = False
        for way in self._ways:
            way.pass_on(b"")

    def close(self) -> None:
        """Listen no more, and break everything."""
        self._listening.stopListening()
        for way in list(self._ways):
            way.cut()

    def allowed(self, size: int) -> int:
        """How many of so many bytes may pass before a break."""
        if self._left is None or size < self._left:
            self._left = None if self._left is None else self._left - size
            return size
        allowed, self._left = self._left, None
        self.cuts += 1
        return allowed


class _Near(Protocol):
    """The client's side."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._asked: list[bytes] = []
        self._replies: list[bytes] = []
        self._far: Any = None

    def connectionMade(self) -> None:
        """Connect to the server as well."""
        from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

        self._proxy._ways.append(self)
        endpoint = TCP4ClientEndpoint(self._proxy.reactor, "127.0.0.1", self._proxy.server_port)
        d: Any = connectProtocol(endpoint, _Far(self))
        d.addCallbacks(self._connected, lambda _: self.cut())

    def _connected(self, far: Any) -> None:
        self._far = far
        far.transport.write(b"".join(self._asked))

    def dataReceived(self, data: bytes) -> None:
        """Pass on what is asked."""
        if self._far is None:
            self._asked.append(data)
        else:
            self._far.transport.write(data)

    def pass_on(self, data: bytes) -> None:
        """Pass on what is replied, or as much as may pass."""
        self._replies.append(data)
        if self._proxy.stalled or self.transport is None:
            return
        data = b"".join(self._replies)
        self._replies.clear()
        allowed = self._proxy.allowed(len(data))
        self.transport.write(data[:allowed])
        if allowed < len(data):
            self.transport.loseConnection()

    def cut(self) -> None:
        """Break both sides."""
        sides: tuple[Any, ...] = (self.transport, self._far and self._far.transport)
        for side in sides:
            if side is not None:
                side.abortConnection()

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Close the other side."""
        self.transport = None
        self._proxy._ways.remove(self)
        if self._far is not None:
            self._far.transport.abortConnection()


class _Far(Protocol):
    """The server's side."""

    def __init__(self, near: _Near) -> None:
        self._near: Any = near

    def dataReceived(self, data: bytes) -> None:
        """Pass it on."""
        self._near.pass_on(data)

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Close the other side."""
        if self._near.transport is not None:
            self._near.transport.abortConnection()
