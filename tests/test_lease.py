"""A node's lease in Redis, and the names that go with it: what Redis is asked, and when."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chatbox.log.lease import LEASE_SECONDS, RELEASE_SECONDS, Lease
from chatbox.log.scripts import CLAIM, LEAVE, RELEASE, RENEW

Asked = tuple[str, list[object], Callable[[object], None]]


class LeaseTests(SynchronousTestCase):
    """A lease whose Redis answers when the test says so."""

    def setUp(self) -> None:
        """Make one that is not held yet."""
        self.clock = Clock()
        self.asked: list[Asked] = []
        self.outcomes: list[str] = []
        self.lease = Lease(
            lambda script, values, answer: self.asked.append((script, values, answer)),
            self.clock.seconds,
            self.clock.callLater,
        )

    def renew(self) -> None:
        """Have it renewed."""
        self.lease.renew()
        [(script, _, answer)] = self.take(1)
        self.assertEqual(script, RENEW)
        answer(1)

    def take(self, count: int | None = None) -> list[Asked]:
        """Return what Redis has been asked since the last time: so many questions."""
        asked, self.asked = self.asked, []
        if count is not None:
            self.assertEqual(len(asked), count)
        return asked

    def claim(self, name: str) -> None:
        """Ask for a name."""
        holder = {"name": name, "identity": name, "proof": "p"}
        self.lease.claim(name, holder, bool, lambda outcome, _: self.outcomes.append(outcome))

    def release(self, name: str, *, held: bool = False) -> None:
        """Let go of a name."""
        self.lease.release(name, "p", lambda: held)

    def released(self) -> list[object]:
        """Return the names that Redis is told to take back, without its answers."""
        self.assertLessEqual({script for script, _, _ in self.asked}, {RELEASE})
        return [values[1] for _, values, _ in self.take()]

    def test_no_names_without_it(self) -> None:
        """Nobody gets a name before it is held, however many ask, and nothing is kept of them."""
        for number in range(3):
            self.claim(str(number))
        self.assertEqual((self.outcomes, self.take()), (["no-lease"] * 3, []))
        self.renew()
        self.assertEqual(self.take(), [])
        self.claim("bob")
        [(script, _, answer)] = self.take(1)
        answer([b"new", b"5-0"])
        self.assertEqual((script, self.outcomes[3:]), (CLAIM, ["new"]))

    def test_many_leave_at_once(self) -> None:
        """Redis is told once of each, and again only of those for whom it gave no answer."""
        self.renew()
        names = [str(number) for number in range(100)]
        for name in names:
            self.release(name)
        self.clock.advance(RELEASE_SECONDS)
        self.assertEqual([values[1] for _, values, _ in self.asked], names)
        self.renew_beside()
        for _, values, answer in self.take(100):
            answer(None if values[1] in ("5", "7") else 1)
        self.renew_beside()
        self.assertEqual(self.released(), ["5", "7"])

    def renew_beside(self) -> None:
        """Have it renewed while other questions wait for their answers."""
        asked = self.take()
        self.renew()
        self.asked[:0] = asked

    def test_not_before_its_owner(self) -> None:
        """A name is not released before it is on its way that its owner has left, whatever else is
        to be told meanwhile; nor if it is held again by then."""
        self.renew()
        self.release("early")
        self.clock.advance(RELEASE_SECONDS * 0.75)
        self.release("late")
        self.release("back", held=True)
        self.renew()
        self.clock.advance(RELEASE_SECONDS * 0.25)
        self.assertEqual(self.released(), ["early"])
        self.clock.advance(RELEASE_SECONDS * 0.75)
        self.assertEqual(self.released(), ["late"])

    def test_at_the_end(self) -> None:
        """All names that are let go of go back before it ends."""
        self.renew()
        self.clock.advance(LEASE_SECONDS / 2)
        self.release("bob")
        self.lease.leave(lambda: None)
        self.assertEqual([script for script, _, _ in self.take()], [RELEASE, LEAVE])
