"""What a target is.

A target is a function of bytes. It returns if all is well, which includes refusing them with the
one error that is documented for it; anything else that it raises is a finding. What must hold
besides stands in it as assertions: what was read and is written again means the same, nothing is
shown that a terminal obeys, nothing grows beyond its bound, nobody is answered who has no key.

What a target needs for all its inputs is made once, by the function that makes the target.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Check = Callable[[bytes], None]


@dataclass(frozen=True)
class Target:
    """One thing to feed. `make` returns the function of bytes."""

    make: Callable[[], Check]
    seeds: Sequence[bytes]
    """What it usually gets, to begin from."""
    words: Sequence[bytes] = ()
    """What is worth putting into it anywhere."""
    max_bytes: int = 512


def memory_folder() -> str:
    """A new folder, in memory where that is possible: this happens millions of times."""
    folder = tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
