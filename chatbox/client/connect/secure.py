"""Connecting with TLS: whoever connects gets a protocol only if the server may be trusted.

The client speaks first in a chat, so nothing has been said when the handshake is over: that is when
the certificate is judged, and a person asked if need be. OpenSSL's own verdict is taken down, not
obeyed (the callback says yes to everything), since it knows authorities and no fingerprints. That
the server has the key of its certificate is what the handshake itself proves.

Only then the factory makes its protocol. So a protocol never sees a server that is not trusted, and
whoever connects again later, such as the `Reconnector`, need not know of any of this.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any, Final

import idna
from cryptography import x509
from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import verify_certificate_hostname, verify_certificate_ip_address
from twisted.internet.defer import Deferred, TimeoutError, maybeDeferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions, platformTrust
from twisted.python.failure import Failure
from zope.interface import implementer

from chatbox.certificates import fingerprint
from chatbox.client.connect.trust import Meeting, Trust, Verdict, place_of
from chatbox.client.exits import Exit, Stop
from chatbox.text import printable

__all__ = ["HANDSHAKE_TIMEOUT", "Ask", "SecureEndpoint"]

HANDSHAKE_TIMEOUT: Final = 20.0
"""Seconds for the handshake: it takes two round trips."""

MAX_EARLY_BYTES: Final = 1 << 16
"""What a server may say before it is trusted: a word of refusal. More is no chat server."""

_DOUBTS: Final = {
    9: "its certificate is not valid yet",
    10: "its certificate is out of date",
    18: "its certificate is of its own making",
    19: "its authority is not known here",
    20: "its authority is not known here",
    21: "its authority is not known here",
    23: "its certificate has been revoked",
}
"""In words, what OpenSSL can have against a certificate (``X509_V_ERR`` in its x509_vfy.h)."""

Ask = Callable[[Meeting], "Deferred[bool] | bool"]
"""Decides whether a new server may be trusted."""


@implementer(IStreamClientEndpoint)
class SecureEndpoint:
    """A server at `host` and TCP `port`, with TLS. `ask` is for servers that are not known."""

    def __init__(
        self, reactor: Any, host: str, port: int, trust: Trust, ask: Ask, *, timeout: float
    ) -> None:
        self._reactor = reactor
        self._host = host
        self._place = place_of(host, port)
        self._trust = trust
        self._ask = ask
        self._tcp = HostnameEndpoint(reactor, host, port, timeout=timeout)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect, shake hands, judge. Fails with Stop, in words, if that is no server for us."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        creator = _Creator(self._host)
        endpoint = wrapClientTLS(creator, self._tcp)
        handshake: Any = await endpoint.connect(Factory.forProtocol(_Handshake))
        try:
            await handshake.done.addTimeout(HANDSHAKE_TIMEOUT, self._reactor)
            certificate = handshake.transport.getPeerCertificate().to_cryptography()
            doubt = creator.doubt or _doubt_about_name(certificate, self._host)
            await self._judge(Meeting(self._place, fingerprint(certificate), doubt))
            return handshake.give_way(factory)  # type: ignore[no-any-return]  # Twisted's is Any
        except (SSL.Error, TimeoutError, ConnectionDone, ConnectionLost) as error:
            handshake.abort()
            raise Stop(
                Exit.NO_CONNECTION,
                f"{self._place} does not speak TLS as we do{_reason(error)}. Is the port the one"
                " for TLS, and is it a chatbox server?",
            ) from None
        except BaseException:
            handshake.abort()
            raise

    async def _judge(self, meeting: Meeting) -> None:
        if self._trust.judge(meeting) is Verdict.ASK:
            if not await maybeDeferred(self._ask, meeting):
                raise Stop(Exit.NOT_TRUSTED, f"{meeting.place} is not trusted. Nothing was sent.")
            self._trust.accept(meeting)


@implementer(IHandshakeListener)
class _Handshake(Protocol):
    """Holds a new connection until another protocol may have it."""

    def __init__(self) -> None:
        self.done: Deferred[None] = Deferred()
        self._early = b""
        self._lost: Failure | None = None

    def handshakeCompleted(self) -> None:
        """There are keys, and a certificate."""
        if not self.done.called:
            self.done.callback(None)

    def dataReceived(self, data: bytes) -> None:
        """The server speaks first, which it does to refuse us."""
        self._early += data
        if len(self._early) > MAX_EARLY_BYTES:
            self._transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The server, or one of us, has hung up."""
        self._lost = reason
        if not self.done.called:
            self.done.errback(reason)

    def give_way(self, factory: IProtocolFactory) -> IProtocol:
        """Let a protocol of `factory` have the connection, with what has come already."""
        protocol = factory.buildProtocol(self._transport.getPeer())
        assert protocol is not None
        self._transport.wrappedProtocol = protocol
        protocol.makeConnection(self._transport)
        if self._early:
            protocol.dataReceived(self._early)
        if self._lost is not None:
            protocol.connectionLost(self._lost)
        return protocol

    def abort(self) -> None:
        """Hang up, unless that has happened."""
        if self._lost is None:
            self._transport.abortConnection()

    @property
    def _transport(self) -> Any:
        # It is TLS's, whose inner protocol can be replaced.
        return self.transport


@implementer(IOpenSSLClientConnectionCreator)
class _Creator:
    """Makes the client's end of one connection; `doubt` is what OpenSSL says against the server."""

    def __init__(self, host: str) -> None:
        self._name = _ascii_name(host)
        self.doubt: str | None = None

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """Make it."""
        context = CertificateOptions(trustRoot=platformTrust()).getContext()
        connection = SSL.Connection(context, None)
        if self._name is not None:
            connection.set_tlsext_host_name(self._name)
        connection.set_verify(SSL.VERIFY_PEER, self._note)
        return connection

    def _note(self, _: object, __: object, number: int, depth: int, ok: int) -> bool:
        if not ok and self.doubt is None:
            self.doubt = _DOUBTS.get(number, f"its certificate is refused, error {number}")
        return True


def _ascii_name(host: str) -> bytes | None:
    """The name to ask for (RFC 6066 section 3); addresses are no names."""
    if _is_address(host):
        return None
    try:
        return host.encode() if host.isascii() else idna.encode(host, uts46=True)
    except idna.IDNAError as error:
        raise Stop(
            Exit.USAGE, f"{printable(host)} is not a host's name ({printable(str(error))})."
        ) from None


def _doubt_about_name(certificate: x509.Certificate, host: str) -> str | None:
    """Why a certificate is not one for `host` (RFC 9525), None if it is."""
    try:
        if _is_address(host):
            verify_certificate_ip_address(certificate, host)
        else:
            verify_certificate_hostname(certificate, host)
    except (VerificationError, CertificateError):
        return "its certificate is for another name"
    return None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _reason(error: Exception) -> str:
    """OpenSSL gives a list of (library, function, reason)."""
    reasons = error.args[0] if error.args else ""
    if not isinstance(reasons, list):
        return ""
    return f" ({printable(', '.join(str(one[-1]) for one in reasons))})"
