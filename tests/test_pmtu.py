"""How large a packet the path carries."""

from __future__ import annotations

import random
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from chatbox.rdt.congestion.cubic import Cubic
from chatbox.rdt.packet import BASE_DATAGRAM, MAX_DATAGRAM
from chatbox.rdt.path import MAX_ACK_BYTES, Path
from chatbox.rdt.pmtu import (
    BLACK_HOLE_SIGNS,
    RAISE_DELAY,
    RETRY_DELAY,
    ROUNDS,
    SIZES,
    PmtuSearch,
    tries_above,
)
from chatbox.rdt.recovery import Load

from .link import Transfer, Weather, seeds

LINK = Weather(rate=2.5e6, delay=0.02, queue=100_000)


def searched(search: PmtuSearch, carries: int, now: float = 0.0) -> list[int]:
    """Answer probes as a path would that carries so much; the sizes that were tried."""
    tried: list[int] = []
    while True:
        burst = []
        while (size := search.probe(now)) is not None:
            burst.append(size)
        if not burst:
            return tried
        tried += burst
        for size in burst:
            if size <= carries:
                search.on_probe_acked(size)
            else:
                search.on_probe_lost(size)


class PmtuSearchTests(SynchronousTestCase):
    """The search and the black hole, without a path."""

    def test_the_largest_wins(self) -> None:
        """The largest size that the path carries is found; larger ones were tried each time."""
        for index, size in enumerate(SIZES):
            search = PmtuSearch(MAX_DATAGRAM)
            tried = searched(search, size)
            self.assertEqual(search.datagram, size)
            self.assertEqual(len(tried), len(SIZES) + index * (ROUNDS - 1))

    def test_nothing_larger(self) -> None:
        """On a path that carries the least only, that stays, and the search rests."""
        search = PmtuSearch(MAX_DATAGRAM)
        searched(search, BASE_DATAGRAM)
        self.assertEqual(search.datagram, BASE_DATAGRAM)
        self.assertIsNone(search.probe(RAISE_DELAY - 1))
        self.assertIsNotNone(search.probe(RAISE_DELAY))

    def test_the_receivers_limit(self) -> None:
        """Just what the receiver takes is tried, and nothing longer."""
        for limit in (1201, 1392, 1472, 1500, 8868, MAX_DATAGRAM):
            search = PmtuSearch(limit)
            self.assertEqual(max(searched(search, MAX_DATAGRAM)), limit)
            self.assertEqual(search.datagram, limit)
        search = PmtuSearch(BASE_DATAGRAM)
        self.assertEqual(searched(search, MAX_DATAGRAM), [])

    def test_what_may_be_lost(self) -> None:
        """So many PROBEs are in vain, whatever the receiver takes and the path carries."""
        for limit in (BASE_DATAGRAM, 1392, 1472, MAX_DATAGRAM):
            for carries in (BASE_DATAGRAM, 1300, 1472, 9000):
                search = PmtuSearch(limit)
                lost = [size for size in searched(search, carries) if size > carries]
                self.assertEqual(len(lost), tries_above(limit, search.datagram))

    def test_one_round_at_a_time(self) -> None:
        """While a probe is on its way the next round waits."""
        search = PmtuSearch(1472)
        burst = [search.probe(0.0) for _ in range(len(SIZES) - 3)]
        self.assertNotIn(None, burst)
        self.assertIsNone(search.probe(0.0))
        for size in burst[:-1]:
            search.on_probe_lost(size or 0)
        self.assertIsNone(search.probe(0.0))
        search.on_probe_lost(burst[-1] or 0)
        self.assertIsNotNone(search.probe(0.0))

    def test_black_hole(self) -> None:
        """Large losses with nothing large arriving between them bring the least size back."""
        search = PmtuSearch(MAX_DATAGRAM)
        searched(search, 1472)
        for _ in range(BLACK_HOLE_SIGNS - 1):
            self.assertFalse(search.on_trouble(1472, 10.0))
        self.assertTrue(search.on_trouble(1472, 10.0))
        self.assertEqual(search.datagram, BASE_DATAGRAM)
        self.assertIsNone(search.probe(10.0 + RETRY_DELAY - 0.1))
        self.assertIsNotNone(search.probe(10.0 + RETRY_DELAY))

    def test_no_black_hole(self) -> None:
        """Losses of small packets, or with large ones arriving between, are only losses."""
        search = PmtuSearch(MAX_DATAGRAM)
        searched(search, 1472)
        for _ in range(10):
            self.assertFalse(search.on_trouble(BASE_DATAGRAM, 10.0))
            self.assertFalse(search.on_trouble(1472, 10.0))
            search.on_large_arrived()
        self.assertEqual(search.datagram, 1472)


class PathTests(SynchronousTestCase):
    """The same in whole transfers."""

    DATA = random.Random(4).randbytes(2_000_000)

    def test_found_on_the_way(self) -> None:
        """A transfer ends up with the largest packets that its link carries."""
        for mtu in (1200, 1300, 1472, 9000):
            transfer = Transfer(self.DATA, down=replace(LINK, mtu=mtu))
            transfer.run()
            transfer.check()
            expected = max((s for s in SIZES if s <= mtu), default=BASE_DATAGRAM)
            self.assertEqual(transfer.sender._path.datagram, expected)

    def test_receiver_that_takes_anything(self) -> None:
        """Whatever a receiver says that it takes, no packet is longer than packets may be."""
        path = Path(Cubic, bytes, 0.0)
        path.on_sent(Load.DATA, 10, 1200, 1200, 0, 0.0)
        path.learn(path.recovery.on_ack([(0, 10)], 0.0, 0.1), 0.1)
        path.limit_datagram(1 << 31)
        tried = [path.probe_size(0.2) for _ in SIZES]
        self.assertEqual(tried[-1], MAX_DATAGRAM)

    def test_found_in_spite_of_loss(self) -> None:
        """Loss may hide the best size, but never makes packets too large."""
        for seed in seeds(3):
            transfer = Transfer(self.DATA[:500_000], seed=seed, down=replace(LINK, loss=0.1))
            transfer.run()
            transfer.check()
            self.assertLessEqual(transfer.sender._path.datagram, 1472)

    def test_mtu_falls(self) -> None:
        """A path that suddenly carries less holds the transfer up for moments, not for ever."""
        transfer = Transfer(self.DATA, down=LINK)

        def shrink(now: float) -> None:
            self.assertEqual(transfer.sender._path.datagram, 1472)
            transfer.down.weather = replace(LINK, mtu=1300)

        transfer.network.at(1000.5, shrink)
        transfer.run()
        transfer.check()
        self.assertLess(transfer.duration, 10)
        self.assertLess(transfer.sender._path.datagram, 1300)


class PacingTests(SynchronousTestCase):
    """What a path makes of what it has learnt."""

    def test_probes_do_not_hold_up_data(self) -> None:
        """A probe that is far too long for the interface costs the pacer no more than a packet."""
        path = Path(Cubic, bytes, 0.0)
        path.on_sent(Load.DATA, 10, 1200, 1200, 0, 0.0)
        path.learn(path.recovery.on_ack([(0, 10)], 0.0, 0.1), 0.1)
        path.retune(100_000.0, 0.1)
        self.assertGreater(path.packets(1.0), 1)
        path.on_sent(Load.PROBE, 1, 65_000, 65_000, 0, 1.0)
        self.assertGreater(path.packets(1.0), 0)

    def test_how_often_to_acknowledge(self) -> None:
        """An eighth of the window at a time, but not twice in what a timer can tell apart."""
        path = Path(Cubic, bytes, 0.0)
        window = path.recovery.controller.window
        path.retune(1000.0, 0.0)
        self.assertEqual(path.ack_bytes, window // 8)
        path.expect_rtt(1e-6)
        for rate, expected in ((1e8, 100_000), (1e12, MAX_ACK_BYTES)):
            path.retune(rate, 0.1)
            self.assertEqual(path.ack_bytes, expected)
