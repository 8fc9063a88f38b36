"""Which packet numbers are acknowledged, when, and until when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatbox.rdt.acks import Acknowledger
from chatbox.rdt.packet import MAX_ACK_RANGES, Wish
from chatbox.rdt.ranges import RangeSet
from chatbox.rdt.sender import MANY_RANGES

from .test_demux import DemuxTestCase


class RetiringTests(SynchronousTestCase):
    """What the sender knows need not be named again."""

    def setUp(self) -> None:
        self.acks = Acknowledger(0.0)

    def arrive(self, *numbers: int) -> None:
        """These packets come."""
        for number in numbers:
            self.acks.on_received(number, 1, 1000, 0.0)

    def test_ranges_go_when_known(self) -> None:
        """Ranges are named until the sender has taken in a packet that named them."""
        self.arrive(0, 2, 4)
        self.assertEqual(self.acks.take(7, 0.0)[0], [(4, 5), (2, 3), (0, 1)])
        self.acks.on_heard(7)
        self.assertEqual(self.acks.take(8, 0.0)[0], [(4, 5), (2, 3), (0, 1)])
        self.acks.on_heard(8)
        self.assertEqual(self.acks.take(9, 0.0)[0], [(4, 5)])

    def test_a_later_packet_will_do(self) -> None:
        """It need not be the very packet that is watched: a later one names as much."""
        self.arrive(0, 2)
        self.acks.take(0, 0.0)
        self.acks.take(1, 0.0)
        self.acks.on_heard(2)
        self.assertEqual(self.acks.take(2, 0.0)[0], [(2, 3)])

    def test_what_came_meanwhile_stays(self) -> None:
        """What filled a gap after the packet had left is not known to the sender."""
        self.arrive(0, 2, 4)
        self.acks.take(0, 0.0)
        self.arrive(1, 6)
        self.acks.on_heard(1)
        self.assertEqual(self.acks.take(1, 0.0)[0], [(6, 7), (1, 2)])

    def test_late_packets_are_acknowledged(self) -> None:
        """A packet from below all that was retired is acknowledged like any other."""
        self.arrive(0, 5, 9)
        self.acks.take(0, 0.0)
        self.acks.on_heard(1)
        self.arrive(3)
        self.assertTrue(self.acks.due)
        self.assertEqual(self.acks.take(1, 0.0)[0], [(9, 10), (3, 4)])

    @given(st.lists(st.tuples(st.integers(0, 120), st.booleans(), st.booleans()), max_size=200))
    def test_everything_gets_known(self, steps: list[tuple[int, bool, bool]]) -> None:
        """Whatever is lost both ways, what arrived is known to the sender after one more packet."""
        acks, known, arrived = Acknowledger(0.0), RangeSet(), RangeSet()
        heard = 0
        for index, (number, reaches_sender, comes_back) in enumerate([*steps, (0, True, True)]):
            acks.on_received(number, 1, 1000, 0.0)
            arrived.add(number, number + 1)
            ranges, _ = acks.take(index, 0.0)
            self.assertLessEqual(len(ranges), MAX_ACK_RANGES)
            if reaches_sender:
                heard = index + 1
                for start, stop in ranges:
                    known.add(start, stop)
                if comes_back:
                    acks.on_heard(heard)
        self.assertEqual(known, arrived)


class ManyRangesTests(DemuxTestCase):
    """A client that names all that has come in every packet, though it need not."""

    def test_no_word_about_words(self) -> None:
        """What came of the file with many gaps is answered, and then nothing goes to and fro."""
        client = self.admit("alice", bytes(200_000)).open(window_end=200_000)
        while len(client.received) <= 3 * MANY_RANGES:
            client.say()
            self.serve()
        client.received = set(sorted(client.received)[::2])
        client.say(wish=Wish.PAUSE)
        self.serve()
        client.statuses.clear()
        client.say()
        self.assertEqual(self.serve(), 0)
        self.assertEqual(client.statuses, [])
