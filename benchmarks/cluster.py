"""How many messages a second do three nodes on one Redis acknowledge, in one order?

The logs are used as rooms use them, without clients: sockets and fan-out have their own benchmarks.
All three nodes share this process, so on a machine with several cores three servers do more.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import REPOSITORY, machine_line, number, table, workspace
from log import entry, quantile

sys.path.insert(0, str(REPOSITORY))

from chatbox.log import Record
from chatbox.log.redis import RedisLog
from tests.helpers.redis import MISSING, RedisServer, own_reactor, run_until


class Node:
    """One node, and people who say the next thing when the last one is acknowledged."""

    def __init__(self, reactor: Any, url: str, people: Sequence[int], until: list[float]) -> None:
        self.log = RedisLog(url, reactor=reactor)
        self.log.subscribe(self.heard, self.failed)
        self.order: list[int] = []
        self.took: list[float] = []
        self._people = people
        self._until = until

    def start(self) -> None:
        """Everybody says something."""
        now = time.perf_counter()
        self.log.append([entry(who, 0, (who, 0, now)) for who in self._people])

    def heard(self, records: Sequence[Record]) -> None:
        """Let those of ours who were heard go on."""
        now = time.perf_counter()
        self.order += [record.id for record in records]
        ours: list[Any] = [record.origin for record in records if record.origin is not None]
        self.took += [now - at for _, _, at in ours]
        if now < self._until[0]:
            self.log.append([entry(who, turn + 1, (who, turn + 1, now)) for who, turn, _ in ours])

    def failed(self, entries: Sequence[object]) -> None:
        """Nothing may fail here."""
        raise SystemExit(f"{len(entries)} messages failed")


def measure(folder: Path, fsync: str, nodes: int, people: int, seconds: float) -> list[str]:
    """One run; answer the row of the table."""
    redis = RedisServer(folder / fsync, "--appendfsync", fsync)
    redis.start()
    try:
        reactor, until = own_reactor(), [0.0]
        each = [range(n * people // nodes, (n + 1) * people // nodes) for n in range(nodes)]
        all_nodes = [Node(reactor, redis.url, each[n], until) for n in range(nodes)]
        for node in all_nodes:
            node.log.start()
        run_until(reactor, lambda: all(node.log.connected for node in all_nodes))
        began = time.perf_counter()
        until[0] = began + seconds
        for node in all_nodes:
            node.start()
        run_until(
            reactor,
            lambda: time.perf_counter() > until[0] and not any(n.log.busy for n in all_nodes),
            seconds + 30,
        )
        elapsed = time.perf_counter() - began
        run_until(reactor, lambda: len({len(node.order) for node in all_nodes}) == 1)
    finally:
        redis.kill()
    took = [one for node in all_nodes for one in node.took]
    same = all(node.order == all_nodes[0].order for node in all_nodes)
    return [
        f"appendfsync {fsync}",
        number(len(took) / elapsed, 0),
        number(quantile(took, 0.5) * 1e3, 1),
        number(quantile(took, 0.99) * 1e3, 1),
        "the same everywhere" if same else "BROKEN",
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--people", type=int, default=300)
    parser.add_argument("--dir", default="/var/tmp", help="a folder on the disk for Redis")
    options = parser.parse_args()
    if MISSING:
        sys.exit(MISSING)
    print(machine_line())
    with workspace(options.dir) as folder:
        rows = [
            measure(folder, fsync, options.nodes, options.people, options.seconds)
            for fsync in ("always", "everysec")
        ]
    print(table(["Redis", "acknowledged/s", "median ms", "99 % ms", "order"], rows))


if __name__ == "__main__":
    main()
