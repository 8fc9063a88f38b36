"""Requests begin in order, end when they like, and are answered in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatbox.chat.pipeline import MAX_IN_PROGRESS, Job, Pipeline
from chatbox.errors import LocalError


class Errand(Job):
    """A job that remembers when it began, and may end at once."""

    def __init__(self, tests: PipelineTests, name: str, alone: bool, at_once: bool) -> None:
        super().__init__(alone)
        self.tests = tests
        self.name = name
        self.at_once = at_once

    def begin(self) -> None:
        """Note it."""
        self.tests.begun.append(self.name)
        if self.at_once:
            self.end()

    def end(self) -> None:
        """Answer with the name."""
        self.tests.pipeline.end(self, self.name.encode())


class PipelineTests(SynchronousTestCase):
    """One client's requests."""

    def setUp(self) -> None:
        """Begin with none."""
        self.begun: list[str] = []
        self.answers: list[bytes] = []
        self.progress = 0
        self.pipeline = Pipeline(self.answers.append, self.on_progress)

    def on_progress(self) -> None:
        """Count."""
        self.progress += 1

    def add(self, name: str, *, alone: bool = False, at_once: bool = False) -> Errand:
        """Add a job."""
        job = Errand(self, name, alone, at_once)
        self.pipeline.add(job)
        return job

    def test_answers_in_order(self) -> None:
        """An answer that is ready early waits for those before it."""
        a, b, c = (self.add(name) for name in "abc")
        self.assertEqual(self.begun, ["a", "b", "c"])
        c.end()
        b.end()
        self.assertEqual((self.answers, self.progress), ([], 0))
        a.end()
        self.assertEqual((self.answers, self.progress), ([b"a", b"b", b"c"], 1))
        self.assertTrue(self.pipeline.idle)

    def test_alone(self) -> None:
        """A lone job begins when all before it are answered, and all behind wait for it."""
        a = self.add("a")
        b = self.add("b", alone=True)
        c, d = self.add("c"), self.add("d", alone=True)
        self.assertEqual(self.begun, ["a"])
        a.end()
        self.assertEqual(self.begun, ["a", "b"])
        b.end()
        self.assertEqual(self.begun, ["a", "b", "c"])
        c.end()
        d.end()
        self.assertEqual(self.answers, [b"a", b"b", b"c", b"d"])

    def test_ends_in_its_begin(self) -> None:
        """A job may end at once, and so may a thousand waiting behind a lone one."""
        first = self.add("first", alone=True)
        for _ in range(1000):
            self.add("x", at_once=True)
        first.end()
        self.assertEqual(len(self.answers), 1001)
        self.assertTrue(self.pipeline.idle)

    def test_full(self) -> None:
        """Waiting and begun jobs count alike."""
        jobs = [self.add("a", alone=True)]
        jobs += [self.add("b") for _ in range(MAX_IN_PROGRESS - 2)]
        self.assertFalse(self.pipeline.full)
        jobs.append(self.add("c"))
        self.assertTrue(self.pipeline.full)
        jobs[0].end()
        self.assertFalse(self.pipeline.full)

    def test_clear(self) -> None:
        """Answers that come after all was forgotten go nowhere."""
        a = self.add("a")
        self.add("b", alone=True)
        self.pipeline.clear()
        self.assertTrue(self.pipeline.idle)
        a.end()
        self.assertEqual((self.begun, self.answers), (["a"], []))

    def test_answered_twice(self) -> None:
        """To answer twice is a mistake of ours."""
        self.assertRaises(LocalError, self.add("a", at_once=True).end)

    @given(st.lists(st.tuples(st.booleans(), st.booleans())), st.randoms(use_true_random=False))
    def test_any_order(self, jobs: list[tuple[bool, bool]], random: object) -> None:
        """Whatever ends when, all are begun and answered in order, lone ones alone."""
        self.setUp()
        errands = [
            self.add(str(index), alone=alone, at_once=at_once)
            for index, (alone, at_once) in enumerate(jobs)
        ]
        while not self.pipeline.idle:
            running = [e for e in errands if e.name in self.begun and e.answer is None]
            if any(errand.alone for errand in running):
                self.assertEqual(len(running), 1)
            random.choice(running).end()  # type: ignore[attr-defined]  # hypothesis types it loosely
        names = [errand.name for errand in errands]
        self.assertEqual(self.begun, names)
        self.assertEqual([answer.decode() for answer in self.answers], names)
