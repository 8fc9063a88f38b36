"""How one server is reached, and what a person is asked on the way, in a terminal."""

from __future__ import annotations

import signal
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, TypeVar

from chatbox.client.exits import Exit, Stop

if TYPE_CHECKING:
    from chatbox.client.trust import Meeting, Trust

__all__ = ["PLAIN", "Access", "add_access", "ask_line", "interactive", "meet_new_server"]

T = TypeVar("T")


@dataclass(frozen=True)
class Access:
    """What was said about the way to the server."""

    tls: bool = False
    """Whether a mere host means TLS."""
    fingerprint: str | None = None
    """Which key the server must have; None if that is to be found out."""

    @cached_property
    def trust(self) -> Trust:
        """What is known of servers, for as long as this process runs."""
        # It loads the cryptography, which takes a while.
        from chatbox.client.trust import Trust

        return Trust(expected=self.fingerprint)

    @classmethod
    def from_options(cls, options: Namespace) -> Access:
        """Make it of what `add_access` has added."""
        return cls(tls=options.tls, fingerprint=options.fingerprint)


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
        help="with TLS: the fingerprint that the server's key must have",
    )


def meet_new_server(meeting: Meeting) -> bool:
    """Ask whether a new server may be trusted; without a terminal, say that it is."""
    lines = meeting.introduce()
    if not interactive():
        lines.append("It is remembered from now on.")
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
    """Wait for a person. Everything else waits too; Ctrl-C ends it as it ends any program."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return read()
    except (KeyboardInterrupt, EOFError):
        sys.stderr.write("\n")
        raise Stop(Exit.INTERRUPTED, "stopped.") from None
    finally:
        signal.signal(signal.SIGINT, before)


def interactive() -> bool:
    """Whether a person can be asked."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def _fingerprint(argument: str) -> str:
    from chatbox.certificates import parse_fingerprint

    try:
        return parse_fingerprint(argument)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
