"""Whole transfers over a simulated link: every kind of weather, both ends, many seeds, no time
spent.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from chatbox.rdt import asking, receiver, sender, sender_states
from chatbox.rdt.congestion import ControllerFactory
from chatbox.rdt.congestion.bbr.machine import Bbr
from chatbox.rdt.congestion.cubic import Cubic
from chatbox.rdt.ends import End
from chatbox.rdt.packet import BASE_DATAGRAM, HEADER, NO_LIMIT, Kind, Train
from chatbox.rdt.receiver import Ended, Opened, Paused, Resumed, Verdict

from .helpers.crowd import Crowd
from .link import Link, MemorySink, MemorySource, Transfer, Weather, seeds

LINK = Weather(rate=2.5e6, delay=0.02, queue=100_000)
"""20 Mbit/s, 40 ms there and back, a queue of one round trip."""

DATA = random.Random(7).randbytes(300_000)

WEATHERS = {
    "clean": LINK,
    "loss of 1 %": replace(LINK, loss=0.01),
    "loss of 10 %": replace(LINK, loss=0.1),
    "loss of 30 %": replace(LINK, loss=0.3),
    "duplication": replace(LINK, duplicate=0.2),
    "reordering": replace(LINK, reorder=0.2),
    "corruption": replace(LINK, corrupt=0.1),
    "jitter": replace(LINK, jitter=0.05),
    "small queue": replace(LINK, queue=6_000),
    "slow": replace(LINK, rate=25_000.0, queue=10_000),
    "blackout of 3 s": replace(LINK, blackouts=((1000.05, 1003.05),)),
    "delayed by 3 s": replace(LINK, delay=3.0),
    "all at once": replace(LINK, loss=0.1, duplicate=0.1, reorder=0.1, corrupt=0.05, jitter=0.02),
}


CONTROLLERS: dict[str, ControllerFactory] = {
    "cubic": Cubic,
    "bbr": lambda datagram, now: Bbr(datagram, now, random.Random(1)),
}


class SlowSink(MemorySink):
    """A disk that takes its time with the file that is whole."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.is_ready = False

    def verdict(self) -> Verdict | None:
        """When the test says so."""
        return super().verdict() if self.is_ready else None

    def close(self, end: End) -> Verdict | None:
        """The verdict, if there is one."""
        verdict = self.verdict()
        self.ended = verdict.end if verdict else end
        return verdict


class WeatherTests(SynchronousTestCase):
    """Every transfer ends with the same bytes, no timer, and nothing in flight."""

    def test_every_weather_both_ways(self) -> None:
        """Whatever the link does to both directions, with and without a pause half way, the file
        arrives.
        """
        for weather in WEATHERS.values():
            for seed in seeds(3):
                for controller in CONTROLLERS.values():
                    transfer = Transfer(
                        DATA,
                        seed=seed,
                        down=weather,
                        pause_half_way=seed % 2 == 0,
                        make_controller=controller,
                    )
                    transfer.run()
                    transfer.check()

    def test_only_acknowledgements_suffer(self) -> None:
        """A way back that loses half of everything slows the transfer but does not break it."""
        for seed in seeds(3):
            transfer = Transfer(DATA, seed=seed, down=LINK, up=replace(LINK, loss=0.5))
            transfer.run()
            transfer.check()

    def test_many_seeds_of_the_worst(self) -> None:
        """The weather with everything in it, over many seeds."""
        for seed in range(100, 125):
            for controller in CONTROLLERS.values():
                transfer = Transfer(
                    DATA[:60_000],
                    seed=seed,
                    down=WEATHERS["all at once"],
                    make_controller=controller,
                )
                transfer.run()
                transfer.check()

    def test_small_files(self) -> None:
        """An empty file, one byte, and sizes around one packet's worth arrive like any other."""
        for size in (0, 1, 2, 1162, 1163, 1164, 2326, 64 * 1163, 64 * 1163 + 1):
            for pause in (False, True):
                transfer = Transfer(
                    DATA[:size], down=replace(LINK, loss=0.05), pause_half_way=pause
                )
                transfer.run()
                transfer.check()

    def test_kernel_that_breaks_trains(self) -> None:
        """If nothing arrives that left as a train, packets go singly before long."""
        transfer = Transfer(DATA, down=LINK)
        transfer.breaks_trains = True
        transfer.run()
        transfer.check()
        self.assertFalse(transfer.sender._path.joined)
        self.assertLess(transfer.duration, 20)
        whole = Transfer(DATA, down=replace(LINK, loss=0.3))
        whole.run()
        self.assertTrue(whole.sender._path.joined)

    def test_late_timers(self) -> None:
        """Timers that fire some milliseconds late, as real ones do, change only the speed."""
        transfer = Transfer(DATA, down=WEATHERS["loss of 10 %"], timer_slack=0.004)
        transfer.run()
        transfer.check()


class ShapeTests(SynchronousTestCase):
    """How a transfer uses its link."""

    def test_goodput_of_a_clean_link(self) -> None:
        """A clean link of 20 Mbit/s is at least nine tenths full of file."""
        data = random.Random(1).randbytes(8_000_000)
        for controller in CONTROLLERS.values():
            transfer = Transfer(data, down=LINK, make_controller=controller)
            transfer.run()
            transfer.check()
            self.assertGreaterEqual(len(data) / transfer.duration / LINK.rate, 0.9)

    def test_no_burst_above_the_pacer(self) -> None:
        """After start-up nothing leaves at one instant beyond the pacer's depth and one train."""
        transfer = Transfer(random.Random(1).randbytes(3_000_000), down=LINK)
        bursts: list[tuple[int, int]] = []

        def watch(transfer: Transfer) -> None:
            if transfer.sender.confirmed > 300_000:
                bursts.append((transfer.largest_burst, transfer.sender._path._pacer.depth))
            transfer.largest_burst = 0

        transfer.on_step = watch
        transfer.run()
        transfer.check()
        packet = 1200
        self.assertGreater(max(burst for burst, _ in bursts), 0)
        for burst, depth in bursts:
            self.assertLessEqual(burst, depth + packet, f"seed {transfer.seed}")

    def test_window_falls_once_per_episode(self) -> None:
        """All packets that one overflow costs reduce the window once, to seven tenths."""
        transfer = Transfer(random.Random(1).randbytes(4_000_000), down=LINK)
        controller = transfer.sender._path.recovery.controller
        windows = [controller.window]

        def watch(transfer: Transfer) -> None:
            if controller.window != windows[-1]:
                windows.append(controller.window)

        transfer.on_step = watch
        transfer.run()
        transfer.check()
        falls = [(a, b) for a, b in pairwise(windows) if b < a * 0.95]
        self.assertTrue(falls, "the link never overflowed: nothing was tested")
        for before, after in falls:
            self.assertGreater(
                after, before * 0.6, f"{before} fell to {after}: more than one reduction"
            )
        self.assertLess(len(falls), transfer.duration / 0.2)

    def test_nothing_is_sent_much_more_than_once(self) -> None:
        """With one packet in ten lost, the link carries hardly more than that makes necessary."""
        transfer = Transfer(DATA, down=WEATHERS["loss of 10 %"])
        transfer.run()
        transfer.check()
        self.assertLess(transfer.down.carried, 1.15 / 0.9 * len(DATA))

    def test_acknowledgements_stay_short(self) -> None:
        """On a path that loses much, the client does not name again what the server knows."""
        for controller in CONTROLLERS.values():
            transfer = Transfer(
                random.Random(1).randbytes(2_000_000),
                down=replace(LINK, loss=0.05),
                up=LINK,
                make_controller=controller,
            )
            sizes: list[int] = []
            send = transfer.up.send

            def tap(
                datagram: bytes,
                now: float,
                at: Callable[[float, bytes], None],
                sizes: list[int] = sizes,
                send: Callable[..., None] = send,
            ) -> None:
                sizes.append(len(datagram))
                send(datagram, now, at)

            transfer.up.send = tap  # type: ignore[method-assign]
            transfer.run()
            transfer.check()
            self.assertGreater(len(sizes), 100)
            self.assertLess(max(sizes), 500)

    def test_capped_by_the_server(self) -> None:
        """A server that may send so much a second in all takes so long."""
        transfer = Transfer(DATA, down=LINK, max_rate=100_000)
        transfer.run()
        transfer.check()
        self.assertGreater(transfer.duration, len(DATA) / 100_000 * 0.9)
        self.assertLess(transfer.duration, len(DATA) / 100_000 * 1.2)

    def test_words_are_not_capped(self) -> None:
        """However little the server may send, what it has to say is said at once."""
        transfer = Transfer(DATA, down=LINK, max_rate=1000, auto_proceed=False)
        transfer.run(until=5)
        transfer.call(lambda r, now: r.pause(now))
        transfer.run(until=5.1)
        self.assertEqual(transfer.events[-1], Paused(half_way=False))
        transfer.call(lambda r, now: r.cancel(now))
        transfer.run(until=5.3)
        transfer.check(End.CANCELLED)

    def test_limited_by_the_client(self) -> None:
        """A client that wants so much a second gets it, from the moment that it says so."""
        transfer = Transfer(DATA, down=LINK)
        transfer.at(0.05, lambda r, now: r.set_rate_limit(100_000, now))
        transfer.at(2.0, lambda r, now: r.set_rate_limit(NO_LIMIT, now))
        transfer.run()
        transfer.check()
        self.assertGreater(transfer.duration, 1.9)
        self.assertLess(transfer.duration, 2.6)

    def test_first_data_after_one_round_trip(self) -> None:
        """The first byte of the file is here one round trip after the first packet left."""
        transfer = Transfer(DATA, down=LINK)
        self.assertLess(transfer.run_and_time_the_first_byte(), 0.045)

    def test_small_file_on_a_far_path(self) -> None:
        """64 KB are there within one and a half round trips of 200 ms after the ticket."""
        far = Weather(rate=12.5e6, delay=0.1, queue=2_500_000)
        transfer = Transfer(DATA[:64_000], down=far, make_controller=CONTROLLERS["bbr"], rtt=0.2)
        transfer.run()
        transfer.check()
        self.assertLess(transfer.duration, 1.5 * 0.2)

    def test_large_sparse_file(self) -> None:
        """Five gigabytes of nothing arrive: offsets do not end at 32 bits."""

        class Zeros(MemorySource):
            def __init__(self) -> None:
                super().__init__(b"")
                self.size = 5 << 30

            def read_into(self, offset: int, buffer: memoryview) -> int:
                return len(buffer)

        class Counting(MemorySink):
            def write(self, offset: int, data: memoryview) -> None:
                self.written += len(data)

        source, last = Zeros(), (5 << 30) - 200_000
        transfer = Transfer(b"", down=LINK, source=source, sink=Counting(0, have=((0, last),)))
        transfer.receiver.size = 5 << 30
        transfer.run()
        self.assertIs(transfer.end, End.DONE)
        self.assertEqual(transfer.sink.written, 200_000)


class PauseTests(SynchronousTestCase):
    """Half way, and whenever somebody asks."""

    def test_half_way(self) -> None:
        """The sender stops when exactly half is there, says so, and goes on when told."""
        transfer = Transfer(DATA, down=LINK, pause_half_way=True, auto_proceed=False)
        transfer.run(until=600)
        self.assertEqual(transfer.events, [Opened(len(DATA)), Paused(half_way=True)])
        self.assertEqual(transfer.receiver.confirmed, len(DATA) // 2)
        self.assertEqual(transfer.sender.state, sender_states.State.PAUSED)
        transfer.call(lambda r, now: r.proceed(now))
        transfer.run()
        transfer.check()
        self.assertIn(Resumed(), transfer.events)

    def test_an_hour(self) -> None:
        """A pause of an hour ends as if it had been a second, and little was said meanwhile."""
        transfer = Transfer(DATA, down=LINK, pause_half_way=True, auto_proceed=False)
        transfer.run(until=3600)
        quiet = transfer.up.carried + transfer.down.carried - len(DATA) // 2
        self.assertLess(quiet, 200_000)
        transfer.call(lambda r, now: r.proceed(now))
        transfer.run()
        transfer.check()

    def test_asked_for(self) -> None:
        """PAUSE stops it in mid-file; PROCEED goes on; the pause half way still comes."""
        transfer = Transfer(DATA, down=LINK, pause_half_way=True, auto_proceed=False)
        transfer.at(0.08, lambda r, now: r.pause(now))
        transfer.run(until=60)
        self.assertEqual(transfer.events, [Opened(len(DATA)), Paused(half_way=False)])
        self.assertLess(transfer.receiver.confirmed, len(DATA) // 2)
        transfer.call(lambda r, now: r.proceed(now))
        transfer.run(until=120)
        self.assertEqual(transfer.events[2:], [Resumed(), Paused(half_way=True)])
        transfer.call(lambda r, now: r.proceed(now))
        transfer.run()
        transfer.check()

    def test_pause_before_the_first_answer(self) -> None:
        """A pause wished for before the server has answered holds from the beginning."""
        transfer = Transfer(DATA, down=LINK, auto_proceed=False)
        transfer.at(0.0, lambda r, now: r.pause(now))
        transfer.run(until=60)
        self.assertEqual(transfer.events[-1], Paused(half_way=False))
        self.assertLess(transfer.receiver.confirmed, 80_000)
        transfer.call(lambda r, now: r.proceed(now))
        transfer.run()
        transfer.check()

    def test_wishes_over_a_bad_link(self) -> None:
        """Pause and proceed are heard though half of all packets are lost."""
        for seed in seeds(5):
            transfer = Transfer(
                DATA,
                seed=seed,
                down=replace(LINK, loss=0.3),
                up=replace(LINK, loss=0.5),
                auto_proceed=False,
            )
            transfer.at(0.3, lambda r, now: r.pause(now))
            transfer.run(until=60)
            self.assertIn(Paused(half_way=False), transfer.events, f"seed {seed}")
            transfer.call(lambda r, now: r.proceed(now))
            transfer.run()
            transfer.check()

    def test_frozen_for_an_hour(self) -> None:
        """A computer that slept for an hour while paused does not take its own silence for the
        server's.
        """
        transfer = Transfer(DATA, down=LINK, pause_half_way=True, auto_proceed=False)
        transfer.run(until=20)
        transfer.network.now += 3600
        transfer.run(until=3700)
        self.assertIs(transfer.receiver.state, receiver.State.PAUSED)
        transfer.call(lambda r, now: r.proceed(now))
        transfer.run()
        transfer.check()

    def test_asleep_while_paused(self) -> None:
        """The server says little to a client that sleeps, and answers at once when it wakes."""
        transfer = Transfer(DATA, down=LINK, pause_half_way=True, auto_proceed=False)

        def fall_asleep(transfer: Transfer) -> None:
            transfer.asleep |= transfer.sender.state is sender_states.State.PAUSED

        transfer.on_step = fall_asleep
        transfer.run(until=1)
        self.assertTrue(transfer.asleep)
        before = transfer.down.carried
        transfer.run(until=7000)
        self.assertLess(transfer.down.carried - before, 10_000)
        transfer.asleep, transfer.on_step = False, lambda _: None
        woke_at = transfer.network.now
        transfer.run(until=7001)
        self.assertEqual(transfer.events[-1], Paused(half_way=True))
        transfer.call(lambda r, now: r.proceed(now))
        transfer.run(until=8000)
        transfer.check()
        assert transfer.ended_at is not None
        self.assertLess(transfer.ended_at - woke_at, 3)


class EndTests(SynchronousTestCase):
    """Every end has a name."""

    def test_cancelled(self) -> None:
        """A cancelled transfer ends at once here and soon at the server."""
        for after in (0.0, 0.03, 0.1):
            transfer = Transfer(DATA, down=LINK)
            transfer.at(after, lambda r, now: r.cancel(now))
            transfer.run()
            transfer.check(End.CANCELLED)
            self.assertLess(transfer.duration, after + 0.001)

    def test_interrupted(self) -> None:
        """A client that is stopped tells the server, which closes at once; the part is kept."""
        for after in (0.0, 0.03, 0.1):
            transfer = Transfer(DATA, down=LINK)
            transfer.at(after, lambda r, now: r.interrupt(now))
            transfer.run()
            transfer.check(End.INTERRUPTED)
            self.assertLess(transfer.duration, after + 0.001)
            self.assertLess(transfer.network.now - transfer.started_at, after + 0.3)
            ended = transfer.server_events[-1]
            self.assertIs(ended.end, End.INTERRUPTED)  # type: ignore[attr-defined]

    def test_all_is_here(self) -> None:
        """Once the whole file is here its digest decides, whatever the server says of its own, and
        also if it says nothing any more.
        """
        for end in (End.FILE_CHANGED, End.SERVER_STOPPING, None):
            transfer = Transfer(DATA, down=LINK, sink=(sink := SlowSink(len(DATA))))
            transfer.run(until=20.0)
            self.assertIs(transfer.receiver.state, receiver.State.VERIFYING)
            if end is None:
                transfer.down.weather = replace(LINK, loss=1.0)
            else:
                transfer.demux.abort(end, transfer.network.now)
            transfer.run(until=400.0)
            self.assertIsNone(transfer.receiver.next_timer())
            self.assertIs(transfer.receiver.state, receiver.State.VERIFYING)
            sink.is_ready = True
            transfer.call(lambda r, now: r.sink_ready(now))
            transfer.check()
            self.assertIs(transfer.receiver.state, receiver.State.CLOSED)

    def test_given_up_too_late(self) -> None:
        """Who gives up a file that has just got its name hears that it has arrived."""
        transfer = Transfer(DATA, down=LINK, sink=(sink := SlowSink(len(DATA))))
        transfer.run(until=20.0)
        sink.is_ready = True
        transfer.call(lambda r, now: r.cancel(now))
        transfer.run()
        transfer.check()
        self.assertIs(transfer.server_events[-1].end, End.DONE)  # type: ignore[attr-defined]

    def test_udp_blocked(self) -> None:
        """If nothing at all comes back, the client gives up after fifteen seconds and calls it
        silence.
        """
        transfer = Transfer(DATA, down=replace(LINK, loss=1.0))
        transfer.run()
        transfer.check(End.PEER_SILENT)
        self.assertLess(transfer.duration, 25)

    def test_asleep_while_opening(self) -> None:
        """A client that had no time to ask does not call it silence that it heard nothing."""
        transfer = Transfer(DATA, down=LINK)

        def sleep(asleep: bool) -> None:
            transfer.asleep = asleep

        transfer.network.at(transfer.started_at + 0.01, lambda _: sleep(True))
        transfer.network.at(transfer.started_at + asking.OPEN_TIMEOUT + 1, lambda _: sleep(False))
        transfer.run()
        transfer.check()

    def test_path_too_narrow(self) -> None:
        """If words come through and the file never does, packets are too long for the path."""
        data = DATA[:9_000]  # so that the last packet is short, and comes
        for whole in (data, DATA):
            for controller in CONTROLLERS.values():
                for delay in (0.02, 0.3):
                    narrow = replace(LINK, mtu=BASE_DATAGRAM - 1, delay=delay)
                    transfer = Transfer(whole, down=narrow, make_controller=controller)
                    transfer.run()
                    transfer.check(End.TOO_NARROW)
                    self.assertLess(transfer.duration, receiver.NARROW_TIMEOUT + 10)
        transfer = Transfer(DATA, down=replace(LINK, mtu=BASE_DATAGRAM))
        transfer.run()
        transfer.check()

    def test_path_that_was_wide(self) -> None:
        """A path that becomes too narrow later is called so as soon, if it stays that way; the
        server hears of it, and what has arrived is kept.
        """
        wide, narrow = replace(LINK, rate=5e5), replace(LINK, rate=5e5, mtu=BASE_DATAGRAM - 1)
        for controller in CONTROLLERS.values():
            for again, end in ((4000.0, End.TOO_NARROW), (20.0, End.DONE)):
                transfer = Transfer(DATA, down=wide, up=LINK, make_controller=controller)
                transfer.at(0.4, partial(self.become, transfer.down, narrow))
                transfer.at(again, partial(self.become, transfer.down, wide))
                transfer.run()
                transfer.check(end)
                self.assertGreater(transfer.sink.written, 0)
                self.assertLess(transfer.duration, 0.4 + receiver.NARROW_TIMEOUT + 10)

    def test_path_that_carries_next_to_nothing(self) -> None:
        """It is not called narrow."""
        transfer = Transfer(DATA, down=replace(LINK, rate=5e5), up=LINK, seed=40)
        transfer.at(0.0, partial(self.become, transfer.down, replace(LINK, loss=0.98)))
        transfer.at(90, partial(self.become, transfer.down, LINK))
        transfer.run()
        self.assertIsNot(transfer.end, End.TOO_NARROW)

    def test_slow_path_that_loses_much(self) -> None:
        """However many words there are over a transfer, data among them says that it is wide."""
        self.patch(receiver, "NARROW_STATUSES", 5)
        slow = replace(LINK, rate=2e3, loss=0.1)
        transfer = Transfer(DATA[:150_000], down=slow, up=LINK, make_controller=CONTROLLERS["bbr"])
        transfer.run()
        transfer.check()
        self.assertGreater(transfer.down.dropped, receiver.NARROW_LOST)

    def test_words_from_before_a_pause(self) -> None:
        """They say nothing of the path as it is after the pause."""
        wide, narrow = replace(LINK, rate=5e5), replace(LINK, rate=5e5, mtu=BASE_DATAGRAM - 1)
        transfer = Transfer(DATA, down=wide, up=LINK, auto_proceed=False)
        transfer.at(0.4, partial(self.become, transfer.down, narrow))
        transfer.at(25.0, lambda r, now: r.pause(now))
        transfer.at(50.0, partial(self.become, transfer.down, wide))
        transfer.at(51.0, lambda r, now: r.proceed(now))
        transfer.run()
        transfer.check()

    def become(self, link: Link, weather: Weather, *_: object) -> None:
        """Give a link another weather."""
        link.weather = weather

    def test_server_that_hardly_sends(self) -> None:
        """It is not the path's fault if a server has next to nothing for each of many."""
        crowd = Crowd(DATA, (4, 4), Cubic, link=LINK, max_rate=100)
        crowd.run(90)
        for member in crowd.members:
            self.assertNotIn(member.receiver.state, (receiver.State.ENDING, receiver.State.CLOSED))

    def test_server_gone(self) -> None:
        """A server that falls silent in mid-file is given up after half a minute."""
        transfer = Transfer(DATA, down=replace(LINK, blackouts=((1000.1, 9999.0),)))
        transfer.run()
        transfer.check(End.PEER_SILENT)
        self.assertGreater(transfer.duration, 30)
        self.assertLess(transfer.duration, 60)

    def doubted(
        self,
        *,
        blackouts: tuple[tuple[float, float], ...],
        after: float,
        sink: MemorySink | None = None,
    ) -> Transfer:
        """The transfer of a client whose chat connection ends so many seconds after it began."""
        weather = replace(LINK, rate=5e5, blackouts=blackouts)
        transfer = Transfer(DATA, down=weather, sink=sink)
        transfer.at(after, lambda r, now: r.doubt(now))
        return transfer

    def test_server_gone_with_the_chat(self) -> None:
        """It is given up in seconds, whatever was still on its way; before the first answer, too,
        and while it is paused.
        """
        for gone, after in ((1000.4, 0.39), (1000.4, 0.42), (1000.0, 0.01), (1000.8, 1.0)):
            transfer = self.doubted(blackouts=((gone, 9999.0),), after=after)
            if gone == 1000.8:
                transfer.at(0.4, lambda r, now: r.pause(now))
            transfer.run()
            self.assertIs(transfer.end, End.PEER_SILENT)
            self.assertGreater(transfer.duration, after + asking.DOUBT_TIMEOUT - 0.1)
            self.assertLess(transfer.duration, after + asking.DOUBT_TIMEOUT + 1)

    def test_chat_gone_and_server_there(self) -> None:
        """Who answers is trusted again: what is lost later costs nobody the transfer."""
        transfer = self.doubted(blackouts=((1002.1, 1012.0),), after=0.2)
        transfer.auto_proceed = False
        transfer.at(0.25, lambda r, now: r.pause(now))
        transfer.at(2.0, lambda r, now: r.proceed(now))
        transfer.run()
        transfer.check()

    def test_chat_gone_on_a_far_path(self) -> None:
        """There every question gets its time."""
        transfer = Transfer(DATA, down=replace(LINK, delay=0.6), rtt=1.2)
        transfer.at(2.0, lambda r, now: r.doubt(now))
        transfer.run()
        transfer.check()

    def test_chat_gone_when_all_is_here(self) -> None:
        """Then a server that is gone costs nothing, however slow the disk."""

        class Slow(MemorySink):
            judges = False

            def verdict(self) -> Verdict | None:
                return super().verdict() if self.judges else None

        sink = Slow(len(DATA))
        transfer = self.doubted(blackouts=((1001.0, 1099.0),), after=0.4, sink=sink)
        transfer.run(until=20)
        self.assertIs(transfer.receiver.state, receiver.State.VERIFYING)
        sink.judges = True
        transfer.call(lambda r, now: r.sink_ready(now))
        transfer.run()
        transfer.check()

    def test_client_gone(self) -> None:
        """A client that vanishes leaves nothing behind at the server."""
        transfer = Transfer(DATA, down=LINK)
        transfer.run(until=0.1)
        transfer.client_address = ("nowhere", 0)
        transfer.receiver.state = receiver.State.CLOSED
        transfer.run()
        self.assertEqual(len(transfer.demux), 0)
        self.assertEqual(
            [type(event).__name__ for event in transfer.server_events], ["Opened", "Ended"]
        )
        self.assertIs(transfer.server_events[-1].end, End.PEER_SILENT)  # type: ignore[attr-defined]

    def test_file_changed_at_the_end(self) -> None:
        """A file that was changed while it was being sent ends the transfer, and says so."""
        source = MemorySource(DATA, hashed=False)
        source.is_changed = True
        transfer = Transfer(DATA, down=LINK, source=source)
        transfer.run()
        transfer.check(End.FILE_CHANGED)

    def test_file_changed_on_the_way(self) -> None:
        """Of a file that has changed no more is sent a second later, nor while it stands."""
        data = DATA * 20
        for pause in (False, True):
            source = MemorySource(data)
            transfer = Transfer(data, down=LINK, source=source)
            if pause:
                transfer.at(0.4, lambda r, now: r.pause(now))
            transfer.run(until=0.5)
            source.is_changed = True
            transfer.run()
            transfer.check(End.FILE_CHANGED)
            self.assertLess(transfer.sink.written, 1.6 * LINK.rate)
            self.assertLess(transfer.duration, 2.0 if not pause else 20.0)

    def test_file_shortened(self) -> None:
        """A file that is shorter than it was ends the transfer when its end is read."""
        source = MemorySource(DATA)
        transfer = Transfer(DATA, down=LINK, source=source)
        source.data = DATA[:100_000]
        transfer.run()
        transfer.check(End.FILE_CHANGED)

    def test_file_unreadable(self) -> None:
        """An error of the server's disk ends the transfer, and says so."""

        class Broken(MemorySource):
            def read_into(self, offset: int, buffer: memoryview) -> int:
                if offset > 100_000:
                    raise OSError(5, "Input/output error")
                return super().read_into(offset, buffer)

        transfer = Transfer(DATA, down=LINK, source=Broken(DATA))
        transfer.run()
        transfer.check(End.FILE_UNREADABLE)

    def test_slow_disk(self) -> None:
        """What the disk has not given yet is asked for again in a while, and nothing else waits."""

        class Cold(MemorySource):
            def __init__(self) -> None:
                super().__init__(DATA)
                self.refused: list[float] = []
                self.there = 0

            def read_into(self, offset: int, buffer: memoryview) -> int:
                if offset + len(buffer) > self.there:
                    self.refused.append(transfer.network.now)
                    if len(self.refused) % 3 == 0:  # each time the third is answered
                        self.there = offset + 50_000
                    raise BlockingIOError
                return super().read_into(offset, buffer)

        source = Cold()
        transfer = Transfer(DATA, down=LINK, source=source, make_controller=CONTROLLERS["bbr"])
        transfer.run()
        transfer.check()
        self.assertGreater(len(source.refused), 3 * (len(DATA) // 50_000 - 1))
        for before, after in pairwise(source.refused):
            self.assertGreaterEqual(after - before, 0.9 * sender.READ_RETRY)

    def test_disk_full(self) -> None:
        """A full disk at the client, or one for which the file is too long, ends the transfer on
        both sides.
        """
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            transfer = Transfer(DATA, down=LINK)
            transfer.sink.fail_at = 150_000
            transfer.sink.error = OSError(number, "No space left on device")
            transfer.run()
            transfer.check(End.DISK_FULL)
            ended: Any = transfer.server_events[-1]
            self.assertIs(ended.end, End.DISK_FULL)

    def test_disk_error(self) -> None:
        """Any other trouble with the client's disk is told as it is."""
        transfer = Transfer(DATA, down=LINK)
        transfer.sink.fail_at = 150_000
        transfer.sink.error = OSError(5, "Input/output error")
        transfer.run()
        transfer.check(End.DISK_ERROR)

    def test_hash_mismatch(self) -> None:
        """If what arrived is not what was hashed, the file is not given its name."""

        class Lying(MemorySource):
            def digest(self) -> bytes | None:
                return bytes(32)

        transfer = Transfer(DATA, down=LINK, source=Lying(DATA))
        transfer.run()
        transfer.check(End.HASH_MISMATCH)

    def test_late_digest(self) -> None:
        """A digest that takes longer than the file is waited for."""
        source = MemorySource(DATA, hashed=False)
        transfer = Transfer(DATA, down=replace(LINK, loss=0.2), source=source)

        def hashed(_: float) -> None:
            source.hashed = True
            transfer.demux.digest_ready(transfer.served, transfer.network.now)
            transfer._serve_server()

        transfer.network.at(1020.0, hashed)
        transfer.run()
        transfer.check()
        self.assertGreater(transfer.duration, 20)

    def test_server_stops(self) -> None:
        """A server that shuts down tells its clients."""
        transfer = Transfer(DATA, down=LINK)

        def stop(now: float) -> None:
            transfer.demux.abort(End.SERVER_STOPPING, now)
            transfer._serve_server()

        transfer.network.at(1000.1, stop)
        transfer.run()
        transfer.check(End.SERVER_STOPPING)

    def test_ticket_expires(self) -> None:
        """A ticket that nobody uses is worth nothing after half a minute."""
        transfer = Transfer(DATA, down=LINK, up=replace(LINK, blackouts=((0.0, 1031.0),)))
        transfer.run()
        transfer.check(End.PEER_SILENT)
        self.assertEqual(transfer.sink.written, 0)

    def test_size_differs(self) -> None:
        """A file that changed its size between the offer and the opening is noticed."""
        transfer = Transfer(DATA, down=LINK)
        transfer.receiver.size = len(DATA) + 1
        transfer.run()
        self.assertIs(transfer.end, End.FILE_CHANGED)


class AttackTests(SynchronousTestCase):
    """What somebody without the ticket can do: nothing."""

    def test_random_datagrams(self) -> None:
        """Noise to both ends, also with the right connection id, is dropped and answered by
        nothing.
        """
        transfer = Transfer(DATA, down=LINK)
        rng = random.Random(5)

        def noise(transfer: Transfer) -> None:
            junk = rng.randbytes(rng.randrange(100))
            named = HEADER.pack(
                rng.randrange(0x11, 0x16), transfer.ticket.connection_id, rng.randrange(1 << 40)
            )
            for datagram in (junk, named + rng.randbytes(60)):
                before = transfer.down.carried
                train = Train(memoryview(datagram), max(1, len(datagram)))
                transfer.demux.receive(train, ("mallory", 6), transfer.network.now)
                self.assertEqual(
                    [
                        x
                        for x in transfer.demux.trains_to_send(transfer.network.now)
                        if x[1] == ("mallory", 6)
                    ],
                    [],
                )
                self.assertEqual(transfer.down.carried, before)
                transfer.receiver.receive(train, transfer.network.now)

        for after in (0.01, 0.05, 0.1, 0.15):
            transfer.network.at(1000 + after, lambda _: noise(transfer))
        transfer.run()
        transfer.check()
        self.assertGreaterEqual(transfer.receiver.dropped, 4)

    def test_replayed_opening(self) -> None:
        """A copy of the client's own packets from elsewhere moves nothing there."""
        transfer = Transfer(DATA, down=LINK)
        copies: list[bytes] = []
        send = transfer.up.send

        def tap(datagram: bytes, now: float, at: object) -> None:
            if now < 1000.09:  # those that have arrived when the copies do
                copies.append(datagram)
            send(datagram, now, at)  # type: ignore[arg-type]

        transfer.up.send = tap  # type: ignore[method-assign]

        def replay(now: float) -> None:
            for copy in copies:
                transfer.demux.receive(Train(memoryview(copy), len(copy)), ("mallory", 6), now)
            for _, address in transfer.demux.trains_to_send(now):
                self.assertNotEqual(address, ("mallory", 6))

        transfer.network.at(1000.12, replay)
        transfer.run()
        self.assertGreater(len(copies), 3)
        self.assertIs(transfer.end, End.DONE)

    def test_ticket_used_twice(self) -> None:
        """A second client with the same ticket gets nothing, and the first is not disturbed."""
        transfer = Transfer(DATA, down=LINK)
        transfer.run(until=0.1)
        thief = receiver.Receiver(
            transfer.ticket, len(DATA), MemorySink(len(DATA)), transfer.network.now
        )
        for train in thief.trains_to_send(transfer.network.now):
            transfer.demux.receive(train, ("mallory", 6), transfer.network.now)
        for _, address in transfer.demux.trains_to_send(transfer.network.now):
            self.assertNotEqual(address, ("mallory", 6))
        transfer.run()
        self.assertIs(transfer.end, End.DONE)


class TransitionTests(SynchronousTestCase):
    """The tables of states."""

    def test_every_state_is_listed_and_closed_is_final(self) -> None:
        """Each table names each state, and only CLOSED has no way out."""
        for module in (sender, receiver):
            self.assertEqual(set(module.TRANSITIONS), set(module.State))
            final = [state for state, following in module.TRANSITIONS.items() if not following]
            self.assertEqual(final, [module.State.CLOSED])

    def test_transfers_use_the_whole_tables(self) -> None:
        """The transfers of this file's kinds walk through every state of both sides."""
        seen: set[object] = set()

        def watch(transfer: Transfer) -> None:
            seen.update((transfer.sender.state, transfer.receiver.state))

        transfer = Transfer(
            DATA, down=LINK, pause_half_way=True, source=MemorySource(DATA, hashed=False)
        )
        seen.update((transfer.sender.state, transfer.receiver.state, receiver.State.VERIFYING))
        transfer.on_step = watch

        def hashed(_: float) -> None:
            transfer.source.hashed = True
            transfer.demux.digest_ready(transfer.served, transfer.network.now)
            transfer._serve_server()

        transfer.network.at(1010.0, hashed)
        transfer.run()
        transfer.check()
        self.assertEqual(seen, {*sender_states.State, *receiver.State})
        self.assertIsInstance(transfer.events[-1], Ended)


class MigrationTests(SynchronousTestCase):
    """The client's address changes in mid-file."""

    def moving(self, weather: Weather = LINK) -> Transfer:
        """A transfer whose client has another address from 0.1 s on."""
        transfer = Transfer(DATA, down=weather)

        def move(now: float) -> None:
            transfer.client_address = ("client", 2)

        transfer.network.at(1000.1, move)
        return transfer

    def test_new_address(self) -> None:
        """The transfer follows, soon, and ends well, over good links and bad ones."""
        for weather in (LINK, replace(LINK, loss=0.2), replace(LINK, loss=0.1, reorder=0.2)):
            for seed in seeds(3):
                transfer = self.moving(weather)
                transfer.random.seed(seed)
                transfer.run()
                transfer.check()
                self.assertEqual(transfer.sender.address, ("client", 2))
        quick = self.moving()
        quick.run()
        self.assertLess(quick.duration, 3)

    def test_no_data_before_the_proof(self) -> None:
        """A copied packet from elsewhere gets one STATUS, never data, and moves nothing."""
        transfer = Transfer(DATA, down=LINK)
        got: list[int] = []
        send = transfer.up.send

        def copy(datagram: bytes, now: float, at: Callable[[float, bytes], None]) -> None:
            if now > 1000.1:  # the thief is faster than the client itself
                train = Train(memoryview(datagram), len(datagram))
                transfer.demux.receive(train, ("mallory", 6), now)
                for reply, address in transfer.demux.trains_to_send(now):
                    if address == ("mallory", 6):
                        got.extend([reply.data[0]] * (len(reply.data) // reply.segment))
            send(datagram, now, at)

        transfer.up.send = copy  # type: ignore[method-assign]
        transfer.run(until=0.14)
        self.assertTrue(got, "the thief was not even tried")
        self.assertEqual(set(got), {Kind.STATUS})
        self.assertEqual(transfer.sender.address, transfer.client_address)

    def test_nothing_to_who_never_asked(self) -> None:
        """
        Whoever writes the address of others on OPEN has one STATUS sent to them for each packet,
        little longer than it, and nothing more, however long they are silent.
        """
        transfer = Transfer(DATA, down=LINK)
        transfer.client_address = ("victim", 1)
        self.assertEqual(transfer.receiver.state, receiver.State.OPENING)
        asked = b"".join(bytes(train.data) for train in transfer.receiver.trains_to_send(1000.0))
        sent: list[tuple[bytes, object]] = []
        now = 1000.0
        for again in range(3):
            number = HEADER.unpack_from(asked)[2]
            self.assertEqual(number, 0)
            transfer.demux.receive(
                Train(memoryview(asked), len(asked)), transfer.client_address, now
            )
            while now < 1000.0 + 10 * (again + 1):
                for train, address in transfer.demux.trains_to_send(now):
                    sent.append((bytes(train.data), address))
                now += 0.01
                transfer.demux.on_timer(now)
        self.assertEqual(
            [(data[0], address) for data, address in sent], [(Kind.STATUS, transfer.client_address)]
        )
        self.assertLess(len(sent[0][0]), 3 * len(asked))
        self.assertIsNone(transfer.sender.address)

    def test_another_way_than_the_chat(self) -> None:
        """A client whose packets come from elsewhere than its chat has the file a round later."""
        durations = []
        for address in ("client", 1), ("elsewhere", 1):
            transfer = Transfer(DATA, down=LINK, rtt=0.04)
            transfer.client_address = address
            transfer.run()
            transfer.check()
            durations.append(transfer.duration)
        self.assertLess(durations[1] - durations[0], 2 * 0.04 + 0.02)

    def test_back_and_forth(self) -> None:
        """A client that keeps changing its address still gets the file."""
        transfer = Transfer(DATA, down=replace(LINK, rate=250_000.0))
        for step in range(10):

            def move(now: float, step: int = step) -> None:
                transfer.client_address = ("client", step % 3)

            transfer.network.at(1000.2 + 0.3 * step, move)
        transfer.run()
        transfer.check()
