"""How many messages a second does the log acknowledge, how soon, and how fast is history?

The log is used as a room uses it, on a real reactor, but without clients: sockets and fan-out have
their own benchmarks. Beside it stands the same file with one commit for each message, on the same
disk, in the same run; and the disk itself, writing what a small commit writes. At a tenth of the
load, or at the pace that is asked for, the disk and the log take turns, so that both meet the same
moments of the machine. There the messages come from another process, by a pipe, when they are due
and not when the log is ready for them; each is timed from the moment at which the server has read
it, and from when it was due.
"""

from __future__ import annotations

import argparse
import gc
import os
import sqlite3
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from common import machine_line, number, say, table, workspace
from twisted.internet import reactor as _reactor

from chatbox.log import Attempt, Entry, Kind, MessageLog, Record, open_log
from chatbox.log.store import Writer

reactor: Any = _reactor
TEXT = "What one person says to the others in a line of usual length, give or take."
COMMIT = 24 + 4096  # what one message costs in the WAL: its page, and what says which
PEOPLE = [(f"user{who}", f"{who:032x}") for who in range(1000)]
ROUNDS = 5  # in which the disk and the log take turns


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each measurement")
    parser.add_argument("--senders", type=int, default=200)
    parser.add_argument("--paced", type=float, help="messages/s, not a tenth of what was reached")
    parser.add_argument("--rows", type=int, default=10_000_000, help="messages behind history")
    parser.add_argument("--dir", default="/var/tmp", help="a folder on the disk to measure")
    options = parser.parse_args()
    print(machine_line())
    with workspace(options.dir) as folder:
        rows = list(measure(folder, options))
    print(table(["", "value", "unit"], rows))


def measure(folder: Path, options: argparse.Namespace) -> list[list[str]]:
    """Run everything; answer the rows of the table."""
    say("one commit a message")
    single = one_by_one(folder / "single", options.seconds)
    say(f"{options.senders} senders")
    log = open_log(f"sqlite:{folder / 'group'}", call_from_thread=reactor.callFromThread)
    result: dict[str, Any] = {}

    def closed() -> None:
        crowd = Senders(log, options.senders, options.seconds, opened)
        log.subscribe(crowd.heard, crowd.failed)
        result["crowd"] = crowd
        log.start()
        crowd.start()

    def opened() -> None:
        rate = options.paced or result["crowd"].rate / 10
        say(f"{rate:,.0f} messages/s, in turns with the disk")
        paced = Paced(log, rate, options.seconds / ROUNDS, again)
        result["crowd"].next = paced
        result["paced"] = paced
        again()

    def again() -> None:
        disk.extend(sync_times(folder / "disk", options.seconds / ROUNDS))
        if result["paced"].rounds < ROUNDS:
            result["paced"].start()
        else:
            log.stop(reactor.stop)

    disk: list[float] = []
    reactor.callWhenRunning(closed)
    gc.freeze()  # as the server does
    reactor.run()
    crowd, paced = result["crowd"], result["paced"]
    fsync, slow = statistics.median(disk), quantile(disk, 0.99)
    least = quantile(waits(disk), 0.99)
    p99 = quantile(paced.took, 0.99)
    rows = [
        ["one commit a message", number(single, 0), "messages/s"],
        [f"{options.senders} senders, one in flight each", number(crowd.rate, 0), "messages/s"],
        ["  times one commit a message", number(crowd.rate / single, 1), ""],
        ["  messages in a commit, mean", number(crowd.count / crowd.batches, 0), ""],
        ["disk: write and fdatasync, median", number(fsync * 1e3, 3), "ms"],
        ["disk: the same, 99 %", number(slow * 1e3, 3), "ms"],
        ["disk: from any moment to the end of the next, 99 %", number(least * 1e3, 3), "ms"],
        ["paced: acknowledged", number(len(paced.took) / options.seconds, 0), "messages/s"],
        ["  median", number(statistics.median(paced.took) * 1e3, 3), "ms"],
        ["  90 %", number(quantile(paced.took, 0.9) * 1e3, 3), "ms"],
        ["  99 %", number(p99 * 1e3, 3), "ms"],
        ["  99 % since due", number(quantile(paced.since_due, 0.99) * 1e3, 3), "ms"],
        ["  99 % in times of the disk's median", number(p99 / fsync, 1), ""],
        ["  99 % in times of the disk's 99 %", number(p99 / slow, 1), ""],
        ["  99 % in times of the disk's from any moment", number(p99 / least, 1), ""],
    ]
    if options.rows:
        rows += history(folder / "long", options.rows)
    return rows


def sync_times(path: Path, seconds: float) -> list[float]:
    """How long the disk takes to keep what a small commit writes over old blocks."""
    took = []
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    os.pwrite(descriptor, bytes(400 * COMMIT), 0)
    os.fsync(descriptor)
    until = time.perf_counter() + seconds
    turn = 0
    while (began := time.perf_counter()) < until:
        os.pwrite(descriptor, os.urandom(COMMIT), turn % 400 * COMMIT)
        os.fdatasync(descriptor)
        took.append(time.perf_counter() - began)
        turn += 1
    os.close(descriptor)
    return took


def waits(took: Sequence[float], apart: float = 1e-4) -> list[float]:
    """What people would wait who come at even distances, each for what is on its way and the next.

    That is the least that a log with one writer can reach. A moment in which the disk stands still
    is one of many syncs, but it holds up everybody who comes meanwhile.
    """
    waited = []
    at = 0.0
    for under_way, following in pairwise(took):
        while at < under_way:
            waited.append(under_way - at + following)
            at += apart
        at -= under_way
    return waited


def entry(who: int, turn: int, origin: object) -> Entry:
    """Make a message as the room does."""
    name, identity = PEOPLE[who]
    attempt = Attempt(identity, turn.to_bytes(8, "big"))
    return Entry(Kind.MESSAGE, name, "all", TEXT, (), origin, attempt)


def one_by_one(path: Path, seconds: float) -> float:
    """Messages a second with a commit for each, by the same code without threads."""
    writer = Writer(str(path))
    writer.open()
    began = time.perf_counter()
    turn = 0
    while time.perf_counter() - began < seconds:
        writer.commit([entry(turn % 200, turn, None)], int(time.time() * 1000))
        turn += 1
    rate = turn / (time.perf_counter() - began)
    writer.close()
    return rate


class Senders:
    """People who say the next thing when the last one is acknowledged."""

    def __init__(
        self, log: MessageLog, senders: int, seconds: float, done: Callable[[], None]
    ) -> None:
        self._log = log
        self._senders = senders
        self._seconds = seconds
        self._done = done
        self.next: Paced | None = None
        self.count = self.batches = 0
        self.rate = 0.0

    def start(self) -> None:
        """Everybody says something."""
        self._began = time.perf_counter()
        self._open = self._senders
        self._log.append([entry(who, 0, (who, 0)) for who in range(self._senders)])

    def heard(self, records: Sequence[Record]) -> None:
        """Let those who were heard go on."""
        if self.next is not None:
            self.next.heard(records)
            return
        self.count += len(records)
        self.batches += 1
        elapsed = time.perf_counter() - self._began
        if elapsed < self._seconds:
            said: list[Any] = [record.origin for record in records]
            self._log.append([entry(who, turn + 1, (who, turn + 1)) for who, turn in said])
            return
        self.rate = self.rate or self.count / elapsed
        self._open -= len(records)
        if not self._open:
            self._done()

    def failed(self, entries: Sequence[Entry]) -> None:
        """Nothing may fail here."""
        raise SystemExit(f"{len(entries)} messages failed")


class Paced:
    """Messages at a steady rate, from a process of their own, which sends when each was due."""

    SENDER = """if True:
        import os, struct, sys, time
        rate, seconds = map(float, sys.argv[1:])
        began = time.monotonic()
        sent = 0
        while (elapsed := time.monotonic() - began) < seconds:
            due = range(sent, int(elapsed * rate))
            sent = max(sent, due.stop)
            os.write(1, b"".join(struct.pack("d", began + (n + 1) / rate) for n in due))
            # Until the next one is due: it is the rate that is given, whatever answers.
            time.sleep(max(0.0, began + (sent + 1) / rate - time.monotonic()))
    """

    def __init__(
        self, log: MessageLog, rate: float, seconds: float, done: Callable[[], object]
    ) -> None:
        self._log = log
        self._sender = [sys.executable, "-c", self.SENDER, str(rate), str(seconds)]
        self._done = done
        self._sent = 0
        self.rounds = 0
        self.took: list[float] = []
        self.since_due: list[float] = []

    def start(self) -> None:
        """Begin a round."""
        self.rounds += 1
        self._ended = False
        self._pipe, theirs = os.pipe()
        self._process = subprocess.Popen(self._sender, stdout=theirs)
        os.close(theirs)
        reactor.addReader(self)

    def fileno(self) -> int:
        """What the reactor waits for."""
        return self._pipe

    def logPrefix(self) -> str:
        """What the reactor calls this."""
        return "messages"

    def doRead(self) -> None:
        """Append what has come. What a room reads in one turn it appends all together, too."""
        due = [when for (when,) in struct.iter_unpack("d", os.read(self._pipe, 8 * 1024))]
        now = time.monotonic()
        self._log.append([entry(n % 200, n, (now, at)) for n, at in enumerate(due, self._sent)])
        self._sent += len(due)

    def connectionLost(self, reason: object) -> None:
        """All have come."""
        os.close(self._pipe)
        self._process.wait()
        self._ended = True
        self.heard([])

    def heard(self, records: Sequence[Record]) -> None:
        """Note how long it took."""
        now = time.monotonic()
        said: list[Any] = [record.origin for record in records]
        self.took += [now - read for read, _ in said]
        self.since_due += [now - due for _, due in said]
        if self._ended and len(self.took) == self._sent:
            self._ended = False
            reactor.callLater(0, self._done)


def history(path: Path, rows: int) -> list[list[str]]:
    """Start on a long log, and ask it for 1000 messages here and there."""
    say(f"writing {rows:,} messages")
    fill(path, rows)
    took: dict[str, list[float]] = {}
    log = open_log(f"sqlite:{path}", call_from_thread=_call)
    heard: list[Record] = []
    log.subscribe(heard.extend, lambda entries: None)
    began = time.perf_counter()
    log.start()
    log.append([entry(0, 0, None)])
    while not heard:
        _run_one()
    started = time.perf_counter() - began
    questions = {
        "the last 1000": (None, f"{1:032x}"),
        "1000 from the beginning": (0, f"{1:032x}"),
        "1000 from the middle": (rows // 2, f"{1:032x}"),
        "1000 from the middle, for a stranger": (rows // 2, "stranger"),
    }
    for turn in range(20):
        for name, (after, reader) in questions.items():
            answers: list[Sequence[Record] | None] = []
            began = time.perf_counter()
            log.history(after and after + turn * 1000, 1000, reader, answers.append)
            while not answers:
                _run_one()
            took.setdefault(name, []).append(time.perf_counter() - began)
            assert answers[0] is not None and len(answers[0]) == 1000, len(answers[0] or ())
    stopped: list[bool] = []
    log.stop(lambda: stopped.append(True))
    while not stopped:
        _run_one()
    found = [
        [f"history of {rows:,}: {name}, {which}", number(value * 1e3, 2), "ms"]
        for name, times in took.items()
        for which, value in (("median", statistics.median(times)), ("worst of 20", max(times)))
    ]
    size = path.stat().st_size
    return [
        ["its file", number(size / 1e6, 0), "MB"],
        ["start, to the first acknowledgement", number(started, 3), "s"],
        *found,
    ]


def fill(path: Path, rows: int) -> None:
    """Write many messages quickly; every tenth is a letter between some two of 1000 people."""
    writer = Writer(str(path), "off")
    writer.open()
    db = writer._db
    assert db is not None
    db.execute("PRAGMA wal_autocheckpoint = 10000")
    for first in range(1, rows + 1, 500_000):
        values = {"first": first, "last": min(first + 499_999, rows), "text": TEXT}
        _fill(db, values)
    writer._last_id = writer._kept = rows
    writer.close()


def _fill(db: sqlite3.Connection, values: dict[str, Any]) -> None:
    numbers = "WITH RECURSIVE n(i) AS (SELECT :first UNION ALL SELECT i+1 FROM n WHERE i < :last)"
    of = "printf('%032x', {})"
    speaker, listener = of.format("i/10 % 1000"), of.format("(i/10 + 1) % 1000")
    db.execute("BEGIN")
    tried = f"{speaker}, CAST(printf('%08d', i) AS BLOB)"
    for statement in (
        f"INSERT INTO message SELECT i, i, 'user', 'all', :text, {tried} FROM n WHERE i % 10",
        f"""INSERT INTO letter SELECT i, i, 'user', 'friend', :text,
            json_array({speaker}, {listener}), {tried} FROM n WHERE NOT i % 10""",
        f"INSERT INTO mailbox SELECT {speaker}, i FROM n WHERE NOT i % 10",
        f"INSERT INTO mailbox SELECT {listener}, i FROM n WHERE NOT i % 10",
    ):
        db.execute(f"{numbers} {statement}", values)
    db.execute("COMMIT")


_calls: list[tuple[Callable[..., object], tuple[Any, ...]]] = []


def _call(call: Callable[..., object], *arguments: Any) -> None:
    _calls.append((call, arguments))


def _run_one() -> None:
    while not _calls:
        time.sleep(0.0002)
    call, arguments = _calls.pop(0)
    call(*arguments)


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of all does not exceed."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


if __name__ == "__main__":
    main()
