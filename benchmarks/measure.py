"""One transfer by one contender over one network, with everything that can be told of it.

The clock starts when the program that sets the transfer going is ready to send its first packet
(its own stamp, see peers/stamps.py; its start if it makes none: those are C programs, up in
milliseconds), and stops when the file has its full length under its final name, looked for every
few milliseconds. So start-up of an interpreter is not in it; handshakes, requests, checks that the
receiver makes before the file appears, and waiting are. Processor time counts from then on, too:
of all threads of a process, to its end.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from pathlib import Path

from common import GRACE, Process, Sample, Usage, sha256, size_of, touch_memory
from contenders import Case, Contender
from link import Network, Report

TICK = 0.003
LOOK_EVERY = 10  # ticks between two looks at the memory


@dataclasses.dataclass(frozen=True)
class Run:
    """What one transfer was. Sides are of the file: the sender has it. None: not known."""

    peer: str
    seconds: float
    bits_per_second: float | None
    whole: bool  # the digest on arrival is right
    note: str = ""
    sender_cpu: float | None = None  # seconds per gigabyte of file
    receiver_cpu: float | None = None
    sender_memory: int | None = None  # peak, bytes
    receiver_memory: int | None = None
    sender_growth: int | None = None  # peak less what it had before the transfer
    receiver_growth: int | None = None
    sent_per_byte: float | None = None
    queue_delay: float | None = None  # median seconds added
    link: dict[str, object] | None = None


def run_once(
    contender: Contender, network: Network, sample: Sample, folder: Path, limit: float
) -> Run:
    """Make the transfer; never raises for what a contender does."""
    case = Case(sample, network, folder)
    case.received.parent.mkdir(parents=True)
    transfer = _Transfer(contender, case)
    try:
        note = transfer.carry_out(limit)
    finally:
        transfer.stop()
    report = network.finish()
    whole = not note and sha256(case.received) == sample.digest
    run = transfer.result(note or ("" if whole else "WRONG DIGEST"), whole)
    shutil.rmtree(case.received.parent)
    return _with_link(run, report, sample)


class _Transfer:
    """Two processes, and a file to wait for."""

    def __init__(self, contender: Contender, case: Case) -> None:
        self.contender, self.case = contender, case
        self.stamp = case.folder / "stamp"
        self.processes: dict[str, Process] = {}
        self.before = dict.fromkeys(("sender", "receiver"), 0)
        self.cpu_before = dict.fromkeys(("sender", "receiver"), 0.0)
        self.begun = self.ended = 0.0
        self.arrived = -1

    def carry_out(self, limit: float) -> str:
        """Answer what went wrong; empty if the file is there."""
        first = self.contender.first
        second = "receiver" if first == "sender" else "sender"
        try:
            waiting = self._start(first)
            waiting.wait_until_listening(self.case.port)
            waiting.wait_until_at_rest()
        except (OSError, RuntimeError) as error:
            return str(error)
        touch_memory(self.case.folder, self.case.sample.size)
        self.before[first] = waiting.look()
        self.cpu_before[first] = waiting.cpu
        self.begun = time.monotonic()
        going = self._start(second)
        note = self._watch(waiting, going, limit)
        self.ended = time.monotonic()
        self.arrived = size_of(self.case.received)
        self._read_stamp(second)
        if not note:
            going.wait(GRACE)
        return note

    def stop(self) -> None:
        """End both."""
        for process in self.processes.values():
            process.stop()

    def _start(self, side: str) -> Process:
        network, folder = self.case.network, self.case.folder
        command = getattr(self.contender, side)(self.case)
        place = network.server if side == "sender" else network.client
        process = Process(
            command, place, folder / f"{side}.out", environment={"BENCH_STAMPS": str(self.stamp)}
        )
        self.processes[side] = process
        return process

    def _watch(self, waiting: Process, going: Process, limit: float) -> str:
        path, size = self.case.received, self.case.sample.size
        until = self.begun + limit
        tick = 0
        while size_of(path) < size:
            if tick % LOOK_EVERY == 0:
                waiting.look()
                going.look()
                if time.monotonic() > until:
                    return f"cut after {limit:g} s"
                if going.ended() and size_of(path) < size:
                    return f"ended with {going.usage and going.usage.status}: {going.last_words()}"
            tick += 1
            time.sleep(TICK)
        return ""

    def _read_stamp(self, second: str) -> None:
        if self.stamp.exists():
            clock, resident, cpu = self.stamp.read_text().split()
            self.begun = float(clock)
            self.before[second] = int(resident) * 1024
            self.cpu_before[second] = float(cpu)

    def result(self, note: str, whole: bool) -> Run:
        """What there is to say, after both have ended."""
        seconds = max(self.ended - self.begun, 1e-9)
        moved = self.case.sample.size if whole else max(0, self.arrived)
        known = whole or (note.startswith("cut") and self.contender.in_order and moved > 0)
        used = {side: process.usage for side, process in self.processes.items() if process.usage}
        sender, receiver = used.get("sender"), used.get("receiver")
        return Run(
            peer=self.contender.name,
            seconds=seconds,
            bits_per_second=moved * 8 / seconds if known else None,
            whole=whole,
            note=note,
            sender_cpu=self._cpu("sender", sender, moved) if known else None,
            receiver_cpu=self._cpu("receiver", receiver, moved) if known else None,
            sender_memory=sender.memory if sender else None,
            receiver_memory=receiver.memory if receiver else None,
            sender_growth=self._growth("sender", sender),
            receiver_growth=self._growth("receiver", receiver),
        )

    def _cpu(self, side: str, usage: Usage | None, moved: int) -> float | None:
        return (usage.cpu - self.cpu_before[side]) / moved * 1e9 if usage and moved else None

    def _growth(self, side: str, usage: Usage | None) -> int | None:
        return usage.memory - self.before[side] if usage and self.before[side] else None


def _with_link(run: Run, report: Report | None, sample: Sample) -> Run:
    if report is None:
        return run
    facts = {"down": report.down, "up": report.up, "late_us": report.late_us}
    notes = [note for note in (run.note, report.doubt()) if note]
    if run.bits_per_second is None:
        carried = report.down["bytes"] - report.down["dropped_bytes"] - report.down["lost_bytes"]
        notes.append(f"the link carried {carried * 8e-6 / run.seconds:.1f} Mbit/s")
    return dataclasses.replace(
        run,
        note="; ".join(notes),
        sent_per_byte=report.down["bytes"] / sample.size if run.whole else None,
        queue_delay=report.queue_delay(),
        link={**facts, "realtime": report.realtime, "overflow": report.overflow},
    )
