"""
The client's end of one transfer.

The receiver keeps two sets: the packet numbers that arrived, which is what it acknowledges, and the
bytes of the file that arrived, which is what it has. Data goes to the sink at its own offset as
soon as it is opened, in whatever order it comes, so nothing waits in memory and flow control is
only a bound on how far ahead the server may run.

All that the receiver has to say is one value, `Control` (see `chatbox.rdt.packet`), and every
packet of its carries all of it. When to send one is decided by three clocks:

- something came that deserves an acknowledgement: at once if it shows a gap, or a STATUS; else
  after the delay, or the bytes, that the server asked for;
- our wish changed and the server has not confirmed it (`Status.heard`): again and again, backing
  off;
- nothing came for a while: a question whether the server is still there, which the server answers.

State changes go through `_become`, and only along `TRANSITIONS`::

    OPENING --first answer--> RECEIVING <--> PAUSED
                                  |            |
                  all here, digest known       |
                                  v            |
                              VERIFYING        |
                                  |            |
               (from anywhere) ---+------------+--> ENDING --confirmed, or tried enough--> CLOSED

`Ended` is reported once, when the outcome is certain for *this* side. ENDING only tells the server.
In VERIFYING the digest alone decides: whatever the server's file has become since, whether the
server ends the transfer or is gone, all of it is here.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from chatbox.errors import LocalError, RemoteError
from chatbox.rdt.acks import Acknowledger
from chatbox.rdt.asking import POLL_AFTER, Asking, Expecting
from chatbox.rdt.ends import End, end_for
from chatbox.rdt.packet import (
    BASE_DATAGRAM,
    DATA_OVERHEAD,
    MAX_DATAGRAM,
    MAX_HAVE_RANGES,
    NO_LIMIT,
    Control,
    Kind,
    Open,
    Phase,
    Status,
    Train,
    Wish,
    pack_control,
    pack_open,
    unpack_status,
)
from chatbox.rdt.progress import Meter, Progress
from chatbox.rdt.ranges import RangeSet
from chatbox.rdt.seal import (
    Packet,
    Places,
    Run,
    TrainOpener,
    client_keys,
    seal_packet,
    server_keys,
)
from chatbox.rdt.ticket import Ticket

WINDOW_BYTES = 64 << 20
"""How far beyond the first missing byte the server may send: enough for 2.5 Gbit/s at 200 ms."""

BLOCKED_AFTER = 3.0
"""Seconds without the first answer after which a person should hear what may be wrong."""

NARROW_TIMEOUT = 30.0
"""Seconds in which words come and nothing of the file, after which the path is too narrow for it...
"""

NARROW_STATUSES = 10
"""... if so many words came..."""

NARROW_LOST = 20
"""... and so many packets did not: neither bad luck, nor a server that hardly sends."""

SLOW_RATE = 1 << 17
"""Bytes per second: with a limit below, the longest packets come less often than twice a second."""

MAX_HOLES = 1 << 16
"""Gaps in what has arrived: no link leaves so many in one window, only a server that wants to."""


class State(Enum):
    """Where the transfer stands."""

    OPENING = "opening"
    RECEIVING = "receiving"
    PAUSED = "paused"
    VERIFYING = "verifying"
    ENDING = "ending"
    CLOSED = "closed"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.OPENING: frozenset({State.RECEIVING, State.ENDING}),
    State.RECEIVING: frozenset({State.PAUSED, State.VERIFYING, State.ENDING}),
    State.PAUSED: frozenset({State.RECEIVING, State.VERIFYING, State.ENDING}),
    State.VERIFYING: frozenset({State.ENDING}),
    State.ENDING: frozenset({State.CLOSED}),
    State.CLOSED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a file that arrived whole: `End.DONE` and its path, or what went wrong."""

    end: End
    detail: str = ""
    path: str | None = None
    digest: bytes | None = None


class Sink(Protocol):
    """Where the file goes."""

    @property
    def have(self) -> Sequence[tuple[int, int]]:
        """Half-open ranges of bytes that are there from an earlier attempt."""

    def recognise(self, mtime_ns: int) -> bool:
        """Whether a file that was last changed then, in nanoseconds since the epoch, is the one
        that `have` is of.
        """

    def write(self, offset: int, data: memoryview) -> None:
        """
        Write down bytes of the file; the memory is the caller's again afterwards.

        :raises OSError: if they cannot be written.
        """

    def reached(self, prefix: int) -> None:
        """All before `prefix` is written: hashing may go on so far."""

    def finish(self, digest: bytes) -> None:
        """The file is whole: check that its sha-256 is `digest` and give it its name. `verdict`
        tells when that is done.
        """

    def verdict(self) -> Verdict | None:
        """The result of `finish`, None until there is one; before `finish`, why it will fail."""

    def close(self, end: End) -> Verdict | None:
        """Nothing more will be written; `end` tells why. If the file has its name already, that is
        the verdict, else None.
        """


@dataclass(frozen=True, slots=True)
class Opened:
    """The server has answered."""

    size: int


@dataclass(frozen=True, slots=True)
class Paused:
    """Nothing moves until `Receiver.proceed`: because half of the file is here, or because we
    asked.
    """

    half_way: bool


@dataclass(frozen=True, slots=True)
class Resumed:
    """It goes on."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The transfer is over; always the last event, and always there."""

    end: End
    detail: str
    path: str | None
    digest: bytes | None


Event = Opened | Paused | Resumed | Ended


class Receiver:
    """
    One transfer from the client's side, without socket or clock.

    Call `receive` with what came, `on_timer` when `next_timer` is due, `sink_ready` when the sink
    has a verdict, and `pause`, `proceed`, `cancel` as a person wishes; after each, take the events,
    send all of `trains_to_send`, and look at `next_timer` again.
    """

    def __init__(
        self,
        ticket: Ticket,
        size: int,
        sink: Sink,
        now: float,
        *,
        pause_half_way: bool = True,
        rtt: float = 0.0,
        rate_limit: int = NO_LIMIT,
        max_datagram: int = MAX_DATAGRAM,
        places: Places | None = None,
    ) -> None:
        """`places` is memory to open trains in, if it is shared (see `TrainOpener`)."""
        self.connection_id = ticket.connection_id
        self.state = State.OPENING
        self.size = size
        self._sink = sink
        self._opener = TrainOpener(server_keys(ticket.secret), ticket.connection_id, places)
        self._keys = client_keys(ticket.secret)
        self._max_datagram = max_datagram
        self._rtt = rtt
        self._file = RangeSet(sink.have)
        self._prefix = self._file.prefix()
        self._meter = Meter()
        self._moved_at = now
        """When bytes last came that were not here."""
        self._events: deque[Event] = deque()
        self._status: Status | None = None
        self._status_number = -1
        self._arrived = 0
        """Packets that have come, copies too."""
        self._words = 0
        """STATUS packets of a server that sends, since data came in a packet as long as any path
        should carry.
        """
        self._words_since = now
        self._missed = 0
        """Packets that had not come by then."""
        # What we say.
        self._next_number = 0
        self._wish = Wish.RUN
        self._end = End.NONE
        self._pause_at = size // 2 if pause_half_way and size > 1 else NO_LIMIT
        if self._pause_at <= self._prefix:
            self._pause_at = NO_LIMIT
        self._rate_limit = rate_limit
        # When we say it.
        self._acks = Acknowledger(now)
        self._asking = Asking(rtt, now)
        self._control_due = True
        self._wished_number = 0
        self._server_knows = False
        """The server knows of an end, its own or ours: we say one last time that we know that."""

    # ---- what others may look at

    @property
    def closed(self) -> bool:
        """Whether the transfer can be forgotten."""
        return self.state is State.CLOSED

    @property
    def confirmed(self) -> int:
        """Bytes of the file that are written down."""
        return self._file.total

    @property
    def buffer(self) -> memoryview:
        """Where to receive what `receive` is given."""
        return self._opener.buffer

    @property
    def dropped(self) -> int:
        """Datagrams that were not the server's, or damaged."""
        return self._opener.dropped

    def progress(self, now: float) -> Progress:
        """How far it is, how fast it goes, and if it does not, why."""
        rate = self._meter.rate(now) if self.state is State.RECEIVING else 0.0
        left = (self.size - self.confirmed) / rate if rate > 0 else None
        return Progress(self.confirmed, self.size, rate, left, self.state.value, self._reason(now))

    def next_event(self) -> Event | None:
        """The next thing that happened, None if there is nothing more."""
        return self._events.popleft() if self._events else None

    # ---- commands

    def pause(self, now: float) -> None:
        """Ask the server to stop for now."""
        if self.state in (State.OPENING, State.RECEIVING) and self._wish is Wish.RUN:
            self._wish_for(Wish.PAUSE, now)

    def proceed(self, now: float) -> None:
        """Go on after a pause, whoever asked for it. Before half way it does not waive the pause
        there.
        """
        if self._wish is Wish.PAUSE:
            self._wish_for(Wish.RUN, now)
        elif self.state is State.PAUSED:
            self._pause_at = NO_LIMIT
            self._wish_for(Wish.RUN, now)

    def set_rate_limit(self, rate: int, now: float) -> None:
        """Ask for at most `rate` bytes per second from now on; `NO_LIMIT` for no limit."""
        self._rate_limit = max(1, rate)
        if self.state in (State.RECEIVING, State.PAUSED):
            self._control_due = True

    def doubt(self, now: float) -> None:
        """The server has closed the chat connection: ask at once whether it is still there."""
        if self.state in (State.OPENING, State.RECEIVING, State.PAUSED):
            self._asking.doubt(now)
            self._control_due = True

    def cancel(self, now: float) -> None:
        """Give the file up."""
        self._finish(Verdict(End.CANCELLED), now)

    def interrupt(self, now: float) -> None:
        """End this attempt; what is here is kept for another."""
        self._finish(Verdict(End.INTERRUPTED), now)

    # ---- stimuli

    def receive(self, train: Train, now: float, waited: float = 0.0) -> None:
        """Take in what came to our socket `waited` seconds ago."""
        for item in self._opener.open(train):
            if self.state is State.CLOSED:
                return
            if self.state is State.OPENING:
                self._become(State.RECEIVING)
                self._events.append(Opened(self.size))
                self._meter.note(self.confirmed, now)
            self._asking.heard(now)
            if isinstance(item, Run):
                self._take_data(item, now, waited)
            else:
                self._take_packet(item, now, waited)
        if self._file.total == self.size:
            self._verify()

    def sink_ready(self, now: float) -> None:
        """The sink may have come to its verdict."""
        if self.state not in (State.ENDING, State.CLOSED):
            verdict = self._sink.verdict()
            if verdict is not None:
                self._finish(verdict, now)

    def on_timer(self, now: float) -> None:
        """A deadline may have come."""
        if self.state is State.CLOSED:
            return
        if self._acks.due_at is not None and now >= self._acks.due_at:
            self._control_due = True
        if now >= self._ask_at():
            self._ask(now)

    def next_timer(self) -> float | None:
        """When to call `on_timer` at the latest."""
        if self.state is State.CLOSED:
            return None
        ask_at, ack_at = self._ask_at(), self._acks.due_at
        due_at = ask_at if ack_at is None else min(ask_at, ack_at)
        return due_at if due_at < math.inf else None

    # ---- what leaves

    def trains_to_send(self, now: float) -> Iterator[Train]:
        """All that is to be said now: at most one datagram."""
        if (self._control_due or self._acks.due) and self.state is not State.CLOSED:
            yield self._control_train(now)

    # ---- inside: what comes in

    def _take_data(self, run: Run, now: float, waited: float) -> None:
        number, count, offset, data = run
        stop = offset + len(data)
        if stop > min(self.size, self._prefix + WINDOW_BYTES) or len(self._file) > MAX_HOLES:
            self._finish(Verdict(End.PROTOCOL_ERROR, "data beyond what was asked for"), now)
            return
        if not self._acks.plausible(number):
            self._finish(Verdict(End.PROTOCOL_ERROR, "packet numbers jump"), now)
            return
        self._acks.on_received(number, count, len(data), now - waited)
        self._arrived += count
        if count > 1 or len(data) >= BASE_DATAGRAM - DATA_OVERHEAD:
            self._words = 0
        if self.state not in (State.RECEIVING, State.PAUSED) or not self._file.add(offset, stop):
            return
        try:
            self._sink.write(offset, data)
        except OSError as error:
            self._finish(Verdict(end_for(error), error.strerror or str(error)), now)
            return
        self._meter.note(self._file.total, now)
        self._moved_at = now
        prefix = self._file.prefix()
        if prefix != self._prefix:
            self._prefix = prefix
            self._sink.reached(prefix)

    def _take_packet(self, packet: Packet, now: float, waited: float) -> None:
        if not self._acks.plausible(packet.number):
            self._finish(Verdict(End.PROTOCOL_ERROR, "packet numbers jump"), now)
            return
        self._acks.on_received(packet.number, 1, 0, now - waited)
        self._arrived += 1
        if packet.kind != Kind.STATUS:
            return
        self._control_due = True
        if packet.number < self._status_number:
            return
        try:
            status = unpack_status(packet.body)
        except RemoteError as error:
            self._finish(Verdict(End.PROTOCOL_ERROR, error.detail), now)
            return
        self._status, self._status_number = status, packet.number
        self._acks.on_heard(status.heard)
        self._acks.set_frequency(status.ack_delay, status.ack_bytes)
        if self.state in (State.VERIFYING, State.ENDING):
            if status.phase is Phase.ENDED:
                self._server_knows = True
        elif status.size != self.size:
            self._finish(Verdict(End.FILE_CHANGED, "its size changed before it was sent"), now)
        elif not self._sink.recognise(status.mtime_ns):
            self._finish(Verdict(End.FILE_CHANGED, "it changed before it was sent"), now)
        elif status.phase is Phase.ENDED:
            end = status.end if status.end not in (End.NONE, End.DONE) else End.PROTOCOL_ERROR
            self._finish(Verdict(end), now)
            self._server_knows = True
        elif status.phase is Phase.SENDING and self._is_narrow(packet.number, now):
            self._finish(Verdict(End.TOO_NARROW), now)
        elif not self._wish_pending() and self.state in (State.RECEIVING, State.PAUSED):
            # A status from before our latest wish says nothing about what became of that wish.
            self._follow(status.phase)

    def _is_narrow(self, number: int, now: float) -> bool:
        """Whether the path carries words only, after one more of them, with this number."""
        missed = number - self._arrived
        if not self._words:
            self._words_since, self._missed = now, missed
        self._words += 1
        return (
            self._words >= NARROW_STATUSES
            and now - self._words_since >= NARROW_TIMEOUT
            and missed - self._missed >= NARROW_LOST
        )

    def _follow(self, phase: Phase) -> None:
        """Pause and go on as the server does."""
        is_all_here = self._file.total == self.size  # so there is nothing to ask a person
        if phase is Phase.PAUSED and self.state is State.RECEIVING and not is_all_here:
            self._become(State.PAUSED)
            self._words = 0
            self._meter.restart()
            self._events.append(Paused(half_way=self._wish is Wish.RUN))
        elif phase is not Phase.PAUSED and self.state is State.PAUSED:
            self._become(State.RECEIVING)
            self._events.append(Resumed())

    # ---- inside: states

    def _become(self, state: State) -> None:
        if state not in TRANSITIONS[self.state]:
            raise LocalError(f"a transfer cannot go from {self.state} to {state}")
        self.state = state

    def _wish_for(self, wish: Wish, now: float) -> None:
        self._wish = wish
        self._wished_number = self._next_number
        self._control_due = True
        self._asking.begin(now)

    def _wish_pending(self) -> bool:
        """Whether the server may not know our latest wish yet."""
        return self._status is None or self._status.heard <= self._wished_number

    def _verify(self) -> None:
        """All bytes are here: with the digest known, the sink can judge."""
        digest = self._status.digest if self._status is not None else None
        if digest is not None and self.state in (State.RECEIVING, State.PAUSED):
            self._become(State.VERIFYING)
            self._asking.trust()
            self._sink.finish(digest)

    def _finish(self, verdict: Verdict, now: float) -> None:
        if self.state in (State.ENDING, State.CLOSED):
            return
        self._become(State.ENDING)
        verdict = self._sink.close(verdict.end) or verdict
        self._end = verdict.end
        self._wish_for(Wish.END, now)
        self._events.append(
            Ended(verdict.end, verdict.detail or verdict.end.sentence, verdict.path, verdict.digest)
        )

    # ---- inside: what goes out, and when

    def _expecting(self) -> Expecting:
        if self.state is State.OPENING:
            return Expecting.FIRST_ANSWER
        if self.state is State.ENDING:
            return Expecting.GOODBYE
        # While the sink verifies there is nothing to come, however long its disk takes.
        idle = self.state in (State.PAUSED, State.VERIFYING)
        return Expecting.NOTHING if idle else Expecting.DATA

    def _ask_at(self) -> float:
        if self.state is State.VERIFYING and self._server_knows:
            return math.inf
        return self._asking.due_at(self._expecting(), unconfirmed=self._wish_pending())

    def _ask(self, now: float) -> None:
        if self._asking.ask(self._expecting(), now):
            self._control_due = True
        elif self.state is State.ENDING:
            self._become(State.CLOSED)
        elif self.state is State.VERIFYING:
            self._server_knows = True  # or will never know
        else:
            self._finish(Verdict(End.PEER_SILENT), now)

    def _control_train(self, now: float) -> Train:
        self._control_due = False
        control = self._control(now)
        if self._status is None and not control.ranges:
            kind = Kind.OPEN
            body = pack_open(
                Open(self._max_datagram, self._rtt, self._sink.have[:MAX_HAVE_RANGES], control)
            )
        else:
            kind, body = Kind.CONTROL, pack_control(control)
        data = seal_packet(self._keys, kind, self.connection_id, self._next_number, body)
        self._next_number += 1
        if self._server_knows and self.state is State.ENDING:
            self._become(State.CLOSED)
        return Train(memoryview(data), len(data))

    def _control(self, now: float) -> Control:
        ranges, ack_delay = self._acks.take(self._next_number, now)
        return Control(
            wish=self._wish,
            end=self._end,
            pause_at=self._pause_at,
            window_end=self._prefix + WINDOW_BYTES,
            rate_limit=self._rate_limit,
            confirmed=self._file.total,
            challenge=self._status.challenge if self._status is not None else 0,
            ack_delay=ack_delay,
            ranges=ranges,
        )

    def _reason(self, now: float) -> str:
        """Why nothing moves."""
        silent = self._asking.silent_for(now)
        match self.state:
            case State.OPENING if silent > BLOCKED_AFTER:
                return f"no answer over UDP for {silent:.0f} s: does a firewall block it?"
            case State.OPENING:
                return "waiting for the server's first packet"
            case State.PAUSED:
                return "paused half way" if self._wish is Wish.RUN else "paused"
            case State.VERIFYING:
                return "checking the file and bringing it to the disk"
            case State.RECEIVING if silent > POLL_AFTER:
                return f"no packet from the server for {silent:.0f} s"
            case State.RECEIVING if self._wish is Wish.PAUSE:
                return "pausing"
            case State.RECEIVING if self._file.total == self.size:
                return "waiting for the server's digest"
            case State.RECEIVING if now - self._moved_at > POLL_AFTER:
                return self._why_slow()
            case _:
                return ""

    def _why_slow(self) -> str:
        """Why nothing new comes though the server is there."""
        if self._rate_limit < SLOW_RATE:
            return "held back by your limit"
        end = self._prefix + WINDOW_BYTES
        if self._file.within(end - WINDOW_BYTES // 8, end):
            return "the window is full: waiting for what was lost"
        if self._status is not None and self._status.limited:
            return "waiting for the server: busy with others, or with its disk"
        return "the server answers, but no data comes"
