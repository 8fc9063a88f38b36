"""Run many seeds of both: ``python -m tests.storm FIRST COUNT``."""

from __future__ import annotations

import sys
import traceback

from tests.storm.client import wander
from tests.storm.world import storm


def main() -> int:
    """Run them, and print each that fails."""
    first, count = map(int, sys.argv[1:3])
    failed = 0
    for seed in range(first, first + count):
        for run in (storm, wander):
            try:
                run(seed)
            except Exception:
                failed += 1
                print(f"{run.__name__}({seed}):", traceback.format_exc(), flush=True)
    print(f"{count} seeds, {failed} failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
