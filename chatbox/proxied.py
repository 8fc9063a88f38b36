"""Listening behind a proxy that says for whom it speaks.

To a server behind a proxy everybody comes from the proxy's address, often loopback: all share one
limit, a ban would hit all, and all pass for local, who may be operators and send passwords in the
clear. So proxies can send a header ahead of what the client says (the PROXY protocol of HAProxy,
versions 1 and 2), and ``haproxy:`` in front of an endpoint reads it.

Twisted's wrapper knows the header, but tells what is inside of the connection before the header has
come, when the address is still the proxy's, and wants enough of the header in one piece. Here a
connection is held back until the header has come, in pieces of any size, and nobody inside ever
sees the proxy. What comes without an address is hung up on: the header says so itself where a proxy
looks whether the server lives, or does not know whom it speaks for.

Whoever reaches the port around the proxy can say any address. It must listen where only the proxy
comes.
"""

# mypy: allow-untyped-calls
# Twisted's wrappers have no annotations yet.

from __future__ import annotations

from typing import Any, Final

from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IProtocolFactory,
    IReactorTime,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.haproxy._v1parser import V1Parser
from twisted.protocols.haproxy._v2parser import V2Parser
from twisted.protocols.haproxy._wrapper import HAProxyProtocolWrapper
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure
from zope.interface import directlyProvides, providedBy

__all__ = ["HEADER_SECONDS", "MAX_HELD", "ProxiedFactory"]

HEADER_SECONDS: Final = 10.0
"""How long a header may take. A proxy sends it with its first packet."""

MAX_HELD: Final = 1024
"""Connections that wait for their header. What comes on top is hung up on."""

_BEGINNINGS: Final = {V1Parser.PROXYSTR: 8, V2Parser.PREFIX: 16}
"""How headers begin, and how many bytes of one Twisted has to have at first."""


class ProxiedFactory(WrappingFactory):
    """Makes the connections of `factory` when their headers have come."""

    noisy = False

    def __init__(self, factory: IProtocolFactory, clock: IReactorTime) -> None:
        super().__init__(factory)
        self.clock = clock
        self.held = 0

    def logPrefix(self) -> str:
        """What Twisted calls us when it says that a port starts."""
        return f"{self.wrappedFactory.logPrefix()} (behind a proxy)"

    def buildProtocol(self, addr: IAddress | None) -> _Proxied | None:  # type: ignore[override]  # Factory may
        """Hold a connection back. `addr` is the proxy's."""
        if self.held >= MAX_HELD:
            return None
        inner = self.wrappedFactory.buildProtocol(addr)
        return None if inner is None else _Proxied(self, inner)


class _Ahead(Protocol):
    """Keeps what comes with the header for who comes next."""

    data = b""

    def dataReceived(self, data: bytes) -> None:
        self.data += data


class _Proxied(HAProxyProtocolWrapper):
    """One connection of the proxy's, and then the transport of the protocol inside."""

    factory: ProxiedFactory

    def __init__(self, factory: ProxiedFactory, inner: Any) -> None:
        self._inner = inner
        self._ahead = _Ahead()
        self._beginning = b""
        """The first of the header, as long as that is too little for Twisted."""
        self._timer: IDelayedCall | None = None
        super().__init__(factory, self._ahead)  # type: ignore[arg-type]  # it says only WrappingFactory

    def makeConnection(self, transport: Any) -> None:
        """Wait for the header; the protocol inside hears nothing yet."""
        directlyProvides(self, providedBy(transport))
        Protocol.makeConnection(self, transport)
        self.factory.registerProtocol(self)
        self.factory.held += 1
        self._timer = self.factory.clock.callLater(HEADER_SECONDS, transport.abortConnection)

    def dataReceived(self, data: bytes) -> None:
        """Some of the header, or what stands behind it."""
        if self._parser is None:
            data, self._beginning = self._beginning + data, b""
            if _is_short(data):
                self._beginning = data
                return
        super().dataReceived(data)
        if self._timer is None:
            return
        assert self.transport is not None
        if self.getPeer() != self.transport.getPeer():
            self._begin()
        elif self._ahead.data:
            self.loseConnection()

    def __conform__(self, interface: Any) -> Any:
        """Have what is inside hear of it if the client has ended its side, if it wants to know.

        It is asked itself, and adapted to nothing: TLS, which does not want to know, passes on all
        that it lacks to its transport, which is this.
        """
        hears = interface is IHalfCloseableProtocol and interface.providedBy(self.wrappedProtocol)
        return self.wrappedProtocol if hears else None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The proxy is gone, and the client with it."""
        self._release()
        super().connectionLost(reason)

    def _begin(self) -> None:
        self._release()
        self.wrappedProtocol = self._inner
        self._inner.makeConnection(self)
        if self._ahead.data:
            self._inner.dataReceived(self._ahead.data)

    def _release(self) -> None:
        if self._timer is not None:
            self.factory.held -= 1
            if self._timer.active():
                self._timer.cancel()
            self._timer = None


def _is_short(data: bytes) -> bool:
    """Whether this may be the beginning of a header, of which more must come to know."""
    return any(
        len(data) < least and beginning.startswith(data[: len(beginning)])
        for beginning, least in _BEGINNINGS.items()
    )
