"""TLS, from the files of a certificate to a console that talks through it."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from OpenSSL import SSL
from twisted.internet.error import VerifyError
from twisted.internet.task import Clock
from twisted.logger import (
    ILogObserver,
    LogEvent,
    LogLevel,
    capturedLogs,
    formatEvent,
    globalLogPublisher,
)
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from chatbox.certificates import fingerprint, show_fingerprint
from chatbox.client.exits import Exit
from chatbox.errors import LocalError
from chatbox.tls import RELOAD_SECONDS, Certificate, check_endpoint, load_from
from tests.helpers.certificates import Authority
from tests.helpers.processes import Running, environment, finished, patient, script
from tests.helpers.server import free_port

WRONG = (ValueError, TypeError, OSError, LocalError, VerifyError)
"""What is raised by the parsers of endpoints."""

CLIENT = patient("chatbox")


class RenewalTests(SynchronousTestCase):
    """A certificate that is renewed while people connect, in virtual time."""

    def setUp(self) -> None:
        self.folder = Path(os.path.abspath(self.mktemp()))
        self.folder.mkdir()
        self.authority = Authority(self.folder)
        self.pem = self.folder / "both.pem"
        self.authority.issue(self.pem)
        self.clock = Clock()
        self.complaints: list[str] = []

        @implementer(ILogObserver)
        def observe(event: LogEvent) -> None:
            if event["log_level"] is LogLevel.error:
                self.complaints.append(str(event.get("error")))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    def certificate(self, description: str) -> Certificate:
        """One that is served as `description` says."""
        made = Certificate(
            "here", load_from(description, "", self.clock.seconds), self.clock.seconds
        )
        made.load()
        return made

    def served(self, certificate: Certificate) -> str:
        """Connect, and return the fingerprint of what the server shows."""
        return fingerprint(certificate.shown())

    def on_disk(self) -> str:
        """The fingerprint of what is in the file."""
        return fingerprint(x509.load_pem_x509_certificate(self.pem.read_bytes()))

    def test_renewed(self) -> None:
        """All kinds serve what was renewed, a minute later at most, and not before."""
        for description in (
            f"ssl:1:privateKey={self.pem}",
            f"tls:{self.folder}:port=1",
            f"tls-from:{self.folder}:tcp:1",
        ):
            certificate = self.certificate(description)
            old = self.on_disk()
            self.authority.issue(self.pem)
            self.assertNotEqual(self.on_disk(), old)
            self.clock.advance(RELOAD_SECONDS - 1)
            self.assertEqual(self.served(certificate), old)
            self.clock.advance(1)
            self.assertEqual(self.served(certificate), self.on_disk())

    def test_damaged(self) -> None:
        """What cannot be read leaves the old one in service, with one complaint; then it mends."""
        certificate = self.certificate(f"ssl:1:privateKey={self.pem}")
        good = self.pem.read_bytes()
        old = self.on_disk()
        for damaged in (b"", good[: len(good) // 2], b"nonsense"):
            self.pem.write_bytes(damaged)
            self.clock.advance(RELOAD_SECONDS)
            self.assertEqual(self.served(certificate), old)
        self.assertEqual(len(self.complaints), 1)
        self.assertIn("no TLS on here", self.complaints[0])
        self.authority.issue(self.pem)
        self.clock.advance(RELOAD_SECONDS)
        self.assertEqual(self.served(certificate), self.on_disk())

    def test_out_of_date(self) -> None:
        """A certificate that has ended is served, with a warning."""
        for now, level, words in (
            (0.0, LogLevel.info, "is good until "),
            (1e10, LogLevel.warn, "is good no longer, since "),
        ):
            self.clock.rightNow = now
            with capturedLogs() as logs:
                self.certificate(f"ssl:1:privateKey={self.pem}")
            (told,) = (event for event in logs if event["log_namespace"] == "chatbox.tls")
            self.assertIs(told["log_level"], level)
            self.assertIn(words, formatEvent(told))

    def test_told_when_it_is_served(self) -> None:
        """And not when only the options are read, or the log would have it twice at each start."""
        with capturedLogs() as logs:
            check_endpoint(f"tls:{self.folder}:port=1")
        self.assertEqual(logs, [])

    def test_clock_set_back(self) -> None:
        """A clock that was set back does not keep us from reading."""
        certificate = self.certificate(f"ssl:1:privateKey={self.pem}")
        self.authority.issue(self.pem)
        self.clock.rightNow = -1000.0
        self.assertEqual(self.served(certificate), self.on_disk())

    def test_wrong_from_the_outset(self) -> None:
        """What can never work is said before anything starts."""
        other = self.folder / "other.pem"
        self.authority.issue(other)
        other.write_bytes(other.read_bytes().partition(b"-----END PRIVATE KEY-----\n")[2])
        for description, words in {
            f"tls:{self.folder / 'nowhere'}:port=1": "no certificate there has its key",
            f"ssl:1:privateKey={self.pem}:certKey={other}": "do not match",
            f"tls-self-signed:ssl:1:privateKey={self.pem}": "TLS already",
            f"tls-from:{self.folder / 'nowhere'}:tcp:1": "no certificate there has its key",
            f"tls-from:{self.folder}:tls-self-signed:tcp:1": "TLS already",
            f"tls-from:{self.folder}": "",
            "tls-self-signed:": "",
            "tls-self-signed:pigeon:1": "",
        }.items():
            error = self.assertRaises(WRONG, check_endpoint, description)
            self.assertIn(words, str(error))
        check_endpoint("tls-self-signed:tcp:1")

    def test_a_key_that_cannot_be_used(self) -> None:
        """A server whose own key is damaged does not make another."""
        (self.folder / "tls-key.pem").write_text("nonsense")
        load = load_from("tls-self-signed:tcp:1", str(self.folder), self.clock.seconds)
        error = self.assertRaises(LocalError, Certificate("here", load, Clock().seconds).load)
        self.assertIn("Put the right one back", str(error))

    def test_old_versions_are_refused(self) -> None:
        """Nobody can be talked into a version of TLS before 1.2."""
        certificate = self.certificate(f"ssl:1:privateKey={self.pem}")
        for version, works in (
            (SSL.TLS1_1_VERSION, False),
            (SSL.TLS1_2_VERSION, True),
            (SSL.TLS1_3_VERSION, True),
        ):
            context = SSL.Context(SSL.TLS_CLIENT_METHOD)
            context.set_cipher_list(b"ALL:@SECLEVEL=0")
            context.set_max_proto_version(version)
            context.set_min_proto_version(version)
            if works:
                certificate.shown(context)
            else:
                self.assertRaises(SSL.Error, certificate.shown, context)


@pytest.fixture(name="place")
def _place(tmp_path: Path) -> Path:
    """A folder with something to share."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.txt").write_text("hello")
    return tmp_path


@contextmanager
def serving(place: Path, *listen: str, auth: str = "") -> Iterator[Running]:
    """A server in `place` that listens as told, with or without accounts."""
    command = [
        *script("twistd"),
        "-n",
        "--pidfile=",
        "chatbox",
        "--udp-ports",
        "0",
        "--log",
        "memory:",
    ]
    command += ["--state-dir", str(place / "server")]
    command += ["--auth", auth] if auth else []
    for description in listen:
        command += ["--listen", description]
    with Running(command, cwd=place) as server:
        yield server


def chatbox(place: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run one command of a client at home in `place`."""
    home = str(place / "home")
    return finished([*CLIENT, *arguments], cwd=place, XDG_STATE_HOME=home, **variables)


def test_self_signed(place: Path) -> None:
    """Met, known, talked to and downloaded from; refused when the key is another one."""
    port = free_port(socket.SOCK_STREAM)
    host = f"127.0.0.1:{port}"
    where = f"tls-self-signed:tcp:{port}:interface=127.0.0.1"
    home = environment(XDG_STATE_HOME=str(place / "home"))
    with serving(place, where) as server:
        shown = server.read_until(r"its fingerprint is ([0-9a-f ]+)")[1].strip()
        met = chatbox(place, "say", host, "hello", "--tls")
        assert met.returncode == Exit.OK, met.stderr
        assert shown in " ".join(met.stderr.split())
        console = Running([*CLIENT, "join", f"tls:{host}", "--name", "alice"], cwd=place, env=home)
        with console:
            console.read_until("You are in, as alice")
            said = chatbox(place, "say", host, "over tls", "--tls")
            assert (said.returncode, said.stderr) == (Exit.OK, "")
            console.read_until("over tls")
            console.write("/quit\n")
            assert console.wait() == Exit.OK
        got = chatbox(place, "get", host, "a.txt", "--tls", "-q")
        assert (got.returncode, got.stderr) == (Exit.OK, "")
        history = chatbox(place, "history", host, "--tls", "--fingerprint", shown)
        assert "over tls" in history.stdout
        plain = chatbox(place, "who", host)
        assert plain.returncode == Exit.NO_CONNECTION
        assert "add --tls" in plain.stderr
        survivor = Running([*CLIENT, "join", host, "--tls", "--name", "bob"], cwd=place, env=home)
        survivor.read_until("You are in, as bob")
        server.stop()
    (place / "server" / "tls-key.pem").unlink()
    with survivor, serving(place, where) as server:
        server.read_until("its fingerprint is")
        changed = chatbox(place, "who", host, "--tls")
        assert changed.returncode == Exit.NOT_TRUSTED
        assert "HAS ANOTHER KEY" in changed.stderr and shown in " ".join(changed.stderr.split())
        assert chatbox(place, "who", host, "--tls", "--fingerprint", shown).returncode == 14
        survivor.read_until("HAS ANOTHER KEY")
        assert survivor.wait() == Exit.LOST
        server.stop()
        assert not [line for line in server.said if "joined" in line], "nobody said who they were"


def test_vouched_for(place: Path) -> None:
    """With an authority that the system knows nothing is asked; by another name it is."""
    authority = Authority(place)
    authority.issue(place / "server.pem")
    port, plain = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_STREAM)
    secure = f"ssl:{port}:privateKey={place / 'server.pem'}:interface=127.0.0.1"
    known = place / "home" / "chatbox" / "known-servers"
    trusting = {"SSL_CERT_FILE": str(authority.path)}
    with serving(place, secure, f"tcp:{plain}:interface=127.0.0.1") as server:
        server.read_until("its fingerprint is")
        who = chatbox(place, "who", f"localhost:{port}", "--tls", **trusting)
        assert (who.returncode, who.stderr) == (Exit.OK, "")
        assert not known.exists()
        who = chatbox(place, "who", f"127.0.0.1:{port}", "--tls", **trusting)
        assert "for another name" in who.stderr
        who = chatbox(place, "who", f"localhost:{port}", "--tls")
        assert "authority is not known" in who.stderr
        assert len(known.read_text().splitlines()) == 2
        wrong = chatbox(place, "who", f"localhost:{plain}", "--tls")
        assert wrong.returncode == Exit.NO_CONNECTION
        assert "does not speak TLS" in wrong.stderr
        with socket.create_connection(("127.0.0.1", port)) as tcp:
            context = ssl.create_default_context(cafile=str(authority.path))
            with context.wrap_socket(tcp, server_hostname="localhost") as stranger:
                stranger.sendall(b"<s:carol><t:connect>\n<t:disconnect>\n")
                with stranger.makefile("rb") as answers:
                    assert b"<r:carol><m:True><p:disconnect_response>" in answers.read()
        server.stop()
    assert show_fingerprint("0" * 64) not in "".join(server.said)
