"""The command ``chatbox``: how a subcommand is run, and how it ends.

Exit statuses are those of `chatbox.client.exits.Exit`; ``chatbox --help`` lists them. Each
subcommand is a coroutine that takes the reactor and the arguments, which `chatbox.client.arguments`
has read, and returns a status or raises `Stop` with a sentence for the person. A signal cancels the
coroutine, which then leaves the room before it ends.

Modules are imported when the subcommand that needs them runs, so that the prompt is there at once.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import signal
import sys
import traceback
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

from chatbox.client import config
from chatbox.client.arguments import apply_settings, arguments
from chatbox.client.exits import SIGNALS, Exit, Stop
from chatbox.client.streams import complain, complain_of, open_streams
from chatbox.steady import keep_steady

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

__all__ = ["Subcommand", "main", "run"]


class Subcommand(Protocol):
    """What a subcommand runs."""

    def __call__(
        self, reactor: Any, options: argparse.Namespace, /
    ) -> Coroutine[Deferred[Any], Any, Exit]:
        """Do it."""


_SUBCOMMANDS: Final[Mapping[str, str]] = {
    "join": "chatbox.client.console.join",
    "get": "chatbox.client.errands.get",
    "who": "chatbox.client.errands.oneshots",
    "files": "chatbox.client.errands.oneshots",
    "say": "chatbox.client.errands.oneshots",
    "history": "chatbox.client.errands.oneshots",
    "find": "chatbox.client.connect.find",
    "doctor": "chatbox.client.doctor.examination",
    "gui": "chatbox.client.gui.app",
    "demo": "chatbox.client.demo",
    "passwd": "chatbox.client.errands.passwd",
}
"""The module of each subcommand; in it, a function of the same name."""

_STDIN: Final = "-"


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line `argv`, and end the process with one of the statuses of `Exit`."""
    open_streams()
    try:
        options = _read_arguments(argv)
        apply_settings(options, config.load(options.config))
        if options.command == "say":
            options.text = _what_to_say(options.words)
        # What is loaded now stays to the end. To look through it for garbage again and again would
        # be a fifth of a short command.
        gc.disable()
        module = importlib.import_module(_SUBCOMMANDS[options.command])
        status = run(getattr(module, options.command), options)
    except Stop as stopped:
        complain(stopped.sentence)
        status = stopped.status
    except OSError as error:
        status = complain_of(error)
    except KeyboardInterrupt:  # before or after the reactor ran
        status = Exit.INTERRUPTED
    gc.freeze()
    gc.enable()
    sys.exit(status)


def _read_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    try:
        return arguments().parse_args(argv)
    finally:
        sys.stdout.flush()  # --help may be all that is asked for


def run(subcommand: Subcommand, options: argparse.Namespace) -> Exit:
    """Run the reactor until the subcommand has ended, by itself or by a signal."""
    from twisted.internet import reactor as twisted_reactor
    from twisted.internet.defer import Deferred
    from twisted.internet.error import ReactorNotRunning

    reactor: Any = twisted_reactor  # a module, to mypy
    keep_steady(reactor)
    statuses: list[Exit] = []  # those of signals go first
    errands: list[Deferred[None]] = []

    async def guarded() -> None:
        try:
            status = await subcommand(reactor, options)
            sys.stdout.flush()
            statuses.append(status)
        except Exception as error:
            # If it was cancelled by a signal nobody wants to hear what has come of that.
            if not statuses:
                statuses.append(_status_of(error))
        finally:  # all that is above may fail to say so
            end()

    def end() -> None:
        with suppress(ReactorNotRunning):  # it may be stopping already
            reactor.stop()

    def start() -> None:
        for number, status in SIGNALS.items():
            signal.signal(number, lambda *_, status=status: reactor.callFromThread(stop, status))
        errands.append(Deferred.fromCoroutine(guarded()))

    def stop(status: Exit) -> None:
        if statuses:
            end()  # asked twice: no more patience
        else:
            statuses.append(status)
            errands[0].cancel()

    reactor.callWhenRunning(start)
    gc.freeze()
    gc.enable()
    reactor.run()
    return statuses[0] if statuses else Exit.FAILED


def _status_of(error: Exception) -> Exit:
    """How a subcommand ends that could not do it, which is told here."""
    if isinstance(error, Stop):
        complain(error.sentence)
        return error.status
    if isinstance(error, OSError):
        return complain_of(error)
    traceback.print_exception(error)
    return Exit.FAILED


def _what_to_say(words: Sequence[str]) -> str:
    """The words, or what is on standard input. Before the reactor runs, as reading may take long.

    Raises Stop if that is nothing, or more than any server takes.
    """
    if list(words) != [_STDIN]:
        return " ".join(words)
    from chatbox.chat.wire import TEXT_BYTES_CEILING

    # Of what is longer than a message may be anywhere, no more is read than shows it.
    data = sys.stdin.buffer.read(TEXT_BYTES_CEILING + len("\r\n") + 1)
    text = data.decode("utf-8", "replace").rstrip("\r\n")
    if len(text.encode()) > TEXT_BYTES_CEILING:
        raise Stop(
            Exit.USAGE,
            "There is too much to say: no server takes a message of more than"
            f" {TEXT_BYTES_CEILING} bytes.",
        )
    if not text:
        raise Stop(Exit.USAGE, "There is nothing to say: standard input is empty.")
    return text


if __name__ == "__main__":
    main()
