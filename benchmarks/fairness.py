"""Two flows on one link: who gets how much, and how long the queue is that they make.

``python benchmarks/fairness.py``: by default two of ours, ours beside TCP CUBIC, and to compare,
two of TCP CUBIC, and TCP BBR beside TCP CUBIC. Each flow is a file too long to end, from a server
of its own to a client of its own, both started at once; ``--later`` gives the first a head start.
Bytes are counted where they leave the link, from the moment when both flows are there.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from pathlib import Path

from common import (
    Process,
    Sample,
    end_well_on_signals,
    jain,
    machine,
    machine_line,
    make_sample,
    number,
    say,
    table,
    workspace,
    write_json,
)
from contenders import PORT, Case, Contender, contenders
from link import DELIVERED, Network, Profile, Report, Seen, emulated, why_not

PAIRS = "chatbox+chatbox,chatbox+tcp-cubic,tcp-cubic+tcp-cubic,tcp-bbr+tcp-cubic"
FULL = 1000  # bytes: a packet of this length is data, not the talk before it


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How two flows got on. ``shares`` in bit/s, ``thirds``: of the first flow, over time."""

    pair: str
    shares: tuple[float, float]
    thirds: tuple[float, ...]
    fairness: float
    queue_median: float
    queue_high: float
    dropped: float
    remarks: str


def run_pair(
    pair: tuple[Contender, Contender], profile: Profile, folder: Path, seconds: float, later: float
) -> Outcome:
    """Let both run for ``seconds`` together; raises RuntimeError if one does not get going."""
    size = int(profile.rate / 8 * (seconds + later) * 1.2) + 10**7
    shelf = folder / "shelf"
    shelf.mkdir()
    sample = make_sample(shelf, size)
    with emulated(profile, folder, seconds + later + 120) as network:
        cases = [_case(sample, network, folder, index) for index in range(2)]
        processes: list[Process] = []
        try:
            for contender, case in zip(pair, cases, strict=True):
                processes.append(_start(contender, case, "sender"))
                processes[-1].wait_until_listening(case.port)
            for contender, case, pause in zip(pair, cases, (later, seconds + 3), strict=True):
                processes.append(_start(contender, case, "receiver"))
                time.sleep(pause)
            failed = [process.last_words() for process in processes if process.ended()]
        finally:
            for process in processes:
                process.stop()
        report = network.finish()
    assert report is not None
    if failed:
        raise RuntimeError("; ".join(failed))
    ports = [contender.ports(case) for contender, case in zip(pair, cases, strict=True)]
    return judge(" + ".join(one.name for one in pair), report, ports, seconds)


def _case(sample: Sample, network: Network, folder: Path, index: int) -> Case:
    place = folder / f"flow-{index}"
    (place / "received").mkdir(parents=True)
    return Case(sample, network, place, PORT + index)


def _start(contender: Contender, case: Case, side: str) -> Process:
    place = case.network.server if side == "sender" else case.network.client
    return Process(getattr(contender, side)(case), place, case.folder / f"{side}.out")


def judge(pair: str, report: Report, ports: list[range], seconds: float) -> Outcome:
    """Work out the shares from the link's log."""
    flows: list[list[Seen]] = [[], []]
    for seen in report.packets():
        for flow, known in zip(flows, ports, strict=True):
            if seen.from_server and seen.from_port in known:
                flow.append(seen)
    if not all(flows):
        raise RuntimeError("one flow sent nothing")
    began = max(min(seen.time for seen in flow if seen.length > FULL) for flow in flows)
    windows = [[seen for seen in flow if 0 <= seen.time - began < seconds] for flow in flows]
    shares = [_bits(window) / seconds for window in windows]
    thirds = []
    for third in range(3):
        parts = [
            _bits([s for s in window if int((s.time - began) * 3 / seconds) == third])
            for window in windows
        ]
        thirds.append(parts[0] / max(1, sum(parts)))
    waits = sorted(seen.wait for window in windows for seen in window)
    everything = sum(map(len, windows))
    lost = sum(seen.fate != DELIVERED for window in windows for seen in window)
    return Outcome(
        pair,
        (shares[0], shares[1]),
        tuple(thirds),
        jain(shares),
        statistics.median(waits),
        waits[int(len(waits) * 0.95)],
        lost / everything,
        report.doubt(),
    )


def _bits(window: list[Seen]) -> float:
    return 8.0 * sum(seen.length for seen in window if seen.fate == DELIVERED)


def row(outcome: Outcome, profile: Profile) -> list[str]:
    """One pair in the table."""
    total = sum(outcome.shares)
    return [
        outcome.pair,
        *(number(share / 1e6, 1) for share in outcome.shares),
        f"{outcome.shares[0] / total:.0%}",
        "/".join(f"{third:.0%}" for third in outcome.thirds),
        number(outcome.fairness, 3),
        number(total / profile.rate, 3),
        number(outcome.queue_median * 1e3, 1),
        number(outcome.queue_high * 1e3, 1),
        f"{outcome.dropped:.2%}",
        outcome.remarks,
    ]


HEADS = [
    "flows",
    "first Mbit/s",
    "second",
    "first has",
    "by thirds",
    "Jain",
    "of link",
    "queue ms median",
    "95 %",
    "dropped",
    "remarks",
]


def main() -> None:
    """Run every pair that was asked for."""
    asked = argparse.ArgumentParser(description="Two flows on one link.")
    asked.add_argument("-p", "--pairs", default=PAIRS, help="default: %(default)s")
    asked.add_argument("--seconds", type=float, default=30.0)
    asked.add_argument("--later", type=float, default=0.0, help="head start of the first, seconds")
    asked.add_argument("--rate", type=float, default=100.0, help="Mbit/s (%(default)s)")
    asked.add_argument("--delay", type=float, default=25.0, help="ms one way (%(default)s)")
    asked.add_argument("--loss", type=float, default=0.0, help="per cent (%(default)s)")
    asked.add_argument("--queue", type=float, default=1.0, help="in BDP (%(default)s)")
    asked.add_argument("--dir", help="where to make files")
    asked.add_argument("--json", metavar="FILE")
    given = asked.parse_args()
    end_well_on_signals()
    if why_not():
        print(f"fairness is not measured: an emulated link {why_not()}")
        return
    profile = Profile(given.rate * 1e6, given.delay / 1e3, given.loss / 100)
    profile = dataclasses.replace(profile, queue=int(profile.queue_bytes() * given.queue))
    print(machine_line())
    print(f"{given.rate:g} Mbit/s, {given.delay:g} ms one way, queue {given.queue:g} BDP\n")
    outcomes, rows = [], []
    for text in given.pairs.split(","):
        first, second = (contenders()[key] for key in text.split("+"))
        reason = first.missing() or second.missing()
        try:
            if reason:
                raise RuntimeError(f"not here: {reason}")
            with workspace(given.dir) as folder:
                outcome = run_pair((first, second), profile, folder, given.seconds, given.later)
        except RuntimeError as error:
            rows.append([f"{first.name} + {second.name}", *["-"] * (len(HEADS) - 2), str(error)])
        else:
            outcomes.append(outcome)
            rows.append(row(outcome, profile))
        say("  ".join(rows[-1]))
    print(table(HEADS, rows))
    if given.json:
        facts = [dataclasses.asdict(outcome) for outcome in outcomes]
        write_json(given.json, {"machine": machine(), "pairs": facts})


if __name__ == "__main__":
    main()
