"""
The path as we know it: all that is measured, together, and what follows from it alone.

The model is what the states of BBR read and what they are there to improve. It decides nothing, and
which sample counts in which state is not its business either: `chatbox.rdt.congestion.bbr.machine`
feeds it ("Updating the Model" of draft-ietf-ccwg-bbr), and `chatbox.rdt.congestion.bbr.control`
makes a window and a rate of it.
"""

from __future__ import annotations

import math

from chatbox.rdt.congestion import INITIAL_WINDOW_PACKETS
from chatbox.rdt.congestion.bbr.aggregation import ExtraAcked
from chatbox.rdt.congestion.bbr.bandwidth import MaxBandwidth
from chatbox.rdt.congestion.bbr.bounds import Bounds
from chatbox.rdt.congestion.bbr.full_pipe import FullPipe
from chatbox.rdt.congestion.bbr.loss import Losses
from chatbox.rdt.congestion.bbr.min_rtt import MinRtt
from chatbox.rdt.congestion.bbr.rounds import Rounds, WindowUse


class Model:
    """One path. Sizes are in bytes, times in seconds, rates in bytes per second."""

    __slots__ = (
        "aggregation",
        "bandwidth",
        "bounds",
        "bw",
        "datagram",
        "delivered",
        "full_pipe",
        "held",
        "losses",
        "round_trip",
        "rounds",
        "window_use",
    )

    def __init__(self, datagram_bytes: int, now: float) -> None:
        self.datagram = datagram_bytes
        """Bytes of a packet (C.SMSS)."""
        self.rounds = Rounds()
        self.window_use = WindowUse()
        self.bandwidth = MaxBandwidth()
        self.round_trip = MinRtt(now)
        self.aggregation = ExtraAcked(now)
        self.full_pipe = FullPipe()
        self.losses = Losses(datagram_bytes, self.round_trip)
        self.bounds = Bounds()
        self.bw = 0.0
        """What the path delivers to us at present: `max_bw`, unless congestion says less."""
        self.delivered = 0
        """Bytes delivered since the transfer began (C.delivered)."""
        self.held = 0.0
        """For how long, of late, the two machines kept an acknowledgement waiting at most."""

    @property
    def max_bw(self) -> float:
        """The most that the path delivered of late."""
        return self.bandwidth.value

    @property
    def min_rtt(self) -> float:
        """The smallest round trip of late; infinite before the first is known."""
        return self.round_trip.value

    @property
    def initial_window(self) -> float:
        """What may be in flight before anything is known."""
        return float(INITIAL_WINDOW_PACKETS * self.datagram)

    def bdp(self, bandwidth: float | None = None) -> float:
        """What the pipe holds at `bandwidth`, or at `bw` (BBR.bdp)."""
        if math.isinf(self.min_rtt):
            return self.initial_window
        return (self.bw if bandwidth is None else bandwidth) * self.min_rtt

    def set_datagram_size(self, size: int) -> None:
        """Packets are of `size` bytes from now on."""
        self.datagram = size
        self.losses.background.packet = size

    def void(self, now: float) -> None:
        """
        Forget what was measured: it may be another path by now. The background loss alone is kept,
        for cables and radio links last.
        """
        self.bandwidth.restart()
        self.round_trip.restart(now)
        self.full_pipe.restart()
        self.full_pipe.reached = False
        self.bounds = Bounds()
        self.losses.round.forget()
