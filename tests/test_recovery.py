"""What is in flight, arrived and lost: examples of each rule, and a naive model of all of them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatbox.errors import RemoteError
from chatbox.rdt.congestion import Acked, Lost
from chatbox.rdt.packet import DATA_OVERHEAD
from chatbox.rdt.recovery import (
    MAX_HELD,
    MAX_LOST_KEPT,
    MAX_PROBE_TIMEOUT,
    PACKET_THRESHOLD,
    REORDER_PERSISTENCE,
    REORDER_STEP,
    Load,
    Outcome,
    Recovery,
)
from chatbox.rdt.rtt import RttEstimator

SIZE = 1200
PAYLOAD = SIZE - DATA_OVERHEAD
RTT = 0.1

Ranges = list[tuple[int, int]]


class FakeController:
    """A controller that remembers what it is told, and wants nothing."""

    window = 1 << 40
    pacing_rate = math.inf
    quantum = 1 << 16

    def __init__(self) -> None:
        self.acked: list[Acked] = []
        self.lost: list[Lost] = []
        self.idle: list[float] = []
        self.persistent = 0
        self.spurious = 0
        self.in_flight = 0

    def on_sent(self, now: float, size: int, in_flight: int, app_limited: bool) -> None:
        """Check that what was in flight before is what was said last."""
        self.in_flight = in_flight + size

    def on_late(self, in_flight: int) -> None:
        """Nothing of it."""

    def on_acked(self, acked: Acked, rtt: RttEstimator) -> None:
        """Remember."""
        self.acked.append(acked)

    def on_lost(self, lost: Lost) -> None:
        """Remember."""
        self.lost.append(lost)

    def on_persistent_congestion(self, now: float) -> None:
        """Count."""
        self.persistent += 1

    def on_spurious_loss(self, now: float) -> None:
        """Count."""
        self.spurious += 1

    def on_idle(self, now: float, idle: float) -> None:
        """Remember."""
        self.idle.append(idle)

    def set_datagram_size(self, size: int) -> None:
        """Nothing changes."""


class Sending:
    """A sender's books with a clock, and a file that is sent from its beginning."""

    def __init__(self) -> None:
        self.now = 100.0
        self.controller = FakeController()
        self.recovery = Recovery(self.controller, self.now)
        self.offset = 0

    def send(self, count: int = 1, last: int = SIZE) -> int:
        """Send a train of data; the number that it begins with."""
        train = self.recovery.on_sent(Load.DATA, count, SIZE, last, self.offset, self.now)
        self.offset += (count - 1) * PAYLOAD + last - DATA_OVERHEAD
        return train.number

    def ack(self, *ranges: tuple[int, int], delay: float = 0.0, waited: float = 0.0) -> Outcome:
        """Acknowledge ranges of numbers, the highest first."""
        return self.recovery.on_ack(ranges, delay, self.now, waited)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def wait_for_timer(self) -> tuple[Outcome, bool]:
        """Let time pass until the deadline, and let it come."""
        due = self.recovery.next_timer()
        assert due is not None
        self.now = max(self.now, due)
        return self.recovery.on_timer(self.now)

    def measure(self) -> None:
        """One packet there and back, so that the round trip is known to be `RTT`."""
        number = self.send()
        self.wait(RTT)
        self.ack((number, number + 1))


def part(first: int, stop: int) -> tuple[int, int]:
    """The bytes of the file in full packets, counted from the beginning of the file."""
    return first * PAYLOAD, stop * PAYLOAD


class AckTests(SynchronousTestCase):
    """Acknowledgements, whole and in parts."""

    def test_whole_train(self) -> None:
        """A train that is acknowledged in one range arrives as one range of the file."""
        sending = Sending()
        sending.send(10, last=500)
        sending.wait(RTT)
        outcome = sending.ack((0, 10))
        self.assertEqual(outcome.arrived, [(0, 9 * PAYLOAD + 500 - DATA_OVERHEAD)])
        self.assertEqual((outcome.acked, outcome.lost), (9 * SIZE + 500, []))
        self.assertEqual(sending.recovery.in_flight, 0)
        self.assertIsNone(sending.recovery.next_timer())
        [acked] = sending.controller.acked
        self.assertEqual((acked.newly_acked, acked.in_flight), (9 * SIZE + 500, 0))
        self.assertAlmostEqual(acked.rtt, RTT)

    def test_several_trains_by_one_range(self) -> None:
        """One range may end in the middle of a train and span others."""
        sending = Sending()
        for _ in range(3):
            sending.send(4)
        outcome = sending.ack((0, 10))
        self.assertEqual(outcome.arrived, [part(0, 4), part(4, 8), part(8, 10)])
        self.assertEqual(sending.recovery.in_flight, 2 * SIZE)
        outcome = sending.ack((0, 12))
        self.assertEqual(outcome.arrived, [part(10, 12)])
        self.assertEqual(sending.recovery.in_flight, 0)

    def test_pieces_of_a_train(self) -> None:
        """A train may be acknowledged in pieces, in any order."""
        sending = Sending()
        sending.send(8)
        self.assertEqual(sending.ack((1, 2)).arrived, [part(1, 2)])
        outcome = sending.ack((3, 4), (0, 2))
        self.assertEqual(outcome.arrived, [part(0, 1), part(3, 4)])
        self.assertEqual(sending.recovery.in_flight, 5 * SIZE)
        self.assertEqual(sending.ack((2, 8)).arrived, [part(2, 3), part(4, 8)])
        self.assertEqual(sending.recovery.in_flight, 0)

    def test_repeated(self) -> None:
        """What is acknowledged again changes nothing and is not reported."""
        sending = Sending()
        sending.send(4)
        sending.ack((0, 2))
        for ranges in ([(0, 2)], [(1, 2)], []):
            outcome = sending.ack(*ranges)
            self.assertEqual(outcome, Outcome())
        self.assertEqual(sending.recovery.in_flight, 2 * SIZE)
        self.assertEqual(len(sending.controller.acked), 1)

    def test_never_sent(self) -> None:
        """Acknowledging a number that was not used yet is refused, and changes nothing."""
        sending = Sending()
        sending.send(4)
        for ranges in ([(0, 5)], [(4, 5)], [(1 << 60, (1 << 60) + 1), (0, 4)]):
            error = self.assertRaises(RemoteError, sending.ack, *ranges)
            self.assertEqual(error.code, "bad-ack")
        self.assertEqual(sending.recovery.in_flight, 4 * SIZE)
        self.assertEqual(sending.controller.acked, [])

    def test_other_loads(self) -> None:
        """Packets other than data are reported by number, not as bytes of the file."""
        sending = Sending()
        recovery = sending.recovery
        recovery.on_sent(Load.STATUS, 1, 104, 104, 0, sending.now)
        sending.send(4)
        sending.wait(RTT)
        outcome = sending.ack((0, 1))
        self.assertEqual(outcome.acked_numbers, [(Load.STATUS, 0, 104)])
        self.assertEqual((outcome.arrived, outcome.acked), ([], 104))
        recovery.on_sent(Load.STATUS, 1, 104, 104, 0, sending.now)
        sending.send(3)
        outcome = sending.ack((6, 9), (1, 5))
        self.assertEqual(outcome.lost_numbers, [(Load.STATUS, 5, 104)])
        self.assertEqual(recovery.in_flight, 0)

    def test_round_trip(self) -> None:
        """A sample is taken if the highest number is new, and the delay that the receiver admits is
        believed up to what it was allowed.
        """
        sending = Sending()
        sending.measure()
        self.assertAlmostEqual(sending.recovery.rtt.smoothed, RTT)
        sending.recovery.max_ack_delay = 0.02
        sending.send(2)
        sending.wait(RTT + 0.5)
        sending.ack((2, 3), delay=0.5)
        self.assertAlmostEqual(sending.recovery.rtt.latest, RTT + 0.5)
        self.assertAlmostEqual(sending.recovery.rtt.smoothed, RTT + (0.5 - 0.02) / 8)
        sending.wait(5)
        sending.ack((1, 3))
        self.assertAlmostEqual(sending.recovery.rtt.latest, RTT + 0.5)

    def test_what_the_machines_took_is_not_the_path(self) -> None:
        """
        The controller hears of the path alone, what the two machines took is told apart from it. A
        receiver that says it is far behind is a bottleneck all the same.
        """
        sending = Sending()
        sending.measure()
        sending.recovery.max_ack_delay = 0.005
        for delay, waited in ((0.0, 0.0), (0.02, 0.0), (0.0, 0.3), (0.02, 0.3)):
            number = sending.send()
            sending.wait(RTT + delay + waited)
            sending.ack((number, number + 1), delay=delay, waited=waited)
            acked = sending.controller.acked[-1]
            self.assertAlmostEqual(acked.rtt, RTT)
            self.assertAlmostEqual(acked.held, delay + waited)
            self.assertAlmostEqual(acked.rate.interval, RTT)
            self.assertEqual(acked.now, sending.now)
            # Whoever waits for something that is overdue waits for the machines too.
            self.assertAlmostEqual(sending.recovery.rtt.latest, RTT + delay + waited)
            sending.wait(1.0)
        number = sending.send()
        sending.wait(RTT + 0.5)
        sending.ack((number, number + 1), delay=0.5)
        self.assertAlmostEqual(sending.controller.acked[-1].rtt, RTT + 0.5 - MAX_HELD)

    def test_delivery_never_goes_back(self) -> None:
        """What was delivered after something else did not come before it, whatever is said."""
        sending = Sending()
        sending.measure()
        for _ in range(2):
            sending.send()
        sending.wait(RTT)
        sending.ack((1, 2))
        delivered_at = sending.recovery.rate.delivered_at
        sending.wait(0.001)
        sending.ack((1, 3), delay=0.02)
        self.assertEqual(sending.recovery.rate.delivered_at, delivered_at)

    def test_idle(self) -> None:
        """The controller is told how long nothing was in flight, before the next train leaves."""
        sending = Sending()
        sending.measure()
        self.assertEqual(sending.controller.idle, [])
        sending.wait(3)
        sending.send()
        sending.send()
        [idle] = sending.controller.idle
        self.assertAlmostEqual(idle, 3)


class LossTests(SynchronousTestCase):
    """When a packet counts as lost."""

    def test_packet_threshold(self) -> None:
        """Three numbers later is lost, two are not."""
        sending = Sending()
        sending.send(10)
        self.assertEqual(sending.ack((2, 3)).lost, [])
        self.assertEqual(sending.ack((3, 4)).lost, [part(0, 1)])
        self.assertEqual(PACKET_THRESHOLD, 3)
        self.assertEqual(sending.ack((6, 7), (2, 4)).lost, [part(1, 2)])
        self.assertEqual(sending.recovery.in_flight, 5 * SIZE)

    def test_lost_ranges(self) -> None:
        """What is lost is handed back as ranges of the file, the short last packet too."""
        sending = Sending()
        sending.send(3, last=300)
        sending.send(5)
        sending.wait(RTT)
        outcome = sending.ack((7, 8))
        begin = 2 * PAYLOAD + 300 - DATA_OVERHEAD
        self.assertEqual(outcome.lost, [(0, begin), (begin, begin + 2 * PAYLOAD)])
        self.assertEqual(sending.recovery.in_flight, 2 * SIZE)
        self.assertEqual(
            [lost.size for lost in sending.controller.lost], [2 * SIZE + 300, 2 * SIZE]
        )
        [acked] = sending.controller.acked
        self.assertEqual((acked.newly_acked, acked.newly_lost), (SIZE, 4 * SIZE + 300))
        self.assertEqual(acked.in_flight, 2 * SIZE)

    def test_time_threshold(self) -> None:
        """What left nine eighths of a round trip ago is lost, if something later has arrived."""
        sending = Sending()
        sending.measure()
        sending.send()
        sending.wait(0.001)
        sending.send()
        sending.wait(RTT)
        self.assertEqual(sending.ack((2, 3)).lost, [])
        due = sending.recovery.next_timer()
        assert due is not None
        self.assertAlmostEqual(due, sending.now - RTT - 0.001 + sending.recovery.rtt.loss_delay())
        self.assertEqual(sending.recovery.on_timer(due - 0.001), (Outcome(), False))
        outcome, probe = sending.wait_for_timer()
        self.assertEqual((outcome.lost, probe), ([part(1, 2)], False))
        self.assertEqual(sending.recovery.in_flight, 0)
        self.assertIsNone(sending.recovery.next_timer())

    def test_nothing_later(self) -> None:
        """However much time passes, what nothing later has overtaken is not lost."""
        sending = Sending()
        sending.measure()
        sending.send(5)
        for _ in range(20):
            outcome, probe = sending.wait_for_timer()
            self.assertEqual((outcome, probe), (Outcome(), True))
        self.assertEqual(sending.recovery.in_flight, 5 * SIZE)

    def test_probes_say_nothing_of_congestion(self) -> None:
        """A PROBE of the packet size that is lost is reported, but not to the controller, and it
        does not count as in flight.
        """
        sending = Sending()
        sending.measure()
        sending.recovery.on_sent(Load.PROBE, 1, 9000, 9000, 0, sending.now)
        sending.send(3)
        self.assertEqual(sending.recovery.in_flight, 3 * SIZE)
        sending.wait(RTT)
        outcome = sending.ack((2, 5))
        self.assertEqual(outcome.lost_numbers, [(Load.PROBE, 1, 9000)])
        self.assertEqual((outcome.lost, sending.controller.lost), ([], []))
        self.assertEqual(sending.recovery.in_flight, 0)


class ProbeTests(SynchronousTestCase):
    """The probe timeout."""

    def test_back_off(self) -> None:
        """Each timeout in a row is twice as long, up to a bound; any news begins afresh."""
        sending = Sending()
        sending.measure()
        sending.send()
        base = sending.recovery.rtt.probe_timeout(0.0)
        waits = []
        for _ in range(10):
            before = sending.now
            self.assertEqual(sending.wait_for_timer(), (Outcome(), True))
            waits.append(sending.now - before)
        for times, waited in enumerate(waits):
            self.assertAlmostEqual(waited, min(base * 2**times, MAX_PROBE_TIMEOUT))
        self.assertAlmostEqual(waits[-1], MAX_PROBE_TIMEOUT)
        sending.send()
        sending.ack((2, 3))
        sending.send()
        timeout = sending.recovery.rtt.probe_timeout(0.0)
        self.assertAlmostEqual(sending.recovery._probe_at() - sending.now, timeout)

    def test_receiver_may_wait(self) -> None:
        """The time that the receiver may sit on an acknowledgement is waited for too."""
        sending = Sending()
        sending.measure()
        sending.send()
        before = sending.recovery.next_timer()
        assert before is not None
        sending.recovery.max_ack_delay = 0.02
        self.assertAlmostEqual(sending.recovery.next_timer(), before + 0.02)

    def test_before_any_sample(self) -> None:
        """Before the first round trip is known the timeout is a second."""
        sending = Sending()
        sending.send()
        self.assertAlmostEqual(sending.recovery.next_timer() or 0, sending.now + 0.999)

    def test_sending_puts_it_off(self) -> None:
        """The timeout runs from the last packet that left."""
        sending = Sending()
        sending.measure()
        sending.send()
        first = sending.recovery.next_timer()
        sending.wait(0.05)
        sending.send()
        self.assertAlmostEqual(sending.recovery.next_timer(), (first or 0) + 0.05)

    def test_nothing_in_flight(self) -> None:
        """With nothing in flight there is no timer, and nothing happens."""
        sending = Sending()
        self.assertIsNone(sending.recovery.next_timer())
        self.assertEqual(sending.recovery.on_timer(1e9), (Outcome(), False))
        sending.measure()
        self.assertIsNone(sending.recovery.next_timer())

    def test_oldest_data(self) -> None:
        """A probe should carry the data that has been in flight for longest."""
        sending = Sending()
        self.assertIsNone(sending.recovery.oldest_data())
        sending.recovery.on_sent(Load.STATUS, 1, 104, 104, 0, sending.now)
        self.assertIsNone(sending.recovery.oldest_data())
        sending.send(4)
        sending.ack((1, 3))
        self.assertEqual(sending.recovery.oldest_data(), part(2, 4))


class ReorderingTests(SynchronousTestCase):
    """Losses that were none."""

    def test_spurious_loss(self) -> None:
        """What was called lost and arrives after all is reported, once, and the controller is told
        when all of it is there.
        """
        sending = Sending()
        sending.send(6)
        sending.wait(RTT)
        self.assertEqual(sending.ack((4, 6)).lost, [part(0, 3)])
        outcome = sending.ack((4, 6), (0, 1))
        self.assertEqual((outcome.arrived, outcome.acked), ([part(0, 1)], SIZE))
        self.assertEqual(sending.controller.spurious, 0)
        self.assertEqual(sending.recovery.in_flight, SIZE)
        outcome = sending.ack((0, 6))
        self.assertEqual(outcome.arrived, [part(3, 4), part(1, 3)])
        self.assertEqual(sending.controller.spurious, 1)
        self.assertEqual(sending.recovery.in_flight, 0)
        self.assertEqual(sending.ack((0, 6)), Outcome())
        self.assertEqual(sending.recovery.rate.delivered, 6 * SIZE)

    def test_a_burst_is_one_loss(self) -> None:
        """A piece of another train follows on the one before if nothing arrived between them."""
        sending = Sending()
        for _ in range(5):
            sending.send(2)
        sending.wait(RTT)
        sending.ack((9, 10), (6, 7))
        self.assertEqual(
            [(lost.size // SIZE, lost.follows) for lost in sending.controller.lost],
            [(2, False), (2, True), (2, True)],
        )
        sending.wait_for_timer()
        self.assertEqual([lost.follows for lost in sending.controller.lost[3:]], [False, True])

    def reorder(self, sending: Sending) -> None:
        """Have the path reorder once."""
        number = sending.send(5)
        sending.wait(RTT)
        sending.ack((number + 4, number + 5))
        sending.ack((number, number + 5))

    def test_numbers_say_nothing_any_more(self) -> None:
        """Once the path reorders, only time makes a loss."""
        sending = Sending()
        sending.measure()
        self.reorder(sending)
        number = sending.send(10)
        sending.wait(RTT)
        self.assertEqual(sending.ack((number + 9, number + 10)).lost, [])
        outcome, probe = sending.wait_for_timer()
        self.assertEqual((outcome.lost, probe), ([part(number, number + 9)], False))

    def test_patience_grows(self) -> None:
        """It grows by a quarter of the smallest round trip each time, up to a smoothed one."""
        sending = Sending()
        sending.measure()
        rtt = sending.recovery.rtt
        rtt.smoothed = 1.6 * RTT  # as where delays vary
        waits, limits = list[float](), list[float]()
        for _ in range(8):
            # Patience has grown, so reordering has to be worse to be taken for a loss again.
            number = sending.send(2)
            sending.wait(RTT)
            sending.ack((number + 1, number + 2))
            sending.wait_for_timer()
            sending.ack((number, number + 2))
            waits.append(sending.recovery._loss_delay() - rtt.loss_delay(1.0))
            limits.append(rtt.smoothed)
        for step, (waited, limit) in enumerate(zip(waits, limits, strict=True), 1):
            self.assertAlmostEqual(waited, min(step * REORDER_STEP * RTT, limit))
        self.assertIn(limits[-1], waits)

    def test_patience_ends(self) -> None:
        """After enough loss episodes without reordering the numbers count again."""
        sending = Sending()
        sending.measure()
        self.reorder(sending)
        for episode in range(REORDER_PERSISTENCE + 1):
            sending.wait(0.01)
            number = sending.send(8)
            sending.wait(RTT)
            outcome = sending.ack((number + 7, number + 8))
            self.assertEqual(outcome.lost, [], episode)
            sending.wait_for_timer()
            self.assertEqual(sending.recovery.in_flight, 0)
        number = sending.send(8)
        sending.wait(RTT)
        self.assertEqual(sending.ack((number + 7, number + 8)).lost, [part(number, number + 5)])

    def test_more_losses_than_are_kept(self) -> None:
        """With more lost pieces than are remembered, middles of which arrive after all, nothing
        breaks, and what is remembered is reported once.
        """
        sending = Sending()
        pieces = MAX_LOST_KEPT + 20
        for _ in range(pieces):
            sending.send(4)
        top = 4 * pieces
        sending.send(4)
        sending.wait(RTT)
        # The last packet of each train arrives, so each loses a piece of three.
        tops: Ranges = [(top, top + 4)] + [(at - 1, at) for at in range(top, 0, -4)]
        tops[:2] = [(top - 1, top + 4)]
        self.assertEqual(len(sending.ack(*tops).lost), pieces)
        self.assertEqual(sending.recovery.in_flight, 0)
        middles = sorted(tops + [(at - 3, at - 2) for at in range(top, 0, -4)], reverse=True)
        outcome = sending.ack(*middles)
        self.assertEqual(outcome.acked, MAX_LOST_KEPT * SIZE)
        self.assertEqual(sending.ack(*middles), Outcome())
        self.assertTrue(len(sending.recovery._mourned) <= MAX_LOST_KEPT)
        self.assertEqual(sending.recovery.in_flight, 0)


class PersistentCongestionTests(SynchronousTestCase):
    """Losing everything for a long time."""

    def outage(self, seconds: float, *, arrives: bool = False) -> int:
        """Send ten packets over some seconds, lose all but perhaps one in the middle, then be heard
        again; how often the controller was told of persistent congestion.
        """
        sending = Sending()
        sending.measure()
        for index in range(10):
            sending.send()
            if arrives and index == 5:
                middle = sending.recovery.next_number - 1
            sending.wait(seconds / 9)
        number = sending.send(4)
        sending.wait(RTT)
        ranges = [(number, number + 4)]
        if arrives:
            ranges.append((middle, middle + 1))
        outcome = sending.ack(*ranges)
        self.assertEqual(len(outcome.lost), 9 if arrives else 10)
        return sending.controller.persistent

    def test_long(self) -> None:
        """Ten losses over two seconds, of a path with a tenth of a second, are the end of it."""
        self.assertEqual(self.outage(2.0), 1)

    def test_short(self) -> None:
        """Over less than three probe timeouts they are ordinary losses."""
        self.assertEqual(self.outage(0.5), 0)

    def test_something_arrived(self) -> None:
        """If something in between arrived, each half counts for itself."""
        self.assertEqual(self.outage(1.2), 1)
        self.assertEqual(self.outage(1.2, arrives=True), 0)
        self.assertEqual(self.outage(4.0, arrives=True), 1)

    def test_only_what_is_lost_counts(self) -> None:
        """A packet that is only late does not make the time since the last loss an outage."""
        sending = Sending()
        sending.measure()
        sending.send()
        sending.wait(5)
        sending.send(3)
        sending.wait(RTT)
        outcome = sending.ack((3, 5))
        self.assertEqual(outcome.lost, [part(1, 2)])
        self.assertEqual(sending.recovery.in_flight, SIZE)
        self.assertEqual(sending.controller.persistent, 0)


class AbandonTests(SynchronousTestCase):
    """Giving up on what is in flight."""

    def test_abandon(self) -> None:
        """Nothing is in flight any more, nothing is due, and late acknowledgements mean nothing."""
        sending = Sending()
        sending.measure()
        number = sending.send(10)
        sending.wait(RTT)
        sending.ack((number + 8, number + 9))
        sending.recovery.abandon(sending.now)
        self.assertEqual(sending.recovery.in_flight, 0)
        self.assertIsNone(sending.recovery.next_timer())
        self.assertIsNone(sending.recovery.oldest_data())
        self.assertEqual(sending.ack((number, number + 10)), Outcome())
        self.assertEqual(sending.recovery.in_flight, 0)

    def test_sending_again(self) -> None:
        """What leaves afterwards is remembered as ever, under new numbers."""
        sending = Sending()
        sending.send(10)
        sending.recovery.abandon(sending.now)
        self.assertEqual(sending.send(2), 10)
        self.assertEqual(sending.recovery.in_flight, 2 * SIZE)
        sending.wait(RTT)
        outcome = sending.ack((0, 12))
        self.assertEqual((outcome.acked, sending.recovery.in_flight), (2 * SIZE, 0))


class MigrationTests(SynchronousTestCase):
    """Going on over another path."""

    def test_migrate(self) -> None:
        """What was in flight has to leave again, nothing learnt is kept, and what the old path
        still delivers means nothing.
        """
        sending = Sending()
        sending.measure()
        number = sending.send(4)
        sending.ack((number + 1, number + 2))
        controller = FakeController()
        outcome = sending.recovery.migrate(controller, sending.now)
        self.assertEqual(outcome.lost, [part(1, 2), part(3, 5)])
        self.assertEqual((sending.recovery.in_flight, sending.controller.lost), (0, []))
        self.assertIsNone(sending.recovery.next_timer())
        self.assertIsNone(sending.recovery.rtt.latest)
        self.assertEqual(sending.ack((number, number + 4)), Outcome())
        first = sending.send(4)
        self.assertEqual(first, number + 4)
        sending.wait(2 * RTT)
        outcome = sending.ack((first, first + 4))
        self.assertEqual((outcome.acked, sending.recovery.in_flight), (4 * SIZE, 0))
        self.assertAlmostEqual(sending.recovery.rtt.smoothed, 2 * RTT)
        self.assertEqual([len(controller.acked), len(sending.controller.acked)], [1, 2])


# ---- a naive model: one record a packet, everything by looking at each


@dataclass
class Sent:
    """A packet."""

    number: int
    load: Load
    size: int
    start: int
    stop: int
    sent_at: float
    fate: str = "open"


@dataclass
class Model:
    """All that `Recovery` should do, without trains, without ranges, without thrift."""

    packets: list[Sent] = field(default_factory=list)
    rtt: RttEstimator = field(default_factory=RttEstimator)
    largest_acked: int = -1
    max_ack_delay: float = 0.0
    loss_at: float | None = None
    last_sent_at: float = 0.0
    probes: int = 0
    steps: int = 0
    peaceful: int = 0
    episode_at: float = -math.inf
    episode_lost: int = 0
    spurious: int = 0
    arrived: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)
    """Numbers, not bytes: both for the latest stimulus only."""

    def fated(self, fate: str) -> list[Sent]:
        """The packets of one fate."""
        return [packet for packet in self.packets if packet.fate == fate]

    @property
    def in_flight(self) -> int:
        """Bytes."""
        return sum(one.size for one in self.fated("open") if one.load is not Load.PROBE)

    def send(
        self, load: Load, count: int, datagram: int, last: int, offset: int, now: float
    ) -> None:
        """A train, packet by packet."""
        for index in range(count):
            size = last if index == count - 1 else datagram
            stop = offset + size - DATA_OVERHEAD
            self.packets.append(Sent(len(self.packets), load, size, offset, stop, now))
            offset = stop
        self.last_sent_at = now

    def skip(self, now: float) -> None:
        """A number that is left out."""
        self.packets.append(Sent(len(self.packets), Load.DATA, 0, 0, 0, now, "skipped"))

    def ack(self, numbers: set[int], ack_delay: float, now: float) -> None:
        """These numbers are acknowledged."""
        self.arrived, self.lost = set(), set()
        named = [packet for packet in self.packets if packet.number in numbers]
        new = [packet for packet in named if packet.fate == "open"]
        late = [p for p in named if p.fate == "lost" and p.load is not Load.PROBE]
        for packet in new + late:
            packet.fate = "acked"
            self.arrived.add(packet.number)
        if late:
            size = sum(packet.size for packet in late)
            self.steps = min(self.steps + 1, 4)
            self.peaceful = 0
            if 0 < self.episode_lost <= size:
                self.spurious += 1
            self.episode_lost -= size
        if not new and not late:
            return
        self.probes = 0
        if new and max(numbers) > self.largest_acked:
            self.largest_acked = max(numbers)
            sample = max(now - self.packets[self.largest_acked].sent_at, 1e-6)
            self.rtt.update(sample, min(ack_delay, self.max_ack_delay))
        self.detect(now)

    def detect(self, now: float) -> None:
        """Look at every packet for whether it is lost."""
        self.loss_at = None
        by_number = self.steps == 0
        delay = self.rtt.loss_delay(9 / 8)
        if self.steps:
            patience = max(self.steps / 4 * self.rtt.min_rtt, self.rtt.smoothed / 8)
            delay = self.rtt.loss_delay(1.0) + patience
        for packet in self.fated("open"):
            if packet.number >= self.largest_acked:
                continue
            due = packet.sent_at + delay
            later = self.packets[packet.number + 1 : self.largest_acked + 1]
            passed = sum(other.fate != "skipped" for other in later)
            if due <= now or (by_number and passed >= 3):
                self.lose(packet, now)
            elif self.loss_at is None or due < self.loss_at:
                self.loss_at = due

    def lose(self, packet: Sent, now: float) -> None:
        """A packet is lost."""
        packet.fate = "lost"
        self.lost.add(packet.number)
        if packet.load is Load.PROBE:
            return
        if packet.sent_at > self.episode_at:
            self.episode_at = now
            self.episode_lost = 0
            self.peaceful += 1
            if self.peaceful > 16:
                self.steps = 0
        self.episode_lost += packet.size

    def next_timer(self) -> float | None:
        """The deadline."""
        if self.loss_at is not None:
            return self.loss_at
        if not self.in_flight:
            return None
        timeout: float = self.rtt.probe_timeout(self.max_ack_delay) * 2**self.probes
        return self.last_sent_at + min(timeout, 4.0)

    def timer(self, now: float) -> bool:
        """The deadline has come."""
        self.arrived, self.lost = set(), set()
        if self.loss_at is not None:
            self.detect(now)
            return False
        self.probes += 1
        self.last_sent_at = now
        return True

    def check(self, tests: SynchronousTestCase, outcome: Outcome) -> None:
        """Compare what the latest stimulus brought to light."""
        for numbers, ranges, others in (
            (self.arrived, outcome.arrived, outcome.acked_numbers),
            (self.lost, outcome.lost, outcome.lost_numbers),
        ):
            packets = [self.packets[number] for number in numbers]
            data = [packet for packet in packets if packet.load is Load.DATA]
            tests.assertEqual(_bytes_of((p.start, p.stop) for p in data), _bytes_of(ranges))
            rest = sorted((p.number, p.load, p.size) for p in packets if p.load is not Load.DATA)
            tests.assertEqual(rest, sorted((number, load, size) for load, number, size in others))


def _bytes_of(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Ranges as a set of bytes would be: sorted and joined. None may overlap another."""
    joined: Ranges = []
    for start, stop in sorted(ranges):
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], stop)
        else:
            assert start < stop and (not joined or joined[-1][1] < start), "bytes reported twice"
            joined.append((start, stop))
    return joined


def ranges_of(numbers: Iterable[int]) -> Ranges:
    """Numbers as an acknowledgement has them: half-open ranges, the highest first."""
    ranges: Ranges = []
    for number in sorted(numbers, reverse=True):
        if ranges and ranges[-1][0] == number + 1:
            ranges[-1] = (number, ranges[-1][1])
        else:
            ranges.append((number, number + 1))
    return ranges


class ModelTests(SynchronousTestCase):
    """`Recovery` against the model, stimulus by stimulus."""

    @settings(max_examples=200)
    @given(st.data())
    def test_random_sequences(self, data: st.DataObject) -> None:
        """Whatever is sent, acknowledged (in any order, in part, twice, late) and waited for: what
        is in flight, what arrived, what is lost, the deadline and the round trip are the model's.
        """
        controller = FakeController()
        now = 1000.0
        recovery = Recovery(controller, now)
        model = Model(last_sent_at=now)
        offset = 0
        delay = data.draw(st.sampled_from([0.0, 0.01]))
        recovery.max_ack_delay = model.max_ack_delay = delay
        received: set[int] = set()
        steps = st.sampled_from(
            ["send", "send", "send", "ack", "ack", "ack", "stale", "timer", "skip"]
        )
        for step in data.draw(st.lists(steps, max_size=40)):
            now += data.draw(st.sampled_from([0.0, 0.0001, 0.001, 0.02, 0.1, 0.5]))
            if step == "send":
                load = data.draw(st.sampled_from([*[Load.DATA] * 6, Load.STATUS, Load.PROBE]))
                count = data.draw(st.integers(1, 6)) if load is Load.DATA else 1
                last = data.draw(st.sampled_from([SIZE, 38, 700]))
                datagram = SIZE if count > 1 else last
                recovery.on_sent(load, count, datagram, last, offset, now)
                model.send(load, count, datagram, last, offset, now)
                offset += (count - 1) * PAYLOAD + last - DATA_OVERHEAD
            elif step == "skip" and all(one.fate != "skipped" for one in model.packets[-3:]):
                recovery.skip_number()
                model.skip(now)
            elif step in ("ack", "stale") and len(model.packets) > len(model.fated("skipped")):
                sent = [one.number for one in model.packets if one.fate != "skipped"]
                everything = st.sampled_from(sent)
                more = data.draw(st.sets(everything, max_size=8))
                numbers = more if step == "stale" else received | more
                received |= more
                ranges = ranges_of(numbers)
                held = data.draw(st.sampled_from([0.0, 0.005, 0.3]))
                outcome = recovery.on_ack(ranges, held, now)
                model.ack(numbers, held, now)
                model.check(self, outcome)
            elif step == "timer" and (due := recovery.next_timer()) is not None:
                now = max(now, due)
                outcome, probe = recovery.on_timer(now)
                self.assertEqual(probe, model.timer(now))
                model.check(self, outcome)
            self.assertTrue(recovery.in_flight >= 0)
            self.assertEqual(recovery.in_flight, model.in_flight)
            self.assertEqual(recovery.next_timer(), model.next_timer())
            self.assertEqual(recovery.rtt.smoothed, model.rtt.smoothed)
            self.assertEqual(recovery.next_number, len(model.packets))
            self.assertEqual(controller.spurious, model.spurious)
        self.assertEqual(
            recovery.rate.delivered,
            sum(p.size for p in model.fated("acked") if p.load is not Load.PROBE),
        )

    @given(
        st.integers(1, 60).flatmap(
            lambda count: st.tuples(st.just(count), st.sets(st.integers(0, count - 1)))
        ),
        st.lists(st.integers(1, 9), max_size=20),
    )
    def test_cutting_into_trains_does_not_matter(
        self, sent: tuple[int, set[int]], cuts: list[int]
    ) -> None:
        """The same packets in few trains or many, at one instant, have the same fate."""
        count, numbers = sent
        fates = []
        for sizes in ([count], [1] * count, cuts):
            sending = Sending()
            left = count
            for size in sizes:
                if left:
                    sending.send(min(size, left))
                    left -= min(size, left)
            if left:
                sending.send(left)
            sending.wait(RTT)
            outcome = sending.ack(*ranges_of(numbers))
            fates.append(
                (
                    _bytes_of(outcome.arrived),
                    _bytes_of(outcome.lost),
                    sending.recovery.in_flight,
                    sending.recovery.next_timer(),
                )
            )
        self.assertEqual(fates[0], fates[1])
        self.assertEqual(fates[0], fates[2])
