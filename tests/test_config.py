"""Settings: the file, the environment, which goes first, and what is said of mistakes."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from dataclasses import fields
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from chatbox.client.arguments import apply_settings, arguments
from chatbox.client.config import (
    SETTINGS,
    Colours,
    Settings,
    default_path,
    load,
    login_name,
    read_environment,
    read_file,
    required_host,
)
from chatbox.client.exits import Exit, Stop
from tests.helpers.processes import finished

WHOLE = """
# a comment
host = "chat.example.org:6000"
name = "Ann \\"100 %\\" Lee"
colours = "never"
downloads = "/srv/incoming"
limit = "2MB"
reconnect = 600
"""


class FileTests(SynchronousTestCase):
    """What the file may hold."""

    def refused(self, data: str | bytes) -> str:
        """What is said of a wrong file."""
        data = data.encode() if isinstance(data, str) else data
        stop = self.assertRaises(Stop, read_file, data, "config.toml")
        self.assertEqual(stop.status, Exit.USAGE)
        sentence: str = stop.sentence
        return sentence

    def test_every_setting(self) -> None:
        """All of them, as they are written in a file."""
        expected = {
            "host": "chat.example.org:6000",
            "name": 'Ann "100 %" Lee',
            "colours": Colours.NEVER,
            "downloads": "/srv/incoming/",
            "limit": 2_000_000,
            "reconnect": 600.0,
        }
        self.assertEqual(read_file(WHOLE.encode(), "f"), expected)
        self.assertEqual(set(expected), {field.name for field in fields(Settings)})
        self.assertEqual(list(SETTINGS), [field.name for field in fields(Settings)])

    def test_the_examples_are_right(self) -> None:
        """What an error message shows as an example is accepted."""
        for setting in SETTINGS.values():
            self.assertEqual(list(read_file(setting.example.encode(), "f")), [setting.key])

    def test_numbers_may_be_quoted(self) -> None:
        """A number is one with and without quotes, and with a fraction."""
        self.assertEqual(read_file(b"limit = 5000", "f"), {"limit": 5000})
        for text in ("60", '"60"', "60.0"):
            self.assertEqual(read_file(f"reconnect = {text}".encode(), "f"), {"reconnect": 60.0})

    def test_home(self) -> None:
        """A tilde is one's home."""
        with mock.patch.dict(os.environ, {"HOME": "/anywhere"}):
            found = read_file(b'downloads = "~/Downloads"', "f")
        self.assertEqual(found, {"downloads": "/anywhere/Downloads/"})

    def test_empty(self) -> None:
        """An empty file settles nothing."""
        self.assertEqual(read_file(b"", "f"), {})

    def test_unknown_key(self) -> None:
        """A key that does nothing is named, with its line and with what was meant."""
        self.assertEqual(
            self.refused('host = "h"\n\n  colors = "never"\n'),
            "config.toml, line 3: there is no setting 'colors'. Did you mean colours?",
        )
        self.assertIn(
            "'x'. There are: host, name, colours, downloads, limit, reconnect.",
            self.refused("x = 1"),
        )
        self.assertIn("line 2: there is no setting 'window'", self.refused("\n[window]\nsize = 1"))

    def test_wrong_values(self) -> None:
        """A wrong value is told with the file, the line, the key and what would be right."""
        cases = {
            "host = 5": 'line 1: host must look like this: host = "chat.example.org"',
            "reconnect = true": "line 1: reconnect must look like this: reconnect = 600",
            'reconnect = "soon"': "line 1: reconnect: 'soon' is no number of seconds.",
            "reconnect = -1": "line 1: reconnect: '-1' is no number of seconds.",
            "reconnect = nan": "line 1: reconnect: 'nan' is no number of seconds.",
            'colours = "mauve"': "line 1: colours: 'mauve' is none of auto, always, never.",
            'downloads = "x"': "line 1: downloads: 'x' is no full path; begin it with / or ~/.",
            'limit = "x"': "line 1: limit: 'x' is no rate. Write bytes per second such as 800kB or"
            " 10MB, or bits such as 100Mbit.",
            'name = " "': "line 1: name: it is empty; leave it out instead.",
        }
        for text, complaint in cases.items():
            self.assertEqual(self.refused(text), f"config.toml, {complaint}")

    def test_no_toml(self) -> None:
        """What is not TOML, or no text, is told with its line."""
        self.assertIn("config.toml: ", self.refused("name = Ann"))
        self.assertIn("line 1, column 8", self.refused("name = Ann"))
        self.assertIn('looks like name = "Alice"', self.refused("name = Ann"))
        self.assertIn("config.toml, line 2: this is not text in UTF-8.", self.refused(b"#\n\xff\n"))

    def test_too_much_of_it(self) -> None:
        """What Python will not read for its length or its depth is told, too."""
        for text in ("limit = " + "9" * 5000, "limit = " + "[" * 5000):
            self.assertIn("too long, or something stands in too many", self.refused(text))

    def test_no_control_characters(self) -> None:
        """A file that somebody else wrote cannot move the cursor."""
        self.assertNotIn("\x1b", self.refused('"\\u001b[2J" = 1'))
        self.assertNotIn("\x1b", self.refused('colours = "\\u001b[2J"'))

    def test_a_key_that_stands_twice(self) -> None:
        """No line is named when it is not plain which one it is."""
        text = 'name = """\nhost = 1\n"""\nhost = 5'
        self.assertEqual(
            self.refused(text), 'config.toml: host must look like this: host = "chat.example.org"'
        )


class EnvironmentTests(SynchronousTestCase):
    """What the environment may hold."""

    def test_every_setting(self) -> None:
        """Each has its variable; an empty one is none, others are nobody's business."""
        found = read_environment(
            {
                "CHATBOX_HOST": "h",
                "CHATBOX_NAME": "caf\udce9",
                "CHATBOX_COLOURS": "always",
                "CHATBOX_RECONNECT": "0",
                "CHATBOX_DOWNLOADS": "",
                "CHATBOX_ELSE": "1",
            }
        )
        expected = {
            "host": "h",
            "name": "caf\N{REPLACEMENT CHARACTER}",
            "colours": Colours.ALWAYS,
            "reconnect": 0.0,
        }
        self.assertEqual(found, expected)

    def test_wrong_value(self) -> None:
        """The variable is named."""
        stop = self.assertRaises(Stop, read_environment, {"CHATBOX_RECONNECT": "never"})
        self.assertEqual(stop.sentence, "$CHATBOX_RECONNECT: 'never' is no number of seconds.")

    def test_login_name(self) -> None:
        """Without a name in any of them it is the login name, and always text that can be sent."""
        with mock.patch.dict(os.environ, {"LOGNAME": "caf\udce9"}):
            self.assertEqual(login_name(), "caf\N{REPLACEMENT CHARACTER}")
            self.assertEqual(Settings().name, "caf\N{REPLACEMENT CHARACTER}")


class OrderTests(SynchronousTestCase):
    """Which goes first."""

    def setUp(self) -> None:
        self.path = self.mktemp()
        Path(self.path).write_text('host = "file"\nname = "file"\nreconnect = 1\n')

    def test_environment_before_file(self) -> None:
        """What the environment says goes before the file, which goes before what is built in."""
        settings = load(self.path, {"CHATBOX_NAME": "environment"})
        self.assertEqual((settings.host, settings.name), ("file", "environment"))
        self.assertIs(settings.colours, Colours.AUTO)

    def test_which_file(self) -> None:
        """--config, else $CHATBOX_CONFIG, else the usual place, where there need not be one."""
        other = self.mktemp()
        Path(other).write_text('host = "other"')
        self.assertEqual(load(other, {"CHATBOX_CONFIG": self.path}).host, "other")
        self.assertEqual(load(None, {"CHATBOX_CONFIG": self.path}).host, "file")
        home = Path(self.mktemp()).absolute()
        with mock.patch.dict(os.environ, {"XDG_CONFIG_HOME": str(home)}):
            self.assertEqual(default_path(), str(home / "chatbox" / "config.toml"))
            self.assertIsNone(load(None, {}).host)
            (home / "chatbox").mkdir(parents=True)
            (home / "chatbox" / "config.toml").write_text('host = "usual"')
            self.assertEqual(load(None, {}).host, "usual")

    def test_file_that_cannot_be_read(self) -> None:
        """A file that was asked for must be there; a folder is no file."""
        stop = self.assertRaises(Stop, load, "/no/such/file", {})
        self.assertEqual(stop.sentence, "/no/such/file: No such file or directory.")
        stop = self.assertRaises(Stop, load, "/", {})
        self.assertEqual(stop.sentence, "/: Is a directory.")

    def applied(self, *argv: str) -> Namespace:
        """The options of a command line, settled by the file."""
        options = arguments().parse_args(argv)
        apply_settings(options, load(self.path, {}))
        return options

    def test_command_line_first(self) -> None:
        """What is said on the command line is not touched; HOST may be left out."""
        options = self.applied("join", "line", "--reconnect", "0", "--name", "line")
        self.assertEqual((options.host, options.reconnect, options.name), ("line", 0.0, "line"))
        options = self.applied("join")
        self.assertEqual((options.host, options.reconnect), ("file", 1.0))
        options = self.applied("get", "a.txt")
        self.assertEqual((options.host, options.files), ("file", ["a.txt"]))
        options = self.applied("get", "line", "a.txt")
        self.assertEqual((options.host, options.files), ("line", ["a.txt"]))
        options = self.applied("get", "-", "a.txt", "b.txt")
        self.assertEqual((options.host, options.files), ("file", ["a.txt", "b.txt"]))

    def test_config_before_and_after_the_command(self) -> None:
        """--config may stand on either side of the command."""
        for argv in (["--config", "p", "who"], ["who", "--config", "p"]):
            self.assertEqual(arguments().parse_args(argv).config, "p")
        self.assertIsNone(arguments().parse_args(["who"]).config)

    def test_no_host_at_all(self) -> None:
        """Without a server, the sentence says the ways to name one."""
        stop = self.assertRaises(Stop, required_host, None)
        self.assertEqual(stop.status, Exit.USAGE)
        for way in ("HOST", "$CHATBOX_HOST", default_path()):
            self.assertIn(way, stop.sentence)


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    """The command ends with status 2 and one sentence, before it touches the network."""
    path = tmp_path / "settings"
    path.write_text('nmae = "Ann"')
    command = [sys.executable, "-m", "chatbox.client.main", "--config", str(path), "who", "h"]
    done = finished(command)
    assert done.returncode == Exit.USAGE
    assert done.stderr == (
        f"chatbox: {path}, line 1: there is no setting 'nmae'. Did you mean name?\n"
    )
