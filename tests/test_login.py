"""Logging in: a session with a gate, a client with a password, and both with all that is real."""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import subprocess
import threading
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from chatbox.chat.accounts import ADDRESS_BURST, ADDRESS_SECONDS
from chatbox.chat.codes import Code
from chatbox.chat.gate import Admission, Origin, Refusal, Visitor
from chatbox.chat.names import LocalNames, Name
from chatbox.chat.room import Room
from chatbox.chat.states import State
from chatbox.chat.turn import Turn
from chatbox.client.chat.session import ClientSession
from chatbox.client.connect.access import Access, Advice
from chatbox.client.connect.connection import ChatConnection, _advice, _ask_to_join
from chatbox.client.exits import Exit, Stop
from chatbox.passwords import editing, hash_password
from tests import test_session
from tests.helpers.chat import DelayedLog, FakeShelf, Turns, tokens
from tests.helpers.processes import PATIENCE, Running, environment
from tests.helpers.server import free_port
from tests.test_tls import CLIENT, chatbox, serving


class LaterGate:
    """A gate that answers when the test does."""

    def __init__(self) -> None:
        self.asked: list[Visitor] = []
        self.answers: list[Callable[[Admission | Refusal], None]] = []

    def start(self) -> None:
        """There is nothing to do."""

    def admit(self, visitor: Visitor, answer: Callable[[Admission | Refusal], None]) -> None:
        """Remember the question."""
        self.asked.append(visitor)
        self.answers.append(answer)


class GateTests(SynchronousTestCase):
    """A session that waits for its gate."""

    def setUp(self) -> None:
        self.others: list[test_session.Client] = []
        self.turns = Turns()
        self.log = DelayedLog()
        self.room = Room(self.log, LocalNames(tokens()), Turn(self.turns.later))
        self.shelf = FakeShelf()

    def settle(self) -> None:
        """Let everything happen that is on its way."""
        self.turns.end()
        while self.log.appended or self.log.asked:
            self.log.settle()
            self.turns.end()

    def come(self, line: str) -> tuple[test_session.Client, LaterGate]:
        """Send a connect."""
        gate = LaterGate()
        client = test_session.Client(self, gate, Origin("192.0.2.7"))  # type: ignore[arg-type]  # a part of it
        client.send(line)
        return client, gate

    def test_asked_with_everything(self) -> None:
        """The gate hears the name, the token, the password and where it comes from."""
        client, gate = self.come("<s:alice><r:server:x><t:connect><m:pass><k:key>")
        expected = Visitor(Name("alice", "alice"), "key", "pass", Origin("192.0.2.7"))
        self.assertEqual(gate.asked, [expected])
        self.assertEqual(client.heard(), [])
        self.assertEqual(client.session.state, State.JOINING)

    def test_let_in(self) -> None:
        """The client gets the gate's key, not the token inside."""
        client, gate = self.come("<s:alice><t:connect>")
        gate.answers.pop()(Admission("t" * 32, "for the client"))
        answer, joined = client.heard()
        self.assertEqual((answer.text, answer.key), ("True", "for the client"))
        self.assertEqual(joined.text, "joined")

    def test_refused(self) -> None:
        """A refusal has its code and the time to wait, costs nothing, and is worth a complaint."""
        client, gate = self.come("<s:alice><t:connect><q:7>")
        gate.answers.pop()(Refusal(Code.TRY_LATER, 12))
        [answer] = client.heard()
        self.assertEqual(
            (answer.text, answer.error, answer.count, answer.sequence),
            ("False", "try-later", 12, 7),
        )
        self.assertEqual(client.session.state, State.NAMELESS)
        self.assertEqual(client.complaints, [])
        client.send("<s:alice><t:connect><m:secret-word>")
        gate.answers.pop()(Refusal(Code.WRONG_PASSWORD))
        self.assertEqual([one.error for one in client.heard()], ["wrong-password"])
        self.assertEqual(client.complaints, ["wrong-password"])
        client.send("<s:alice><t:connect>")
        gate.answers.pop()(Admission(None))
        self.assertEqual(client.heard()[0].text, "True")

    def test_gone_meanwhile(self) -> None:
        """Who did not wait is not here, and the name is free."""
        for outcome in (Admission(None), Refusal(Code.WRONG_PASSWORD)):
            client, gate = self.come("<s:alice><t:connect><m:x>")
            client.session.connection_lost()
            gate.answers.pop()(outcome)
            self.assertEqual(client.heard(), [])
            self.assertEqual(self.room.names(), [])

    def test_what_follows_waits(self) -> None:
        """A message right behind a connect waits for the gate."""
        client, gate = self.come("<s:alice><t:connect>")
        client.send("<r:all><t:message_request><m:hi>")
        self.assertEqual(client.heard(), [])
        gate.answers.pop()(Admission(None))
        self.assertEqual(
            [one.response for one in client.heard()],
            ["connect_response", "presence", "message_received", "message_response"],
        )


class ClientTests(SynchronousTestCase):
    """What a client does with a password."""

    def join(self, access: Access, host: str) -> tuple[StringTransport, Deferred[Any]]:
        """Ask to join, without TLS, at this address."""
        transport = StringTransport()
        transport.getPeer = lambda: Namespace(host=host)  # type: ignore[method-assign]
        connection = ChatConnection(ClientSession())
        connection.makeConnection(transport)
        asked = _ask_to_join(Clock(), connection, "there", "alice", "secret-word", access)
        return transport, Deferred.fromCoroutine(asked)

    def test_never_where_others_listen(self) -> None:
        """Without TLS it is sent on this machine only, or if the person insists."""
        transport, refused = self.join(Access(), "192.0.2.1")
        stop = self.failureResultOf(refused, Stop).value
        self.assertEqual(stop.status, Exit.USAGE)
        self.assertIn("--tls", stop.sentence)
        self.assertEqual(transport.value(), b"")
        for host, access in (
            ("127.0.0.1", Access()),
            ("192.0.2.1", Access(allow_plain_auth=True)),
        ):
            transport, waiting = self.join(access, host)
            self.assertIn(b"<m:secret-word>", transport.value())
            self.assertNoResult(waiting)
            waiting.cancel()
            self.failureResultOf(waiting)

    def test_another_name_helps_seldom(self) -> None:
        """It is advised where the name is the trouble, and not to who is banned."""
        for code, helps in (
            *((Code.NAME_TAKEN, True), (Code.NAME_RESERVED, True), (Code.NAME_INVALID, True)),
            *((Code.BANNED, False), (Code.TOO_MANY_CONNECTIONS, False), ("tomorrow's", False)),
        ):
            self.assertEqual(_advice(code, Advice()).startswith(Advice().rename), helps, code)

    def test_password_files(self) -> None:
        """The first line counts, whatever its end; an empty or missing file is refused."""
        for content, expected in {
            b"correct horse\n": "correct horse",
            b" blanks count \r\nmore\n": " blanks count ",
            "pässword".encode(): "pässword",
        }.items():
            path = self.mktemp()
            Path(path).write_bytes(content)
            self.assertEqual(Access(password_file=path).read_password(), expected)
        self.assertEqual(Access().read_password(), "")
        for content in (b"", b"\n", b"\xff\n", b"x" * 2000):
            Path(path).write_bytes(content)
            self.assertRaises(Stop, Access(password_file=path).read_password)
        self.assertRaises(Stop, Access(password_file="/does/not/exist").read_password)


def server_place(tmp_path: Path) -> tuple[str, Path]:
    """Make accounts, and return how the server is told of them and the file of a password."""
    (tmp_path / "files").mkdir()
    accounts, password = tmp_path / "accounts", tmp_path / "password"
    with editing(str(accounts)) as known:
        known["alice"] = "alice", hash_password("correct horse")
    password.write_text("correct horse\n")
    return f"argon2:{accounts}", password


def test_logging_in(tmp_path: Path) -> None:
    """In over TLS, twice as one person, and back by oneself after the server was gone."""
    auth, password = server_place(tmp_path)
    port = free_port(socket.SOCK_STREAM)
    host, where = f"127.0.0.1:{port}", f"tls-self-signed:tcp:{port}:interface=127.0.0.1"
    login = ["--tls", "--password-file", str(password)]
    home = environment(XDG_STATE_HOME=str(tmp_path / "home"))
    with serving(tmp_path, where, auth=auth) as server:
        server.read_until("its fingerprint is")
        command = [*CLIENT, "join", host, "--name", "alice", *login]
        alice = Running(command, cwd=tmp_path, env=home)
        said = chatbox(tmp_path, "say", host, "early", "--name", "alice+x", *login)
        assert said.returncode == Exit.OK, said.stderr
        for name, file in (("bob", password), ("alice", tmp_path / "accounts")):
            options = ["--tls", "--password-file", str(file)]
            who = chatbox(tmp_path, "who", host, "--name", name, *options)
            assert who.returncode == Exit.NOT_LET_IN
            assert "password is wrong" in who.stderr
        who = chatbox(tmp_path, "who", host, "--tls", "--name", "alice")
        assert (who.returncode, "needs its password" in who.stderr) == (Exit.NOT_LET_IN, True)
        alice.read_until("You are in, as alice")
        who = chatbox(tmp_path, "who", host, "--name", "alice+x", *login)
        assert who.stdout == "alice\n"
        private = chatbox(
            tmp_path, "say", host, "to myself", "--to", "alice", "--name", "alice+x", *login
        )
        assert private.returncode == Exit.OK
        alice.read_until("to myself")
        server.stop(signal.SIGKILL)
        first = "".join(server.said)
    with alice, serving(tmp_path, where, auth=auth) as server:
        alice.read_until("Back again")
        alice.write("hello again\n/quit\n")
        alice.read_until("hello again")
        assert alice.wait() == Exit.OK
        server.stop()
        everything = first + "".join(server.said + alice.said)
        assert "correct horse" not in everything


def test_asked_at_a_terminal(tmp_path: Path) -> None:
    """A person types the password, sees nothing of it, and may mistype it."""
    auth, _ = server_place(tmp_path)
    port = free_port(socket.SOCK_STREAM)
    with serving(tmp_path, f"tcp:{port}:interface=127.0.0.1", auth=auth) as server:
        server.read_until(f"starting on {port}")
        ours, theirs = pty.openpty()
        client = subprocess.Popen(
            [*CLIENT, "who", f"127.0.0.1:{port}", "--name", "alice"],
            cwd=tmp_path,
            env=environment(),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        watchdog = threading.Timer(PATIENCE, client.kill)
        watchdog.daemon = True
        watchdog.start()
        shown = b""
        for typed in (b"wrong horse\n", b"correct horse\n"):
            while not shown.endswith(b"Password of alice: "):
                shown += os.read(ours, 1000)
            os.write(ours, typed)
            shown += os.read(ours, 1000)
        assert client.wait() == Exit.OK
        watchdog.cancel()
        os.close(ours)
        assert b"horse" not in shown
        assert shown.count(b"Password of alice: ") == 2
        assert shown.count(b"That was not the password") == 1


def test_guessing(tmp_path: Path) -> None:
    """Who guesses at full speed gets so many guesses and no more, and a bystander talks on."""
    auth, password = server_place(tmp_path)
    port = free_port(socket.SOCK_STREAM)
    with serving(tmp_path, f"tcp:{port}:interface=127.0.0.1", auth=auth) as server:
        server.read_until(f"starting on {port}")
        host = f"127.0.0.1:{port}"
        login = ["--name", "alice", "--password-file", str(password)]
        with Running([*CLIENT, "join", host, *login], cwd=tmp_path) as alice:
            alice.read_until("You are in, as alice")
            codes: Counter[str] = Counter()
            began = time.monotonic()
            for number in range(6):
                lines = b"".join(
                    b"<s:name%d><t:connect><m:guess %d>\n" % (number, guess) for guess in range(10)
                )
                with socket.create_connection(("127.0.0.1", port), PATIENCE) as enemy:
                    enemy.sendall(lines)
                    enemy.shutdown(socket.SHUT_WR)
                    with enemy.makefile("rb") as told:
                        codes.update(re.findall(r"<e:([a-z-]+)>", told.read().decode()))
            later = int((time.monotonic() - began) / ADDRESS_SECONDS)
            assert ADDRESS_BURST <= codes["wrong-password"] <= ADDRESS_BURST + later
            assert codes == {
                "wrong-password": codes["wrong-password"],
                "try-later": 60 - codes["wrong-password"],
            }
            alice.write("still here\n/quit\n")
            alice.read_until("alice: still here")
            assert alice.wait() == Exit.OK
