"""Slowing down whoever does something too often, such as guessing passwords.

Each key, such as an address, has a bucket of tokens: `burst` of them at first, and another one
every `interval` seconds up to that. Where none is left, `wait` says when there will be one. The
table is bounded: a bucket that is full again is the same as none and is dropped, and if there are
still too many, the one that was not used for longest goes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

__all__ = ["MAX_BUCKETS", "Throttle"]

MAX_BUCKETS: Final = 1 << 16
"""Keys in one table, at some 200 bytes each. An attacker that fills it has as many addresses, or
has had as many passwords checked, and wins back a few guesses."""


class Throttle:
    """A table of buckets. `now` is in seconds, by any clock that mostly goes ahead."""

    def __init__(self, burst: int, interval: float, most: int = MAX_BUCKETS) -> None:
        self._burst = burst
        self._interval = interval
        self._most = most
        self._full_at: OrderedDict[Hashable, float] = OrderedDict()
        """When each bucket will be full again: the whole state of a bucket that fills steadily."""

    def __len__(self) -> int:
        return len(self._full_at)

    def wait(self, key: Hashable, now: float) -> float:
        """Return how many seconds to wait until there is a token, 0 if there is one."""
        owed = self._owed(key, now)
        return max(0.0, owed - (self._burst - 1) * self._interval)

    def take(self, key: Hashable, now: float) -> None:
        """Take a token. If there is none, the wait grows."""
        self._full_at[key] = now + self._owed(key, now) + self._interval
        self._full_at.move_to_end(key)
        while len(self._full_at) > self._most or self._is_done(now):
            self._full_at.popitem(last=False)

    def give_back(self, key: Hashable, now: float) -> None:
        """Undo one `take`."""
        if key in self._full_at:
            self._full_at[key] = now + max(0.0, self._owed(key, now) - self._interval)

    def _owed(self, key: Hashable, now: float) -> float:
        # A clock that was set back must not make anybody wait for longer than an empty bucket does.
        most = self._burst * self._interval
        return min(max(0.0, self._full_at.get(key, now) - now), most)

    def _is_done(self, now: float) -> bool:
        """Whether the oldest bucket is full again."""
        oldest = next(iter(self._full_at.values()), None)
        return oldest is not None and oldest <= now
