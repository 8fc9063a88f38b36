"""CUBIC and HyStart++: shapes of the window, by hand and on a simulated path."""

from __future__ import annotations

import itertools
import math

from twisted.trial.unittest import SynchronousTestCase

from chatbox.rdt.congestion import QUANTUM_MAX_BYTES
from chatbox.rdt.congestion.cubic import (
    BETA,
    CONSERVATIVE_ROUNDS,
    CUBIC_C,
    INITIAL_WINDOW_PACKETS,
    MIN_WINDOW_PACKETS,
    PACING_GAIN,
    SLOW_START_PACING_GAIN,
    TRANSITIONS,
    Cubic,
    Phase,
)
from tests.helpers.feed import Feed
from tests.helpers.path import PACKET, Flow, Path, mbit

INITIAL = INITIAL_WINDOW_PACKETS * PACKET


def started() -> tuple[Cubic, Feed]:
    """A controller at its beginning, and what feeds it."""
    cubic = Cubic(PACKET, 0.0)
    return cubic, Feed(cubic)


def full_round(feed: Feed, rtt: float = 0.1) -> None:
    """A round trip in which all of the window was used and arrives."""
    feed.round(feed.controller.window, rtt)


def reduced(packets: int, rtt: float = 0.1) -> tuple[Cubic, Feed]:
    """A controller that has just come out of a loss at a window of so many packets."""
    cubic, feed = started()
    while cubic.window < packets * PACKET:
        full_round(feed, rtt)
    cubic.set_datagram_size(PACKET)
    feed.lose(PACKET, cubic.window, rtt)
    full_round(feed, rtt)
    full_round(feed, rtt)
    return cubic, feed


class TransitionTests(SynchronousTestCase):
    """The table of phases."""

    def test_every_phase_is_in_it_and_none_follows_itself(self) -> None:
        """All phases have a row, and a row never names its own phase."""
        self.assertEqual(set(TRANSITIONS), set(Phase))
        for phase, following in TRANSITIONS.items():
            self.assertNotIn(phase, following)

    def test_every_phase_can_be_reached_from_every_other(self) -> None:
        """No phase is a dead end or out of reach."""
        for start in Phase:
            reached, todo = {start}, [start]
            while todo:
                new = TRANSITIONS[todo.pop()] - reached
                reached |= new
                todo.extend(new)
            self.assertEqual(reached, set(Phase))


class BeginningTests(SynchronousTestCase):
    """Before anything is known, and slow start."""

    def test_initial_window_is_sent_without_pacing(self) -> None:
        """Until there is a round trip, the window is the initial one and nothing is paced."""
        cubic, _ = started()
        self.assertEqual(cubic.window, INITIAL)
        self.assertTrue(math.isinf(cubic.pacing_rate))
        self.assertEqual(cubic.quantum, QUANTUM_MAX_BYTES)

    def test_window_doubles_in_a_round(self) -> None:
        """Slow start grows by what is acknowledged."""
        cubic, feed = started()
        full_round(feed)
        self.assertEqual(cubic.window, 2 * INITIAL)
        full_round(feed)
        self.assertEqual(cubic.window, 4 * INITIAL)

    def test_pacing_follows_the_window(self) -> None:
        """The window is spread over half a round trip in slow start, and over 0.8 of one later."""
        cubic, feed = started()
        full_round(feed)
        self.assertAlmostEqual(cubic.pacing_rate, SLOW_START_PACING_GAIN * cubic.window / 0.1)
        cubic, _ = reduced(100)
        self.assertAlmostEqual(cubic.pacing_rate / (PACING_GAIN * cubic.window / 0.1), 1, places=4)

    def test_trains_hold_a_millisecond(self) -> None:
        """The quantum is a millisecond at the pacing rate, but never less than two packets."""
        cubic, feed = started()
        full_round(feed, 0.01)
        self.assertEqual(cubic.quantum, int(cubic.pacing_rate * 0.001))
        cubic, feed = started()
        full_round(feed, 1.0)
        self.assertEqual(cubic.quantum, 2 * PACKET)

    def test_bigger_packets_leave_at_least_the_smallest_window(self) -> None:
        """A larger datagram size raises a window that would not hold two of them."""
        cubic, _ = started()
        cubic.set_datagram_size(INITIAL)
        self.assertEqual(cubic.window, 2 * INITIAL)


class ReductionTests(SynchronousTestCase):
    """One reduction per loss episode."""

    def test_window_falls_to_seven_tenths(self) -> None:
        """A loss leaves BETA of the window, and that is the new threshold."""
        cubic, feed = started()
        full_round(feed)
        before = cubic.window
        feed.lose(PACKET, before, 0.1)
        self.assertEqual(cubic.window, int(before * BETA))
        self.assertEqual(cubic.threshold, before * BETA)
        self.assertIs(cubic.phase, Phase.RECOVERY)

    def test_many_losses_of_one_flight_count_once(self) -> None:
        """What left before the reduction belongs to the same episode, however late it is found."""
        cubic, feed = started()
        full_round(feed)
        before = cubic.window
        for _ in range(20):
            feed.lose(PACKET, before, 0.1)
        feed.now += 0.05
        feed.lose(PACKET, before, 0.1)
        self.assertEqual(cubic.window, int(before * BETA))

    def test_a_loss_of_what_left_later_counts_again(self) -> None:
        """What left after the reduction and is lost begins a new episode."""
        cubic, feed = started()
        full_round(feed)
        before = cubic.window
        feed.lose(PACKET, before, 0.1)
        feed.now += 0.11
        feed.lose(PACKET, before, 0.1)
        self.assertApproximates(cubic.window, before * BETA * BETA, 2)

    def test_nothing_grows_until_the_reduction_was_felt(self) -> None:
        """Acknowledgements of what left before the reduction do not grow the window."""
        cubic, feed = started()
        full_round(feed)
        feed.lose(PACKET, cubic.window, 0.1)
        window = cubic.window
        full_round(feed)
        self.assertEqual(cubic.window, window)
        self.assertIs(cubic.phase, Phase.RECOVERY)
        full_round(feed)
        self.assertIs(cubic.phase, Phase.AVOIDANCE)
        self.assertGreater(cubic.window, window)

    def test_window_never_falls_below_two_packets(self) -> None:
        """Losses without end leave the smallest window."""
        cubic, feed = started()
        for _ in range(40):
            feed.now += 1
            feed.lose(PACKET, PACKET, 0.1)
        self.assertEqual(cubic.window, MIN_WINDOW_PACKETS * PACKET)

    def test_persistent_congestion_starts_over(self) -> None:
        """The window is the smallest one, and slow start goes on up to the threshold only."""
        cubic, feed = started()
        full_round(feed)
        feed.lose(PACKET, cubic.window, 0.1)
        threshold = cubic.threshold
        cubic.on_persistent_congestion(feed.now)
        self.assertEqual(cubic.window, MIN_WINDOW_PACKETS * PACKET)
        self.assertIs(cubic.phase, Phase.SLOW_START)
        feed.lose(PACKET, PACKET, 0.1)
        self.assertEqual(cubic.threshold, threshold, "a late loss of the same time counted again")
        while cubic.phase is Phase.SLOW_START:
            full_round(feed)
        self.assertIs(cubic.phase, Phase.AVOIDANCE)
        self.assertLess(cubic.window, 2 * threshold)

    def test_spurious_loss_is_undone(self) -> None:
        """If all that was lost arrives, all is as it was, slow start included."""
        cubic, feed = started()
        full_round(feed)
        window = cubic.window
        feed.lose(PACKET, window, 0.1)
        cubic.on_spurious_loss(feed.now)
        self.assertEqual(cubic.window, window)
        self.assertTrue(math.isinf(cubic.threshold))
        self.assertIs(cubic.phase, Phase.SLOW_START)

    def test_spurious_persistent_congestion_is_undone(self) -> None:
        """The same goes for a path that only stood still."""
        cubic, feed = reduced(100)
        window = cubic.window
        feed.lose(PACKET, window, 0.1)
        cubic.on_persistent_congestion(feed.now)
        cubic.on_spurious_loss(feed.now)
        self.assertEqual(cubic.window, window)
        self.assertIs(cubic.phase, Phase.AVOIDANCE)

    def test_spurious_loss_is_undone_once(self) -> None:
        """A second report has nothing to put back."""
        cubic, feed = started()
        full_round(feed)
        feed.lose(PACKET, cubic.window, 0.1)
        cubic.on_spurious_loss(feed.now)
        feed.now += 0.2
        feed.lose(PACKET, cubic.window, 0.1)
        cubic.on_spurious_loss(feed.now)
        window = cubic.window
        cubic.on_spurious_loss(feed.now)
        self.assertEqual(cubic.window, window)


class CurveTests(SynchronousTestCase):
    """Congestion avoidance."""

    def test_window_follows_the_cubic_curve(self) -> None:
        """From the reduction to well past the old maximum: W_cubic(t), within 1 %."""
        cubic, feed = reduced(1000)
        low = cubic.threshold / PACKET
        w_max = low / BETA
        k = ((w_max - low) / CUBIC_C) ** (1 / 3)
        began = feed.now - 0.1  # the first acknowledgement of the stage is in the round before
        seen = []
        while feed.now < began + 1.5 * k:
            full_round(feed)
            expected = CUBIC_C * (feed.now - began - k) ** 3 + w_max
            self.assertApproximates(cubic.window / PACKET / expected, 1, 0.01)
            seen.append(cubic.window)
        self.assertEqual(seen, sorted(seen))
        self.assertGreater(seen[-1] / PACKET, w_max * 1.02)

    def test_small_windows_grow_like_reno(self) -> None:
        """Where the curve is slower, the window follows Reno's: alpha packets per round trip."""
        cubic, feed = reduced(40, rtt=0.01)
        before = cubic.window
        for _ in range(10):
            full_round(feed, 0.01)
        grown = (cubic.window - before) / PACKET
        self.assertApproximates(grown, 10 * 0.53, 0.5)

    def test_after_the_old_maximum_reno_grows_by_one(self) -> None:
        """The Reno estimate takes alpha = 1 once it is where the last reduction was made."""
        cubic, feed = reduced(40, rtt=0.01)
        while cubic.window < cubic.threshold / BETA:
            full_round(feed, 0.01)
        before = cubic.window
        for _ in range(10):
            full_round(feed, 0.01)
        self.assertGreater((cubic.window - before) / PACKET, 8)

    def test_fast_convergence(self) -> None:
        """A flow that loses before it is back aims for less than where it was."""
        cubic, feed = reduced(1000)
        for _ in range(10):
            full_round(feed)
        window = cubic.window
        feed.now += 0.2
        feed.lose(PACKET, window, 0.1)
        full_round(feed)
        aim = window * (1 + BETA) / 2
        k = ((aim - window * BETA) / PACKET / CUBIC_C) ** (1 / 3)
        stop = feed.now + k
        while feed.now < stop:
            full_round(feed)
        self.assertApproximates(cubic.window / aim, 1, 0.02)

    def test_app_limited_sender_does_not_grow(self) -> None:
        """Rounds that the application limited neither grow the window nor move the curve on."""
        cubic, feed = reduced(1000)
        full_round(feed)
        window = cubic.window
        for _ in range(100):
            feed.round(window, 0.1, app_limited=True)
        self.assertEqual(cubic.window, window)
        full_round(feed)
        self.assertLess(cubic.window, 1.05 * window)

    def test_unused_window_does_not_grow(self) -> None:
        """A sender held back by something else learns nothing about a larger window."""
        cubic, feed = started()
        for _ in range(20):
            feed.round(INITIAL // 4, 0.1)
        self.assertLessEqual(cubic.window, INITIAL + 2 * PACKET)

    def test_silence_halves_the_window_for_each_timeout(self) -> None:
        """After some timeouts of silence it is less, after many it is the initial one."""
        cubic, feed = reduced(1000)
        window = cubic.window
        cubic.on_idle(feed.now, 0.05)
        self.assertEqual(cubic.window, window, "a short pause costs nothing")
        cubic.on_idle(feed.now, 1.5 * feed.rtt.probe_timeout(0.0))
        self.assertEqual(cubic.window, window // 2)
        self.assertIs(cubic.phase, Phase.SLOW_START)
        self.assertGreaterEqual(cubic.threshold, 0.7 * window)
        cubic.on_idle(feed.now, 3600)
        self.assertEqual(cubic.window, INITIAL)


class HyStartTests(SynchronousTestCase):
    """Leaving the first slow start before the path overflows (RFC 9406)."""

    def test_delay_makes_slow_start_conservative(self) -> None:
        """A round that is an eighth slower than the one before: a quarter of the growth."""
        cubic, feed = started()
        for rtt in (0.1, 0.1, 0.114, 0.114):
            full_round(feed, rtt)
        self.assertIs(cubic.phase, Phase.CONSERVATIVE)
        before = cubic.window
        full_round(feed, 0.114)
        self.assertApproximates(cubic.window / before, 1.25, 0.01)

    def test_small_delays_are_noise(self) -> None:
        """Less than four milliseconds more, or less than an eighth, changes nothing."""
        for base, jitter in ((0.01, 0.0035), (0.1, 0.012)):
            cubic, feed = started()
            for index in range(4):
                full_round(feed, base + jitter * (index % 2))
            self.assertIs(cubic.phase, Phase.SLOW_START)

    def test_slow_start_goes_on_if_the_delay_goes_away(self) -> None:
        """Conservative slow start ends when a round is faster than what began it."""
        cubic, feed = started()
        for rtt in (0.1, 0.1, 0.12, 0.12):
            full_round(feed, rtt)
        self.assertIs(cubic.phase, Phase.CONSERVATIVE)
        full_round(feed, 0.1)
        full_round(feed, 0.1)
        self.assertIs(cubic.phase, Phase.SLOW_START)

    def test_delay_that_stays_ends_slow_start(self) -> None:
        """After five conservative rounds the window is the threshold."""
        cubic, feed = started()
        conservative = 0
        for rtt in (0.1, 0.1, *[0.12] * 9):
            self.assertTrue(math.isinf(cubic.threshold))
            full_round(feed, rtt)
            conservative += cubic.phase is Phase.CONSERVATIVE
            if cubic.phase is Phase.AVOIDANCE:
                break
        self.assertEqual(conservative, CONSERVATIVE_ROUNDS)
        self.assertIs(cubic.phase, Phase.AVOIDANCE)
        self.assertApproximates(cubic.threshold / cubic.window, 1, 0.05)

    def test_only_the_first_slow_start(self) -> None:
        """Once there is a threshold, delay does not matter."""
        cubic, feed = started()
        full_round(feed, 0.1)
        feed.lose(PACKET, cubic.window, 0.1)
        cubic.on_persistent_congestion(feed.now)
        for rtt in (0.1, 0.1, 0.2, 0.2):
            full_round(feed, rtt)
            self.assertIsNot(cubic.phase, Phase.CONSERVATIVE)


class PathTests(SynchronousTestCase):
    """On a simulated link."""

    def cubic_on(self, path: Path, **options: float) -> tuple[Cubic, Flow]:
        """A flow of ours on a path."""
        cubic = Cubic(PACKET, path.now)
        return cubic, path.flow(cubic, **options)

    def test_clean_link_is_used(self) -> None:
        """Goodput on a clean link of 20 Mbit/s and 50 ms is over 0.97 of it after a second."""
        path = Path(mbit(20), 0.05, int(mbit(20) * 0.05))
        _, flow = self.cubic_on(path)
        path.run(10)
        self.assertGreater(flow.goodput(1, 10), 0.97 * path.rate)
        self.assertGreater(flow.goodput(0, 10), 0.94 * path.rate)

    def test_slow_start_ends_before_a_queue_overflows(self) -> None:
        """HyStart++ is out of slow start before a queue of four times the pipe is full."""
        path = Path(mbit(20), 0.05, int(4 * mbit(20) * 0.05))
        cubic, _ = self.cubic_on(path)
        path.run_until(lambda: cubic.phase is not Phase.SLOW_START, 5)
        self.assertIs(cubic.phase, Phase.CONSERVATIVE)
        self.assertEqual(path.dropped, 0)
        self.assertGreater(cubic.window, path.bdp())

    def test_deep_queue_is_not_filled_by_slow_start(self) -> None:
        """Nor does what follows overflow one of ten times the pipe."""
        path = Path(mbit(20), 0.05, int(10 * mbit(20) * 0.05))
        cubic, _ = self.cubic_on(path)
        path.run_until(lambda: cubic.phase is Phase.AVOIDANCE, 5)
        self.assertEqual(path.dropped, 0)

    def test_window_falls_once_per_overflow(self) -> None:
        """Every fall of the window is to 0.7, and there is a round trip at least between two."""
        path = Path(mbit(20), 0.05, int(mbit(20) * 0.05))
        cubic, flow = self.cubic_on(path)
        falls: list[tuple[float, float]] = []
        last = cubic.window

        def watch() -> None:
            nonlocal last
            if cubic.window < last:
                falls.append((path.now, cubic.window / last))
            last = cubic.window

        flow.watch = watch
        path.run(12)
        self.assertGreater(len(falls), 2)
        for _, share in falls:
            self.assertAlmostEqual(share, BETA, places=3)
        times = [when for when, _ in falls]
        for first, second in itertools.pairwise(times):
            self.assertGreater(second - first, path.rtt)

    def test_two_flows_share(self) -> None:
        """The second one, two seconds late, gets nearly as much in the end."""
        path = Path(mbit(20), 0.05, int(mbit(20) * 0.05))
        _, first = self.cubic_on(path)
        _, second = self.cubic_on(path, starts_at=2.0)
        path.run(30)
        shares = [flow.goodput(15, 30) for flow in (first, second)]
        jain = sum(shares) ** 2 / 2 / sum(share * share for share in shares)
        self.assertGreater(jain, 0.9)
        self.assertGreater(sum(shares), 0.98 * path.rate)
