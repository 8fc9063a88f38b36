"""
BBRv3 (draft-ietf-ccwg-bbr): a sender that models the path instead of waiting for it to overflow.

The theory. A path is a pipe: it delivers at most so much a second (its bandwidth), and nothing goes
through in less than so long (its smallest round trip). The product of the two, the BDP, fills it;
what is in flight beyond that only stands in a queue. Both can be measured, but not at once: the
bandwidth shows only when the pipe is full, the round trip only when no queue stands. So BBR walks
in circles and looks at one after the other::

    Startup  double the rate each round until that brings nothing more
    Drain    let the queue of Startup run empty
    DOWN     send a little less than the path delivers: let others in, empty what a probe left
    CRUISE   send what the path delivers; 2-3 s, or as long as a Reno flow would need to refill it
    REFILL   a round at full rate, so that the probe starts from a full pipe
    UP       a quarter faster: does more arrive, or does it only queue or get lost?
    ProbeRTT every 5 s without a new minimum: half a pipe for 200 ms, to see the path without us

The model is in `bbr_model` (what is measured) and `bbr_loss` (what losses mean), the states are
tables in `bbr_states`; here is what moves between them, and how the model becomes a window and a
rate. The names that the draft gives to things stand in the docstrings; its sections are quoted.

Where we depart from the draft, and why:

1. Background loss is no signal, and mostly made up for; an overflow is cut by BETA: see `bbr_loss`.
2. While UP, the draft restarts the search for a plateau whenever the long-term bound holds the flow
   back, so a bounded probe goes on until it loses. We do that only as long as more can come of it:
   while no queue stands, while CRUISE found one (others are here, and the share is being settled),
   or while the rate has grown. A flow that is alone stops when it has built a queue of its own.
3. A round that stands in a queue and yet delivers less than half of what the model says lowers the
   short-term model without any loss: the link got slower. In the draft such a flow may keep a queue
   for ever, for half of a pipe that is overestimated fourfold never lets ProbeRTT see the minimum.
   For the same reason a probe that ProbeRTT cuts short counts as one for the bandwidth filter.
4. A silence of `STALE_AFTER` makes the model void; Startup begins from a fraction of it. The draft
   paces at the last estimate whatever its age, but our transfers pause for hours. What was counted
   for `ExtraAcked` before any silence is forgotten; the draft keeps the count and moves its start.
5. There is no pacing before the first round trip is known: the initial window leaves at once. The
   draft guesses one millisecond, which is the same in practice.
6. Startup and UP end after two flat rounds, not three, if the second met a queue: a third would
   only overflow it. And Startup paces by the window too, half of which is what the last round
   delivered: a sample of a flight that took part of a round trip to leave is less, and with pacing
   from such samples alone every round lasts half as long again. Once a round trip shows a queue,
   Startup takes nothing for aggregation, and gives back what it took: what exceeds an estimate that
   still grows is growth, and a window with that on top overflows the queue. What Startup has lost
   is answered by leaving it; told of later, it says nothing against the lower rate. What Drain sent
   is no measure of the path.
7. The sampler is not ours to mark as application-limited in ProbeRTT; samples of what left during
   it are ignored here instead. Likewise "in recovery" is a round that saw a loss.
8. We are a program among others, and both machines are late at times, by more than a short path
   takes. So round trips and rates are measured without the time for which data and acknowledgements
   waited for a program (`Acked.held`); what is in flight includes it, so the longest of late is
   added to the bounds; and when the path ran dry because we came late, what it delivered counts as
   limited by the application, and lowers nothing.

All sizes are in bytes, times in seconds, rates in bytes per second.
"""

from __future__ import annotations

import math
import random

from chatbox.rdt.congestion import INITIAL_WINDOW_PACKETS, Acked, Lost, train_size
from chatbox.rdt.congestion.bbr_loss import Bounds, Losses
from chatbox.rdt.congestion.bbr_model import (
    EXTRA_ACKED_ROUNDS,
    ExtraAcked,
    FullPipe,
    MaxBandwidth,
    MinRtt,
    Rounds,
    WindowUse,
)
from chatbox.rdt.congestion.bbr_states import (
    ACCELERATING,
    GAINS,
    PROBE_BW,
    STEADY,
    TRANSITIONS,
    Feedback,
    State,
)
from chatbox.rdt.pacing import BURST_SECONDS
from chatbox.rdt.rtt import RttEstimator

PACING_MARGIN = 0.99
"""Send a little less than the model says, so that queues run empty ("Pacing Rate")."""

MIN_WINDOW_PACKETS = 4
"""Two packets on their way and two acknowledged together ("Minimum cwnd for Pipelining")."""

DRAIN_ROUNDS = 3
"""Rounds of Drain after which the bandwidth must have been overestimated ("Drain")."""

PROBE_WAIT = 2.0
"""Seconds between probes, plus up to one at random ("Time Scale for Bandwidth Probing")."""

RENO_ROUNDS = 63
"""Rounds between probes at most, less one at random: a Reno flow's time to regrow (same)."""

PROBE_RTT_DURATION = 0.2
"""Seconds at half a pipe, long enough for flows of different round trips to meet ("ProbeRTT")."""

SLOWER = 0.5
"""A round with a standing queue that delivers less than this share says: the path got slower."""

HELD_DECAY = 0.98
"""
What an acknowledgement leaves of the longest time that one was kept waiting by a machine. What was
late will be late again, and while it is, no acknowledgement comes that would say so.
"""

GROWING = 1.03
"""A probe that found this much more bandwidth is worth going on with."""

STALE_AFTER = 10.0
"""Seconds of silence that void the model, the span for which the draft believes a round trip."""

STALE_FRACTION = 0.25
"""What a void model is still good for: Startup regains it in two rounds, if it is still there."""


class Bbr:
    """A `Controller`: BBRv3."""

    def __init__(self, datagram_bytes: int, now: float, rng: random.Random) -> None:
        self._datagram = datagram_bytes
        self._rng = rng
        self.state = State.STARTUP
        self._window = self._initial_window
        self._pacing_rate = math.inf
        self.bw = 0.0
        """What the path delivers to us at present: `max_bw`, unless congestion says less."""
        # What is measured.
        self.rounds = Rounds()
        self.bandwidth = MaxBandwidth()
        self.round_trip = MinRtt(now)
        self.aggregation = ExtraAcked(now)
        self.full_pipe = FullPipe()
        self.losses = Losses(datagram_bytes, self.round_trip)
        self.bounds = Bounds()
        self._delivered = 0
        self._held = 0.0
        self.window_use = WindowUse()
        # The cycle.
        self.feedback = Feedback.NONE
        self._probe_sample = False
        self.prev_probe_too_high = False
        self.prev_probe_precautionary = False
        self._cycle_at = now
        self._probe_wait = 0.0
        self._up_round = 0
        self._drain_round = 0
        self._crowded = False
        self._bw_before_probe = 0.0
        # ProbeRTT and silence.
        self._probe_rtt_done_at: float | None = None
        self._probe_rtt_round_done = False
        self._limited_until = 0
        self.idle_restart = False
        # What a spurious loss restores.
        self._prior_window = 0.0
        self._undo_bounds = Bounds()
        self._undo_state: State | None = None

    # ---- what it says

    @property
    def window(self) -> int:
        """How much may be in flight."""
        return int(self._window)

    @property
    def pacing_rate(self) -> float:
        """How fast data leaves; infinite before the first round trip is known."""
        return self._pacing_rate

    @property
    def quantum(self) -> int:
        """The largest train that should leave at once."""
        return train_size(self._pacing_rate, self._datagram)

    @property
    def max_bw(self) -> float:
        """The most that the path delivered of late."""
        return self.bandwidth.value

    @property
    def min_rtt(self) -> float:
        """The smallest round trip of late."""
        return self.round_trip.value

    # ---- what it hears

    def on_sent(self, now: float, size: int, in_flight: int, app_limited: bool) -> None:
        """Remember whether the window is used, and see to the end of a silence."""
        if in_flight + size + self.quantum > self._window:
            self.window_use.is_full()
        if in_flight == 0 and app_limited:
            self._restart_from_idle(now)

    def on_late(self, in_flight: int) -> None:
        """If the path ran dry meanwhile, what it delivered is no measure of it."""
        if in_flight < self._bdp() and self.state not in ACCELERATING:
            self._limited_until = max(self._limited_until, self._delivered + 1)

    def on_acked(self, acked: Acked, rtt: RttEstimator) -> None:
        """Update the model, then the state, then what follows from them ("Per-ACK Steps")."""
        sample = acked.rate
        self._delivered = acked.delivered
        self._held = max(acked.held, HELD_DECAY * self._held)
        if sample.prior_delivered < self._limited_until:
            sample.app_limited = True
        self.losses.round.on_acked(acked)
        self.rounds.update(sample.prior_delivered, acked.delivered)
        if self.rounds.started:
            self.window_use.begin_round()
        if sample.delivery_rate >= self.max_bw or not sample.app_limited:
            self.bandwidth.update(sample.delivery_rate)
        if self.losses.round.over:
            self._judge_losses(acked)
        self.aggregation.update(
            acked.newly_acked,
            acked.now,
            self.bw,
            self.window,
            self.rounds.count,
            EXTRA_ACKED_ROUNDS if self.full_pipe.reached else 1,
        )
        if self.rounds.started and not sample.app_limited:
            latest = (
                acked.rtt if self.state is State.UP and acked.rtt else self.losses.round.mean_rtt
            )
            self.full_pipe.update(sample.delivery_rate, not self.round_trip.is_calm(latest))
        self._leave_startup_and_drain(acked)
        self._advance_cycle(acked)
        self.round_trip.update(acked.rtt, acked.now)
        self._check_probe_rtt(acked)
        if self.losses.round.over:
            self.losses.round.finish(acked)
        self.bw = min(self.max_bw, self.bounds.bw_shortterm)
        self._pace(GAINS[self.state].pacing)
        if self.state is State.STARTUP and rtt.latest is not None:
            self._pace_startup(rtt.smoothed)
        self._set_window(acked)

    def on_lost(self, lost: Lost) -> None:
        """Count it, and end a probe that went too far ("HandleLostPacket")."""
        self._delivered = lost.delivered
        self._save_window()
        if self.losses.round.on_lost(lost):
            self._undo_bounds, self._undo_state = self.bounds.saved(), None
        if self._probe_sample and self.losses.is_too_high(lost.lost_since_sent, lost.tx_in_flight):
            self._go_too_high(self.losses.inflight_at(lost), lost)

    def on_persistent_congestion(self, now: float) -> None:
        """Begin again from the smallest window ("Modulating cwnd in Loss Recovery")."""
        self._save_window()
        self._window = self._floor

    def on_spurious_loss(self, now: float) -> None:
        """Put back what the last loss changed ("Handling a Spurious Loss Recovery")."""
        undone, self._undo_state = self._undo_state, None
        self._window = max(self._window, self._prior_window)
        self.losses.round.seen = False
        self.full_pipe.restart()
        self.bounds.restore(self._undo_bounds)
        if undone is State.STARTUP and self.state is not State.STARTUP:
            self.full_pipe.reached = False
            if self.state is not State.PROBE_RTT:
                self._become(State.STARTUP)
        elif undone is State.UP and self.state in (State.DOWN, State.CRUISE):
            self._start_refill()

    def on_idle(self, now: float, idle: float) -> None:
        """Start up again from a fraction of what was, if that is long ago."""
        if idle < STALE_AFTER or not self.max_bw:
            return
        bdp = self._bdp(self.max_bw)
        self._window = max(self._initial_window, STALE_FRACTION * 2 * bdp)
        self._pacing_rate = GAINS[State.STARTUP].pacing * STALE_FRACTION * self.max_bw
        self.bandwidth.restart()
        self.round_trip.restart(now)
        self.full_pipe.restart()
        self.full_pipe.reached = False
        self.bounds = Bounds()
        self.losses.round.forget()
        self._probe_sample = False
        self._prior_window = self._window
        if self.state is not State.STARTUP:
            self._become(State.STARTUP)

    def set_datagram_size(self, size: int) -> None:
        """Packets are of `size` bytes from now on."""
        self._datagram = size
        self.losses.background.packet = size
        self._window = max(self._window, self._floor)

    # ---- losses

    def _judge_losses(self, acked: Acked) -> None:
        """At the end of a round of losses ("UpdateCongestionSignals")."""
        losses = self.losses
        if self.state is State.STARTUP:
            if losses.round.seen and losses.ends_startup():
                self._undo_state = State.STARTUP
                self.full_pipe.now = self.full_pipe.reached = True
                self.bounds.inflight_longterm = max(self._bdp(), losses.round.inflight_latest)
            elif not self.full_pipe.rounds:
                losses.learn()  # the rate still grows: we do not send more than arrives
        elif self.state not in ACCELERATING:
            if self.state is State.CRUISE:
                self._crowded = not losses.calm
            if losses.is_signal() or self._is_slower(acked):
                self._follow_down()
            losses.learn()

    def _is_slower(self, acked: Acked) -> bool:
        """Whether the round says that the path cannot be as fast as the model."""
        unknown = self.losses.calm or acked.rate.app_limited
        return not unknown and 0 < self.losses.round.bw_latest < SLOWER * self.bw

    def _follow_down(self) -> None:
        latest = self.losses.round
        full = self._bdp(latest.bw_latest) + self.aggregation.value
        pipe = None if self.losses.calm else full
        self.bounds.lower(latest, self.max_bw, self._window, pipe)

    def _go_too_high(self, in_flight: float, lost: Lost) -> None:
        self.prev_probe_too_high = True
        self._probe_sample = False  # one answer is enough for a probe
        calm = self.losses.calm
        if calm:
            self.losses.blame_us()  # more is lost the faster we send, without a queue
        if not lost.app_limited:
            self.bounds.cut_longterm(in_flight, self._target_inflight(), lost.now, calm)
        if self.state is State.UP:
            self._undo_state = State.UP
            self._start_down(lost.now)

    def _save_window(self) -> None:
        disturbed = self.losses.round.seen or self.state is State.PROBE_RTT
        self._prior_window = max(self._prior_window if disturbed else 0.0, self._window)

    # ---- states

    def _become(self, state: State) -> None:
        """The only place where the state changes."""
        assert state in TRANSITIONS[self.state], (self.state, state)
        self.state = state

    def _leave_startup_and_drain(self, acked: Acked) -> None:
        if self.state is State.STARTUP and self.full_pipe.reached:
            self._become(State.DRAIN)
            self._drain_round = self.rounds.count
            self.losses.round.answered(acked.now)
        if self.state is State.DRAIN:
            self._limited_until = acked.delivered + acked.in_flight
            too_long = self.rounds.count > self._drain_round + DRAIN_ROUNDS
            if too_long or acked.in_flight <= self._inflight(self.bw):
                self._start_down(acked.now)

    def _advance_cycle(self, acked: Acked) -> None:
        """ "UpdateProbeBWCyclePhase"."""
        if not self.full_pipe.reached or self._learn_from_probe(acked):
            return
        if self.state in (State.DOWN, State.CRUISE) and self._is_time_to_probe(acked.now):
            self._start_refill()
        elif self.state is State.DOWN:
            if acked.in_flight <= min(self._with_headroom(), self._inflight(self.max_bw)):
                self._become(State.CRUISE)
        elif self.state is State.REFILL:
            if self.rounds.started:
                self._start_up(acked)
        elif self.state is State.UP and self._is_time_to_go_down(acked):
            self.prev_probe_too_high = False
            self.losses.ours = False
            self._start_down(acked.now)

    def _start_down(self, now: float) -> None:
        self.losses.round.forget()
        self.feedback = Feedback.STOPPING
        self.bounds.acked_per_step = math.inf
        self._cycle_at = now
        self._probe_wait = PROBE_WAIT + self._rng.random()
        self._up_round = self.rounds.count - self._rng.randint(0, 1)
        self.rounds.restart(self._delivered)
        self._become(State.DOWN)

    def _start_refill(self) -> None:
        self.bounds.forget_shortterm()
        self.bounds.start_raising()
        self.prev_probe_precautionary = False
        self.feedback = Feedback.REFILLING
        self._bw_before_probe = self.max_bw
        self.rounds.restart(self._delivered)
        self._become(State.REFILL)

    def _start_up(self, acked: Acked) -> None:
        self._probe_sample = True
        self.feedback = Feedback.STARTING
        self.full_pipe.restart(acked.rate.delivery_rate)
        self.bounds.steepen(self._window, self._datagram)
        self.rounds.restart(self._delivered)
        self._become(State.UP)

    def _learn_from_probe(self, acked: Acked) -> bool:
        """Whether this changed the state ("AdaptLongTermModel")."""
        sample = acked.rate
        if self.rounds.started and self.feedback is Feedback.STARTING:
            self.feedback = Feedback.COMING
        if self.rounds.started and self.feedback is Feedback.STOPPING:
            self._probe_sample = False
            self.feedback = Feedback.NONE
            if self.state in PROBE_BW:
                if not sample.app_limited:
                    self.bandwidth.advance()
                if self.prev_probe_precautionary and not self.prev_probe_too_high:
                    self._start_refill()
                    return True
        bounds = self.bounds
        if math.isinf(bounds.inflight_longterm) or self.losses.is_too_high(
            sample.lost, sample.tx_in_flight
        ):
            return False
        if sample.sent_at > bounds.cut_at:
            bounds.inflight_longterm = max(bounds.inflight_longterm, sample.tx_in_flight)
        if self.state is State.UP and self._is_held_by_longterm:
            bounds.raise_longterm(acked.newly_acked, self._datagram)
            if self.rounds.started:
                bounds.steepen(self._window, self._datagram)
        return False

    @property
    def _is_held_by_longterm(self) -> bool:
        return self.window_use.limited and self._window >= self.bounds.inflight_longterm

    def _is_time_to_go_down(self, acked: Acked) -> bool:
        if self.prev_probe_too_high and acked.in_flight >= self.bounds.inflight_longterm:
            self.prev_probe_precautionary = True
            return True
        growing = self.max_bw >= GROWING * self._bw_before_probe
        if self._is_held_by_longterm and (self._crowded or growing or self.losses.calm):
            self.full_pipe.restart(acked.rate.delivery_rate)
        return self.full_pipe.now

    def _is_time_to_probe(self, now: float) -> bool:
        if now > self._cycle_at + self._probe_wait:
            return True
        reno_rounds = min(self._target_inflight() / self._datagram, RENO_ROUNDS)
        return self.rounds.count - self._up_round >= reno_rounds

    # ---- ProbeRTT and silence

    def _check_probe_rtt(self, acked: Acked) -> None:
        if self.state is not State.PROBE_RTT and self.round_trip.expired and not self.idle_restart:
            self._save_window()
            if self.state is State.UP:
                self.bandwidth.advance()  # the probe is cut short, but it was one
            self._become(State.PROBE_RTT)
            self._probe_rtt_done_at = None
            self.feedback = Feedback.STOPPING
            self.rounds.restart(self._delivered)
        if self.state is State.PROBE_RTT:
            self._hold_probe_rtt(acked)
        self.idle_restart = False

    def _hold_probe_rtt(self, acked: Acked) -> None:
        self._limited_until = acked.delivered + acked.in_flight
        if self._probe_rtt_done_at is None:
            if acked.in_flight <= self._probe_rtt_window():
                self._probe_rtt_done_at = acked.now + PROBE_RTT_DURATION
                self._probe_rtt_round_done = False
                self.rounds.restart(self._delivered)
            return
        self._probe_rtt_round_done |= self.rounds.started
        if self._probe_rtt_round_done:
            self._end_probe_rtt(acked.now)

    def _end_probe_rtt(self, now: float) -> None:
        if self._probe_rtt_done_at is None or now <= self._probe_rtt_done_at:
            return
        self.round_trip.probed(now)
        self._window = max(self._window, self._prior_window)
        self.bounds.forget_shortterm()
        if self.full_pipe.reached:
            # In flight is less than a pipe: DOWN has nothing to do but to set the clock.
            self._start_down(now)
            self._become(State.CRUISE)
        else:
            self._become(State.STARTUP)

    def _restart_from_idle(self, now: float) -> None:
        """ "HandleRestartFromIdle"."""
        self.idle_restart = True
        self.aggregation.restart(now)
        if self.state in PROBE_BW:
            self._pace(1.0)
        elif self.state is State.PROBE_RTT:
            self._end_probe_rtt(now)

    # ---- window and rate

    @property
    def _initial_window(self) -> float:
        return float(INITIAL_WINDOW_PACKETS * self._datagram)

    @property
    def _floor(self) -> float:
        return float(MIN_WINDOW_PACKETS * self._datagram)

    def _bdp(self, bandwidth: float | None = None) -> float:
        if math.isinf(self.min_rtt):
            return self._initial_window
        return (self.bw if bandwidth is None else bandwidth) * self.min_rtt

    def _with_offload(self, in_flight: float) -> float:
        """
        At least what keeps the machinery going ("QuantizationBudget"): what the pacer lets out in
        one go between two firings of a timer, and one train that waits to be acknowledged.
        """
        rate = 0.0 if math.isinf(self._pacing_rate) else self._pacing_rate
        budget = BURST_SECONDS * rate + (self.quantum if rate else 0)
        most = max(in_flight, budget, self._floor)
        return most + 2 * self._datagram if self.state is State.UP else most

    def _inflight(self, bandwidth: float) -> float:
        """What fills the pipe and no more."""
        return self._with_offload(self._bdp(bandwidth))

    def _target_inflight(self) -> float:
        return min(self._bdp(), self._window)

    def _with_headroom(self) -> float:
        return max(self.bounds.with_headroom(self._datagram), self._floor)

    def _probe_rtt_window(self) -> float:
        return max(GAINS[State.PROBE_RTT].window * self._bdp(), self._floor)

    def _pace(self, gain: float) -> None:
        extra = self.losses.made_up_for if self.state in STEADY else 0.0
        rate = gain * self.bw * PACING_MARGIN / (1 - extra)
        # Until the pipe was full once the model is a lower bound: it never slows us down.
        if rate > 0 and (self.full_pipe.reached or rate > self._pacing_rate):
            self._pacing_rate = rate

    def _pace_startup(self, rtt: float) -> None:
        """
        Let the window leave within a round trip, whatever the samples say: one of a flight that was
        spread over part of a round trip is less than what the window has shown to pass.
        """
        rate = GAINS[State.STARTUP].pacing * self._window / rtt
        if not math.isinf(self._pacing_rate):
            rate = max(self._pacing_rate, rate / GAINS[State.STARTUP].window)
        self._pacing_rate = rate

    def _set_window(self, acked: Acked) -> None:
        """ "cwnd Adjustment Mechanism": grow by what arrives, shrink at once."""
        extra, is_known = self.aggregation.value, self.full_pipe.reached
        if self.state is State.STARTUP and acked.rtt and self.round_trip.shows_queue(acked.rtt):
            extra, is_known = 0.0, True
        most = self._with_offload(GAINS[self.state].window * self._bdp() + extra)
        window = self._window
        if is_known:
            window = min(window + acked.newly_acked, most)
        elif window < most or self._delivered < self._initial_window:
            window += acked.newly_acked
        cap = self.bounds.inflight_shortterm
        if self.state in (State.CRUISE, State.PROBE_RTT):
            cap = min(cap, self._with_headroom())
        elif self.state in PROBE_BW:
            cap = min(cap, self.bounds.inflight_longterm)
        if self.state is State.PROBE_RTT:
            cap = min(cap, self._probe_rtt_window())
        # The bounds are of what is on the path; what waits in a machine for its turn is not.
        cap += self._held * self.bw
        self._window = max(min(window, cap), self._floor)
