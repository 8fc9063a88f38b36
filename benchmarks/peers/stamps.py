"""How a program under measurement says when it begins: imports done, nothing sent yet.

The harness names a file in ``BENCH_STAMPS``; one line goes there: the monotonic clock (the same
for all processes of a machine), the resident memory in KiB, and the processor time so far. Without
the name nothing is written.
"""

from __future__ import annotations

import os
import time


def begin() -> None:
    """Call this right before the first packet."""
    path = os.environ.get("BENCH_STAMPS")
    if path:
        with open("/proc/self/statm", encoding="ascii") as file:
            resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
        with open(path, "w", encoding="ascii") as file:
            file.write(f"{time.monotonic()} {resident} {time.process_time()}\n")
