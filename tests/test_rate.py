"""Delivery-rate samples (draft-ietf-ccwg-bbr, "Delivery Rate Samples")."""

from __future__ import annotations

from dataclasses import dataclass

from twisted.trial.unittest import SynchronousTestCase

from chatbox.rdt.rate import DeliveryRate, RateSample

TRAIN = 10_000


@dataclass(slots=True)
class Train:
    """What `DeliveryRate` needs of a train."""

    number: int
    sent_at: float
    delivered: int = 0
    delivered_at: float = 0.0
    first_sent_at: float = 0.0
    lost: int = 0
    tx_in_flight: int = 0
    app_limited: bool = False


class Sender:
    """Sends trains and has them acknowledged when the test says so."""

    def __init__(self) -> None:
        self.rate = DeliveryRate(0.0)
        self.in_flight = 0
        self.count = 0

    def send(self, now: float) -> Train:
        """One train leaves."""
        train = Train(self.count, now)
        self.count += 1
        self.rate.on_sent(train, self.in_flight, TRAIN)
        self.in_flight += TRAIN
        return train

    def ack(self, now: float, *trains: Train, min_rtt: float = 0.0) -> RateSample:
        """One acknowledgement names these."""
        for train in trains:
            self.rate.on_acked(train, TRAIN, now)
            self.in_flight -= TRAIN
        return self.rate.sample(now, min_rtt)


class DeliveryRateTests(SynchronousTestCase):
    """`DeliveryRate`."""

    def test_steady_flow(self) -> None:
        """A train every 10 ms, each acknowledged 50 ms later: one megabyte a second."""
        sender = Sender()
        trains = [sender.send(index / 100) for index in range(6)]
        for index in range(100):
            now = 0.05 + index / 100
            sample = sender.ack(now, trains[index])
            trains.append(sender.send(now + 0.01))
            if index > 5:
                self.assertApproximates(sample.delivery_rate, 1e6, 1)
                self.assertFalse(sample.app_limited)

    def test_acknowledgements_in_a_lump_are_not_a_fast_path(self) -> None:
        """What was sent over 100 ms and acknowledged at once counts over the 100 ms."""
        sender = Sender()
        first = sender.send(0.0)
        sender.ack(0.05, first)
        opening = sender.send(0.05)
        trains = [sender.send(0.06 + index / 100) for index in range(10)]
        sender.ack(0.2, opening)
        sample = sender.ack(0.201, *trains)
        self.assertApproximates(sample.delivery_rate, 11 * TRAIN / 0.151, 1)

    def test_burst_is_not_a_fast_path(self) -> None:
        """What left at once and is acknowledged over 100 ms counts over the 100 ms."""
        sender = Sender()
        trains = [sender.send(0.0) for _ in range(10)]
        for index, train in enumerate(trains):
            sample = sender.ack(0.01 * (index + 1), train)
        self.assertApproximates(sample.delivery_rate, 10 * TRAIN / 0.1, 1)

    def test_newest_train_counts(self) -> None:
        """Of what one acknowledgement names, in any order, the sample is that of the newest."""
        sender = Sender()
        old = sender.send(0.0)
        sender.ack(0.01, old)
        second = sender.send(0.01)
        third = sender.send(0.02)
        sample = sender.ack(0.06, third, second)
        self.assertEqual(sample.sent_at, 0.02)
        self.assertEqual(sample.prior_delivered, TRAIN)
        self.assertEqual(sample.delivered, 2 * TRAIN)
        self.assertEqual(sample.tx_in_flight, 2 * TRAIN)

    def test_silence_is_not_counted(self) -> None:
        """After a time with nothing in flight, the clock starts with the next train."""
        sender = Sender()
        sender.ack(0.05, sender.send(0.0))
        sample = sender.ack(100.05, sender.send(100.0))
        self.assertApproximates(sample.delivery_rate, TRAIN / 0.05, 1)

    def test_no_sample_below_the_smallest_round_trip(self) -> None:
        """An interval that the path cannot have is no measurement, but the counts are right."""
        sender = Sender()
        sample = sender.ack(0.01, sender.send(0.0), min_rtt=0.05)
        self.assertEqual(sample.delivery_rate, 0.0)
        self.assertEqual(sample.delivered, TRAIN)

    def test_nothing_acknowledged_is_no_sample(self) -> None:
        """An acknowledgement that names nothing new says nothing, also right after one."""
        sender = Sender()
        self.assertEqual(sender.ack(0.1), RateSample())
        sender.ack(0.2, sender.send(0.1))
        self.assertEqual(sender.ack(0.3), RateSample())

    def test_losses_since_it_left(self) -> None:
        """The sample says how much was lost between the train's leaving and now."""
        sender = Sender()
        sender.rate.lost = 500
        train = sender.send(0.0)
        sender.rate.lost += 700
        self.assertEqual(sender.ack(0.05, train).lost, 700)

    def test_app_limited_until_the_gap_has_left_the_path(self) -> None:
        """
        All that is sent while what was in flight at the gap is not delivered is marked; then no
        more.
        """
        sender = Sender()
        before = [sender.send(0.0), sender.send(0.01)]
        sender.rate.mark_app_limited(sender.in_flight)
        self.assertTrue(sender.rate.app_limited)
        after = sender.send(0.02)
        self.assertFalse(sender.ack(0.05, before[0]).app_limited)
        self.assertFalse(sender.ack(0.06, before[1]).app_limited)
        still = sender.send(0.065)
        self.assertTrue(sender.ack(0.07, after).app_limited)
        self.assertFalse(sender.rate.app_limited)
        clean = sender.send(0.08)
        self.assertTrue(sender.ack(0.11, still).app_limited)
        self.assertFalse(sender.ack(0.13, clean).app_limited)

    def test_app_limited_from_the_start(self) -> None:
        """A sender that never had anything in flight can be limited too."""
        sender = Sender()
        sender.rate.mark_app_limited(0)
        self.assertTrue(sender.send(0.0).app_limited)
