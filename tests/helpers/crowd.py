"""Many transfers from one server in virtual time: some ports, many clients, one link for all."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from chatbox.rdt.admissions import Admissions, Taker
from chatbox.rdt.congestion import ControllerFactory
from chatbox.rdt.demux import Allowance, Demux
from chatbox.rdt.packet import Train
from chatbox.rdt.receiver import Receiver
from tests.link import Link, MemorySink, MemorySource, Network, Weather


def jain(values: Sequence[float]) -> float:
    """Jain's fairness index: 1 if all are equal, 1/n if one has everything."""
    return sum(values) ** 2 / (len(values) * sum(value * value for value in values))


@dataclass
class Member:
    """One client, and the port that serves it."""

    receiver: Receiver
    port: int
    far: float
    """Seconds more than the link's delay to this client, one way."""


class Crowd:
    """
    Clients that all fetch the same file at once; `sizes` says how many are at each port.

    `train_seconds` is what a train takes of the server's processor.
    """

    def __init__(
        self,
        data: bytes,
        sizes: Sequence[int],
        make_controller: ControllerFactory,
        *,
        link: Weather,
        max_rate: float = math.inf,
        farthest: float = 0.0,
        train_seconds: float = 0.0,
        seed: int = 1,
    ) -> None:
        self.network = Network(seed)
        self.random: random.Random = self.network.random
        self.members: list[Member] = []
        self._train_seconds = train_seconds
        self._busy_until = 0.0
        now = self.network.now
        admissions, allowance = Admissions(most_per_user=sum(sizes)), Allowance(max_rate)
        self.ports = [
            Demux(make_controller, admissions, self.random.randbytes, allowance, now) for _ in sizes
        ]
        self.down = Link(link, self.random, lambda *_: None)
        self._up = Link(replace(link, rate=1e9), self.random, lambda *_: None)
        for port, size in enumerate(sizes):
            for _ in range(size):
                ticket = self.ports[port].admit(
                    Taker("alice", host=str(len(self.members))), MemorySource(data), now
                )
                sink = MemorySink(len(data))
                receiver = Receiver(ticket, len(data), sink, now, pause_half_way=False)
                far = farthest * self.random.random()
                self.members.append(Member(receiver, port, far))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        until = self.network.now + seconds
        self._serve()
        while True:
            instants = [
                self.network.next_arrival(),
                *(member.receiver.next_timer() for member in self.members),
            ]
            if self.network.now >= self._busy_until:
                instants += [port.next_timer() for port in self.ports]
            following = min((one for one in instants if one is not None), default=math.inf)
            if following > until:
                self.network.now = until
                return
            self.network.now = now = max(self.network.now, following)
            self.network.happen()
            engines: list[Demux | Receiver] = [member.receiver for member in self.members]
            for engine in [*engines, *self.ports]:
                due = engine.next_timer()
                if due is not None and due <= now:
                    engine.on_timer(now)
            self._serve()

    @property
    def confirmed(self) -> list[int]:
        """Bytes that each client has."""
        return [member.receiver.confirmed for member in self.members]

    def _serve(self) -> None:
        now = self.network.now
        for member in self.members:
            for train in member.receiver.trains_to_send(now):
                self._up.send(bytes(train.data), now, self._to_server(member))
        for port in self.ports:
            if now < self._busy_until:
                return
            for train, index in port.trains_to_send(now):
                assert isinstance(index, int)
                for datagram in train.datagrams():
                    self.down.send(bytes(datagram), now, self._to_client(self.members[index]))
                if self._train_seconds:
                    self._busy_until = now + self._train_seconds
                    self.network.at(self._busy_until, lambda _: None)
                    break
            while port.next_event() is not None:
                pass

    def _to_client(self, member: Member) -> Callable[[float, bytes], None]:
        def arrive(datagram: bytes, now: float) -> None:
            member.receiver.receive(Train(memoryview(datagram), len(datagram)), now)

        return lambda when, datagram: self.network.at(
            when + member.far, lambda now: arrive(datagram, now)
        )

    def _to_server(self, member: Member) -> Callable[[float, bytes], None]:
        address = self.members.index(member)

        def arrive(datagram: bytes, now: float) -> None:
            self.ports[member.port].receive(
                Train(memoryview(datagram), len(datagram)), address, now
            )

        return lambda when, datagram: self.network.at(
            when + member.far, lambda now: arrive(datagram, now)
        )
