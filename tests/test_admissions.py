"""Who may have how many transfers."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatbox.errors import RemoteError
from chatbox.rdt.admissions import Admissions, Taker


class AdmissionsTests(SynchronousTestCase):
    """Counting, without any transfer."""

    def test_names_that_prove_nothing(self) -> None:
        """Then a name is another user's elsewhere, who can take away nothing."""
        for proven, room in ((True, False), (False, True)):
            admissions = Admissions(most=9, most_per_user=2, proven=proven)
            for _ in range(2):
                admissions.enter(Taker("alice", "there"))
            self.assertFalse(admissions.has_room(Taker("alice", "there")))
            self.assertEqual(admissions.has_room(Taker("alice", "here")), room)

    @given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60))
    def test_books(self, steps: list[tuple[str, bool]]) -> None:
        """However users come and go, the count is right and the bounds hold."""
        admissions = Admissions(most=5, most_per_user=2)
        model: Counter[str] = Counter()
        for user, enters in steps:
            if enters:
                full = model[user] >= 2 or model.total() >= 5
                try:
                    admissions.check(Taker(user))
                except RemoteError as error:
                    self.assertEqual((error.code, full), ("too-many-downloads", True))
                else:
                    self.assertFalse(full)
                    admissions.enter(Taker(user))
                    model[user] += 1
            elif model[user]:
                admissions.leave(Taker(user))
                model[user] -= 1
            self.assertEqual(len(admissions), model.total())

    def test_who_makes_room(self) -> None:
        """One less of a user's own helps that user; of a network's own, whoever comes from it."""
        admissions = Admissions(most=4, most_per_user=2)
        alice, bob = Taker("alice", "here"), Taker("bob", "here")
        for taker in (alice, alice):
            admissions.enter(taker)
        self.assertFalse(admissions.has_room(bob), "half of all is their network's")
        self.assertTrue(admissions.makes_room(alice, bob))
        self.assertTrue(admissions.makes_room(alice, alice))
        self.assertFalse(admissions.makes_room(bob, alice), "two of alice's are there still")
        self.assertFalse(admissions.makes_room(Taker("carol", "there"), bob))
