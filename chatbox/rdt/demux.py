"""
Many transfers behind one UDP port, told apart by connection id.

A datagram that names no connection, or that its connection cannot open, is dropped and counted. It
is never answered: whoever has no ticket cannot make this port send anything, to itself or to a
victim whose address it borrows.

Only transfers that something happened to are looked at: those that got a datagram, and those whose
deadline came. They take turns, one train each, so that a fast receiver does not keep the others
waiting.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator
from typing import Protocol

from chatbox.errors import RemoteError
from chatbox.rdt.congestion import ControllerFactory
from chatbox.rdt.ends import End
from chatbox.rdt.pacing import Pacer
from chatbox.rdt.packet import HEADER, MIN_DATAGRAM, Kind, Train
from chatbox.rdt.seal import RECEIVE_BYTES, TrainSealer
from chatbox.rdt.sender import SILENCE_TIMEOUT, Ended, Opened, Sender, Source, State
from chatbox.rdt.ticket import SECRET_BYTES, Ticket

MAX_TRANSFERS = 512
"""Transfers at once in one server: each holds an open file and some kilobytes."""

MAX_TRANSFERS_PER_USER = 8
"""Enough for somebody who fetches a folder, too few to take all of the above."""


class File(Source, Protocol):
    """A source that somebody opened for us and that is ours to close."""

    def start_hashing(self, wake: Callable[[], None]) -> None:
        """Begin to compute the digest; `wake` is called, from any thread, when there is one."""

    def close(self) -> None:
        """Let go of it."""


class Admissions:
    """Who has how many transfers, over all ports of a server."""

    def __init__(
        self, most: int = MAX_TRANSFERS, most_per_user: int = MAX_TRANSFERS_PER_USER
    ) -> None:
        self._most = most
        self._most_per_user = most_per_user
        self._users: Counter[str] = Counter()

    def check(self, user: str) -> None:
        """
        See whether `user` may have one more.

        :raises RemoteError: ``too-many-downloads``.
        """
        if self._users[user] >= self._most_per_user:
            raise RemoteError(
                "too-many-downloads",
                f"You have {self._users[user]} downloads already; wait for one or cancel it.",
            )
        if self._users.total() >= self._most:
            raise RemoteError("too-many-downloads", "The server is busy; try again in a while.")

    def enter(self, user: str) -> None:
        """`user` has one more."""
        self._users[user] += 1

    def leave(self, user: str) -> None:
        """`user` has one less."""
        self._users[user] -= 1
        if not self._users[user]:
            del self._users[user]

    def __len__(self) -> int:
        return self._users.total()


class Transfer:
    """A sender, the file that it sends, and for whom."""

    __slots__ = ("file", "sender", "user")

    def __init__(self, user: str, file: File, sender: Sender) -> None:
        self.user = user
        self.file = file
        self.sender = sender


class Demux:
    """All transfers of one port. The same verbs as a sender, and each train comes with the address
    it goes to.
    """

    def __init__(
        self,
        make_controller: ControllerFactory,
        admissions: Admissions,
        random_bytes: Callable[[int], bytes],
        cap: Pacer | None = None,
    ) -> None:
        self.dropped = 0
        """Datagrams that were for nobody here."""
        self._make_controller = make_controller
        self._admissions = admissions
        self._random_bytes = random_bytes
        self._cap = cap
        self._now = 0.0
        self._sealer = TrainSealer()
        self.buffer = memoryview(bytearray(RECEIVE_BYTES))
        """Where to receive what `receive` is given."""
        self._transfers: dict[int, Transfer] = {}
        self._deadlines: dict[int, float] = {}
        self._ready: deque[int] = deque()
        self._events: deque[tuple[Transfer, Opened | Ended]] = deque()

    def __len__(self) -> int:
        return len(self._transfers)

    def admit(self, user: str, file: File, now: float) -> Ticket:
        """
        Make a transfer of `file` for `user`, who gets the ticket. The file is ours to close from
        here on.

        :raises RemoteError: ``too-many-downloads``; the file is still the caller's then.
        """
        try:
            self._admissions.check(user)
        except RemoteError:
            self._evict_silent(user, now)
            self._admissions.check(user)
        while True:
            connection_id = int.from_bytes(self._random_bytes(4), "big")
            if connection_id not in self._transfers:
                break
        ticket = Ticket(connection_id, self._random_bytes(SECRET_BYTES))
        sender = Sender(ticket, file, self._make_controller, self._sealer, now)
        self._transfers[connection_id] = Transfer(user, file, sender)
        self._admissions.enter(user)
        self._touch(connection_id)
        return ticket

    def receive(self, train: Train, address: Hashable, now: float) -> None:
        """Route what came to the transfers that it names."""
        for datagram in train.datagrams():
            if len(datagram) < MIN_DATAGRAM:
                self.dropped += 1
                continue
            connection_id = HEADER.unpack_from(datagram)[1]
            transfer = self._transfers.get(connection_id)
            if transfer is None:
                self.dropped += 1
                continue
            transfer.sender.receive(Train(datagram, len(datagram)), address, now)
            self._touch(connection_id)

    def digest_ready(self, transfer: Transfer, now: float) -> None:
        """The file of `transfer` knows its digest, or that it never will."""
        transfer.sender.digest_ready(now)
        self._touch(transfer.sender.connection_id)

    def abort_all(self, end: End, now: float) -> None:
        """End every transfer."""
        for connection_id, transfer in self._transfers.items():
            transfer.sender.abort(end, now)
            self._touch(connection_id)

    def on_timer(self, now: float) -> None:
        """Tell those whose deadline has come."""
        for connection_id, deadline in list(self._deadlines.items()):
            if deadline <= now:
                self._transfers[connection_id].sender.on_timer(now)
                self._touch(connection_id)

    def next_timer(self) -> float | None:
        """The earliest deadline; the past while somebody has not had its turn yet."""
        deadline = min(self._deadlines.values(), default=None)
        if not self._ready:
            return deadline
        turn = self._cap.ready_at(self._now) if self._cap is not None else 0.0
        return turn if deadline is None else min(turn, deadline)

    def next_event(self) -> tuple[Transfer, Opened | Ended] | None:
        """The next thing that happened, None if there is nothing more."""
        return self._events.popleft() if self._events else None

    def trains_to_send(self, now: float) -> Iterator[tuple[Train, Hashable]]:
        """
        What may leave now, everybody in turn. Whoever stops asking half way finds the rest there
        next time.
        """
        ready, cap = self._ready, self._cap
        self._now = now
        while ready and (cap is None or cap.ready_at(now) <= now):
            connection_id = ready[0]
            transfer = self._transfers.get(connection_id)
            sent = next(transfer.sender.trains_to_send(now), None) if transfer is not None else None
            if sent is not None:
                ready.rotate(-1)
                data = sent[0].data
                # The rest is little, and most PROBEs are refused before they leave.
                if cap is not None and data[0] == Kind.DATA:
                    cap.spend(len(data), now)
                yield sent
                continue
            ready.popleft()
            if transfer is not None:
                self._settle(connection_id, transfer)

    def _touch(self, connection_id: int) -> None:
        self._deadlines.pop(connection_id, None)
        if connection_id not in self._ready:
            self._ready.append(connection_id)

    def _settle(self, connection_id: int, transfer: Transfer) -> None:
        """A transfer has had its turn: note what happened and when it wants to be called."""
        self._collect_events(transfer)
        sender = transfer.sender
        deadline = sender.next_timer()
        if deadline is not None:
            self._deadlines[connection_id] = deadline
        else:
            del self._transfers[connection_id]
            self.dropped += sender.dropped

    def _collect_events(self, transfer: Transfer) -> None:
        while (event := transfer.sender.next_event()) is not None:
            self._events.append((transfer, event))
            if isinstance(event, Ended):
                self._admissions.leave(transfer.user)
                transfer.file.close()

    def _evict_silent(self, user: str, now: float) -> None:
        """Paused transfers whose client has been silent for long make room for the same user's next
        one.
        """
        for connection_id, transfer in self._transfers.items():
            sender = transfer.sender
            silent = now - sender.heard_at > SILENCE_TIMEOUT
            if transfer.user == user and sender.state is State.PAUSED and silent:
                sender.abort(End.PEER_SILENT, now)
                self._collect_events(transfer)
                self._touch(connection_id)
