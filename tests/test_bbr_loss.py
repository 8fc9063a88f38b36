"""What losses mean to BBR."""

from __future__ import annotations

import math
import random

from twisted.trial.unittest import SynchronousTestCase

from chatbox.rdt.congestion.bbr.loss import MAX_BACKGROUND_LOSS, BackgroundLoss
from tests.helpers.path import PACKET


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
