"""The targets of `tests.fuzz`, fed for a moment with plain mutations of what they usually get."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from tests.fuzz.__main__ import counts
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS
from tests.helpers.processes import PATIENCE, environment

SEED = 5

INPUTS = 300
"""For each target: what runs in a fraction of a second. The long run is `python -m tests.fuzz`."""


def mutated(target: Target, chance: random.Random) -> bytes:
    """A seed after a few accidents."""
    data = bytearray(chance.choice(target.seeds))
    for _ in range(chance.choice((0, 1, 1, 2, 3, 8))):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(6):
            case 0 if target.words:
                data[at:at] = chance.choice(target.words)
            case 1:
                del data[at : at + chance.choice((1, 2, 30))]
            case 2:
                data[at:at] = chance.randbytes(chance.choice((1, 2, 30)))
            case 3 if at < len(data):
                data[at] ^= 1 << chance.randrange(8)
            case 4:
                data[at:at] = data[: chance.choice((5, 200))]
            case _:
                data += chance.choice(target.seeds)
    return bytes(data[: target.max_bytes])


@pytest.mark.parametrize("name", TARGETS)
def test_target(name: str) -> None:
    """Nothing is raised but what is documented, and what must hold, holds."""
    target = TARGETS[name]
    check = target.make()
    chance = random.Random(SEED)
    for data in [b"", *target.seeds, *(mutated(target, chance) for _ in range(INPUTS))]:
        try:
            check(data)
        except BaseException as error:
            raise AssertionError(f"{name} does not stand {data!r}") from error


def test_table_of_a_long_run() -> None:
    """What libFuzzer says of itself becomes a row, also of a run that was broken off."""
    begun = "#2\tINITED cov: 60 ft: 71 exec/s: 0 rss: 90Mb\n#4096\tpulse  cov: 64 ft: 99\n"
    done = "Done 20000 runs in 7 second(s)\nstat::number_of_executed_units: 20000\n"
    assert counts(begun).split() == ["4096", "?", "64"]
    assert counts(begun + done).split() == ["20000", "7", "64"]
    assert counts("").split() == ["?", "?", "?"]


def test_unknown_target() -> None:
    """A name that is not in the table is told, with those that are."""
    command = [sys.executable, "-m", "tests.fuzz", "--inputs", "1", "lines"]
    told = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert told.returncode == 2
    assert "no target lines" in told.stderr and "known-servers" in told.stderr
