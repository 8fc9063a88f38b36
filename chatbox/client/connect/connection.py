"""One connection to a server: how it comes to a session that has joined.

`ChatConnection` is the driver that `ClientSession` asks for. Its one rule: after anything that may
have given the session something to do, `flush` hands out the events and sends what there is to
send. Events wait in the session while no `handler` is set, so none is lost between two handlers.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
from collections.abc import Callable
from typing import Any, Final

from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import ISSLTransport, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from chatbox.chat.codes import Code
from chatbox.chat.tcp import CLIENT_TIMEOUT_MS, tune
from chatbox.chat.wire import ACCOUNT_SEPARATOR
from chatbox.client import words
from chatbox.client.chat.events import Event, Joined, JoinRefused, Lost
from chatbox.client.chat.session import ClientSession, State
from chatbox.client.connect.access import PLAIN, Access, Advice
from chatbox.client.connect.hosts import endpoint_for
from chatbox.client.exits import Exit, Stop
from chatbox.text import printable

__all__ = ["ANSWER_TIMEOUT", "LEAVE_TIMEOUT", "ChatConnection", "join_server"]

ANSWER_TIMEOUT: Final = 30.0
"""Seconds that a server may take to answer, as much as one that waits for a slow disk."""
MAX_PASSWORDS_TYPED: Final = 3
"""How often a person may mistype a password before the command ends."""
LEAVE_TIMEOUT: Final = 2.0
"""Seconds that a goodbye may take: nobody wants to wait for it."""


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
        """Have a dead path noticed."""
        tune(self.transport, CLIENT_TIMEOUT_MS)

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
        connection = await _or_cancelled(endpoint.connect(factory))
    except error.ConnectionRefusedError:
        sentence = "nobody listens there. Is the server running, and is the port right?"
    # No address, no such link (as %eth7), and what cannot be a name.
    except (error.DNSLookupError, socket.gaierror, ValueError):
        sentence = "there is no such host. Check the name, or give the server's IP address."
    except (error.TimeoutError, error.TCPTimedOutError):
        sentence = (
            "nobody answers. Is the address right, is the machine on, and does a firewall let"
            " TCP through to this port?"
        )
    except (error.ConnectError, OSError) as problem:
        # Twisted's own words have the number in them.
        number = problem.osError if isinstance(problem, error.ConnectError) else problem.errno
        why = os.strerror(number) if isinstance(number, int) else printable(str(problem))
        sentence = f"it cannot be reached ({why}). Is the address right?"
    else:
        assert isinstance(connection, ChatConnection)
        return connection
    raise Stop(Exit.NO_CONNECTION, f"{place}: {sentence}")


def _or_cancelled(connecting: Deferred[Any]) -> Deferred[Any]:
    """The same, but failing as if it was cancelled if it was. While Twisted looks for a name it
    fails then as if there were no such host, which sounds as if it were worth trying again.
    """

    def cancel(outcome: Deferred[Any]) -> None:
        outcome.errback(CancelledError())
        connecting.cancel()

    def pass_on(result: object) -> None:
        if not outcome.called:
            outcome.callback(result)

    outcome: Deferred[Any] = Deferred(cancel)
    connecting.addBoth(pass_on)
    return outcome


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
        wrong = code == Code.WRONG_PASSWORD and attempt > 0  # it was typed, then
        typed = None
        if access.ask_password is not None and (wrong or code == Code.PASSWORD_NEEDED):
            typed = await access.ask_password(name.partition(ACCOUNT_SEPARATOR)[0], wrong)
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
    """What to do about a refusal, if anything can be done."""
    match code:
        case Code.TLS_NEEDED:
            return advice.use_tls
        case Code.PASSWORD_NEEDED:
            return advice.give_password
        case Code.WRONG_PASSWORD:
            return advice.check_account
        case Code.NAME_EMPTY | Code.NAME_TOO_LONG | Code.NAME_INVALID:
            return advice.rename
        case Code.NAME_TAKEN | Code.BAD_TOKEN:
            return advice.rename
        case Code.NAME_RESERVED:
            return f"{advice.rename} An operator's is free on the server's own machine only."
        case _:
            return ""


def _reason(why_lost: Failure | None) -> str:
    """Why a connection was lost, if there is more to say than that it was."""
    if why_lost is None or isinstance(why_lost.value, error.ConnectionDone | error.ConnectionLost):
        return ""
    # OpenSSL gives a list of (library, function, reason).
    reasons = why_lost.value.args[0] if why_lost.value and why_lost.value.args else ""
    if isinstance(reasons, list):
        reasons = ", ".join(str(one[-1]) for one in reasons)
    return f" ({printable(str(reasons))})"
