"""Whether sending faster still brings more."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from chatbox.rdt.congestion.bbr.full_pipe import FullPipe


class FullPipeTests(SynchronousTestCase):
    """Rounds with and without growth."""

    def test_full_pipe(self) -> None:
        """Three rounds without a quarter more; growth in between starts the count again."""
        pipe = FullPipe()
        for rate in (100.0, 110.0, 120.0):
            pipe.update(rate)
        self.assertEqual(pipe.rounds, 2)
        pipe.update(125.0)
        self.assertEqual((pipe.baseline, pipe.rounds, pipe.now), (125.0, 0, False))
        for _ in range(3):
            pipe.update(130.0)
        self.assertTrue(pipe.now and pipe.reached)
        pipe.restart()
        self.assertFalse(pipe.now)
        self.assertTrue(pipe.reached)

    def test_full_pipe_with_a_queue(self) -> None:
        """Two rounds without a quarter more are enough if the second met a queue."""
        pipe = FullPipe()
        pipe.update(100.0, queued=True)
        pipe.update(120.0, queued=True)
        self.assertFalse(pipe.now)
        pipe.update(120.0, queued=True)
        self.assertTrue(pipe.now and pipe.reached)
