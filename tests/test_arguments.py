"""The command line: what it may be, and what is said of one that is wrong."""

from __future__ import annotations

import contextlib
import io
import os
import re
from argparse import Namespace
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from chatbox.client import main as main_module
from chatbox.client.arguments import arguments
from chatbox.client.exits import Exit


class ArgumentTests(SynchronousTestCase):
    """The command line."""

    def refused(self, *argv: str) -> str:
        """What is said about a wrong command line."""
        output = io.StringIO()
        with contextlib.redirect_stderr(output):
            status = self.assertRaises(SystemExit, arguments().parse_args, list(argv))
        self.assertEqual(status.code, Exit.USAGE)
        return output.getvalue()

    def test_help_lists_every_status_and_command(self) -> None:
        """--help is the manual: all commands and all exit statuses are in it."""
        text = arguments().format_help()
        for status in Exit:
            self.assertRegex(text, rf"(?m)^ +{status.value}  {re.escape(status.meaning)}$")
        for command in main_module._SUBCOMMANDS:
            self.assertRegex(text, rf"(?m)^ +{command} ")

    def test_help_fits(self) -> None:
        """No line of any help is wider than a terminal of 80 columns, but for a long path."""
        patched = {"COLUMNS": "80", "XDG_CONFIG_HOME": "/x"}
        for command in ("", *main_module._SUBCOMMANDS):
            with (
                mock.patch.dict(os.environ, patched),
                contextlib.redirect_stdout(io.StringIO()) as out,
            ):
                argv = [*([command] if command else []), "--help"]
                self.assertRaises(SystemExit, arguments().parse_args, argv)
            wide = [line for line in out.getvalue().splitlines() if len(line) > 80]
            self.assertEqual(wide, [], command)

    def test_too_many_words(self) -> None:
        """What a command does not know comes with how that command is used."""
        for argv in (("who", "h", "x"), ("history", "h", "--x"), ("get", "h", "f", "-z")):
            self.assertIn(f"usage: chatbox {argv[0]} ", self.refused(*argv))

    def test_get(self) -> None:
        """All options of get."""
        options = arguments().parse_args(
            [
                "get",
                "h",
                "f",
                "-o",
                "p",
                "--overwrite",
                "--name",
                "n",
                "--pause",
                "--limit",
                "8Mbit",
                "-q",
                "--udp-via",
                "127.0.0.1:9",
            ]
        )
        expected = Namespace(
            config=None,
            command="get",
            host="h",
            files=["f"],
            output="p",
            overwrite=True,
            name="n",
            pause=True,
            limit=1_000_000,
            quiet=True,
            tls=False,
            fingerprint=None,
            password_file=None,
            allow_plain_auth=False,
            udp_via=("127.0.0.1", 9),
        )
        self.assertEqual(options, expected)

    def test_options_anywhere(self) -> None:
        """Options may stand before, between and behind all else; behind -- there are none."""
        for words in ("h a b -o d", "h -o d a b", "h a -o d b", "-o d h a b", "-o d -- h a b"):
            options = arguments().parse_args(["get", *words.split()])
            self.assertEqual((options.host, options.files), ("h", ["a", "b"]), words)
            self.assertEqual(options.output, "d")
        for words in ("h --to bob hi", "--to bob h hi", "h hi --to bob"):
            options = arguments().parse_args(["say", *words.split()])
            self.assertEqual((options.host, options.words, options.to), ("h", ["hi"], "bob"))
        options = arguments().parse_args(["say", "--", "-x"])
        self.assertEqual((options.host, options.words), (None, ["-x"]))
        for words in ("h -- -x y --to", "-- h -x y --to"):
            options = arguments().parse_args(["say", *words.split()])
            self.assertEqual((options.host, options.words), ("h", ["-x", "y", "--to"]), words)
        for words in ("h a b --to bob", "h a --to bob b", "--to bob h a b"):
            options = arguments().parse_args(["say", *words.split()])
            self.assertEqual((options.host, options.words), ("h", ["a", "b"]), words)
            self.assertEqual(options.to, "bob")
        options = arguments().parse_args(["passwd", "accounts", "--delete", "bob"])
        self.assertEqual((options.file, options.name, options.delete), ("accounts", "bob", True))

    def test_wrong_arguments(self) -> None:
        """They end with status 2 and a word about what is wrong."""
        self.refused()
        self.assertIn("wave", self.refused("wave"))
        self.assertIn("FILE", self.refused("get"))
        self.assertIn("--nope", self.refused("get", "h", "--nope", "f"))
        self.assertIn("number", self.refused("history", "h", "-n", "x", "--after", "1"))
        self.assertIn("number", self.refused("join", "h", "--reconnect", "soon"))
        for relay in ("name:1", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1"):
            self.assertIn("IP:PORT", self.refused("join", "h", "--udp-via", relay))
        self.assertIn("number", self.refused("history", "h", "-n", "many"))
        self.assertIn("./-", self.refused("get", "h", "f", "-o", "-"))
        self.assertIn("such as 800kB", self.refused("get", "h", "f", "--limit", "fast"))

    def test_text_that_is_not_utf8(self) -> None:
        """Bytes of the command line that are no text are replaced, since they cannot be sent."""
        options = arguments().parse_args(["say", "h", "caf\udce9"])
        self.assertEqual(options.words, ["caf\N{REPLACEMENT CHARACTER}"])
