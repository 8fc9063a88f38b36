"""What the lines of a server say: each function makes one kind of event from a `Message`.

They keep no state, and raise RemoteError if a line lacks what it should say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from chatbox.chat.codes import Code
from chatbox.chat.wire import MAX_REASON_CHARACTERS, Message, parse_list, too_long
from chatbox.client.chat.events import (
    EVERYONE,
    Banned,
    FileList,
    Headcount,
    Kind,
    Listed,
    Moderated,
    Offer,
    Presence,
    Problem,
    Request,
    Said,
    UserList,
)
from chatbox.errors import RemoteError

__all__ = [
    "KINDS",
    "ORDERED",
    "ORDERS",
    "banned",
    "files",
    "headcount",
    "history_count",
    "is_refusal",
    "limits",
    "measured",
    "moderated",
    "offer",
    "presence",
    "problem",
    "said",
    "users",
]

ORDERS: Final = (Kind.KICK, Kind.BAN, Kind.MUTE, Kind.UNBAN, Kind.UNMUTE)
"""What operators ask for."""

ORDERED: Final = frozenset({"kicked", "banned", "muted", "unbanned", "unmuted"})
"""The news of that."""

KINDS: Final[Mapping[str, Kind]] = {
    "connect_response": Kind.CONNECT,
    "disconnect_response": Kind.DISCONNECT,
    "user_list": Kind.USERS,
    "file_list": Kind.FILES,
    "message_response": Kind.SAY,
    "download_response": Kind.DOWNLOAD,
    "history_response": Kind.HISTORY,
    "ping_response": Kind.PING,
    "probe_response": Kind.PROBE,
    "ban_list": Kind.BANS,
    **{f"{kind.value}_response": kind for kind in ORDERS},
}
"""The response that answers each kind of request."""

MAX_LIMITS: Final = 100
"""Limits that a server can tell; a server of ours knows fewer than ten."""

MAX_DETAIL: Final = 500
"""Characters of a reason: a sentence, not a book."""

_MAX_PORT: Final = 65_535
_NO_REASON: Final = frozenset({None, "False", "ERR"})


def is_refusal(kind: Kind, message: Message) -> bool:
    """Whether an answer says no. Where the answer is a plain yes or no, all but yes is no."""
    if kind in (Kind.CONNECT, Kind.SAY, *ORDERS):
        return message.error is not None or message.text != "True"
    return message.error is not None or message.text == "ERR"


def problem(message: Message) -> Problem:
    """Why something was refused; the text of an answer such as "False" is no reason."""
    detail = "" if message.text in _NO_REASON else message.text
    return Problem(message.error or "", (detail or "")[:MAX_DETAIL], message.count)


def measured(problem: Problem, request: Request | None, limits: Mapping[str, int]) -> Problem:
    """Say of a text that is too long how long it is and may be, as far as the server has told."""
    if request is None or problem.code not in (Code.TEXT_TOO_LONG, Code.TOO_LONG):
        return problem
    most = limits.get("text", 0)
    if request.kind is Kind.SAY and 0 < most < len(request.text.encode()):
        return replace(problem, detail=too_long(request.text, most).detail)
    if request.kind in ORDERS:
        return replace(
            problem,
            detail=f"The reason is too long: it has {len(request.text)} characters, and may have"
            f" {MAX_REASON_CHARACTERS}.",
        )
    return problem


def said(message: Message) -> Said:
    """What somebody says, or has said."""
    if message.sender is None or message.text is None:
        raise RemoteError(Code.MISSING_FIELD, "A message has no sender or no text.")
    return Said(
        message.sender,
        message.recipient or EVERYONE,
        message.text,
        message.sequence or 0,
        message.time,
    )


def presence(message: Message) -> Presence:
    """Who came or went."""
    if message.sender is None or message.text not in ("joined", "left"):
        raise RemoteError(Code.BAD_FIELD, "A presence line does not say who came or went.")
    return Presence(message.sender, message.text == "joined", message.time)


def limits(message: Message) -> dict[str, int]:
    """What a connect_response tells of limits. Words that we do not understand are skipped."""
    found = re.findall(r"(?:^|(?<= ))([a-z-]{1,32})=([0-9]{1,18})(?= |$)", message.limits or "")
    return {name: int(number) for name, number in found[:MAX_LIMITS]}


def moderated(message: Message) -> Moderated:
    """What an operator has done."""
    if message.sender is None or message.response not in ORDERED:
        raise RemoteError(Code.BAD_FIELD, "It is not said who did what.")
    return Moderated(
        message.sender,
        message.response,
        message.recipient or "",
        message.count or None,
        message.text or "",
        message.time,
    )


def banned(message: Message) -> Banned:
    """A row of the list of bans."""
    if not message.recipient or message.response is None:
        raise RemoteError(Code.MISSING_FIELD, "A ban does not say whom it means.")
    return Banned(
        message.response,
        message.recipient,
        message.sender or "",
        message.count,
        message.text or "",
        message.time,
    )


def headcount(message: Message) -> Headcount:
    """How many are here."""
    if message.count is None:
        raise RemoteError(Code.MISSING_FIELD, "A headcount has no number.")
    return Headcount(message.count)


def users(request: Request, message: Message) -> UserList:
    """Who is here."""
    return UserList(request, tuple(parse_list(message.text or "")))


def files(request: Request, message: Message) -> FileList:
    """What can be downloaded. Sizes that are not one for each name are taken for no sizes."""
    names = parse_list(message.text or "")
    sizes: tuple[int | None, ...] = (None,) * len(names)
    if isinstance(message.size, tuple) and len(message.size) == len(names):
        sizes = message.size
    return FileList(request, tuple(map(Listed, names, sizes)))


def offer(request: Request, message: Message) -> Offer:
    """Where a file can be fetched."""
    port = _number(message.text, "The server's answer has no port.")
    if not 0 < port <= _MAX_PORT:
        raise RemoteError(Code.BAD_FIELD, "The server's answer has no port that exists.")
    if message.key is None or not isinstance(message.size, int):
        raise RemoteError(Code.MISSING_FIELD, "The server's answer lacks the ticket or the size.")
    digest = bytes.fromhex(message.digest) if message.digest is not None else None
    return Offer(request, port, message.key, message.size, message.time, digest, message.count)


def history_count(message: Message) -> int:
    """How many of the messages right before this answer belong to it."""
    return _number(message.text, "The server's answer lacks the number of messages.")


def _number(text: str | None, complaint: str) -> int:
    if text is None or not (text.isascii() and text.isdigit() and len(text) < 19):
        raise RemoteError(Code.BAD_FIELD, complaint)
    return int(text)
