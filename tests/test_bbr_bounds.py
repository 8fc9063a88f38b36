"""The bounds that a signal leaves."""

from __future__ import annotations

import math

from twisted.trial.unittest import SynchronousTestCase

from chatbox.rdt.congestion.bbr.bounds import Bounds
from tests.helpers.path import PACKET


class BoundsTests(SynchronousTestCase):
    """How they are widened, and what they leave to others."""

    def test_longterm_bound_is_raised_by_doubling_steps(self) -> None:
        """One packet in the first round of a probe, then two, four, eight."""
        bounds = Bounds(inflight_longterm=100.0 * PACKET)
        bounds.start_raising()
        raised = []
        for _ in range(5):
            window = bounds.inflight_longterm
            bounds.steepen(window, PACKET)
            for _ in range(100):
                bounds.raise_longterm(int(window / 100) + 1, PACKET)
            raised.append((bounds.inflight_longterm - window) / PACKET)
        self.assertEqual(raised, [1, 2, 4, 8, 16])

    def test_headroom(self) -> None:
        """A sixth is left to others, at least a packet; nothing of no bound."""
        self.assertTrue(math.isinf(Bounds().with_headroom(PACKET)))
        self.assertAlmostEqual(Bounds(inflight_longterm=1e6).with_headroom(PACKET), 850_000)
        self.assertEqual(Bounds(inflight_longterm=4000.0).with_headroom(PACKET), 2800)
