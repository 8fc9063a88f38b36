"""
The client's side of a file transfer: one socket of its own, one receiver.

All transfers of a process receive and open their trains in the same memory, one after another, so
that it stays in the cache of a core. With eight at once a megabyte for each would not.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any, Final, Protocol
from weakref import WeakSet

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError

from chatbox.errors import NoSocket
from chatbox.rdt.ends import End
from chatbox.rdt.packet import NO_LIMIT, Train
from chatbox.rdt.progress import Progress
from chatbox.rdt.pump import Pump
from chatbox.rdt.receiver import Event, Receiver, Sink
from chatbox.rdt.seal import Places, places_to_open
from chatbox.rdt.socket_options import longest_to
from chatbox.rdt.ticket import Ticket

_places: Final[WeakSet[Places]] = WeakSet()
"""The memory that all transfers open their trains in, as long as there are any."""


class Target(Sink, Protocol):
    """A sink that can be begun: `chatbox.client.files.download.PartFile`."""

    def start(self, size: int, wake: Callable[[], None]) -> None:
        """
        Make room for `size` bytes; `wake` is called, from any thread, when there is a verdict.

        :raises OSError: if there is no room, or the file cannot be made.
        """


class _OneReceiver:
    """A receiver as an engine: it has one peer."""

    def __init__(
        self, receiver: Receiver, address: Any, watch: Callable[[Train], None] | None
    ) -> None:
        self._receiver = receiver
        self._watch = watch
        self._address = address
        self.buffer = receiver.buffer
        self.on_timer = receiver.on_timer
        self.next_timer = receiver.next_timer

    def receive(self, train: Train, address: Hashable, now: float, waited: float) -> None:
        """Whoever it comes from: the seal says whether it is from the server."""
        if self._watch is not None:
            self._watch(train)
        self._receiver.receive(train, now, waited)

    def trains_to_send(self, now: float) -> Iterator[tuple[Train, Hashable]]:
        """To the server."""
        for train in self._receiver.trains_to_send(now):
            yield train, self._address


class Fetch:
    """The client's side of one transfer; made by `fetch`."""

    def __init__(
        self,
        reactor: Any,
        receiver: Receiver,
        address: Any,
        listener: Callable[[Event], None],
        watch: Callable[[Train], None] | None = None,
    ) -> None:
        self.closed: Deferred[None] = Deferred()
        """Fires when the server knows of the end too, or was told often enough; soon after `Ended`.
        """
        self._receiver = receiver
        self._listener = listener
        self._pump = Pump(reactor, _OneReceiver(receiver, address, watch), self._deliver)
        self._stopped = False

    def start(self, interface: str, *, gso: bool) -> None:
        """Open a socket and ask for the first byte."""
        self._pump.listen(0, interface, gso=gso)
        self._pump.pump()

    def pause(self) -> None:
        """Stop for now."""
        self._receiver.pause(self._pump.now())
        self._pump.pump()

    def proceed(self) -> None:
        """Go on after a pause."""
        self._receiver.proceed(self._pump.now())
        self._pump.pump()

    def doubt(self) -> None:
        """The server has closed the chat connection: find out at once whether it is there."""
        self._receiver.doubt(self._pump.now())
        self._pump.pump()

    def cancel(self) -> None:
        """Give the file up."""
        self._receiver.cancel(self._pump.now())
        self._pump.pump()

    def interrupt(self) -> None:
        """End this attempt; what is here is kept for another."""
        self._receiver.interrupt(self._pump.now())
        self._pump.pump()

    def set_rate_limit(self, rate: int | None) -> None:
        """Take at most `rate` bytes per second from now on; None for no limit."""
        self._receiver.set_rate_limit(NO_LIMIT if rate is None else rate, self._pump.now())
        self._pump.pump()

    def progress(self) -> Progress:
        """How far it is."""
        return self._receiver.progress(self._pump.now())

    def sink_ready(self) -> None:
        """The sink may have a verdict."""
        self._receiver.sink_ready(self._pump.now())
        self._pump.pump()

    def _deliver(self) -> None:
        while (event := self._receiver.next_event()) is not None:
            self._listener(event)
        if self._receiver.closed and not self._stopped:
            self._stopped = True
            self._pump.stop().addBoth(lambda _: self.closed.callback(None))


def fetch(
    reactor: Any,
    address: tuple[str, int],
    ticket: Ticket,
    size: int,
    target: Target,
    listener: Callable[[Event], None],
    *,
    pause_half_way: bool = True,
    rtt: float = 0.0,
    rate_limit: int | None = None,
    gso: bool = True,
    watch: Callable[[Train], None] | None = None,
) -> Fetch:
    """
    Get the file of `ticket`, `size` bytes, from `address` (a numeric IP and a UDP port) into
    `target`.

    `listener` hears of what happens, at the end of `Ended`. `rtt` is the round trip of the chat
    connection in seconds, if known; `rate_limit` as for `Fetch.set_rate_limit`.

    `watch` is shown what arrives, as it arrives; that memory is used again when it returns.

    :raises NoSocket: if no socket can be had.
    :raises OSError: if `target` cannot be begun.
    """

    def ready() -> None:
        made.sink_ready()

    # The verdict may be there at once; in the reactor's next turn there is who takes it.
    target.start(size, lambda: reactor.callFromThread(ready))
    now = reactor.seconds()
    receiver = Receiver(
        ticket,
        size,
        target,
        now,
        pause_half_way=pause_half_way,
        rtt=rtt,
        rate_limit=NO_LIMIT if rate_limit is None else rate_limit,
        max_datagram=longest_to(address),
        places=_shared_places(),
    )
    made = Fetch(reactor, receiver, address, listener, watch)
    try:
        made.start("::" if ":" in address[0] else "", gso=gso)
    except CannotListenError as error:
        target.close(End.INTERRUPTED)
        raise NoSocket(*error.socketError.args) from error
    return made


def _shared_places() -> Places:
    places = next(iter(_places), None) or places_to_open()
    _places.add(places)
    return places
