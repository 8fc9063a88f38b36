"""
Many transfers behind one UDP port, told apart by connection id.

A datagram that names no connection, or that its connection cannot open, is dropped and counted. It
is never answered: whoever has no ticket cannot make this port send anything, to itself or to a
victim whose address it borrows.

Only transfers that something happened to are looked at: those that got a datagram, and those whose
deadline came. Each first says what it has to say. Then they take turns to send of their files, by
start-time fair queueing (Goyal, Vin and Cheng, 1996): the turn is always that of the transfer that
has sent the fewest bytes, counted from when it last had nothing to send. So it does not matter how
long a transfer's trains are, and a fast receiver does not keep the others waiting.

What the operator allows in all is divided among the ports by how many transfers wait at each. How
many transfers there may be is the business of `chatbox.rdt.admissions`.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import partial
from itertools import count
from typing import Protocol

from chatbox.rdt.admissions import Admissions, Taker
from chatbox.rdt.congestion import ControllerFactory
from chatbox.rdt.ends import End
from chatbox.rdt.pacing import Pacer
from chatbox.rdt.packet import BASE_DATAGRAM, HEADER, MIN_DATAGRAM, Kind, Train
from chatbox.rdt.seal import LONGEST_DATAGRAM, TrainSealer
from chatbox.rdt.sender import SILENCE_TIMEOUT, Ended, Opened, Sender
from chatbox.rdt.sender_states import State
from chatbox.rdt.source import Source
from chatbox.rdt.ticket import SECRET_BYTES, Ticket

UNUSED_TIMEOUT = 2.0
"""Seconds after which a ticket that was not used makes room for another one of the same user. A
client opens at once; if nothing of it has come by then, most likely its UDP does not come through,
and it may be trying one port after the other."""


class File(Source, Protocol):
    """A source that somebody opened for us and that is ours to close."""

    def start_hashing(self, wake: Callable[[], None]) -> None:
        """
        Begin to compute the digest; `wake` is called, from any thread, when there is one.

        :raises OSError: if that cannot be.
        """

    def doubt(self) -> None:
        """Whoever got it found another digest than it told."""

    def close(self) -> None:
        """Let go of it."""


class Allowance:
    """What a server may send: so many bytes per second over all its ports."""

    def __init__(self, rate: float = math.inf) -> None:
        self.rate = rate
        self.waiting = 0
        """Transfers that have something to send, at all ports."""


class Transfer:
    """A sender, the file that it sends, and for whom."""

    __slots__ = ("file", "sender", "served", "taker", "touched", "waits", "waits_since")

    def __init__(self, taker: Taker, file: File, sender: Sender) -> None:
        self.taker = taker
        self.file = file
        self.sender = sender
        self.served = 0
        """Bytes on the clock of its port when it may send next."""
        self.touched = False
        """Whether something has happened to it that it may want to speak of."""
        self.waits = False
        """Whether it is among those that take turns."""
        self.waits_since = 0.0
        """Since when it is, as far as that is not counted yet."""


class Demux:
    """All transfers of one port. The same verbs as a sender, and each train comes with the address
    it goes to.
    """

    def __init__(
        self,
        make_controller: ControllerFactory,
        admissions: Admissions,
        random_bytes: Callable[[int], bytes],
        allowance: Allowance | None = None,
        now: float = 0.0,
        sealer: TrainSealer | None = None,
    ) -> None:
        """Several ports of one thread may have one `sealer`, which is half a megabyte."""
        self.dropped = 0
        """Datagrams that were for nobody here."""
        self._make_controller = make_controller
        self._admissions = admissions
        self._random_bytes = random_bytes
        self._allowance = allowance if allowance is not None else Allowance()
        self._pacer = Pacer(BASE_DATAGRAM, now)
        self._now = now
        self._sealer = sealer if sealer is not None else TrainSealer()
        self.buffer = memoryview(bytearray(2 * LONGEST_DATAGRAM))
        """Where to receive what `receive` is given."""
        self._transfers: dict[int, Transfer] = {}
        self._deadlines: dict[int, float] = {}
        self._touched: deque[Transfer] = deque()
        self._turns: list[tuple[int, int, Transfer]] = []
        """A heap of (served, running number, transfer)."""
        self._turn_numbers = count()
        self._clock = 0
        """What the transfer whose turn it was last had been served."""
        self._events: deque[tuple[Transfer, Opened | Ended]] = deque()

    def __len__(self) -> int:
        return len(self._transfers)

    @property
    def transfers(self) -> Iterable[Transfer]:
        """Those that have not closed."""
        return self._transfers.values()

    def admit(self, taker: Taker, file: File, now: float) -> Ticket:
        """
        Make a transfer of `file` for `taker`, who gets the ticket. The file is ours to close from
        here on.

        :raises RemoteError: ``too-many-downloads``; the file is still the caller's then.
        """
        self._admissions.check(taker)
        while True:
            connection_id = int.from_bytes(self._random_bytes(4), "big")
            if connection_id not in self._transfers:
                break
        ticket = Ticket(connection_id, self._random_bytes(SECRET_BYTES))
        make, chance = self._make_controller, self._random_bytes
        sender = Sender(ticket, file, make, self._sealer, chance, now, taker.host)
        transfer = self._transfers[connection_id] = Transfer(taker, file, sender)
        self._admissions.enter(taker)
        self._touch(transfer)
        return ticket

    def receive(self, train: Train, address: Hashable, now: float, waited: float = 0.0) -> None:
        """Route what came `waited` seconds ago to the transfers that it names."""
        for datagram in train.datagrams():
            if len(datagram) < MIN_DATAGRAM:
                self.dropped += 1
                continue
            connection_id = HEADER.unpack_from(datagram)[1]
            transfer = self._transfers.get(connection_id)
            if transfer is None:
                self.dropped += 1
                continue
            came = Train(datagram, len(datagram))
            receive = partial(transfer.sender.receive, came, address, waited=waited)
            self._tell(transfer, receive, now)
            # At once: where the rate of all is limited it may have things to send for long.
            self._collect_events(transfer)

    def digest_ready(self, transfer: Transfer, now: float) -> None:
        """The file of `transfer` knows its digest, or that it never will."""
        self._tell(transfer, transfer.sender.digest_ready, now)

    def abort(
        self, end: End, now: float, is_meant: Callable[[Taker], bool] = lambda _: True
    ) -> None:
        """End every transfer, or those of the takers who are meant."""
        for transfer in self._transfers.values():
            if is_meant(transfer.taker):
                transfer.sender.abort(end, now)
                self._touch(transfer)

    def silent(self, taker: Taker, now: float) -> list[Transfer]:
        """
        The transfers that may have to make room for another one of `taker`: those that are paused,
        and whose client has been silent for long; those whose client could have had data for long,
        and took none; and of those of the same user also the ones that were offered and not begun.
        """
        admissions = self._admissions
        for transfer in self._transfers.values():
            self._excuse(transfer, now)
        return [
            transfer
            for transfer in self._transfers.values()
            if admissions.makes_room(transfer.taker, taker)
            and now - transfer.sender.idle_since
            > self._patience(transfer, admissions.same_user(transfer.taker, taker))
        ]

    def _patience(self, transfer: Transfer, own: bool) -> float:
        """How long the client of a transfer may be silent while others, or they, wait for room."""
        if transfer.sender.state in (State.PAUSED, State.SENDING):
            return SILENCE_TIMEOUT
        return UNUSED_TIMEOUT if own and transfer.sender.state is State.WAITING else math.inf

    def evict(self, transfer: Transfer, now: float) -> None:
        """End a transfer whose client is silent; there is room for another at once."""
        transfer.sender.abort(End.PEER_SILENT, now)
        self._collect_events(transfer)
        self._touch(transfer)

    def on_timer(self, now: float) -> None:
        """Tell those whose deadline has come."""
        for connection_id, deadline in list(self._deadlines.items()):
            if deadline <= now:
                transfer = self._transfers[connection_id]
                self._tell(transfer, transfer.sender.on_timer, now)

    def next_timer(self) -> float | None:
        """The earliest deadline; the past while somebody has not had its turn yet."""
        deadline = min(self._deadlines.values(), default=None)
        if self._touched:
            return 0.0
        if not self._turns:
            return deadline
        turn = self._turn_at(self._now)
        return turn if deadline is None else min(turn, deadline)

    def next_event(self) -> tuple[Transfer, Opened | Ended] | None:
        """The next thing that happened, None if there is nothing more."""
        return self._events.popleft() if self._events else None

    def trains_to_send(self, now: float) -> Iterator[tuple[Train, Hashable]]:
        """
        What may leave now: what is to be said, then files, everybody in turn. Whoever stops asking
        half way finds the rest there next time.
        """
        self._now = now
        touched, turns = self._touched, self._turns
        while touched:
            transfer = touched[0]
            yield from self._trains_of(transfer, now, 0)
            touched.popleft()
            transfer.touched = False
            if transfer.sender.may_send:
                self._line_up(transfer)
            else:
                if transfer.waits:
                    turns[:] = [turn for turn in turns if turn[2] is not transfer]
                    heapq.heapify(turns)
                    self._step_out(transfer)
                self._settle(transfer)
        while turns and self._turn_at(now) <= now:
            self._clock, _, transfer = turns[0]
            most = max(self._pacer.budget(now), 1)
            sent = next(self._trains_of(transfer, now, most), None)
            if sent is None:
                heapq.heappop(turns)
                self._step_out(transfer)
                self._settle(transfer)
                continue
            data = sent[0].data
            # The rest is little, and most PROBEs are refused before they leave.
            size = len(data) if data[0] == Kind.DATA else 0
            transfer.served = self._clock + size
            heapq.heapreplace(turns, (transfer.served, next(self._turn_numbers), transfer))
            self._pacer.spend(size, now)
            yield sent

    def _tell(self, transfer: Transfer, happened: Callable[[float], None], now: float) -> None:
        """Tell a transfer what has happened. If it breaks it ends, and no other does."""
        self._touch(transfer)
        try:
            happened(now)
        except Exception:
            transfer.sender.abort(End.FILE_UNREADABLE, now)
            raise

    @staticmethod
    def _trains_of(transfer: Transfer, now: float, most: int) -> Iterator[tuple[Train, Hashable]]:
        """What a transfer has to send. If it breaks it ends: others of the port wait behind it."""
        try:
            yield from transfer.sender.trains_to_send(now, most)
        except Exception:
            transfer.sender.abort(End.FILE_UNREADABLE, now)
            raise

    def _turn_at(self, now: float) -> float:
        """When somebody may send of a file."""
        allowance = self._allowance
        if math.isinf(allowance.rate):
            return 0.0
        share = allowance.rate * len(self._turns) / allowance.waiting
        self._pacer.set_rate(share, BASE_DATAGRAM, now)
        return self._pacer.ready_at(now)

    def _touch(self, transfer: Transfer) -> None:
        """Something has happened to a transfer."""
        self._deadlines.pop(transfer.sender.connection_id, None)
        if not transfer.touched:
            transfer.touched = True
            self._touched.append(transfer)

    def _line_up(self, transfer: Transfer) -> None:
        """A transfer may send: it waits for its turn, if it does not do so already."""
        if not transfer.waits:
            transfer.waits = True
            transfer.waits_since = self._now
            self._allowance.waiting += 1
            transfer.served = max(transfer.served, self._clock)
            heapq.heappush(self._turns, (transfer.served, next(self._turn_numbers), transfer))
        if not math.isinf(self._allowance.rate):
            # Its turn may be far away.
            sender = transfer.sender
            self._deadlines[sender.connection_id] = sender.next_deadline()

    def _step_out(self, transfer: Transfer) -> None:
        """A transfer no longer takes turns."""
        self._excuse(transfer, self._now)
        transfer.waits = False
        self._allowance.waiting -= 1

    def _excuse(self, transfer: Transfer, now: float) -> None:
        """Who stands in line for a turn is not to blame for taking nothing meanwhile."""
        if transfer.waits:
            transfer.sender.had_to_wait(now - transfer.waits_since, now)
            transfer.waits_since = now

    def _settle(self, transfer: Transfer) -> None:
        """A transfer has nothing to send: note what happened and when it wants to be called."""
        self._collect_events(transfer)
        sender = transfer.sender
        deadline = sender.next_timer()
        if deadline is not None:
            self._deadlines[sender.connection_id] = deadline
        elif self._transfers.get(sender.connection_id) is transfer:
            del self._transfers[sender.connection_id]
            self.dropped += sender.dropped

    def _collect_events(self, transfer: Transfer) -> None:
        while (event := transfer.sender.next_event()) is not None:
            self._events.append((transfer, event))
            if isinstance(event, Ended):
                self._admissions.leave(transfer.taker)
                if event.end is End.HASH_MISMATCH:
                    transfer.file.doubt()
                transfer.file.close()
