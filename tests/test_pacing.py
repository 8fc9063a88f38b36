"""The token bucket: how fast, and how much at once."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatbox.rdt.pacing import BURST_PACKETS, BURST_SECONDS, MAX_LATE_BYTES, WAKE_SECONDS, Pacer

PACKET = 1200


def paced(rate: float, now: float = 0.0) -> Pacer:
    """A full bucket at a rate."""
    pacer = Pacer(PACKET, now)
    pacer.set_rate(rate, PACKET, now)
    return pacer


def drain(pacer: Pacer, now: float) -> int:
    """Send all that may leave now, in packets."""
    sent = 0
    while pacer.budget(now) >= PACKET:
        pacer.spend(PACKET, now)
        sent += PACKET
    return sent


class PacerTests(SynchronousTestCase):
    """`Pacer`."""

    def test_unlimited_at_first(self) -> None:
        """Without a rate anything may leave at once."""
        pacer = Pacer(PACKET, 0.0)
        self.assertTrue(math.isinf(pacer.rate))
        self.assertGreater(pacer.budget(0.0), 1 << 40)
        pacer.spend(1 << 30, 0.0)
        self.assertEqual(pacer.ready_at(5.0), 5.0)

    def test_burst_after_silence_is_bounded(self) -> None:
        """However long nothing was sent, no more than the depth leaves at once."""
        pacer = paced(1e6)
        self.assertEqual(drain(pacer, 3600.0), BURST_PACKETS * PACKET)

    def test_burst_grows_with_the_rate(self) -> None:
        """Fast senders may send two milliseconds' worth."""
        pacer = paced(1e8)
        self.assertEqual(pacer.depth, int(1e8 * BURST_SECONDS))

    def test_waits_for_a_milliseconds_worth(self) -> None:
        """An empty bucket is worth asking for again when a whole train has come together."""
        pacer = paced(5e6)
        drain(pacer, 10.0)
        left = pacer.budget(10.0)
        when = pacer.ready_at(10.0)
        self.assertApproximates(when - 10.0, (5e6 * WAKE_SECONDS - left) / 5e6, 1e-6)
        self.assertGreaterEqual(pacer.budget(when), PACKET)

    def test_slow_senders_wait_for_a_packet(self) -> None:
        """Below a packet a millisecond, the next packet is what to wait for."""
        pacer = paced(1e5)
        drain(pacer, 10.0)
        self.assertApproximates(pacer.ready_at(10.0), 10.0 + PACKET / 1e5, PACKET / 1e5)
        self.assertEqual(drain(pacer, pacer.ready_at(10.0)), PACKET)

    def test_debt_is_waited_off(self) -> None:
        """A packet more than there was (a probe) delays what follows."""
        pacer = paced(1e6)
        drain(pacer, 1.0)
        pacer.spend(100_000, 1.0)
        self.assertGreater(pacer.ready_at(1.0), 1.09)

    def test_rate_changes_keep_what_was_earned(self) -> None:
        """Tokens of the time before a change are counted at the rate before it."""
        pacer = paced(1e6)
        drain(pacer, 1.0)
        left = pacer.budget(1.0)
        pacer.set_rate(2e6, PACKET, 1.004)
        self.assertApproximates(pacer.budget(1.004), left + 4000, 2)
        self.assertApproximates(pacer.budget(1.006), left + 8000, 2)

    def test_clock_that_steps_back(self) -> None:
        """Gives no tokens and takes none, and the time in between is not counted twice."""
        pacer = paced(1e6)
        drain(pacer, 100.0)
        left = pacer.budget(100.0)
        self.assertEqual(pacer.budget(40.0), left)
        self.assertEqual(pacer.budget(40.002), left)
        self.assertApproximates(pacer.budget(100.002), left + 2000, 2)

    def test_asking_at_the_time_named_is_enough(self) -> None:
        """
        On a clock that counts from 1970 a packet may leave when `ready_at` said so: nobody is sent
        away to come back at the same instant.
        """
        now = 1.7e9
        pacer = paced(3.3e6, now)
        for _ in range(1000):
            drain(pacer, now)
            later = pacer.ready_at(now)
            self.assertGreater(later, now)
            now = later
            self.assertEqual(pacer.ready_at(now), now)
            pacer.spend(PACKET, now)

    def test_late_timers_take_nothing_away(self) -> None:
        """A sender of 20 Mbit/s whose turn always comes a tenth of a second late keeps its rate."""
        pacer, now, sent = paced(2.5e6), 0.0, 0
        for _ in range(100):
            sent += drain(pacer, now)
            now = pacer.ready_at(now) + 0.1
        self.assertGreater(sent, 0.98 * 2.5e6 * now)

    def test_what_a_late_timer_may_make_up_for_is_bounded(self) -> None:
        """After an hour it is `MAX_LATE_BYTES` on top of what always may leave at once."""
        pacer = paced(5e6)
        drain(pacer, 0.0)
        sent = drain(pacer, pacer.ready_at(0.0) + 3600.0)
        self.assertLessEqual(sent, BURST_SECONDS * 5e6 + MAX_LATE_BYTES)
        self.assertGreater(sent, BURST_SECONDS * 5e6 + MAX_LATE_BYTES - PACKET)

    def test_how_late_it_was(self) -> None:
        """The pacer knows by how much its latest firing came late."""
        pacer = paced(5e6)
        drain(pacer, 0.0)
        due = pacer.ready_at(0.0)
        pacer.budget(due + 0.03)
        self.assertAlmostEqual(pacer.take_overslept(), 0.03)
        self.assertEqual(pacer.take_overslept(), 0.0)
        drain(pacer, due + 0.03)
        pacer.budget(pacer.ready_at(due + 0.03))
        self.assertAlmostEqual(pacer.take_overslept(), 0.0)

    def test_who_does_not_wait_for_the_pacer_is_not_late(self) -> None:
        """A sender that the window held back gets the usual burst, however long that took."""
        pacer = paced(500e3)
        drain(pacer, 0.0)
        pacer.ready_at(0.0)
        pacer.not_waiting()
        self.assertEqual(drain(pacer, 3600.0), BURST_PACKETS * PACKET)

    @given(
        st.floats(min_value=1e4, max_value=1e9),
        st.lists(st.floats(min_value=0, max_value=0.05), max_size=50),
    )
    def test_never_faster_than_the_rate(self, rate: float, steps: list[float]) -> None:
        """Over any time, no more leaves than the depth and the rate allow."""
        pacer = paced(rate)
        now, sent = 0.0, 0
        for step in steps:
            now += step
            budget = pacer.budget(now)
            if budget >= PACKET:
                pacer.spend(budget, now)
                sent += budget
        self.assertLessEqual(sent, pacer.depth + rate * now + 1)

    @given(st.floats(min_value=1e5, max_value=1e9))
    def test_keeps_the_rate(self, rate: float) -> None:
        """A sender that comes when told to, rounded up to a millisecond, loses nothing."""
        pacer = paced(rate)
        now, sent = 0.0, 0
        while now < 1.0:
            budget = pacer.budget(now)
            if budget >= PACKET:
                pacer.spend(budget, now)
                sent += budget
            now = math.floor(pacer.ready_at(now) * 1000 + 1) / 1000
        self.assertGreater(sent, 0.97 * rate)
