"""The filter over delivery-rate samples."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from chatbox.rdt.congestion.bbr.bandwidth import MaxBandwidth


class BandwidthTests(SynchronousTestCase):
    """What is remembered of past cycles."""

    def test_max_bandwidth_remembers_two_cycles(self) -> None:
        """A rate is forgotten when a whole cycle came without it, but not by empty cycles."""
        bandwidth = MaxBandwidth()
        bandwidth.update(100.0)
        bandwidth.advance()
        bandwidth.update(10.0)
        self.assertEqual(bandwidth.value, 100.0)
        bandwidth.advance()
        self.assertEqual(bandwidth.value, 10.0)
        bandwidth.advance()
        self.assertEqual(bandwidth.value, 10.0)
