"""One connection to a server: from what a person calls it to a session that has joined.

`ChatConnection` is the driver that `ClientSession` asks for. Its one rule: after anything that may
have given the session something to do, `flush` hands out the events and sends what there is to
send. Events wait in the session while no `handler` is set, so none is lost between two handlers.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from twisted.application.internet import backoffPolicy
from twisted.internet import error
from twisted.internet.defer import Deferred, DeferredList, TimeoutError
from twisted.internet.endpoints import HostnameEndpoint, TCP6ClientEndpoint, clientFromString
from twisted.internet.interfaces import (
    IDelayedCall,
    ISSLTransport,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from chatbox.chat.codes import Code
from chatbox.chat.wire import ACCOUNT_SEPARATOR
from chatbox.client import words
from chatbox.client.access import PLAIN, Access, Advice, meet_new_server
from chatbox.client.events import Event, Joined, JoinRefused, Lost, Offer, Problem
from chatbox.client.exits import Exit, Stop
from chatbox.client.session import ClientSession, State
from chatbox.client.transfers import Transfer
from chatbox.text import printable

if TYPE_CHECKING:
    from chatbox.client.download import PartFile

__all__ = [
    "ANSWER_TIMEOUT",
    "DEFAULT_PORT",
    "DEFAULT_TLS_PORT",
    "LEAVE_TIMEOUT",
    "ChatConnection",
    "Fetcher",
    "Reconnector",
    "endpoint_for",
    "join_server",
    "split_host",
    "target_of",
]

DEFAULT_PORT: Final = 50000
DEFAULT_TLS_PORT: Final = 50001
CONNECT_TIMEOUT: Final = 20.0
"""Seconds for name, route and handshake: a server on the far side of the world answers in one."""
ANSWER_TIMEOUT: Final = 30.0
"""Seconds that a server may take to answer, as much as one that waits for a slow disk."""
MAX_PASSWORDS_TYPED: Final = 3
"""How often a person may mistype a password before the command ends."""
LEAVE_TIMEOUT: Final = 2.0
"""Seconds that a goodbye may take: nobody wants to wait for it."""

RETRY_DELAY: Final = 0.5
MAX_RETRY_DELAY: Final = 30.0
"""Seconds between two attempts to come back: the first, and the longest."""

# A silent connection is asked after a minute, and given up after another one without an answer.
_KEEP_ALIVE: Final = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
_USER_TIMEOUT_MS: Final = 60_000


def split_host(text: str, usual_port: int = DEFAULT_PORT) -> tuple[str, int] | None:
    """Read ``host``, ``host:port``, an IPv6 address, or one in brackets with or without a port.

    None if it is none of these, so that it may be an endpoint string such as ``tls:host:port``.
    Raises Stop if the port is not one.
    """
    found = re.fullmatch(r"\[([^\[\]]+)\](?::(.*))?|([^:\[\]/]+)(?::(\d*))?", text)
    if found is None:
        try:
            ipaddress.IPv6Address(text)
        except ValueError:
            return None
        return text, usual_port
    bracketed, bracketed_port, plain, plain_port = found.groups()
    port = bracketed_port if bracketed else plain_port
    if port is None:
        return bracketed or plain, usual_port
    if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) <= 65535):
        raise Stop(Exit.USAGE, f"{printable(text)}: a port is a number from 1 to 65535.")
    return bracketed or plain, int(port)


# The endpoint string of a TLS server with nothing but its place: the usual way to write one.
_match_tls: Final = re.compile(
    r"tls:(?:host=)?((?:\\.|[^\\:=])+):(?:port=)?(\d{1,5})", re.DOTALL
).fullmatch


def target_of(text: str, access: Access = PLAIN) -> tuple[str, int] | None:
    """The host and the TCP port that a person means by `text`; None if it has none. Raises Stop."""
    tls = _match_tls(text)
    if tls is not None:
        return re.sub(r"\\(.)", r"\1", tls[1]), int(tls[2])
    return split_host(text, DEFAULT_TLS_PORT if access.tls else DEFAULT_PORT)


def endpoint_for(
    reactor: Any, text: str, access: Access = PLAIN
) -> tuple[IStreamClientEndpoint, str]:
    """The endpoint that a person means by `text`, and what to call it in a sentence."""
    host_and_port = target_of(text, access)
    if host_and_port is not None:
        host, port = host_and_port
        place = f"{printable(host)}, TCP port {port}"
        if not access.tls and "%" in host:  # HostnameEndpoint would forget which link it is on
            return TCP6ClientEndpoint(reactor, host, port, timeout=CONNECT_TIMEOUT), place
        if not access.tls and _match_tls(text) is None:
            return HostnameEndpoint(reactor, host, port, timeout=CONNECT_TIMEOUT), place
        # The cryptography is loaded when it is needed.
        from chatbox.client.secure import SecureEndpoint

        meet = access.meet or meet_new_server
        endpoint: IStreamClientEndpoint = SecureEndpoint(
            reactor, host, port, access.trust, meet, timeout=CONNECT_TIMEOUT
        )
        return endpoint, place
    if access.tls:
        raise Stop(Exit.USAGE, f"{printable(text)}: TLS goes with a host or with host:port.")
    try:
        endpoint = clientFromString(reactor, text)
        return endpoint, printable(text)
    except (ValueError, TypeError, OSError) as problem:
        raise Stop(
            Exit.USAGE,
            f"{printable(text)} is not a server's address ({problem}). Give a host, host:port,"
            " [IPv6]:port, or an endpoint such as tls:host:port.",
        ) from None


class ChatConnection(Protocol):
    """The driver of one session: bytes between it and the transport, events to `handler`."""

    def __init__(self, session: ClientSession) -> None:
        self.session = session
        self.handler: Callable[[Event], None] | None = None
        self.why_lost: Failure | None = None
        self.password = ""
        """What we came in with, to come back with; empty if there are no accounts."""
        self.on_lost: Callable[[], None] = lambda: None
        """Called when the connection is lost, after the session has been told."""
        self._flushing = False

    @property
    def peer(self) -> str:
        """The server's IP address as we reached it; this machine's own for a Unix socket."""
        host = getattr(self._transport.getPeer(), "host", None)
        return host if isinstance(host, str) else "127.0.0.1"

    @property
    def is_private(self) -> bool:
        """Whether nobody else can listen: it is encrypted, or does not leave this machine."""
        return (
            ISSLTransport.providedBy(self.transport)
            or ipaddress.ip_address(self.peer.partition("%")[0]).is_loopback
        )

    def listen(self, handler: Callable[[Event], None]) -> None:
        """Give events to `handler` from now on, first of all those that wait."""
        self.handler = handler
        self.flush()

    def flush(self) -> None:
        """Hand out what has happened, and send what there is to send.

        A handler may call this, too; what it has caused is then done when it has returned.
        """
        if self._flushing:
            return
        self._flushing = True
        try:
            while self.handler is not None and (event := self.session.next_event()) is not None:
                self.handler(event)
        finally:
            self._flushing = False
        data = self.session.data_to_send()
        if data and self.transport is not None:
            self.transport.write(data)

    def drop(self) -> None:
        """Close without waiting for what has not been sent."""
        if self.transport is not None:
            self._transport.abortConnection()

    # What Twisted calls

    def pauseProducing(self) -> None:
        """Whoever takes what we hear has enough."""
        if self.transport is not None:
            self._transport.pauseProducing()

    def resumeProducing(self) -> None:
        """They want more."""
        if self.transport is not None:
            self._transport.resumeProducing()

    def stopProducing(self) -> None:
        """They want nothing any more."""
        if self.transport is not None:
            self._transport.loseConnection()

    def connectionMade(self) -> None:
        """Have a dead path noticed: nobody writes into a quiet room for hours."""
        if ITCPTransport.providedBy(self.transport):
            self._transport.setTcpNoDelay(True)
            self._transport.setTcpKeepAlive(True)
        handle = self._transport.getHandle() if hasattr(self.transport, "getHandle") else None
        if isinstance(handle, socket.socket) and handle.family != socket.AF_UNIX:
            for name, value in (*_KEEP_ALIVE, ("TCP_USER_TIMEOUT", _USER_TIMEOUT_MS)):
                if hasattr(socket, name):  # not everywhere
                    handle.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def dataReceived(self, data: bytes) -> None:
        """Pass on what came."""
        self.session.receive_data(data)
        self.flush()
        if self.session.state is State.AWAY:  # the server does not let us in again yet
            self.drop()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell the session."""
        self.why_lost = reason
        self.transport = None
        self.session.connection_lost()
        self.flush()
        self.on_lost()

    @property
    def _transport(self) -> Any:
        # Which interfaces it has depends on the endpoint.
        return self.transport


async def _connect(endpoint: IStreamClientEndpoint, place: str) -> ChatConnection:
    """Connect, or raise Stop with the reason in a sentence."""
    first = secrets.randbelow(1 << 31)
    factory = Factory.forProtocol(lambda: ChatConnection(ClientSession(first)))
    try:
        connection = await endpoint.connect(factory)
    except error.ConnectionRefusedError:
        sentence = "nobody listens there. Is the server running, and is the port right?"
    except error.DNSLookupError:
        sentence = "there is no such host. Check the name, or give the server's IP address."
    except (error.TimeoutError, error.TCPTimedOutError):
        sentence = (
            "nobody answers. Is the address right, is the machine on, and does a firewall let"
            " TCP through to this port?"
        )
    except (error.ConnectError, OSError) as problem:
        sentence = f"it cannot be reached: {printable(str(problem))}"
    else:
        assert isinstance(connection, ChatConnection)
        return connection
    raise Stop(Exit.NO_CONNECTION, f"{place}: {sentence}")


async def join_server(
    reactor: Any,
    host: str,
    name: str,
    access: Access = PLAIN,
    *,
    ahead: Callable[[ClientSession], None] = lambda _: None,
) -> ChatConnection:
    """Connect to `host` and join as `name`. Raises Stop with a sentence that says what to do.

    Asks for the password if the server wants one that was not given. `ahead` may ask for something
    in the same breath, which saves a round trip; each attempt to join calls it, the last one
    counts.
    """
    endpoint, place = endpoint_for(reactor, host, access)
    password = access.read_password()
    for attempt in range(1 + MAX_PASSWORDS_TYPED):
        connection = await _connect(endpoint, place)
        event = await _ask_to_join(reactor, connection, place, name, password, access, ahead)
        if isinstance(event, Joined):
            connection.password = password
            return connection
        # A person may take longer to type than the server waits.
        connection.drop()
        if isinstance(event, Lost):
            break
        code = event.problem.code
        wanted = code == Code.PASSWORD_NEEDED or (code == Code.WRONG_PASSWORD and attempt > 0)
        account = name.partition(ACCOUNT_SEPARATOR)[0]
        typed = await access.ask_password(account) if wanted and access.ask_password else None
        if typed is None or attempt == MAX_PASSWORDS_TYPED:
            why = f"You cannot join as {printable(name)}: {words.explain(event.problem)}"
            raise Stop(Exit.NOT_LET_IN, f"{why} {_advice(code, access.advice)}".rstrip())
        password = typed
    is_tls = access.tls or host.startswith("tls:")
    hint = "" if is_tls else f" {access.advice.perhaps_tls}"
    raise Stop(
        Exit.NO_CONNECTION,
        f"{place}: the connection was closed before the server let us in"
        f"{_reason(connection.why_lost)}.{hint}",
    )


async def _ask_to_join(
    reactor: Any,
    connection: ChatConnection,
    place: str,
    name: str,
    password: str,
    access: Access,
    ahead: Callable[[ClientSession], None] = lambda _: None,
) -> Joined | JoinRefused | Lost:
    """Ask once, and wait for the answer. Raises Stop if none comes."""
    outcome: Deferred[Joined | JoinRefused | Lost] = Deferred()

    def hear(event: Event) -> None:
        if isinstance(event, Joined | JoinRefused | Lost):
            connection.handler = None
            outcome.callback(event)

    try:
        if password and not (access.allow_plain_auth or connection.is_private):
            raise Stop(
                Exit.USAGE,
                f"{place}: your password was not sent, for others could read it."
                f" {access.advice.protect_password}",
            )
        connection.session.join(name, connection.peer, password=password)
        ahead(connection.session)
        connection.listen(hear)
        return await outcome.addTimeout(ANSWER_TIMEOUT, reactor)
    except TimeoutError:
        connection.drop()
        raise Stop(
            Exit.NO_CONNECTION,
            f"{place}: somebody accepts the connection there but does not answer as a chatbox"
            " server would. Is the port right, and is it the plain or the TLS one?",
        ) from None
    except BaseException:
        connection.drop()
        raise


def _advice(code: str, advice: Advice) -> str:
    """What to do about a refusal; where nothing else helps, take another name."""
    match code:
        case Code.TLS_NEEDED:
            return advice.use_tls
        case Code.PASSWORD_NEEDED:
            return advice.give_password
        case Code.WRONG_PASSWORD:
            return advice.check_account
        case Code.TRY_LATER | Code.BUSY | Code.ACCOUNTS_UNAVAILABLE | Code.LOG_UNAVAILABLE:
            return ""
        case _:
            return advice.rename


def _reason(why_lost: Failure | None) -> str:
    """Why a connection was lost, if there is more to say than that it was."""
    if why_lost is None or isinstance(why_lost.value, error.ConnectionDone | error.ConnectionLost):
        return ""
    # OpenSSL gives a list of (library, function, reason).
    reasons = why_lost.value.args[0] if why_lost.value and why_lost.value.args else ""
    if isinstance(reasons, list):
        reasons = ", ".join(str(one[-1]) for one in reasons)
    return f" ({printable(str(reasons))})"


class Reconnector:
    """Brings `connection` back whenever it is cut: the same one, with a new transport.

    The delays grow from half a second to half a minute, each with some randomness, so that a
    thousand clients of a server that starts again do not come at once. After `patience` seconds
    without a connection the session is given up.
    """

    def __init__(
        self,
        reactor: Any,
        connection: ChatConnection,
        endpoint: IStreamClientEndpoint,
        patience: float,
    ) -> None:
        self._reactor = reactor
        self._connection = connection
        self._session = connection.session
        self._endpoint = endpoint
        self._patience = patience
        self._delay = backoffPolicy(RETRY_DELAY, MAX_RETRY_DELAY)
        self._attempts = 0
        self._away_since: float | None = None
        self._stopped = False
        self._call: IDelayedCall | None = None
        self._connecting: Deferred[Any] | None = None
        if patience > 0:
            self._session.survive()
            connection.on_lost = self._lost

    def stop(self) -> None:
        """Try no more."""
        self._stopped = True
        self._disarm()
        if self._connecting is not None:
            self._connecting.cancel()

    def _lost(self) -> None:
        self._disarm()
        if self._stopped or self._session.state is not State.AWAY:
            return
        now = self._reactor.seconds()
        if self._away_since is None:
            self._away_since = now
        if now - self._away_since > self._patience:
            self._session.give_up()
            self._connection.flush()
            return
        delay = self._delay(self._attempts)
        self._attempts += 1
        self._call = self._reactor.callLater(delay, self._connect)

    def _connect(self) -> None:
        self._call = None
        if self._session.state is State.AWAY:
            factory = Factory.forProtocol(lambda: self._connection)
            self._connecting = self._endpoint.connect(factory)
            self._connecting.addCallbacks(self._connected, self._failed)

    def _failed(self, failure: Failure) -> None:
        self._connecting = None
        if isinstance(failure.value, Stop) and failure.value.status is Exit.NOT_TRUSTED:
            # It will not get better, and a person must know.
            sentence = " ".join(failure.value.sentence.split())
            self._session.give_up(Problem("not-trusted", sentence))
            self._connection.flush()
        else:
            self._lost()

    def _connected(self, connection: ChatConnection) -> None:
        self._connecting = None
        if self._stopped or self._session.state is not State.AWAY:
            connection.drop()
            return
        self._session.rejoin(connection.peer, connection.password)
        connection.flush()
        self._call = self._reactor.callLater(ANSWER_TIMEOUT, self._check)

    def _check(self) -> None:
        """By now we should be in; a server that says nothing is no better than none."""
        self._call = None
        if self._session.state is State.JOINED:
            self._attempts = 0
            self._away_since = None
        else:
            self._connection.drop()

    def _disarm(self) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None


class Fetcher:
    """Begins transfers from the server at the IP `address`: the `Fetch` of a real client.

    `via` is the IP and UDP port of a relay to send to instead.
    """

    def __init__(self, reactor: Any, address: str, via: tuple[str, int] | None = None) -> None:
        self._reactor = reactor
        self._address = address
        self._via = via
        self._ending: list[Deferred[None]] = []

    def __call__(
        self,
        offer: Offer,
        target: PartFile,
        listener: Callable[[object], None],
        *,
        pause_half_way: bool,
        rate_limit: int | None,
        rtt: float,
    ) -> Transfer:
        """Begin one. Raises RemoteError or OSError."""
        # The transfer's code, and the cryptography with it, is loaded when it is needed.
        from chatbox.rdt.fetch import fetch
        from chatbox.rdt.receiver import Ended
        from chatbox.rdt.ticket import Ticket

        def hear(event: object) -> None:
            if isinstance(event, Ended):
                self._ending.append(transfer.closed)
            listener(event)

        transfer = fetch(
            self._reactor,
            self._via or (self._address, offer.port),
            Ticket.parse(offer.ticket),
            offer.size,
            target,
            hear,
            pause_half_way=pause_half_way,
            rate_limit=rate_limit,
            rtt=rtt,
        )
        return transfer

    async def tell_ends(self) -> None:
        """Let the server hear how the transfers ended, before this process is gone."""
        ending, self._ending = self._ending, []
        with suppress(TimeoutError):
            await DeferredList(ending, consumeErrors=True).addTimeout(LEAVE_TIMEOUT, self._reactor)
