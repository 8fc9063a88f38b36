"""Many transfers of one server share what there is, in virtual time."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from tests.helpers.crowd import Crowd, jain
from tests.link import Weather
from tests.test_transfer import CONTROLLERS

DATA = random.Random(5).randbytes(3_000_000)
FAST = Weather(rate=12.5e6, delay=0.005)
"""100 Mbit/s, far more than the server may send."""


class MaxRateTests(SynchronousTestCase):
    """What the operator allows in all."""

    def test_shared_evenly(self) -> None:
        """However many transfers are at a port, and however far their clients are, each gets the
        same, and all together what is allowed.
        """
        for sizes in ((12,), (1, 3, 8)):
            for name, controller in CONTROLLERS.items():
                crowd = Crowd(DATA, sizes, controller, link=FAST, max_rate=1e6, farthest=0.05)
                crowd.run(0.5)
                before = crowd.confirmed
                crowd.run(1.0)
                got = [late - soon for late, soon in zip(crowd.confirmed, before, strict=True)]
                what = f"{name}, {sizes}, seed 1: {got}"
                self.assertGreaterEqual(jain(got), 0.95, what)
                self.assertLessEqual(sum(got), 1.03e6, what)
                self.assertGreaterEqual(sum(got), 0.93e6, what)

    def test_what_one_does_not_take_is_for_the_others(self) -> None:
        """Clients that want less than their share leave the rest to those that want more."""
        crowd = Crowd(DATA, (3, 3), CONTROLLERS["bbr"], link=FAST, max_rate=1e6)
        crowd.run(0.2)
        for member in crowd.members[1::2]:
            member.receiver.set_rate_limit(50_000, crowd.network.now)
        crowd.run(0.5)
        before = crowd.confirmed
        crowd.run(1.0)
        got = [late - soon for late, soon in zip(crowd.confirmed, before, strict=True)]
        self.assertGreaterEqual(sum(got), 0.93e6, got)
        self.assertLessEqual(sum(got[1::2]), 3 * 60_000, got)
        self.assertGreaterEqual(jain(got[::2]), 0.95, got)

    def test_the_last_ones_have_it_all(self) -> None:
        """Those that are left when others end share what these had; all ends well."""
        small = DATA[:100_000]
        crowd = Crowd(small, (2, 2), CONTROLLERS["bbr"], link=FAST, max_rate=400_000)
        for member in crowd.members[:2]:
            member.receiver.cancel(crowd.network.now)
        crowd.run(0.7)
        self.assertEqual(crowd.confirmed, [0, 0, len(small), len(small)])


class BusyTests(SynchronousTestCase):
    """A server whose processor is what there is too little of."""

    def test_shared_evenly(self) -> None:
        """If fewer trains leave than the paths could carry, each transfer has its part of them."""
        link = Weather(rate=1e9, delay=0.005)
        for name, controller in CONTROLLERS.items():
            crowd = Crowd(DATA, (8,), controller, link=link, farthest=0.02, train_seconds=0.002)
            crowd.run(1.0)
            before = crowd.confirmed
            crowd.run(1.0)
            got = [late - soon for late, soon in zip(crowd.confirmed, before, strict=True)]
            self.assertLess(sum(got), 64 * 1472 * 500, f"{name}: it was not busy")
            self.assertGreaterEqual(jain(got), 0.9, f"{name}, seed 1: {got}")
