"""Networks to measure on: loopback, a veth pair, and an emulated link between two namespaces.

Each is a context manager that gives a :class:`Network`, a place for the server and one for the
client, and that takes away what it made however it is left. All but loopback need root. Namespaces
are named after our process id; those of a run that was killed are swept up by the next one.

- :func:`loopback`: this machine's own, MTU 65536.
- :func:`veth`: MTU 1500 by default, with the kernel's own settings: veth takes TSO, GSO and UDP
  segmentation as done, so a send of many segments crosses in one piece and is cut only if the
  receiver's socket wants it cut. It is the cost of a stack that is measured here, not of a wire.
- :func:`emulated`: ``link.c`` between two TUN devices: rate, delay, loss, queue. TUN offers no
  offloads: every packet is of MTU size, and checksums are computed. Nothing is put together again
  on arrival either (no GRO), which is harder on a receiver than most network cards.

Run by itself it checks the emulator: ``python benchmarks/link.py``.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import os
import re
import shutil
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import (
    HERE,
    Missing,
    Place,
    Process,
    end_well_on_signals,
    machine_line,
    run_quietly,
    table,
    workspace,
)
from tools import TOOLS, make_tools_folder

# The range for tests between network devices (RFC 2544): nobody else's address.
SERVER, CLIENT = "198.18.0.1", "198.18.0.2"
RECORD = struct.Struct("=IIHHHBB")  # struct record of link.c
DELIVERED, DROPPED, LOST = range(3)
# The first so many round trips of a flow are its start-up, left out of the queue's median.
START_UP = 20
_serial = itertools.count(1)


@dataclasses.dataclass(frozen=True)
class Profile:
    """An emulated link. ``rate``: bit/s; ``delay``: seconds one way; ``queue``: bytes."""

    rate: float
    delay: float
    loss: float = 0.0
    queue: int = 0  # 0: one bandwidth-delay product, but never less than ten packets
    mtu: int = 1500
    seed: int = 1

    def queue_bytes(self) -> int:
        """The queue's limit in bytes."""
        product = int(self.rate * self.round_trip / 8)
        return self.queue or max(product, 10 * self.mtu)

    @property
    def round_trip(self) -> float:
        """Seconds there and back with no queue."""
        return 2 * self.delay


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """One packet that entered the link. Times in seconds, ``wait`` in the queue."""

    time: float
    wait: float
    length: int
    from_port: int
    to_port: int
    protocol: int
    from_server: bool
    fate: int


@dataclasses.dataclass(frozen=True)
class Report:
    """What the emulated link counted. ``down`` is server to client, ``up`` the other way."""

    down: dict[str, int]
    up: dict[str, int]
    late_us: dict[str, float]
    realtime: bool
    overflow: int  # packets lost between the kernel and us: not part of the emulation
    log: Path
    profile: Profile

    def packets(self) -> Iterator[Seen]:
        """All packets, in order of arrival (the log is cut after 16 million)."""
        for time_us, wait_us, length, source, target, protocol, bits in RECORD.iter_unpack(
            self.log.read_bytes()
        ):
            yield Seen(
                time_us / 1e6,
                wait_us / 1e6,
                length,
                source,
                target,
                protocol,
                not bits & 0x80,
                bits & 0x7F,
            )

    def queue_delay(self) -> float | None:
        """Median seconds that the server's packets waited, after the start-up; None if it was all.

        Dropped packets count: they found the queue full.
        """
        waits, start = [], None
        for seen in self.packets():
            if seen.from_server:
                start = seen.time if start is None else start
                if seen.time - start > START_UP * self.profile.round_trip:
                    waits.append(seen.wait)
        return statistics.median(waits) if len(waits) > 100 else None

    def doubt(self) -> str:
        """Why this run of the link may not be what it should have been; empty if all is well."""
        doubts = []
        if self.overflow:
            doubts.append(f"{self.overflow} packets overran the TUN device")
        if self.down["refused"] or self.up["refused"]:
            doubts.append(f"{self.down['refused'] + self.up['refused']} packets refused")
        late = self.late_us["p99"] / 1e6
        if late > max(0.001, self.profile.round_trip / 10):
            doubts.append(f"1 % of packets over {late * 1e3:.1f} ms late")
        return "; ".join(doubts)


@dataclasses.dataclass
class Network:
    """Two places that reach each other, and the link between them if it is emulated."""

    server: Place
    client: Place
    profile: Profile | None = None
    link: _Link | None = None

    def finish(self) -> Report | None:
        """Stop the emulated link and answer what it counted; None where there is none."""
        return self.link.finish() if self.link else None


@contextlib.contextmanager
def loopback() -> Iterator[Network]:
    """Both on 127.0.0.1. Needs no rights."""
    here = Place("127.0.0.1")
    yield Network(here, here)


@contextlib.contextmanager
def veth(mtu: int = 1500) -> Iterator[Network]:
    """Two namespaces joined by a veth pair."""
    with _namespaces() as (server, client):
        for name in (server, client):
            _inside(name, "ip", "link", "set", "lo", "up")
        # Born inside: a name of ours must not meet one of the machine's.
        run_quietly(
            *("ip", "-n", server, "link", "add", "eth0", "mtu", str(mtu), "type", "veth"),
            *("peer", "name", "eth0", "mtu", str(mtu), "netns", client),
        )
        for name, address in ((server, SERVER), (client, CLIENT)):
            run_quietly("ip", "-n", name, "addr", "add", f"{address}/30", "dev", "eth0")
            run_quietly("ip", "-n", name, "link", "set", "eth0", "up")
        yield Network(_place(server, SERVER), _place(client, CLIENT))


@contextlib.contextmanager
def emulated(profile: Profile, folder: Path, limit: float = 900.0) -> Iterator[Network]:
    """Two namespaces with ``link.c`` between them, which ends by itself after ``limit`` seconds."""
    program = compile_link()
    with _namespaces() as (server, client):
        link = _Link(program, profile, (server, client), folder, limit)
        try:
            yield Network(_place(server, SERVER), _place(client, CLIENT), profile, link)
        finally:
            link.finish()


def why_not() -> str:
    """Why namespaces and links cannot be made here; empty if they can."""
    if os.geteuid() != 0:
        return "needs root"
    if not shutil.which("ip"):
        return "needs the ip command (Debian: iproute2)"
    if not Path("/dev/net/tun").exists():
        return "needs /dev/net/tun"
    if not (shutil.which("cc") or shutil.which("gcc")):
        return "needs a C compiler"
    return ""


def compile_link() -> Path:
    """The compiled link.c, made anew if the source is younger."""
    source, program = HERE / "link.c", TOOLS / "link"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        make_tools_folder()
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise Missing("no C compiler")
        fresh = program.with_suffix(f".{os.getpid()}")
        run_quietly(compiler, "-O2", "-Wall", "-std=gnu11", "-o", fresh, source)
        fresh.replace(program)
    return program


class _Link:
    """The running link.c and the two TUN devices that live as long as it does."""

    def __init__(
        self, program: Path, profile: Profile, names: tuple[str, str], folder: Path, limit: float
    ) -> None:
        self.profile, self.names = profile, names
        self.log = folder / f"link-{next(_serial)}.log"
        self.report: Report | None = None
        shape = f"tun0,{profile.rate},{profile.delay * 1e6},{profile.loss},{profile.queue_bytes()}"
        numbers = (profile.mtu, profile.seed, limit)
        self.process = subprocess.Popen(
            [program, *(f"{name},{shape}" for name in names), *map(str, numbers), self.log],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self.process.stdout is None or self.process.stdout.readline() != "ready\n":
            self.process.wait()
            raise RuntimeError("the emulated link did not start")
        for name, here, there in ((names[0], SERVER, CLIENT), (names[1], CLIENT, SERVER)):
            _inside(name, "ip", "link", "set", "lo", "up")
            run_quietly("ip", "-n", name, "addr", "add", here, "peer", there, "dev", "tun0")
            # The kernel's own queue before us must never be what drops: ours is the queue.
            run_quietly(
                *("ip", "-n", name, "link", "set", "tun0", "mtu", str(profile.mtu)),
                *("txqueuelen", "20000", "up"),
            )

    def finish(self) -> Report:
        if self.report is None:
            overflow = sum(_tun_drops(name) for name in self.names)
            self.process.terminate()
            output, _ = self.process.communicate()
            counted: dict[str, Any] = json.loads(output)
            self.report = Report(
                counted["a"],
                counted["b"],
                counted["late_us"],
                counted["realtime"],
                overflow,
                self.log,
                self.profile,
            )
        return self.report


def _tun_drops(name: str) -> int:
    try:
        shown = json.loads(run_quietly("ip", "-n", name, "-s", "-j", "link", "show", "dev", "tun0"))
    except RuntimeError:  # the link has ended by itself
        return 0
    dropped: int = shown[0]["stats64"]["tx"]["dropped"]
    return dropped


def _place(name: str, address: str) -> Place:
    return Place(address, ("ip", "netns", "exec", name))


def _inside(name: str, *command: str) -> str:
    return run_quietly("ip", "netns", "exec", name, *command)


@contextlib.contextmanager
def _namespaces() -> Iterator[tuple[str, str]]:
    reason = why_not()
    if reason:
        raise Missing(reason)
    _sweep()
    serial = next(_serial)
    made: list[str] = []
    try:
        for side in ("server", "client"):
            name = f"chatbox-{os.getpid()}-{serial}-{side}"
            run_quietly("ip", "netns", "add", name)
            made.append(name)
            # Neighbour discovery and the like would be counted as somebody's packets.
            _inside(name, "sysctl", "-q", "-w", "net.ipv6.conf.all.disable_ipv6=1")
            _inside(name, "sysctl", "-q", "-w", "net.ipv6.conf.default.disable_ipv6=1")
        yield made[0], made[1]
    finally:
        for name in made:
            run_quietly("ip", "netns", "del", name)


def _sweep() -> None:
    """Remove namespaces of ours whose process is gone (killed before it could tidy up)."""
    for line in run_quietly("ip", "netns", "list").splitlines():
        found = re.match(r"chatbox-(\d+)-\d+-(server|client)\b", line)
        if found and not Path(f"/proc/{found[1]}").exists():
            run_quietly("ip", "netns", "del", found[0])


# The rest checks the emulator against what can be worked out on paper.


def check(profile: Profile, folder: Path, seconds: float) -> list[str]:
    """One row: the round trip on an idle link, then what a paced flow and a TCP flow get."""
    probe = HERE / "peers" / "probe.py"
    with emulated(profile, folder) as network:
        echo = Process([sys.executable, probe, "echo", "7000"], network.server, folder / "echo")
        echo.wait_until_listening(7000)
        ping = Process(
            [sys.executable, probe, "ping", SERVER, "7000"], network.client, folder / "ping"
        )
        ping.wait(60)
        echo.stop()
    trip = float(ping.last_words())
    over, _ = _flow(profile, folder, seconds, 1.3)
    under, report = _flow(profile, folder, seconds, 0.9)
    return [
        f"{profile.rate / 1e6:g} Mbit/s {profile.delay * 1e3:g} ms {profile.loss:.1%}",
        f"{(trip - profile.round_trip) * 1e3:+.3f} ms",
        f"{over / profile.rate:.2%}",
        f"{under / (0.9 * profile.rate):.2%}",
        f"{report.down['lost'] / max(1, report.down['packets']):.3%}",
        "/".join(f"{report.late_us[key] / 1000:.2f}" for key in ("p50", "p99", "max")),
        report.doubt() or "none",
    ]


def _flow(profile: Profile, folder: Path, seconds: float, load: float) -> tuple[float, Report]:
    """Send UDP at ``load`` times the rate; answer what arrived in bit/s of IP, and the report."""
    probe = HERE / "peers" / "probe.py"
    with emulated(profile, folder) as network:
        sink = Process([sys.executable, probe, "sink", "7000"], network.client, folder / "sink")
        sink.wait_until_listening(7000)
        numbers = (load * profile.rate, seconds, profile.mtu)
        blast = Process(
            [sys.executable, probe, "blast", CLIENT, "7000", *map(str, numbers)],
            network.server,
            folder / "blast",
        )
        blast.wait(seconds + 10)
        time.sleep(profile.round_trip + 1.5)  # what is queued still arrives
        sink.stop()
        report = network.finish()
    assert report is not None
    return float(sink.last_words()), report


def main() -> None:
    """Print what the emulator does beside what it should do."""
    options = argparse.ArgumentParser(description="Check the emulated link.")
    options.add_argument("--seconds", type=float, default=3.0, help="length of each flow")
    seconds = options.parse_args().seconds
    end_well_on_signals()
    reason = why_not()
    if reason:
        print(f"the emulated link {reason}")
        return
    profiles = [
        Profile(20e6, 0.1, 0.02),
        Profile(100e6, 0.025),
        Profile(100e6, 0.025, 0.05),
        Profile(500e6, 0.005),
        Profile(500e6, 0.005, 0.001),
    ]
    with workspace() as folder:
        rows = [check(profile, folder, seconds) for profile in profiles]
    print(machine_line(), "\n")
    heads = ["link", "round trip", "at 1.3 x", "at 0.9 x", "lost", "late ms p50/p99/max", "doubt"]
    print(table(heads, rows))
    print("\nround trip: measured less set; at 1.3 x, 0.9 x: arrived, of the rate or of the offer")


if __name__ == "__main__":
    main()
