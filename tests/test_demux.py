"""Many transfers behind one port: who is answered, who is admitted, whose turn it is, and what is
let go of.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from typing import Any
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatbox.errors import RemoteError
from chatbox.rdt import sender
from chatbox.rdt.admissions import MAX_TRANSFERS, MAX_TRANSFERS_PER_USER, Admissions, Taker
from chatbox.rdt.congestion import ControllerFactory
from chatbox.rdt.congestion.cubic import Cubic
from chatbox.rdt.demux import UNUSED_TIMEOUT, Allowance, Demux
from chatbox.rdt.ends import End
from chatbox.rdt.packet import (
    BASE_DATAGRAM,
    MIN_DATAGRAM,
    Kind,
    Open,
    Phase,
    Train,
    Wish,
    pack_control,
    pack_open,
    unpack_status,
)
from chatbox.rdt.seal import Packet, Run, TrainOpener, client_keys, seal_packet, server_keys
from chatbox.rdt.sender import (
    LINGER,
    OPEN_TIMEOUT,
    PAUSED_SILENCE_TIMEOUT,
    SILENCE_TIMEOUT,
    Ended,
    Opened,
)
from chatbox.rdt.sender_states import State
from chatbox.rdt.ticket import Ticket
from tests.helpers import vectors
from tests.link import MemorySource
from tests.test_recovery import FakeController

DATA = random.Random(3).randbytes(400_000)


class Small(FakeController):
    """A controller that allows everything, two packets at a time."""

    quantum = 2 * BASE_DATAGRAM


class Client:
    """A client that says what a test has it say; its address is its name."""

    def __init__(self, tests: DemuxTestCase, name: str, ticket: Ticket, source: MemorySource):
        self.tests = tests
        self.name = name
        self.ticket = ticket
        self.source = source
        self.number = 0
        self.received: set[int] = set()
        self.statuses: list[Phase] = []
        self.ends: list[End] = []
        self.bytes = 0
        self._opener = TrainOpener(server_keys(ticket.secret), ticket.connection_id)
        self._control = replace(vectors.CONTROL, window_end=len(DATA))

    @property
    def state(self) -> State:
        """Where the server's end of it stands."""
        return self.tests.demux._transfers[self.ticket.connection_id].sender.state

    def packet(self, kind: Kind = Kind.CONTROL, **wish: object) -> bytes:
        """What this client says next, without saying it. Wishes last; arrivals are told."""
        self._control = replace(self._control, **wish)  # type: ignore[arg-type]  # any of its fields
        numbers = sorted(self.received, reverse=True)
        runs = [
            [number for _, number in group]
            for _, group in groupby(enumerate(numbers), lambda pair: pair[0] + pair[1])
        ]
        control = replace(self._control, ranges=[(run[-1], run[0] + 1) for run in runs])
        body = pack_control(control)
        if kind is Kind.OPEN:
            body = pack_open(Open(BASE_DATAGRAM, 0.0, [], control))
        keys = client_keys(self.ticket.secret)
        return seal_packet(keys, kind, self.ticket.connection_id, self.number, body)

    def say(self, kind: Kind = Kind.CONTROL, **wish: object) -> None:
        """Say it."""
        packet = self.packet(kind, **wish)
        self.number += 1
        self.tests.deliver(packet, self.name)

    def open(self, **wish: object) -> Client:
        """Begin; the server answers."""
        self.say(Kind.OPEN, **wish)
        self.tests.serve()
        return self

    def hear(self, train: Train) -> None:
        """Take in what the server sent."""
        for item in self._opener.open(train):
            if isinstance(item, Run):
                self.received.update(range(item.number, item.number + item.packets))
                self.bytes += len(item.data)
            else:
                self._hear_other(item)
        self.tests.assertEqual(self._opener.dropped, 0)

    def _hear_other(self, packet: Packet) -> None:
        self.received.add(packet.number)
        if packet.kind == Kind.STATUS:
            status = unpack_status(packet.body)
            self.statuses.append(status.phase)
            self.ends.append(status.end)


class DemuxTestCase(SynchronousTestCase):
    """A demux, its clients, and the time."""

    make_controller: ControllerFactory = Cubic

    def setUp(self) -> None:
        """Begin with nobody."""
        self.now = 1000.0
        self.admissions = Admissions()
        self.random = random.Random(1)
        self.demux = self.make_demux()
        self.clients: dict[str, Client] = {}
        self.turns: list[str] = []
        """Who was sent a train, in order."""
        self.happened: list[tuple[str, Opened | Ended]] = []

    def make_demux(self, random_bytes: Callable[[int], bytes] | None = None) -> Demux:
        """One more port of the same server."""
        factory = type(self).make_controller
        return Demux(factory, self.admissions, random_bytes or self.random.randbytes)

    def admit(self, user: str, data: bytes = DATA, *, hashed: bool = True) -> Client:
        """Give a user a ticket for a file."""
        source = MemorySource(data, hashed=hashed)
        name = f"{user} {len(self.clients)}"
        ticket = self.demux.admit(Taker(user, host=name), source, self.now)
        client = Client(self, name, ticket, source)
        self.clients[client.name] = client
        return client

    def allow(self, **limits: Any) -> None:
        """Begin anew with other limits."""
        self.admissions = Admissions(**limits)
        self.demux = self.make_demux()

    def refused(self, user: str, network: str = "") -> None:
        """Check that a user gets none."""
        source, taker = MemorySource(DATA), Taker(user, network)
        error = self.assertRaises(RemoteError, self.demux.admit, taker, source, self.now)
        self.assertEqual(error.code, "too-many-downloads")
        self.assertTrue(error.detail)
        self.assertFalse(source.closed)

    def deliver(self, datagram: bytes, address: object, segment: int = 0) -> None:
        """Something comes to the port."""
        train = Train(memoryview(datagram), segment or len(datagram))
        self.demux.receive(train, address, self.now)

    def serve(self, most: int = 1_000_000) -> int:
        """Send what may leave, at most so many trains, and take the events; how many left."""
        sent = 0
        trains = self.demux.trains_to_send(self.now)
        while sent < most and (following := next(trains, None)) is not None:
            train, address = following
            self.turns.append(str(address))
            self.clients[str(address)].hear(train)
            sent += 1
        while (event := self.demux.next_event()) is not None:
            self.happened.append((event[0].taker.user, event[1]))
        return sent

    def wait(self, seconds: float) -> None:
        """Let time pass, from deadline to deadline."""
        until = self.now + seconds
        while (due := self.demux.next_timer()) is not None and due <= until:
            self.now = max(self.now, due)
            self.demux.on_timer(self.now)
            self.serve()
        self.now = until

    def ended(self) -> list[tuple[str, End]]:
        """Whose transfers ended, and how."""
        return [(user, event.end) for user, event in self.happened if isinstance(event, Ended)]


class StrangerTests(DemuxTestCase):
    """Datagrams of those who have no ticket."""

    def test_unknown_connection(self) -> None:
        """Whoever names a connection that is not there is counted and never answered."""
        known = self.admit("alice")
        forged = bytearray(known.packet(Kind.OPEN))
        forged[4] ^= 1
        for length in (MIN_DATAGRAM, 85, len(forged)):
            self.deliver(bytes(forged[:length]), "mallory")
        self.assertEqual(self.serve(), 0)
        self.assertEqual(self.demux.dropped, 3)
        self.assertEqual(len(self.demux), 1)

    def test_short_datagrams(self) -> None:
        """What is shorter than any packet is counted, even if it begins like a good one."""
        packet = self.admit("alice").packet(Kind.OPEN)
        for length in range(MIN_DATAGRAM):
            self.deliver(packet[:length], "alice 0", segment=max(length, 1))
        self.assertEqual(self.serve(), 0)
        # An empty datagram is no datagram in a train.
        self.assertEqual(self.demux.dropped, MIN_DATAGRAM - 1)

    @given(st.binary(min_size=1, max_size=200), st.integers(1, 200))
    def test_noise(self, noise: bytes, segment: int) -> None:
        """Noise, in pieces of any size, with or without the name of a connection in the right
        place, makes nobody send anything.
        """
        self.setUp()
        client = self.admit("alice")
        name = client.ticket.connection_id.to_bytes(4, "big")
        for datagram in (noise, b"\x11" + name + noise, b"\x12" + name + noise):
            self.deliver(datagram, "mallory", segment)
        self.assertEqual(self.serve(), 0)
        self.assertEqual(self.ended(), [])
        client.open()
        self.assertEqual((client.state, client.bytes > 0), (State.SENDING, True))

    def test_wrong_seal_changes_nothing(self) -> None:
        """An opening with one bit wrong does not bind the transfer to where it came from."""
        client = self.admit("alice")
        packet = bytearray(client.packet(Kind.OPEN))
        packet[40] ^= 1
        self.deliver(bytes(packet), "mallory")
        self.assertEqual(self.serve(), 0)
        self.assertEqual(client.state, State.WAITING)
        client.open()
        self.assertEqual(set(self.turns), {"alice 0"})

    def test_control_before_open(self) -> None:
        """A transfer begins with OPEN and with nothing else."""
        client = self.admit("alice")
        client.say(Kind.CONTROL)
        self.assertEqual((self.serve(), client.state), (0, State.WAITING))

    def test_server_packets_come_back(self) -> None:
        """What the server sealed itself is nothing that it listens to."""
        client = self.admit("alice")
        for kind in Kind:
            keys = server_keys(client.ticket.secret)
            body = pack_open(Open(BASE_DATAGRAM, 0.0, [], vectors.CONTROL))
            self.deliver(seal_packet(keys, kind, client.ticket.connection_id, 0, body), "mallory")
        self.assertEqual((self.serve(), client.state), (0, State.WAITING))

    def test_dropped_are_counted_over_all(self) -> None:
        """What a transfer dropped is not forgotten with it."""
        client = self.admit("alice").open()
        client.say(wish=Wish.END)
        self.deliver(client.packet()[:-1] + b"!", client.name)
        self.serve()
        self.wait(LINGER + 1)
        self.assertEqual((len(self.demux), self.demux.dropped), (0, 1))


class RoutingTests(DemuxTestCase):
    """Whose datagram it is."""

    def test_several_in_one_train(self) -> None:
        """Datagrams that the kernel joined may be for different transfers."""
        alice, bob = self.admit("alice"), self.admit("bob")
        packets = alice.packet(Kind.OPEN), bob.packet(Kind.OPEN)
        self.deliver(b"".join(packets), "alice 0", segment=len(packets[0]))
        self.assertEqual((alice.state, bob.state), (State.SENDING, State.SENDING))

    def test_both_arrive(self) -> None:
        """Two transfers at once, each with its own file, do not get into each other's way."""
        clients = [self.admit("alice", b"a" * 3000), self.admit("bob", b"b" * 5000)]
        for client in clients:
            client.open()
            client.say()
        self.serve()
        self.assertEqual([client.bytes for client in clients], [3000, 5000])
        self.assertEqual([client.state for client in clients], [State.SENT] * 2)

    def test_connection_ids_differ(self) -> None:
        """An id that is in use is not given out again while it is."""
        one, two, skip = b"\0\0\0\1", b"\0\0\0\2", bytes(4)
        ids = iter([one, b"s" * 32, skip, one, one, two, b"t" * 32, skip])
        self.demux = self.make_demux(lambda _: next(ids))
        tickets = [self.admit("alice").ticket, self.admit("alice").ticket]
        self.assertEqual(tickets, [Ticket(1, b"s" * 32), Ticket(2, b"t" * 32)])


class AdmissionTests(DemuxTestCase):
    """How many transfers there may be."""

    def test_per_user(self) -> None:
        """One user has at most eight; others have theirs."""
        for _ in range(MAX_TRANSFERS_PER_USER):
            self.admit("alice")
        self.refused("alice")
        self.assertEqual(len(self.demux), MAX_TRANSFERS_PER_USER)
        self.admit("bob")

    def test_in_all(self) -> None:
        """All users together have at most so many, over all ports of the server."""
        other = self.make_demux()
        for index in range(MAX_TRANSFERS):
            demux = (self.demux, other)[index % 2]
            demux.admit(Taker(f"user {index}"), MemorySource(b""), self.now)
        self.refused("one more")
        self.assertEqual(len(self.admissions), MAX_TRANSFERS)

    def test_per_network(self) -> None:
        """Whoever makes up names has half of all; others, and who has no address, have the rest."""
        self.allow(most=5, most_per_user=2)
        for user in "abc":
            self.demux.admit(Taker(user, "here"), MemorySource(b""), self.now)
        self.refused("d", "here")
        for network in ("", "there"):
            self.demux.admit(Taker("d", network), MemorySource(b""), self.now)
        self.refused("e", "there")
        self.demux.abort(End.SERVER_STOPPING, self.now)
        self.serve()
        self.assertEqual((len(self.admissions), self.admissions._networks.total()), (0, 0))

    def test_network_makes_room(self) -> None:
        """Where a network has too many, one of its own that is silent may have to go."""
        self.allow(most=4, most_per_user=4)
        mine = Taker("alice", "here")
        for taker in (mine, Taker("bob", "here"), Taker("carol", "there")):
            self.demux.admit(taker, MemorySource(b""), self.now)
        self.now += UNUSED_TIMEOUT + 0.1
        self.assertEqual([one.taker for one in self.demux.silent(mine, self.now)], [mine])

    def test_freed_by_the_end(self) -> None:
        """A transfer that ended makes room at once, though it lingers to answer."""
        clients = [self.admit("alice").open() for _ in range(MAX_TRANSFERS_PER_USER)]
        self.refused("alice")
        clients[3].say(wish=Wish.END)
        self.serve()
        self.assertEqual(len(self.demux), MAX_TRANSFERS_PER_USER)
        self.admit("alice")
        self.refused("alice")

    def test_unused_ticket_expires(self) -> None:
        """A ticket that nobody uses is void after its time, and does not count any longer."""
        clients = [self.admit("alice") for _ in range(MAX_TRANSFERS_PER_USER)]
        self.serve()
        self.wait(OPEN_TIMEOUT - 0.1)
        self.refused("alice")
        self.wait(0.2)
        self.assertEqual(self.ended(), [("alice", End.REFUSED)] * MAX_TRANSFERS_PER_USER)
        self.assertEqual((len(self.demux), len(self.admissions)), (0, 0))
        self.assertIsNone(self.demux.next_timer())
        clients[0].say(Kind.OPEN)
        self.assertEqual((self.serve(), self.demux.dropped), (0, 1))
        self.admit("alice")


class EvictionTests(DemuxTestCase):
    """Paused transfers of clients that are gone."""

    def paused(self, user: str) -> Client:
        """A transfer that its client has paused."""
        client = self.admit(user).open(wish=Wish.PAUSE)
        client.say()
        while self.serve():
            client.say()
        self.assertEqual(client.state, State.PAUSED)
        return client

    def test_who_is_silent(self) -> None:
        """Only what is paused, and whose client has not been heard for long, may have to go; where
        a user has too many, one of theirs.
        """
        self.allow(most_per_user=2)
        alice, bob, busy = self.paused("alice"), self.paused("bob"), self.admit("alice").open()
        self.assertEqual(self.demux.silent(Taker("carol"), self.now), [])
        self.now += SILENCE_TIMEOUT
        self.serve()
        busy.say()
        self.now += 1
        self.assertEqual(len(self.demux.silent(Taker("carol"), self.now)), 2)
        [transfer] = self.demux.silent(Taker("alice"), self.now)
        self.assertEqual(transfer.sender.connection_id, alice.ticket.connection_id)
        bob.say()
        self.assertEqual(len(self.demux.silent(Taker("carol"), self.now)), 1)
        self.assertEqual(busy.state, State.SENDING)

    def test_who_takes_nothing(self) -> None:
        """Who only says that they are there, and takes no data, may have to go as well."""
        idle = self.admit("alice").open(window_end=0)
        for _ in range(4):
            self.assertEqual(self.demux.silent(Taker("carol"), self.now), [])
            self.now += SILENCE_TIMEOUT / 4
            idle.say()
            self.serve()
        self.now += 0.1
        [transfer] = self.demux.silent(Taker("carol"), self.now)
        self.assertEqual(transfer.sender.connection_id, idle.ticket.connection_id)
        transfer.sender.had_to_wait(1.0, self.now)
        self.assertEqual(self.demux.silent(Taker("carol"), self.now), [])
        self.assertEqual(self.demux.silent(Taker("carol"), self.now + 1), [transfer])
        idle.say(window_end=len(DATA))
        self.serve()
        idle.say()
        self.assertEqual(self.demux.silent(Taker("carol"), self.now), [])

    def idle_at_a_slow_server(self, rate: float, names: list[str]) -> set[str]:
        """Who may have to go, at whatever time, while all get a short file. The liar says that
        nothing has come.
        """
        chance = self.random.randbytes
        self.demux = Demux(Cubic, self.admissions, chance, Allowance(rate), self.now)
        clients = [self.admit(name, DATA[:20_000]).open() for name in names]
        idle: set[str] = set()
        for _ in range(int(20_000 * len(names) / rate) + 60):
            self.now += 1.0
            self.demux.on_timer(self.now)
            self.serve()
            if not all(one.waits for one in self.demux.transfers):
                idle |= {one.taker.user for one in self.demux.silent(Taker("carol"), self.now)}
            for client in clients:
                if client.name.startswith("liar"):
                    client.received.clear()
                client.say()
            self.serve()
        self.assertTrue(all(client.bytes >= 5_000 for client in clients))
        return idle

    def test_who_waits_for_the_server(self) -> None:
        """However little the server may send, who takes it when it comes is not idle; who does not
        is found all the same.
        """
        self.assertEqual(self.idle_at_a_slow_server(50.0, ["alice", "bob", "dan"]), set())
        self.assertEqual(self.idle_at_a_slow_server(500.0, ["alice", "liar"]), {"liar"})

    def test_who_waited(self) -> None:
        """Who stands in line no more is not to blame for the time in which it did."""
        chance = self.random.randbytes
        self.demux = Demux(Cubic, self.admissions, chance, Allowance(1.0), self.now)
        client = self.admit("alice").open()
        for _ in range(100):
            self.now += 1.0
            client.say()
            self.serve()
        client.say(window_end=0)
        self.serve()
        self.assertEqual(self.demux.silent(Taker("carol"), self.now), [])
        self.now += SILENCE_TIMEOUT + 1
        self.assertEqual(len(self.demux.silent(Taker("carol"), self.now)), 1)

    def test_unused(self) -> None:
        """A ticket that nobody used makes room for another of the same user, not of anybody."""
        self.allow(most_per_user=1)
        unused, _ = self.admit("alice"), self.admit("bob").open()
        self.now += UNUSED_TIMEOUT
        self.assertEqual(self.demux.silent(Taker("alice"), self.now), [])
        self.now += 0.1
        [transfer] = self.demux.silent(Taker("alice"), self.now)
        self.assertEqual(transfer.sender.connection_id, unused.ticket.connection_id)
        self.assertEqual(self.demux.silent(Taker("carol"), self.now), [])
        self.demux.evict(transfer, self.now)
        self.serve()
        self.assertEqual(self.ended(), [("alice", End.PEER_SILENT)])
        self.assertTrue(unused.source.closed)

    def test_evicted(self) -> None:
        """Whoever has to go is told, and makes room at once."""
        clients = [self.paused("alice") for _ in range(MAX_TRANSFERS_PER_USER)]
        self.refused("alice")
        self.wait(SILENCE_TIMEOUT + 1)
        self.demux.evict(self.demux.silent(Taker("alice"), self.now)[0], self.now)
        self.admit("alice")
        self.serve()
        self.assertEqual(self.ended(), [("alice", End.PEER_SILENT)])
        self.assertEqual([client.source.closed for client in clients], [True] + [False] * 7)
        self.assertEqual(clients[0].ends[-1], End.PEER_SILENT)

    def test_silence_while_paused(self) -> None:
        """A client may be silent for two hours while paused, and no longer."""
        self.paused("alice")
        self.wait(PAUSED_SILENCE_TIMEOUT - 1)
        self.assertEqual(self.ended(), [])
        self.wait(2)
        self.assertEqual(self.ended(), [("alice", End.PEER_SILENT)])
        self.wait(LINGER)
        self.assertEqual((len(self.demux), len(self.admissions)), (0, 0))


class TurnTests(DemuxTestCase):
    """Who sends next."""

    make_controller = staticmethod(lambda datagram, now: Small())

    def test_everybody_in_turn(self) -> None:
        """With much to send, three transfers send one train each, again and again."""
        clients = [self.admit(user) for user in ("alice", "bob", "carol")]
        for client in clients:
            client.say(Kind.OPEN)
        self.serve(most=60)
        # The first train of each is its STATUS.
        self.assertEqual(self.turns, [client.name for client in clients] * 20)
        self.assertEqual(len({client.bytes for client in clients}), 1)

    def test_the_rest_is_there_next_time(self) -> None:
        """Whoever stops asking finds the rest, and the turn where it was."""
        clients = [self.admit(user) for user in ("alice", "bob")]
        for client in clients:
            client.say(Kind.OPEN)
        for _ in range(5):
            self.serve(most=3)
            self.assertEqual(self.demux.next_timer(), 0.0)
        self.assertEqual(self.turns, ([client.name for client in clients] * 8)[:15])
        self.serve()
        self.assertEqual([client.bytes for client in clients], [len(DATA)] * 2)
        self.assertNotEqual(self.demux.next_timer(), 0.0)

    def test_newcomer_does_not_wait(self) -> None:
        """Somebody who comes while another sends has the turn after the next."""
        alice, bob = self.admit("alice"), self.admit("bob")
        alice.say(Kind.OPEN)
        self.serve(most=10)
        bob.say(Kind.OPEN)
        self.serve(most=10)
        self.assertTrue(bob.name in self.turns[10:12], self.turns)
        self.assertEqual(Counter(self.turns[11:])[bob.name] in (4, 5), True)

    def test_idle_ones_cost_nothing(self) -> None:
        """A transfer that waits for its client is not asked again before its deadline."""
        self.admit("alice").open(window_end=5000)
        self.assertEqual(self.serve(), 0)
        due = self.demux.next_timer()
        assert due is not None
        self.assertTrue(self.now < due < self.now + math.inf)


class Narrow(FakeController):
    """A controller that allows two packets on the way."""

    window = 2 * BASE_DATAGRAM


class WindowTests(DemuxTestCase):
    """Whose window is full."""

    make_controller = staticmethod(lambda datagram, now: Narrow())

    def test_takes_no_turn(self) -> None:
        """They are not counted among those that share what the server may send."""
        allowance = Allowance(1.0)
        chance = self.random.randbytes
        self.demux = Demux(type(self).make_controller, self.admissions, chance, allowance, self.now)
        alice = self.admit("alice").open()
        self.assertEqual(allowance.waiting, 0)
        for name in ("bob", "carol", "dan", "erin", "frank"):
            self.admit(name).open()
        self.assertGreater(allowance.waiting, 0)  # no bytes are left for all of them
        before = allowance.waiting
        said = alice.received
        alice.received = set()
        alice.say()
        self.serve()
        self.assertEqual(allowance.waiting, before)
        alice.received = said
        alice.say()
        self.serve()
        self.assertEqual(allowance.waiting, before + 1)


class LengthTests(DemuxTestCase):
    """Turns are counted in bytes."""

    def test_long_trains_get_no_more(self) -> None:
        """Whoever sends ten times as much at a time has its turn a tenth as often."""
        made: list[Small] = []

        def make(datagram: int, now: float) -> Small:
            controller = Small()
            controller.quantum *= 10 if made else 1
            made.append(controller)
            return controller

        self.demux = Demux(make, self.admissions, self.random.randbytes)
        short, long = self.admit("alice", DATA[:120_000]), self.admit("bob")
        for client in (short, long):
            client.say(Kind.OPEN)
        while short.bytes < 100_000:
            self.serve(most=1)
        self.assertLess(abs(long.bytes - short.bytes), 25_000)
        self.assertGreater(self.turns.count("alice 0"), 5 * self.turns.count("bob 1"))


class ClosingTests(DemuxTestCase):
    """However a transfer ends, the file is closed, once nothing is read from it any more."""

    def check_closed(self, client: Client, end: End) -> None:
        """The transfer ended so, nothing is left of it, and nothing is counted."""
        self.serve()
        self.assertEqual(self.ended(), [(client.name.split()[0], end)])
        self.assertTrue(client.source.closed)
        self.wait(LINGER + SILENCE_TIMEOUT)
        self.assertEqual((len(self.demux), len(self.admissions)), (0, 0))
        self.assertIsNone(self.demux.next_timer())
        self.assertEqual(len(self.ended()), 1)

    def test_not_before(self) -> None:
        """While it is sent, and while it waits to be, the file stays open."""
        client = self.admit("alice")
        self.serve()
        self.assertFalse(client.source.closed)
        client.open()
        self.assertFalse(client.source.closed)

    def test_done(self) -> None:
        """The client has it all."""
        client = self.admit("alice", b"x" * 3000).open()
        client.say()
        self.serve()
        self.assertEqual(client.statuses[-1], Phase.SENT)
        client.say(wish=Wish.END, end=End.DONE)
        self.serve()
        client.say()
        self.check_closed(client, End.DONE)
        self.assertEqual(client.ends[-1], End.DONE)

    def test_cancelled(self) -> None:
        """The client gives up."""
        client = self.admit("alice").open()
        client.say(wish=Wish.END, end=End.CANCELLED)
        self.check_closed(client, End.CANCELLED)

    def test_cancelled_in_the_opening(self) -> None:
        """The client gives up before it has heard anything."""
        client = self.admit("alice")
        client.say(Kind.OPEN, wish=Wish.END, end=End.CANCELLED)
        self.check_closed(client, End.CANCELLED)

    def test_expired(self) -> None:
        """The client never comes."""
        client = self.admit("alice")
        self.serve()
        self.wait(OPEN_TIMEOUT + 1)
        self.check_closed(client, End.REFUSED)

    def test_client_silent(self) -> None:
        """The client is not heard of any more."""
        client = self.admit("alice").open()
        self.wait(SILENCE_TIMEOUT + 1)
        self.check_closed(client, End.PEER_SILENT)

    def test_nonsense(self) -> None:
        """The client seals nonsense."""
        client = self.admit("alice").open()
        keys = client_keys(client.ticket.secret)
        self.deliver(
            seal_packet(keys, Kind.CONTROL, client.ticket.connection_id, 9, b"?"), client.name
        )
        self.check_closed(client, End.PROTOCOL_ERROR)

    def test_nonsense_in_the_opening(self) -> None:
        """The client seals nonsense from the beginning; it gets no answer."""
        client = self.admit("alice", b"x" * 100)
        control = replace(vectors.CONTROL, window_end=100)
        body = pack_open(Open(BASE_DATAGRAM, 0.0, [(0, 101)], control))
        keys = client_keys(client.ticket.secret)
        self.deliver(
            seal_packet(keys, Kind.OPEN, client.ticket.connection_id, 0, body), client.name
        )
        self.assertEqual(self.serve(), 0)
        self.check_closed(client, End.PROTOCOL_ERROR)

    def test_acknowledges_what_was_never_sent(self) -> None:
        """The client claims to have what it cannot have."""
        client = self.admit("alice").open()
        client.received.add(1_000_000)
        client.say()
        self.check_closed(client, End.PROTOCOL_ERROR)

    def test_withdrawn(self) -> None:
        """Those of the takers who are meant end, begun or not; the others go on."""
        begun, unused, bob = self.admit("alice").open(), self.admit("alice"), self.admit("bob")
        self.demux.abort(End.REFUSED, self.now, lambda taker: taker.user == "alice")
        self.serve()
        self.assertEqual(self.ended(), [("alice", End.REFUSED)] * 2)
        self.assertEqual([one.source.closed for one in (begun, unused, bob)], [True, True, False])
        self.assertEqual(begun.ends[-1], End.REFUSED)
        self.assertEqual(bob.open().state, State.SENDING)

    def test_client_that_never_listens(self) -> None:
        """Each wish of a client gets a STATUS, which we keep until it arrives: not for ever."""
        self.patch(sender, "MAX_UNHEARD", 20)
        client = self.admit("alice").open(pause_at=0)
        for number in range(20):
            client.received.clear()
            client.say(wish=(Wish.PAUSE, Wish.RUN)[number % 2])
            self.serve()
        self.assertEqual(client.state, State.PAUSED)
        client.received.clear()
        client.say(wish=Wish.PAUSE)
        self.check_closed(client, End.PROTOCOL_ERROR)

    def test_doubted(self) -> None:
        """A client that finds another sha-256 makes ours doubtful; no other end does."""
        for end in End:
            client = self.admit("alice").open()
            client.say(wish=Wish.END, end=end)
            self.assertEqual(client.source.doubted, end is End.HASH_MISMATCH, end)

    def test_file_shrinks(self) -> None:
        """The file turns out to be shorter than it was."""
        client = self.admit("alice")
        client.source.data = DATA[:20_000]
        client.open()
        self.check_closed(client, End.FILE_CHANGED)

    def test_file_unreadable(self) -> None:
        """The file cannot be read."""
        client = self.admit("alice")

        def fail(offset: int, buffer: memoryview) -> int:
            raise OSError(5, "Input/output error")

        client.source.read_into = fail  # type: ignore[method-assign]  # a disk that fails
        client.open()
        self.check_closed(client, End.FILE_UNREADABLE)

    def test_mistake(self) -> None:
        """What breaks in one transfer by a mistake of ours is told once, and stops no others."""
        client, other = self.admit("alice"), self.admit("bob")

        def fail(offset: int, buffer: memoryview) -> int:
            raise ZeroDivisionError

        client.source.read_into = fail  # type: ignore[method-assign]  # a mistake
        self.assertRaises(ZeroDivisionError, client.open)
        other.open()
        self.assertGreater(other.bytes, 0)
        self.assertEqual(self.ended(), [("alice", End.FILE_UNREADABLE)])
        self.assertEqual((client.source.closed, other.source.closed), (True, False))

    def test_mistake_in_what_comes(self) -> None:
        """So does what breaks while something is taken in, at a deadline, or with a digest."""
        for verb in ("receive", "on_timer", "digest_ready"):
            client, other = self.admit("alice").open(), self.admit("bob").open()
            transfer = self.demux._transfers[client.ticket.connection_id]
            with patch.object(transfer.sender, verb, side_effect=ZeroDivisionError) as broken:
                if verb == "receive":
                    self.assertRaises(ZeroDivisionError, client.say)
                elif verb == "on_timer":
                    self.assertRaises(ZeroDivisionError, self.wait, SILENCE_TIMEOUT)
                else:
                    digest_ready = self.demux.digest_ready
                    self.assertRaises(ZeroDivisionError, digest_ready, transfer, self.now)
                self.serve()
                self.assertEqual(broken.call_count, 1)
            self.assertEqual(self.ended(), [("alice", End.FILE_UNREADABLE)], verb)
            self.assertEqual(client.ends[-1], End.FILE_UNREADABLE)
            self.assertEqual((client.source.closed, other.source.closed), (True, False))
            self.happened.clear()
            self.demux = self.make_demux()

    def test_no_digest(self) -> None:
        """The file cannot be hashed."""
        client = self.admit("alice", hashed=False).open()
        [transfer] = self.demux._transfers.values()
        self.demux.digest_ready(transfer, self.now)
        self.check_closed(client, End.FILE_UNREADABLE)
        self.demux.digest_ready(transfer, self.now)
        self.assertEqual(self.serve(), 0)

    def test_file_that_cannot_be_looked_at(self) -> None:
        """Where its disk has gone (a server of files has, say), whoever waits is told."""

        def fail() -> bool:
            raise OSError(107, "Transport endpoint is not connected")

        unhashed, read = self.admit("alice", hashed=False).open(), self.admit("bob").open()
        for client in (unhashed, read):
            client.source.changed = fail  # type: ignore[method-assign]  # a disk that has gone
        [transfer, _] = self.demux._transfers.values()
        self.demux.digest_ready(transfer, self.now)
        self.now += sender.LOOK_EVERY
        read.say()
        self.serve()
        self.assertEqual(
            sorted(self.ended()), [("alice", End.FILE_UNREADABLE), ("bob", End.FILE_UNREADABLE)]
        )

    def test_server_stops(self) -> None:
        """The server ends them all, whatever they are at; who has come is told."""
        clients = [self.admit("alice"), self.admit("bob").open(), self.admit("carol").open()]
        clients[2].say(wish=Wish.PAUSE)
        self.serve()
        self.demux.abort(End.SERVER_STOPPING, self.now)
        self.serve()
        self.assertEqual(
            sorted(self.ended()),
            [(user, End.SERVER_STOPPING) for user in ("alice", "bob", "carol")],
        )
        self.assertTrue(all(client.source.closed for client in clients))
        self.assertEqual([client.ends[-1:] for client in clients], [[], [End(10)], [End(10)]])
        self.wait(LINGER + 1)
        self.assertEqual((len(self.demux), len(self.admissions)), (0, 0))

    def test_events(self) -> None:
        """Each transfer reports that it began, if it did, and that it ended, in this order."""
        alice, _ = self.admit("alice").open(), self.admit("bob")
        alice.say(wish=Wish.END)
        self.demux.abort(End.SERVER_STOPPING, self.now)
        self.serve()
        self.assertEqual(
            sorted(((user, type(event)) for user, event in self.happened), key=lambda one: one[0]),
            [("alice", Opened), ("alice", Ended), ("bob", Ended)],
        )
