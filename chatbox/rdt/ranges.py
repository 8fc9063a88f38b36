"""Sets of integers kept as sorted, disjoint, non-adjacent half-open ranges."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class RangeSet:
    """
    A set of non-negative integers (packet numbers, or bytes of a file) stored as ranges ``[start,
    stop)``.

    Adding at the end and taking from the front, the two things that a transfer does all the time,
    touch one range. Everything else costs a binary search and a shift of the ranges behind it.
    """

    __slots__ = ("_starts", "_stops", "total")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        self.total = 0
        """How many integers the set holds."""
        for start, stop in ranges:
            self.add(start, stop)

    def add(self, start: int, stop: int) -> int:
        """Add ``[start, stop)`` and return how many of its integers are new."""
        if start >= stop:
            return 0
        starts, stops = self._starts, self._stops
        if not stops or start > stops[-1]:
            starts.append(start)
            stops.append(stop)
            self.total += stop - start
            return stop - start
        if start >= starts[-1]:
            grown = stop - stops[-1]
            if grown <= 0:
                return 0
            stops[-1] = stop
            self.total += grown
            return grown
        # Ranges low..high-1 overlap the new one or touch it, and become one with it.
        low = bisect_left(stops, start)
        high = bisect_right(starts, stop)
        covered = 0
        if low < high:
            covered = sum(stops[low:high]) - sum(starts[low:high])
            start = min(start, starts[low])
            stop = max(stop, stops[high - 1])
        starts[low:high] = [start]
        stops[low:high] = [stop]
        added = stop - start - covered
        self.total += added
        return added

    def remove(self, start: int, stop: int) -> int:
        """Take ``[start, stop)`` out and return how many of its integers were there."""
        starts, stops = self._starts, self._stops
        low = bisect_right(stops, start)
        high = bisect_left(starts, stop)
        if start >= stop or low >= high:
            return 0
        before = sum(stops[low:high]) - sum(starts[low:high])
        left, right = starts[low], stops[high - 1]
        kept_starts: list[int] = []
        kept_stops: list[int] = []
        if left < start:
            kept_starts.append(left)
            kept_stops.append(start)
        if right > stop:
            kept_starts.append(stop)
            kept_stops.append(right)
        starts[low:high] = kept_starts
        stops[low:high] = kept_stops
        removed = before - (sum(kept_stops) - sum(kept_starts))
        self.total -= removed
        return removed

    def first(self) -> tuple[int, int] | None:
        """The lowest range, or None if the set is empty."""
        return (self._starts[0], self._stops[0]) if self._starts else None

    def covers(self, start: int, stop: int) -> bool:
        """Whether all of ``[start, stop)`` is in the set."""
        if start >= stop:
            return True
        index = bisect_right(self._starts, start) - 1
        return index >= 0 and stop <= self._stops[index]

    def within(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The parts of ``[start, stop)`` that are in the set, ascending."""
        low = bisect_right(self._stops, start)
        high = bisect_left(self._starts, stop)
        return [
            (max(start, self._starts[index]), min(stop, self._stops[index]))
            for index in range(low, high)
        ]

    def prefix(self) -> int:
        """How far the set reaches from 0 without a gap."""
        return self._stops[0] if self._starts and self._starts[0] == 0 else 0

    def highest(self, count: int) -> list[tuple[int, int]]:
        """The `count` highest ranges, the highest first."""
        return list(
            zip(self._starts[: -count - 1 : -1], self._stops[: -count - 1 : -1], strict=True)
        )

    def forget_below(self, keep: int) -> None:
        """Keep only the `keep` highest ranges."""
        excess = len(self._starts) - keep
        if excess > 0:
            self.total -= sum(self._stops[:excess]) - sum(self._starts[:excess])
            del self._starts[:excess], self._stops[:excess]

    def __contains__(self, value: int) -> bool:
        index = bisect_right(self._starts, value) - 1
        return index >= 0 and value < self._stops[index]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._starts, self._stops, strict=True)))

    def __len__(self) -> int:
        """The number of ranges, not of integers: that is `total`."""
        return len(self._starts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RangeSet):
            return NotImplemented
        return self._starts == other._starts and self._stops == other._stops

    __hash__ = None  # type: ignore[assignment]  # mutable, so equal sets may not stay equal

    def __repr__(self) -> str:
        return f"RangeSet({list(self)})"
