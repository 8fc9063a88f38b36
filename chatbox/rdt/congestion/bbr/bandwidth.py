"""
How much the path delivers at most: the filter over delivery-rate samples.

Nearly all that disturbs a sample makes it too small: we had nothing to send, others took their
share, an acknowledgement was late. So the largest is the best. But of how long ago? While the model
sends what it believes in, no sample shows more, and few show less, than it believes; only a probe
asks anew. So the memory is counted in cycles of probes, not in seconds: it holds the latest probe
that is over and what has come since. A path that became slower is thus overrated until two probes
are over; what sending too fast costs until then, `Bounds` answers at once.
"""

from __future__ import annotations


class MaxBandwidth:
    """
    The largest delivery rate of this probing cycle and the one before ("BBR.max_bw Max Filter").

    Long enough to hold a probe for more; short enough to forget in time a rate that is gone.
    """

    __slots__ = ("current", "previous")

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget everything."""
        self.current = 0.0
        self.previous = 0.0

    @property
    def value(self) -> float:
        """BBR.max_bw."""
        return max(self.current, self.previous)

    def update(self, rate: float) -> None:
        """Take in a sample."""
        self.current = max(self.current, rate)

    def advance(self) -> None:
        """A cycle is over. One without any sample leaves the memory as it was."""
        if self.current > 0:
            self.previous, self.current = self.current, 0.0
