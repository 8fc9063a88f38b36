"""How far a transfer is, how fast it goes, and how long it will take."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

WINDOW = 3.0
"""Seconds that the rate is taken over: steady enough to read, quick enough to notice a change."""

SAMPLE_EVERY = 0.1
"""Seconds between samples, so that the memory of the last three seconds is thirty pairs of numbers.
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a person wants to know about a download."""

    confirmed: int
    """Bytes that are here and written down, of this and earlier attempts."""
    size: int
    """Bytes in the whole file."""
    rate: float
    """Bytes per second over the last few seconds."""
    time_left: float | None
    """Seconds at that rate, None while nothing moves."""
    state: str
    """Where it stands, in a word."""
    reason: str
    """Why nothing moves, in words; empty while something does."""


class Meter:
    """Measures a rate from a growing count of bytes."""

    __slots__ = ("_samples",)

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def note(self, count: int, now: float) -> None:
        """The count is `count` now."""
        samples = self._samples
        if len(samples) > 1 and now - samples[-2][0] < SAMPLE_EVERY:
            samples[-1] = (now, count)
        else:
            samples.append((now, count))
        while len(samples) > 2 and now - samples[1][0] > WINDOW:
            samples.popleft()

    def rate(self, now: float) -> float:
        """Bytes per second lately; time since the last byte counts too, so a stalled rate falls."""
        samples = self._samples
        if len(samples) < 2:
            return 0.0
        elapsed = max(now, samples[-1][0]) - samples[0][0]
        return (samples[-1][1] - samples[0][1]) / elapsed if elapsed > 0 else 0.0

    def restart(self) -> None:
        """Forget the past: the time spent paused is not part of the rate."""
        self._samples.clear()
