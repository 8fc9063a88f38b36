"""What a person types becomes an action, for every client that people type into.

Plain functions over plain values (`chatbox.client.actions`); nothing here sends or prints. The
other direction, what happened becoming what a person reads, is `chatbox.client.words`.

Quoting is forgiving, because this is a chat and not a shell. A word is quoted only if it *begins*
with a quotation mark and the same mark ends it before a blank or the end of the line; any other
mark, such as the apostrophe of "it's", stands for itself. There are no escapes: a name that holds
one kind of mark goes between two of the other. The text of a message is never split at all.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from chatbox.client.actions import (
    DEFAULT_HISTORY,
    Action,
    FetchFile,
    Help,
    Limit,
    Moderate,
    OpenFile,
    Quit,
    Reply,
    Say,
    ShowBans,
    ShowDownloads,
    ShowFiles,
    ShowHistory,
    ShowOnline,
    Steer,
    Steering,
)
from chatbox.client.chat.events import Kind
from chatbox.errors import ChatboxError
from chatbox.text import printable
from chatbox.units import parse_rate

__all__ = ["COMMANDS", "MAX_HISTORY", "BadCommand", "Command", "help_lines", "parse"]

MAX_HISTORY: Final = 1000
"""Messages that it shows at most: what a person scrolls through."""


class BadCommand(ChatboxError):
    """What was typed cannot be understood; the argument is the sentence for the person."""


@dataclass(frozen=True, slots=True)
class Command:
    """A row of `/help`, with the function that makes an action of what follows the name."""

    name: str
    arguments: str
    summary: str
    read: Callable[[str], Action]
    alias: str = ""
    """Another name that people may expect it to have."""
    operators: bool = False
    """Whether only operators may do it."""

    @property
    def usage(self) -> str:
        """How to type it."""
        return f"/{self.name} {self.arguments}".rstrip()


def parse(line: str) -> Action | None:
    """Read one typed line, without its line ending; None if it holds nothing but blanks.

    Raises `BadCommand` with a sentence for the person.
    """
    if not line.strip():
        return None
    if not line.startswith("/"):
        return Say(line)
    if line.startswith("//"):
        return Say(line[1:])
    name, rest = _take_word(line[1:])
    command = COMMANDS.get(name.casefold())
    if command is None:
        near = difflib.get_close_matches(name.casefold(), COMMANDS, n=1)
        guess = f" Did you mean /{near[0]}?" if near else ""
        raise BadCommand(
            f"There is no command /{printable(name)}.{guess} /help lists them;"
            " to send a text that begins with a slash, type two."
        )
    try:
        return command.read(rest)
    except _WrongArguments as wrong:
        raise BadCommand(f"{wrong} Type: {command.usage}") from None


def help_lines(*, operators: bool = False) -> list[str]:
    """What can be typed, one line each; or what only operators may."""
    usages = {
        row.usage + (f", /{row.alias}" if row.alias else ""): row.summary
        for row in COMMANDS.values()
        if row.operators == operators
    }
    width = max(map(len, usages))
    rows = [f"  {usage:{width}}  {summary}" for usage, summary in usages.items()]
    if operators:
        return [
            "Commands for operators:",
            *rows,
            "WHO is a name, an address or a network, or address:NAME, where NAME comes from.",
            "A TIME is such as 30m, 12h or 7d; without one it is for good.",
        ]
    return [
        "Type a line to say it to everyone. Commands:",
        *rows,
        'Quote a name that has blanks: /msg "Ann Lee" see you.',
        "To say something that begins with a slash, type two.",
    ]


class _WrongArguments(Exception):
    """The words after a command's name do not fit it; the argument says how."""


def _take_word(text: str) -> tuple[str, str]:
    """Split off the first word, unquoted; what follows comes back without its leading blanks."""
    text = text.lstrip()
    if text[:1] in ('"', "'"):
        end = text.find(text[0], 1)
        while end != -1 and text[end + 1 : end + 2].strip():
            end = text.find(text[0], end + 1)
        if end != -1:
            return text[1:end], text[end + 1 :].lstrip()
    word, _, rest = text.partition(" ")
    return word, rest.lstrip()


def _words(rest: str, least: int, most: int) -> list[str]:
    """Split `rest` into at least `least` and at most `most` words."""
    words: list[str] = []
    while rest and len(words) <= most:
        word, rest = _take_word(rest)
        words.append(word)
    if len(words) < least or not all(words[:least]):
        raise _WrongArguments("Something is missing.")
    if len(words) > most:
        raise _WrongArguments("That is too much; a name that has blanks must be quoted.")
    return words


def _read_message(rest: str) -> Action:
    recipient, text = _take_word(rest)
    if not recipient or not text.strip():
        raise _WrongArguments("A private message needs a name and a text.")
    return Say(text, recipient)


def _read_reply(rest: str) -> Action:
    if not rest.strip():
        raise _WrongArguments("A reply needs a text.")
    return Reply(rest)


def _read_open(rest: str) -> Action:
    words = _words(rest, 0, 1)
    return OpenFile(words[0] if words else None)


def _fetch(*, pause_half_way: bool) -> Callable[[str], Action]:
    """Read a command that fetches a file."""

    def read(rest: str) -> Action:
        name, *save_as = _words(rest, 1, 2)
        return FetchFile(name, save_as[0] if save_as and save_as[0] else None, pause_half_way)

    return read


def _read_limit(rest: str) -> Action:
    rate, *name = _words(rest, 1, 2)
    try:
        limit = None if rate.casefold() == "none" else parse_rate(rate)
    except ValueError as error:
        raise _WrongArguments(f"{printable(str(error))} Or none.") from None
    return Limit(limit, name[0] if name and name[0] else None)


def _read_history(rest: str) -> Action:
    words = _words(rest, 0, 1)
    if not words:
        return ShowHistory()
    if not (words[0].isascii() and words[0].isdigit() and 0 < int(words[0][:9]) <= MAX_HISTORY):
        raise _WrongArguments(f"How many must be a number from 1 to {MAX_HISTORY}.")
    return ShowHistory(int(words[0]))


def _plain(action: Action) -> Callable[[str], Action]:
    """Read a command that takes no arguments."""

    def read(rest: str) -> Action:
        _words(rest, 0, 0)
        return action

    return read


_match_time: Final = re.compile(r"(\d{1,6})([smhdw])", re.ASCII).fullmatch
# What may be meant for a time: 30min, 1.5h or 30 hours. Taken for a reason, it would be for good.
_looks_like_time: Final = re.compile(r"\d[\d.,]*([smhdwy][a-z]*)?", re.ASCII | re.I).fullmatch
_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def _order(kind: Kind) -> Callable[[str], Action]:
    """Read a command of operators: whom, and for some also for how long and why."""

    def read(rest: str) -> Action:
        whom, rest = _take_word(rest)
        if not whom:
            raise _WrongArguments("It is not said to whom.")
        seconds = None
        if kind in (Kind.BAN, Kind.MUTE):
            word, after = _take_word(rest)
            if found := _match_time(word):
                seconds = int(found[1]) * _UNIT_SECONDS[found[2]]
                if not seconds:
                    raise _WrongArguments("A time is more than nothing.")
                rest = after
            elif _looks_like_time(word):
                raise _WrongArguments(f"{word} is no time; write one such as 30m, 12h or 7d.")
        if kind in (Kind.UNBAN, Kind.UNMUTE) and rest:
            raise _WrongArguments("That is too much; a name that has blanks must be quoted.")
        return Moderate(kind, whom, seconds, rest.strip())

    return read


def _read_help(rest: str) -> Action:
    words = _words(rest, 0, 1)
    if words and words[0].casefold() not in ("operators", "operator"):
        raise _WrongArguments("There is help for operators, and the list of all commands.")
    return Help(bool(words))


def _steer(steering: Steering) -> Callable[[str], Action]:
    """Read a command to a running download."""

    def read(rest: str) -> Action:
        words = _words(rest, 0, 1)
        return Steer(steering, words[0] if words else None)

    return read


def _for_operators(
    name: str, arguments: str, summary: str, read: Callable[[str], Action]
) -> Command:
    return Command(name, arguments, summary, read, operators=True)


_ROWS: Final = (
    Command("online", "", "who is here", _plain(ShowOnline()), alias="who"),
    Command("files", "", "what the server has to download", _plain(ShowFiles())),
    Command("msg", "NAME TEXT", "say something to one person only", _read_message),
    Command("reply", "TEXT", "answer the last one who did so", _read_reply),
    Command(
        "download",
        "FILE [SAVE AS]",
        "fetch a file; it stops half way to ask",
        _fetch(pause_half_way=True),
    ),
    Command("get", "FILE [SAVE AS]", "fetch a file in one go", _fetch(pause_half_way=False)),
    Command("proceed", "[FILE]", "let a download go on", _steer(Steering.PROCEED)),
    Command("pause", "[FILE]", "let a download wait", _steer(Steering.PAUSE)),
    Command("cancel", "[FILE]", "give a download up", _steer(Steering.CANCEL)),
    Command(
        "limit", "RATE [FILE]", "let all, or one, take up to 500kB a second; or none", _read_limit
    ),
    Command("downloads", "", "how far they are, and where files are", _plain(ShowDownloads())),
    Command("open", "[FILE]", "open a file that has come", _read_open),
    Command("history", "[N]", f"the last N messages ({DEFAULT_HISTORY})", _read_history),
    Command("help", "[operators]", "this list, or that for operators", _read_help),
    Command("quit", "", "leave", _plain(Quit())),
    _for_operators("kick", "NAME [REASON]", "put somebody out", _order(Kind.KICK)),
    _for_operators("ban", "WHO [TIME] [REASON]", "keep somebody out", _order(Kind.BAN)),
    _for_operators("mute", "WHO [TIME] [REASON]", "let somebody say nothing", _order(Kind.MUTE)),
    _for_operators("unban", "WHO", "lift a ban", _order(Kind.UNBAN)),
    _for_operators("unmute", "WHO", "let somebody speak again", _order(Kind.UNMUTE)),
    _for_operators("bans", "", "who is banned or muted", _plain(ShowBans())),
)
COMMANDS: Final[Mapping[str, Command]] = {
    name: command for command in _ROWS for name in (command.name, command.alias) if name
}
