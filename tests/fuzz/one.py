"""Feed one target: ``python -m tests.fuzz.one TARGET [FILE | FOLDER] [-runs=N ...]``.

The arguments after the target are libFuzzer's: a file is fed once, a folder is a corpus.
"""

from __future__ import annotations

import sys

import atheris

# Before the first import of anything of ours: what is not instrumented guides nobody.
with atheris.instrument_imports(include=["chatbox"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Run until libFuzzer ends the process."""
    name, *arguments = sys.argv[1:]
    atheris.Setup([sys.argv[0], *arguments], TARGETS[name].make())
    atheris.Fuzz()


if __name__ == "__main__":
    main()
