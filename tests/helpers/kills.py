"""Downloads between real processes that are killed at seeded moments, and what that costs.

The link between them is slow enough for a kill to come in the middle, and says when enough has
passed; so the moment of a kill is a number of bytes, not a guess of a time. Nothing is asked of the
processes but what a person would ask: `chatbox get`, and the same again.
"""

from __future__ import annotations

import math
import os
import random
import re
import select
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from chatbox.client.files.journal import Journal
from tests.helpers.processes import PATIENCE, Running, environment, patient, script
from tests.helpers.server import free_port

HOST: Final = "127.0.0.1"
LINK_RATE: Final = 20e6
"""Bytes per second that the link carries: a third of a second between two kills."""

BYTES_A_KILL: Final = 6 << 20
"""How much passes at most between two kills."""

MOST_LOST: Final = 4 << 20
"""What one kill may cost, in bytes."""

_STEP: Final = 1 << 18
"""How many more bytes are carried if nothing is claimed yet."""

_BLOCK: Final = 1024
"""Two files are compared in blocks of so many bytes."""


class Victim(Enum):
    """Who is killed."""

    CLIENT = "client"
    SERVER = "server"


@dataclass(frozen=True)
class Death:
    """What a kill left behind, in bytes of the file."""

    carried: int
    """By the link in this attempt, until the kill."""
    written: int
    """Right bytes in the part, whole blocks."""
    claimed: int
    """Of them, how many the journal tells the next attempt."""

    @property
    def lost(self) -> int:
        """What has to come a second time."""
        return max(0, self.written - self.claimed)


class SlowLink(threading.Thread):
    """A UDP relay between clients and one server, with a rate and a short queue.

    Where somebody waits for so many bytes, it carries these and no more until it is let go on.
    """

    def __init__(self, server: tuple[str, int], rate: float = LINK_RATE) -> None:
        super().__init__(name="slow link", daemon=True)
        self.carried = 0
        """Bytes to the client."""
        self._server = server
        self._rate = rate
        self._near, self._far, self._awake, self._waker = (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(4)
        )
        for one in (self._near, self._far, self._awake):
            one.bind((HOST, 0))
        self.port: int = self._near.getsockname()[1]
        self._changed = threading.Condition()
        self._goal = math.inf
        self._stands_at = -1.0
        """The goal where it stands, if it does."""
        self.start()

    def wait_for(self, carried: int) -> None:
        """Wait until so much has been carried to the client since the beginning of all."""
        self._go_on_to(carried)
        with self._changed:
            stands = self._changed.wait_for(lambda: self._stands_at == carried, PATIENCE)
        assert stands, f"only {self.carried} of {carried} bytes came"

    def go_on(self) -> None:
        """Carry whatever comes."""
        self._go_on_to(math.inf)

    def _go_on_to(self, goal: float) -> None:
        with self._changed:
            self._goal = goal
            self._changed.notify_all()

    def close(self) -> None:
        """Carry no more."""
        self.go_on()
        self._waker.sendto(b"", self._awake.getsockname())
        self.join(PATIENCE)
        for one in (self._near, self._far, self._awake, self._waker):
            one.close()

    def run(self) -> None:
        """Carry."""
        client: tuple[str, int] | None = None
        free_at = time.monotonic()
        while True:
            ready, _, _ = select.select([self._awake, self._near, self._far], [], [])
            if self._awake in ready:
                return
            if self._near in ready:
                data, client = self._near.recvfrom(1 << 16)
                self._pass(self._far, data, self._server)
            if self._far in ready:
                data = self._far.recv(1 << 16)
                free_at = max(free_at, time.monotonic()) + len(data) / self._rate
                time.sleep(max(0.0, free_at - time.monotonic()))
                if client is not None:
                    self._pass(self._near, data, client)
                self.carried += len(data)
            with self._changed:
                while self.carried >= self._goal:
                    self._stands_at = self._goal
                    self._changed.notify_all()
                    self._changed.wait()
                self._stands_at = -1.0

    @staticmethod
    def _pass(through: socket.socket, data: bytes, address: tuple[str, int]) -> None:
        try:
            through.sendto(data, address)
        except OSError:  # nobody is there at the moment
            return


class Trial:
    """One file, one server, one client, and their deaths."""

    def __init__(self, folder: Path, *, seed: int, kills: int) -> None:
        self._chance = random.Random(seed)
        self._folder = folder
        self._kills = kills
        self.story = ""
        """All that the clients said."""
        self.seconds: list[float] = []
        """How long each attempt took, the start of the program included."""
        self.resumed: list[int] = []
        """Where each attempt but the first said that it resumed, in percent; -1 if it did not."""
        self.carried = 0
        """Bytes to the client in the last attempt, and before it what was still on the way."""
        self.size = (kills + 1) * BYTES_A_KILL
        self.film = folder / "shelf" / "film.bin"
        self.film.parent.mkdir()
        self._fill()
        self._tcp, self._udp = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)
        self._link = SlowLink((HOST, self._udp))
        self._out = folder / "out.bin"
        self._server = self._serve()

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.kill()
        self._link.close()

    def kill(self, victim: Victim, *, gently: bool = False, claimed: bool = False) -> Death:
        """Get the file, and end one side by force (or the client by Ctrl-C) on the way, if need be
        when something is `claimed`.
        """
        goal = self._link.carried + self._chance.randrange(BYTES_A_KILL)
        before = self._link.carried
        with self._get(patiently=gently) as client:
            started_at = time.monotonic()
            self._link.wait_for(goal)
            while claimed and not self._look()[1]:
                goal += _STEP
                self._link.wait_for(goal)
            if victim is Victim.SERVER:
                self._server.stop(signal.SIGKILL)
                # It would be silent for half a minute; a person sees it and is less patient.
                client.send(signal.SIGINT)
            else:
                client.send(signal.SIGINT if gently else signal.SIGKILL)
            self._link.go_on()
            client.wait()
            if victim is Victim.SERVER:
                self._server.kill()
                self._server = self._serve()
            self._note(client, started_at)
        return Death(self._link.carried - before, *self._look())

    def finish(self) -> None:
        """Get the rest of the file."""
        before, started_at = self._link.carried, time.monotonic()
        with self._get() as client:
            status = client.wait()
            self._note(client, started_at)
        self.carried = self._link.carried - before
        assert status == 0, self.story

    def server_says(self, pattern: str) -> None:
        """Wait until the server's log has something."""
        self._server.read_until(pattern)

    def change(self, *, contents: bool) -> None:
        """Let somebody write to the file on the server, or only act as if."""
        if contents:
            self._fill()
        os.utime(self.film, ns=(0, 1_600_000_000_000_000_000))

    def arrived(self) -> bool:
        """Whether the file is there, right, and nothing else."""
        names = sorted(path.name for path in self._folder.iterdir())
        return names == ["out.bin", "shelf"] and (self._out.read_bytes() == self.film.read_bytes())

    def _fill(self) -> None:
        self.film.write_bytes(self._chance.randbytes(self.size))

    def _serve(self) -> Running:
        command = [
            *script("twistd"),
            *("-n", "--pidfile=", "chatbox", "--files", str(self.film.parent)),
            *("--listen", f"tcp:{self._tcp}:interface={HOST}", "--udp-ports", str(self._udp)),
            # It takes half a minute to see that a client is dead, and there may be many in that.
            *("--downloads-per-user", str(self._kills + 1)),
        ]
        process = Running(command, cwd=self._folder.parent)
        process.read_until(f"starting on {self._tcp}")
        return process

    def _get(self, *, patiently: bool = False) -> Running:
        """Begin a download; `patiently` to wait for the server to take a goodbye."""
        command = [
            *(patient("chatbox") if patiently else (sys.executable, "-m", "chatbox.client.main")),
            *("get", f"{HOST}:{self._tcp}", self.film.name, "-o", str(self._out)),
            *("--udp-via", f"{HOST}:{self._link.port}"),
        ]
        return Running(command, env=environment())

    def _note(self, client: Running, started_at: float) -> None:
        said = "".join(client.said)
        self.seconds.append(time.monotonic() - started_at)
        if self.story:
            found = re.search(r"resuming at (\d+) %", said)
            self.resumed.append(int(found[1]) if found else -1)
        self.story += said or "(nothing)\n"

    def _look(self) -> tuple[int, int]:
        """How much of the part is right, and how much of that is claimed; a claim must be true."""
        part = Path(f"{self._out}.part")
        if not part.exists():
            return 0, 0
        # First what is claimed, then what is there, for the client may be at work.
        journal = Journal(f"{part}.journal")
        try:
            claim = journal.read()
        finally:
            journal.close()
        ours, theirs = part.read_bytes(), self.film.read_bytes()
        ranges = claim.ranges if claim else ()
        for start, stop in ranges:
            assert ours[start:stop] == theirs[start:stop], f"{start} to {stop} is claimed and wrong"
        blocks = range(0, len(ours), _BLOCK)
        right = sum(ours[at : at + _BLOCK] == theirs[at : at + _BLOCK] for at in blocks)
        return right * _BLOCK, sum(stop - start for start, stop in ranges)
