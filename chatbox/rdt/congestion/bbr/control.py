"""
What follows from the model: how much may be in flight, and how fast it leaves.

These are the control parameters of draft-ietf-ccwg-bbr ("Updating Control Parameters"). Each is the
model times the gain of the present state, and then what reality adds:

- The *rate* is a multiple of the bandwidth, less a margin, so that a queue that was left behind
  runs empty; and what a bad cable loses is sent in addition (`Losses.made_up_for`).
- The *window* is a multiple of the BDP. On top comes what the path holds back (`ExtraAcked`), for
  nobody may stall while it waits for a lump; it is no less than what keeps pacer and trains going;
  and the bounds cut it, which only a state that probes may exceed. It grows by what arrives, so a
  window never opens faster than the path has emptied it, and shrinks at once.

Until the pipe was full once, the model is a lower bound that grows, and does not slow us down.

Sizes are in bytes, times in seconds, rates in bytes per second.
"""

from __future__ import annotations

import math

from chatbox.rdt.congestion import Acked, train_size
from chatbox.rdt.congestion.bbr.model import Model
from chatbox.rdt.congestion.bbr.states import GAINS, PROBE_BW, STEADY, State
from chatbox.rdt.pacing import BURST_SECONDS

PACING_MARGIN = 0.99
"""Send a little less than the model says, so that queues run empty ("Pacing Rate")."""

MIN_WINDOW_PACKETS = 4
"""Two packets on their way and two acknowledged together ("Minimum cwnd for Pipelining")."""


class ControlParameters:
    """The window and the rate, and what they are measured against."""

    __slots__ = ("_model", "pacing_rate", "window")

    def __init__(self, model: Model) -> None:
        self._model = model
        self.window = model.initial_window
        """How much may be in flight (C.cwnd)."""
        self.pacing_rate = math.inf
        """How fast data leaves (C.pacing_rate); infinite before the first round trip is known."""

    # ---- what the window is measured against

    @property
    def floor(self) -> float:
        """The smallest window ("MinPipeCwnd")."""
        return float(MIN_WINDOW_PACKETS * self._model.datagram)

    def inflight(self, bandwidth: float, state: State) -> float:
        """What fills the pipe at `bandwidth`, and no more ("Inflight")."""
        return self._with_offload(self._model.bdp(bandwidth), state)

    def target_inflight(self) -> float:
        """What a flow may have in flight if it takes its share ("TargetInflight")."""
        return min(self._model.bdp(), self.window)

    def with_headroom(self) -> float:
        """The long-term bound less what is left to others ("InflightWithHeadroom")."""
        return max(self._model.bounds.with_headroom(self._model.datagram), self.floor)

    def probe_rtt_window(self) -> float:
        """What ProbeRTT leaves in flight ("ProbeRTTCwnd")."""
        return max(GAINS[State.PROBE_RTT].window * self._model.bdp(), self.floor)

    def _with_offload(self, in_flight: float, state: State) -> float:
        """
        At least what keeps the machinery going ("QuantizationBudget"): what the pacer lets out in
        one go between two firings of a timer, and one train that waits to be acknowledged.
        """
        rate = 0.0 if math.isinf(self.pacing_rate) else self.pacing_rate
        datagram = self._model.datagram
        budget = BURST_SECONDS * rate + (train_size(rate, datagram) if rate else 0)
        most = max(in_flight, budget, self.floor)
        return most + 2 * datagram if state is State.UP else most

    # ---- the rate

    def pace(self, gain: float, state: State) -> None:
        """Send at `gain` times the bandwidth ("SetPacingRateWithGain")."""
        model = self._model
        extra = model.losses.made_up_for if state in STEADY else 0.0
        rate = gain * model.bw * PACING_MARGIN / (1 - extra)
        if rate > 0 and (model.full_pipe.reached or rate > self.pacing_rate):
            self.pacing_rate = rate

    def pace_startup(self, rtt: float) -> None:
        """
        Let the window leave within a round trip, whatever the samples say: one of a flight that was
        spread over part of a round trip is less than what the window has shown to pass.
        """
        rate = GAINS[State.STARTUP].pacing * self.window / rtt
        if not math.isinf(self.pacing_rate):
            rate = max(self.pacing_rate, rate / GAINS[State.STARTUP].window)
        self.pacing_rate = rate

    # ---- the window

    def set_window(self, acked: Acked, state: State) -> None:
        """ "cwnd Adjustment Mechanism": grow by what arrives, shrink at once."""
        model = self._model
        extra, is_known = model.aggregation.value, model.full_pipe.reached
        if state is State.STARTUP and acked.rtt and model.round_trip.shows_queue(acked.rtt):
            extra, is_known = 0.0, True
        most = self._with_offload(GAINS[state].window * model.bdp() + extra, state)
        window = self.window
        if is_known:
            window = min(window + acked.newly_acked, most)
        elif window < most or model.delivered < model.initial_window:
            window += acked.newly_acked
        cap = model.bounds.inflight_shortterm
        if state in (State.CRUISE, State.PROBE_RTT):
            cap = min(cap, self.with_headroom())
        elif state in PROBE_BW:
            cap = min(cap, model.bounds.inflight_longterm)
        if state is State.PROBE_RTT:
            cap = min(cap, self.probe_rtt_window())
        # The bounds are of what is on the path; what waits in a machine for its turn is not.
        cap += model.held * model.bw
        self.window = max(min(window, cap), self.floor)
