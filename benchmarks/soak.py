"""What is left of a server after everything that can happen to one has happened, over and over?

People talk through a network that is cut at random; others look in, download, vanish, flood, stall,
send garbage and knock. After each round everybody falls silent, and the server is measured. At the
end it must have no more memory (but for 8 MiB), sockets, other descriptors (but for 2), threads,
people and open files than after the first round; and every message that was acknowledged must be in
the log once, and in the transcript of each who was there, once and in order. Exit status 1 if not.

The first round is the warm-up that the others are measured by. With ``--tls`` everybody speaks TLS,
but for some enemies; with ``--log redis`` the log is in a Redis that runs for this alone.
"""

from __future__ import annotations

import argparse
import socket
import sys
import time
from pathlib import Path

from common import REPOSITORY, end_well_on_signals, free_port, machine_line, number, say, table
from common import workspace as make_workspace

sys.path.insert(0, str(REPOSITORY))

from chatbox.log.sqlite import FILE_NAME
from chatbox.log.store import Reader
from tests.helpers.crash import check
from tests.helpers.redis import MISSING, RedisServer
from tests.helpers.redis import stored as read_redis
from tests.helpers.server import free_port as free_port_of
from tests.helpers.soak import Soak, judge


def main() -> None:
    """Soak, judge, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=5.0, help="in all, without the rests")
    parser.add_argument("--round", type=float, default=30.0, help="seconds from rest to rest")
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--breath", type=float, default=0.2, help="between two messages, s")
    parser.add_argument("--tls", action="store_true", help="everybody comes by TLS")
    parser.add_argument("--log", choices=("sqlite", "redis"), default="sqlite")
    parser.add_argument("--restarts", action="store_true", help="restart in every other round")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dir", default="/var/tmp", help="a folder on the disk to use")
    options = parser.parse_args()
    end_well_on_signals()
    print(machine_line())
    print(f"seed {options.seed}")
    with make_workspace(options.dir) as folder:
        if options.log == "redis":
            complaints = run_on_redis(folder, options)
        else:
            complaints = run(folder, options, "sqlite:")
    print("all is as it was" if not complaints else f"BROKEN: {'; '.join(complaints)}")
    sys.exit(bool(complaints))


def run_on_redis(folder: Path, options: argparse.Namespace) -> list[str]:
    """The same with a Redis of its own."""
    if MISSING:
        sys.exit(MISSING)
    redis = RedisServer(folder / "redis")
    redis.start()
    try:
        return run(folder, options, redis.url)
    finally:
        redis.kill()


def run(folder: Path, options: argparse.Namespace, log_url: str) -> list[str]:
    """Soak in `folder`, print what happened, and return what is wrong."""
    soak = Soak(
        folder,
        free_port(),
        free_port_of(socket.SOCK_DGRAM),
        seed=options.seed,
        people=options.people,
        breath=options.breath,
        tls_port=free_port() if options.tls else 0,
        log=log_url,
    )
    began = time.monotonic()
    rounds = max(2, round(options.minutes * 60 / options.round))
    broken: list[str] = []
    try:
        for one in range(rounds):
            restart_after = options.round / 2 if options.restarts and one % 2 == 1 else None
            rest = soak.round(options.round, restart_after=restart_after)
            say(
                f"round {one + 1} of {rounds}: {rest.memory / 2**20:.1f} MiB,"
                f" {rest.descriptors} descriptors, {rest.threads} threads, {rest.people} people"
            )
        soak.server.stop()
    except AssertionError as error:
        broken.append(str(error))
    finally:
        soak.close()
    stored = read_redis(log_url) if options.log == "redis" else read_log(folder)
    try:
        check(soak.people, stored)
    except AssertionError as error:
        broken.append(str(error))
    log = (folder / "twistd.log").read_text(errors="replace")
    if "Traceback" in log:
        broken.append("the server's log has a traceback:\n" + log[log.index("Traceback") :][:3000])
    tally = soak.tally
    rows = [
        ["seconds", number(time.monotonic() - began, 0)],
        ["messages acknowledged", number(sum(len(p.acknowledged) for p in soak.people), 0)],
        ["messages in the log", number(len(stored), 0)],
        ["network cuts", number(tally.cuts, 0)],
        ["connections of people that were cut", number(sum(p.cuts for p in soak.people), 0)],
        ["restarts", number(tally.restarts, 0)],
        ["visits", number(tally.visits, 0)],
        ["downloads", number(tally.downloads, 0)],
        ["of them killed", number(tally.killed_downloads, 0)],
        *([f"enemies: {name}", number(count, 0)] for name, count in sorted(tally.enemies.items())),
    ]
    print(table(["", "value"], rows))
    rests = [
        [str(i + 1), f"{r.memory / 2**20:.1f}", *map(str, (r.descriptors, r.threads, r.people))]
        for i, r in enumerate(tally.rests)
    ]
    print(table(["after round", "MiB", "descriptors", "threads", "people"], rests))
    return broken + judge(tally.rests)


def read_log(folder: Path) -> list[tuple[int, str]]:
    """What everybody may read in the log, by place."""
    reader = Reader(str(folder / "state" / FILE_NAME))
    stored = [(record.id, record.text) for record in reader.history(0, 100_000_000, "")]
    reader.close()
    return stored


if __name__ == "__main__":
    main()
