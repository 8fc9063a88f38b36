"""
What drives a sans-I/O engine over a socket: the pump.

An *engine* is many senders behind a `Demux`, or one `Receiver`. It is handed trains and the time,
and knows neither socket nor clock. The pump has both, and one delayed call. After every stimulus (a
train, a deadline, a command, room in the kernel) it does the same three things, in this order: it
sends what the engine has, delivers the engine's events, and arms the timer for the engine's next
deadline. Whoever tells an engine something without the pump calls `Pump.pump` afterwards.

So a transfer has one place where time passes for it and where its bytes leave. An engine need not
call anybody back, and none of its many deadlines needs a timer of its own.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Hashable, Iterator
from itertools import islice
from typing import Any, Protocol

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall

from chatbox.rdt.packet import Train
from chatbox.rdt.udp import TrainPort, TrainProtocol

TRAINS_PER_TURN = 16
"""Trains sent before other sockets get their turn..."""

SENT_BYTES_PER_TURN = 2 << 20
"""... or about as many bytes."""

LATEST = 1.0
"""Seconds for which something may have waited to be read; more is a clock that was set."""


class Engine(Protocol):
    """What a pump drives."""

    @property
    def buffer(self) -> memoryview:
        """Where trains are received, from its beginning."""

    def receive(self, train: Train, address: Hashable, now: float, waited: float) -> None:
        """Take in what came, and waited for so many seconds until somebody read it."""

    def on_timer(self, now: float) -> None:
        """A deadline has come."""

    def next_timer(self) -> float | None:
        """When the next one does."""

    def trains_to_send(self, now: float) -> Iterator[tuple[Train, Hashable]]:
        """What may leave now."""


class Pump(TrainProtocol):
    """Drives one engine over one port."""

    noisy = False

    def __init__(self, reactor: Any, engine: Engine, on_events: Callable[[], None]) -> None:
        """`on_events` takes the events of the engine, if there are any."""
        self._reactor = reactor
        self._engine = engine
        self._on_events = on_events
        self._timer: IDelayedCall | None = None
        self._timer_at = 0.0
        self._latest = 0.0
        self._blocked = False
        self._port: TrainPort | None = None

    def listen(self, port: int | socket.socket, interface: str, *, gso: bool) -> int:
        """
        Begin on a port, or on a socket that is bound to one; returns the port number.

        :raises twisted.internet.error.CannotListenError: if the port cannot be had.
        """
        bound = None if isinstance(port, int) else port
        wanted = port if isinstance(port, int) else port.getsockname()[1]
        if bound is not None:
            interface = bound.getsockname()[0]
        self._port = TrainPort(wanted, self, self._engine.buffer, interface, self._reactor, gso=gso)
        if bound is not None:
            self._port.adopt(bound)
        self._port.startListening()
        number: int = self._port.getHost().port
        return number

    def now(self) -> float:
        """Seconds by the reactor's clock, which never go back: see `_on_timer`."""
        self._latest = max(self._latest, self._reactor.seconds())
        return self._latest

    def stop(self) -> Deferred[None]:
        """Close the port."""
        if self._port is None:
            return maybeDeferred(lambda: None)
        port, self._port = self._port, None
        return maybeDeferred(port.stopListening)

    def train_received(self, train: Train, address: Any, waited: float) -> None:
        """
        The port has read what has waited for so many seconds; it calls `pump` when it has read all.
        """
        waited = waited if 0 < waited < LATEST else 0.0
        self._engine.receive(train, address, self.now(), waited)

    def writable(self) -> None:
        """The kernel has room again."""
        self._blocked = False
        self.pump()

    def pump(self) -> None:
        """Send what may leave, deliver events, arm the timer."""
        port = self._port
        if port is None:
            return
        now = self.now()
        try:
            self._send(port, now)
            self._on_events()
        finally:
            # Whatever breaks in one transfer, the others must be called when their time comes.
            self._arm(now)

    def _send(self, port: TrainPort, now: float) -> None:
        if not self._blocked:
            room = SENT_BYTES_PER_TURN
            for train, address in islice(self._engine.trains_to_send(now), TRAINS_PER_TURN):
                room -= len(train.data)
                if not port.write_train(train, address):
                    self._blocked = True
                    break
                if room <= 0:
                    break

    def stopProtocol(self) -> None:
        """The port is closed."""
        self._cancel()

    def _arm(self, now: float) -> None:
        if self._port is None:
            return
        deadline = self._engine.next_timer()
        if deadline is None or (self._blocked and deadline <= now):
            self._cancel()
            return
        if self._timer is not None:
            if self._timer_at == deadline:
                return
            self._cancel()
        self._timer_at = deadline
        self._timer = self._reactor.callLater(max(0.0, deadline - now), self._on_timer)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self._timer = None
        # A timer may fire a hair before its time; the engine is to see its deadline come.
        self._latest = max(self.now(), self._timer_at)
        try:
            self._engine.on_timer(self._latest)
        finally:
            self.pump()
