"""Requests begin in order, end when they like, and are answered in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatbox.chat.outbox import MAX_OWN_BYTES
from chatbox.chat.pipeline import MAX_BYTES_IN_PROGRESS, MAX_IN_PROGRESS, Job, Pipeline
from chatbox.errors import LocalError


class Errand(Job):
    """A job that remembers when it began, and may end at once."""

    def __init__(
        self, tests: PipelineTests, name: str, alone: bool, at_once: bool, size: int
    ) -> None:
        super().__init__(alone, size)
        self.tests = tests
        self.name = name
        self.at_once = at_once

    def begin(self) -> None:
        """Note it."""
        self.tests.begun.append(self.name)
        if self.at_once:
            self.end()

    def end(self, answer: bytes | None = None) -> None:
        """Answer, with the name if nothing else is said."""
        self.tests.pipeline.end(self, self.name.encode() if answer is None else answer)


class PipelineTests(SynchronousTestCase):
    """One client's requests."""

    def setUp(self) -> None:
        """Begin with none."""
        self.begun: list[str] = []
        self.answers: list[bytes] = []
        self.progress = 0
        self.congested = False
        self.pipeline = Pipeline(self.answers.append, self.on_progress, lambda: self.congested)

    def on_progress(self) -> None:
        """Count."""
        self.progress += 1

    def add(
        self, name: str, *, alone: bool = False, at_once: bool = False, size: int = 0
    ) -> Errand:
        """Add a job."""
        job = Errand(self, name, alone, at_once, size)
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

    def test_full_of_bytes(self) -> None:
        """So many bytes are enough, however few requests they are."""
        first = self.add("a", alone=True, size=MAX_BYTES_IN_PROGRESS - 10)
        second = self.add("b", size=9)
        self.assertFalse(self.pipeline.full)
        third = self.add("c", size=1)
        self.assertTrue(self.pipeline.full)
        first.end()
        self.assertFalse(self.pipeline.full)
        third.end()
        self.add("d", size=MAX_BYTES_IN_PROGRESS - 10)
        self.assertTrue(self.pipeline.full)  # an answer that has not left frees nothing
        second.end()
        self.assertFalse(self.pipeline.full)
        self.add("e", size=MAX_BYTES_IN_PROGRESS)
        self.pipeline.clear()
        self.assertFalse(self.pipeline.full)

    def test_long_answers_wait(self) -> None:
        """While long answers wait for one before them, no job begins that may bring more."""
        slow, quick = self.add("slow"), self.add("quick")
        quick.end(b"x" * MAX_OWN_BYTES)
        self.add("one more", at_once=True)
        self.add("too much", at_once=True)
        self.assertEqual(self.begun, ["slow", "quick", "one more"])
        slow.end()
        self.assertEqual(self.begun[3:], ["too much"])
        self.assertEqual(self.answers[2:], [b"one more", b"too much"])

    def test_congested(self) -> None:
        """Nothing begins while the client has to read, and all does once it has."""
        slow = self.add("slow")
        self.congested = True
        self.add("later", at_once=True)
        slow.end()
        self.pipeline.go_on()
        self.assertEqual((self.answers, self.pipeline.idle), ([b"slow"], False))
        self.congested = False
        self.pipeline.go_on()
        self.assertEqual((self.answers, self.pipeline.idle), ([b"slow", b"later"], True))

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
