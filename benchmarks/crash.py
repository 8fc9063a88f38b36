"""Is what was acknowledged still there, once, after a hundred crashes?

People talk; the server is killed (SIGKILL) at random moments and started again at once. With
``--log redis`` three servers share one Redis that syncs always, and every fifth kill is that of
Redis itself; people go on at another server. In the end
every message that was acknowledged must be in the log exactly once, and every transcript must have
all of them once, in the order of the log. Exit status 1 if not.

A killed process leaves what it has written to the system, so this shows that nothing is told before
it is written, that nothing is said twice, and that a log which was cut off anywhere is read again;
not what the disk does when the power goes.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

from common import REPOSITORY, end_well_on_signals, free_port, machine_line, number, say, table
from common import workspace as make_workspace

sys.path.insert(0, str(REPOSITORY))

from chatbox.log.sqlite import FILE_NAME
from chatbox.log.store import Reader
from tests.helpers.crash import Server, Talker, check, talk_through_kills
from tests.helpers.redis import MISSING, RedisServer, stored


def main() -> None:
    """Kill, check, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--log", choices=("sqlite", "redis"), default="sqlite")
    parser.add_argument("--nodes", type=int, default=3, help="servers on one Redis")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--pause", type=float, default=0.5, help="longest between two kills, s")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dir", default="/var/tmp", help="a folder on the disk to use")
    options = parser.parse_args()
    end_well_on_signals()
    print(machine_line())
    began = time.monotonic()
    with make_workspace(options.dir) as folder:
        run = run_cluster if options.log == "redis" else run_alone
        talkers, kept = run(folder, options)
    try:
        check(talkers, kept)
        verdict = "kept"
    except AssertionError as error:
        verdict = f"BROKEN: {error}"
    acknowledged = sum(len(talker.acknowledged) for talker in talkers)
    rows = [
        ["log", options.log],
        ["kills", number(options.kills, 0)],
        ["people", number(options.people, 0)],
        ["seconds", number(time.monotonic() - began, 0)],
        ["messages acknowledged", number(acknowledged, 0)],
        ["messages in the log", number(len(kept), 0)],
        ["connections that were cut", number(sum(talker.cuts for talker in talkers), 0)],
        ["the promise is", verdict],
    ]
    print(table(["", "value"], rows))
    sys.exit(verdict != "kept")


def run_alone(
    folder: Path, options: argparse.Namespace
) -> tuple[list[Talker], list[tuple[int, str]]]:
    """Talk and kill; answer the talkers, and what the log has."""
    server = Server(folder, free_port(), "--state-dir", str(folder / "state"))
    try:
        talkers = talk(options, [server], None)
        server.stop()
    finally:
        server.kill()
    reader = Reader(str(folder / "state" / FILE_NAME))
    kept = [(record.id, record.text) for record in reader.history(0, 100_000_000, "")]
    reader.close()
    return talkers, kept


def run_cluster(
    folder: Path, options: argparse.Namespace
) -> tuple[list[Talker], list[tuple[int, str]]]:
    """The same with several servers and a Redis."""
    if MISSING:
        sys.exit(MISSING)
    redis = RedisServer(folder / "redis")
    redis.start()
    servers = [
        Server(folder / f"node{n}", free_port(), "--log", redis.url) for n in range(options.nodes)
    ]
    rng = random.Random(options.seed)

    def kill(turn: int) -> None:
        if turn % 5 == 4:
            redis.kill()
            redis.start()
        else:
            victim = rng.choice(servers)
            victim.kill()
            victim.start()

    try:
        talkers = talk(options, servers, kill)
        return talkers, stored(redis.url)
    finally:
        for server in servers:
            server.kill()
        redis.kill()


def talk(
    options: argparse.Namespace, servers: list[Server], kill: Callable[[int], None] | None
) -> list[Talker]:
    """Have people talk through all the kills."""
    return talk_through_kills(
        servers,
        options.people,
        options.kills,
        random.Random(options.seed),
        pause=options.pause,
        kill=kill,
        progress=lambda done: say(f"{done} kills") if done % 10 == 0 else None,
    )


if __name__ == "__main__":
    main()
