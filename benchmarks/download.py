"""One file of 1 GB by ``chatbox get`` over loopback: does it arrive, how fast, in what memory.

``python benchmarks/download.py``; needs no root and no peers. Exit status 1 if it does not arrive
whole. It is made at a tenth of the size too, so that memory growing with the file would show.
"""

from __future__ import annotations

import argparse
import sys

from common import (
    MIB,
    end_well_on_signals,
    machine_line,
    make_sample,
    number,
    table,
    workspace,
)
from contenders import Contender, Ours
from link import loopback
from measure import Run, run_once

HEADS = ["size", "Mbit/s", "seconds", "MiB server", "client", "s/GB server", "client", "sha-256"]


def download(contender: Contender, size: int, where: str | None, limit: float) -> Run:
    """One download of ``size`` bytes."""
    with workspace(where) as folder, loopback() as network:
        shelf = folder / "shelf"
        shelf.mkdir()
        place = folder / "work"
        place.mkdir()
        return run_once(contender, network, make_sample(shelf, size), place, limit)


def row(size: int, run: Run) -> list[str]:
    """One line of the table."""
    memory = [run.sender_memory, run.receiver_memory]
    return [
        f"{size / 1e6:g} MB",
        number(run.bits_per_second and run.bits_per_second / 1e6, 0),
        number(run.seconds, 2),
        *(number(value and value / MIB, 1) for value in memory),
        number(run.sender_cpu),
        number(run.receiver_cpu),
        "equal" if run.whole else run.note,
    ]


def main() -> None:
    """Print the table."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    asked.add_argument("--size", type=float, default=1000.0, help="MB (%(default)s)")
    asked.add_argument("--limit", type=float, default=120.0, help="seconds (%(default)s)")
    asked.add_argument("--no-gso", action="store_true", help="send packet by packet")
    asked.add_argument("--dir", help="where to make files (default: in memory if there is room)")
    given = asked.parse_args()
    end_well_on_signals()
    contender = Ours(gso=not given.no_gso)
    if contender.missing():
        raise SystemExit(contender.missing())
    print(machine_line() + "\n", flush=True)
    sizes = [int(given.size * 1e5), int(given.size * 1e6)]
    runs = [download(contender, size, given.dir, given.limit) for size in sizes]
    print(table(HEADS, [row(size, run) for size, run in zip(sizes, runs, strict=True)]))
    sys.exit(not all(run.whole for run in runs))


if __name__ == "__main__":
    main()
