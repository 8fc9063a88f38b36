"""Real processes for tests: started, read line by line, and ended by their own id.

Nothing here sleeps. A test waits by reading what the process says, and a watchdog ends a process
that is waited for in vain, so that the reading test fails instead of hanging. One that nobody waits
for may live as long as its test does, on however slow a machine.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
"""The source tree."""

PATIENCE: Final = 120.0
"""Seconds after which what is waited for is given up. Only what is broken needs so long."""


def script(name: str) -> list[str]:
    """Return the command line of an installed script such as ``twistd``, run by this Python."""
    return [sys.executable, os.path.join(sysconfig.get_path("scripts"), name)]


def patient(program: str) -> list[str]:
    """Return the command line of ``chatbox`` or ``twistd`` with more patience than a test has."""
    helper = ROOT / "tests" / "helpers" / "patient.py"
    return [sys.executable, str(helper), str(2 * PATIENCE), program]


def environment(**extra: str) -> dict[str, str]:
    """Return an environment in which chatbox is found, installed or not.

    What a server keeps goes below the folder that the tests run in, not into somebody's home, and
    nobody's settings take part.
    """
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        "XDG_STATE_HOME": os.path.abspath("state"),
        "CHATBOX_CONFIG": os.devnull,
    }
    theirs = {name: value for name, value in os.environ.items() if not name.startswith("CHATBOX_")}
    return {**theirs, **own, **extra}


def finished(
    command: Sequence[str], *, typed: str = "", cwd: Path | None = None, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end. `typed` is all that its standard input has; the environment has
    the `settings`, too.
    """
    return subprocess.run(
        command,
        input=typed,
        capture_output=True,
        encoding="utf-8",
        env=environment(**settings),
        cwd=cwd,
        timeout=PATIENCE,
        check=False,
    )


class Running:
    """A child process with a pipe at each end; what it says on stderr is read with its stdout."""

    def __init__(
        self,
        command: list[str],
        *,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.said: list[str] = []
        self._given_up = False
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment() if env is None else env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            pass_fds=pass_fds,
        )

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def read_until(self, pattern: str) -> re.Match[str]:
        """Read lines until one matches `pattern`, and return the match."""
        assert self._process.stdout is not None
        with self._watched():
            for line in self._process.stdout:
                self.said.append(line)
                if match := re.search(pattern, line):
                    return match
        how = "was given up" if self._given_up else "ended"
        raise AssertionError(f"it {how} without saying {pattern!r}:\n{''.join(self.said)}")

    def read_until_all(self, *patterns: str) -> None:
        """Read lines until each of `patterns` has matched one, whichever comes first."""
        missing = set(patterns)
        while missing:
            line = self.read_until("|".join(missing)).string
            missing = {pattern for pattern in missing if not re.search(pattern, line)}

    def write(self, text: str) -> None:
        """Type `text`."""
        assert self._process.stdin is not None
        with self._watched():
            self._process.stdin.write(text)
            self._process.stdin.flush()

    def end_input(self) -> None:
        """Say that nothing more will be typed."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def wait(self) -> int:
        """Read to the end of the output and return the exit status (negative: the signal)."""
        assert self._process.stdout is not None
        with self._watched():
            self.said.extend(self._process.stdout)
            status = self._process.wait()
        assert not self._given_up, f"it did not end:\n{''.join(self.said)}"
        return status

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask the process to end, and return its exit status."""
        self.send(number)
        return self.wait()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """End the process if this takes too long."""
        watchdog = threading.Timer(PATIENCE, self._give_up)
        watchdog.daemon = True
        watchdog.start()
        try:
            yield
        finally:
            watchdog.cancel()

    def _give_up(self) -> None:
        self._given_up = True
        self._process.kill()

    def kill(self) -> None:
        """End the process, whatever it does, and give back what belongs to it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:  # something was still to be written
                    continue


@contextmanager
def kept(pid_file: Path, command: list[str]) -> Iterator[Running]:
    """Run a command that starts a daemon, in the folder of its pid file.

    What is yielded has said what the command did, the last line being its exit status. The daemon
    has to end with us, however we end.
    """
    keeper = ROOT / "tests" / "helpers" / "keeper.py"
    with Running([sys.executable, str(keeper), str(pid_file), *command], cwd=pid_file.parent) as it:
        it.read_until(r"^-?\d+$")
        try:
            yield it
        finally:
            it.end_input()
            it.wait()


def stop_other(pid: int, number: signal.Signals = signal.SIGTERM) -> None:
    """End a process that is not our child, such as a daemon, and wait until it is gone."""
    descriptor = os.pidfd_open(pid)
    try:
        os.kill(pid, number)
        _wait_for(descriptor)
    finally:
        os.close(descriptor)


def see_daemon_end(pid_file: Path) -> None:
    """Wait until a daemon is gone that ends by itself, and see that it took its pid file away."""
    try:
        descriptor = os.pidfd_open(int(pid_file.read_text()))
    except (FileNotFoundError, ProcessLookupError):
        descriptor = None  # it was faster
    if descriptor is not None:
        try:
            _wait_for(descriptor)
        finally:
            os.close(descriptor)
    assert not pid_file.exists()


def _wait_for(descriptor: int) -> None:
    gone, _, _ = select.select([descriptor], [], [], PATIENCE)
    assert gone, "the process goes on"
