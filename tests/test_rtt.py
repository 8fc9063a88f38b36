"""The round-trip estimator against the arithmetic of RFC 9002 section 5."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatbox.rdt.rtt import GRANULARITY, INITIAL_RTT, RttEstimator

samples = st.floats(min_value=1e-6, max_value=10.0)


class RttEstimatorTests(SynchronousTestCase):
    """`RttEstimator`."""

    def test_before_the_first_sample(self) -> None:
        """The initial guess stands, and nothing was measured."""
        rtt = RttEstimator()
        self.assertIsNone(rtt.latest)
        self.assertEqual(rtt.smoothed, INITIAL_RTT)
        self.assertAlmostEqual(rtt.probe_timeout(0.0), 3 * INITIAL_RTT)

    def test_first_sample_sets_all(self) -> None:
        """It is the smallest, the smoothed, and twice the variation; no delay is taken off."""
        rtt = RttEstimator()
        rtt.update(0.1, 0.05)
        self.assertEqual((rtt.min_rtt, rtt.smoothed, rtt.variation), (0.1, 0.1, 0.05))

    def test_second_sample_by_hand(self) -> None:
        """An eighth of the sample, a quarter of its distance, the distance to the old mean."""
        rtt = RttEstimator()
        rtt.update(0.1, 0.0)
        rtt.update(0.18, 0.0)
        self.assertAlmostEqual(rtt.variation, 0.75 * 0.05 + 0.25 * 0.08)
        self.assertAlmostEqual(rtt.smoothed, 0.11)
        self.assertEqual(rtt.latest, 0.18)
        self.assertEqual(rtt.min_rtt, 0.1)

    def test_delay_of_the_peer_is_taken_off(self) -> None:
        """What the peer held back is not the path's."""
        rtt = RttEstimator()
        rtt.update(0.1, 0.0)
        rtt.update(0.2, 0.02)
        self.assertAlmostEqual(rtt.smoothed, 0.1 + 0.08 / 8)

    def test_delay_of_the_peer_is_not_believed_below_the_minimum(self) -> None:
        """A claim that would make the path faster than it ever was is ignored."""
        rtt = RttEstimator()
        rtt.update(0.1, 0.0)
        rtt.update(0.12, 0.05)
        self.assertAlmostEqual(rtt.smoothed, 0.1 + 0.02 / 8)

    def test_minimum_ignores_the_delay(self) -> None:
        """The smallest round trip is that of the samples as measured (section 5.2)."""
        rtt = RttEstimator()
        rtt.update(0.1, 0.0)
        rtt.update(0.09, 0.05)
        self.assertEqual(rtt.min_rtt, 0.09)

    def test_timeouts_are_never_below_the_clock(self) -> None:
        """On a path faster than our timers, these set the least."""
        rtt = RttEstimator()
        for _ in range(50):
            rtt.update(1e-5, 0.0)
        self.assertAlmostEqual(rtt.probe_timeout(0.0), 1e-5 + GRANULARITY)
        self.assertEqual(rtt.loss_delay(), GRANULARITY)

    def test_loss_delay_follows_the_slower_of_mean_and_latest(self) -> None:
        """9/8 of whichever is larger (section 6.1.2)."""
        rtt = RttEstimator()
        rtt.update(0.1, 0.0)
        rtt.update(0.2, 0.0)
        self.assertAlmostEqual(rtt.loss_delay(), 0.225)
        rtt.update(0.1, 0.0)
        self.assertAlmostEqual(rtt.loss_delay(), 9 / 8 * rtt.smoothed)

    @given(st.lists(st.tuples(samples, st.floats(min_value=0, max_value=1)), min_size=1))
    def test_estimates_stay_within_the_samples(self, taken: list[tuple[float, float]]) -> None:
        """The mean never leaves the range of samples, and the variation is not negative."""
        rtt = RttEstimator()
        for sample, delay in taken:
            rtt.update(sample, delay)
        low, high = min(s for s, _ in taken), max(s for s, _ in taken)
        self.assertEqual(rtt.min_rtt, low)
        self.assertTrue(low * (1 - 1e-9) <= rtt.smoothed <= high * (1 + 1e-9))
        self.assertGreaterEqual(rtt.variation, 0)
