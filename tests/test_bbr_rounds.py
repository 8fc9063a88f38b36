"""Time in round trips of packets."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from chatbox.rdt.congestion.bbr.rounds import Rounds, WindowUse


class RoundTests(SynchronousTestCase):
    """Marks, and what left after them."""

    def test_a_round_ends_with_what_left_in_it(self) -> None:
        """What left before the mark ends nothing, however much of it there is."""
        rounds = Rounds()
        rounds.update(0, 1000)
        self.assertEqual((rounds.started, rounds.count), (True, 1))
        rounds.update(0, 2000)
        rounds.update(999, 3000)
        self.assertEqual((rounds.started, rounds.count), (False, 1))
        rounds.update(1000, 4000)
        self.assertEqual((rounds.started, rounds.count), (True, 2))

    def test_restart(self) -> None:
        """A mark that is set anew lets the round last a whole round trip from there."""
        rounds = Rounds()
        rounds.update(0, 1000)
        rounds.restart(1500)
        rounds.update(1000, 2000)
        self.assertFalse(rounds.started)
        rounds.update(1500, 3000)
        self.assertTrue(rounds.started)

    def test_window_use(self) -> None:
        """A window that was full is known for it until a whole round has passed without."""
        use = WindowUse()
        self.assertFalse(use.limited)
        use.mark_full()
        self.assertTrue(use.limited)
        use.begin_round()
        self.assertTrue(use.limited)
        use.begin_round()
        self.assertFalse(use.limited)
