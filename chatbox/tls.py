"""Listening with TLS: where the certificate comes from, and how a renewed one is taken up.

Four kinds of descriptions speak TLS. Two are Twisted's own:

- ``ssl:PORT:privateKey=FILE:certKey=FILE`` names the files;
- ``tls:FOLDER:port=PORT`` takes all ``.pem`` files of a folder, such as one of certbot's, and finds
  the certificate by the name that the client asks for (SNI); see `chatbox.pems`.

Two are ours (`chatbox.descriptions`), and stand in front of any other, such as ``tcp:50001`` or one
of a socket that systemd has opened:

- ``tls-self-signed:`` uses the certificate of `chatbox.certificates`;
- ``tls-from:FOLDER:`` takes certificates from a folder as ``tls:`` does.

Twisted reads the files once; its ``tls:`` reads them again when a client asks for a name that it
does not know, and not when they are renewed. So here the description is read again every
`RELOAD_SECONDS` that somebody connects, for all kinds alike. What cannot be read leaves
everything as it was, and says so in the log.

What TLS is given leaves at once. Twisted's own gathers small writes for a turn of the reactor, and
sends them in the next; the chat has gathered them already (see `chatbox.chat.outbox`).

Way not taken: watching the files. Reading takes some milliseconds; knowing which files a
description means would take its parsers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import Any, Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from twisted.application.internet import StreamServerEndpointService
from twisted.internet.endpoints import (
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    quoteStringArgument,
    serverFromString,
)
from twisted.internet.interfaces import (
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from chatbox.certificates import fingerprint, refresh_self_signed, show_fingerprint
from chatbox.chat.transport import DirectFactory
from chatbox.descriptions import SELF_SIGNED, read_description, unescaped
from chatbox.errors import CannotStart, LocalError
from chatbox.pems import Identity, read_folder
from chatbox.proxied import ProxiedFactory
from chatbox.steady import wall_clock

__all__ = [
    "BACKLOG",
    "RELOAD_SECONDS",
    "Certificate",
    "ListeningService",
    "check_endpoint",
    "load_from",
]

RELOAD_SECONDS: Final = 60.0
"""How old what we have read may be when somebody connects: a renewed certificate is served after a
minute at most, and a flood of connections does not make us read."""

BACKLOG: Final = 4096
"""Connections that may wait to be accepted, unless a description says ``backlog=``. Twisted's 50
are soon too few: when a server restarts all come at once, and whoever finds no room tries again
only a second later. Linux allows no more than this by itself (net.core.somaxconn)."""

_MAX_STEPS: Final = 10
_MAX_FLIGHT_BYTES: Final = 1 << 20
"""Bounds of a handshake with ourselves: it takes four steps, and some kilobytes each."""

_HAS_BACKLOG: Final = re.compile(r"(tcp6?|ssl):.")

_CLIENT: Final = SSL.Context(SSL.TLS_CLIENT_METHOD)
"""A client that takes any certificate."""

_log = Logger()


class _Creator(Protocol):
    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """Make the server's end of a connection."""


Load = Callable[[], _Creator]
"""Reads a certificate and its key."""


@implementer(IOpenSSLServerConnectionCreator)
class Certificate:
    """A certificate with its key, for the connections of one port; `load` makes what it serves.

    `place` is what the operator calls the port, `now` a clock in seconds.
    """

    def __init__(self, place: str, load: Load, now: Callable[[], float]) -> None:
        self._place = place
        self._load = load
        self._now = now
        self._creator: _Creator | None = None
        self._loaded_at = 0.0
        self._served = b""
        self._failing = False

    def load(self) -> None:
        """Read everything anew. Raises LocalError in words; then what was served still is."""
        self._loaded_at = self._now()
        self._creator, served = self.read()
        self._failing = False
        encoded = served.public_bytes(Encoding.DER)
        if encoded != self._served:
            self._served = encoded
            end = served.not_valid_after_utc
            ended = end.timestamp() <= self._now()
            _log.emit(
                LogLevel.warn if ended else LogLevel.info,
                "TLS on {place}: the certificate is good {how_long} {end}, and its fingerprint is"
                " {fingerprint}",
                place=self._place,
                how_long="no longer, since" if ended else "until",
                end=f"{end:%Y-%m-%d}",
                fingerprint=show_fingerprint(fingerprint(served)),
            )

    def read(self) -> tuple[_Creator, x509.Certificate]:
        """Return what serves connections, and what it shows. Raises LocalError in words."""
        try:
            creator = self._load()
            return creator, _shake_hands(creator, _CLIENT)
        except Exception as error:  # each kind of description has its own parser and its own errors
            raise LocalError(f"no TLS on {self._place}: {_words(error)}") from error

    def shown(self, client: SSL.Context = _CLIENT) -> x509.Certificate:
        """Return the certificate that a client gets to see. Raises what its handshake does."""
        return _shake_hands(self, client)

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """Make the server's end of a connection, with what is on the disk now or was lately."""
        # A clock that was set back must not keep us from reading.
        if self._creator is None or not 0 <= self._now() - self._loaded_at < RELOAD_SECONDS:
            try:
                self.load()
            except LocalError as error:
                if self._creator is None:
                    raise
                if not self._failing:
                    _log.error("{error}; the old certificate goes on", error=error)
                self._failing = True
        assert self._creator is not None
        return self._creator.serverConnectionForTLS(protocol)


class ListeningService(StreamServerEndpointService):
    """Listens where `description` says, with `factory`; raises CannotListenError at once.

    `state_dir` is where a certificate of our own is.
    """

    # What strports does, too: the plain service would only log the failure.
    _raiseSynchronously = True

    def __init__(self, description: str, factory: Any, reactor: Any, state_dir: str) -> None:
        endpoint, self._certificate = _open(description, reactor, state_dir)
        if self._certificate is not None:
            factory = secured(self._certificate, factory)
        if read_description(description).is_proxied:
            factory = ProxiedFactory(factory, reactor)
        super().__init__(endpoint, factory)

    def startService(self) -> None:
        """Begin, as the user that the server goes on as. Ends the program if TLS cannot work."""
        if self._certificate is not None:
            try:
                self._certificate.load()
            except LocalError as error:
                raise CannotStart(f"chatbox: {error}.") from error
        super().startService()


def secured(
    creator: IOpenSSLServerConnectionCreator, factory: IProtocolFactory
) -> IProtocolFactory:
    """Put TLS around the connections of a factory."""
    return DirectFactory(_SealingFactory(creator, False, factory))


class _SealingFactory(TLSMemoryBIOFactory):
    protocol = TLSMemoryBIOProtocol  # and not its heir that gathers small writes


def check_endpoint(description: str) -> None:
    """Read a description, with what it names; raises an error of any kind if that is wrong."""
    # Parsing keeps the reactor for later; a stand-in is enough to see whether it would work.
    _, certificate = _open(description, Clock(), "")
    if certificate is not None and not description.startswith(SELF_SIGNED):
        certificate.read()


def load_from(description: str, state_dir: str, now: Callable[[], float]) -> Load:
    """Return what reads the certificate that a description with TLS means, as it is then."""
    said = read_description(description)
    if said.front == SELF_SIGNED:
        return partial(_self_signed, state_dir, now)
    if said.front:
        return partial(_ByName.of_folder, unescaped(said.folder))
    if said.kind == "ssl":
        return partial(_ssl_creator, description)
    return partial(_ByName.of_folder, _read_tls(description)[0])


def _open(
    description: str, reactor: Any, state_dir: str
) -> tuple[IStreamServerEndpoint, Certificate | None]:
    """Make the endpoint that a description means, and its certificate if that is for TLS."""
    said = read_description(description)
    inner = _with_backlog(said.endpoint)
    if said.front:
        if read_description(inner).has_tls:
            raise ValueError("it speaks TLS already")
        endpoint = serverFromString(reactor, inner)
    elif said.kind == "ssl":
        where, _ = _read_ssl(inner)
        endpoint = TCP4ServerEndpoint(reactor, *where)
    elif said.kind == "tls":
        _, *place = _read_tls(inner)
        endpoint = TCP6ServerEndpoint(reactor, *place)
    else:
        return serverFromString(reactor, inner), None
    now = wall_clock(reactor)
    return endpoint, Certificate(description, load_from(description, state_dir, now), now)


def _with_backlog(description: str) -> str:
    """Let enough connections wait, where that can be said and is not."""
    able = _HAS_BACKLOG.match(description) and ":backlog=" not in description
    return f"{description}:backlog={BACKLOG}" if able else description


def _self_signed(state_dir: str, now: Callable[[], float]) -> _Creator:
    key_path, certificate_path = refresh_self_signed(state_dir, now())
    key, certificate = map(quoteStringArgument, (key_path, certificate_path))
    return _read_ssl(f"ssl:0:privateKey={key}:certKey={certificate}")[1]


def _ssl_creator(description: str) -> _Creator:
    return _read_ssl(description)[1]


class _ByName:
    """Serves the certificate that is for the name which a client asks for, or else the first."""

    def __init__(self, identities: Sequence[Identity]) -> None:
        if not identities:
            raise LocalError("no certificate there has its key and names of hosts (subjectAltName)")
        self._contexts: dict[str, SSL.Context] = {}
        for identity in identities:
            context = _context(identity)
            self._contexts.update(dict.fromkeys(map(str.lower, identity.names), context))
        self._first: SSL.Context = self._contexts[identities[0].names[0].lower()]
        self._first.set_tlsext_servername_callback(self._choose)

    @classmethod
    def of_folder(cls, folder: str) -> _ByName:
        """Read what is there. Raises LocalError or OSError."""
        return cls(read_folder(folder))

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """Make the server's end of a connection."""
        return SSL.Connection(self._first)

    def _choose(self, connection: SSL.Connection) -> None:
        name = (connection.get_servername() or b"").decode("ascii", "replace").lower()
        wildcard = f"*.{name.partition('.')[2]}"
        connection.set_context(
            self._contexts.get(name) or self._contexts.get(wildcard) or self._first
        )


def _context(identity: Identity) -> SSL.Context:
    make: Any = CertificateOptions  # which says that it wants pyOpenSSL's own
    made = make(
        privateKey=identity.key,
        certificate=identity.certificate,
        extraCertChain=list(identity.chain),
    )
    context: SSL.Context = made.getContext()
    return context


def _read_tls(description: str) -> tuple[str, int, int, str]:
    """Read a ``tls:`` description as Twisted does: folder, port, backlog, interface.

    Its own parser would read the folder, too. Raises TypeError or ValueError.
    """

    def read(
        folder: str, port: str = "443", backlog: str = str(BACKLOG), interface: str = "::"
    ) -> tuple[str, int, int, str]:
        return folder, int(port), int(backlog), interface

    said = read_description(description)
    return read(*said.values, **said.options)


def _read_ssl(description: str) -> tuple[tuple[int, int, str], _Creator]:
    """Return where an ``ssl:`` description listens (port, backlog, interface), and with what.

    Its endpoint keeps these to itself, but tells them to its reactor.
    """
    told: list[tuple[tuple[int, int, str], _Creator]] = []

    class Listener:
        def listenSSL(
            self, port: int, _: object, contextFactory: Any, backlog: int, interface: str
        ) -> None:
            told.append(((port, backlog, interface), contextFactory))

    serverFromString(Listener(), description).listen(Factory())
    return told[0]


def _shake_hands(creator: _Creator, context: SSL.Context) -> x509.Certificate:
    """Return the certificate that a client would see. Raises an error if it would see none."""
    # Twisted asks the protocol for what it may speak inside TLS, which is nothing that we name.
    protocol = SimpleNamespace(factory=SimpleNamespace(wrappedFactory=None))
    server = creator.serverConnectionForTLS(protocol)
    client = SSL.Connection(context, None)
    server.set_accept_state()
    client.set_connect_state()
    ends = [(client, server), (server, client)]
    for step in range(_MAX_STEPS):
        here, there = ends[step % 2]
        with suppress(SSL.WantReadError):
            here.do_handshake()
        with suppress(SSL.WantReadError):
            there.bio_write(here.bio_read(_MAX_FLIGHT_BYTES))
    seen = client.get_peer_certificate(as_cryptography=True)
    if seen is None:
        raise LocalError("no certificate has a key that fits")
    return seen


def _words(error: Exception) -> str:
    """Say what is wrong; OpenSSL gives a list of (library, function, reason)."""
    reasons = error.args[0] if error.args else ""
    if isinstance(reasons, list):
        words = ", ".join(str(reason[-1]) for reason in reasons)
        return words or "the files cannot be used"
    return str(error) or type(error).__name__
