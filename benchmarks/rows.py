"""Three questions that one long file does not answer: ``python benchmarks/rows.py``.

``small``   a file of 64 KB over a round trip of 200 ms: how long from asking for it until it is
            there? Ours from typing /get into a console that has joined; ours and the peers also
            from nothing, connection and all.
``crowd``   100 downloads at once from one of our servers: how much do all get together beside one
            alone, and how evenly? By a hundred clients, which are loaded and waiting when they are
            let go together; and by 13 people, who type /get eight times each into their console.
            The hundred programs share the processors of this machine with the server, and spend
            more of them on taking turns than on the files; the 13 show what the server can do.
``memory``  how much a transfer adds on each side, for a small and a large file.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from functools import partial
from pathlib import Path

from common import (
    MIB,
    Process,
    Sample,
    end_well_on_signals,
    jain,
    machine_line,
    make_sample,
    median,
    number,
    say,
    sha256,
    size_of,
    table,
    touch_memory,
    workspace,
)
from contenders import Case, Contender, Ours, contenders
from link import Network, Profile, emulated, veth, why_not
from measure import run_once

FAR = Profile(rate=100e6, delay=0.1)
SMALL = 64_000
PEOPLE = 13
"""Who get 100 files: eight each, as many at once as a server lets one person have."""
READY_LIMIT = 300.0
"""Seconds for one of a crowd to be loaded, or in: a hundred of them share the processors."""
FROM_NOTHING = ("chatbox", "tcp-cubic", "tls", "aioquic", "aiopquic", "srt")


# small


def small(folder: Path, repeats: int) -> str:
    """The table of the small file."""
    sample = make_sample(_new(folder, "shelf"), SMALL)
    rows = []
    if not Ours().missing():
        times = [typed(sample, _new(folder, f"typed-{turn}")) for turn in range(repeats)]
        rows.append(_small_row("chatbox, typed when joined", times))
    for key in FROM_NOTHING:
        contender = contenders()[key]
        if contender.missing():
            rows.append([contender.name, "-", "-", f"not here: {contender.missing()}"])
            continue
        times, notes = [], set()
        for turn in range(repeats):
            place = _new(folder, f"{key}-{turn}")
            with emulated(FAR, place, 120) as network:
                run = run_once(contender, network, sample, place, 30)
            times.append(run.seconds if run.whole else None)
            notes.add(run.note)
        rows.append(_small_row(f"{contender.name}, from nothing", times, "; ".join(notes - {""})))
    heads = ["64 KB at 200 ms", "seconds", "round trips", "remarks"]
    return table(heads, rows)


def _small_row(name: str, times: list[float | None], remark: str = "") -> list[str]:
    middle = median(times)
    trips = middle / FAR.round_trip if middle else None
    return [name, number(middle, 3), number(trips), remark]


def typed(sample: Sample, folder: Path) -> float | None:
    """Seconds from typing /get in a console that has joined until the file is there."""
    with emulated(FAR, folder, 120) as network:
        case = Case(sample, network, folder)
        case.received.parent.mkdir()
        ours = Ours()
        server = Process(ours.sender(case), network.server, folder / "sender.out")
        server.wait_until_listening(case.port)
        get = ours.receiver(case)
        host = get[get.index("get") + 1]
        words = [*get[: get.index("get")], "join", host, "--name", "typist"]
        console = Process(words, network.client, folder / "console.out", typed=True)
        try:
            time.sleep(3)  # it has joined, and the connection is at rest
            return _type(console, case)
        finally:
            console.stop()
            server.stop()


def _type(console: Process, case: Case) -> float | None:
    assert console.typed is not None
    begun = time.monotonic()
    console.typed.write(f"/get {case.sample.path.name} {case.received}\n".encode())
    console.typed.flush()
    while size_of(case.received) < case.sample.size:
        if time.monotonic() > begun + 20 or console.ended():
            say(f"no file: {console.last_words()}")
            return None
        time.sleep(0.001)
    seconds = time.monotonic() - begun
    return seconds if sha256(case.received) == case.sample.digest else None


# crowd


def crowd(folder: Path, many: int, size: int, link: Profile | None) -> str:
    """The table of the crowd."""
    if Ours().missing():
        return f"crowd: not here: {Ours().missing()}"
    alone = _together(_new(folder, "alone"), 1, 1, min(size * many, 400 * 10**6), link)
    rows = [_crowd_row("one alone", alone, None)]
    for people in (many, min(PEOPLE, many)):
        crowd = _together(_new(folder, f"many-{people}"), many, people, size, link)
        rows.append(_crowd_row(f"{many} at once, {people} clients", crowd, alone))
    where = f"{link.rate / 1e6:g} Mbit/s, {link.delay * 1e3:g} ms" if link else "veth"
    heads = [f"downloads, {where}", "Mbit/s in all", "of alone", "Jain", "MiB server", "remarks"]
    return table(heads, rows)


def _crowd_row(name: str, crowd: Crowd, alone: Crowd | None) -> list[str]:
    ratio = crowd.total / alone.total if alone and alone.total else None
    return [
        name,
        number(crowd.total / 1e6, 1),
        number(ratio),
        number(crowd.fairness, 3) if alone else "-",
        number(crowd.server_memory / MIB, 0),
        crowd.remark,
    ]


@dataclasses.dataclass(frozen=True)
class Crowd:
    """``total``: bit/s of all that arrived, from the first start to the last end."""

    total: float
    fairness: float
    server_memory: int
    """Bytes that the server used at its peak."""
    remark: str


def _together(folder: Path, many: int, people: int, size: int, link: Profile | None) -> Crowd:
    """So many downloads at once by so many people: one each by ``get``, or more by consoles."""
    sample = make_sample(_new(folder, "shelf"), size)
    limit = 300.0
    with emulated(link, folder, limit + 200) if link else veth() as network:
        cases = [_member(sample, network, folder, index) for index in range(many)]
        server = Process(Ours().sender(cases[0]), network.server, folder / "sender.out")
        clients: list[Process] = []
        try:
            server.wait_until_listening(cases[0].port)
            if people == many:
                clients = [_held(case, index) for index, case in enumerate(cases)]
                begun = _let_go(cases, clients)
            else:
                consoles = [_console(case, index) for index, case in enumerate(cases[:people])]
                clients = [consoles[index % people] for index in range(many)]
                begun = _type_all(cases, clients)
            ends = _watch(cases, clients, begun + limit)
        finally:
            for client in set(clients):
                client.stop()
            usage = server.stop()
        whole = [end for case, end in zip(cases, ends, strict=True) if end and _whole(case)]
        failed = [client for client, end in zip(clients, ends, strict=True) if not end]
    words = f"; {failed[0].last_words()}" if failed else ""
    remark = f"{many - len(whole)} failed{words}" if len(whole) < many else "all whole"
    if not whole:
        return Crowd(0.0, 0.0, usage.memory, remark)
    rates = [size * 8 / (end - begun) for end in whole]
    total = len(whole) * size * 8 / (max(whole) - begun)
    return Crowd(total, jain(rates), usage.memory, remark)


def _member(sample: Sample, network: Network, folder: Path, index: int) -> Case:
    place = folder / f"client-{index}"
    (place / "received").mkdir(parents=True)
    return Case(sample, network, place)


def _held(case: Case, index: int) -> Process:
    """A client that has loaded everything and waits for a line."""
    words = Ours().receiver(case)
    words[words.index("get") : words.index("get")] = ["--hold"]
    return Process(
        [*words, "--name", f"client{index}"],
        case.network.client,
        case.folder / "receiver.out",
        environment={"BENCH_STAMPS": str(case.folder / "stamp")},
        typed=True,
    )


def _console(case: Case, index: int) -> Process:
    """A console that joins."""
    words = Ours().receiver(case)
    at = words.index("get")
    words = [*words[:at], "join", words[at + 1], "--name", f"person{index}"]
    log = case.folder / "console.out"
    return Process(words, case.network.client, log, typed=True)


def _type_all(cases: list[Case], clients: list[Process]) -> float:
    """Have all consoles ask for all that is theirs; when that was."""
    consoles = set(clients)
    for console in consoles:
        console.wait_until("join", partial(_has_joined, console), READY_LIMIT)
    for index, (case, client) in enumerate(zip(cases, clients, strict=True)):
        # A name of its own for each: one person gets one file once at a time.
        name = case.sample.path.with_name(f"{index}-{case.sample.path.name}")
        os.link(case.sample.path, name)
        assert client.typed is not None
        client.typed.write(f"/get {name.name} {case.received}\n".encode())
    _touch_memory(cases)
    begun = time.monotonic()
    for console in consoles:
        assert console.typed is not None
        console.typed.flush()
    return begun


def _touch_memory(cases: list[Case]) -> None:
    touch_memory(cases[0].folder.parent, sum(case.sample.size for case in cases))


def _has_joined(console: Process) -> bool:
    return b"You are in" in console.log.read_bytes()


def _let_go(cases: list[Case], clients: list[Process]) -> float:
    for case, client in zip(cases, clients, strict=True):
        client.wait_until("get ready", (case.folder / "stamp").exists, READY_LIMIT)
    time.sleep(1)
    _touch_memory(cases)
    begun = time.monotonic()
    for client in clients:
        assert client.typed is not None
        client.typed.write(b"go\n")
        client.typed.flush()
    return begun


def _watch(cases: list[Case], clients: list[Process], until: float) -> list[float | None]:
    ends: list[float | None] = [None] * len(cases)
    waiting = set(range(len(cases)))
    while waiting and time.monotonic() < until:
        for index in sorted(waiting):
            if size_of(cases[index].received) >= cases[index].sample.size:
                ends[index] = time.monotonic()
                waiting.discard(index)
            elif clients[index].ended():
                waiting.discard(index)
        time.sleep(0.02)
    return ends


def _whole(case: Case) -> bool:
    return sha256(case.received) == case.sample.digest


# memory


def memory(folder: Path, peers: list[str], sizes: tuple[int, ...], limit: float) -> str:
    """The table of memory: what a transfer adds to a process that was ready for it."""
    rows = []
    for key in peers:
        contender = contenders()[key]
        if contender.missing():
            rows.append([contender.name, *["-"] * 5, f"not here: {contender.missing()}"])
            continue
        for size in sizes:
            rows.append(_memory_row(contender, size, folder, limit))
    heads = ["MiB", "file MB", "sender adds", "receiver adds", "sender", "receiver", "remarks"]
    return table(heads, rows)


def _memory_row(contender: Contender, size: int, folder: Path, limit: float) -> list[str]:
    place = _new(folder, f"memory-{contender.name.replace(' ', '-')}-{size}")
    sample = make_sample(_new(place, "shelf"), size)
    with veth() as network:
        run = run_once(contender, network, sample, place, limit)
    sample.path.unlink()
    values = (run.sender_growth, run.receiver_growth, run.sender_memory, run.receiver_memory)
    cells = [number(value / MIB if value is not None else None, 1) for value in values]
    return [contender.name, f"{size / 1e6:g}", *cells, run.note]


def _new(folder: Path, name: str) -> Path:
    path = folder / name
    path.mkdir()
    return path


def main() -> None:
    """Answer those that were asked."""
    asked = argparse.ArgumentParser(description="Small file, crowd, memory.")
    asked.add_argument("-q", "--questions", default="small,crowd,memory")
    asked.add_argument("-r", "--repeats", type=int, default=3, help="of the small file")
    asked.add_argument("--many", type=int, default=100, help="how many a crowd is")
    asked.add_argument("--crowd-size", type=float, default=20.0, help="MB each (%(default)s)")
    asked.add_argument("--crowd-link", action="store_true", help="on 100 Mbit/s, 25 ms, not veth")
    asked.add_argument("--memory-sizes", default="10,1000", help="MB (%(default)s)")
    asked.add_argument("-p", "--peers", default="chatbox,aiopquic,srt,uftp", help="for memory")
    asked.add_argument("--limit", type=float, default=120.0, help="seconds for one transfer")
    asked.add_argument("--dir", help="where to make files")
    given = asked.parse_args()
    end_well_on_signals()
    if why_not():
        print(f"these are not measured: an emulated link {why_not()}")
        return
    print(machine_line(), flush=True)
    questions = given.questions.split(",")
    link = Profile(100e6, 0.025) if given.crowd_link else None
    sizes = tuple(int(float(size) * 1e6) for size in given.memory_sizes.split(","))
    with workspace(given.dir) as folder:
        if "small" in questions:
            print("\n" + small(_new(folder, "small"), given.repeats), flush=True)
        if "crowd" in questions:
            one = int(given.crowd_size * 1e6)
            print("\n" + crowd(_new(folder, "crowd"), given.many, one, link), flush=True)
        if "memory" in questions:
            peers = given.peers.split(",")
            print("\n" + memory(_new(folder, "memory"), peers, sizes, given.limit), flush=True)


if __name__ == "__main__":
    main()
