"""
How fast the path delivers: delivery-rate samples (draft-ietf-ccwg-bbr, section "Delivery Rate
Samples").

When a train leaves, it takes a snapshot of how much had been delivered by then. When it is
acknowledged, the difference to what is delivered now, over the time between, is the rate at which
the path worked meanwhile. Two intervals are measured, over which the data left and over which the
acknowledgements came, and the longer one counts: acknowledgements that were held up and arrive all
at once must not look like a fast path.

A sample taken while the sender had nothing to send (paused, flow control, end of file) says how
little was offered, not how much the path can carry: it is marked `app_limited`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Flight(Protocol):
    """What `DeliveryRate` keeps on each train in flight."""

    sent_at: float
    """When the train left."""
    number: int
    """The packet number that it begins with."""
    delivered: int
    """Bytes delivered when it left."""
    delivered_at: float
    """When that count had last changed."""
    first_sent_at: float
    """
    When the train left that was the newest delivered by then: the beginning of the send interval.
    """
    lost: int
    """Bytes lost when it left."""
    tx_in_flight: int
    """Bytes in flight when it had left, itself included."""
    app_limited: bool
    """Whether the sender was short of data then."""


@dataclass(slots=True)
class RateSample:
    """What one acknowledgement tells of the path. Bytes and seconds."""

    delivery_rate: float = 0.0
    """Bytes per second; 0 if this acknowledgement allows no sample."""
    delivered: int = 0
    """Bytes delivered over `interval`."""
    interval: float = 0.0
    prior_delivered: int = 0
    """
    `DeliveryRate.delivered` when the newest packet acknowledged left: at or past the last round's
    mark, a round is over.
    """
    tx_in_flight: int = 0
    """Bytes in flight when that packet had left."""
    lost: int = 0
    """Bytes declared lost between its leaving and now."""
    app_limited: bool = False
    sent_at: float = 0.0
    """When that packet left."""


class DeliveryRate:
    """The per-connection state of the sampler, and its three steps: sent, acknowledged, sample."""

    __slots__ = ("_app_limited", "_first_sent_at", "_newest", "delivered", "delivered_at", "lost")

    def __init__(self, now: float) -> None:
        self.delivered = 0
        """Bytes acknowledged since the transfer began."""
        self.delivered_at = now
        self.lost = 0
        """Bytes declared lost since the transfer began."""
        self._first_sent_at = now
        self._app_limited = 0
        self._newest: Flight | None = None

    @property
    def app_limited(self) -> bool:
        """Whether what is sent now still shares the path with a gap in the supply of data."""
        return self._app_limited != 0

    def on_sent(self, flight: Flight, in_flight_before: int, size: int) -> None:
        """Write the snapshot on a train of `size` bytes that leaves now."""
        if in_flight_before == 0:
            self._first_sent_at = self.delivered_at = flight.sent_at
        flight.first_sent_at = self._first_sent_at
        flight.delivered_at = self.delivered_at
        flight.delivered = self.delivered
        flight.app_limited = self._app_limited != 0
        flight.tx_in_flight = in_flight_before + size
        flight.lost = self.lost

    def on_acked(self, flight: Flight, size: int, now: float) -> None:
        """
        Count `size` bytes of a train as delivered; called for each train that an acknowledgement
        names.
        """
        self.delivered += size
        self.delivered_at = now
        newest = self._newest
        if newest is None or (flight.sent_at, flight.number) > (newest.sent_at, newest.number):
            self._newest = flight

    def sample(self, now: float, min_rtt: float) -> RateSample:
        """Close the acknowledgement: what all its `on_acked` calls together say."""
        if self._app_limited and self.delivered > self._app_limited:
            self._app_limited = 0
        newest = self._newest
        if newest is None:
            return RateSample()
        self._newest = None
        send_elapsed = newest.sent_at - newest.first_sent_at
        ack_elapsed = now - newest.delivered_at
        self._first_sent_at = max(self._first_sent_at, newest.sent_at)
        interval = max(send_elapsed, ack_elapsed)
        delivered = self.delivered - newest.delivered
        return RateSample(
            # Less than the smallest round trip is an artefact of the clock or of a spurious loss.
            delivery_rate=delivered / interval if interval > 0 and interval >= min_rtt else 0.0,
            delivered=delivered,
            interval=interval,
            prior_delivered=newest.delivered,
            tx_in_flight=newest.tx_in_flight,
            lost=self.lost - newest.lost,
            app_limited=newest.app_limited,
            sent_at=newest.sent_at,
        )

    def mark_app_limited(self, in_flight: int) -> None:
        """
        The sender has room for more but nothing to send: what is in flight now is no measure of the
        path.
        """
        self._app_limited = max(self.delivered + in_flight, 1)
