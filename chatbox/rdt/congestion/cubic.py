"""
CUBIC (RFC 9438) with HyStart++ (RFC 9406): the window of a loss-based sender.

The theory. A sender that only sees losses does not know how much the path holds, but it knows where
it last overflowed: at `W_max`. After an overflow the window falls to 0.7 of that and then follows a
cubic curve in the time since: steeply back towards `W_max`, flat while near it, steeply away again
once it has been passed without a loss::

    W_cubic(t) = C * (t - K)^3 + W_max        K = the time at which the curve is back at W_max

The curve depends on time and not on acknowledgements, so flows with different round trips grow
alike. Where the curve would be slower than Reno (short round trips, small windows), an estimate of
what Reno would have reached, `W_est`, is used instead: the Reno-friendly region.

One reduction per episode. Losses come in bursts, and a burst is one signal: what left before the
last reduction and is declared lost later belongs to the same episode. Nothing grows until something
that left after it is acknowledged.

HyStart++ ends the first slow start before it overflows the path: when the smallest round trip of a
round is clearly above that of the round before, a queue is forming. It may be noise, so for five
rounds the window still grows, a quarter as fast (conservative slow start); if the round trip falls
back meanwhile, slow start goes on.

What grows only when it is used. If the sender had no data, or was held back by anything but this
window, then a successful round trip says nothing on a larger window: nothing grows, and the clock
of the cubic curve stands still (RFC 9438 sections 4.2 and 5.8).

Not done: Proportional Rate Reduction (RFC 6937). It keeps the clock of acknowledgements going while
a window shrinks; our sender has a pacer for a clock. Nor is a window validated down while it is
unused (RFC 7661): it decays only over a silence, in `on_idle`.

All windows are in bytes, C and K in segments and seconds as the RFC has them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

from chatbox.rdt.congestion import Acked, Lost, train_size
from chatbox.rdt.rtt import RttEstimator

CUBIC_C = 0.4
"""How steep the curve is, in segments per second cubed (RFC 9438 section 5.1)."""

BETA = 0.7
"""What a loss leaves of the window (section 4.6, beta_cubic)."""

ALPHA = 3 * (1 - BETA) / (1 + BETA)
"""
Segments per round trip by which Reno with our BETA must grow to be as fast as Reno (section 4.3).
"""

MAX_GROWTH = 1.5
"""The window may not aim at more than this times itself within one round trip (section 4.2)."""

INITIAL_WINDOW_PACKETS = 32
"""Fewer than BBR's: slow start doubles them whatever the first flight met, and HyStart++ finds the
queue that it looks for only if that flight has not made one."""

MIN_WINDOW_PACKETS = 2
"""The floor of window and threshold (section 4.6; RFC 9002 section 7.2, kMinimumWindow)."""

SLOW_START_PACING_GAIN = 2.0
"""
In slow start the window doubles in a round trip, so data must leave twice as fast (as Linux does).
"""

PACING_GAIN = 1.25
"""
Otherwise a little faster than window / round trip, so that it is the window that limits (RFC 9002
section 7.7).
"""

RTT_SAMPLES = 8
"""
How many samples of a round HyStart++ wants before it judges (RFC 9406 section 4.3, N_RTT_SAMPLE).
"""

RTT_SAMPLES_AT_END = 3
"""
How many it takes when the round is over. The RFC thinks of an acknowledgement every two packets;
ours come every quarter of a round trip, so a round may hold four samples and would never be judged.
"""

MIN_RTT_THRESHOLD = 0.004
"""Seconds of more delay that always count as noise (RFC 9406 section 4.3, MIN_RTT_THRESH)."""

MAX_RTT_THRESHOLD = 0.016
"""Seconds of more delay that always count as a queue (MAX_RTT_THRESH)."""

RTT_DIVISOR = 8
"""Between the two, this fraction of the round trip counts (MIN_RTT_DIVISOR)."""

CONSERVATIVE_GROWTH_DIVISOR = 4
"""How much slower conservative slow start grows (CSS_GROWTH_DIVISOR)."""

CONSERVATIVE_ROUNDS = 5
"""How many rounds it lasts (CSS_ROUNDS)."""


class Phase(Enum):
    """What the window does when an acknowledgement comes."""

    SLOW_START = "slow start"
    """Grows by what was acknowledged."""
    CONSERVATIVE = "conservative slow start"
    """Grows by a quarter of it: a queue may be forming (RFC 9406)."""
    AVOIDANCE = "congestion avoidance"
    """Follows the curve."""
    RECOVERY = "recovery"
    """Stands still until something that left after the reduction is acknowledged."""


TRANSITIONS: Mapping[Phase, frozenset[Phase]] = {
    Phase.SLOW_START: frozenset({Phase.CONSERVATIVE, Phase.AVOIDANCE, Phase.RECOVERY}),
    Phase.CONSERVATIVE: frozenset({Phase.SLOW_START, Phase.AVOIDANCE, Phase.RECOVERY}),
    # Back to slow start after a silence or persistent congestion, or because a loss was none.
    Phase.AVOIDANCE: frozenset({Phase.SLOW_START, Phase.CONSERVATIVE, Phase.RECOVERY}),
    # Back to wherever we were, if the loss was none.
    Phase.RECOVERY: frozenset({Phase.AVOIDANCE, Phase.SLOW_START, Phase.CONSERVATIVE}),
}
"""Which phase may follow which."""


@dataclass(slots=True)
class _Model:
    """
    All that a loss changes, kept in one piece so that a spurious loss can be undone (RFC 9438
    section 4.9).
    """

    phase: Phase
    window: float
    threshold: float = math.inf
    """Slow start ends here (ssthresh); infinite until something ended the first."""
    w_max: float = 0.0
    prior_window: float = 0.0
    """The window just before the last reduction (cwnd_prior)."""
    w_est: float = 0.0
    k: float = 0.0
    """Seconds from the start of the epoch until the curve is back at `w_max`."""
    epoch_at: float | None = None
    """
    When the present stage of congestion avoidance began; None until its first acknowledgement.
    """
    recovery_at: float = -math.inf
    """When the last reduction was made."""


class Cubic:
    """A `Controller`: CUBIC with HyStart++."""

    def __init__(self, datagram_bytes: int, now: float) -> None:
        self._datagram = datagram_bytes
        self._model = _Model(Phase.SLOW_START, float(INITIAL_WINDOW_PACKETS * datagram_bytes))
        self._undo: _Model | None = None
        self._smoothed: float | None = None
        self._timeout = 1.0
        self._acked_at = now
        # The most that was in flight, in this round and in the one before: is the window used?
        self._peak = 0
        self._previous_peak = 0
        # Rounds, and what HyStart++ remembers of them.
        self._round_ends_at = 0
        self._samples = 0
        self._round_min_rtt = math.inf
        self._previous_min_rtt = math.inf
        self._baseline_rtt = math.inf
        self._conservative_rounds = 0

    @property
    def phase(self) -> Phase:
        """What the window does at present."""
        return self._model.phase

    @property
    def threshold(self) -> float:
        """Where slow start ends, in bytes; infinite at first."""
        return self._model.threshold

    @property
    def window(self) -> int:
        """How much may be in flight."""
        return int(self._model.window)

    @property
    def pacing_rate(self) -> float:
        """
        The window spread over a round trip, times a gain; infinite before the first round trip is
        known.
        """
        if self._smoothed is None or self._smoothed <= 0:
            return math.inf
        slow_start = self.phase in (Phase.SLOW_START, Phase.CONSERVATIVE)
        gain = SLOW_START_PACING_GAIN if slow_start else PACING_GAIN
        return gain * self._model.window / self._smoothed

    @property
    def quantum(self) -> int:
        """The largest train that should leave at once."""
        return train_size(self.pacing_rate, self._datagram)

    def on_sent(self, now: float, size: int, in_flight: int, app_limited: bool) -> None:
        """Remember how much of the window is used."""
        self._peak = max(self._peak, in_flight + size)

    def on_late(self, in_flight: int) -> None:
        """The window grows by what is acknowledged, however long that takes."""

    def on_acked(self, acked: Acked, rtt: RttEstimator) -> None:
        """Grow, if the window was what limited the sender."""
        model = self._model
        if acked.rtt is not None:
            self._smoothed = rtt.smoothed
            self._timeout = rtt.probe_timeout(0.0)
        grows = self._is_limited_by_window() and not acked.rate.app_limited
        if not grows and model.epoch_at is not None:
            model.epoch_at += max(0.0, acked.now - self._acked_at)
        self._acked_at = acked.now
        round_over = acked.rate.prior_delivered >= self._round_ends_at
        self._watch_delay(acked.rtt, round_over)
        if round_over:
            self._round_ends_at = acked.delivered
            self._previous_peak, self._peak = self._peak, acked.in_flight

        if self.phase is Phase.RECOVERY:
            if acked.rate.sent_at <= model.recovery_at:
                return
            self._become(Phase.AVOIDANCE)
        if not grows:
            return
        if self.phase is Phase.AVOIDANCE:
            self._follow_curve(acked)
            return
        divisor = CONSERVATIVE_GROWTH_DIVISOR if self.phase is Phase.CONSERVATIVE else 1
        model.window += acked.newly_acked / divisor
        if model.window >= model.threshold:
            self._become(Phase.AVOIDANCE)

    def on_lost(self, lost: Lost) -> None:
        """Reduce, once per episode (RFC 9438 sections 4.6 and 4.7)."""
        model = self._model
        if lost.sent_at <= model.recovery_at:
            return
        self._undo = replace(model)
        # Fast convergence: who overflows below the last maximum has company, and makes room for it.
        below_last = model.window < model.w_max
        model.w_max = model.window * (1 + BETA) / 2 if below_last else model.window
        model.prior_window = model.window
        model.threshold = max(model.window * BETA, self._floor)
        model.window = model.threshold
        model.recovery_at = lost.now
        model.epoch_at = None
        if model.phase is not Phase.RECOVERY:
            self._become(Phase.RECOVERY)

    def on_persistent_congestion(self, now: float) -> None:
        """Begin again from the smallest window (RFC 9002 section 7.6.2, RFC 9438 section 4.8)."""
        model = self._model
        model.window = self._floor
        # The next stage of congestion avoidance has no reduction of its own to return from: K is 0.
        model.w_max = 0.0
        model.epoch_at = None
        # What left before now and is declared lost later says nothing new.
        model.recovery_at = now
        if model.phase is not Phase.SLOW_START:
            self._become(Phase.SLOW_START)

    def on_spurious_loss(self, now: float) -> None:
        """Put everything back as it was before the latest episode (RFC 9438 section 4.9)."""
        undo, self._undo = self._undo, None
        if undo is None or undo.window <= self._model.window:
            return
        phase, undo.phase = undo.phase, self._model.phase
        self._model = undo
        if phase is not undo.phase:
            self._become(phase)

    def on_idle(self, now: float, idle: float) -> None:
        """
        Halve the window for each timeout that a silence lasted, down to the initial one (RFC 2861;
        RFC 5681 section 4.1).

        What it was is remembered as the threshold of a new slow start. The clock of the curve stood
        still meanwhile.
        """
        model = self._model
        if model.epoch_at is not None:
            model.epoch_at += max(0.0, min(idle, now - self._acked_at))
            self._acked_at = now
        restart = min(model.window, INITIAL_WINDOW_PACKETS * self._datagram)
        halvings = min(int(idle / self._timeout), 64)
        window = max(model.window / 2**halvings, restart)
        if window >= model.window or model.phase is Phase.RECOVERY:
            return
        if not math.isinf(model.threshold):
            model.threshold = max(model.threshold, model.window * 3 / 4)
        model.window = window
        if model.phase is Phase.AVOIDANCE and model.window < model.threshold:
            model.epoch_at = None
            self._become(Phase.SLOW_START)

    def set_datagram_size(self, size: int) -> None:
        """
        Packets are of `size` bytes from now on; the curve is drawn anew from where the window is.
        """
        self._datagram = size
        self._model.epoch_at = None
        self._model.window = max(self._model.window, self._floor)

    @property
    def _floor(self) -> float:
        return float(MIN_WINDOW_PACKETS * self._datagram)

    def _become(self, phase: Phase) -> None:
        """The only place where the phase changes."""
        assert phase in TRANSITIONS[self._model.phase], (self._model.phase, phase)
        self._model.phase = phase

    def _is_limited_by_window(self) -> bool:
        used = max(self._peak, self._previous_peak)
        if self.phase is Phase.AVOIDANCE:
            # A train that does not fit any more waits: the window is used up to one train.
            return used + self.quantum >= self._model.window
        # The window doubles in a round trip, so half of it is what the last one could use.
        return 2 * used >= self._model.window

    def _follow_curve(self, acked: Acked) -> None:
        """RFC 9438 sections 4.2 to 4.5."""
        model = self._model
        segment = self._datagram
        if model.epoch_at is None:
            model.epoch_at = acked.now
            model.w_est = model.window
            if model.w_max <= model.window:
                # No reduction to return from: slow start ended without a loss, or after a timeout.
                model.w_max = model.window
            model.k = ((model.w_max - model.window) / segment / CUBIC_C) ** (1 / 3)
        since = max(0.0, acked.now - model.epoch_at)
        share = acked.newly_acked / model.window
        alpha = ALPHA if model.w_est < model.prior_window else 1.0
        model.w_est += alpha * share * segment
        if self._curve(since) < model.w_est:
            model.window = max(model.window, model.w_est)
            return
        target = self._curve(since + (self._smoothed or 0.0))
        target = min(max(target, model.window), MAX_GROWTH * model.window)
        model.window += (target - model.window) * share

    def _curve(self, since: float) -> float:
        model = self._model
        return CUBIC_C * self._datagram * (since - model.k) ** 3 + model.w_max

    def _watch_delay(self, rtt: float | None, round_over: bool) -> None:
        """HyStart++ (RFC 9406 section 4.2), in the first slow start only."""
        if not math.isinf(self._model.threshold):
            return
        if rtt is not None:
            self._samples += 1
            self._round_min_rtt = min(self._round_min_rtt, rtt)
        was_conservative = self.phase is Phase.CONSERVATIVE
        if self._samples >= (RTT_SAMPLES_AT_END if round_over else RTT_SAMPLES):
            self._judge_delay()
        if not round_over:
            return
        if was_conservative and self.phase is Phase.CONSERVATIVE:
            self._conservative_rounds += 1
            if self._conservative_rounds >= CONSERVATIVE_ROUNDS:
                self._model.threshold = self._model.window
                self._become(Phase.AVOIDANCE)
        self._previous_min_rtt = self._round_min_rtt
        self._round_min_rtt = math.inf
        self._samples = 0

    def _judge_delay(self) -> None:
        if self.phase is Phase.CONSERVATIVE:
            if self._round_min_rtt < self._baseline_rtt:
                self._baseline_rtt = math.inf
                self._become(Phase.SLOW_START)
            return
        threshold = self._previous_min_rtt / RTT_DIVISOR
        threshold = max(MIN_RTT_THRESHOLD, min(threshold, MAX_RTT_THRESHOLD))
        if self._round_min_rtt >= self._previous_min_rtt + threshold:
            self._baseline_rtt = self._round_min_rtt
            self._conservative_rounds = 0
            self._become(Phase.CONSERVATIVE)
