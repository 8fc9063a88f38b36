"""Who moves a file from one place to another: ours and the peers, each as two commands.

Of the two programs one waits (``first``) and the other sets the transfer going. Each is run as its
makers ship it, with its defaults, except where a comment here says otherwise and why.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
import socket
import sys
from pathlib import Path

from common import HERE, REPOSITORY, Missing, Sample
from link import Network
from tools import certificate, environment

PEERS = HERE / "peers"
PORT = 47000
# Twenty UDP ports for each of our servers, as by default; the second server gets the next twenty.
FIRST_UDP, UDP_COUNT = 55000, 20


@dataclasses.dataclass(frozen=True)
class Case:
    """One transfer to be made. ``folder``: an empty one for whatever the programs leave."""

    sample: Sample
    network: Network
    folder: Path
    port: int = PORT

    @property
    def received(self) -> Path:
        """Where the file must arrive."""
        return self.folder / "received" / self.sample.path.name


class Contender:
    """A pair of programs. Commands are those to run inside the network's places."""

    name = ""
    first = "sender"
    in_order = True  # the length of the file on arrival says how much of it is there

    def missing(self) -> str:
        """Why it cannot be run here; empty if it can."""
        return ""

    def sender(self, case: Case) -> list[str]:
        """The command that has the file."""
        raise NotImplementedError

    def receiver(self, case: Case) -> list[str]:
        """The command that wants it."""
        raise NotImplementedError

    def ports(self, case: Case) -> range:
        """The sender's ports by which its packets are known on the link."""
        return range(case.port, case.port + 1)


class Ours(Contender):
    """chatbox: a server with the file on its shelf, and ``chatbox get``."""

    in_order = False  # preallocated

    def __init__(self, *, gso: bool = True) -> None:
        """``gso=False`` sends packet by packet."""
        self.name = "chatbox" if gso else "chatbox --no-gso"
        self._more = [] if gso else ["--no-gso"]

    def missing(self) -> str:
        """Until all of it is written, and where Twisted is not installed."""
        for name in ("chatbox.tap", "chatbox.client.main", "chatbox.rdt.service"):
            if not (REPOSITORY / (name.replace(".", "/") + ".py")).exists():
                return f"no {name} yet"
        return "" if _twistd() else "no twistd beside this Python (pip install -e .)"

    def sender(self, case: Case) -> list[str]:
        """The server on its own port, serving the folder of the sample."""
        address = case.network.server.address
        ports = self.ports(case)
        return [
            *(_twistd(), "-n", "--pidfile=", "chatbox", "--no-announce"),
            *("--listen", f"tcp:{case.port}:interface={address}"),
            *("--files", str(case.sample.path.parent), "--log", "memory:"),
            *("--state-dir", str(case.folder / "state")),
            *("--udp-ports", f"{ports[0]}-{ports[-1]}", *self._more),
        ]

    def ports(self, case: Case) -> range:
        """Its UDP ports."""
        first = FIRST_UDP + (case.port - PORT) * UDP_COUNT
        return range(first, first + UDP_COUNT)

    def receiver(self, case: Case) -> list[str]:
        """``chatbox get``, with a stamp of when it begins (peers/ours.py)."""
        return [
            *(sys.executable, str(PEERS / "ours.py"), "get"),
            *(f"{case.network.server.address}:{case.port}", case.sample.path.name),
            *("-o", str(case.received)),
        ]


class Tcp(Contender):
    """TCP with sendfile, or TLS 1.3 over it (Python's ssl, so AES-256-GCM by default)."""

    def __init__(self, control: str, *, tls: bool = False) -> None:
        self.name = f"{'TLS' if tls else 'TCP'} {control}"
        self._control, self._tls = control, tls

    def missing(self) -> str:
        """If the kernel has not this congestion control, or there is no certificate."""
        kernel = Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text()
        if self._control not in kernel.split():
            return f"this kernel has only {kernel.strip()}"
        return _certificate_missing() if self._tls else ""

    def sender(self, case: Case) -> list[str]:
        """peers/tcp.py serve."""
        return self._command("serve", case, str(case.sample.path), 2)

    def receiver(self, case: Case) -> list[str]:
        """peers/tcp.py get."""
        return self._command("get", case, str(case.received), 1)

    def _command(self, what: str, case: Case, path: str, pems: int) -> list[str]:
        tls = [str(pem) for pem in certificate()[:pems]] if self._tls else []
        where = [case.network.server.address, str(case.port)]
        return [sys.executable, str(PEERS / "tcp.py"), what, *where, path, self._control, *tls]


class Quic(Contender):
    """A QUIC library for Python in its own virtual environment."""

    def __init__(self, package: str, control: str = "") -> None:
        self.name = f"{package} {control}".strip()
        self._package = package
        self._control = [control] if control else []

    def missing(self) -> str:
        """If it was not installed."""
        if not environment(self._package).exists():
            return "not installed (python benchmarks/peers/install.py says why)"
        return _certificate_missing()

    def sender(self, case: Case) -> list[str]:
        """Its little server."""
        return self._command("serve", case, str(case.sample.path), 2)

    def receiver(self, case: Case) -> list[str]:
        """Its little client."""
        return self._command("get", case, str(case.received), 1)

    def _command(self, what: str, case: Case, path: str, pems: int) -> list[str]:
        program = str(PEERS / f"{self._package}_file.py")
        where = [case.network.server.address, str(case.port)]
        names = [str(pem) for pem in certificate()[:pems]]
        python = str(environment(self._package))
        return [python, program, what, *where, path, *names, *self._control]


class Srt(Contender):
    """srt-file-transmit of SRT's own tools. It does not encrypt unless told to."""

    name = "SRT"

    def missing(self) -> str:
        """If the command is not there."""
        return _command_missing("srt-file-transmit", "srt-tools")

    def sender(self, case: Case) -> list[str]:
        """Listens, and sends to who calls."""
        where = f"srt://{case.network.server.address}:{case.port}?mode=listener"
        return ["srt-file-transmit", "-q", f"file://{case.sample.path}", where]

    def receiver(self, case: Case) -> list[str]:
        """Calls."""
        where = f"srt://{case.network.server.address}:{case.port}?mode=caller"
        return ["srt-file-transmit", "-q", where, f"file://{case.received}"]


class Uftp(Contender):
    """uftp to one unicast address. The receiver waits; it has no encryption unless told to.

    It has no congestion control by default, so it must be told a rate: the link's, as nothing that
    a user could know would serve it better, or no limit where there is no link. Its socket buffers
    of 256 KiB would lose most at that, so they are made larger.
    """

    name = "uftp"
    first = "receiver"

    def missing(self) -> str:
        """If the command is not there."""
        return _command_missing("uftp", "uftp")

    def sender(self, case: Case) -> list[str]:
        """Sends at a fixed rate, in kbit/s."""
        profile = case.network.profile
        rate = str(int(profile.rate / 1000)) if profile else "-1"
        address = case.network.client.address
        return [
            *("uftp", "-R", rate, "-B", "4194304", "-b", "1400", "-p", str(case.port)),
            *("-I", case.network.server.address, "-M", address, "-H", _uftp_id(address)),
            str(case.sample.path),
        ]

    def receiver(self, case: Case) -> list[str]:
        """Stays in the foreground; a file leaves the -T folder when it is complete."""
        part = case.folder / "part"
        part.mkdir()
        return [
            *("uftpd", "-d", "-B", "4194304", "-p", str(case.port)),
            *("-I", case.network.client.address),
            *("-D", str(case.received.parent), "-T", str(part)),
        ]


def contenders() -> dict[str, Contender]:
    """All by the name used on the command line; those of :data:`EXTRA` only when asked for."""
    return {
        "chatbox": Ours(),
        "tcp-cubic": Tcp("cubic"),
        "tcp-bbr": Tcp("bbr"),
        "tls": Tcp("cubic", tls=True),
        "aioquic": Quic("aioquic"),
        "aiopquic": Quic("aiopquic"),
        "srt": Srt(),
        "uftp": Uftp(),
        "chatbox-no-gso": Ours(gso=False),
        "aiopquic-bbr3": Quic("aiopquic", "bbr"),
    }


EXTRA = {"chatbox-no-gso", "aiopquic-bbr3"}


def _uftp_id(address: str) -> str:
    return "0x" + socket.inet_aton(address).hex()


def _twistd() -> str:
    beside = Path(sys.executable).parent / "twistd"
    here = beside.exists() and importlib.util.find_spec("twisted.internet") is not None
    return str(beside) if here else ""


def _certificate_missing() -> str:
    try:
        certificate()
    except (Missing, RuntimeError) as error:
        return str(error)
    return ""


def _command_missing(command: str, package: str) -> str:
    return "" if shutil.which(command) else f"no {command} here (Debian package {package})"
