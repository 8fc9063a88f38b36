"""What waits to be read back from a shared log."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from chatbox.log.pending import MAX_APPEND, Pending
from tests.helpers.log import presence, say, texts


class PendingTests(SynchronousTestCase):
    """Entries and their numbers."""

    def setUp(self) -> None:
        """Begin with none."""
        self.pending = Pending()

    def test_numbers_go_on(self) -> None:
        """No number is used twice, whatever has left."""
        self.assertEqual(self.pending.add([say("a"), say("b")], 1.0), 1)
        self.assertEqual(self.pending.take(2), say("b"))
        self.assertEqual(self.pending.take(2), None)
        self.assertEqual(self.pending.add([say("c")], 1.0), 3)
        self.assertEqual(list(self.pending), [1, 3])

    def test_runs(self) -> None:
        """What goes in one call has no holes and is not too long."""
        self.pending.add([say("x")] * (MAX_APPEND + 5), 1.0)
        self.pending.take(3)
        runs = [(run[0], run[-1], len(run)) for run in self.pending.runs()]
        self.assertEqual(
            runs, [(1, 2, 2), (4, MAX_APPEND + 3, MAX_APPEND), (MAX_APPEND + 4, MAX_APPEND + 5, 2)]
        )
        self.assertEqual(list(self.pending.runs(MAX_APPEND + 5)), [[MAX_APPEND + 5]])
        self.assertEqual(list(Pending().runs()), [])

    def test_late(self) -> None:
        """Each has its own time; presence has all the time there is, until the end."""
        self.pending.add([say("a"), presence("joined")], 1.0)
        self.pending.add([say("b")], 2.0)
        self.assertEqual(self.pending.late(1.0), [])
        self.assertEqual(self.pending.late(1.5), [1])
        self.assertEqual(self.pending.take_all([1, 7]), [say("a")])
        self.assertEqual(self.pending.late(9.0), [3])
        self.pending.hurry(0.5)
        self.assertEqual(self.pending.late(1.0), [2, 3])
        self.pending.take_presence()
        self.assertEqual(list(self.pending), [3])

    def test_repeats(self) -> None:
        """What was said before leaves once everything up to there has been read back."""
        self.pending.add([say("a"), say("b"), say("c")], 1.0)
        for number, place in ((1, 50), (2, 70), (3, 60), (9, 10)):
            self.pending.repeat(number, place)
        self.pending.take(3)
        self.assertEqual(self.pending.take_repeats(49), [])
        [record] = self.pending.take_repeats(50)
        self.assertEqual((record.id, record.text, record.repeated), (50, "a", True))
        self.assertEqual(texts(self.pending.take_repeats(99)), ["b"])
        self.assertEqual(len(self.pending), 0)
