"""When nothing moves, progress says why: every reason, from end to end on the simulated link."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from chatbox.rdt import receiver
from chatbox.rdt.packet import DATA_HEADER, Kind
from chatbox.rdt.receiver import Verdict
from tests.helpers.crowd import Crowd
from tests.link import MemorySink, MemorySource, Transfer, Weather
from tests.test_transfer import CONTROLLERS

LINK = Weather(rate=2.5e6, delay=0.02, queue=100_000)
DATA = random.Random(7).randbytes(300_000)
BUSY = "waiting for the server: busy with others, or with its disk"


class ReasonTests(SynchronousTestCase):
    """What a person reads beside a bar that stands still."""

    def reason(self, transfer: Transfer, at: float) -> str:
        """What is said so many seconds after the beginning."""
        transfer.run(until=at)
        return transfer.receiver.progress(transfer.network.now).reason

    def drop(self, transfer: Transfer, lost: Callable[[bytes], bool]) -> None:
        """Lose some of what the server sends."""
        send = transfer.down.send

        def sieve(datagram: bytes, now: float, at: Callable[[float, bytes], None]) -> None:
            if not lost(datagram):
                send(datagram, now, at)

        transfer.down.send = sieve  # type: ignore[method-assign]

    def test_while_it_moves(self) -> None:
        """There is no reason, and there is a rate and a time."""
        transfer = Transfer(DATA, down=LINK)
        self.assertEqual(self.reason(transfer, 0.1), "")
        progress = transfer.receiver.progress(transfer.network.now)
        self.assertGreater(progress.rate, 0)
        self.assertIsNotNone(progress.time_left)
        self.assertEqual(progress.confirmed, transfer.sink.written)

    def test_udp_blocked(self) -> None:
        """Nothing has ever come: first it is waited for, then a firewall is a good guess."""
        transfer = Transfer(DATA, down=replace(LINK, loss=1.0))
        self.assertEqual(self.reason(transfer, 0.1), "waiting for the server's first packet")
        self.assertEqual(
            self.reason(transfer, 5.0), "no answer over UDP for 5 s: does a firewall block it?"
        )

    def test_server_gone(self) -> None:
        """Something has come, and then nothing more; so it is while it was to pause, too."""
        for pauses in (False, True):
            transfer = Transfer(DATA, down=replace(LINK, blackouts=((1000.1, 9999.0),)))
            if pauses:
                transfer.at(0.2, lambda r, now: r.pause(now))
            self.assertEqual(self.reason(transfer, 10.12), "no packet from the server for 10 s")

    def test_paused(self) -> None:
        """By the half way mark, by the person, and in between."""
        transfer = Transfer(DATA, down=LINK, pause_half_way=True, auto_proceed=False)
        self.assertEqual(self.reason(transfer, 3.0), "paused half way")
        transfer = Transfer(DATA, down=LINK, auto_proceed=False)
        transfer.at(0.1, lambda r, now: r.pause(now))
        self.assertEqual(self.reason(transfer, 0.11), "pausing")
        self.assertEqual(self.reason(transfer, 3.0), "paused")

    def test_digest_and_disk(self) -> None:
        """All has come, but the server still reads, or our own disk is not done."""
        transfer = Transfer(DATA, down=LINK, source=MemorySource(DATA, hashed=False))
        self.assertEqual(self.reason(transfer, 3.0), "waiting for the server's digest")

        class Slow(MemorySink):
            def verdict(self) -> Verdict | None:
                return None

        transfer = Transfer(DATA, down=LINK, sink=Slow(len(DATA)))
        self.assertEqual(
            self.reason(transfer, 3.0), "checking the file and bringing it to the disk"
        )

    def test_window_full(self) -> None:
        """One packet is lost again and again, and all that may be sent ahead of it is here."""
        with mock.patch.object(receiver, "WINDOW_BYTES", 100_000):
            transfer = Transfer(DATA, down=LINK, make_controller=CONTROLLERS["bbr"])
            self.drop(
                transfer,
                lambda one: one[0] == Kind.DATA and DATA_HEADER.unpack_from(one)[3] == 0,
            )
            self.assertEqual(
                self.reason(transfer, 3.0), "the window is full: waiting for what was lost"
            )
            self.assertGreater(transfer.receiver.confirmed, 95_000)

    def test_no_data(self) -> None:
        """The server answers, but whatever it sends of the file does not come."""
        transfer = Transfer(DATA, down=LINK)
        self.drop(transfer, lambda one: one[0] == Kind.DATA)
        reasons = {self.reason(transfer, 0.5 * step) for step in range(4, 60)}
        self.assertIn("the server answers, but no data comes", reasons)

    def test_own_limit(self) -> None:
        """So little is wanted that a packet comes every other second."""
        transfer = Transfer(DATA, down=LINK)
        transfer.at(0.05, lambda r, now: r.set_rate_limit(400, now))
        reasons = {self.reason(transfer, 5 + 0.1 * step) for step in range(100)}
        self.assertIn("held back by your limit", reasons)

    def test_server_limited(self) -> None:
        """The server may send so little in all that this one has to wait for its turn."""
        for name, controller in CONTROLLERS.items():
            crowd = Crowd(DATA, (4, 4), controller, link=LINK, max_rate=4000)
            reasons = set()
            for _ in range(40):
                crowd.run(0.25)
                now = crowd.network.now
                reasons |= {member.receiver.progress(now).reason for member in crowd.members}
            self.assertIn(BUSY, reasons, name)

    def test_server_waits_for_its_disk(self) -> None:
        """There is nobody else, and the server's disk does not give the file."""
        transfer = Transfer(DATA, down=LINK)
        with mock.patch.object(transfer.source, "read_into", side_effect=BlockingIOError):
            reasons = {self.reason(transfer, 0.5 * step) for step in range(4, 20)}
        self.assertIn(BUSY, reasons)

    def test_limited_no_more(self) -> None:
        """The client learns that the server is limited, and later that it no longer is."""
        transfer = Transfer(DATA, down=LINK, max_rate=50_000)
        transfer.run(until=2)
        status = transfer.receiver._status
        assert status is not None
        self.assertTrue(status.limited)
        transfer.at(2.1, lambda r, now: r.set_rate_limit(30_000, now))
        transfer.run(until=2.5)
        transfer.demux._allowance.rate = 1e12
        transfer.run(until=6)
        status = transfer.receiver._status
        assert status is not None
        self.assertFalse(status.limited)
