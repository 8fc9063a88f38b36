"""What goes to each client at the end of a turn of the reactor.

It is the number of writes that costs a chat server, not the number of bytes. So nothing is written
while a turn runs; things are only put down, and when the turn ends each client gets all of its own
in one write. What everybody hears is put down once and becomes one bytes object that all recipients
share. Somebody with lines of their own in that turn (an answer, a private message) gets a join of
both kinds, in the order in which they were put down.

- `Turn` runs what must happen once at the end of the turn: first what gathers (the room appends to
  the log, which may commit and thereby put down more), then what writes.
- `Fanout` holds what everybody hears in this turn and knows who listens.
- `Outbox` is one client's end: its own lines, and, while its transport pushes back, references to
  what could not be written yet, up to a bound. Past the bound it forgets what waited and calls
  `on_overflow`; its owner says so and hangs up.

Ways not taken: a queue of lines for each client (N recipients and B messages would cost N x B), and
writing at once when nothing waits (the first message of a turn would travel alone).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from twisted.logger import Logger

__all__ = ["MAX_OWN_BYTES", "MAX_QUEUED_BYTES", "Fanout", "Later", "Outbox", "Turn", "Writable"]

MAX_QUEUED_BYTES: Final = 1 << 20
"""What waits for a transport that pushes back: half a minute of a very lively room (500 messages of
70 bytes a second). The bytes are shared, so ten thousand slow readers do not hold ten gigabytes."""

MAX_OWN_BYTES: Final = 64 << 10
"""Answers put down for one client in one turn before no more of its requests should be read: one
full transport buffer. The last answer may go beyond it."""

Later = Callable[[Callable[[], None]], object]
"""Calls its argument once this turn of the reactor is over: ``callLater(0, ...)``."""

_log = Logger()


class Writable(Protocol):
    """The part of a transport that an outbox needs."""

    def write(self, data: bytes, /) -> None:
        """Send these bytes some time."""

    def writeSequence(self, data: Iterable[bytes], /) -> None:
        """Send all of these, in order."""


class Turn:
    """Runs work at the end of the turn, each kind once however often it is asked for.

    First all is gathered, then all is written. What writing brings about (somebody is given up,
    somebody may be read from again) belongs to the next turn: so each turn ends, and none hogs the
    reactor.
    """

    def __init__(self, later: Later) -> None:
        self._later = later
        # Dicts as ordered sets: work that is asked for twice has its first place.
        self._gathering: dict[Callable[[], None], None] = {}
        self._writing: dict[Callable[[], None], None] = {}
        self._scheduled = False

    def gather(self, work: Callable[[], None]) -> None:
        """Call `work` before anything is written."""
        self._gathering[work] = None
        self._schedule()

    def write(self, work: Callable[[], None]) -> None:
        """Call `work` when there is nothing left to gather."""
        self._writing[work] = None
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._later(self._end)

    def _end(self) -> None:
        while self._gathering:
            gathering, self._gathering = self._gathering, {}
            _run(gathering)
        writing, self._writing = self._writing, {}
        self._scheduled = False
        _run(writing)


def _run(works: Iterable[Callable[[], None]]) -> None:
    for work in works:
        try:
            work()
        except Exception:
            _log.failure("the end of a turn failed")


class Fanout:
    """What everybody hears in this turn."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._shared: list[bytes] = []
        self._listeners: dict[Outbox, None] = {}
        self._addressed: dict[Outbox, None] = {}

    def share(self, line: bytes) -> None:
        """Put down a line for everybody who listens now."""
        self._shared.append(line)
        self._turn.write(self._flush)

    # What outboxes call.

    @property
    def position(self) -> int:
        """How many lines have been shared in this turn."""
        return len(self._shared)

    def lines(self, start: int, end: int | None = None) -> list[bytes]:
        """Return lines shared in this turn, by position."""
        return self._shared[start:end]

    def add_listener(self, outbox: Outbox) -> None:
        """Let `outbox` hear what is shared from now on."""
        self._listeners[outbox] = None

    def remove_listener(self, outbox: Outbox) -> None:
        """Let `outbox` hear no more."""
        self._listeners.pop(outbox, None)

    def expect(self, outbox: Outbox) -> None:
        """Remember that `outbox` has lines of its own."""
        self._addressed[outbox] = None
        self._turn.write(self._flush)

    def forget(self, outbox: Outbox) -> None:
        """Drop everything about `outbox`."""
        self._listeners.pop(outbox, None)
        self._addressed.pop(outbox, None)

    def _flush(self) -> None:
        whole = b"".join(self._shared)
        if whole:
            recipients = list(self._listeners)
            recipients += [outbox for outbox in self._addressed if outbox not in self._listeners]
        else:
            recipients = list(self._addressed)
        self._addressed.clear()
        for outbox in recipients:
            outbox.end_turn(whole)
        self._shared.clear()
        # Only now, since this may put down more: for a new turn, at new positions.
        for outbox in recipients:
            outbox.turn_ended()


class Outbox:
    """What goes to one client.

    `on_overflow` is called when more than `MAX_QUEUED_BYTES` wait, `on_change` when `congested` may
    have changed.
    """

    def __init__(
        self,
        fanout: Fanout,
        transport: Writable,
        *,
        on_overflow: Callable[[], None],
        on_change: Callable[[], None],
    ) -> None:
        self._fanout = fanout
        self._transport = transport
        self._on_overflow = on_overflow
        self._on_change = on_change
        self._listening = False
        self._heard = 0
        """How many of this turn's shared lines do not concern us, or have been written already."""
        self._own: list[tuple[int, bytes]] = []
        """Lines of our own, each with the number of shared lines before it."""
        self._own_bytes = 0
        self._was_congested = False
        self._paused = False
        self._queue: list[bytes] = []
        self._queued_bytes = 0
        self._closed = False

    @property
    def congested(self) -> bool:
        """Whether this client should read before it asks for more."""
        return self._paused or self._own_bytes > MAX_OWN_BYTES

    def put(self, line: bytes) -> None:
        """Put down a line for this client alone, after everything that it hears so far."""
        if self._closed:
            return
        self._own.append((self._fanout.position, line))
        self._own_bytes += len(line)
        self._fanout.expect(self)

    def listen(self) -> None:
        """Hear what is shared from now on."""
        if not self._closed:
            self._listening = True
            self._heard = self._fanout.position
            self._fanout.add_listener(self)

    def stop_listening(self) -> None:
        """Hear nothing that is shared from now on; what was shared before is still written."""
        if self._listening:
            self._write(self._take())
            self._listening = False
            self._fanout.remove_listener(self)

    def pause(self) -> None:
        """The transport has enough: keep what comes."""
        self._paused = True
        self._on_change()

    def resume(self) -> None:
        """The transport wants more: give it all that waits."""
        self._paused = False
        self._release_queue()
        self._on_change()

    def close(self) -> None:
        """Write what there is, whether the transport likes it or not. Nothing comes after this."""
        if self._closed:
            return
        self._release_queue()
        self._paused = False
        self._write(self._take())
        self.discard()

    def discard(self) -> None:
        """Forget everything; the transport is gone, or about to be."""
        self._closed = True
        self._listening = False
        self._own.clear()
        self._queue.clear()
        self._queued_bytes = self._own_bytes = 0
        self._fanout.forget(self)

    # What the fan-out calls.

    def end_turn(self, whole: bytes) -> None:
        """Write what the turn brought; `whole` is everything that was shared in it."""
        if self._own or self._heard or not self._listening:
            self._write(self._take())
        else:
            self._write(whole)
        self._heard = 0

    def turn_ended(self) -> None:
        """Everybody has what the turn brought: give up on a client that does not read."""
        if self._queued_bytes > MAX_QUEUED_BYTES:
            self._queue.clear()
            self._queued_bytes = 0
            self._on_overflow()
        elif self._was_congested:
            self._was_congested = False
            self._on_change()

    def _take(self) -> bytes:
        """Return what has been put down and not taken yet, in order."""
        own, self._own = self._own, []
        self._was_congested = self.congested
        self._own_bytes = 0
        if self._listening:
            parts = []
            at = self._heard
            for position, line in own:
                # A line put down before we began to listen lies before `at`.
                parts += self._fanout.lines(at, position)
                parts.append(line)
                at = max(at, position)
            parts += self._fanout.lines(at)
            self._heard = self._fanout.position
        else:
            parts = [line for _, line in own]
        return b"".join(parts)

    def _write(self, data: bytes) -> None:
        if self._closed or not data:
            return
        if self._paused:
            self._queue.append(data)
            self._queued_bytes += len(data)
        else:
            self._transport.write(data)

    def _release_queue(self) -> None:
        if self._queue:
            queue, self._queue = self._queue, []
            self._queued_bytes = 0
            self._transport.writeSequence(queue)
