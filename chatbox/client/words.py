"""What happened, in words that a person reads: the same in the console and in the window.

Plain functions over plain values. All text that others wrote passes `printable` here, so what comes
out of this module may go to a terminal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Final

from chatbox.chat.codes import Code, sentence
from chatbox.client.chat.answers import ORDERS
from chatbox.client.chat.events import (
    EVERYONE,
    Back,
    BanList,
    Banned,
    Cut,
    Event,
    Failed,
    FileList,
    Gap,
    Garbled,
    Headcount,
    HistoryPage,
    Joined,
    JoinRefused,
    Kind,
    Left,
    Listed,
    Lost,
    Moderated,
    Offer,
    Presence,
    Problem,
    Request,
    Said,
    Succeeded,
    UserList,
)
from chatbox.text import printable

if TYPE_CHECKING:
    from chatbox.rdt.progress import Progress
    from chatbox.rdt.receiver import Ended

__all__ = [
    "MAYBE_MORE",
    "Hints",
    "Spoken",
    "describe",
    "duration_text",
    "ended_text",
    "explain",
    "long_text",
    "moving_text",
    "os_error_text",
    "percent",
    "progress_text",
    "rate_text",
    "size_text",
    "spoken",
    "time_text",
]

_MAYBE_NO_IPV6: Final = " Or the server has no UDP over IPv6: try its IPv4 address."
MAYBE_MORE: Final = "The server does not say whether there are older messages."

_CONTINUATION: Final = "      | "
"""Begins each line but the first of one message, so that nobody can fake another's line."""

_UNITS: Final = ("kB", "MB", "GB", "TB", "PB", "EB")
_CODES: Final = frozenset(map(str, Code))
_REASONED: Final = frozenset({Code.KICKED, Code.BANNED, Code.TOO_LONG, Code.TEXT_TOO_LONG})
"""Refusals whose own sentence says more: the reason that an operator has given, or how long
something may be."""

_QUOTED: Final = 60
"""Characters of a text that are repeated when it is reported as not sent."""


def describe(event: Event, me: str, *, now: float, zone: tzinfo | None = None) -> list[str]:
    """Say what `event` means, in lines for a person called `me`; none where nothing need be said.

    `now` is in seconds since the epoch; `zone` is that of the reader's clock, None for local time.
    """
    match event:
        case Joined(name=name):
            return [f"You are in, as {printable(name)}. /help lists what you can type."]
        case JoinRefused(name=name, problem=problem):
            return [f"You cannot join as {printable(name)}: {explain(problem)}"]
        case Said():
            return _said(event, me, zone)
        case Presence(name=name, here=True) if name == me:
            return []  # Joined has said it
        case Presence(name=name, here=here, at=at):
            return [f"{time_text(at, zone)} * {printable(name)} {'joined' if here else 'left'}"]
        case Moderated():
            return [f"{time_text(event.at, zone)} * {_moderated(event)}"]
        case BanList(bans=bans):
            return [_banned(one) for one in bans] or ["Nobody is banned or muted."]
        case Headcount(count=count):
            return [f"* {count} people are here."]
        case Succeeded(request=Request(kind=Kind.SAY, recipient=recipient) as request):
            if recipient == EVERYONE or recipient.casefold() == me.casefold():
                return []  # the server sends it back to us: that is what is shown
            at = event.at if event.at is not None else int(now * 1000)
            return _said(Said(me, recipient, request.text, at=at), me, zone)
        case UserList(names=names):
            return [f"Online ({len(names)}): {', '.join(map(printable, names)) or 'nobody'}"]
        case FileList(files=files):
            return _files(files)
        case HistoryPage(said=said):
            if not said:
                return ["Nothing has been said yet."]
            return [f"The last {len(said)}:" if len(said) > 1 else "The last one:"] + [
                line for one in said for line in _said(one, me, zone, day_of=now)
            ]
        case Failed(request=request, problem=problem):
            nobody = problem.code == Code.NO_SUCH_USER and request is not None
            advice = " /online lists who is here." if nobody else ""
            return [f"{_refused(request)}{explain(problem)}{advice}"]
        case Gap():
            return ["* Some messages are missing here: the server no longer has them."]
        case Cut(restarting=True):
            return ["* The server restarts; back in a moment."]
        case Cut():
            return ["* The connection is cut; coming back..."]
        case Back(restarted=True):
            return []
        case Back():
            return ["* Back again."]
        case Garbled(detail=detail):
            return [
                f"The server sent something that makes no sense ({printable(detail)}); ignored."
            ]
        case Left():
            return ["Goodbye."]
        case Lost(expected=False, unanswered=unanswered):
            return ["The connection to the server is lost."] + [
                f"Not confirmed, so perhaps not sent: {_quoted(request.text)}"
                for request in unanswered
                if request.kind is Kind.SAY
            ]
        case Succeeded() | Lost() | Offer():
            return []


def explain(problem: Problem) -> str:
    """Say why something was refused, in a sentence."""
    if problem.detail and (problem.code not in _CODES or problem.code in _REASONED):
        return printable(problem.detail)
    text = printable(sentence(problem.code)) if problem.code else "The server refused."
    if problem.wait is None:
        return text
    if problem.code == Code.BANNED:
        return f"{text.removesuffix('.')} for another {long_text(problem.wait)}."
    return f"{text} (In {duration_text(problem.wait)}.)"


def long_text(seconds: int) -> str:
    """A long span of time in the largest unit that fits it, as in "2 days"."""
    for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds % size == 0 or seconds > 1.5 * size:
            count = -(-seconds // size)
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return f"{seconds} s"


def os_error_text(error: OSError) -> str:
    """Say what the operating system refused, in a sentence."""
    text = error.strerror or str(error) or "The operating system refused."
    if isinstance(error.filename, str):
        text = f"{text}: {error.filename}"
    return printable(text if text.endswith(".") else f"{text}.")


def ended_text(
    name: str, path: str, ended: Ended, seconds: float, silent_server: str | None
) -> str:
    """Say how a transfer ended.

    `silent_server` is the UDP port and host if nothing at all has come from it.
    """
    from chatbox.rdt.ends import End

    name = printable(name)
    if ended.end is End.DONE:
        digest = ended.digest.hex() if ended.digest else "unknown"
        took = f"{seconds:.1f} s" if seconds < 10 else duration_text(seconds)
        return f"{name} is complete: {printable(ended.path or path)}, in {took}, sha-256 {digest}"
    if ended.end is End.PEER_SILENT and silent_server is not None:
        return (
            f"{name} did not arrive: nothing comes from {silent_server}. Something on the way, most"
            " likely a firewall, blocks UDP: open this port in it, for packets in both directions."
            f"{_MAYBE_NO_IPV6 * (':' in silent_server)}"
            " If the server was started again just now, ask for the file again."
        )
    text = f"{name} did not arrive: {ended.end.sentence}"
    return text if ended.detail in ("", ended.end.sentence) else f"{text} {printable(ended.detail)}"


def progress_text(name: str, progress: Progress) -> str:
    """One line about a running download: how far, how fast, how long still, or why it stands."""
    parts = [f"{printable(name)} {percent(progress)} % of {size_text(progress.size)}"]
    if progress.reason:
        parts.append(printable(progress.reason))
    else:
        parts.append(rate_text(progress.rate))
        if progress.time_left is not None:
            parts.append(f"{duration_text(progress.time_left)} left")
    return ", ".join(parts)


def moving_text(name: str, progress: Progress) -> str:
    """One line about a download that stood still and no longer does."""
    return f"{printable(name)} moves again, at {percent(progress)} %."


def percent(progress: Progress) -> int:
    """How much has arrived, rounded down, so that 100 means all."""
    return 100 * progress.confirmed // progress.size if progress.size else 100


def size_text(size_bytes: float) -> str:
    """A size with a decimal unit and three significant digits, as in "3.15 MB"."""
    if size_bytes < 1000:
        return f"{int(size_bytes)} bytes" if size_bytes != 1 else "1 byte"
    unit = 0
    size_bytes /= 1000
    while size_bytes >= 999.5 and unit < len(_UNITS) - 1:
        size_bytes /= 1000
        unit += 1
    decimals = 2 if size_bytes < 9.995 else 1 if size_bytes < 99.95 else 0
    return f"{size_bytes:.{decimals}f} {_UNITS[unit]}"


def rate_text(bytes_per_second: float) -> str:
    """A rate, as in "3.15 MB/s"."""
    return f"{size_text(bytes_per_second)}/s"


def duration_text(seconds: float) -> str:
    """A span of time, rounded up to seconds, as in "0:07" or "1:02:03"."""
    whole = max(0, -int(-seconds // 1)) if seconds < 1e9 else 10**9
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def time_text(at: int | None, zone: tzinfo | None = None, *, day_of: float | None = None) -> str:
    """The time of day of `at`, milliseconds since the epoch.

    With the date before it if that is not the date of `day_of`, seconds since the epoch.
    """
    if at is None:
        return "--:--"
    try:
        when = datetime.fromtimestamp(at / 1000, zone)
    except (ValueError, OverflowError, OSError):  # a server may send any number
        return "--:--"
    if day_of is None or when.date() == datetime.fromtimestamp(day_of, zone).date():
        return f"{when:%H:%M}"
    return f"{when:%Y-%m-%d %H:%M}"


@dataclass(frozen=True, slots=True)
class Hints:
    """How the person does what a sentence advises: here by a command, in a window by a button."""

    standing: str = "/proceed lets it go on, /cancel gives it up."
    """What to do about a download that stands."""
    elsewhere: str = "To save it elsewhere: /download FILE SAVE-AS"
    """What to do where a file cannot be saved."""
    lost: str = "The download goes on; /quit leaves without it."
    """What becomes of downloads without a connection."""
    keys: str = ""
    """What else the person can do than type lines."""
    files: str = "/files lists those that are there."
    """What to do where there is no such file."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """A message in the parts that a person reads."""

    time: str
    who: str
    private: bool
    lines: tuple[str, ...]
    """The first one, and those that follow, each marked as such."""


def spoken(
    said: Said, me: str, zone: tzinfo | None = None, *, day_of: float | None = None
) -> Spoken:
    """The parts of what is said, for a person called `me`; for `day_of` see `time_text`."""
    private = said.recipient != EVERYONE
    if private and said.sender == me:
        who = f"you to {printable(said.recipient)}"
    else:
        who = printable(said.sender)
    first, *more = printable(said.text, keep_newlines=True).split("\n")
    lines = (first, *(_CONTINUATION + line for line in more))
    return Spoken(time_text(said.at, zone, day_of=day_of), who, private, lines)


def _moderated(event: Moderated) -> str:
    """Who did what to whom, for how long and why."""
    # What is done to an address is told without it.
    whom = printable(event.whom) or "an address"
    text = f"{printable(event.by)} {event.what} {whom}"
    if event.seconds is not None:
        text += f" for {long_text(event.seconds)}"
    return f"{text}: {printable(event.reason)}" if event.reason else text


def _banned(ban: Banned) -> str:
    """A row of the list of bans."""
    what = "banned" if ban.kind == "ban" else "muted"
    how_long = "for good" if ban.seconds is None else f"for another {long_text(ban.seconds)}"
    text = f"  {printable(ban.whom)} is {what} {how_long}, by {printable(ban.by)}"
    return f"{text}: {printable(ban.reason)}" if ban.reason else text


def _said(said: Said, me: str, zone: tzinfo | None, *, day_of: float | None = None) -> list[str]:
    """A message, marked if it is private."""
    parts = spoken(said, me, zone, day_of=day_of)
    head = f"{parts.time} {'(private) ' if parts.private else ''}{parts.who}: "
    return [head + parts.lines[0], *parts.lines[1:]]


def _files(files: Sequence[Listed]) -> list[str]:
    """A table of files."""
    if not files:
        return ["The server has no files."]
    rows = [("?" if file.size is None else size_text(file.size), file.name) for file in files]
    return [f"Files ({len(files)}):"] + [f"  {size:>10}  {printable(name)}" for size, name in rows]


def _refused(request: Request | None) -> str:
    """Say what it was that did not work."""
    match request:
        case Request(kind=Kind.SAY, recipient=recipient, text=text):
            to = "" if recipient == EVERYONE else f" to {printable(recipient)}"
            return f"Not sent{to} ({_quoted(text)}): "
        case Request(kind=kind, recipient=whom) if kind in ORDERS:
            return f"No {kind.value} of {printable(whom)}: "
        case Request(kind=Kind.DOWNLOAD, text=name):
            return f"No download of {printable(name)}: "
        case _:
            return "The server says: "


def _quoted(text: str) -> str:
    """The beginning of a text, on one line."""
    text = printable(text.replace("\n", " "))
    return text if len(text) <= _QUOTED else text[: _QUOTED - 1] + "…"
