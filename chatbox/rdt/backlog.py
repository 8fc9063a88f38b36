"""Which bytes of the file still have to leave, and which have arrived."""

from __future__ import annotations

from chatbox.rdt.ranges import RangeSet


class Backlog:
    """
    The file from the sender's side: every byte is unsent, in flight, or with the receiver.

    What is in flight is recovery's to know. What was lost comes back here as unsent, and because
    the lowest unsent range always leaves first, that is all that retransmission is.
    """

    __slots__ = ("_size", "_unsent", "arrived")

    def __init__(self, size: int) -> None:
        self._size = size
        self._unsent = RangeSet([(0, size)])
        self.arrived = RangeSet()
        """What is with the receiver."""

    @property
    def complete(self) -> bool:
        """Whether the receiver has everything."""
        return self.arrived.total == self._size

    def first_below(self, limit: int) -> tuple[int, int] | None:
        """The lowest unsent range, cut off at `limit`; None if nothing below it is unsent."""
        first = self._unsent.first()
        if first is None or first[0] >= limit:
            return None
        return first[0], min(first[1], limit)

    def on_sent(self, start: int, stop: int) -> None:
        """The range has left."""
        self._unsent.remove(start, stop)

    def on_arrived(self, start: int, stop: int) -> None:
        """The range is with the receiver; a copy of it that waits to leave need not."""
        if self.arrived.add(start, stop):
            self._unsent.remove(start, stop)

    def on_lost(self, start: int, stop: int) -> None:
        """The range has to leave again, except for what arrived by another packet."""
        self._unsent.add(start, stop)
        for arrived_start, arrived_stop in self.arrived.within(start, stop):
            self._unsent.remove(arrived_start, arrived_stop)

    def drop(self) -> None:
        """Nothing has to leave any more."""
        self._unsent = RangeSet()
