"""How many messages a second do three nodes on one Redis acknowledge, in one order?

First the logs alone, used as rooms use them, without clients; all three nodes share this process.
Then three servers with clients, who each say the next thing when the last one is acknowledged: what
one says, all hear. The clients are simple, and share the machine with everything else.
"""

from __future__ import annotations

import argparse
import re
import select
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import REPOSITORY, free_port, machine_line, number, table, workspace
from log import TEXT, entry, quantile

sys.path.insert(0, str(REPOSITORY))

from chatbox.log import Record
from tests.helpers.crash import Server
from tests.helpers.redis import MISSING, RedisServer, open_redis, own_reactor, run_until


class Node:
    """One node, and people who say the next thing when the last one is acknowledged."""

    def __init__(self, reactor: Any, url: str, people: Sequence[int], until: list[float]) -> None:
        self.log = open_redis(url, reactor)
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
        f"{nodes} logs, {people} people, {fsync}",
        number(len(took) / elapsed, 0),
        number(quantile(took, 0.5) * 1e3, 1),
        number(quantile(took, 0.99) * 1e3, 1),
        "the same everywhere" if same else "BROKEN",
    ]


ANSWER = b"<p:message_response>"
HEARD = re.compile(rb"^<s:user\d+>.*<p:message_received><q:(\d+)>", re.MULTILINE)


class Client:
    """Somebody at a server; one at each server remembers what it has heard."""

    def __init__(self, number: int, port: int, *, watches: bool) -> None:
        self.name = f"user{number}"
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.watches = watches
        self.heard: list[bytes] = []
        self.took: list[float] = []
        self.speaks = False
        self._tail = b""
        while b"<m:True><p:connect_response>" not in self._tail:
            if not self._tail or b"log-unavailable" in self._tail:  # it has only just started
                time.sleep(0.1 if self._tail else 0.0)
                self._tail = b""
                self.socket.sendall(f"<s:{self.name}><t:connect>\n".encode())
            self._tail += self.socket.recv(1 << 16)
        self._tail = b""

    def say(self) -> None:
        """Say something."""
        self.speaks = True
        self._said_at = time.perf_counter()
        self.socket.sendall(f"<r:all><t:message_request><m:{TEXT}><q:{len(self.took)}>\n".encode())

    def read(self, *, go_on: bool) -> None:
        """Hear what there is; say the next thing if the last one has been acknowledged."""
        data = self.socket.recv(1 << 18)
        if not data:
            raise SystemExit(f"{self.name} was hung up on")
        if self.watches:
            self.heard.append(data)
        if self.speaks and ANSWER in self._tail + data:
            self.took.append(time.perf_counter() - self._said_at)
            self.speaks = False
            if go_on:
                self.say()
        self._tail = data[1 - len(ANSWER) :]

    def order(self) -> list[int]:
        """The places of all that was heard."""
        return [int(place) for place in HEARD.findall(b"".join(self.heard))]


def measure_servers(folder: Path, fsync: str, nodes: int, people: int, seconds: float) -> list[str]:
    """One run with servers and clients; answer the row of the table."""
    redis = RedisServer(folder / f"served-{fsync}", "--appendfsync", fsync)
    redis.start()
    servers = [
        Server(folder / f"{fsync}{n}", free_port(), "--log", redis.url) for n in range(nodes)
    ]
    try:
        for server in servers:
            server.start()
        for server in servers:
            wait_for(server.port)
        clients = [Client(n, servers[n % nodes].port, watches=n < nodes) for n in range(people)]
        poll = select.epoll()
        by_fd = {client.socket.fileno(): client for client in clients}
        for descriptor in by_fd:
            poll.register(descriptor, select.EPOLLIN)
        until = time.perf_counter() + 1.0  # everybody hears that everybody has come
        while time.perf_counter() < until:
            for descriptor, _ in poll.poll(0.1):
                by_fd[descriptor].read(go_on=False)
        began = time.perf_counter()
        for client in clients:
            client.say()
        while any(client.speaks for client in clients):
            go_on = time.perf_counter() < began + seconds
            for descriptor, _ in poll.poll(1.0):
                by_fd[descriptor].read(go_on=go_on)
        elapsed = time.perf_counter() - began
        said = sum(len(client.took) for client in clients)
        watchers = clients[:nodes]
        while not all(len(client.order()) >= said for client in watchers):
            for descriptor, _ in poll.poll(1.0):
                by_fd[descriptor].read(go_on=False)
    finally:
        for server in servers:
            server.kill()
        redis.kill()
    took = [one for client in clients for one in client.took]
    same = all(client.order() == watchers[0].order() for client in watchers)
    return [
        f"{nodes} servers, {people} clients, {fsync}",
        number(said / elapsed, 0),
        number(quantile(took, 0.5) * 1e3, 1),
        number(quantile(took, 0.99) * 1e3, 1),
        "the same everywhere" if same and len(watchers[0].order()) == said else "BROKEN",
    ]


def wait_for(port: int) -> None:
    """Wait until somebody listens there."""
    until = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


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
        ] + [
            measure_servers(folder, fsync, options.nodes, options.people, options.seconds)
            for fsync in ("always", "everysec")
        ]
    print(table(["run, appendfsync", "acknowledged/s", "median ms", "99 % ms", "order"], rows))


if __name__ == "__main__":
    main()
