"""What losses mean to BBR."""

from __future__ import annotations

import math
import random

from twisted.trial.unittest import SynchronousTestCase

from chatbox.rdt.congestion import Acked, Lost
from chatbox.rdt.congestion.bbr.loss import MAX_BACKGROUND_LOSS, BackgroundLoss, Losses
from chatbox.rdt.congestion.bbr.min_rtt import MinRtt
from chatbox.rdt.rate import RateSample
from tests.helpers.path import PACKET

RTT = 0.05


class BackgroundTests(SynchronousTestCase):
    """What the path loses anyway."""

    def test_background_is_estimated(self) -> None:
        """From many calm rounds comes the share, and room for chance above it."""
        background = BackgroundLoss(PACKET)
        self.assertEqual(background.allowance(100 * PACKET), 0.0)
        for _ in range(100):
            background.learn(2 * PACKET, 100 * PACKET)
        self.assertApproximates(background.rate, 0.02, 0.001)
        allowed = background.allowance(400 * PACKET) / PACKET
        self.assertApproximates(allowed, 8 + 3 * math.sqrt(8), 0.5)

    def test_background_has_a_limit(self) -> None:
        """However much is lost, more than the limit is never taken for granted."""
        background = BackgroundLoss(PACKET)
        for _ in range(100):
            background.learn(50 * PACKET, 100 * PACKET)
        self.assertEqual(background.rate, MAX_BACKGROUND_LOSS)

    def test_first_loss_proves_little(self) -> None:
        """A single early loss is no high background."""
        background = BackgroundLoss(PACKET)
        background.learn(PACKET, 4 * PACKET)
        self.assertLess(background.rate, 0.03)

    def test_chance_alone_is_rarely_a_signal(self) -> None:
        """At 5 % random loss, under one round in fifty exceeds the allowance."""
        rng = random.Random(7)
        background = BackgroundLoss(PACKET)
        exceeded = 0
        for number in range(500):
            lost = sum(rng.random() < 0.05 for _ in range(300)) * PACKET
            exceeded += number > 20 and lost > background.allowance(300 * PACKET)
            background.learn(lost, 300 * PACKET)
        self.assertLess(exceeded, 10)


class RoundTests(SynchronousTestCase):
    """What is judged together, on a path with a round trip of `RTT`."""

    def setUp(self) -> None:
        self.path = MinRtt(0.0)
        self.path.update(RTT, 0.0)
        self.losses = Losses(PACKET, self.path)
        self.delivered = 0

    def arrive(self, packets: int, rtt: float) -> None:
        """So many are acknowledged together."""
        self.delivered += packets * PACKET
        sample = RateSample(1e6, packets * PACKET, RTT, 0, 0, 0, False, 0.0)
        self.losses.round.on_acked(
            Acked(1.0, packets * PACKET, 0, 0, self.delivered, rtt, sample, 0.0)
        )

    def lose(self, packets: int, follows: bool = False) -> None:
        """So many are lost together."""
        size = packets * PACKET
        self.losses.round.on_lost(Lost(1.0, size, 0.5, size, size, self.delivered, False, follows))

    def test_a_delay_that_varies_is_no_queue(self) -> None:
        """What spreads the round trips of each round is jitter; what lifts all of them, a queue."""
        for _ in range(10):
            for rtt in (RTT, 2 * RTT, 1.5 * RTT):
                self.arrive(10, rtt)
            self.losses.learn()
            self.losses.round.begin()
        self.assertApproximates(self.losses.jitter, RTT / 2, RTT / 20)
        for rtt in (RTT, 2 * RTT, 1.5 * RTT):
            self.arrive(10, rtt)
        self.assertTrue(self.losses.calm)
        self.losses.round.begin()
        self.assertTrue(self.losses.calm)  # as in the round before, until there is more to go by
        for rtt in (1.5 * RTT, 2.5 * RTT, 2 * RTT):
            self.arrive(10, rtt)
        self.assertFalse(self.losses.calm)

    def test_a_queue_that_stands_is_not_learnt_as_jitter(self) -> None:
        """It does not spread what passes through it."""
        for _ in range(50):
            for rtt in (1.8 * RTT, 1.9 * RTT, 2 * RTT):
                self.arrive(10, rtt)
            self.assertFalse(self.losses.calm)
            self.losses.learn()
            self.losses.round.begin()

    def test_startup_survives_bad_luck(self) -> None:
        """What chance adds to the largest background does not end it; in a long round, little."""
        self.arrive(80, RTT)
        for _ in range(20):
            self.lose(1)
        self.assertFalse(self.losses.ends_startup())
        for _ in range(15):
            self.lose(1)
        self.assertTrue(self.losses.ends_startup())
        self.losses.round.begin()
        self.arrive(8000, RTT)
        for _ in range(2000):
            self.lose(1)
        self.assertTrue(self.losses.ends_startup())

    def test_startup_survives_a_burst(self) -> None:
        """However many trains it hit; what a full queue drops lies apart."""
        self.arrive(80, 2 * RTT)
        self.lose(2)
        for _ in range(30):
            self.lose(2, follows=True)
        self.assertFalse(self.losses.ends_startup())
        for _ in range(5):
            self.lose(2)
        self.assertTrue(self.losses.ends_startup())

    def test_startup_survives_the_background(self) -> None:
        """A queue alone does not turn into a signal what was lost without one."""
        for _ in range(50):
            self.losses.background.learn(5 * PACKET, 100 * PACKET)
        self.arrive(380, 2 * RTT)
        for _ in range(20):
            self.lose(1)
        self.assertFalse(self.losses.ends_startup())
        for _ in range(40):
            self.lose(1)
        self.assertTrue(self.losses.ends_startup())
