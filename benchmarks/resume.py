"""Does a download survive kill -9 of either side at any moment, and what does a kill cost?

``python benchmarks/resume.py``; needs no root and no peers. A server, a client and a relay that is
slow enough for a kill to come in the middle, all on loopback; after each kill the same ``chatbox
get`` again. Exit status 1 if a file does not arrive byte for byte, if a journal claims what is not
there, or if a kill costs more than 4 MiB.
"""

from __future__ import annotations

import argparse
import sys

from common import MIB, REPOSITORY, end_well_on_signals, machine_line, number, table, workspace

sys.path.insert(0, str(REPOSITORY))

from tests.helpers.kills import MOST_LOST, Trial, Victim

HEADS = ["killed", "times", "MiB", "lost, median", "lost, most", "sent twice", "file"]


def row(victim: Victim, kills: int, seed: int, where: str | None) -> tuple[list[str], bool]:
    """One line of the table, and whether all is well."""
    with workspace(where) as folder, Trial(folder, seed=seed, kills=kills) as trial:
        deaths = [trial.kill(victim) for _ in range(kills)]
        trial.finish()
        whole = trial.arrived()
    lost = sorted(death.lost / MIB for death in deaths)
    again = sum(death.carried for death in deaths) + trial.carried - trial.size
    cells = [
        victim.value,
        str(kills),
        number(trial.size / MIB, 0),
        number(lost[len(lost) // 2], 3),
        number(lost[-1], 3),
        f"{100 * again / trial.size:.1f} %",
        "equal" if whole else "DIFFERS",
    ]
    return cells, whole and lost[-1] * MIB <= MOST_LOST


def main() -> None:
    """Print the table."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    asked.add_argument("--kills", type=int, default=20, help="of each side (%(default)s)")
    asked.add_argument("--seed", type=int, default=1, help="of the moments (%(default)s)")
    asked.add_argument("--dir", help="where to make files (default: in memory if there is room)")
    given = asked.parse_args()
    end_well_on_signals()
    print(machine_line() + "\n", flush=True)
    rows = [row(victim, given.kills, given.seed, given.dir) for victim in Victim]
    print(table(HEADS, [cells for cells, _ in rows]))
    print(
        "\nLost, in MiB: what was in the part and is not claimed, so comes again. Sent twice: that,"
    )
    print("headers, what a kill caught on the way, and what the relay's short queue dropped.")
    sys.exit(not all(well for _, well in rows))


if __name__ == "__main__":
    main()
