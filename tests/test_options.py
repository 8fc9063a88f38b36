"""The options of ``twistd chatbox``: what they become, and what is said of those that are wrong."""

from __future__ import annotations

import io
import math
import os
import re
from contextlib import redirect_stdout
from unittest import mock

from platformdirs import user_state_dir
from twisted.logger import capturedLogs, formatEvent
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from chatbox import __version__
from chatbox.log import KINDS
from chatbox.log.keep import EVERYTHING, Keep
from chatbox.option_values import MAX_UDP_PORTS, common_interface
from chatbox.options import Options
from chatbox.rdt.admissions import MAX_TRANSFERS, MAX_TRANSFERS_PER_USER


class OptionsTestCase(SynchronousTestCase):
    """A folder to share."""

    def setUp(self) -> None:
        self.folder = os.path.abspath(self.mktemp())
        os.mkdir(self.folder)

    def options(self, *arguments: str) -> Options:
        """Parse `arguments` beside a valid --files."""
        options = Options()
        options.parseOptions(["--files", self.folder, *arguments])
        return options

    def complaint(self, *arguments: str) -> str:
        """What is said about `arguments`, which are wrong."""
        return str(self.assertRaises(UsageError, self.options, *arguments))


class OptionsTests(OptionsTestCase):
    """Options are converted, and refused with words that say what to do."""

    def test_defaults(self) -> None:
        """Without options the usual ports are used, and messages stay, all of them."""
        options = self.options()
        self.assertEqual(options["listen"], ["tcp:50000"])
        self.assertEqual(options["udp-ports"], range(55000, 55020))
        self.assertEqual(options["udp-interface"], "")
        self.assertEqual(options["log"], "sqlite:")
        self.assertEqual(options["keep"], EVERYTHING)
        self.assertEqual(options["state-dir"], user_state_dir("chatbox"))

    def test_state_dir_becomes_absolute(self) -> None:
        """A daemon changes its working folder; its state must not move."""
        self.assertEqual(self.options("--state-dir", "x")["state-dir"], os.path.abspath("x"))

    def test_keep(self) -> None:
        """Limits are read, and nonsense is refused in words."""
        self.assertEqual(self.options("--keep", "2d,5")["keep"], Keep(age=172_800, count=5))
        self.assertIn("--keep lots: 'lots' is no limit", self.complaint("--keep", "lots"))

    def test_listen_may_be_repeated(self) -> None:
        """Each --listen adds one place to listen, instead of the default one."""
        options = self.options("--listen", "tcp:1", "--listen", r"tcp:2:interface=\:\:1")
        self.assertEqual(options["listen"], ["tcp:1", r"tcp:2:interface=\:\:1"])
        self.assertEqual(Options()["listen"], [], "parsers do not share what they read")

    def test_self_signed(self) -> None:
        """The flag adds a place with TLS, on the interface that the others have in common."""
        self.assertEqual(
            self.options("--tls-self-signed")["listen"],
            ["tcp:50000", "tls-self-signed:tcp:50001"],
        )
        options = self.options("--listen", r"tcp:1:interface=\:\:1", "--tls-self-signed")
        self.assertEqual(options["listen"][1], r"tls-self-signed:tcp:50001:interface=\:\:1")
        self.assertEqual(options["udp-interface"], "::1")
        options = self.options("--listen", "tls-self-signed:tcp:1:interface=127.0.0.1")
        self.assertEqual(options["udp-interface"], "127.0.0.1")

    def test_bad_endpoints_are_refused(self) -> None:
        """What does not say where to listen is refused before anything starts."""
        for text in (
            "",
            "tcp",
            "tcp:",
            "tcp:fifty",
            "tcp:1:color=red",
            "pigeon:1",
            "systemd:domain=INET:name=no-such-socket",
            "tls-self-signed:50001",
        ):
            said = self.complaint("--listen", text)
            self.assertIn(f"--listen {text}: this does not", said)
            self.assertNotRegex(said, r"int\(\)|_parse", "words of the code")
        said = self.complaint("--listen", "ssl:1:privateKey=/does/not/exist.pem")
        self.assertIn("/does/not/exist.pem: No such file or directory. privateKey=", said)

    def test_useless_checkers(self) -> None:
        """A checker that would let nobody in is refused at the start."""
        missing = f"file:{self.folder}/missing"
        self.assertIn(f"--auth {missing}: there is no such file", self.complaint("--auth", missing))
        with mock.patch("chatbox.checkers.find_spec", lambda _: None):
            self.assertIn("up to version 3.12 only.", self.complaint("--auth", "unix"))
        with mock.patch("chatbox.checkers.find_spec", lambda name: name):
            self.assertEqual(len(self.options("--auth", "unix")["credCheckers"]), 1)

    def test_nothing_for_a_terminal_to_obey(self) -> None:
        """What was typed comes back as what can be printed."""
        for option in ("--listen", "--files", "--keep", "--auth", "--x\x1b[2J"):
            self.assertNotIn("\x1b", self.complaint(option, "x\x1b[2J"), option)

    def test_bare_port_and_high_port_get_advice(self) -> None:
        """The two usual slips have answers of their own."""
        self.assertIn("write tcp:50000", self.complaint("--listen", "50000"))
        for text in ("tcp:65536", "tcp:port=70000:interface=127.0.0.1", "haproxy:tcp:65536"):
            self.assertIn("highest TCP port is 65535", self.complaint("--listen", text))

    def test_an_interface_is_no_name(self) -> None:
        """It is said of the option in which it is, whatever stands in front and beside it."""
        for text in (
            *("tcp:1:interface=localhost", "haproxy:tcp:1:interface=localhost"),
            *("tls-self-signed:tcp:1:interface=localhost", r"tcp:1:interface=fe80\:\:x"),
        ):
            for more in ((), ("--udp-interface", "127.0.0.1"), ("--listen", "tcp:2")):
                said = self.complaint("--listen", text, *more)
                self.assertIn(f"--listen {text}: the interface is an IP address", said)

    def test_files_becomes_absolute(self) -> None:
        """A daemon changes its working folder; the shared folder must not move."""
        options = Options()
        options.parseOptions(["--files", os.path.relpath(self.folder)])
        self.assertEqual(options["files"], self.folder)

    def test_files_must_be_a_folder(self) -> None:
        """A missing folder or a file is refused with the reason and the way out."""
        file = os.path.join(self.folder, "file")
        with open(file, "wb"):
            pass
        missing = os.path.join(self.folder, "missing")
        self.assertIn("No such file or directory", self.complaint("--files", missing))
        self.assertIn("Not a directory", self.complaint("--files", file))
        self.assertIn("Name an existing folder", self.complaint("--files", file))

    def test_default_folder_is_files(self) -> None:
        """Without --files the folder called files is shared, which is made if nothing is wrong."""
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)
        self.assertRaises(UsageError, Options().parseOptions, ["--cc", "reno"])
        self.assertRaises(UsageError, Options().parseOptions, ["--files", "files"])
        self.assertFalse(os.path.exists("files"))
        for _ in range(2):
            options = Options()
            options.parseOptions([])
            self.assertEqual(options["files"], os.path.join(self.folder, "files"))
            self.assertTrue(os.path.isdir("files"))
        os.rmdir("files")
        os.symlink("nowhere", "files")
        error = self.assertRaises(UsageError, Options().parseOptions, [])
        self.assertIn("--files files: ", str(error))

    def test_udp_ports(self) -> None:
        """One port, a range, and 0 for any."""
        for text, ports in {
            "55000-55019": range(55000, 55020),
            "7": range(7, 8),
            "7-7": range(7, 8),
            "65535": range(65535, 65536),
            "0": range(1),
        }.items():
            self.assertEqual(self.options("--udp-ports", text)["udp-ports"], ports)

    def test_bad_udp_ports_are_refused(self) -> None:
        """Nonsense, ports that do not exist, and more sockets than can be had."""
        for text in ("", "x", "-1", "1-", "1-2-3", "1,2", "1 - 2", "٣", "100000", "1.5"):
            self.assertIn("write one port", self.complaint(f"--udp-ports={text}"), text)
        for text in ("65536", "0-5", "1-65536"):
            self.assertIn("ports go from 1 to 65535", self.complaint("--udp-ports", text), text)
        self.assertIn("before the first", self.complaint("--udp-ports", "9-8"))
        self.assertEqual(len(self.options("--udp-ports", "1-1000")["udp-ports"]), MAX_UDP_PORTS)
        self.assertIn("at most 1000", self.complaint("--udp-ports", "1-1001"))

    def test_downloads(self) -> None:
        """What downloads may take is read; left out, there are the usual bounds and no rate."""
        options = self.options()
        names = ("max-rate", "downloads", "downloads-per-user", "cc", "no-gso")
        self.assertEqual(
            [options[name] for name in names],
            [math.inf, MAX_TRANSFERS, MAX_TRANSFERS_PER_USER, "bbr", 0],
        )
        given = ("--max-rate", "8Mbit", "--downloads", "5", "--downloads-per-user=2")
        options = self.options(*given, "--cc", "cubic", "--no-gso")
        self.assertEqual([options[name] for name in names], [1_000_000, 5, 2, "cubic", 1])

    def test_bad_downloads_are_refused(self) -> None:
        """Nonsense about downloads is refused with words that say what to write."""
        self.assertIn("--max-rate: '5 apples' is no rate", self.complaint("--max-rate", "5 apples"))
        for text in ("0", "-1", "many", "1.5", "1000000", "٣", ""):
            for option in ("--downloads", "--downloads-per-user"):
                self.assertIn("from 1 to 999999", self.complaint(f"{option}={text}"), text)
        self.assertIn("one of: bbr, cubic", self.complaint("--cc", "reno"))

    def test_bad_limits_are_refused(self) -> None:
        """Nonsense about clients is refused with words that say what to write."""
        self.assertIn("from 1 to 65536", self.complaint("--max-text=65537"))
        self.assertIn("from 1 to 32", self.complaint("--max-name=0"))
        for option in ("--max-connections", "--max-connections-per-address", "--max-users"):
            self.assertEqual(self.options(f"{option}=0")[option[2:]], 0)
            self.assertIn("from 0 to 999999", self.complaint(f"{option}=-1"))
        for option in ("--burst", "--join-burst"):
            self.assertIn(f"{option} 0: write a number from 1", self.complaint(option, "0"))
        for option in ("--rate", "--join-rate", "--login-timeout"):
            self.assertEqual(self.options(f"{option}=0.5")[option[2:]], 0.5)
            for text in ("-1", "nan", "inf", "fast", ""):
                self.assertIn(f"{option} {text}: write", self.complaint(f"{option}={text}"))

    def test_bad_log_is_refused(self) -> None:
        """A kind of log that is not there is a mistake of the user, not a traceback."""
        for text in ("", "memory", "papyrus:/scroll", "memory:/with/a/path", "sqlite:x?sync=off"):
            self.assertIn(f"--log {text}:", self.complaint("--log", text), text)

    def test_every_kind_of_log(self) -> None:
        """What the manual promises can be said."""
        for scheme in ("redis", "rediss", "redis+sentinel", "rediss+sentinel"):
            url = f"{scheme}://host/0"
            self.assertEqual(self.options("--log", url)["log"], url)

    def test_passwords_are_not_shown(self) -> None:
        """What is said about a wrong place ends in a log, so its passwords are left out."""
        for text, shown in {
            "redis://ann:s3cret@host:0/0": "redis://ann:...@host:0/0:",
            "redis://:s3:c/r@et@host/0?ca=x": "redis://:...@host/0?ca=x:",
            "papyrus://ann:s3cret@host/0": "papyrus://ann:...@host/0:",
            "redis+sentinel://host/x?sentinel-password=s3cret&a=b": "sentinel-password=...&a=b",
        }.items():
            said = self.complaint("--log", text)
            self.assertIn(shown, said)
            for secret in ("s3", "c/r", "et@"):
                self.assertNotIn(secret, said)

    def test_arguments_are_refused(self) -> None:
        """What is not an option is named."""
        self.assertIn("'50000'", self.complaint("50000"))

    def test_unknown_options_are_refused(self) -> None:
        """A misspelt option is named."""
        self.assertIn("--file-s", self.complaint("--file-s", "x").replace("option ", ""))

    def test_bad_files_are_refused(self) -> None:
        """What is no list of operators, no checker and no certificate comes with advice."""
        self.assertIn("a name a line", self.complaint("--operators", self.mktemp()))
        self.assertIn("--auth sphinx: there is no such kind", self.complaint("--auth", "sphinx"))
        said = self.complaint("--listen", "tls:/does/not/exist:port=1")
        self.assertIn("--listen tls:/does/not/exist:port=1: no certificate there has", said)
        self.assertIn("--tls-self-signed", said)

    def test_version(self) -> None:
        """It is ours that is told, and that of Twisted."""
        with redirect_stdout(io.StringIO()) as said:
            end = self.assertRaises(SystemExit, Options().parseOptions, ["--version"])
        self.assertEqual(end.code, 0)
        self.assertIn(f"chatbox {__version__}, with Twisted ", said.getvalue())

    def test_help_has_no_gaps(self) -> None:
        """No line of it has blanks in a row but those in front of it and behind an option."""
        for line in str(Options()).splitlines():
            text = re.sub(r"^ *(-\w, )?(--\S+)? *", "", line)
            self.assertNotIn("  ", text)

    def test_help_names_every_option(self) -> None:
        """--help has each option with its default."""
        text = re.sub(r"\s+", " ", str(Options()))
        for words in (
            "--listen=",
            "[default: tcp:50000]",
            "--files=",
            "[default: files, made if need be]",
            "--udp-ports=",
            "[default: 55000-55019]",
            "--udp-interface=",
            "--max-rate=",
            "--downloads=",
            "[default: 512]",
            "--downloads-per-user=",
            "[default: 8]",
            "--cc=",
            "[default: bbr]",
            "--no-gso",
            f"--log= Where messages are kept: {KINDS}. [default: sqlite:]",
            "--keep=",
            "[default: all]",
            "--state-dir=",
            "--room=",
            "--announce=",
            "--no-announce",
        ):
            self.assertIn(words, text)


class InterfaceTests(OptionsTestCase):
    """Files are sent from where the chat listens."""

    def test_downloads_behind_a_proxy(self) -> None:
        """It is told if they come from where nobody is who comes through it."""
        here = "haproxy:tcp:1:interface=127.0.0.1"
        for given, warned in (
            (["--listen", here], True),
            (["--listen", f"tls-self-signed:{here}"], True),
            (["--listen", r"haproxy:tcp:1:interface=\:\:1"], True),
            (["--listen", here, "--udp-interface", "127.0.0.1"], False),
            (["--listen", here, "--listen", "tcp:2"], False),
            (["--listen", "tcp:1:interface=127.0.0.1"], False),
            (["--listen", "haproxy:tcp:1:interface=192.0.2.1"], False),
        ):
            with capturedLogs() as logs:
                self.options(*given)
            told = ["--udp-interface" in formatEvent(event) for event in logs]
            self.assertEqual(told, [True] * warned, given)

    def test_one_interface(self) -> None:
        """If the chat is bound to one address, so are the downloads."""
        self.assertEqual(common_interface(["tcp:1:interface=127.0.0.1"]), "127.0.0.1")
        two = [r"tcp:1:interface=\:\:1", r"ssl:2:interface=\:\:1"]
        self.assertEqual(common_interface(two), "::1")
        options = self.options("--listen", "tcp:1:interface=127.0.0.1")
        self.assertEqual(options["udp-interface"], "127.0.0.1")

    def test_several_interfaces(self) -> None:
        """Otherwise any address will do, of IPv6 too if the chat has one of these."""
        self.assertEqual(common_interface(["tcp:1"]), "")
        self.assertEqual(common_interface(["tls:/pem:port=1"]), "::")
        self.assertEqual(common_interface(["tls:/pem:port=1:interface=10.0.0.1"]), "10.0.0.1")
        self.assertEqual(common_interface(["tcp:1:interface=127.0.0.1", "tcp:2"]), "")
        both = ["tcp:1:interface=127.0.0.1", r"tcp:1:interface=\:\:1"]
        self.assertEqual(common_interface(both), "::")
        self.assertEqual(common_interface(["tcp:1", r"tcp:1:interface=\:\:"]), "::")
        self.assertEqual(common_interface([r"unix:/tmp/a\:interface=b"]), "")

    def test_both_kinds(self) -> None:
        """What takes addresses of IPv6 takes those of IPv4, too, and so do the downloads."""
        for listen in (
            ["tcp6:1"],
            ["tcp:1", "tcp6:2"],
            ["haproxy:tcp6:1"],
            ["tls-self-signed:tcp6:1"],
            ["tls-from:/pem:haproxy:tcp6:1"],
            ["systemd:domain=INET6:index=0"],
            ["systemd:INET6:index=0"],
            ["tcp6:1", "unix:/run/chat"],
        ):
            self.assertEqual(common_interface(listen), "::", listen)
        self.assertEqual(common_interface([r"tcp6:1:interface=\:\:1"]), "::1")
        self.assertEqual(common_interface(["haproxy:tcp:1:interface=10.0.0.1"]), "10.0.0.1")
        self.assertEqual(common_interface(["systemd:domain=INET:index=0"]), "")
        twin = self.options("--listen", "tcp6:1", "--tls-self-signed")["listen"][1]
        self.assertEqual(twin, r"tls-self-signed:tcp:50001:interface=\:\:")

    def test_unix(self) -> None:
        """Nobody comes from another machine over a socket in the file system."""
        here = "tcp:1:interface=127.0.0.1"
        for socket in ("unix:/run/chat", "haproxy:unix:/run/chat", "systemd:domain=UNIX:index=0"):
            self.assertEqual(common_interface([socket, here]), "127.0.0.1")
            self.assertEqual(common_interface([socket]), "")

    def test_given_interface_wins(self) -> None:
        """--udp-interface is taken as it is."""
        listen = "tcp:1:interface=127.0.0.1"
        options = self.options("--listen", listen, "--udp-interface", "10.0.0.1")
        self.assertEqual(options["udp-interface"], "10.0.0.1")

    def test_a_name_is_no_interface(self) -> None:
        """An address is asked for."""
        words = "--udp-interface localhost: write an IP address"
        self.assertIn(words, self.complaint("--udp-interface", "localhost"))
