"""What the benchmarks share: a place for their files, processes that are measured, tables.

A measured process is one that we start, watch and end ourselves, by its own process id, and that
dies with us. Its processor time is what the kernel says when it is reaped (``wait4``: user and
system, start-up included). Its peak memory is read from ``/proc`` while it lives (``VmHWM``, the
high-water mark of what is resident): ``ru_maxrss`` would count what we had resident when we forked.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import datetime
import hashlib
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
MIB = 1 << 20
# What a program may do after its last byte before it is told to stop.
GRACE = 15.0
# Whoever uses no processor for so many seconds is at rest.
REST = 0.2
# A file that has not changed for so many seconds is not taken for one that is still being written.
SETTLED = 2.5


class Missing(Exception):
    """Something that a benchmark needs is not on this machine; the text says what and why."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a program runs: an address of its own and what must stand before its command."""

    address: str
    prefix: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Usage:
    """What a process took. ``cpu``: seconds; ``memory``: bytes at its peak, 0 if never seen."""

    cpu: float
    memory: int
    status: int


class Process:
    """One program, started in a place, its output in a file of its own."""

    def __init__(
        self,
        command: Sequence[str | os.PathLike[str]],
        place: Place,
        log: Path,
        *,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        typed: bool = False,
    ) -> None:
        """Start ``command``; ``typed`` gives it a pipe for standard input (``self.typed``)."""
        self.log = log
        self.usage: Usage | None = None
        self._memory = 0
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*place.prefix, *(os.fspath(word) for word in command)],
                stdin=subprocess.PIPE if typed else subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder or log.parent,
                env={**_environment(), **(environment or {})},
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - we have no threads
            )
        self.pid = self._process.pid
        self.typed = self._process.stdin

    @property
    def cpu(self) -> float:
        """Processor time so far, in seconds, of all its threads, those that have ended too."""
        clock = ~self.pid << 3 | 2  # what clock_getcpuclockid(3) makes of a process id
        return time.clock_gettime(clock)

    def look(self) -> int:
        """Take note of the memory that it uses; answer the high-water mark in bytes so far."""
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    self._memory = max(self._memory, int(line.split()[1]) * 1024)
        return self._memory

    def listens(self, port: int) -> bool:
        """Whether a TCP or UDP socket in its network namespace is bound to ``port``."""
        wanted = f":{port:04X}"
        for table in ("tcp", "tcp6", "udp", "udp6"):
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{self.pid}/net/{table}").read_text().splitlines()[1:]:
                    if line.split()[1].endswith(wanted):
                        return True
        return False

    def wait_until(self, what: str, done: Callable[[], bool], limit: float = 30.0) -> None:
        """Return when it is ``done``; raise RuntimeError if it ends or takes too long."""
        until = time.monotonic() + limit
        while not done():
            if self.ended() or time.monotonic() > until:
                raise RuntimeError(f"did not {what}: {self.last_words()}")
            time.sleep(0.02)

    def wait_until_listening(self, port: int) -> None:
        """Return when it listens on ``port``; raise RuntimeError as ``wait_until``."""
        self.wait_until(f"come to listen on port {port}", lambda: self.listens(port))

    def wait_until_at_rest(self) -> None:
        """Return when it uses no processor worth mentioning; RuntimeError as ``wait_until``."""

        def at_rest() -> bool:
            before = self.cpu
            time.sleep(REST)
            return self.cpu - before < 0.05 * REST

        self.wait_until("come to rest", at_rest)

    def ended(self) -> bool:
        """Whether it has ended of its own accord or been stopped."""
        if self.usage is None:
            pid, status, spent = os.wait4(self.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                self._process.returncode = code
                self.usage = Usage(spent.ru_utime + spent.ru_stime, self._memory, code)
        return self.usage is not None

    def wait(self, limit: float) -> bool:
        """Wait for it to end; false if it has not after ``limit`` seconds."""
        until = time.monotonic() + limit
        while not self.ended():
            if time.monotonic() > until:
                return False
            time.sleep(0.005)
        return True

    def stop(self) -> Usage:
        """End it, politely at first; answer what it took in all."""
        for sign, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 30.0)):
            self.look()
            if self.ended():
                break
            os.kill(self.pid, sign)
            self.wait(patience)
        if self.typed is not None:
            with contextlib.suppress(OSError):
                self.typed.close()
        if self.usage is None:
            raise RuntimeError(f"process {self.pid} does not end")
        return self.usage

    def last_words(self) -> str:
        """The last line that it wrote: most often why it failed."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1].strip()[:200] if lines else "it said nothing"


def _environment() -> dict[str, str]:
    """Ours, for programs that find the repository and, as where it is installed, compiled."""
    made = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    made.pop("PYTHONDONTWRITEBYTECODE", None)
    return made


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def run_quietly(*command: str | os.PathLike[str]) -> str:
    """Run a short command that must succeed; answer its output, raise RuntimeError with it."""
    done = subprocess.run(
        [os.fspath(word) for word in command], capture_output=True, text=True, check=False
    )
    if done.returncode:
        words = " ".join(os.fspath(word) for word in command)
        raise RuntimeError(f"{words}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port of 127.0.0.1 that nobody had a moment ago."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def workspace(asked: str | None = None) -> Iterator[Path]:
    """A folder for the files of one run, removed afterwards; ``asked``: where to make it.

    In memory (``/dev/shm``) where there is room, so that no disk is measured by mistake.
    """
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 6 << 30
    parent = Path(asked or (memory if roomy else tempfile.gettempdir()))
    for left in parent.glob("chatbox-bench-*-*"):  # by a run that was killed
        if not Path("/proc", left.name.split("-")[2]).exists():
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"chatbox-bench-{os.getpid()}-", dir=parent) as folder:
        yield Path(folder)


@dataclasses.dataclass(frozen=True)
class Sample:
    """A file of random bytes and what it must hash to on arrival."""

    path: Path
    size: int
    digest: str


def make_sample(folder: Path, size: int) -> Sample:
    """Write ``size`` random bytes to a file in ``folder``."""
    path = folder / f"sample-{size}.bin"
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for start in range(0, size, MIB):
            piece = os.urandom(min(MIB, size - start))
            digest.update(piece)
            file.write(piece)
    time.sleep(SETTLED)
    return Sample(path, size, digest.hexdigest())


def touch_memory(folder: Path, size: int) -> None:
    """Use ``size`` bytes of the memory behind ``folder`` and give them back.

    A guest's host takes back what has not been used for two seconds, and to give it again takes
    some 0.8 s a GB, four times as long as to write it down. Whoever begins at once finds it there.
    """
    path = folder / "touched"
    with path.open("wb") as file:
        for start in range(0, size, MIB):
            file.write(bytes(min(MIB, size - start)))
    path.unlink()


def sha256(path: Path) -> str:
    """The digest of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(MIB):
            digest.update(piece)
    return digest.hexdigest()


def size_of(path: Path) -> int:
    """How long a file is; -1 while it is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def jain(shares: Sequence[float]) -> float:
    """Jain's fairness index: 1 if all shares are equal, 1/n if one has everything."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 0.0


def median(values: Iterable[float | None]) -> float | None:
    """The median of those that are known; None if none is."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def number(value: float | None, digits: int = 2, unit: str = "") -> str:
    """A figure for a table: a dash where it is not known."""
    return "-" if value is None else f"{value:,.{digits}f}{unit}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A reStructuredText simple table; the first and the last column lean left, others right."""
    columns = list(zip(heads, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    rule = "  ".join("=" * width for width in widths)

    def line(cells: Sequence[str]) -> str:
        placed = [
            cell.ljust(width) if index in (0, len(cells) - 1) else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(placed).rstrip()

    return "\n".join([rule, line(heads), rule, *map(line, rows), rule])


def machine() -> dict[str, Any]:
    """What a reader must know of the machine and the hour to judge a figure."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "kernel": platform.release(),
        "processor": name,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
    }


def machine_line() -> str:
    """The same in one line."""
    facts = machine()
    return (
        f"{facts['date']}, {facts['cores']} cores {facts['processor']}, Linux {facts['kernel']}, "
        f"Python {facts['python']}, load at start {facts['load']}"
    )


def say(text: str) -> None:
    """Tell whoever watches how far we are (standard error; tables go to standard output)."""
    print(text, file=sys.stderr, flush=True)


def write_json(path: str, value: object) -> None:
    """Write results for programs; ``-`` is standard output."""
    text = json.dumps(value, indent=1, default=str) + "\n"
    if path == "-":
        sys.stdout.write(text)
    else:
        Path(path).write_text(text)


def end_well_on_signals() -> None:
    """Turn SIGTERM and SIGHUP into an exit that runs every ``finally``: no namespace stays."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, leave)
