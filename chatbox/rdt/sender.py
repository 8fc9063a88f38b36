"""
The server's end of one transfer.

The sender composes: `Backlog` knows which bytes of the file are unsent, `Path` how many packets may
leave, recovery (inside the path) what is in flight. What is lost goes from recovery back to the
backlog, whose lowest range always leaves first. Retransmission is therefore not a mechanism here.

What may leave is the least of five bounds: the congestion window, the pacer's budget, the
receiver's window, the place where the receiver wants a pause, and one train.

The client's whole wish comes with every packet of its (see `chatbox.rdt.packet`); the newest
counts. The server's state goes out as STATUS whenever something changes that the client must know,
and again when that packet is lost. State changes go through `_become`, and only along `TRANSITIONS`
(`chatbox.rdt.sender_states`)::

    WAITING --open--> SENDING <--proceed/pause--> PAUSED
                         |                           |
                         +-- all arrived --> SENT    |
                         |                    |      |
                         +-------- an end ----+------+--> ENDING --told, or nobody there--> CLOSED

An end is told until the client has acknowledged it; a client that ended first is answered for a
while longer, because the answer may be lost (the same reason why TCP has TIME-WAIT).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass

from chatbox.errors import LocalError, RemoteError
from chatbox.rdt.backlog import Backlog
from chatbox.rdt.congestion import ControllerFactory
from chatbox.rdt.ends import End
from chatbox.rdt.packet import (
    BASE_DATAGRAM,
    DATA_OVERHEAD,
    HEADER,
    MIN_DATAGRAM,
    NO_LIMIT,
    Control,
    Kind,
    Open,
    Status,
    Train,
    Wish,
    pack_status,
    unpack_control,
    unpack_open,
)
from chatbox.rdt.path import Path
from chatbox.rdt.recovery import MAX_PROBE_TIMEOUT, Load, Outcome
from chatbox.rdt.seal import (
    TrainSealer,
    client_keys,
    open_packet,
    same_generation,
    seal_packet,
    server_keys,
)
from chatbox.rdt.sender_states import PHASES, TRANSITIONS, State
from chatbox.rdt.source import Source, look_at
from chatbox.rdt.ticket import Ticket
from chatbox.rdt.whereabouts import Whereabouts

OPEN_TIMEOUT = 30.0
"""Seconds that a ticket waits to be used."""

SILENCE_TIMEOUT = 30.0
"""Seconds without a word of the client after which it is gone."""

PAUSED_SILENCE_TIMEOUT = 7200.0
"""The same while paused: a lid may be closed over lunch."""

PAUSED_PROBE_TIMEOUT = 600.0
"""
Seconds between two repetitions of an unanswered STATUS at most, while paused: the client sleeps, or
is gone. When it wakes it asks, and is answered at once.
"""

MANY_RANGES = 16
"""
Ranges in an acknowledgement of some of the file from which on the client is told that we know them,
so that it names them no more. It costs a STATUS each round trip, on a path that loses much.
"""

MAX_UNHEARD = 4096
"""
STATUS packets in flight, half a kilobyte each here: whoever goes on talking and never acknowledges
one of so many wants our memory.
"""

LIMITED_SECONDS = 2.0
"""Seconds since the server could not send what the path would have carried, after which the client
is told that it is the path again: the client tells a person, who does not read faster.
"""

LOOK_EVERY = 1.0
"""Seconds between two looks at whether the file has changed: what is sent after that is in vain."""

READ_RETRY = 0.002
"""Seconds until a file is read again that the disk had not given yet."""

LINGER = 3.0
"""Seconds for which an ended transfer still answers: some probe timeouts of a slow path."""

PROBE_PACKETS = 2
"""Packets that a probe timeout sends, so that one loss does not cost another timeout (RFC 9002
section 6.2.4).
"""


@dataclass(frozen=True, slots=True)
class Opened:
    """The client has come."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The transfer is over; `Sender.closed` tells when it can be forgotten."""

    end: End
    sent: int
    """Bytes on the wire."""


class Sender:
    """
    One transfer from the server's side, without socket or clock.

    Call `receive` with what came, `on_timer` when `next_timer` is due, `digest_ready` when the
    source knows its digest; after each, take the events, send all of `trains_to_send`, and look at
    `next_timer` again.
    """

    def __init__(
        self,
        ticket: Ticket,
        source: Source,
        make_controller: ControllerFactory,
        sealer: TrainSealer,
        random_bytes: Callable[[int], bytes],
        now: float,
        host: str = "",
    ) -> None:
        """`host` is the IP address from which the ticket was asked for, if there is one."""
        self.connection_id = ticket.connection_id
        self.state = State.WAITING
        self.heard_at = now
        """When the client last said something genuine."""
        self._progressed_at = now
        """When some of the file last arrived."""
        self.dropped = 0
        """Datagrams that were not the client's, or old."""
        self._source = source
        self._sealer = sealer
        self._opener_keys = client_keys(ticket.secret)
        self._keys = server_keys(ticket.secret)
        self._path = Path(make_controller, random_bytes, now)
        self._backlog = Backlog(source.size)
        self._control: Control | None = None
        self._heard = 0
        self._whereabouts = Whereabouts(ticket.secret, host)
        self._make_controller = make_controller
        self._end = End.NONE
        self._events: deque[Opened | Ended] = deque()
        self._status_due = False
        self._status_numbers: set[int] = set()
        self._probes_due = 0
        self._limited_at = -math.inf
        """When the server last could not send what the path would have carried."""
        self._told_limited = False
        self._read_at = now
        """When to read of the file again, if the disk was not ready."""
        self._look_at = now + LOOK_EVERY
        """When to look again whether the file has changed."""
        self._closes_at = now + OPEN_TIMEOUT
        self._now = now

    # ---- what others may look at

    @property
    def address(self) -> Hashable:
        """Where the client is; None before that is proven."""
        return self._whereabouts.address

    @property
    def closed(self) -> bool:
        """Whether the transfer can be forgotten."""
        return self.state is State.CLOSED

    @property
    def ended(self) -> bool:
        """Whether no more of the file will be sent."""
        return self.state in (State.ENDING, State.CLOSED)

    @property
    def in_flight(self) -> int:
        """Bytes that left and are neither acknowledged nor lost."""
        return self._path.recovery.in_flight

    @property
    def confirmed(self) -> int:
        """Bytes of the file that are with the receiver."""
        return self._backlog.arrived.total

    @property
    def idle_since(self) -> float:
        """
        Since when the client has not said a word; or, while it may have data, has taken none. What
        it had to wait for us in between does not count.
        """
        return self._progressed_at if self.state is State.SENDING else self.heard_at

    def had_to_wait(self, seconds: float, now: float) -> None:
        """For so long it was not the client's doing that nothing arrived."""
        self._progressed_at = min(self._progressed_at + seconds, now)

    def next_event(self) -> Opened | Ended | None:
        """The next thing that happened, None if there is nothing more."""
        return self._events.popleft() if self._events else None

    # ---- stimuli

    def receive(self, train: Train, address: Hashable, now: float, waited: float = 0.0) -> None:
        """Take in datagrams that name this connection, and waited so long to be read."""
        self._now = now
        for datagram in train.datagrams():
            if not self._receive_one(datagram, address, now, waited):
                self.dropped += 1

    def on_timer(self, now: float) -> None:
        """A deadline may have come."""
        self._now = now
        if self.state is State.CLOSED:
            return
        if now >= self._closes_at:
            self._time_out(now)
            return
        due = self._path.recovery.next_timer()
        if due is not None and due <= now:
            outcome, probe = self._path.recovery.on_timer(now)
            self._take(outcome, now)
            if probe:
                self._probes_due = PROBE_PACKETS

    def digest_ready(self, now: float) -> None:
        """The source knows its digest now, or that it will never know it."""
        if self.state in (State.SENDING, State.PAUSED, State.SENT):
            self._status_due = True
            if self._source.digest() is None:
                self._finish(look_at(self._source) or End.FILE_UNREADABLE, now)

    def abort(self, end: End, now: float) -> None:
        """End the transfer from this side."""
        if self.state is State.WAITING:
            self._become(State.CLOSED)
            self._events.append(Ended(end, 0))
        elif self.state not in (State.ENDING, State.CLOSED):
            self._finish(end, now)

    def next_timer(self) -> float | None:
        """When to call `on_timer`, or to ask for trains again, at the latest."""
        if self.state is State.CLOSED:
            return None
        deadline = self.next_deadline()
        turn = self._path.ready_at(self._now) if self.has_data else None
        return deadline if turn is None else min(deadline, max(turn, self._read_at))

    def next_deadline(self) -> float:
        """When to call `on_timer` at the latest, whatever may be sent until then."""
        due = self._path.recovery.next_timer()
        return self._closes_at if due is None else min(due, self._closes_at)

    # ---- what leaves

    @property
    def has_data(self) -> bool:
        """Whether some of the file waits to leave, and the client would take it."""
        return self._backlog.first_below(self._limit()) is not None

    @property
    def may_send(self) -> bool:
        """Whether some of it may leave as soon as it is time, without an acknowledgement."""
        return self.has_data and self._path.ready_at(self._now) is not None

    def trains_to_send(
        self, now: float, most: int | None = None
    ) -> Iterator[tuple[Train, Hashable]]:
        """
        All that may leave now, train by train: each is sent before the next is asked for. A train
        of the file has at most `most` bytes, though always one packet; with 0 there is none.
        """
        self._now = now
        while self.state in PHASES:
            if (challenge := self._whereabouts.take_challenge()) is not None:
                yield self._status_train(now, challenge[0]), challenge[1]
            elif self.address is None:
                return
            elif self._status_due:
                yield self._status_train(now), self.address
            elif self._probes_due:
                self._probes_due -= 1
                yield self._probe_train(now), self.address
            else:
                train = self._data_train(now, most)
                if train is None:
                    return
                yield train, self.address

    # ---- inside: what comes in

    def _receive_one(
        self, datagram: memoryview, address: Hashable, now: float, waited: float
    ) -> bool:
        if len(datagram) < MIN_DATAGRAM or self.state is State.CLOSED:
            return False
        kind, connection_id, number = HEADER.unpack_from(datagram)
        if not self._heard <= number < NO_LIMIT or connection_id != self.connection_id:
            return False
        try:
            if kind == Kind.OPEN:
                opening = unpack_open(open_packet(self._opener_keys, datagram))
                if self.state is State.WAITING:
                    self._open(opening, now)
                control = opening.control
            elif kind == Kind.CONTROL and self.state is not State.WAITING:
                control = unpack_control(open_packet(self._opener_keys, datagram))
            else:
                return False
            self._heard = number + 1
            self.heard_at = now
            left = self.address
            if self._whereabouts.follow(address, control.challenge):
                if left is not None:
                    self._take(self._path.migrate(self._make_controller, now), now)
                self._status_due = True
            self._obey(control, now, waited)
        except RemoteError as error:
            # A packet that the client's own keys sealed and that makes no sense is the client's
            # fault. Any other is not known to be from it, and must not harm it.
            if error.code != "bad-seal":
                self.abort(End.PROTOCOL_ERROR, now)
            return False
        return True

    def _open(self, opening: Open, now: float) -> None:
        for start, stop in opening.have:
            if stop > self._source.size:
                raise RemoteError("bad-packet", "more of the file than there is")
            self._backlog.on_arrived(start, stop)
        self._path.limit_datagram(opening.max_datagram)
        if opening.rtt:
            self._path.expect_rtt(opening.rtt)
        self._become(State.SENDING)
        self._progressed_at = now
        self._status_due = True
        self._events.append(Opened())

    def _obey(self, control: Control, now: float, waited: float) -> None:
        """Make the client's newest wish ours."""
        before, self._control = self._control, control
        outcome = self._path.recovery.on_ack(control.ranges, control.ack_delay, now, waited)
        self._take(outcome, now)
        if len(self._status_numbers) > MAX_UNHEARD:
            raise RemoteError("bad-packet", "many words, and none of ours acknowledged")
        limit = math.inf if control.rate_limit == NO_LIMIT else float(control.rate_limit)
        self._status_due |= self._path.retune(limit, now)
        if self.state is State.ENDING:
            self._after_end(control, outcome, now)
            return
        self._closes_at = now + self._patience()
        if control.wish is Wish.END:
            self._finish(control.end if control.end is not End.NONE else End.CANCELLED, now)
            return
        if self.state in (State.SENDING, State.PAUSED):
            self._become_paused(self._should_pause(), now)
        is_sent = self.state is State.SENDING and self._backlog.complete
        if is_sent:
            self._become(State.SENT)
            self._status_due = True
        if is_sent or (now >= self._look_at and self.state is not State.SENT):
            self._look_at = now + LOOK_EVERY
            if end := look_at(self._source):
                self._finish(end, now)
                return
        # A packet that brings nothing new asks if we are still here, if nothing is on its way that
        # would answer that, or what was has not been heard of for so long that it was repeated.
        asked = not outcome.acked and (not self.in_flight or self._path.recovery.probes_sent > 0)
        # Many ranges are not worth a word when only our words are new: that would go on for ever.
        many = len(control.ranges) > MANY_RANGES and bool(outcome.arrived)
        asked |= many and not self._status_numbers
        asked |= self._limited(now) is not self._told_limited
        asked |= not before or (before.wish, before.pause_at) != (control.wish, control.pause_at)
        self._status_due |= asked

    def _limited(self, now: float) -> bool:
        return now - self._limited_at < LIMITED_SECONDS

    def _take(self, outcome: Outcome, now: float) -> None:
        """Put what was lost back among the unsent, and take what arrived away from it."""
        self._path.learn(outcome, now)
        for start, stop in outcome.arrived:
            self._backlog.on_arrived(start, stop)
            self._progressed_at = now
        for start, stop in outcome.lost:
            self._backlog.on_lost(start, stop)
        for load, number, _ in outcome.acked_numbers:
            if load is Load.STATUS:
                # The newest STATUS says all, so once it is there the older ones need not arrive any
                # more.
                self._status_numbers = {other for other in self._status_numbers if other > number}
        for load, number, _ in outcome.lost_numbers:
            if load is Load.STATUS and number in self._status_numbers:
                self._status_numbers.discard(number)
                self._status_due |= not self._status_numbers

    # ---- inside: states

    def _become(self, state: State) -> None:
        if state not in TRANSITIONS[self.state]:
            raise LocalError(f"a transfer cannot go from {self.state} to {state}")
        self.state = state

    def _should_pause(self) -> bool:
        control = self._control
        assert control is not None
        if control.wish is Wish.PAUSE:
            return True
        # The pause half way is reached once all before it has arrived, not when it has merely left.
        pause_at = control.pause_at
        return pause_at < self._source.size and self._backlog.arrived.covers(0, pause_at)

    def _become_paused(self, paused: bool, now: float) -> None:
        wanted = State.PAUSED if paused else State.SENDING
        if wanted is not self.state:
            self._become(wanted)
            self._progressed_at = now
            self._status_due = True
            self._closes_at = now + self._patience()
            patience = PAUSED_PROBE_TIMEOUT if paused else MAX_PROBE_TIMEOUT
            self._path.recovery.max_probe_timeout = patience

    def _patience(self) -> float:
        return PAUSED_SILENCE_TIMEOUT if self.state is State.PAUSED else SILENCE_TIMEOUT

    def _finish(self, end: End, now: float) -> None:
        self._end = end
        self._become(State.ENDING)
        self._path.recovery.abandon(now)
        self._backlog.drop()
        self._probes_due = 0
        self._status_numbers.clear()
        self._status_due = True
        self._closes_at = now + LINGER
        self._events.append(Ended(end, self._path.bytes_sent))

    def _after_end(self, control: Control, outcome: Outcome, now: float) -> None:
        """The client still speaks after the end: it has not heard of it, or it has and says so."""
        if outcome.acked_numbers and not self._status_numbers:
            self._close(now)
        elif control.wish is Wish.END and not self._status_numbers:
            self._status_due = True

    def _time_out(self, now: float) -> None:
        if self.state is State.WAITING:
            self._become(State.CLOSED)
            self._events.append(Ended(End.REFUSED, 0))
        elif self.state is State.ENDING:
            self._close(now)
        else:
            self._finish(End.PEER_SILENT, now)

    def _close(self, now: float) -> None:
        self._become(State.CLOSED)
        self._path.recovery.abandon(now)

    # ---- inside: what goes out

    def _limit(self) -> int:
        """The offset that nothing may be sent at or beyond."""
        control = self._control
        if self.state is not State.SENDING or control is None or self.address is None:
            return 0
        return min(control.pause_at, control.window_end)

    def _data_train(self, now: float, most: int | None) -> Train | None:
        unsent = self._backlog.first_below(self._limit())
        if unsent is None:
            self._path.nothing_to_send()
            return None
        if most == 0 or now < self._read_at:
            return None
        packets = self._path.packets(now)
        if not packets:
            return None
        size = self._path.probe_size(now)
        if size is not None:
            return self._filler_train(size, now)
        if most is not None and packets > (allowed := max(1, most // self._path.datagram)):
            # It is the server that cannot send more: what is measured now is not the path.
            self._path.nothing_to_send()
            self._limited_at = now
            packets = allowed
        return self._seal_data(*unsent, packets, self._path.datagram, now)

    def _seal_data(
        self, start: int, stop: int, packets: int, datagram: int, now: float
    ) -> Train | None:
        """
        Send up to so many packets, of `datagram` bytes each, of what is between the offsets. None
        if the disk is not ready.
        """
        path = self._path
        number = path.next_number()
        payload = datagram - DATA_OVERHEAD
        packets = same_generation(number, min(packets, self._sealer.most_packets(datagram)))
        length = min(stop - start, packets * payload)
        try:
            got = self._source.read_into(start, self._sealer.block(length))
        except BlockingIOError:
            path.nothing_to_send()
            self._limited_at = now
            self._read_at = now + READ_RETRY
            return None
        except OSError:
            self._finish(End.FILE_UNREADABLE, now)
            return self._status_train(now)
        if got < length:
            self._finish(End.FILE_CHANGED, now)
            return self._status_train(now)
        train = self._sealer.seal(self._keys, self.connection_id, number, start, length, datagram)
        count = math.ceil(length / payload)
        last = len(train.data) - (count - 1) * datagram
        self._backlog.on_sent(start, start + length)
        path.on_sent(Load.DATA, count, datagram, last, start, now)
        return train if path.joined else train._replace(joined=False)

    def _probe_train(self, now: float) -> Train:
        """One packet to provoke an answer: the oldest data in flight, or else what the client must
        know.
        """
        oldest = self._path.recovery.oldest_data()
        if oldest is None or self.state is not State.SENDING:
            return self._status_train(now)
        # Small, because that they are too large may be the very reason why nothing arrives.
        return self._seal_data(*oldest, 1, BASE_DATAGRAM, now) or self._status_train(now)

    def _filler_train(self, size: int, now: float) -> Train:
        """A PROBE of `size` bytes: does the path carry it?"""
        number = self._path.recovery.next_number
        filler = bytes(size - MIN_DATAGRAM)
        data = seal_packet(self._keys, Kind.PROBE, self.connection_id, number, filler)
        self._path.on_sent(Load.PROBE, 1, size, size, 0, now)
        return Train(memoryview(data), size)

    def _status_train(self, now: float, challenge: int = 0) -> Train:
        self._status_due = False
        if not self.in_flight:
            # How fast so little travels, before the server finds the time for more, says nothing.
            self._path.nothing_to_send()
        number = self._path.recovery.next_number
        self._told_limited = self._limited(now)
        status = Status(
            phase=PHASES[self.state],
            end=self._end,
            size=self._source.size,
            mtime_ns=self._source.mtime_ns,
            heard=self._heard,
            challenge=challenge,
            ack_delay=self._path.ack_delay,
            ack_bytes=self._path.ack_bytes,
            digest=self._source.digest(),
            limited=self._told_limited,
        )
        data = seal_packet(self._keys, Kind.STATUS, self.connection_id, number, pack_status(status))
        self._path.on_sent(Load.STATUS, 1, len(data), len(data), 0, now)
        self._status_numbers.add(number)
        return Train(memoryview(data), len(data))
