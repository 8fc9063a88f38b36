"""Packet numbers that are left out, and who acknowledges them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partialmethod

from twisted.trial.unittest import SynchronousTestCase

from chatbox.errors import RemoteError
from chatbox.rdt import skips
from chatbox.rdt.acks import Acknowledger
from chatbox.rdt.ends import End
from chatbox.rdt.packet import HEADER
from chatbox.rdt.recovery import PACKET_THRESHOLD
from chatbox.rdt.sender import MANY_RANGES
from chatbox.rdt.service import CONTROLLERS
from chatbox.rdt.skips import FIRST_PERIOD, LAST_PERIOD, Skips

from .link import Transfer, Weather
from .test_recovery import RTT, Ranges, Sending, part

DATA = random.Random(5).randbytes(1_500_000)

LINK = Weather(rate=2.5e6, delay=0.02, queue=100_000)


class SkipsTests(SynchronousTestCase):
    """Which numbers they are."""

    def chosen(self, seed: int) -> list[int]:
        """The first ones of a transfer."""
        chooser = Skips(random.Random(seed).randbytes)
        numbers = []
        for _ in range(20):
            numbers.append(chooser.following)
            chooser.on_skipped(chooser.following)
        return numbers

    def test_rarer_and_rarer(self) -> None:
        """Each is half as far again at most, and half as far at least, as its time has it."""
        for seed in range(50):
            before, period = 0, FIRST_PERIOD
            for number in self.chosen(seed):
                self.assertTrue(period / 2 <= number - before < 1.5 * period, (seed, number))
                before, period = number, min(2 * period, LAST_PERIOD)

    def test_how_many(self) -> None:
        """As many as there can be, while they become rarer."""
        chooser = Skips(bytes)  # chance has them as soon as may be
        for count in range(8):
            self.assertEqual(skips.most(chooser.following - 1), count)
            chooser.on_skipped(chooser.following)

    def test_nobody_knows_them(self) -> None:
        """They differ from one transfer to the next."""
        self.assertGreater(len({self.chosen(seed)[0] for seed in range(50)}), 20)
        self.assertGreater(len({self.chosen(seed)[-1] for seed in range(50)}), 40)


class RecoveryTests(SynchronousTestCase):
    """What a number that was left out is to the sender's books."""

    def test_acknowledged(self) -> None:
        """Whoever names it lies, alone or among others, before those behind it or after."""
        for ranges in ([(4, 5)], [(0, 5)], [(4, 9)], [(0, 9)], [(8, 9), (3, 5)]):
            sending = Sending()
            sending.send(4)
            sending.recovery.skip_number()
            sending.send(4)
            error = self.assertRaises(RemoteError, sending.ack, *ranges)
            self.assertEqual(error.code, "bad-ack")
        sending = Sending()
        sending.send(4)
        sending.recovery.skip_number()
        sending.send(4)
        sending.ack((0, 4))
        self.assertRaises(RemoteError, sending.ack, (0, 5))

    def test_it_is_no_loss(self) -> None:
        """All else arrives: nothing is lost, nothing is waited for, nothing is remembered."""
        sending = Sending()
        sending.measure()
        first = sending.send(4)
        sending.recovery.skip_number()
        sending.send(4)
        sending.wait(RTT)
        outcome = sending.ack((first + 5, first + 9), (first, first + 4))
        self.assertEqual((outcome.lost, outcome.lost_numbers), ([], []))
        self.assertEqual(sending.recovery.in_flight, 0)
        self.assertIsNone(sending.recovery.next_timer())
        self.assertFalse(sending.recovery._trains or sending.recovery._skipped)

    def test_it_does_not_count(self) -> None:
        """Of those that make a loss it is none."""
        for skipped in (False, True):
            sending = Sending()
            sending.measure()
            first = sending.send(1)
            if skipped:
                sending.recovery.skip_number()
            second = sending.send(PACKET_THRESHOLD)
            sending.wait(RTT)
            sending.ack((second, second + PACKET_THRESHOLD - 1))
            self.assertEqual(sending.controller.lost, [])
            outcome = sending.ack((second, second + PACKET_THRESHOLD))
            self.assertEqual(outcome.lost, [part(1, 2)])
            self.assertEqual(first, 1)


class TransferTests(SynchronousTestCase):
    """Whole transfers."""

    def test_nobody_notices(self) -> None:
        """With many numbers left out, over a bad link too, the file arrives, nothing more is sent
        again, and no gap stays for ever in what the client acknowledges.
        """
        self.patch(skips, "FIRST_PERIOD", 16)
        self.patch(skips, "LAST_PERIOD", 16)
        named: list[int] = []
        take = Acknowledger.take

        def count(acks: Acknowledger, number: int, now: float) -> tuple[Ranges, float]:
            ranges, delay = take(acks, number, now)
            named.append(len(ranges))
            return ranges, delay

        self.patch(Acknowledger, "take", count)
        for controller in CONTROLLERS.values():
            for down in (LINK, replace(LINK, loss=0.03, reorder=0.03)):
                named.clear()
                transfer = Transfer(DATA, down=down, make_controller=controller)
                left = self.numbers(transfer)
                transfer.run()
                transfer.check()
                self.assertGreater(max(left) + 1 - len(left), len(left) / 24)
                self.assertLess(named[-1], 2 * MANY_RANGES)
                if down is LINK:
                    self.assertLess(transfer.down.carried, 1.1 * len(DATA))

    def test_found_out(self) -> None:
        """Who acknowledges what was lost, or has not come yet, does not go on for long."""
        take = Acknowledger.take

        def lie(acks: Acknowledger, beyond: int, number: int, now: float) -> tuple[Ranges, float]:
            ranges, delay = take(acks, number, now)
            return [(0, ranges[0][1] + beyond)] if ranges else [], delay

        for beyond, loss in ((0, 0.0), (0, 0.05), (3, 0.0)):
            self.patch(Acknowledger, "take", partialmethod(lie, beyond))
            transfer = Transfer(DATA, down=replace(LINK, loss=loss))
            left = self.numbers(transfer)
            transfer.run()
            transfer.check(End.PROTOCOL_ERROR)
            self.assertLess(len(left), 3 * FIRST_PERIOD)

    def numbers(self, transfer: Transfer) -> set[int]:
        """The numbers of the packets that leave for the client."""
        left: set[int] = set()
        send = transfer.down.send

        def tap(datagram: bytes, now: float, at: Callable[[float, bytes], None]) -> None:
            left.add(HEADER.unpack_from(datagram)[2])
            send(datagram, now, at)

        transfer.down.send = tap  # type: ignore[method-assign]  # of this one only
        return left
