"""What does a chat server take to let everybody hear everything, and how soon do they hear it?

One crowd of clients (``crowd.py``) drives our server and ngircd, an IRC server in C, with the same
load, one after the other in turns. Processor time is that of the server's process, all threads, as
the kernel counts it, while the crowd talks; joining and warming up are not in it. Neither server
limits what a client may send here (``--rate 0``, ``MaxPenaltyTime = 0``).
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import os
import shutil
import ssl
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from common import (
    Missing,
    Place,
    Process,
    end_well_on_signals,
    free_port,
    machine_line,
    number,
    say,
    table,
    workspace,
)
from crowd import CHATBOX, IRC, Crowd, Dialect, raise_open_files
from tools import certificate

CORES = sorted(os.sched_getaffinity(0))
# A server must not be moved to where the crowd is at work, nor the crowd to the server.
OURS, THEIRS = CORES[-1:], CORES[:-1] or CORES
HERE = Place("127.0.0.1", ("taskset", "--cpu-list", ",".join(map(str, THEIRS))))
KEEP_ALIVE_SECONDS = 60.0
CHATBOX_LIMITS = [
    *("--max-connections", "0", "--max-connections-per-address", "0"),
    *("--rate", "0", "--join-rate", "0"),
]


@dataclasses.dataclass(frozen=True)
class Server:
    """A server that is running."""

    process: Process
    dialect: Dialect
    port: int
    tls: ssl.SSLContext | None = None
    """How to talk TLS to it, if that is what it talks."""

    @property
    def resident(self) -> int:
        """Bytes of memory that it has resident."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * 4096


Run = Callable[[Path, Path], contextlib.AbstractContextManager[Server]]
"""Runs a server. It has a folder for itself, and one on the disk that was asked for."""


@contextlib.contextmanager
def ngircd(folder: Path, _: Path, *, tls: bool = False) -> Iterator[Server]:
    """Run ngircd, alone, on loopback, without the limits that it has by default."""
    program = shutil.which("ngircd") or shutil.which("ngircd", path="/usr/sbin")
    if program is None:
        raise Missing("no ngircd (Debian package ngircd)")
    port, tls_port = free_port(), free_port()
    config = folder / "ngircd.conf"
    config.write_text(
        f"[Global]\nName = bench.example.net\nInfo = bench\nListen = 127.0.0.1\nPorts = {port}\n"
        "MotdPhrase = hello\nServerUID = nobody\nServerGID = nogroup\n"
        "[Limits]\nMaxConnections = 0\nMaxConnectionsIP = 0\nMaxJoins = 10\nMaxPenaltyTime = 0\n"
        "[Options]\nDNS = no\nIdent = no\nPAM = no\n"
        "[Channel]\nName = #room\nMaxUsers = 0\n"
    )
    if tls:
        chain, key = certificate()
        with config.open("a") as file:
            file.write(f"[SSL]\nCertFile = {chain}\nKeyFile = {key}\nPorts = {tls_port}\n")
    process = Process([program, "-n", "-f", config], HERE, folder / "ngircd.log")
    try:
        process.wait_until_listening(tls_port if tls else port)
        yield Server(process, IRC, tls_port if tls else port, anybody() if tls else None)
    finally:
        process.stop()


def chatbox(log: str, *, tls: bool = False) -> Run:
    """How to run our server with a kind of log; a file is on the disk that was asked for."""

    @contextlib.contextmanager
    def run(folder: Path, disk: Path) -> Iterator[Server]:
        port = free_port()
        shelf = folder / "shelf"
        shelf.mkdir(exist_ok=True)
        place = f"{log}{disk / f'{port}.sqlite'}" if log == "sqlite:" else log
        kind = "tcp"
        if tls:
            kind = "tls-self-signed:tcp"
        process = Process(
            [
                *(Path(sys.executable).parent / "twistd",),
                *("-n", "--pidfile=", "chatbox", "--files", shelf, "--udp-ports", "0"),
                *("--state-dir", folder, "--log", place, *CHATBOX_LIMITS),
                *("--listen", f"{kind}:{port}:backlog=1024:interface=127.0.0.1"),
            ],
            HERE,
            folder / f"chatbox-{port}.log",
        )
        try:
            process.wait_until_listening(port)
            yield Server(process, CHATBOX, port, anybody() if tls else None)
        finally:
            process.stop()

    return run


def anybody() -> ssl.SSLContext:
    """How to talk TLS to a server, whoever it may be."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


SERVERS: dict[str, Run] = {
    "ngircd": ngircd,
    "chatbox memory:": chatbox("memory:"),
    "chatbox sqlite:": chatbox("sqlite:"),
}
TLS_SERVERS: dict[str, Run] = {
    "ngircd": functools.partial(ngircd, tls=True),
    "chatbox memory:": chatbox("memory:", tls=True),
}


@dataclasses.dataclass(frozen=True)
class Figures:
    """What one server took to fan messages out."""

    microseconds: float
    """Processor time for one message to one recipient."""
    median: float
    """Milliseconds from sending a message to its last receipt."""
    p99: float
    rate: float
    """Messages a second."""
    load: float
    """How busy the crowd's own process was, in percent; at 100 it would be what we measure."""


def measured(server: Server, crowd: Crowd, in_flight: int, seconds: float) -> Figures:
    """Let the crowd talk, and look at the server's processor time when it begins and ends."""
    before = [0.0]

    def began() -> None:
        before[0] = server.process.cpu

    done = crowd.talk(in_flight, seconds, began=began)
    spent = server.process.cpu - before[0]
    return Figures(
        spent / done.deliveries * 1e6,
        statistics.median(done.times) * 1e3,
        quantile(done.times, 0.99) * 1e3,
        done.messages / done.seconds,
        done.load * 100,
    )


def fan_out(folder: Path, disk: Path, options: argparse.Namespace) -> str:
    """One room, some messages in flight, each server in turn."""
    return _fanned_out("fan-out", SERVERS, folder, disk, options)


def fan_out_tls(folder: Path, disk: Path, options: argparse.Namespace) -> str:
    """The same inside TLS."""
    return _fanned_out("fan-out inside TLS", TLS_SERVERS, folder, disk, options)


def _fanned_out(
    title: str, servers: dict[str, Run], folder: Path, disk: Path, options: argparse.Namespace
) -> str:
    found: dict[tuple[int, str], list[Figures]] = {}
    for _ in range(options.rounds):
        for name, run in servers.items():
            with (
                run(folder, disk) as server,
                Crowd(server.dialect, server.port, tls=server.tls) as crowd,
            ):
                crowd.join(options.clients)
                crowd.settle()
                for in_flight in (1, 50, 200):
                    say(f"{name}, {in_flight} in flight")
                    figures = measured(server, crowd, in_flight, options.seconds)
                    found.setdefault((in_flight, name), []).append(figures)
    rows = []
    for in_flight in (1, 50, 200):
        theirs = _medians(found[in_flight, "ngircd"])
        memory = _medians(found[in_flight, "chatbox memory:"])
        for name in servers:
            ours = _medians(found[in_flight, name])
            rows.append(
                [
                    f"{options.clients} clients, {in_flight} in flight: {name}",
                    number(ours.microseconds, 3),
                    number(ours.median),
                    number(ours.p99),
                    number(ours.rate, 0),
                    number(ours.load, 0),
                    number(ours.microseconds / theirs.microseconds),
                    number(ours.p99 / theirs.p99),
                    number(ours.microseconds / memory.microseconds),
                ]
            )
    heads = [
        *(title, "us/delivery", "median ms", "p99 ms", "messages/s", "crowd %"),
        *("CPU x ngircd", "p99 x ngircd", "CPU x memory:"),
    ]
    return table(heads, rows)


def _medians(figures: Sequence[Figures]) -> Figures:
    columns = zip(*map(dataclasses.astuple, figures), strict=True)
    return Figures(*map(statistics.median, columns))


def private(folder: Path, disk: Path, options: argparse.Namespace) -> str:
    """Pairs of people talk to each other as fast as they can."""
    rows = []
    for name, run in SERVERS.items():
        with run(folder, disk) as server, Crowd(server.dialect, server.port) as crowd:
            crowd.join(2 * options.pairs)
            crowd.settle()
            say(f"{name}, {options.pairs} pairs")
            before = [0.0]

            def began(server: Server = server, before: list[float] = before) -> None:
                before[0] = server.process.cpu

            talk, acknowledged = crowd.converse(options.window, options.seconds, began=began)
            spent = server.process.cpu - before[0]
            rows.append(
                [
                    f"{options.pairs} pairs, {options.window} in flight each way: {name}",
                    number(talk.deliveries / talk.seconds, 0),
                    number(acknowledged / talk.seconds, 0) if acknowledged else "it has none",
                    number(spent / talk.deliveries * 1e6, 1),
                ]
            )
    heads = ["private messages", "heard/s", "acknowledged/s", "us/message"]
    return table(heads, rows)


def crowded(folder: Path, disk: Path, options: argparse.Namespace) -> str:
    """Thousands join, and then are merely there.

    In ngircd they are in no room: three thousand people were not all in one within a minute.
    """
    rows = []
    raise_open_files(options.idle + 1000)
    for name, run in SERVERS.items():
        if name == "chatbox sqlite:":
            continue  # who joins is not stored
        room = name != "ngircd"
        with (
            run(folder, disk) as server,
            Crowd(server.dialect, server.port, room=room) as crowd,
        ):
            say(f"{name}, {options.idle} people")
            crowd.join(10)
            memory, before = server.resident, server.process.cpu
            took = crowd.join(options.idle - 10)
            joining = server.process.cpu - before
            crowd.settle(2.0)
            memory = server.resident - memory
            before = server.process.cpu
            pings = crowd.idle(options.idle_seconds, KEEP_ALIVE_SECONDS)
            share = (server.process.cpu - before) / options.idle_seconds
            rows.append(
                [
                    f"{options.idle} connected: {name}{'' if room else ', in no room'}",
                    number(memory / options.idle / 1024, 1),
                    number(share * 100, 2),
                    number(pings / options.idle_seconds, 0),
                    number((options.idle - 10) / took, 0),
                    number(joining / options.idle * 1e6, 0),
                    str(crowd.lost),
                ]
            )
    heads = ["idle", "KiB each", "% of a core", "pings/s", "joins/s", "us/join", "cut off"]
    return table(heads, rows)


def stalled(folder: Path, disk: Path, options: argparse.Namespace) -> str:
    """One of many stops reading while the others talk."""
    rows = []
    for name, run in SERVERS.items():
        with run(folder, disk) as server, Crowd(server.dialect, server.port) as crowd:
            crowd.join(options.clients)
            crowd.settle()
            deaf = crowd.people[-1]
            say(f"{name}, all read")
            times = crowd.talk(50, options.seconds).times
            say(f"{name}, one does not read")
            with_deaf = crowd.talk(50, 3 * options.seconds, deaf=[deaf]).times
            say(f"{name}, that one reads again")
            crowd.hear_again(deaf)
            crowd.settle()
            times += crowd.talk(50, options.seconds).times
            before, after = quantile(times, 0.99) * 1e3, quantile(with_deaf, 0.99) * 1e3
            rows.append(
                [
                    f"{options.clients} clients, 50 in flight: {name}",
                    number(before),
                    number(after),
                    number((after / before - 1) * 100, 1),
                    "yes" if crowd.lost else "no",
                ]
            )
    heads = ["one stops reading", "p99 ms before", "p99 ms of the others", "change %", "cut off"]
    return table(heads, rows)


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of all does not exceed."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


QUESTIONS = {
    "fanout": fan_out,
    "tls": fan_out_tls,
    "private": private,
    "idle": crowded,
    "stalled": stalled,
}


def main() -> None:
    """Measure, and print the tables."""
    os.sched_setaffinity(0, OURS)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-q", "--questions", default=",".join(QUESTIONS), help="which, by name")
    parser.add_argument("-s", "--servers", default=",".join(SERVERS), help="which, by name")
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--window", type=int, default=16, help="private messages in flight")
    parser.add_argument("--idle", type=int, default=8000)
    parser.add_argument("--idle-seconds", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each measurement")
    parser.add_argument("-r", "--rounds", type=int, default=3, help="medians of so many")
    parser.add_argument("--dir", default="/var/tmp", help="a folder on the disk to measure")
    options = parser.parse_args()
    end_well_on_signals()
    for name in set(SERVERS) - set(options.servers.split(",")):
        del SERVERS[name]
        TLS_SERVERS.pop(name, None)
    print(machine_line())
    with workspace() as folder, workspace(options.dir) as disk:
        for question in options.questions.split(","):
            try:
                print(f"\n{QUESTIONS[question](folder, disk, options)}", flush=True)
            except Missing as error:
                print(f"\n{question}: not measured, {error}", flush=True)


if __name__ == "__main__":
    main()
