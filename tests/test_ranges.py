"""`RangeSet` against plain sets of integers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from twisted.trial.unittest import SynchronousTestCase

from chatbox.rdt.ranges import RangeSet

numbers = st.integers(min_value=0, max_value=60)
pairs = st.lists(st.tuples(numbers, numbers))


def members(ranges: RangeSet) -> set[int]:
    """What is in it."""
    return {number for start, stop in ranges for number in range(start, stop)}


class RangeSetMachine(RuleBasedStateMachine):
    """Does to a `RangeSet` and to a set the same things, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.ranges = RangeSet()
        self.model: set[int] = set()

    @rule(start=numbers, stop=numbers)
    def add(self, start: int, stop: int) -> None:
        """Adding says how many are new."""
        new = set(range(start, stop)) - self.model
        assert self.ranges.add(start, stop) == len(new)
        self.model |= new

    @rule(length=st.integers(min_value=0, max_value=5), gap=st.integers(min_value=0, max_value=2))
    def append(self, length: int, gap: int) -> None:
        """Adding at the end, the usual thing, with or without a gap."""
        start = max(self.model, default=-1) + 1 + gap
        assert self.ranges.add(start, start + length) == length
        self.model |= set(range(start, start + length))

    @rule(start=numbers, stop=numbers)
    def remove(self, start: int, stop: int) -> None:
        """Removing says how many were there."""
        gone = set(range(start, stop)) & self.model
        assert self.ranges.remove(start, stop) == len(gone)
        self.model -= gone

    @rule(keep=st.integers(min_value=0, max_value=5))
    def forget_below(self, keep: int) -> None:
        """Only the highest ranges stay."""
        kept = self.ranges.highest(keep)
        self.ranges.forget_below(keep)
        self.model = {number for start, stop in kept for number in range(start, stop)}

    @invariant()
    def same_members(self) -> None:
        """They hold the same, and say the same of it."""
        ranges, model = self.ranges, self.model
        assert members(ranges) == model
        assert ranges.total == len(model)
        first = ranges.first()
        if not model:
            assert first is None
            assert ranges.prefix() == 0
            return
        assert first is not None
        assert first[0] == min(model)
        gaps = set(range(max(model) + 2)) - model
        assert ranges.prefix() == min(gaps)
        assert (min(model) in ranges, max(model) + 1 in ranges) == (True, False)

    @invariant()
    def canonical(self) -> None:
        """Ranges are ascending, not empty, and neither overlap nor touch."""
        last = -1
        for start, stop in self.ranges:
            assert last < start < stop
            last = stop
        assert len(self.ranges) == len(list(self.ranges))


class RangeSetTests(SynchronousTestCase):
    """`RangeSet`."""

    def test_any_history(self) -> None:
        """Whatever is done to it in whatever order, it holds what a set would."""
        case = RangeSetMachine.TestCase()
        case.runTest()

    @given(pairs, numbers, numbers)
    def test_covers(self, given_pairs: list[tuple[int, int]], start: int, stop: int) -> None:
        """A range is covered if all its members are there; an empty one always is."""
        ranges = RangeSet(given_pairs)
        self.assertEqual(ranges.covers(start, stop), set(range(start, stop)) <= members(ranges))

    @given(pairs, st.integers(min_value=0, max_value=8))
    def test_highest(self, given_pairs: list[tuple[int, int]], count: int) -> None:
        """The highest come first, and no more than asked for."""
        ranges = RangeSet(given_pairs)
        self.assertEqual(ranges.highest(count), list(ranges)[::-1][:count])

    @given(pairs, pairs)
    def test_equality(self, one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
        """Two are equal exactly if they hold the same."""
        first, second = RangeSet(one), RangeSet(other)
        self.assertEqual(first == second, members(first) == members(second))
        self.assertNotEqual(first, members(first))

    def test_is_not_hashable(self) -> None:
        """It changes, so it cannot be a key."""
        with self.assertRaises(TypeError):
            hash(RangeSet())

    def test_iteration_survives_changes(self) -> None:
        """One may take away what one is looking at."""
        ranges = RangeSet([(0, 2), (4, 6), (8, 9)])
        for start, stop in ranges:
            ranges.remove(start, stop)
        self.assertEqual(ranges.total, 0)

    def test_says_what_is_in_it(self) -> None:
        """Its repr can be read, and evaluated."""
        self.assertEqual(repr(RangeSet([(4, 6), (0, 2)])), "RangeSet([(0, 2), (4, 6)])")
