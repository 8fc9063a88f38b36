"""What the path holds back and lets go in lumps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatbox.rdt.congestion.bbr.aggregation import EXTRA_ACKED_ROUNDS, ExtraAcked, WindowedMax


class AggregationTests(SynchronousTestCase):
    """The estimate, and the filter that it goes through."""

    @given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 3)), min_size=1))
    def test_windowed_max(self, steps: list[tuple[float, int]]) -> None:
        """It is the largest of the values that are not older than the window."""
        measured, history, now = WindowedMax(), [], 0
        for value, later in steps:
            now += later
            history.append((now, value))
            measured.update(value, now, 5)
            self.assertEqual(measured.value, max(v for when, v in history if when > now - 5))

    def test_extra_acked(self) -> None:
        """A lump is what came beyond the bandwidth, remembered for ten rounds, one in Startup."""
        extra = ExtraAcked(0.0)
        extra.update(30_000, 0.0, 1e6, 1 << 20, 1, EXTRA_ACKED_ROUNDS)
        self.assertEqual(extra.value, 30_000)
        extra.update(5_000, 0.02, 1e6, 1 << 20, 1, EXTRA_ACKED_ROUNDS)
        self.assertEqual(extra.value, 30_000)
        for count in range(2, 12):
            self.assertEqual(extra.value, 30_000)
            extra.update(1_000, 0.1 * count, 1e6, 1 << 20, count, EXTRA_ACKED_ROUNDS)
        self.assertEqual(extra.value, 1_000)

    def test_extra_acked_is_bounded(self) -> None:
        """It is never more than the limit given."""
        extra = ExtraAcked(0.0)
        extra.update(1 << 30, 0.0, 1.0, 5_000, 1, 1)
        self.assertEqual(extra.value, 5_000)
