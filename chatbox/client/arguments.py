"""The command line of ``chatbox``: what can be said on it, and how what is settled completes it.

Each command has a parser of its own; arguments that several commands take are added by functions
that these share. What reads an argument raises ArgumentTypeError in words, which argparse shows
with the usage of the command.

What the commands do is not here, nor imported: the help, and a word about a mistake, are there at
once.
"""

from __future__ import annotations

import argparse
import ipaddress
from typing import Any, Final, Protocol

from chatbox import __version__
from chatbox.client import config
from chatbox.client.connect.access import add_access
from chatbox.client.exits import Exit
from chatbox.text import printable, sendable
from chatbox.units import parse_rate

__all__ = ["apply_settings", "arguments"]


def arguments() -> argparse.ArgumentParser:
    """What can be said on the command line."""
    parser = argparse.ArgumentParser(
        prog="chatbox",
        description="Talk in a chatbox room, and download the files that its server shares.",
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"chatbox {__version__}")
    parser.add_argument("--config", metavar="PATH", help="the file of your defaults, see below")
    commands = parser.add_subparsers(
        title="commands",
        dest="command",
        metavar="COMMAND",
        required=True,
        parser_class=_CommandParser,
    )

    def add(name: str, summary: str, name_help: str = "") -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=summary, description=f"{summary}.")
        # Without a default, which would take away what was said before the command.
        made.add_argument(
            "--config",
            metavar="PATH",
            default=argparse.SUPPRESS,
            help="the file of your defaults, see chatbox --help",
        )
        if name_help:
            made.add_argument(
                "host", metavar="HOST", nargs="?", help="the server, see chatbox --help"
            )
            made.add_argument("--name", metavar="NAME", type=sendable, help=name_help)
            add_access(made)
        return made

    _add_talk(add)
    _add_get(add)
    _add_errands(add)
    _add_tools(add)
    return parser


def apply_settings(options: argparse.Namespace, settings: config.Settings) -> None:
    """Fill in what the command line left open; the name is left to who needs one."""
    options.settings = settings
    if getattr(options, "host", None) == config.SETTLED_HOST:
        options.host = None
    for key in ("host", "limit", "reconnect"):
        if hasattr(options, key) and getattr(options, key) is None:
            setattr(options, key, getattr(settings, key))


class _Add(Protocol):
    """Adds a command to the parser; one that goes to a server has words about its ``--name``."""

    def __call__(self, name: str, summary: str, name_help: str = "") -> argparse.ArgumentParser:
        """Return the command's own parser."""


_VISITOR: Final = "the name to go by [default: yours, a plus sign and some random letters]"


def _add_talk(add: _Add) -> None:
    """``join`` and ``gui``."""
    own = "your name [default: the one that is settled, else your login name]"
    join = add("join", "Talk, in a terminal or through a pipe", own)
    join.add_argument(
        "--reconnect",
        metavar="SECONDS",
        type=_seconds,
        help="how long to try to come back when the connection is cut; 0: not at all"
        " [default: an hour]",
    )
    _add_limit(join)
    _add_relay(join)
    _add_on(join)

    gui = add("gui", "Talk, in a window of your desktop", "your name [default: as last]")
    gui.add_argument("--theme", choices=("dark", "light"), help="its colours [default: as last]")
    _add_on(gui)


def _add_get(add: _Add) -> None:
    """``get``."""
    get = add("get", "Download files; prints the sha-256 and the path of each", _VISITOR)
    get.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        type=sendable,
        help="the name of a file on the server; the first of several words is HOST, or a dash for"
        " the one that is settled",
    )
    get.add_argument(
        "-o",
        "--output",
        metavar="PATH",
        type=_output,
        help="the file to save to, or the folder, as it must be for several",
    )
    get.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    get.add_argument("--pause", action="store_true", help="stop half way and ask whether to go on")
    _add_limit(get)
    get.add_argument("-q", "--quiet", action="store_true", help="complain, but do not chat")
    _add_relay(get)


def _add_errands(add: _Add) -> None:
    """``who``, ``files``, ``say`` and ``history``."""
    add("who", "Print who is in the room, one name a line", _VISITOR)
    add("files", "Print the server's files: name, TAB, size in bytes", _VISITOR)

    say = add("say", "Say one thing; success means that the server has kept it", _VISITOR)
    say.add_argument(
        "words",
        metavar="TEXT",
        nargs="+",
        type=sendable,
        help="what to say, in any number of words of which the first of several is HOST, as with"
        " get; - alone reads it from standard input",
    )
    say.add_argument("--to", metavar="NAME", type=sendable, help="to one person only")

    history = add(
        "history",
        "Print what was said: number, time in UTC, sender, recipient (or all) and text,"
        " with TAB between them; in the text \\n, \\r, \\t and \\\\ stand for what they look like",
        _VISITOR,
    )
    history.add_argument(
        "-n", metavar="N", dest="count", type=_count, default=20, help="how many [default: 20]"
    )
    history.add_argument(
        "--after", metavar="NUMBER", type=_count, help="only what follows the message NUMBER"
    )


def _add_tools(add: _Add) -> None:
    """``find``, ``passwd``, ``doctor`` and ``demo``."""
    _add_on(add("find", "Print the servers nearby: HOST, room, tls or plain, version; TAB between"))
    passwd = add("passwd", "Edit a file of accounts, for twistd chatbox --auth argon2:FILE")
    passwd.add_argument("file", metavar="FILE", help="the file; it is made if there is none")
    passwd.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        type=sendable,
        help="whose password to set; you are asked for it twice, or it is read from stdin",
    )
    passwd.add_argument("--delete", action="store_true", help="delete the account")
    passwd.add_argument("--list", action="store_true", help="print the names, one a line")

    examine = add("doctor", "Say what is wrong with the way to a server, a line a check", _VISITOR)
    _add_relay(examine)

    demo = add("demo", "Show it all on this machine: a server, two people, a bad link, a download")
    demo.add_argument(
        "--seed",
        metavar="NUMBER",
        type=int,
        default=1,
        help="another number, another luck of the bad link [default: 1]",
    )


class _CommandParser(argparse.ArgumentParser):
    """Takes options between the other arguments, too, as in ``say HOST --to NAME TEXT``."""

    _mixes = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Read what can be read; return the rest with it."""
        found, rest = super().parse_known_args(args, namespace)
        if rest and not self._mixes:
            # It gives all that is no option to those arguments that stand together first. Python's
            # way to read them mixed, which in its turn may come here, does not understand "--".
            self._mixes = True
            found, rest = self.parse_known_intermixed_args(args, namespace)
            self._mixes = False
            if rest:  # said here, it comes with the usage of this command
                self.error(f"unrecognized arguments: {' '.join(rest)}")
        return found, rest


def _add_limit(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--limit",
        metavar="RATE",
        type=_rate,
        help="let downloads take at most so much a second together, such as 500kB or 10Mbit",
    )


def _add_on(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--on",
        metavar="ADDRESS",
        type=_ip_address,
        default="",
        help="look for servers on the network of this address only [default: on all]",
    )


def _add_relay(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--udp-via",
        metavar="IP:PORT",
        type=_relay,
        help="for testing: download through a UDP relay, instead of straight from the server",
    )


def _output(argument: str) -> str:
    """Where to save to, which is a file: what is resumed, checked and renamed is no pipe."""
    if argument == "-":
        raise argparse.ArgumentTypeError(
            "nothing is downloaded to standard output; a file of that name is ./-"
        )
    return argument


def _seconds(argument: str) -> float:
    try:
        return config.seconds(argument)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _rate(argument: str) -> int:
    """Bytes per second."""
    try:
        return parse_rate(argument)
    except ValueError as error:
        raise argparse.ArgumentTypeError(printable(str(error))) from None


def _count(argument: str) -> int:
    if not (argument.isascii() and argument.isdigit() and len(argument) < 19):
        raise argparse.ArgumentTypeError(f"{argument!r} is not a number")
    return int(argument)


def _ip_address(argument: str) -> str:
    try:
        return str(ipaddress.ip_address(argument)) if argument else ""
    except ValueError:
        raise argparse.ArgumentTypeError(f"{argument!r} is no IP address") from None


def _relay(argument: str) -> tuple[str, int]:
    host, _, port = argument.rpartition(":")
    host = host.strip("[]")
    try:
        ipaddress.ip_address(host)
        if not 0 < _count(port) <= 65535:
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(f"{argument!r} is not IP:PORT") from None
    return host, _count(port)


def _epilog() -> str:
    """The part of the help that is about all subcommands."""
    rows = "\n".join(f"  {status.value:>3}  {status.meaning}" for status in Exit)
    settings = "\n".join(
        f"  {setting.example:25}  ${setting.variable:17}  {setting.meaning}"
        for setting in config.SETTINGS.values()
    )
    return f"""\
chatbox COMMAND --help tells more about a command.

HOST is a host name or address, with the server's port if that is not 50000, as
in example.org, example.org:6000, 192.0.2.1 or [2001:db8::1]:6000; or a Twisted
client endpoint, such as tls:example.org:6000 or unix:/run/chatbox. With --tls
the usual port is 50001.

What you settle once need not be said again, in a file or in the environment.
The file is what --config names, else ${config.CONFIG_VARIABLE}, else
{config.default_path()}.
The command line goes before the environment, and that before the file:
{settings}
HOST can be left out when one is settled, or be a dash: the first of several
words after get or say is always HOST. A name that is not settled is your login
name.

exit status:
{rows}
"""
