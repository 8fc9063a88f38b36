"""Downloads that were broken off and go on: on the simulated link, and after real kills."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

from chatbox.rdt.ends import End
from chatbox.rdt.receiver import Opened, Paused
from tests.helpers.kills import MOST_LOST, Trial, Victim
from tests.link import MemorySink, MemorySource, Transfer, Weather

LINK = Weather(rate=2.5e6, delay=0.02, queue=100_000)
"""20 Mbit/s, 40 ms there and back, a queue of one round trip."""

DATA = random.Random(7).randbytes(600_000)

HOLES = ((0, 200_000), (210_000, 290_000), (290_001, 450_000), (599_999, 600_000))


def resumed(
    *have: tuple[int, int], down: Weather = LINK, pause_half_way: bool = False, seed: int = 1
) -> Transfer:
    """A transfer of DATA to a client that has these ranges of it."""
    sink = MemorySink(len(DATA), have=have, old=DATA)
    return Transfer(DATA, seed=seed, down=down, sink=sink, pause_half_way=pause_half_way)


class LinkTests(SynchronousTestCase):
    """Only what is missing travels."""

    def test_only_the_rest_is_sent(self) -> None:
        """With holes anywhere, the link carries what is missing and hardly anything else."""
        missing = len(DATA) - sum(stop - start for start, stop in HOLES)
        transfer = resumed(*HOLES)
        transfer.run()
        transfer.check()
        self.assertEqual(transfer.sink.written, missing)
        # Headers, status, and what is sent to find out how large a packet may be.
        self.assertLess(transfer.down.carried, missing * 1.1 + 25_000)

    def test_bad_weather(self) -> None:
        """Losses, detours and doubles change nothing about that but the time."""
        missing = len(DATA) - sum(stop - start for start, stop in HOLES)
        bad = Weather(rate=2.5e6, delay=0.02, queue=100_000, loss=0.1, duplicate=0.1, reorder=0.1)
        for seed in range(1, 6):
            transfer = resumed(*HOLES, down=bad, seed=seed)
            transfer.run()
            transfer.check()
            self.assertEqual(transfer.sink.written, missing, f"seed {seed}")

    def test_any_holes(self) -> None:
        """Whatever an earlier attempt has left, the file is right in the end."""
        rng = random.Random(5)
        for seed in range(1, 21):
            edges = sorted(rng.sample(range(len(DATA) + 1), 2 * rng.randint(1, 60)))
            transfer = resumed(*zip(edges[::2], edges[1::2], strict=True), seed=seed)
            transfer.run()
            transfer.check()

    def test_first_new_byte_after_one_round_trip(self) -> None:
        """A resumed transfer is as quick to begin as a new one."""
        transfer = resumed((0, 450_000))
        self.assertLess(transfer.run_and_time_the_first_byte(), 0.045)

    def test_half_way_is_past(self) -> None:
        """Who was asked half way is not asked again; who has not come so far is."""
        transfer = resumed((0, 300_000), pause_half_way=True, seed=2)
        transfer.run()
        transfer.check()
        self.assertNotIn(Paused(half_way=True), transfer.events)
        transfer = resumed((0, 299_999), (300_000, 400_000), pause_half_way=True)
        transfer.run()
        transfer.check()
        self.assertIn(Paused(half_way=True), transfer.events)

    def test_half_way_is_the_end(self) -> None:
        """Nobody is asked half way if all is here by then but for the digest."""
        source = MemorySource(DATA, hashed=False)
        sink = MemorySink(len(DATA), have=((300_000, 600_000),), old=DATA)
        transfer = Transfer(DATA, down=LINK, source=source, sink=sink, pause_half_way=True)

        def hashed(_: float) -> None:
            source.hashed = True
            transfer.demux.digest_ready(transfer.served, transfer.network.now)
            transfer._serve_server()

        transfer.network.at(transfer.network.now + 60, hashed)
        transfer.run()
        transfer.check()
        self.assertNotIn(Paused(half_way=True), transfer.events)

    def test_everything_is_there(self) -> None:
        """A file that was killed just before it got its name needs no byte, only its digest."""
        transfer = resumed((0, len(DATA)))
        transfer.run()
        transfer.check()
        self.assertEqual(transfer.sink.written, 0)
        self.assertLess(transfer.down.carried, 5000)

    def test_progress_counts_what_was_there(self) -> None:
        """Progress is bytes confirmed, earlier attempts included; the rate is of new bytes only."""
        transfer = resumed((0, 450_000))
        seen: list[tuple[int, float]] = []

        def watch(transfer: Transfer) -> None:
            progress = transfer.receiver.progress(transfer.network.now)
            seen.append((progress.confirmed, progress.rate))

        transfer.on_step = watch
        transfer.run()
        self.assertGreaterEqual(min(confirmed for confirmed, _ in seen), 450_000)
        self.assertLess(max(rate for _, rate in seen), 1.2 * LINK.rate)

    def test_another_file(self) -> None:
        """A server that then sends another file than it offered is not believed."""
        source = MemorySource(DATA)
        source.mtime_ns = 5
        sink = MemorySink(len(DATA), have=((0, 1000),), old=DATA)
        transfer = Transfer(DATA, down=LINK, source=source, sink=sink)
        transfer.run()
        transfer.check(End.FILE_CHANGED)
        self.assertIn(Opened(len(DATA)), transfer.events)


KILLS = int(os.environ.get("CHATBOX_KILLS", "3"))
"""How often each side is killed. More of them: CHATBOX_KILLS=20 pytest tests/test_resume.py"""


@pytest.mark.parametrize("victim", list(Victim))
def test_kill(victim: Victim, tmp_path: Path) -> None:
    """A download whose client, or server, is killed again and again comes to its end: byte for
    byte, and each kill costs no more than it may.
    """
    with Trial(tmp_path, seed=KILLS, kills=KILLS) as trial:
        deaths = [trial.kill(victim) for _ in range(KILLS)]
        trial.finish()
    assert trial.arrived(), trial.story
    assert max(death.lost for death in deaths) <= MOST_LOST, deaths
    # Each attempt begins with what the last one has left.
    claimed = [100 * death.claimed // trial.size if death.claimed else -1 for death in deaths]
    assert trial.resumed == claimed, (deaths, trial.story)
    assert trial.carried < 1.2 * (trial.size - deaths[-1].claimed) + MOST_LOST


@pytest.mark.parametrize("contents", [True, False])
def test_changed_meanwhile(contents: bool, tmp_path: Path) -> None:
    """A file that was changed between two attempts is fetched anew, and that is said."""
    with Trial(tmp_path, seed=1, kills=1) as trial:
        assert trial.kill(Victim.CLIENT, claimed=True).claimed
        trial.change(contents=contents)
        trial.finish()
    assert "changed since the last attempt: starting over" in trial.story
    assert trial.arrived()


def test_stopped_by_ctrl_c(tmp_path: Path) -> None:
    """Who stops a download with Ctrl-C loses hardly anything of what has come, and is let go."""
    with Trial(tmp_path, seed=1, kills=1) as trial:
        death = trial.kill(Victim.CLIENT, gently=True, claimed=True)
        trial.server_says("has ended: INTERRUPTED")
        trial.finish()
    assert death.claimed
    assert death.lost < 1 << 20
    assert trial.arrived()
    assert trial.resumed == [100 * death.claimed // trial.size]
