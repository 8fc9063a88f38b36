"""Whole transfers over links whose weather changes on the way, under both controllers.

Each must end with the same bytes, no timer and nothing in flight, from any seed; a failure names
its seed. How long it may take is a bound on what would be a bug, not a measure of speed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from chatbox.rdt.congestion import ControllerFactory
from tests.helpers.path import Policer
from tests.link import Link, Transfer, Weather, seeds
from tests.test_transfer import CONTROLLERS

LINK = Weather(rate=2.5e6, delay=0.02, queue=100_000)
"""20 Mbit/s, 40 ms there and back, a queue of one round trip."""

DATA = random.Random(11).randbytes(600_000)
"""A quarter of a second of that link."""

SEEDS = 3


def police(link: Link, policer: Policer) -> list[bytes]:
    """Let a policer stand in front of a link; what it drops is in the list that is returned."""
    carry, dropped = link.send, list[bytes]()

    def send(datagram: bytes, now: float, at: Callable[[float, bytes], None]) -> None:
        if policer.passes(len(datagram), now):
            carry(datagram, now, at)
        else:
            dropped.append(datagram)

    link.send = send  # type: ignore[method-assign]  # of this link only
    return dropped


def compress(link: Link, step: float) -> None:
    """Let what a link carries arrive in bunches: at whole multiples of so many seconds."""
    carry = link.send

    def send(datagram: bytes, now: float, at: Callable[[float, bytes], None]) -> None:
        carry(datagram, now, lambda when, carried: at((when // step + 1) * step, carried))

    link.send = send  # type: ignore[method-assign]  # of this link only


def vary(link: Link, step: float, most: float, chance: random.Random) -> None:
    """
    Let a link take up to `most` seconds longer, for `step` seconds so much and then otherwise, as a
    radio does that waits for its turn. Nothing overtakes.
    """
    carry = link.send
    longer = dict[int, float]()
    free_at = 0.0

    def send(datagram: bytes, now: float, at: Callable[[float, bytes], None]) -> None:
        def late(when: float, carried: bytes) -> None:
            nonlocal free_at
            extra = longer.setdefault(int(when / step), chance.random() * most)
            free_at = max(free_at, when + extra)
            at(free_at, carried)

        carry(datagram, now, late)

    link.send = send  # type: ignore[method-assign]  # of this link only


def change(transfer: Transfer, after: float, **both: float) -> None:
    """Change the weather of both directions, so many seconds after the beginning."""

    def happen(_: float) -> None:
        for link in (transfer.down, transfer.up):
            link.weather = replace(link.weather, **both)  # type: ignore[arg-type]

    transfer.network.at(transfer.started_at + after, happen)


class WeatherTests(SynchronousTestCase):
    """What a network does in mid-transfer."""

    def transfers(
        self, down: Weather = LINK, up: Weather = LINK, data: bytes = DATA
    ) -> Iterator[tuple[str, Transfer]]:
        """A transfer for each controller and seed, and what to call it; every second one pauses."""
        for name, controller in CONTROLLERS.items():
            for seed in seeds(SEEDS):
                yield f"{name}, seed {seed}", self.transfer(controller, seed, down, up, data)

    def transfer(
        self, controller: ControllerFactory, seed: int, down: Weather, up: Weather, data: bytes
    ) -> Transfer:
        """One transfer."""
        return Transfer(
            data,
            seed=seed,
            down=down,
            up=up,
            make_controller=controller,
            pause_half_way=seed % 2 == 0,
            rtt=0.04,
        )

    def arrives(self, what: str, transfer: Transfer, within: float) -> None:
        """It ends well, in time."""
        transfer.run()
        transfer.check()
        self.assertLess(transfer.duration, within, what)

    def test_acknowledgements_lost(self) -> None:
        """Every other packet of the client is lost."""
        for what, transfer in self.transfers(up=replace(LINK, loss=0.5)):
            self.arrives(what, transfer, 6)
            self.assertGreater(transfer.up.dropped, 5, what)

    def test_acknowledgements_in_bunches(self) -> None:
        """What the client says arrives five times a second."""
        for what, transfer in self.transfers():
            compress(transfer.up, 0.2)
            self.arrives(what, transfer, 8)

    def test_policer(self) -> None:
        """What exceeds 8 Mbit/s is dropped, and nothing ever waits in a queue."""
        for what, transfer in self.transfers(data=DATA * 3):
            dropped = police(transfer.down, Policer(1e6, 60_000, tokens=60_000))
            self.arrives(what, transfer, 12)
            self.assertTrue(dropped, f"{what}: it did not have to drop anything")

    def test_route_twice_as_long(self) -> None:
        """All packets take twice as long from one moment on."""
        for what, transfer in self.transfers(data=DATA * 2):
            change(transfer, 0.25, delay=0.04)
            self.arrives(what, transfer, 5)

    def test_route_half_as_long(self) -> None:
        """All packets take half as long from one moment on, and so overtake others."""
        for what, transfer in self.transfers(data=DATA * 2):
            change(transfer, 0.25, delay=0.01)
            self.arrives(what, transfer, 5)

    def test_a_tenth_of_the_rate_and_back(self) -> None:
        """The link carries a tenth for two seconds, and then as much as before."""
        for what, transfer in self.transfers(data=DATA * 3):
            change(transfer, 0.3, rate=250_000.0)
            change(transfer, 2.3, rate=2.5e6)
            self.arrives(what, transfer, 7)
            self.assertGreater(transfer.duration, 1.0, f"{what}: the link was never slow")

    def test_smaller_packets_only(self) -> None:
        """From one moment on long packets vanish without a word, as in a new tunnel."""
        for what, transfer in self.transfers(data=DATA * 2):
            change(transfer, 0.3, mtu=1250)
            self.arrives(what, transfer, 8)
            self.assertLessEqual(transfer.sender._path.datagram, 1250, what)

    def test_other_address(self) -> None:
        """The client has another address from one moment on, and yet another later."""
        for what, transfer in self.transfers(data=DATA * 2):
            for port, after in ((2, 0.2), (3, 0.9)):

                def move(_: float, transfer: Transfer = transfer, port: int = port) -> None:
                    transfer.client_address = ("client", port)

                transfer.network.at(transfer.started_at + after, move)
            self.arrives(what, transfer, 8)
            self.assertNotEqual(transfer.sender.address, ("client", 1), what)

    def test_other_address_on_a_bad_link(self) -> None:
        """The same where one packet in ten is lost both ways, and many come late."""
        bad = replace(LINK, loss=0.1, reorder=0.1)
        for what, transfer in self.transfers(bad, bad):

            def move(_: float, transfer: Transfer = transfer) -> None:
                transfer.client_address = ("client", 2)

            transfer.network.at(transfer.started_at + 0.2, move)
            self.arrives(what, transfer, 20)

    def test_trains_that_nobody_takes(self) -> None:
        """What is handed to the kernel as a train is lost; packets go one by one before long."""
        for what, transfer in self.transfers():
            transfer.breaks_trains = True
            self.arrives(what, transfer, 20)
            self.assertFalse(transfer.sender._path.joined, what)

    def test_everything_changes(self) -> None:
        """Loss, a slower link, a longer way and a new address, at moments that the seed chooses."""
        for what, transfer in self.transfers(replace(LINK, loss=0.02), data=DATA * 2):
            chance = random.Random(transfer.seed)
            change(transfer, chance.random(), rate=500_000.0)
            change(transfer, chance.random(), delay=chance.uniform(0.005, 0.08))
            change(transfer, chance.random(), mtu=1300)
            change(transfer, 1 + chance.random(), rate=2.5e6, loss=0.05)

            def move(_: float, transfer: Transfer = transfer) -> None:
                transfer.client_address = ("client", 2)

            transfer.network.at(transfer.started_at + chance.random(), move)
            self.arrives(what, transfer, 30)


RADIO = Weather(rate=6e6, delay=0.003, queue=200_000, loss=0.02)
"""48 Mbit/s, 6 ms there and back at best, and one packet in fifty is lost."""


class RadioTests(SynchronousTestCase):
    """A delay that varies by more than the path is long is no queue."""

    def transfers(self, weather: Weather) -> Iterator[Transfer]:
        """A file of more than a second over such a link, from several seeds."""
        data = random.Random(13).randbytes(8_000_000)
        for seed in (109, 110, 115, 120):
            yield Transfer(
                data,
                seed=seed,
                down=weather,
                up=weather,
                make_controller=CONTROLLERS["bbr"],
                rtt=0.006,
            )

    def test_delays_that_come_and_go(self) -> None:
        """
        The link is kept full. A sender that takes for a queue what delays vary by has 0.49 to 0.54
        of it.
        """
        for transfer in self.transfers(RADIO):
            chance = random.Random(transfer.seed)
            vary(transfer.down, 0.005, 0.01, chance)
            vary(transfer.up, 0.005, 0.01, chance)
            transfer.run()
            transfer.check()
            share = len(transfer.data) / transfer.duration / RADIO.rate
            self.assertGreater(share, 0.7, f"seed {transfer.seed}")

    def test_packets_that_overtake_each_other(self) -> None:
        """What is late by more than the shortest round trip is waited for, not sent anew."""
        for transfer in self.transfers(replace(RADIO, jitter=0.01)):
            transfer.run()
            transfer.check()
            sent = transfer.down.carried / len(transfer.data)
            self.assertLess(sent, 1.12, f"seed {transfer.seed}")


class BusyMachineTests(SynchronousTestCase):
    """Two computers that find no time for us, for up to 20 ms each time and every 30 ms."""

    def test_what_the_machines_do_is_not_the_path(self) -> None:
        """
        The link is kept as full as may be. Without being told how long things wait for a machine, a
        sender takes it for a queue, or for a faster path, and has 0.78 to 0.81 of the link; without
        expecting it to happen again, 0.86.
        """
        link = Weather(rate=12.5e6, delay=0.005, queue=125_000, loss=0.001)
        data = random.Random(12).randbytes(20_000_000)
        for seed in (1, 2, 4):
            transfer = Transfer(
                data,
                seed=seed,
                down=link,
                make_controller=CONTROLLERS["bbr"],
                rtt=0.01,
                stalls=(0.02, 0.02),
            )
            transfer.run()
            transfer.check()
            share = len(data) / transfer.duration / link.rate
            self.assertGreater(share, 0.89, f"seed {seed}")
