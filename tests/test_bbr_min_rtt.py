"""The filter over round trips."""

from __future__ import annotations

import math

from twisted.trial.unittest import SynchronousTestCase

from chatbox.rdt.congestion.bbr.min_rtt import MIN_RTT_WINDOW, PROBE_RTT_INTERVAL, MinRtt


class MinRttTests(SynchronousTestCase):
    """The smallest of late, and what it says of a queue."""

    def test_min_rtt_expires(self) -> None:
        """It asks for a probe after 5 s, and takes a larger minimum after 10 s only."""
        rtt = MinRtt(0.0)
        rtt.update(0.05, 0.0)
        rtt.update(0.08, PROBE_RTT_INTERVAL - 0.1)
        self.assertFalse(rtt.expired)
        rtt.update(0.08, PROBE_RTT_INTERVAL + 0.1)
        self.assertTrue(rtt.expired)
        self.assertEqual(rtt.value, 0.05)
        rtt.update(0.08, MIN_RTT_WINDOW + 0.1)
        self.assertEqual(rtt.value, 0.08)
        rtt.update(0.04, MIN_RTT_WINDOW + 0.2)
        self.assertEqual(rtt.value, 0.04)

    def test_calm(self) -> None:
        """A quarter more than the smallest round trip, and a millisecond, are calm."""
        rtt = MinRtt(0.0)
        rtt.update(0.1, 0.0)
        self.assertTrue(rtt.is_calm(0.1259))
        self.assertFalse(rtt.is_calm(0.1261))
        self.assertFalse(rtt.is_calm(math.inf))
