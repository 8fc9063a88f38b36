"""The file of accounts, the command that edits it, and the checkers of ``--auth``."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest_twisted
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.cred.strcred import makeChecker
from twisted.internet.defer import Deferred
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from chatbox import passwords
from chatbox.checkers import checking
from chatbox.client.errands import passwd as passwd_module
from chatbox.client.exits import Exit, Stop
from chatbox.errors import LocalError
from chatbox.options import Options
from chatbox.passwords import (
    MAX_FILE_BYTES,
    Accounts,
    check_new_password,
    editing,
    hash_password,
    parse_accounts,
    verify,
)
from tests.helpers.processes import finished

GOOD = "$argon2id$v=19$m=16,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$"
GOOD += "bK3zBNeWlZTDUmSsxShkyfpfEFPYvxk6V5hN8WVvCXQ"
"""A hash in the form of one; what of is nobody's business."""


class HashTests(SynchronousTestCase):
    """Argon2."""

    def test_there_and_back(self) -> None:
        """A password fits its own hash, and no other one does; no two hashes are the same."""
        one, two = hash_password("correct horse"), hash_password("correct horse")
        self.assertNotEqual(one, two)
        self.assertTrue(one.startswith("$argon2id$v=19$m=19456,t=2,p=1$"))
        self.assertTrue(verify("correct horse", one) and verify("correct horse", two))
        for wrong in ("", "correct hors", "correct horse ", "Correct horse", "x" * 9000):
            self.assertFalse(verify(wrong, one))

    def test_others_hashes(self) -> None:
        """The test vector of the command argon2 (its README) is understood."""
        hashed = "$argon2i$v=19$m=65536,t=2,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b/dWA"
        self.assertRaises(LocalError, parse_accounts, f"a:{hashed}".encode())
        hashed = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$"
        hashed += "CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
        self.assertEqual(parse_accounts(f"a:{hashed}".encode()), {"a": ("a", hashed)})
        self.assertTrue(verify("password", hashed))
        self.assertFalse(verify("Password", hashed))

    def test_new_passwords(self) -> None:
        """Too short, too long and what is no text is refused in words."""
        check_new_password("12345678")
        for wrong in ("1234567", "", "x" * 2000, "\udcff" * 10):
            self.assertRaises(ValueError, check_new_password, wrong)


class FileTests(SynchronousTestCase):
    """The file."""

    def setUp(self) -> None:
        self.path = os.path.join(os.path.abspath(self.mktemp()), "accounts")
        os.mkdir(os.path.dirname(self.path))

    def test_understood(self) -> None:
        """Names with colons and blanks, remarks, empty lines, and both kinds of ends of lines."""
        text = f"# mine\n\n  Ann Lee:{GOOD}\r\na:b:{GOOD}\n"
        self.assertEqual(
            parse_accounts(text.encode()),
            {"ann lee": ("Ann Lee", GOOD), "a:b": ("a:b", GOOD)},
        )

    def test_refused(self) -> None:
        """What makes no sense is refused with its line, and without showing what is in it."""
        cheap = GOOD.replace("m=16", "m=7")
        dear = GOOD.replace("m=16", "m=9999999")
        slow = GOOD.replace("t=1", "t=101")
        never = GOOD.replace("t=1", "t=0")
        for line in (
            *("alice", "alice:", f":{GOOD}", GOOD, "alice:password", f"all:{GOOD}", f"a+b:{GOOD}"),
            *(f"a:{hashed}" for hashed in (cheap, dear, slow, never, GOOD[:-30], GOOD + "!")),
            f"a:{GOOD.replace('v=19', 'v=16')}",
        ):
            error = self.assertRaises(LocalError, parse_accounts, f"\n{line}\n".encode())
            self.assertIn("line 2", str(error))
            self.assertNotIn("password", str(error))
        self.assertRaises(LocalError, parse_accounts, f"A:{GOOD}\na:{GOOD}".encode())
        self.assertRaises(LocalError, parse_accounts, b"\xff:" + GOOD.encode())
        self.assertRaises(LocalError, parse_accounts, b"#" * (MAX_FILE_BYTES + 1))

    @given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
    @example(b"a:$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAAAAAAA")
    @settings(max_examples=300)
    def test_any_bytes(self, data: bytes) -> None:
        """Any file is understood or refused, and what is understood can be checked."""
        try:
            found = parse_accounts(data)
        except LocalError:
            return
        for _, hashed in found.values():
            self.assertFalse(verify("guess", hashed))

    def test_noticed(self) -> None:
        """A change is seen at the next check; a name that is not there is no account."""
        with editing(self.path) as known:
            known["alice"] = "alice", hash_password("first one")
        accounts = Accounts(self.path)
        self.assertTrue(accounts.check("ALICE", "first one"))
        self.assertFalse(accounts.check("bob", "first one"))
        self.assertFalse(accounts.check("all", "first one"))
        with editing(self.path) as known:
            known["alice"] = "alice", hash_password("second one")
        self.assertFalse(accounts.check("alice", "first one"))
        self.assertTrue(accounts.check("alice", "second one"))
        Path(self.path).write_text("nonsense")
        self.assertRaises(LocalError, accounts.check, "alice", "second one")
        os.remove(self.path)
        self.assertRaises(OSError, accounts.check, "alice", "second one")

    def test_unknown_names_cost_the_same(self) -> None:
        """A hash is taken whether or not there is such an account."""
        with editing(self.path) as known:
            known["alice"] = "alice", hash_password("first one")
        accounts = Accounts(self.path)
        taken: list[str] = []
        real = passwords.verify

        def counted(password: str, hashed: str) -> bool:
            taken.append(hashed.split("$")[3])
            return real(password, hashed)

        self.patch(passwords, "verify", counted)
        for name in ("alice", "nobody", "all"):
            self.assertFalse(accounts.check(name, "guess"))
        self.assertEqual(taken, ["m=19456,t=2,p=1"] * 3)

    def test_edited(self) -> None:
        """Remarks stay, the file is for its owner alone, and a failure changes nothing."""
        Path(self.path).write_text(f"# mine\nann:{GOOD}\n")
        with editing(self.path) as known:
            known["bob"] = "Bob", GOOD
        self.assertEqual(Path(self.path).read_text(), f"# mine\nann:{GOOD}\nBob:{GOOD}\n")
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)

        def fail() -> None:
            with editing(self.path) as known:
                known.clear()
                raise KeyError

        self.assertRaises(KeyError, fail)
        self.assertIn("ann:", Path(self.path).read_text())
        self.assertEqual(os.listdir(os.path.dirname(self.path)), ["accounts"])


class CommandTests(SynchronousTestCase):
    """``chatbox passwd``, as people and scripts use it."""

    def setUp(self) -> None:
        self.folder = os.path.abspath(self.mktemp())
        os.mkdir(self.folder)
        self.path = os.path.join(self.folder, "accounts")

    def run_command(self, *arguments: str, typed: str = "") -> tuple[int, str, str]:
        """Run it with something on its standard input: status, output, complaints."""
        command = [sys.executable, "-m", "chatbox.client.main", "passwd", self.path, *arguments]
        done = finished(command, typed=typed)
        return done.returncode, done.stdout, done.stderr

    def test_a_life(self) -> None:
        """Created, changed, listed, deleted."""
        self.assertEqual(
            self.run_command("Ann Lee", typed="first one\n"), (0, "", "Ann Lee: created.\n")
        )
        self.assertEqual(
            self.run_command("ann lee", typed="second one\n"), (0, "", "ann lee: changed.\n")
        )
        accounts = Accounts(self.path)
        self.assertFalse(accounts.check("ann lee", "first one"))
        self.assertTrue(accounts.check("ann lee", "second one"))
        self.assertEqual(self.run_command("--list"), (0, "ann lee\n", ""))
        self.assertEqual(self.run_command("ann lee", "--delete")[0], 0)
        self.assertEqual(self.run_command("--list"), (0, "", ""))
        self.assertEqual(self.run_command("ann lee", "--delete")[0], Exit.NOT_THERE)

    def test_refused(self) -> None:
        """Short passwords, names that nobody can have, a damaged or missing file, no name."""
        for arguments, typed, status, words in (
            (("ann",), "short\n", Exit.USAGE, "at least 8"),
            (("ann",), "", Exit.USAGE, "at least 8"),
            (("all",), "long enough\n", Exit.USAGE, "nobody's name: The name is reserved."),
            (("a+b",), "long enough\n", Exit.USAGE, "no +"),
            ((), "", Exit.USAGE, "--list"),
            (("ann", "--list"), "", Exit.USAGE, "--list"),
            (("--list",), "", Exit.FAILED, "No such file"),
        ):
            found, _, said = self.run_command(*arguments, typed=typed)
            self.assertEqual((found, words in said), (status, True), said)
        self.assertFalse(os.path.exists(self.path))
        Path(self.path).write_text("nonsense\n")
        found, _, said = self.run_command("ann", typed="long enough\n")
        self.assertEqual((found, "line 1" in said), (Exit.FAILED, True))
        self.assertEqual(Path(self.path).read_text(), "nonsense\n")

    def test_typed_twice(self) -> None:
        """At a terminal it must be the same twice."""
        answers = iter(["long enough", "long enuogh"])
        with mock.patch.object(passwd_module, "ask_password", lambda *_, **__: next(answers)):
            self.assertRaises(Stop, passwd_module._new_password, "ann")
        with mock.patch.object(passwd_module, "ask_password", lambda *_, **__: "long enough"):
            self.assertEqual(passwd_module._new_password("ann"), "long enough")


class OptionTests(SynchronousTestCase):
    """``twistd chatbox --auth``."""

    def options(self, *arguments: str) -> Options:
        """Parse these."""
        folder = self.mktemp()
        os.mkdir(folder)
        options = Options()
        options.parseOptions(["--files", folder, *arguments])
        return options

    def test_kinds(self) -> None:
        """Stock checkers and ours are found, several at once; none is the default."""
        path = self.mktemp()
        Path(path).write_text(f"ann:{GOOD}\n")
        options = self.options("--auth", "memory:a:b", "--auth", f"argon2:{path}")
        self.assertEqual(len(options["credCheckers"]), 2)
        self.assertEqual(self.options()["credCheckers"], [])

    def test_refused(self) -> None:
        """What cannot work is refused in words before anything starts."""
        damaged = self.mktemp()
        Path(damaged).write_text("nonsense\n")
        for text, words in {
            "argon2": "name a file",
            f"argon2:{damaged}": "line 1",
            "argon2:/does/not/exist": "No such file",
            "pigeon:1": "no such kind of checker",
            "anonymous": "not supported",
        }.items():
            error = self.assertRaises(UsageError, self.options, "--auth", text)
            self.assertIn(words, str(error))
            self.assertIn(f"--auth {text}", str(error))

    def test_listed(self) -> None:
        """--help-auth knows ours."""
        shown = io.StringIO()
        with mock.patch.object(Options, "authOutput", shown), contextlib.suppress(SystemExit):
            self.options("--help-auth")
        self.assertIn("argon2", shown.getvalue())
        self.assertNotIn("anonymous", shown.getvalue())


def asking(*descriptions: str) -> Callable[[str, str], Deferred[bool | None]]:
    """Return what asks the checkers of these descriptions."""
    check = checking([makeChecker(description) for description in descriptions])

    def ask(name: str, password: str) -> Deferred[bool | None]:
        answer: Deferred[bool | None] = Deferred()
        check(name, password, answer.callback)
        return answer

    return ask


@pytest_twisted.ensureDeferred
async def test_checkers(tmp_path: Path) -> None:
    """Who satisfies one of several checkers may come in: ours, or Twisted's memory: and file:."""
    with editing(str(tmp_path / "accounts")) as known:
        known["zoë"] = "Zoë", hash_password("pässword")
    (tmp_path / "plain").write_text("bob:builder\n")
    ask = asking(f"argon2:{tmp_path / 'accounts'}", f"file:{tmp_path / 'plain'}", "memory:eve:ning")
    for name, password in (("zoë", "pässword"), ("bob", "builder"), ("eve", "ning")):
        assert await ask(name, password) is True
        assert await ask(name, password + "x") is False
    assert await ask("nobody", "builder") is False


@pytest_twisted.ensureDeferred
async def test_checker_that_fails(tmp_path: Path) -> None:
    """A file that cannot be read any more is not a wrong password; another checker still counts."""
    with editing(str(tmp_path / "accounts")) as known:
        known["ann"] = "ann", hash_password("password")
    ask = asking(f"argon2:{tmp_path / 'accounts'}", "memory:eve:ning")
    (tmp_path / "accounts").write_text("nonsense")
    assert await ask("ann", "password") is None
    assert await ask("eve", "ning") is True
