"""
BBR as a whole: the example test cases of draft-ietf-ccwg-bbr by their titles, the promises of its
theory on simulated paths, and its tables.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from statistics import median

from twisted.trial.unittest import SynchronousTestCase

from chatbox.rdt.congestion import INITIAL_WINDOW_PACKETS, Lost
from chatbox.rdt.congestion.bbr.bounds import BETA
from chatbox.rdt.congestion.bbr.control import MIN_WINDOW_PACKETS
from chatbox.rdt.congestion.bbr.loss import MAX_BACKGROUND_LOSS
from chatbox.rdt.congestion.bbr.machine import PROBE_RTT_DURATION, STALE_FRACTION, Bbr
from chatbox.rdt.congestion.bbr.min_rtt import MIN_RTT_WINDOW, PROBE_RTT_INTERVAL
from chatbox.rdt.congestion.bbr.states import GAINS, PROBE_BW, TRANSITIONS, State
from chatbox.rdt.congestion.cubic import Cubic
from tests.helpers.feed import Feed
from tests.helpers.path import PACKET, Flow, Path, Policer, mbit

RATE = mbit(20)
RTT = 0.05
BDP = RATE * RTT


def make(seed: int = 1) -> Bbr:
    """A controller."""
    return Bbr(PACKET, 0.0, random.Random(seed))


class Run:
    """One flow of ours on a path, and the states that it went through."""

    def __init__(self, path: Path | None = None, *, seed: int = 1, **options: float) -> None:
        self.path = path or Path(RATE, RTT, int(BDP))
        self.bbr = make(seed)
        self.flow: Flow = self.path.flow(self.bbr, **options)
        self.states: list[tuple[float, State]] = []
        self.flow.watch = self._watch

    def _watch(self) -> None:
        if not self.states or self.states[-1][1] is not self.bbr.state:
            self.states.append((self.path.now, self.bbr.state))

    def until(self, state: State, limit: float = 20.0) -> None:
        """Run until it is in a state; `limit` is in seconds from now."""
        self.until_that(lambda: self.bbr.state is state, limit)

    def until_that(self, done: Callable[[], bool], limit: float = 20.0) -> None:
        """Run until something is so."""
        if not done():
            self.path.run_until(done, self.path.now + limit)

    def on(self, seconds: float) -> None:
        """Run for so long."""
        self.path.run(self.path.now + seconds)

    def goodput(self, since: float) -> float:
        """As a share of the link, from an instant until now."""
        return self.flow.goodput(since, self.path.now) / self.path.rate


def shallow() -> Path:
    """A path with a queue of a fifth of the pipe, which a probe overflows."""
    return Path(RATE, RTT, int(BDP / 5))


class DraftTests(SynchronousTestCase):
    """ "BBR Example Test Cases", the appendix of the draft."""

    def test_exiting_startup_on_bandwidth_plateau(self) -> None:
        """
        Startup finds the rate of the link within 2 % and ends after two flat rounds, as there is a
        queue then, which does not overflow.
        """
        run = Run(Path(RATE, RTT, int(1.5 * BDP)))
        run.until_that(lambda: run.bbr.model.full_pipe.rounds == 1)
        self.assertIs(run.bbr.state, State.STARTUP)
        self.assertFalse(run.bbr.model.full_pipe.reached)
        run.until(State.DRAIN)
        self.assertEqual(run.bbr.model.full_pipe.rounds, 2)
        self.assertTrue(run.bbr.model.full_pipe.now and run.bbr.model.full_pipe.reached)
        self.assertApproximates(run.bbr.model.max_bw, RATE, 0.02 * RATE)
        self.assertEqual(run.path.dropped, 0)

    def test_startup_fits_into_an_ordinary_queue(self) -> None:
        """Two pipes are the most that Startup puts in flight, once it sees a queue."""
        run = Run(Path(RATE, RTT, int(1.2 * BDP)))
        run.until(State.CRUISE)
        self.assertEqual(run.path.dropped, 0)

    def test_startup_gives_back_what_it_took_for_aggregation(self) -> None:
        """Also where acknowledgements come in lumps, for which it had more at first."""
        for lump in (0.015, 0.02):
            run = Run(Path(RATE, RTT, int(1.3 * BDP), hold_acks=lump))
            run.until(State.CRUISE)
            self.assertEqual(run.path.dropped, 0)

    def test_losses_of_startup_are_answered_by_leaving_it(self) -> None:
        """What Startup has lost, and is told of later, says nothing against a lower rate."""
        run = Run(shallow())
        run.until(State.DRAIN)
        left_at = run.path.now
        lost = Lost(left_at + RTT, 2 * PACKET, left_at, int(BDP), 2 * PACKET, 0, False)
        run.bbr.on_lost(lost)
        self.assertFalse(run.bbr.model.losses.round.seen)
        run.bbr.on_lost(replace(lost, sent_at=left_at + RTT / 2))
        self.assertTrue(run.bbr.model.losses.round.seen)

    def test_exiting_startup_on_loss_when_application_limited(self) -> None:
        """
        High loss ends Startup though all samples are limited by the application. Without a queue it
        takes more than any background loss; see `bbr.loss`.
        """
        run = Run(app_rate=RATE / 4)
        run.on(1.0)
        self.assertIs(run.bbr.state, State.STARTUP)
        run.path.loss = 2 * MAX_BACKGROUND_LOSS
        run.until_that(lambda: run.bbr.state is not State.STARTUP, 1.0)
        self.assertTrue(run.bbr.model.full_pipe.reached)

    def test_exiting_drain_based_on_inflight(self) -> None:
        """Drain paces at half the rate and ends when no more is in flight than the pipe holds."""
        run = Run(Path(RATE, RTT, int(3 * BDP)))
        run.until(State.DRAIN)
        self.assertEqual(GAINS[State.DRAIN].pacing, 0.5)
        bandwidth = run.bbr.model.bw
        self.assertApproximates(run.bbr.pacing_rate, 0.5 * bandwidth, 0.01 * bandwidth)
        self.assertGreater(run.flow.recovery.in_flight, 1.5 * BDP)
        run.until_that(lambda: run.bbr.state is not State.DRAIN)
        self.assertIn(run.bbr.state, PROBE_BW)
        self.assertLess(run.flow.recovery.in_flight, 1.1 * BDP)
        self.assertLess(run.states[-1][0] - run.states[-2][0], 3 * RTT)

    def test_exiting_drain_based_on_time(self) -> None:
        """If what is in flight does not go down, Drain ends after three rounds."""
        bbr, feed = self.startup_by_hand()
        while bbr.state is State.STARTUP:
            feed.round(int(2 * BDP), 2 * RTT, rate=RATE)
        self.assertIs(bbr.state, State.DRAIN)
        rounds = 0
        while bbr.state is State.DRAIN:
            feed.round(int(2 * BDP), 2 * RTT, rate=0.9 * RATE)
            rounds += 1
        self.assertTrue(3 <= rounds <= 4, rounds)
        self.assertIn(bbr.state, PROBE_BW)

    def test_exiting_probe_up_on_bandwidth_plateau(self) -> None:
        """Alone on a deep queue, a probe ends after three rounds that bring nothing more."""
        run = Run(Path(RATE, RTT, int(3 * BDP)))
        run.until(State.UP)
        run.until_that(lambda: run.bbr.state is not State.UP)
        self.assertIs(run.bbr.state, State.DOWN)
        self.assertEqual(run.bbr.model.full_pipe.rounds, 3)
        self.assertFalse(run.bbr.prev_probe_too_high)
        self.assertEqual(run.path.dropped, 0)

    def test_probe_up_stops_at_the_queue_that_it_has_built(self) -> None:
        """Two flat rounds are enough with a queue: a third would overflow many a router's."""
        run = Run(Path(RATE, RTT, int(0.7 * BDP)))
        run.until(State.CRUISE)
        before = run.path.dropped
        run.on(20.0)
        self.assertLess(run.path.dropped - before, 150_000)
        self.assertGreater(run.goodput(2.0), 0.95)

    def test_probe_up_looks_at_the_queue_as_it_is(self) -> None:
        """It grows all the time, so the latest round trip counts, not the mean of a round."""
        run = Run(Path(RATE, RTT, int(3 * BDP)))
        run.until(State.UP)
        feed = Feed(run.bbr, run.path.now, run.flow.delivered)
        feed.round(int(BDP), 1.05 * RTT)
        self.assertIs(run.bbr.state, State.UP)
        feed.ack(int(BDP / 4), 1.4 * RTT, rate=RATE, in_flight=int(BDP), tx_in_flight=int(BDP))
        self.assertTrue(run.bbr.model.losses.calm)
        self.assertIs(run.bbr.state, State.DOWN)

    def test_exiting_probe_up_on_loss_when_application_limited(self) -> None:
        """High loss ends a probe though the application limits it, but sets no bound then."""
        run = Run(Path(RATE, RTT, int(3 * BDP)))
        run.until(State.REFILL)
        run.flow.app_rate = RATE / 2
        run.until(State.UP)
        run.on(2 * RTT)
        self.assertIs(run.bbr.state, State.UP)
        run.path.loss = 0.3
        run.until_that(lambda: run.bbr.state is not State.UP, 1.0)
        self.assertIn(run.bbr.state, (State.DOWN, State.CRUISE))
        self.assertTrue(run.bbr.prev_probe_too_high)
        self.assertTrue(math.isinf(run.bbr.model.bounds.inflight_longterm))

    def test_never_exiting_probe_up_or_startup_when_application_limited_with_no_loss(self) -> None:
        """Without a loss, a sender short of data stays where it looks for more."""
        run = Run(app_rate=RATE / 4)
        run.on(4.0)
        self.assertIs(run.bbr.state, State.STARTUP)
        run = Run(Path(RATE, RTT, int(3 * BDP)))
        run.until(State.REFILL)
        run.flow.app_rate = RATE / 4
        run.until(State.UP)
        run.on(2.0)
        self.assertIs(run.bbr.state, State.UP)

    def test_exiting_probe_down_on_inflight(self) -> None:
        """DOWN sends a tenth less and ends when the queue and the headroom are free."""
        run = Run()
        run.until(State.UP)
        run.until(State.DOWN)
        bandwidth = run.bbr.model.bw
        self.assertApproximates(run.bbr.pacing_rate, 0.9 * bandwidth, 0.01 * bandwidth)
        run.until_that(lambda: run.bbr.state is not State.DOWN)
        self.assertIs(run.bbr.state, State.CRUISE)
        in_flight = run.flow.recovery.in_flight
        self.assertLess(in_flight, 1.1 * BDP)
        self.assertLess(in_flight, 0.9 * run.bbr.model.bounds.inflight_longterm)

    def test_exiting_probe_down_after_max_time(self) -> None:
        """If the queue does not go away, the next probe comes all the same, without CRUISE."""
        bbr, feed = self.startup_by_hand()
        began = 0.0
        seen = []
        while bbr.state is not State.REFILL:
            feed.round(int(2 * BDP), 2 * RTT, rate=RATE)
            if bbr.state is State.DOWN and not began:
                began = feed.now
            seen.append(bbr.state)
        self.assertNotIn(State.CRUISE, seen)
        self.assertTrue(1.9 < feed.now - began < 3.2, feed.now - began)

    def test_entering_and_exiting_probe_rtt(self) -> None:
        """
        After five seconds without a new minimum: half a pipe for 200 ms, then on as before. The
        last of the sender's own queues is gone then, so the minimum is the path's.
        """
        run = Run()
        run.until(State.PROBE_RTT, 12.0)
        entered = run.path.now
        self.assertGreater(entered, PROBE_RTT_INTERVAL)
        self.assertEqual(GAINS[State.PROBE_RTT].window, 0.5)
        self.assertApproximates(run.bbr.window, 0.5 * BDP, 0.05 * BDP)
        run.until_that(lambda: run.bbr.state is not State.PROBE_RTT)
        self.assertIs(run.bbr.state, State.CRUISE)
        stayed = run.path.now - entered
        self.assertTrue(PROBE_RTT_DURATION < stayed < PROBE_RTT_DURATION + 4 * RTT, stayed)
        self.assertGreater(run.bbr.window, 0.8 * BDP)
        run.on(1.0)
        self.assertGreater(run.goodput(run.path.now - 0.8), 0.97)
        self.assertLess(run.bbr.model.min_rtt, 1.1 * RTT)

    def test_skipping_probe_rtt_due_to_application_limited_sending(self) -> None:
        """A silence has emptied the queue well enough: no ProbeRTT after it."""
        run = Run()
        run.until(State.CRUISE)
        run.flow.pause()
        run.on(PROBE_RTT_INTERVAL + 1)
        self.assertEqual(run.flow.recovery.in_flight, 0)
        run.flow.resume()
        self.assertTrue(run.bbr.idle_restart)
        run.on(1.0)
        self.assertNotIn(State.PROBE_RTT, [state for _, state in run.states])

    def test_achieving_expected_startup_bandwidth_on_a_link_with_aggregation(self) -> None:
        """Acknowledgements in lumps of 20 ms: Startup still finds the rate, and allows for them."""
        run = Run(Path(RATE, RTT, int(3 * BDP), hold_acks=0.02))
        run.until(State.DRAIN)
        self.assertApproximates(run.bbr.model.max_bw, RATE, 0.05 * RATE)
        self.assertGreater(run.bbr.model.aggregation.value, RATE * 0.01)
        self.assertGreater(run.bbr.window, 2 * BDP)

    def test_achieving_expected_cruise_bandwidth_on_a_link_with_aggregation(self) -> None:
        """Lumps that begin in CRUISE do not stall the sender."""
        run = Run(Path(RATE, RTT, int(3 * BDP)))
        run.until(State.CRUISE)
        before = run.bbr.model.aggregation.value
        run.path.hold_acks = 0.03
        run.on(1.0)
        self.assertGreater(run.bbr.model.aggregation.value, max(before, RATE * 0.015))
        self.assertGreater(run.bbr.window, 2 * BDP + 0.9 * run.bbr.model.aggregation.value)
        self.assertGreater(run.goodput(run.path.now - 0.8), 0.95)

    def test_correctly_managing_sub_packet_bdps(self) -> None:
        """Where less than a packet fills the pipe, four packets are still allowed."""
        path = Path(mbit(0.256), 0.02, 40 * PACKET)
        self.assertLess(path.bdp(), PACKET)
        run = Run(path)
        run.until(State.PROBE_RTT, 60.0)  # before, our own first train is all the round trip
        run.until(State.CRUISE, 60.0)
        self.assertTrue(MIN_WINDOW_PACKETS * PACKET <= run.bbr.window <= 18 * PACKET)
        self.assertApproximates(run.bbr.pacing_rate, path.rate, 0.1 * path.rate)
        began = path.now
        run.on(10.0)
        self.assertGreater(run.goodput(began), 0.9)

    def test_increasing_bandwidth_10x_and_ensuring_full_bandwidth_is_reached(self) -> None:
        """A link that becomes ten times as fast is full again within seconds."""
        run = Run(Path(mbit(4), RTT, int(BDP)))
        run.until(State.CRUISE)
        run.bbr.model.bounds.inflight_longterm = 2 * run.path.bdp()
        run.path.rate = mbit(40)
        run.until(State.UP)
        probing = run.path.now
        slopes = {run.bbr.model.bounds.slope_rounds}
        while run.bbr.state is State.UP:
            run.on(RTT / 5)
            slopes.add(run.bbr.model.bounds.slope_rounds)
        self.assertGreater(len(slopes), 3, "the step doubles each round")
        run.until_that(lambda: run.bbr.model.max_bw > 0.95 * mbit(40), 8.0)
        self.assertLess(run.path.now - probing, 6.0)

    def test_decreasing_bandwidth_10x_and_ensuring_max_bandwidth_adapts_down(self) -> None:
        """
        A link that becomes ten times as slow: down at once by its losses, for good in two cycles,
        and without the queue that an overestimated pipe would keep for ever.
        """
        self.assertGreater(median(self.slow_down(seed) for seed in range(1, 4)), 0.95)

    def slow_down(self, seed: int) -> float:
        """One such link; the share of it that is used until the pipe's size is known."""
        run = Run(Path(mbit(40), RTT, int(mbit(40) * RTT)), seed=seed)
        run.until(State.CRUISE)
        run.path.rate = mbit(4)
        run.until_that(lambda: run.bbr.model.bw < 0.6 * mbit(40), 4.0)
        self.assertLess(run.bbr.model.bounds.bw_shortterm, run.bbr.model.max_bw)
        began = run.path.now
        run.until_that(lambda: run.bbr.model.max_bw < 1.1 * mbit(4), 12.0)
        self.assertGreater(run.bbr.model.max_bw, 0.9 * mbit(4))
        goodput = run.goodput(began)
        run.on(3.0)
        self.assertLess(run.path.median_queue_delay(run.path.now - 2), RTT)
        self.assertLess(run.bbr.model.min_rtt, 1.2 * RTT)
        return goodput

    def test_background_loss_is_made_up_for(self) -> None:
        """On a bad cable the link stays full, since what it eats is sent in addition."""
        path = Path(RATE, RTT, int(BDP), loss=0.05, loss_behind=True)
        run = Run(path)
        run.on(3.0)
        began, sent = path.now, run.flow.sent
        run.on(1.5)
        self.assertGreater((run.flow.sent - sent) / (path.now - began), 0.97 * RATE)
        self.assertLess(path.median_queue_delay(began), 0.3 * RTT, "no more than is calm")

    def test_a_policer_does_not_pass_for_a_bad_cable(self) -> None:
        """
        Losses that follow from our rate do not keep themselves up: what was taken for background
        dwindles though the sender makes up for it.
        """
        tokens = 0.8 * RATE
        run = Run(Path(RATE, RTT, int(BDP), policer=Policer(tokens, 0.01 * tokens)))
        run.until(State.CRUISE)
        losses = run.bbr.model.losses
        losses.background.learn(int(0.1 * 10**7), 10**7)
        run.bbr.model.bandwidth.restart()
        run.bbr.model.bandwidth.update(tokens)
        self.assertGreater(losses.background.rate, 0.09)
        run.on(1.9)
        self.assertIs(run.bbr.state, State.CRUISE)
        self.assertLess(losses.background.rate, 0.05)

    def test_handling_token_bucket_policers(self) -> None:
        """Drops without a queue: it settles at the rate of the tokens, with few drops."""
        tokens = RATE / 4
        run = Run(Path(RATE, RTT, int(BDP), policer=Policer(tokens, 0.5 * tokens)))
        run.until_that(lambda: not math.isinf(run.bbr.model.bounds.bw_shortterm), 5.0)
        run.on(10.0)
        dropped, sent = run.path.dropped, run.flow.sent
        began = run.path.now
        run.on(6.0)
        self.assertGreater(run.flow.goodput(began, run.path.now), 0.9 * tokens)
        self.assertLess(run.path.dropped - dropped, 0.1 * (run.flow.sent - sent))

    def test_handling_spurious_fast_recovery(self) -> None:
        """A probe ended by losses that were none begins again, and the bounds are put back."""
        run = Run(Path(RATE, RTT, int(3 * BDP)))
        run.until(State.UP)
        run.on(2 * RTT)
        saved = run.bbr.model.bounds.saved()
        self.lose_much(run)
        self.assertIs(run.bbr.state, State.DOWN)
        self.assertLess(run.bbr.model.bounds.inflight_longterm, 3 * BDP)
        run.bbr.on_spurious_loss(run.path.now)
        self.assertIs(run.bbr.state, State.REFILL)
        self.assertEqual(run.bbr.model.bounds.inflight_longterm, saved.inflight_longterm)
        self.assertEqual(run.bbr.model.bounds.bw_shortterm, saved.bw_shortterm)
        run.until(State.UP, 1.0)

    def test_handling_spurious_rto_recovery(self) -> None:
        """The window that a timeout took comes back with what was thought lost."""
        run = Run(Path(RATE, RTT, int(3 * BDP)))
        run.until(State.UP)
        run.on(2 * RTT)
        window = run.bbr.window
        self.lose_much(run)
        run.bbr.on_persistent_congestion(run.path.now)
        self.assertEqual(run.bbr.window, MIN_WINDOW_PACKETS * PACKET)
        run.bbr.on_spurious_loss(run.path.now)
        self.assertGreaterEqual(run.bbr.window, window)
        self.assertIs(run.bbr.state, State.REFILL)

    def test_spurious_loss_in_startup(self) -> None:
        """Startup goes on, if the losses that ended it were none."""
        bbr, feed = self.startup_by_hand()
        feed.round(int(1.3 * BDP), 2 * RTT, rate=1.3 * RATE, lost=int(BDP / 4), pieces=8)
        self.assertIsNot(bbr.state, State.STARTUP)
        self.assertFalse(math.isinf(bbr.model.bounds.inflight_longterm))
        bbr.on_spurious_loss(feed.now)
        self.assertIs(bbr.state, State.STARTUP)
        self.assertFalse(bbr.model.full_pipe.reached)
        self.assertTrue(math.isinf(bbr.model.bounds.inflight_longterm))

    def test_entering_and_exiting_probe_rtt_during_startup(self) -> None:
        """Startup that was interrupted goes on afterwards."""
        run = Run(app_rate=RATE / 4)
        run.path.at(1.0, lambda: setattr(run.path, "rtt", 1.5 * RTT))
        run.until(State.PROBE_RTT, 10.0)
        self.assertFalse(run.bbr.model.full_pipe.reached)
        run.until_that(lambda: run.bbr.state is not State.PROBE_RTT)
        self.assertIs(run.bbr.state, State.STARTUP)
        run.flow.app_rate = math.inf
        run.until(State.CRUISE)
        self.assertApproximates(run.bbr.model.max_bw, RATE, 0.02 * RATE)

    def test_handling_loss_during_probe_up_after_inflight_longterm_is_set(self) -> None:
        """Overflow ends the probe at once and cuts the bound, to no less than BETA of the pipe."""
        run = Run()
        run.until(State.UP)
        run.bbr.model.bounds.inflight_longterm = 2 * BDP
        run.on(2 * RTT)
        self.assertIs(run.bbr.state, State.UP)
        self.lose_much(run)
        self.assertIs(run.bbr.state, State.DOWN)
        self.assertTrue(run.bbr.prev_probe_too_high)
        bound = run.bbr.model.bounds.inflight_longterm
        self.assertTrue(0.99 * BETA * BDP <= bound < 1.5 * BDP, bound / BDP)

    def test_handling_application_limited_sending_during_probe_refill(self) -> None:
        """Low samples of a sender short of data do not lower the bandwidth; UP comes next."""
        run = Run(Path(RATE, RTT, int(3 * BDP)))
        run.until(State.REFILL)
        bandwidth = run.bbr.model.max_bw
        run.flow.app_rate = RATE / 10
        run.until(State.UP)
        self.assertEqual(run.bbr.model.max_bw, bandwidth)
        run.on(0.5)
        self.assertEqual(run.bbr.model.max_bw, bandwidth)
        run.flow.app_rate = math.inf
        run.until(State.DOWN)
        self.assertApproximates(run.bbr.model.max_bw, RATE, 0.03 * RATE)

    def startup_by_hand(self) -> tuple[Bbr, Feed]:
        """A controller that knows the path and is still in Startup."""
        bbr = make()
        feed = Feed(bbr)
        for share in (0.25, 0.5, 1.0):
            feed.round(int(share * BDP), RTT)
        self.assertIs(bbr.state, State.STARTUP)
        return bbr, feed

    def lose_much(self, run: Run) -> None:
        """Tell it that a tenth of what was in flight a round trip ago is lost."""
        feed = Feed(run.bbr, run.path.now, run.flow.delivered)
        in_flight = run.flow.recovery.in_flight
        feed.lose(in_flight // 10, in_flight, RTT)


class PromiseTests(SynchronousTestCase):
    """What the module's theory promises, on paths a quarter as fast as those of the benchmarks."""

    def transfer(self, path: Path, seconds: float) -> tuple[float, float]:
        """Goodput as a share of the link, and bytes sent per byte delivered, for a whole file."""
        size = path.rate * seconds
        run = Run(path, size=size)
        run.until_that(lambda: run.flow.finished_at is not None, 20 * seconds)
        assert run.flow.finished_at is not None
        return size / run.flow.finished_at / path.rate, run.flow.sent / run.flow.delivered

    def test_clean_link_with_little_queue(self) -> None:
        """Over 0.97 of the link after Startup, and the median train finds hardly any queue."""
        run = Run()
        run.on(4.0)
        self.assertGreater(run.goodput(1.0), 0.97)
        self.assertLess(run.path.median_queue_delay(1.0), 0.05 * RTT)

    def test_random_loss_is_not_congestion(self) -> None:
        """Goodput at 1, 2 and 5 % loss, lost before or behind the link, and nothing sent twice."""
        for loss, rate, rtt, seconds, share, behind in (
            (0.01, 25, 0.05, 3.2, 0.84, True),
            (0.02, 20, 0.2, 4.0, 0.72, True),
            (0.05, 25, 0.05, 1.6, 0.73, True),
            (0.05, 25, 0.05, 1.6, 0.73, False),
            (0.001, 50, 0.01, 2.0, 0.92, False),
        ):
            path = Path(mbit(rate), rtt, int(mbit(rate) * rtt), loss=loss, loss_behind=behind)
            goodput, overhead = self.transfer(path, seconds)
            self.assertGreater(goodput, share, (loss, behind))
            self.assertLess(overhead, 1.05 / (1 - loss), (loss, behind))

    def test_background_loss_is_learnt_and_forgotten(self) -> None:
        """A link that begins to lose 5 % is known for it soon, and for its cure."""
        run = Run()
        run.until(State.CRUISE)
        run.path.loss = 0.05
        run.on(2.0)
        self.assertApproximates(run.bbr.model.losses.background.rate, 0.05, 0.02)
        began = run.path.now
        run.on(2.0)
        self.assertGreater(run.goodput(began), 0.9)
        run.path.loss = 0.0
        run.on(4.0)
        self.assertLess(run.bbr.model.losses.background.rate, 0.005)

    def test_overflow_is_not_background(self) -> None:
        """On a queue too short to show in the round trip, losses are few and nothing is learnt."""
        run = Run(shallow())
        run.on(10.0)
        self.assertLess(run.bbr.model.losses.background.rate, 0.01)
        self.assertLess(run.path.dropped, 0.02 * run.flow.sent)
        self.assertGreater(run.goodput(2.0), 0.85)

    def test_two_flows_share(self) -> None:
        """Two of ours, the second two seconds late, are close to equal over 30 seconds."""
        fairness = []
        for seed in range(1, 4):
            path = Path(RATE, RTT, int(BDP), seed=seed)
            pair = [Run(path, seed=10 * seed + late, starts_at=2.0 * late) for late in range(2)]
            path.run(30.0)
            shares = [run.flow.goodput(2, 30) for run in pair]
            fairness.append(sum(shares) ** 2 / 2 / sum(share * share for share in shares))
            self.assertGreater(fairness[-1], 0.9, (seed, shares))
            self.assertGreater(sum(shares), 0.95 * RATE, seed)
        self.assertGreater(median(fairness), 0.95)

    def test_cubic_keeps_its_share(self) -> None:
        """Beside one CUBIC flow, whoever comes first, ours gets between 25 and 75 %."""
        for ours_at, theirs_at in ((0.0, 0.0), (2.0, 0.0), (0.0, 2.0)):
            path = Path(RATE, RTT, int(BDP))
            ours = Run(path, starts_at=ours_at)
            theirs = path.flow(Cubic(PACKET, 0.0), starts_at=theirs_at)
            path.run(20.0)
            mine, other = ours.flow.goodput(2, 20), theirs.goodput(2, 20)
            self.assertTrue(0.25 < mine / (mine + other) < 0.75, (ours_at, theirs_at, mine))

    def test_route_change_that_doubles_the_delay(self) -> None:
        """The minimum is up to date within its window, and the link is used meanwhile."""
        run = Run()
        run.on(3.0)
        run.path.rtt = 2 * RTT
        run.on(MIN_RTT_WINDOW + PROBE_RTT_INTERVAL)
        self.assertApproximates(run.bbr.model.min_rtt, 2 * RTT, 0.2 * RTT)
        self.assertGreater(run.goodput(4.0), 0.8)

    def test_blackout(self) -> None:
        """After three seconds of nothing, the link is used again one second after a probe."""
        run = Run()
        run.on(3.0)
        run.path.loss = 1.0
        run.on(3.0)
        run.path.loss = 0.0
        delivered = run.flow.delivered
        run.until_that(lambda: run.flow.delivered > delivered, 4.0)
        began = run.path.now
        run.until_that(lambda: run.goodput(run.path.now - 0.3) > 0.9, 3.0)
        self.assertLess(run.path.now - began, 1.2)

    def test_short_pause_keeps_the_model(self) -> None:
        """After some seconds of silence the sender goes on at the rate it knew."""
        run = Run()
        run.until(State.CRUISE)
        run.flow.pause()
        run.on(3.0)
        run.flow.resume()
        began = run.path.now
        run.on(0.5)
        self.assertGreater(run.goodput(began + RTT), 0.95)

    def test_long_pause_voids_the_model(self) -> None:
        """After a minute it starts up again, from a fraction, and is back in a few rounds."""
        run = Run(Path(RATE, RTT, int(3 * BDP)))
        run.until(State.CRUISE)
        run.flow.pause()
        run.on(60.0)
        dropped = run.path.dropped
        run.flow.resume()
        self.assertIs(run.bbr.state, State.STARTUP)
        self.assertApproximates(
            run.bbr.pacing_rate, GAINS[State.STARTUP].pacing * STALE_FRACTION * RATE, 0.1 * RATE
        )
        self.assertEqual(run.bbr.model.max_bw, 0.0)
        began = run.path.now
        run.until(State.CRUISE, 3.0)
        self.assertGreater(run.goodput(began + 4 * RTT), 0.9)
        self.assertEqual(run.path.dropped, dropped)

    def test_long_pause_and_a_slower_path(self) -> None:
        """If the path is another one afterwards, the new one is found."""
        run = Run(Path(RATE, RTT, int(BDP)))
        run.until(State.CRUISE)
        run.flow.pause()
        run.on(60.0)
        run.path.rate = RATE / 10
        run.flow.resume()
        run.on(5.0)
        self.assertLess(run.bbr.model.bw, 1.2 * RATE / 10)
        self.assertGreater(run.goodput(run.path.now - 2), 0.9)

    def test_what_we_were_late_for_is_no_measure_of_the_path(self) -> None:
        """A round with losses in which the sender itself let the path run dry lowers no rate."""
        for late in (False, True):
            run = Run()
            run.until(State.CRUISE)
            run.on(1.0)
            bbr, before = run.bbr, run.bbr.model.bw
            feed = Feed(bbr, run.path.now, run.flow.delivered)
            for _ in range(3):
                if late:
                    bbr.on_late(int(BDP / 2))
                feed.round(int(BDP / 2), RTT, rate=RATE / 2, lost=20 * PACKET)
            self.assertEqual(bbr.model.bw < 0.9 * before, not late)

    def test_drain_is_no_measure_of_the_path(self) -> None:
        """Losses that are heard of after it do not lower the rate to the one that it sent at."""
        run = Run()
        run.until(State.CRUISE)
        before = run.bbr.model.bw
        feed = Feed(run.bbr, run.path.now, run.flow.delivered)
        feed.round(int(BDP), 1.5 * RTT, rate=RATE / 2, lost=20 * PACKET)
        self.assertGreaterEqual(run.bbr.model.bw, before)
        self.assertFalse(math.isinf(run.bbr.model.bounds.inflight_shortterm))

    def test_the_bounds_are_of_the_path(self) -> None:
        """What waits in one of the machines comes on top of what the bounds allow on the path."""
        run = Run()
        run.until(State.CRUISE)
        run.bbr.model.bounds.inflight_longterm = BDP
        run.on(5 * RTT)
        without = run.bbr.window
        feed = Feed(run.bbr, run.path.now, run.flow.delivered)
        for _ in range(10):
            feed.round(int(BDP), RTT, held=RTT)
        self.assertApproximates(run.bbr.window, without + RTT * run.bbr.model.bw, 0.05 * BDP)
        # What was late once is expected to be late again, for a while.
        feed.round(int(BDP), RTT)
        self.assertApproximates(run.bbr.window, without + 0.9 * RTT * run.bbr.model.bw, 0.05 * BDP)
        for _ in range(10):
            feed.round(int(BDP), RTT)
        self.assertLess(run.bbr.window, without + 0.5 * RTT * run.bbr.model.bw)

    def test_same_seed_same_run(self) -> None:
        """All randomness comes from the seeds."""
        runs = [Run(Path(RATE, RTT, int(BDP), loss=0.01)) for _ in range(2)]
        for run in runs:
            run.on(4.0)
        self.assertEqual(runs[0].states, runs[1].states)
        self.assertEqual(runs[0].flow.deliveries, runs[1].flow.deliveries)


class StateTests(SynchronousTestCase):
    """The tables."""

    def test_tables_are_complete(self) -> None:
        """Each state has its gains and its followers, and never follows itself."""
        self.assertEqual(set(TRANSITIONS), set(State))
        self.assertEqual(set(GAINS), set(State))
        for state, following in TRANSITIONS.items():
            self.assertNotIn(state, following)

    def test_every_state_can_be_reached_from_every_other(self) -> None:
        """No state is a dead end or out of reach."""
        for start in State:
            reached, todo = {start}, [start]
            while todo:
                new = TRANSITIONS[todo.pop()] - reached
                reached |= new
                todo.extend(new)
            self.assertEqual(reached, set(State))

    def test_before_the_first_round_trip(self) -> None:
        """The initial window, unpaced; then paced so that it doubles in a round."""
        bbr = make()
        self.assertEqual(bbr.window, INITIAL_WINDOW_PACKETS * PACKET)
        self.assertTrue(math.isinf(bbr.pacing_rate))
        feed = Feed(bbr)
        window = bbr.window
        feed.now = 0.2
        feed.ack(window // 4, 0.2, rate=window / 4 / 0.2)
        self.assertApproximates(bbr.pacing_rate, 2.77 * window / 0.2, 1)

    def test_bigger_packets_leave_at_least_the_smallest_window(self) -> None:
        """A larger datagram size raises a window that would not hold four of them."""
        bbr = make()
        bbr.set_datagram_size(65_000)
        self.assertEqual(bbr.window, MIN_WINDOW_PACKETS * 65_000)
