"""Bytes in, session, bytes out: one connection of the chat, and all of them.

Each connection is a `ChatProtocol`. Incoming bytes become lines, which go to a `Session`; outgoing
ones come from an `Outbox`. What is left for this module is what only a transport has:

- *Reading* stops while the session is busy, while the client does not read its answers, or when it
  asks too much at once. That is how a client is slowed: by not being read from, never by a queue
  that grows. There is one place where this is decided, `ChatProtocol._reconsider_reading`.
- *Dead peers* are found by the kernel, with keep-alives and a limit on unacknowledged data. There
  is no idle timer: whoever listens quietly may stay for ever.
- *Hanging up* lets the client read what is on its way, for a limited time. Nothing is on its way to
  who has not shaken hands in TLS yet: that connection is cut at once. Only of those for whom there
  is no room a few may shake hands and hear why.
- A client that has ended its side (netcat does when its input ends) still gets its answers.

*Writing*, and what it waits for, is the business of `chatbox.chat.transport`. Who has no name in
time is sent away by `chatbox.chat.logins`, and everybody, at the end, by `chatbox.chat.closing`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IHandshakeListener,
    IReactorTime,
    ISSLTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from chatbox.addresses import network_of
from chatbox.chat.closing import Closing, Note
from chatbox.chat.codes import Code
from chatbox.chat.gate import Gate, OpenGate, Origin
from chatbox.chat.limits import ANSWER_BYTES, NO_LIMITS, Bucket, ConnectionCount, Limits
from chatbox.chat.lines import Lines
from chatbox.chat.logins import Logins
from chatbox.chat.moderation import Moderation
from chatbox.chat.outbox import Outbox
from chatbox.chat.room import Room
from chatbox.chat.session import Session
from chatbox.chat.sharing import Downloads, Files
from chatbox.chat.tcp import SERVER_TIMEOUT_MS, tune
from chatbox.chat.transport import address_of, host_of, writer
from chatbox.chat.turnstile import Turnstile
from chatbox.errors import RemoteError
from chatbox.sparing import SparingLog
from chatbox.text import printable

__all__ = ["ChatFactory", "ChatProtocol"]

MAX_SKIPPED_BYTES: Final = 1 << 20
"""What is read, and thrown away, of a line that is too long. An honest mistake, such as a file
pasted into netcat, ends within it; what does not is cut off."""

LINGER_SECONDS: Final = 10.0
"""How long a client may take to read the last words before the connection is cut."""

LAST_LINGER_SECONDS: Final = 3.0
"""`LINGER_SECONDS` when the server stops: everybody else is waiting for it to be back."""

MAX_COMPLAINTS: Final = 20
"""Warnings about bad peers in ten seconds, all peers together: a flood must not fill the disk."""

MAX_VISITS: Final = 50
"""Lines in the same time about who comes and goes, and as many about connections."""

_log = Logger()


class ChatFactory(Factory):
    """Makes the server's end of each connection to one room.

    `clock` is the reactor, or whatever runs delayed calls; `gate` says who may come in, and
    `moderation` who is an operator.
    """

    noisy = False

    def __init__(
        self,
        room: Room,
        files: Files,
        downloads: Downloads,
        clock: IReactorTime,
        gate: Gate | None = None,
        moderation: Moderation | None = None,
        *,
        limits: Limits = NO_LIMITS,
    ) -> None:
        self.room = room
        self.files = files
        self.downloads = downloads
        self.clock = clock
        self.gate = gate or OpenGate()
        if limits.join_rate:
            self.gate = Turnstile(
                self.gate, limits.join_rate, limits.join_burst, clock.seconds, clock.callLater
            )
        self.limits = limits
        self.connections = ConnectionCount(limits)
        self.logins = Logins(clock, limits.login_timeout)
        self.moderation = moderation
        self.complain = SparingLog(
            _log.warn, clock.seconds, MAX_COMPLAINTS, "{count} more bad lines"
        )
        self.log_visit = SparingLog(
            _log.info, clock.seconds, MAX_VISITS, "{count} more joined or left"
        )
        self.log_unavailable = SparingLog(
            _log.warn, clock.seconds, MAX_COMPLAINTS, "{count} more could not be offered"
        )
        self.log_connection = SparingLog(
            _log.debug, clock.seconds, MAX_VISITS, "{count} more connected or disconnected"
        )
        self.linger_seconds = LINGER_SECONDS
        """How long a client may take to read the last words."""
        self._connections: set[ChatProtocol] = set()
        self._closing: Closing | None = None
        """There from when the server stops."""

    def logPrefix(self) -> str:
        """What Twisted calls us when it says that a port starts."""
        return "Chat"

    def buildProtocol(self, addr: IAddress | None) -> ChatProtocol | None:
        """Make the protocol for a new connection, unless the server is stopping."""
        return ChatProtocol(self) if self._closing is None else None

    def stop(
        self,
        code: Code = Code.SERVER_STOPPING,
        note: Note | None = None,
    ) -> Deferred[None]:
        """Answer what was asked, tell everybody why the server stops, and hang up.

        `note` is told who is here when it comes to that, so that they need not come again as
        strangers. What is returned fires when all connections are gone, which takes
        `closing.ANSWER_SECONDS` and `LAST_LINGER_SECONDS` at most. Stop listening first.
        """
        if self._closing is None:
            self.linger_seconds = LAST_LINGER_SECONDS
            sessions = [connection.session for connection in self._connections]
            self._closing = Closing(self.room, sessions, self.clock, code, note)
        return self._closing.done

    def cut(self) -> None:
        """Wait for nothing more, once the server stops."""
        if self._closing is not None:
            self._closing.hurry()
        for connection in list(self._connections):
            connection.abort()

    def connected(self, connection: ChatProtocol) -> None:
        """Count a connection in; one that comes too late, as from behind a proxy, goes at once."""
        self._connections.add(connection)
        self.logins.begin(connection.session)
        if self._closing is not None:
            self._closing.came(connection.session)

    def disconnected(self, connection: ChatProtocol) -> None:
        """Count a connection out."""
        self._connections.discard(connection)
        self.logins.end(connection.session)
        if self._closing is not None:
            self._closing.gone(connection.session)


@implementer(IHalfCloseableProtocol, IHandshakeListener)
class ChatProtocol(Protocol):
    """One connection."""

    session: Session

    def __init__(self, factory: ChatFactory) -> None:
        self._factory = factory
        self._lines = Lines(factory.limits.line)
        self._reading = True
        self._input_ended = False
        self._hung_up = False
        self._uncount: Callable[[], None] = lambda: None
        """What to do when the connection is gone."""
        self._stays = False
        """Whether a refused client may shake hands first, so that it hears why."""
        self._cut: IDelayedCall | None = None
        self._pause: IDelayedCall | None = None
        """There while the client has to wait because it asked too much."""
        limits = factory.limits
        self._bucket = (
            Bucket(limits.rate, limits.burst, factory.clock.seconds()) if limits.rate else None
        )

    # What the transport calls.

    def connectionMade(self) -> None:
        """Begin the conversation."""
        transport: Any = self.transport
        tune(transport, SERVER_TIMEOUT_MS)
        self._audible = not ISSLTransport.providedBy(transport)
        """Whether the client can read what we say: with TLS only after the handshake."""
        self._peer = address_of(transport.getPeer())
        origin = _origin(transport)
        self._network = network_of(origin.host)
        way_out = writer(transport)
        self._outbox = Outbox(
            self._factory.room.fanout,
            way_out,
            on_overflow=self._overflow,
            on_change=self._outbox_changed,
            on_fault=self._fail,
        )
        self.session = Session(
            self._factory.room,
            self._factory.files,
            self._factory.downloads,
            self._outbox,
            gate=self._factory.gate,
            moderation=self._factory.moderation,
            origin=origin,
            server=f"server:{host_of(transport.getHost())}",
            peer=self._peer,
            hang_up=self._hang_up,
            on_change=self._reconsider_reading,
            complain=self._complain,
            on_long_answer=self._long_answer,
            on_visit=self._visit,
            on_unavailable=self._unavailable,
            limits=self._factory.limits,
        )
        way_out.start(self._outbox)
        self._factory.connected(self)
        self._factory.log_connection("{peer} connected", peer=self._peer)
        connections = self._factory.connections
        refusal = connections.enter(self._network)
        if refusal is None:
            self._uncount = partial(connections.leave, self._network)
        elif not self._audible and connections.turn_away():
            self._stays = True
            self._uncount = connections.see_off
        if refusal is not None:
            self._complain(RemoteError(refusal))
            self.session.dismiss(refusal)

    def handshakeCompleted(self) -> None:
        """TLS can carry what we say."""
        self._audible = True

    def dataReceived(self, data: bytes) -> None:
        """Bytes have come."""
        if not self._hung_up:
            self._lines.add(data)
            self._take_lines()

    def readConnectionLost(self) -> None:
        """The client has sent all it will, and may still read."""
        if self._input_ended or self._hung_up:
            return
        self._input_ended = True
        if self._lines.rest:
            # Half a line may be a message cut off in the middle; it is not taken for a whole.
            self.session.refuse(RemoteError(Code.BAD_LINE, "The last line has no end."))
        self.session.input_ended()

    def writeConnectionLost(self) -> None:
        """We have ended our side, which we never do alone."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The client is gone; its name is free."""
        if self._cut is not None and self._cut.active():
            self._cut.cancel()
        if self._pause is not None:
            self._pause.cancel()
        self._hung_up = True
        self._outbox.discard()
        self.session.connection_lost()
        self._uncount()
        self._factory.disconnected(self)
        self._factory.log_connection(
            "{peer} disconnected: {reason}", peer=self._peer, reason=reason.value
        )

    def abort(self) -> None:
        """End it now, whatever was still to be said."""
        transport: Any = self.transport
        transport.abortConnection()

    # Reading.

    def _take_lines(self) -> None:
        """Hand over the lines that have come, as long as we read."""
        while self._reading and not self._hung_up and self._take_line():
            self._reconsider_reading()
        if self._lines.skipped > MAX_SKIPPED_BYTES:
            self.session.dismiss(Code.TOO_LONG)

    def _take_line(self) -> bool:
        """Hand over the next line, or what is wrong with it; false if there is none."""
        try:
            line = self._lines.take()
        except RemoteError as error:
            self.session.refuse(error)
            return True
        if line is None:
            return False
        if self._bucket is not None:
            self._pace(self._bucket)
        self.session.receive(line)
        return True

    def _reconsider_reading(self) -> None:
        """Read on, or wait: until the client has its answers, or may ask again."""
        if self._hung_up or self._input_ended:
            return
        wait = self._pause is not None or self.session.busy or self._outbox.congested
        if wait is self._reading:
            self._reading = not wait
            transport: Any = self.transport
            if wait:
                transport.pauseProducing()
            else:
                transport.resumeProducing()
                self._take_lines()

    def _pace(self, bucket: Bucket, tokens: int = 1) -> None:
        """Another request is taken, or has cost more than one: see when the next one may be."""
        delay = bucket.take(self._factory.clock.seconds(), tokens)
        if not delay:
            return
        if self._pause is None:
            self._pause = self._factory.clock.callLater(delay, self._go_on)
        elif tokens > 1:
            self._pause.reset(delay)

    def _long_answer(self, size: int) -> None:
        if self._bucket is not None and not self._hung_up:  # the log may answer who is gone
            self._pace(self._bucket, size // ANSWER_BYTES)

    def _go_on(self) -> None:
        self._pause = None
        self._reconsider_reading()

    # What the session and the outbox call.

    def _outbox_changed(self) -> None:
        self.session.go_on()
        self._reconsider_reading()

    def _overflow(self) -> None:
        self._complain(RemoteError(Code.TOO_SLOW))
        self.session.dismiss(Code.TOO_SLOW)

    def _fail(self) -> None:
        """Cut the connection at once: what it was to carry cannot be told any more."""
        _log.error(
            "{peer} is cut off, because what it should hear could not be sent; what went wrong is"
            " above. Who comes back is told what was missed",
            peer=self._peer,
        )
        self.abort()

    def _hang_up(self) -> None:
        """Close after what is in the outbox, and cut if the client does not read that."""
        if self._hung_up:
            return
        self._hung_up = True
        if not self._audible and not self._stays:
            self._outbox.discard()
            self.abort()
            return
        transport: Any = self.transport
        self._outbox.close()
        linger_seconds = self._factory.linger_seconds
        self._cut = self._factory.clock.callLater(linger_seconds, transport.abortConnection)
        transport.loseConnection()

    def _visit(self, name: str, what: str) -> None:
        self._factory.log_visit(
            "{name} {what} from {peer}", name=printable(name), what=what, peer=self._peer
        )

    def _unavailable(self, error: OSError) -> None:
        self._factory.log_unavailable("no download can be offered: {error}", error=error)

    def _complain(self, error: RemoteError) -> None:
        self._factory.complain(
            "bad peer {peer}: {error}", peer=self._peer, error=printable(str(error))
        )


def _origin(transport: Any) -> Origin:
    """Return where a connection comes from; a UNIX socket has no host."""
    host = getattr(transport.getPeer(), "host", None)
    return Origin(host if isinstance(host, str) else "", ISSLTransport.providedBy(transport))
