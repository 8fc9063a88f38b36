"""What goes to each client at the end of a turn of the reactor.

It is the number of writes that costs a chat server, not the number of bytes. So nothing is written
while a turn runs; things are only put down, and when the turn ends each client gets all of its own
in one write. What everybody hears is put down once and becomes one bytes object that all recipients
share. Somebody with lines of their own in that turn (an answer, a private message) gets a join of
both kinds, in the order in which they were put down: each line has its place among the shared
bytes, and what lies between two of them is one piece.

- `Fanout` holds what everybody hears in this turn and knows who listens.
- `Outbox` is one client's end: its own lines, and, while its transport pushes back, references to
  what could not be written yet, up to a bound. Past the bound it forgets what waited and calls
  `on_overflow`; its owner says so and hangs up. After a fault of ours nobody knows what the client
  has; it gets nothing more, and `on_fault` is called: who comes back is told what was missed.

The hot path is somebody who merely listens. To `Fanout` that is what sends to them and nothing
else: one loop, one call each. What is kept of hundreds of clients has left the processor's cache by
the time that it is needed again, so each object that the loop does not touch counts. Whoever has
lines of their own, came in this turn or is pushed back is set aside: their `Outbox` is called.

Ways not taken: a queue of lines for each client (N recipients and B messages would cost N x B), and
writing during the turn when nothing waits (the first message of a turn would travel alone).

When a turn ends is the business of `chatbox.chat.turn`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

from twisted.logger import Logger

from chatbox.chat.turn import TURN_FAILED, Turn, run_each

__all__ = ["MAX_OWN_BYTES", "MAX_QUEUED_BYTES", "Fanout", "Outbox", "Writable"]

MAX_QUEUED_BYTES: Final = 1 << 20
"""What waits for a transport that pushes back: half a minute of a very lively room (500 messages of
70 bytes a second). The bytes are shared, so ten thousand slow readers do not hold ten gigabytes."""

MAX_OWN_BYTES: Final = 64 << 10
"""Answers put down for one client in one turn before no more of its requests should be read: one
full transport buffer. The last answer may go beyond it."""

Send = Callable[[bytes], int]
"""Sends as many of these bytes as go at once, and tells how many; OSError if none do."""

_log = Logger()


class Writable(Protocol):
    """What an outbox needs of a transport, which calls `Outbox.pause` and `resume` in return."""

    @property
    def send(self) -> Send:
        """What sends to the client. What does not go is to be written before anything else."""

    def write(self, data: bytes, /) -> None:
        """Send these bytes, as soon as all before them have left."""

    def finish(self, pieces: Sequence[bytes], /) -> None:
        """Send all of these in order, however much waits already. They are the last ones."""


class Fanout:
    """What everybody hears in this turn."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._shared: list[bytes] = []
        self._shared_bytes = 0
        self._listeners: dict[Send, Outbox] = {}
        """Those who hear what is shared and nothing else, by what sends to them."""
        self._aside: dict[Outbox, None] = {}
        """Those who are more than that."""
        self._attended: dict[Outbox, None] = {}
        self._due = False

    def share(self, line: bytes) -> None:
        """Put down a line for everybody who listens now."""
        self._shared.append(line)
        self._shared_bytes += len(line)
        self._expect()

    # What outboxes call.

    @property
    def place(self) -> int:
        """How many bytes have been shared in this turn."""
        return self._shared_bytes

    def so_far(self) -> bytes:
        """Return what has been shared in this turn."""
        if len(self._shared) > 1:  # in one piece from now on, as many may ask
            self._shared = [b"".join(self._shared)]
        return self._shared[0] if self._shared else b""

    def add_listener(self, outbox: Outbox, send: Send) -> None:
        """Give `send` what is shared, and `outbox` what does not go."""
        self._aside.pop(outbox, None)
        self._listeners[send] = outbox

    def set_aside(self, outbox: Outbox, send: Send) -> None:
        """Call `outbox.end_turn` at the end of each turn instead."""
        self._listeners.pop(send, None)
        self._aside[outbox] = None

    def expect(self, outbox: Outbox, send: Send) -> None:
        """Set `outbox` aside, and let this turn have an end: there are lines of its own."""
        self.set_aside(outbox, send)
        self._expect()

    def attend(self, outbox: Outbox) -> None:
        """Call `outbox.turn_ended` when everybody has what the turn brought."""
        self._attended[outbox] = None

    def let_go(self, outbox: Outbox, send: Send) -> None:
        """Neither send to `outbox` nor call it at the end of a turn."""
        self._listeners.pop(send, None)
        self._aside.pop(outbox, None)

    def forget(self, outbox: Outbox, send: Send) -> None:
        """Drop everything about `outbox`."""
        self.let_go(outbox, send)
        self._attended.pop(outbox, None)

    def _expect(self) -> None:
        if not self._due:
            self._due = True
            self._turn.write(self._flush)

    def _flush(self) -> None:
        self._due = False
        whole = self.so_far()
        aside = list(self._aside)  # as it is now: who is set aside by a send has had the whole
        if whole:
            self._send_to_all(whole)
        for outbox in aside:
            outbox.attempt(partial(outbox.end_turn, whole))
        self._shared.clear()
        self._shared_bytes = 0
        # Only now, since this may put down more: for a new turn, at new positions.
        attended = list(self._attended)
        self._attended.clear()
        for outbox in attended:
            outbox.attempt(outbox.turn_ended)

    def _send_to_all(self, whole: bytes) -> None:
        """Send to those who merely listen."""
        size = len(whole)
        for send in list(self._listeners):
            try:
                sent = send(whole)
            except OSError:
                sent = 0
            except Exception:
                _log.failure(TURN_FAILED)
                if (outbox := self._listeners.get(send)) is not None:
                    run_each([outbox.give_up])
                continue
            if sent != size and (outbox := self._listeners.get(send)) is not None:
                outbox.attempt(partial(outbox.send_rest, whole[sent:]))


class Outbox:
    """What goes to one client.

    `on_overflow` is called when more than `MAX_QUEUED_BYTES` wait, `on_change` when `congested` may
    have changed, and `on_fault` when something went wrong that nobody has foreseen.
    """

    __slots__ = (
        "_closed",
        "_fanout",
        "_listening",
        "_on_change",
        "_on_fault",
        "_on_overflow",
        "_own",
        "_own_bytes",
        "_paused",
        "_queue",
        "_queued_bytes",
        "_send",
        "_start",
        "_transport",
    )

    def __init__(
        self,
        fanout: Fanout,
        transport: Writable,
        *,
        on_overflow: Callable[[], None],
        on_change: Callable[[], None],
        on_fault: Callable[[], None] = lambda: None,
    ) -> None:
        self._fanout = fanout
        self._transport = transport
        self._send = transport.send
        self._on_overflow = on_overflow
        self._on_change = on_change
        self._on_fault = on_fault
        self._listening = False
        self._start = 0
        """The place in what this turn shares from which on it concerns us."""
        self._own: list[tuple[int, bytes]] = []
        """Lines of our own, and the place of each in what is shared."""
        self._own_bytes = 0
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
        if not self._own:
            self._fanout.expect(self, self._send)
        self._own.append((self._fanout.place, line))
        self._own_bytes += len(line)

    def listen(self) -> None:
        """Hear what is shared from now on."""
        if not self._closed:
            self._listening = True
            self._start = self._fanout.place
            self._settle()

    def stop_listening(self) -> None:
        """Hear nothing that is shared from now on; what was shared before is still written."""
        if self._listening:
            self._listening = False
            heard = self._merged(self._fanout.so_far())
            if heard:
                self._own = [(0, heard)]  # in place of both kinds
                self._fanout.expect(self, self._send)
            else:
                self._settle()

    def pause(self) -> None:
        """The transport has enough: keep what comes."""
        self._paused = True
        self._settle()
        self._on_change()

    def resume(self) -> None:
        """The transport wants more: give it what waits, until it has enough again."""
        self._paused = False
        if self._queue:
            queue, self._queue = self._queue, []
            given = 0
            for data in queue:
                if self._paused:
                    break
                given += 1
                self._queued_bytes -= len(data)
                self._transport.write(data)
            self._queue = queue[given:]
        self._on_change()

    def close(self) -> None:
        """Write what there is, whether the transport likes it or not. Nothing comes after this."""
        if self._closed:
            return
        self.stop_listening()
        pieces = [*self._queue, *(line for _, line in self._own)]
        self.discard()
        self._transport.finish(pieces)

    def discard(self) -> None:
        """Forget everything; the transport is gone, or about to be."""
        self._closed = True
        self._listening = self._paused = False
        self._own.clear()
        self._queue.clear()
        self._queued_bytes = self._own_bytes = 0
        self._fanout.forget(self, self._send)

    # What the fan-out calls.

    def attempt(self, work: Callable[[], None]) -> None:
        """Call `work`; if it fails, give this client up, and nobody else."""
        try:
            work()
        except Exception:
            _log.failure(TURN_FAILED)
            run_each([self.give_up])

    def give_up(self) -> None:
        """Write nothing more: it may be something else than what should come next."""
        self.discard()
        self._on_fault()

    def send_rest(self, rest: bytes) -> None:
        """Write what did not go."""
        self._transport.write(rest)

    def end_turn(self, whole: bytes) -> None:
        """Write what the turn brought; `whole` is everything that was shared in it."""
        if not self._listening:
            whole = b""
        if self._own or self._start:
            if self._own_bytes > MAX_OWN_BYTES:
                self._fanout.attend(self)
            whole = self._merged(whole)
            self._own.clear()
            self._own_bytes = self._start = 0
        if whole and self._paused:
            self._queue.append(whole)
            self._queued_bytes += len(whole)
            if self._queued_bytes > MAX_QUEUED_BYTES:
                self._fanout.attend(self)
        elif whole:
            self._transport.write(whole)
        self._settle()

    def turn_ended(self) -> None:
        """Everybody has what the turn brought: give up on a client that does not read."""
        if self._queued_bytes > MAX_QUEUED_BYTES:
            self._queue.clear()
            self._queued_bytes = 0
            self._on_overflow()
        else:
            self._on_change()

    def _settle(self) -> None:
        """Merely listen, or be called at the end of a turn, or neither."""
        if self._own or (self._listening and (self._start or self._paused)):
            self._fanout.set_aside(self, self._send)
        elif self._listening:
            self._fanout.add_listener(self, self._send)
        else:
            self._fanout.let_go(self, self._send)

    def _merged(self, whole: bytes) -> bytes:
        """Return our lines and what was shared, as far as it concerns us, in order."""
        shared = memoryview(whole)
        pieces: list[bytes | memoryview] = []
        at = self._start
        for place, line in self._own:
            if place > at:
                pieces.append(shared[at:place])
                at = place
            pieces.append(line)
        pieces.append(shared[at:])
        return b"".join(pieces)
