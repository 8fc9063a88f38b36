"""
The state machine of BBR: what is to be found out next, and what an acknowledgement means for that.

Read `chatbox.rdt.congestion.bbr` first: it says what the states are for, and where we depart from
the draft. This is the `Controller` that recovery talks to. Each acknowledgement runs down one list,
in the order of the draft ("Per-ACK Steps"): the model takes in the sample, as far as the state lets
it count; the state may change; window and rate follow. Losses come before the acknowledgement that
told of them, since they may end a probe.

All sizes are in bytes, times in seconds, rates in bytes per second.
"""

from __future__ import annotations

import math
import random

from chatbox.rdt.congestion import Acked, Lost, train_size
from chatbox.rdt.congestion.bbr.aggregation import EXTRA_ACKED_ROUNDS
from chatbox.rdt.congestion.bbr.bounds import Bounds
from chatbox.rdt.congestion.bbr.control import ControlParameters
from chatbox.rdt.congestion.bbr.model import Model
from chatbox.rdt.congestion.bbr.states import (
    ACCELERATING,
    GAINS,
    PROBE_BW,
    TRANSITIONS,
    Feedback,
    State,
)
from chatbox.rdt.rtt import RttEstimator

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
        self._rng = rng
        self.state = State.STARTUP
        self.model = Model(datagram_bytes, now)
        self.control = ControlParameters(self.model)
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
        return int(self.control.window)

    @property
    def pacing_rate(self) -> float:
        """How fast data leaves; infinite before the first round trip is known."""
        return self.control.pacing_rate

    @property
    def quantum(self) -> int:
        """The largest train that should leave at once."""
        return train_size(self.control.pacing_rate, self.model.datagram)

    # ---- what it hears

    def on_sent(self, now: float, size: int, in_flight: int, app_limited: bool) -> None:
        """Remember whether the window is used, and see to the end of a silence."""
        if in_flight + size + self.quantum > self.control.window:
            self.model.window_use.mark_full()
        if in_flight == 0 and app_limited:
            self._restart_from_idle(now)

    def on_late(self, in_flight: int) -> None:
        """If the path ran dry meanwhile, what it delivered is no measure of it."""
        if in_flight < self.model.bdp() and self.state not in ACCELERATING:
            self._limited_until = max(self._limited_until, self.model.delivered + 1)

    def on_acked(self, acked: Acked, rtt: RttEstimator) -> None:
        """Update the model, then the state, then what follows from them ("Per-ACK Steps")."""
        model, control = self.model, self.control
        sample, losses = acked.rate, model.losses
        model.delivered = acked.delivered
        model.held = max(acked.held, HELD_DECAY * model.held)
        if sample.prior_delivered < self._limited_until:
            sample.app_limited = True
        losses.round.on_acked(acked)
        model.rounds.update(sample.prior_delivered, acked.delivered)
        if model.rounds.started:
            model.window_use.begin_round()
        if sample.delivery_rate >= model.max_bw or not sample.app_limited:
            model.bandwidth.update(sample.delivery_rate)
        if losses.round.over:
            self._judge_losses(acked)
        model.aggregation.update(
            acked.newly_acked,
            acked.now,
            model.bw,
            self.window,
            model.rounds.count,
            EXTRA_ACKED_ROUNDS if model.full_pipe.reached else 1,
        )
        if model.rounds.started and not sample.app_limited:
            latest = acked.rtt if self.state is State.UP and acked.rtt else losses.round.mean_rtt
            model.full_pipe.update(sample.delivery_rate, not losses.is_calm(latest))
        self._leave_startup_and_drain(acked)
        self._advance_cycle(acked)
        model.round_trip.update(acked.rtt, acked.now)
        self._check_probe_rtt(acked)
        if losses.round.over:
            losses.round.finish(acked)
        model.bw = min(model.max_bw, model.bounds.bw_shortterm)
        control.pace(GAINS[self.state].pacing, self.state)
        if self.state is State.STARTUP and rtt.latest is not None:
            control.pace_startup(rtt.smoothed)
        control.set_window(acked, self.state)

    def on_lost(self, lost: Lost) -> None:
        """Count it, and end a probe that went too far ("HandleLostPacket")."""
        model = self.model
        model.delivered = lost.delivered
        self._save_window()
        if model.losses.round.on_lost(lost):
            self._undo_bounds, self._undo_state = model.bounds.saved(), None
        if self._probe_sample and model.losses.is_too_high(lost.lost_since_sent, lost.tx_in_flight):
            self._go_too_high(model.losses.inflight_at(lost), lost)

    def on_persistent_congestion(self, now: float) -> None:
        """Begin again from the smallest window ("Modulating cwnd in Loss Recovery")."""
        self._save_window()
        self.control.window = self.control.floor

    def on_spurious_loss(self, now: float) -> None:
        """Put back what the last loss changed ("Handling a Spurious Loss Recovery")."""
        model = self.model
        undone, self._undo_state = self._undo_state, None
        self.control.window = max(self.control.window, self._prior_window)
        model.losses.round.seen = False
        model.full_pipe.restart()
        model.bounds.restore(self._undo_bounds)
        if undone is State.STARTUP and self.state is not State.STARTUP:
            model.full_pipe.reached = False
            if self.state is not State.PROBE_RTT:
                self._become(State.STARTUP)
        elif undone is State.UP and self.state in (State.DOWN, State.CRUISE):
            self._start_refill()

    def on_idle(self, now: float, idle: float) -> None:
        """Start up again from a fraction of what was, if that is long ago."""
        model, control = self.model, self.control
        if idle < STALE_AFTER or not model.max_bw:
            return
        bdp = model.bdp(model.max_bw)
        control.window = max(model.initial_window, STALE_FRACTION * 2 * bdp)
        control.pacing_rate = GAINS[State.STARTUP].pacing * STALE_FRACTION * model.max_bw
        model.void(now)
        self._probe_sample = False
        self._prior_window = control.window
        if self.state is not State.STARTUP:
            self._become(State.STARTUP)

    def set_datagram_size(self, size: int) -> None:
        """Packets are of `size` bytes from now on."""
        self.model.set_datagram_size(size)
        self.control.window = max(self.control.window, self.control.floor)

    # ---- losses

    def _judge_losses(self, acked: Acked) -> None:
        """At the end of a round of losses ("UpdateCongestionSignals")."""
        model, losses = self.model, self.model.losses
        if self.state is State.STARTUP:
            if losses.round.seen and losses.ends_startup():
                self._undo_state = State.STARTUP
                model.full_pipe.now = model.full_pipe.reached = True
                model.bounds.inflight_longterm = max(model.bdp(), losses.round.inflight_latest)
            elif not model.full_pipe.rounds:
                losses.learn()  # the rate still grows: we do not send more than arrives
        elif self.state not in ACCELERATING:
            if self.state is State.CRUISE:
                self._crowded = not losses.calm
            if losses.is_signal() or self._is_slower(acked):
                self._follow_down()
            losses.learn()

    def _is_slower(self, acked: Acked) -> bool:
        """Whether the round says that the path cannot be as fast as the model."""
        losses = self.model.losses
        unknown = losses.calm or acked.rate.app_limited
        return not unknown and 0 < losses.round.bw_latest < SLOWER * self.model.bw

    def _follow_down(self) -> None:
        model, latest = self.model, self.model.losses.round
        full = model.bdp(latest.bw_latest) + model.aggregation.value
        pipe = None if model.losses.calm else full
        model.bounds.lower(latest, model.max_bw, self.control.window, pipe)

    def _go_too_high(self, in_flight: float, lost: Lost) -> None:
        model = self.model
        self.prev_probe_too_high = True
        self._probe_sample = False  # one answer is enough for a probe
        calm = model.losses.calm
        if calm:
            model.losses.blame_us()  # more is lost the faster we send, without a queue
        if not lost.app_limited:
            target = self.control.target_inflight()
            model.bounds.cut_longterm(in_flight, target, lost.now, calm)
        if self.state is State.UP:
            self._undo_state = State.UP
            self._start_down(lost.now)

    def _save_window(self) -> None:
        disturbed = self.model.losses.round.seen or self.state is State.PROBE_RTT
        self._prior_window = max(self._prior_window if disturbed else 0.0, self.control.window)

    # ---- states

    def _become(self, state: State) -> None:
        """The only place where the state changes."""
        assert state in TRANSITIONS[self.state], (self.state, state)
        self.state = state

    def _leave_startup_and_drain(self, acked: Acked) -> None:
        if self.state is State.STARTUP and self.model.full_pipe.reached:
            self._become(State.DRAIN)
            self._drain_round = self.model.rounds.count
            self.model.losses.round.answered(acked.now)
        if self.state is State.DRAIN:
            self._limited_until = acked.delivered + acked.in_flight
            too_long = self.model.rounds.count > self._drain_round + DRAIN_ROUNDS
            if too_long or acked.in_flight <= self.control.inflight(self.model.bw, self.state):
                self._start_down(acked.now)

    def _advance_cycle(self, acked: Acked) -> None:
        """ "UpdateProbeBWCyclePhase"."""
        if not self.model.full_pipe.reached or self._learn_from_probe(acked):
            return
        if self.state in (State.DOWN, State.CRUISE) and self._is_time_to_probe(acked.now):
            self._start_refill()
        elif self.state is State.DOWN:
            full = self.control.inflight(self.model.max_bw, self.state)
            if acked.in_flight <= min(self.control.with_headroom(), full):
                self._become(State.CRUISE)
        elif self.state is State.REFILL:
            if self.model.rounds.started:
                self._start_up(acked)
        elif self.state is State.UP and self._is_time_to_go_down(acked):
            self.prev_probe_too_high = False
            self.model.losses.ours = False
            self._start_down(acked.now)

    def _start_down(self, now: float) -> None:
        self.model.losses.round.forget()
        self.feedback = Feedback.STOPPING
        self.model.bounds.acked_per_step = math.inf
        self._cycle_at = now
        self._probe_wait = PROBE_WAIT + self._rng.random()
        self._up_round = self.model.rounds.count - self._rng.randint(0, 1)
        self.model.rounds.restart(self.model.delivered)
        self._become(State.DOWN)

    def _start_refill(self) -> None:
        self.model.bounds.forget_shortterm()
        self.model.bounds.start_raising()
        self.prev_probe_precautionary = False
        self.feedback = Feedback.REFILLING
        self._bw_before_probe = self.model.max_bw
        self.model.rounds.restart(self.model.delivered)
        self._become(State.REFILL)

    def _start_up(self, acked: Acked) -> None:
        self._probe_sample = True
        self.feedback = Feedback.STARTING
        self.model.full_pipe.restart(acked.rate.delivery_rate)
        self.model.bounds.steepen(self.control.window, self.model.datagram)
        self.model.rounds.restart(self.model.delivered)
        self._become(State.UP)

    def _learn_from_probe(self, acked: Acked) -> bool:
        """Whether this changed the state ("AdaptLongTermModel")."""
        model, sample = self.model, acked.rate
        if model.rounds.started and self.feedback is Feedback.STARTING:
            self.feedback = Feedback.COMING
        if model.rounds.started and self.feedback is Feedback.STOPPING:
            self._probe_sample = False
            self.feedback = Feedback.NONE
            if self.state in PROBE_BW:
                if not sample.app_limited:
                    model.bandwidth.advance()
                if self.prev_probe_precautionary and not self.prev_probe_too_high:
                    self._start_refill()
                    return True
        bounds = model.bounds
        if math.isinf(bounds.inflight_longterm) or model.losses.is_too_high(
            sample.lost, sample.tx_in_flight
        ):
            return False
        if sample.sent_at > bounds.cut_at:
            bounds.inflight_longterm = max(bounds.inflight_longterm, sample.tx_in_flight)
        if self.state is State.UP and self._is_held_by_longterm:
            bounds.raise_longterm(acked.newly_acked, model.datagram)
            if model.rounds.started:
                bounds.steepen(self.control.window, model.datagram)
        return False

    @property
    def _is_held_by_longterm(self) -> bool:
        bound = self.model.bounds.inflight_longterm
        return self.model.window_use.limited and self.control.window >= bound

    def _is_time_to_go_down(self, acked: Acked) -> bool:
        if self.prev_probe_too_high and acked.in_flight >= self.model.bounds.inflight_longterm:
            self.prev_probe_precautionary = True
            return True
        growing = self.model.max_bw >= GROWING * self._bw_before_probe
        if self._is_held_by_longterm and (self._crowded or growing or self.model.losses.calm):
            self.model.full_pipe.restart(acked.rate.delivery_rate)
        return self.model.full_pipe.now

    def _is_time_to_probe(self, now: float) -> bool:
        if now > self._cycle_at + self._probe_wait:
            return True
        reno_rounds = min(self.control.target_inflight() / self.model.datagram, RENO_ROUNDS)
        return self.model.rounds.count - self._up_round >= reno_rounds

    # ---- ProbeRTT and silence

    def _check_probe_rtt(self, acked: Acked) -> None:
        is_due = self.model.round_trip.expired and not self.idle_restart
        if self.state is not State.PROBE_RTT and is_due:
            self._save_window()
            if self.state is State.UP:
                self.model.bandwidth.advance()  # the probe is cut short, but it was one
            self._become(State.PROBE_RTT)
            self._probe_rtt_done_at = None
            self.feedback = Feedback.STOPPING
            self.model.rounds.restart(self.model.delivered)
        if self.state is State.PROBE_RTT:
            self._hold_probe_rtt(acked)
        self.idle_restart = False

    def _hold_probe_rtt(self, acked: Acked) -> None:
        self._limited_until = acked.delivered + acked.in_flight
        if self._probe_rtt_done_at is None:
            if acked.in_flight <= self.control.probe_rtt_window():
                self._probe_rtt_done_at = acked.now + PROBE_RTT_DURATION
                self._probe_rtt_round_done = False
                self.model.rounds.restart(self.model.delivered)
            return
        self._probe_rtt_round_done |= self.model.rounds.started
        if self._probe_rtt_round_done:
            self._end_probe_rtt(acked.now)

    def _end_probe_rtt(self, now: float) -> None:
        if self._probe_rtt_done_at is None or now <= self._probe_rtt_done_at:
            return
        self.model.round_trip.probed(now)
        self.control.window = max(self.control.window, self._prior_window)
        self.model.bounds.forget_shortterm()
        if self.model.full_pipe.reached:
            # In flight is less than a pipe: DOWN has nothing to do but to set the clock.
            self._start_down(now)
            self._become(State.CRUISE)
        else:
            self._become(State.STARTUP)

    def _restart_from_idle(self, now: float) -> None:
        """ "HandleRestartFromIdle"."""
        self.idle_restart = True
        self.model.aggregation.restart(now)
        if self.state in PROBE_BW:
            self.control.pace(1.0, self.state)
        elif self.state is State.PROBE_RTT:
            self._end_probe_rtt(now)
