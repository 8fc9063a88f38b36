"""How one server is reached, and what a person is asked on the way, in a terminal.

A password comes from a file or from the keyboard, never from the command line, which every user of
a machine can read. It is kept in memory, to come back with, and is shown nowhere.
"""

from __future__ import annotations

import getpass
import shutil
import signal
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar

from chatbox.client.exits import SIGNALS, Exit, Stop
from chatbox.client.width import fitted
from chatbox.text import printable

if TYPE_CHECKING:
    from chatbox.client.connect.secure import Ask
    from chatbox.client.connect.trust import Meeting, Trust

__all__ = [
    "PLAIN",
    "Access",
    "Advice",
    "add_access",
    "ask_line",
    "ask_password",
    "interactive",
    "meet_new_server",
]

T = TypeVar("T")

_MAX_PASSWORD: Final = 1024


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do where one does not get in: here with an option, in a window with a field."""

    rename: str = "Choose another name with --name."
    use_tls: str = "Add --tls."
    give_password: str = "Give it with --password-file."
    check_account: str = "Is the name the one of your account? It is given with --name."
    protect_password: str = "Connect with --tls; or, if you must, add --allow-plain-auth."
    perhaps_tls: str = "Is this a port for TLS? Then add --tls."


@dataclass(frozen=True)
class Access:
    """What was said about the way to the server."""

    tls: bool = False
    """Whether a mere host means TLS."""
    fingerprint: str | None = None
    """Which key the server must have; None if that is to be found out."""
    password_file: str | None = None
    """The file with the password; None if there is none, or the person is to be asked for it."""
    allow_plain_auth: bool = False
    """Whether to send a password where others can read it."""
    ask_password: Callable[[str, bool], Awaitable[str | None]] | None = None
    """Asks for the password of an account, and is told whether the last answer was a wrong one;
    None, as its answer, if nobody is there to ask."""
    meet: Ask | None = None
    """Decides whether a new server may be trusted; None for `meet_new_server`."""
    advice: Advice = Advice()

    @cached_property
    def trust(self) -> Trust:
        """What is known of servers, for as long as this process runs."""
        # It loads the cryptography, which takes a while.
        from chatbox.client.connect.trust import Trust

        return Trust(expected=self.fingerprint)

    @classmethod
    def from_options(cls, options: Namespace) -> Access:
        """Make it of what `add_access` has added."""
        return cls(
            tls=options.tls,
            fingerprint=options.fingerprint,
            password_file=options.password_file,
            allow_plain_auth=options.allow_plain_auth,
            ask_password=_ask_password_in_terminal,
        )

    def read_password(self) -> str:
        """Return the first line of the file; "" without one. Raises Stop if it cannot be read."""
        if self.password_file is None:
            return ""
        where = printable(self.password_file)
        try:
            with open(self.password_file, encoding="utf-8", newline="\n") as file:
                password = file.readline(_MAX_PASSWORD + 1).rstrip("\r\n")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
            raise Stop(Exit.USAGE, f"The password file {where}: {reason}.") from None
        if not password or len(password) > _MAX_PASSWORD:
            raise Stop(Exit.USAGE, f"The password file {where} has no password in its first line.")
        return password


PLAIN: Final = Access()
"""Nothing was said: no TLS, unless the endpoint says so."""


def add_access(parser: ArgumentParser) -> None:
    """Add the options that say how to reach a server."""
    parser.add_argument(
        "--tls", action="store_true", help="connect with TLS; the usual port is 50001 then"
    )
    parser.add_argument(
        "--fingerprint",
        metavar="HEX",
        type=_fingerprint,
        help="the fingerprint that the server's key must have, which takes TLS",
    )
    parser.add_argument(
        "--password-file",
        metavar="PATH",
        help="the file whose first line is your password [default: you are asked, in a terminal]",
    )
    parser.add_argument(
        "--allow-plain-auth",
        action="store_true",
        help="send your password without TLS too, where others can read it",
    )


def ask_password(account: str, *, again: bool = False, wrong: bool = False) -> str | None:
    """Ask for a password, without showing it; None if nobody is there to ask.

    `again` asks for what was typed just now, `wrong` says that it was not right.
    """
    if not interactive():
        return None
    prompt = f"{'Once more, the password' if again else 'Password'} of {printable(account)}: "
    if wrong:
        prompt = f"That was not the password, or there is no such account.\n{prompt}"
    password = _ask(lambda: getpass.getpass(prompt, sys.stderr))
    try:
        password.encode()
    except UnicodeEncodeError:
        raise Stop(Exit.USAGE, "That password is not text in UTF-8.") from None
    return password


async def _ask_password_in_terminal(account: str, wrong: bool) -> str | None:
    return ask_password(account, wrong=wrong)


def meet_new_server(meeting: Meeting) -> bool:
    """Ask whether a new server may be trusted; without a terminal, say that it is."""
    lines = meeting.introduce()
    if not interactive():
        lines.append("Nobody can be asked here, so this one is to be remembered.")
    else:
        columns = shutil.get_terminal_size().columns
        lines = [fitted(line, columns) for line in lines]
    print("\n".join(lines), file=sys.stderr)
    return not interactive() or _ask(_question).strip().casefold() in ("y", "yes")


def _question() -> str:
    # On standard error, for standard output may be a pipe.
    sys.stderr.write("Trust it? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline()


def ask_line(prompt: str) -> str:
    """What a person types in answer, with the end of its line. Raises Stop if nobody is there."""

    def read() -> str:
        sys.stderr.write(prompt)
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line

    return _ask(read)


def _ask(read: Callable[[], T]) -> T:
    """Wait for a person. Everything else waits too, so it is here that a signal must end it."""

    def end(number: int, _: object) -> NoReturn:
        raise Stop(SIGNALS[signal.Signals(number)], "stopped.")

    before = {number: signal.signal(number, end) for number in SIGNALS}
    try:
        return read()
    except EOFError:
        sys.stderr.write("\n")
        raise Stop(Exit.INTERRUPTED, "stopped.") from None
    except Stop:
        sys.stderr.write("\n")
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interactive() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _fingerprint(argument: str) -> str:
    from chatbox.certificates import parse_fingerprint

    try:
        return parse_fingerprint(argument)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
