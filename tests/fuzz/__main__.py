"""The long run: each target in a process of its own, one after the other, and a row for each."""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from tests.fuzz.targets import TARGETS

SECONDS_PER_INPUT = 600
"""An input that takes longer is a finding: it would stop a server for ever. That is by the clock on
the wall, so it leaves room for a machine that is busy, or asleep for a while."""

MEMORY_MB = 2048


def main() -> int:
    """Fuzz what the command line names; the exit status is 1 if something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help=f"of: {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--inputs", type=int, default=10_000_000, help="for each target")
    parser.add_argument("--seconds", type=int, default=0, help="at most, for each target")
    parser.add_argument("--folder", type=Path, default=Path(".fuzz"), help="for what is learnt")
    options = parser.parse_args()
    if unknown := [name for name in options.targets if name not in TARGETS]:
        parser.error(f"there is no target {unknown[0]}; there are {', '.join(TARGETS)}")
    if find_spec("atheris") is None:
        parser.error("this takes the package atheris: pip install '.[fuzz]'")
    print(f"{'target':<14}{'inputs':>12}{'seconds':>9}{'edges':>8}  found", flush=True)
    found = [
        fuzz(name, options.folder / name, options.inputs, options.seconds)
        for name in options.targets or TARGETS
    ]
    return int(any(found))


def fuzz(name: str, folder: Path, inputs: int, seconds: int) -> bool:
    """Feed one target and print its row; say whether something was found."""
    target = TARGETS[name]
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds:
        (corpus / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
    words = folder / "words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words))
    command = [
        *(sys.executable, "-m", "tests.fuzz.one", name, str(corpus)),
        *(f"-runs={inputs}", f"-max_len={target.max_bytes}", f"-timeout={SECONDS_PER_INPUT}"),
        *(f"-rss_limit_mb={MEMORY_MB}", f"-artifact_prefix={folder}/", "-print_final_stats=1"),
        *([f"-dict={words}"] if target.words else []),
        *([f"-max_total_time={seconds}"] if seconds else []),
    ]
    with open(folder / "log", "w") as log:
        status = subprocess.run(command, stdout=log, stderr=log, check=False).returncode
    text = (folder / "log").read_text(errors="replace")
    print(f"{name:<14}{counts(text)}  {'' if status == 0 else f'see {log.name}'}", flush=True)
    return status != 0


def counts(log: str) -> str:
    """How many inputs, in how many seconds, and how many edges of the code they reached."""
    runs = re.findall(r"stat::number_of_executed_units: (\d+)", log) or re.findall(r"#(\d+)\t", log)
    seconds = re.findall(r"runs in (\d+) second", log)
    edges = re.findall(r" cov: (\d+)", log)
    columns = zip((runs, seconds, edges), (12, 9, 8), strict=True)
    return "".join(f"{found[-1] if found else '?':>{width}}" for found, width in columns)


def _escaped(word: bytes) -> str:
    """A word as a dictionary of libFuzzer has it."""
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    sys.exit(main())
