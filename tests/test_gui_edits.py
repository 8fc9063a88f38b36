"""What must change for one list to become another."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatbox.client.gui.edits import edits


class EditsTests(SynchronousTestCase):
    """What is done to a list so that it shows another."""

    def edit(self, shown: Sequence[Hashable], wanted: Sequence[Hashable]) -> int:
        """Do it, and return how many rows went and came."""
        rows, touched = list(shown), 0
        for at, gone, come in edits(shown, wanted):
            self.assertLessEqual(at + gone, len(rows))
            rows[at : at + gone] = wanted[at : at + come]
            touched += gone + come
        self.assertEqual(rows, list(wanted))
        return touched

    @given(st.lists(st.integers(0, 9)), st.lists(st.integers(0, 9)))
    def test_any_lists(self, shown: list[int], wanted: list[int]) -> None:
        """One becomes the other, whatever is in them."""
        self.edit(shown, wanted)
        self.assertEqual(edits(wanted, wanted), [])

    def test_a_crowd(self) -> None:
        """Of ten thousand no more are touched than have changed."""
        crowd = list(range(10_000))
        self.assertEqual(self.edit(crowd, [*crowd, -1]), 1)
        self.assertEqual(self.edit(crowd, crowd[1:]), 1)
        some = [number for number in crowd if number % 1000]
        self.assertEqual(self.edit(crowd, [*some, -1, -2]), 12)
        self.assertEqual(len(edits(crowd, crowd[5000:])), 1)
        self.assertEqual(self.edit([], crowd), 10_000)
