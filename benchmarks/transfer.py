"""One file, ours beside every peer, over every network: ``python benchmarks/transfer.py``.

Contenders take turns: a round is one transfer by each, and there are ``--repeats`` rounds; what is
printed are medians. Every file that arrives is compared by sha-256; one that is cut off by
``--limit`` shows how far it came and is marked. See README.rst beside this file.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from common import (
    MIB,
    Sample,
    end_well_on_signals,
    machine,
    machine_line,
    make_sample,
    median,
    number,
    say,
    table,
    workspace,
    write_json,
)
from contenders import EXTRA, Contender, contenders
from link import Network, Profile, emulated, loopback, veth, why_not
from measure import Run, run_once

MEGABIT = 1e6


@dataclasses.dataclass(frozen=True)
class Condition:
    """A network and a file. ``size``: bytes; ``profile``: the emulated link, if it is one."""

    name: str
    words: str
    size: int
    profile: Profile | None = None

    @contextlib.contextmanager
    def network(self, folder: Path, limit: float, seed: int = 1) -> Iterator[Network]:
        """The network, made anew (so that no TCP metrics are remembered)."""
        if self.profile:
            profile = dataclasses.replace(self.profile, seed=seed)
            with emulated(profile, folder, limit + 60) as network:
                yield network
        else:
            with loopback() if self.name == "L0" else veth() as network:
                yield network


def _link(name: str, rate: float, delay: float, loss: float, size: int) -> Condition:
    words = f"{rate:g} Mbit/s, {delay * 1e3:g} ms one way, {loss:.1%} loss, queue one BDP"
    return Condition(name, words, size * 10**6, Profile(rate * MEGABIT, delay, loss))


CONDITIONS = [
    Condition("L0", "loopback", 10**9),
    Condition("V0", "two namespaces, veth, MTU 1500", 10**9),
    _link("L1", 100, 0.025, 0.0, 40),
    _link("L2", 100, 0.025, 0.01, 40),
    _link("L3", 100, 0.025, 0.05, 20),
    _link("L4", 20, 0.100, 0.02, 10),
    _link("L5", 500, 0.005, 0.001, 150),
]


def measure_condition(
    condition: Condition, chosen: dict[str, Contender], folder: Path, repeats: int, limit: float
) -> dict[str, list[Run]]:
    """All rounds; the runs of each contender by its name on the command line."""
    shelf = folder / f"shelf-{condition.name}"
    shelf.mkdir()
    sample = make_sample(shelf, condition.size)
    runs: dict[str, list[Run]] = {key: [] for key in chosen}
    for turn in range(repeats):
        for key, contender in chosen.items():
            run = _turn(condition, contender, sample, folder, limit, turn)
            runs[key].append(run)
            rate = number(run.bits_per_second and run.bits_per_second / MEGABIT, 1)
            say(f"{condition.name} round {turn + 1}: {contender.name}: {rate} Mbit/s {run.note}")
    sample.path.unlink()
    return runs


def _turn(
    condition: Condition,
    contender: Contender,
    sample: Sample,
    folder: Path,
    limit: float,
    turn: int,
) -> Run:
    place = folder / f"{condition.name}-{turn}-{contender.name.replace(' ', '-')}"
    place.mkdir()
    # The same losses for everybody in a round, others in the next.
    with condition.network(place, limit, seed=turn + 1) as network:
        return run_once(contender, network, sample, place, limit)


HEADS = [
    "who",
    "Mbit/s",
    "of link",
    "chatbox is",
    "CPU s/GB sender",
    "receiver",
    "sent/byte",
    "queue ms",
    "MiB sender",
    "receiver",
    "remarks",
]


def row(runs: list[Run], ours: float | None, rate: float | None) -> list[str]:
    """One contender's medians. Only a run that brought the file whole counts, if any did."""
    counted = [run for run in runs if run.whole] or runs
    speed = median(run.bits_per_second for run in counted)
    ratio = ours / speed if ours and speed else None
    delay = median(run.queue_delay for run in counted)

    def middle(value: Callable[[Run], float | int | None]) -> float | None:
        return median(value(run) for run in counted)

    memory = [middle(lambda run: run.sender_memory), middle(lambda run: run.receiver_memory)]
    remarks = sorted({run.note for run in runs if run.note})
    return [
        runs[0].peer,
        number(speed and speed / MEGABIT, 1),
        number(speed / rate, 3) if speed and rate else "-",
        number(ratio, 2, " x"),
        number(middle(lambda run: run.sender_cpu)),
        number(middle(lambda run: run.receiver_cpu)),
        number(middle(lambda run: run.sent_per_byte), 3),
        number(delay and delay * 1e3 if delay else delay, 1),
        *(number(value and value / MIB, 0) for value in memory),
        "; ".join(remarks)[:100],
    ]


def show_condition(
    condition: Condition, runs: dict[str, list[Run]], missing: dict[str, str]
) -> str:
    """The table of one condition; who is not here stands in it too, with why."""
    rate = condition.profile.rate if condition.profile else None
    whole = [run.bits_per_second for run in runs.get("chatbox", []) if run.whole]
    ours = median(whole)
    rows = [row(of, ours, rate) for of in runs.values()]
    for key, reason in missing.items():
        rows.append([contenders()[key].name, *["-"] * (len(HEADS) - 2), f"not here: {reason}"])
    title = f"{condition.name}: {condition.words}; {condition.size / 1e6:g} MB"
    return f"{title}\n{'-' * len(title)}\n\n{table(HEADS, rows)}\n"


def options() -> argparse.Namespace:
    """What was asked for on the command line."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    names = [condition.name for condition in CONDITIONS]
    asked.add_argument("-c", "--conditions", default=",".join(names), help="which (%(default)s)")
    everybody = ",".join(key for key in contenders() if key not in EXTRA)
    asked.add_argument("-p", "--peers", default=everybody, help=f"which; also {', '.join(EXTRA)}")
    asked.add_argument("-r", "--repeats", type=int, default=3, help="rounds (%(default)s)")
    asked.add_argument("--scale", type=float, default=1.0, help="times the size of every file")
    asked.add_argument("--limit", type=float, default=60.0, help="seconds for one (%(default)s)")
    asked.add_argument("--dir", help="where to make files (default: in memory if there is room)")
    asked.add_argument("--json", metavar="FILE", help="every run, for programs; - is stdout")
    return asked.parse_args()


def choose(asked: argparse.Namespace) -> tuple[list[Condition], list[str]]:
    """The conditions and the contenders asked for; SystemExit names what is not known."""
    known = {condition.name: condition for condition in CONDITIONS}
    names, keys = asked.conditions.split(","), asked.peers.split(",")
    for unknown in [*(set(names) - set(known)), *(set(keys) - set(contenders()))]:
        raise SystemExit(f"unknown: {unknown}; there are {', '.join([*known, *contenders()])}")
    scaled = [
        dataclasses.replace(known[name], size=int(known[name].size * asked.scale)) for name in names
    ]
    return scaled, keys


def main() -> None:
    """Measure what was asked for, print one table a condition."""
    asked = options()
    end_well_on_signals()
    conditions, keys = choose(asked)
    missing = {key: reason for key in keys if (reason := contenders()[key].missing())}
    chosen = {key: contenders()[key] for key in keys if key not in missing}
    out = sys.stderr if asked.json == "-" else sys.stdout
    print(machine_line() + "\n", file=out, flush=True)
    results: dict[str, dict[str, list[dict[str, object]]]] = {}
    with workspace(asked.dir) as folder:
        for condition in conditions:
            if condition.name != "L0" and why_not():
                print(f"{condition.name}: not here: {why_not()}\n", file=out, flush=True)
                continue
            runs = measure_condition(condition, chosen, folder, asked.repeats, asked.limit)
            print(show_condition(condition, runs, missing), file=out, flush=True)
            results[condition.name] = {
                key: [dataclasses.asdict(run) for run in of] for key, of in runs.items()
            }
    if asked.json:
        write_json(asked.json, {"machine": machine(), "runs": results, "missing": missing})


if __name__ == "__main__":
    main()
