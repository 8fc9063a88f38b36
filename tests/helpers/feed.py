"""Feeding a congestion controller by hand: a path that does exactly what the test says."""

from __future__ import annotations

from collections import deque

from chatbox.rdt.congestion import Acked, Controller, Lost
from chatbox.rdt.rate import RateSample
from chatbox.rdt.rtt import RttEstimator

TRAINS = 4
"""Trains, and acknowledgements, per round trip."""


class Feed:
    """
    Keeps a controller's books as `Recovery` does, for a sender with a steady flow of data.

    What is acknowledged now left a round trip ago, when the count of delivered bytes was what it
    was then; so a round of the controller is a round here.
    """

    def __init__(self, controller: Controller, now: float = 0.0, delivered: int = 0) -> None:
        self.controller = controller
        self.now = now
        self.delivered = delivered
        self.rtt = RttEstimator()
        self._before = deque([delivered] * TRAINS, maxlen=TRAINS)

    def round(
        self,
        in_flight: int,
        rtt: float,
        *,
        rate: float | None = None,
        lost: int = 0,
        pieces: int = 1,
        app_limited: bool = False,
        stays: int | None = None,
        held: float = 0.0,
    ) -> None:
        """
        Let a round trip pass, in which `in_flight` bytes were sent and all but `lost` arrive.

        `rate` is the delivery rate to be measured, if it is not what that comes to. The losses are
        reported in so many `pieces`. `stays` is how much is in flight in the end, `in_flight` if it
        is not said. `held` is how long the two machines kept each acknowledgement waiting.
        """
        for index in range(TRAINS):
            size = (in_flight - lost) // TRAINS
            self.send(in_flight // TRAINS, in_flight - in_flight // TRAINS, app_limited)
            self.now += rtt / TRAINS
            if lost and index == 0:
                for _ in range(pieces):
                    self.lose(lost // pieces, in_flight, rtt, lost, app_limited)
            self.ack(
                size,
                rtt,
                rate=(in_flight - lost) / rtt if rate is None else rate,
                in_flight=in_flight if stays is None else stays,
                tx_in_flight=in_flight,
                lost=lost,
                app_limited=app_limited,
                held=held,
            )

    def send(self, size: int, in_flight: int, app_limited: bool = False) -> None:
        """`size` bytes leave while `in_flight` are on their way."""
        self.controller.on_sent(self.now, size, in_flight, app_limited)

    def ack(
        self,
        size: int,
        rtt: float,
        *,
        rate: float = 0.0,
        in_flight: int = 0,
        tx_in_flight: int = 0,
        lost: int = 0,
        app_limited: bool = False,
        held: float = 0.0,
    ) -> None:
        """`size` bytes are acknowledged that left `rtt` ago."""
        prior = self._before[0]
        self.delivered += size
        self._before.append(self.delivered)
        self.rtt.update(rtt, 0.0)
        sample = RateSample(
            delivery_rate=rate,
            delivered=self.delivered - prior,
            interval=rtt,
            prior_delivered=prior,
            tx_in_flight=tx_in_flight,
            lost=lost,
            app_limited=app_limited,
            sent_at=self.now - rtt,
        )
        acked = Acked(self.now, size, lost, in_flight, self.delivered, rtt, sample, held)
        self.controller.on_acked(acked, self.rtt)

    def lose(
        self,
        size: int,
        in_flight: int,
        rtt: float,
        since_sent: int | None = None,
        app_limited: bool = False,
    ) -> None:
        """A piece of a train that left `rtt` ago, with so much `in_flight` then, is lost."""
        self.controller.on_lost(
            Lost(
                now=self.now,
                size=size,
                sent_at=self.now - rtt,
                tx_in_flight=in_flight,
                lost_since_sent=size if since_sent is None else since_sent,
                delivered=self.delivered,
                app_limited=app_limited,
            )
        )
