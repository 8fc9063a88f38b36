"""
The bounds that a signal of congestion leaves behind, and how they are widened again.

There are two memories. The *short-term* one follows a path that became slower, or whose others want
more, between two probes: what the last round delivered, and no less than `BETA` of what there was.
It is dropped when a probe begins, for it says how things were and not how they have to stay. The
*long-term* one is where a probe went too far: so much in flight was too much. It is raised to what
has been in flight since without harm, and by a probe that uses all of it: at first by a packet in a
round, then by twice as many each round. So the neighbourhood of a bound is explored with care, and
what is far off is reached soon.

Here, too, we leave draft-ietf-ccwg-bbr. There, what was in flight when the queue overflowed remains
the bound, though it was the overflow. Here a signal that comes with a standing queue cuts that by
`BETA`, as CUBIC cuts at the same overflow, and it is raised again from there by equal steps
whatever its size. So flows that share a queue converge, and a CUBIC flow gets room to grow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from chatbox.rdt.congestion.bbr.loss import LossRound

BETA = 0.7
"""
What a signal leaves of a bound ("Core Algorithm Design Parameters", Beta; it is CUBIC's too).
"""

HEADROOM = 0.15
"""The share of the long-term bound that is left to others while cruising (same section)."""

MAX_SLOPE_ROUNDS = 30
"""Doublings of the long-term bound's growth at most ("ProbeBW Algorithm Details")."""


@dataclass(slots=True)
class Bounds:
    """What congestion left: the short-term model, dropped at each probe, and the long-term one."""

    bw_shortterm: float = math.inf
    inflight_shortterm: float = math.inf
    inflight_longterm: float = math.inf
    cut_at: float = -math.inf
    """When the long-term bound was last cut: what left before says nothing against the cut."""
    slope_rounds: int = 0
    acked: float = 0.0
    acked_per_step: float = math.inf
    """Bytes to be acknowledged for each packet by which the long-term bound is raised."""

    def saved(self) -> Bounds:
        """A copy, in case that the losses turn out not to be any."""
        return replace(self)

    def restore(self, saved: Bounds) -> None:
        """Be at least as wide as then ("HandleSpuriousLossDetection")."""
        self.bw_shortterm = max(self.bw_shortterm, saved.bw_shortterm)
        self.inflight_shortterm = max(self.inflight_shortterm, saved.inflight_shortterm)
        self.inflight_longterm = max(self.inflight_longterm, saved.inflight_longterm)

    def forget_shortterm(self) -> None:
        """A probe begins, or a pause is over ("ResetShortTermModel")."""
        self.bw_shortterm = math.inf
        self.inflight_shortterm = math.inf

    def lower(self, losses: LossRound, max_bw: float, window: float, pipe: float | None) -> None:
        """
        Follow the path down, after a round with a signal ("When not Probing for Bandwidth").

        If a queue stood, what was delivered includes the queue that overflowed; then only what the
        `pipe` itself holds must remain.
        """
        bandwidth = max_bw if math.isinf(self.bw_shortterm) else self.bw_shortterm
        in_flight = window if math.isinf(self.inflight_shortterm) else self.inflight_shortterm
        latest = losses.inflight_latest
        if not losses.app_limited:
            self.bw_shortterm = max(losses.bw_latest, BETA * bandwidth)
        if pipe is None:
            self.inflight_shortterm = max(latest, BETA * in_flight)
        else:
            self.inflight_shortterm = max(pipe, BETA * min(latest, in_flight))

    def cut_longterm(self, in_flight: float, target: float, now: float, calm: bool) -> None:
        """So much was in flight when a probe went too far ("HandleInflightTooHigh")."""
        self.cut_at = now
        self.inflight_longterm = max(in_flight if calm else BETA * in_flight, BETA * target)

    def start_raising(self) -> None:
        """A probe will begin soon."""
        self.slope_rounds = 0
        self.acked = 0.0

    def steepen(self, window: float, packet: int) -> None:
        """A round of the probe is over: raise twice as fast from now on."""
        growth = 1 << self.slope_rounds
        self.slope_rounds = min(self.slope_rounds + 1, MAX_SLOPE_ROUNDS)
        self.acked_per_step = max(window / growth, float(packet))

    def raise_longterm(self, acked: int, packet: int) -> None:
        """The probe uses all of the bound, and nothing is lost ("ProbeInflightLongtermUpward")."""
        self.acked += acked
        steps = self.acked // self.acked_per_step
        if steps:
            self.acked -= steps * self.acked_per_step
            self.inflight_longterm += steps * packet

    def with_headroom(self, packet: int) -> float:
        """The long-term bound less what is left to others; infinite if there is none."""
        bound = self.inflight_longterm
        return bound if math.isinf(bound) else bound - max(packet, HEADROOM * bound)
