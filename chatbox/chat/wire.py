r"""Lines of the chat and the values that they stand for.

A line is a run of fields, ``<key:value>``, in UTF-8, ended by CRLF or LF::

    line    = 1*field [CR] LF
    field   = "<" key ":" value ">"
    key     = %x61-7A                           ; one lower-case ASCII letter
    value   = *( plain / escape )
    plain   = any character but "<" ">" "\" CR LF
    escape  = "\" ( "<" / ">" / "\" / "n" / "r" )

Fields may come in any order; keys that we do not know are skipped, known ones may come once. Any
text fits into a value, control characters too: what may be *said* is a rule of the room
(`check_text`), not of the line. Nothing here keeps state or looks at a clock.

Both directions lie on the hot path of a busy server. So a line is taken apart field by field with
one regular expression, matched where the last field ended: one pass, and a line that does not match
is given up at its first bad field. (Searching with ``findall`` instead would start afresh at every
``<`` of a hostile line: time that grows with the square of its length.)
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from chatbox.chat.codes import Code
from chatbox.errors import LocalError, RemoteError

__all__ = [
    "ACCOUNT_SEPARATOR",
    "EVERYBODY",
    "MAX_ANSWER_BYTES",
    "MAX_NUMBER",
    "MAX_REASON_CHARACTERS",
    "MAX_REQUEST_BYTES",
    "MAX_TEXT_BYTES",
    "TEXT_BYTES_CEILING",
    "Message",
    "check_text",
    "format_fields",
    "format_line",
    "format_list",
    "parse_line",
    "parse_list",
    "parse_request",
    "too_long",
]

EVERYBODY: Final = "all"
"""The recipient of what everybody hears."""

ACCOUNT_SEPARATOR: Final = "+"
"""Where there are accounts, what follows it in a name is not the account's: see `chat.accounts`."""

MAX_TEXT_BYTES: Final = 4096
"""The longest text of one message, in UTF-8: a page of prose, or a long traceback."""

TEXT_BYTES_CEILING: Final = 64 << 10
"""What an operator may make of that: a file of moderate length. A page of history has room for it.
"""

MAX_REASON_CHARACTERS: Final = 200
"""Why an operator does something: a sentence."""

MAX_REQUEST_BYTES: Final = 2 * MAX_TEXT_BYTES + 1024
"""The longest line from a client: a longest text, every byte escaped, and 1 KiB for the rest."""

MAX_ANSWER_BYTES: Final = 16 << 20
"""The longest line that a client should expect: the list of a large room or of a large shelf."""

MAX_NUMBER: Final = (1 << 63) - 1
"""The largest number in any field: what a signed 64-bit integer holds, so every database too."""


class Message(NamedTuple):
    """One line, taken apart. A field that is not on the line is None; an empty one is ``""``.

    The fields stand in the order in which they are written. (A tuple, since a busy server makes
    several of these for each message, and a frozen dataclass takes three times as long to make.)
    """

    sender: str | None = None
    """``s``: who speaks. A name, or ``server:`` and its address."""
    recipient: str | None = None
    """``r``: to whom. A name, ``all``, or ``server:`` and its address."""
    request: str | None = None
    """``t``: what a client asks for."""
    text: str | None = None
    """``m``: what is said, or the result of a request."""
    error: str | None = None
    """``e``: why not; a word of `chatbox.chat.codes.Code`."""
    response: str | None = None
    """``p``: what kind of answer or news this is."""
    sequence: int | None = None
    """``q``: a client's own number for its request, or a message's place in the log."""
    key: str | None = None
    """``k``: a resume token or a download's ticket."""
    time: int | None = None
    """``d``: when, in milliseconds since the epoch."""
    size: int | tuple[int, ...] | None = None
    """``z``: a file's size in bytes, or the sizes of a list of files."""
    digest: str | None = None
    """``h``: a sha-256, 64 lower-case hexadecimal digits."""
    after: int | None = None
    """``a``: the place in the log after which history is wanted."""
    before: int | None = None
    """``b``: the place before which it is wanted."""
    count: int | None = None  # type: ignore[assignment]  # hides a method of tuples
    """``n``: how many."""
    limits: str | None = None
    """``l``: what a client should keep to, words like ``rate=50``."""


_ATTRIBUTES: Final = {
    "s": "sender",
    "r": "recipient",
    "t": "request",
    "m": "text",
    "e": "error",
    "p": "response",
    "q": "sequence",
    "k": "key",
    "d": "time",
    "z": "size",
    "h": "digest",
    "a": "after",
    "b": "before",
    "n": "count",
    "l": "limits",
}
"""Key to attribute, in the order in which fields are written."""

_STARTS: Final = {attribute: f"<{key}:" for key, attribute in _ATTRIBUTES.items()}

_RESPONSE_SPELLINGS: Final = {"messagee_response": "message_response"}
"""Spellings of ``p`` found in older servers, and what they mean."""

_match_field = re.compile(r"<([a-z]):([^<>\\\r\n]*(?:\\[<>\\nr][^<>\\\r\n]*)*)>").match
_find_special = re.compile(r"[<>\\\r\n]").search
_special = re.compile(r"[<>\\\r\n]")
_find_quoted = re.compile(rb""":['"]""").search
_escape = re.compile(r"\\(.)")
_ESCAPED: Final = {"<": r"\<", ">": r"\>", "\\": r"\\", "\n": r"\n", "\r": r"\r"}
_UNESCAPED: Final = {"<": "<", ">": ">", "\\": "\\", "n": "\n", "r": "\r"}

_is_number = re.compile(r"[0-9]{1,19}").fullmatch
_is_numbers = re.compile(r"\[(?:[0-9]{1,19}(?:, ?[0-9]{1,19})*)?\]").fullmatch
_is_digest = re.compile(r"[0-9a-f]{64}").fullmatch


def parse_line(line: bytes) -> Message:
    """Take a line apart, with or without its CRLF or LF.

    Raises RemoteError with the code bad-line, duplicate-field, bad-field or not-utf8.
    """
    try:
        text = line.removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError as error:
        raise RemoteError(Code.NOT_UTF8, f"Byte {error.start + 1} is not UTF-8.") from None
    if not text:
        raise RemoteError(Code.BAD_LINE, "The line is empty.")
    fields: dict[str, Any] = {}
    at, end = 0, len(text)
    while at < end:
        field = _match_field(text, at)
        if field is None:
            raise RemoteError(Code.BAD_LINE, f"No <key:value> field at character {at + 1}.")
        at = field.end()
        key, value = field.groups()
        attribute = _ATTRIBUTES.get(key)
        if attribute is None:
            continue
        if attribute in fields:
            raise RemoteError(Code.DUPLICATE_FIELD, f"The field {key} comes twice.")
        if "\\" in value:
            value = _escape.sub(lambda found: _UNESCAPED[found[1]], value)
        convert = _CONVERSIONS.get(key)
        fields[attribute] = value if convert is None else convert(key, value)
    return Message(**fields)


def parse_request(line: bytes) -> Message:
    """Take apart a line from a client: as `parse_line`, and quotes around s, r and t fall away.

    Listings of the protocol show names in quotes, so people type them. Raises as `parse_line`.
    """
    message = parse_line(line)
    if _find_quoted(line):
        return message._replace(
            sender=_unquoted(message.sender),
            recipient=_unquoted(message.recipient),
            request=_unquoted(message.request),
        )
    return message


def format_line(message: Message) -> bytes:
    """Write a message as one line, CRLF included: the inverse of `parse_line`.

    Raises LocalError if a text cannot be UTF-8 (a lone surrogate) or a number is out of range.
    """
    return format_fields(**message._asdict())


def format_fields(**fields: str | int | tuple[int, ...] | None) -> bytes:
    """Write some fields of a `Message`, in its order, as one line: see `format_line`.

    For lines of which a busy server writes many: no message is made, and what it would not have is
    not looked at.
    """
    line = ""
    for name, value in fields.items():
        if value is None:
            continue
        if isinstance(value, str):
            if _find_special(value):
                value = _special.sub(lambda found: _ESCAPED[found[0]], value)
        elif isinstance(value, tuple):
            value = f"[{','.join(map(_digits, value))}]"
        else:
            value = _digits(value)
        line += f"{_STARTS[name]}{value}>"
    try:
        return f"{line}\r\n".encode()
    except UnicodeEncodeError as error:
        raise LocalError(f"This cannot be sent as UTF-8: {line!r}") from error


def check_text(text: str, max_bytes: int = MAX_TEXT_BYTES) -> None:
    """Say whether `text` may be said in the room, by raising RemoteError if not.

    It must have something in it, be no longer than `max_bytes` in UTF-8, and have no control
    characters (C0, DEL, C1) but tab, newline and carriage return. The text is never altered:
    either everybody hears exactly what was sent, or its sender hears why not. Emoji and writing
    from right to left pass; whoever shows text on a terminal makes it safe for that terminal.
    """
    if not text:
        raise RemoteError(Code.TEXT_EMPTY)
    # Most texts are short enough whatever their characters are, and need not be encoded to know.
    if len(text) * 4 > max_bytes and len(text.encode()) > max_bytes:
        raise too_long(text, max_bytes)
    control = _find_control(text)
    if control is not None:
        raise RemoteError(Code.CONTROL_CHARACTER, f"U+{ord(control[0]):04X} cannot be sent.")


def too_long(text: str, max_bytes: int) -> RemoteError:
    """What is wrong with a text that has more bytes than it may have."""
    return RemoteError(
        Code.TEXT_TOO_LONG,
        f"The message is too long: it has {len(text.encode())} bytes, and may have {max_bytes}.",
    )


_find_control = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]").search


def format_list(items: Iterable[str]) -> str:
    r"""Write strings as Python would: ``['a','b']``, with ``\\`` and ``\'`` inside the quotes."""
    return f"[{','.join(map(_quoted, items))}]"


def parse_list(text: str) -> list[str]:
    """Read what `format_list` writes; also double quotes, and spaces after commas.

    Nothing is evaluated. Raises RemoteError (bad-field).
    """
    if text == "[]":
        return []
    if not (text.startswith("[") and text.endswith("]")):
        raise RemoteError(Code.BAD_FIELD, "A list stands in square brackets.")
    items = []
    at, end = 1, len(text) - 1
    while True:
        item = _match_item(text, at, end)
        if item is None:
            raise RemoteError(Code.BAD_FIELD, f"No quoted item at character {at + 1} of the list.")
        value = item[0].rstrip(", ")[1:-1]
        items.append(_item_escape.sub(r"\1", value) if "\\" in value else value)
        at = item.end()
        if at == end and not item[0].endswith((",", ", ")):
            return items


# One quoted item and the comma after it, if there is one: the last item alone ends the list.
_match_item = re.compile(
    r"""(?: '[^'\\]*(?:\\['"\\][^'\\]*)*' | "[^"\\]*(?:\\['"\\][^"\\]*)*" ) (?: ,[ ]? | $ )""",
    re.VERBOSE,
).match
_item_escape = re.compile(r"\\(.)")
_item_special = re.compile(r"['\\]")


def _quoted(item: str) -> str:
    return "'" + _item_special.sub(r"\\\g<0>", item) + "'"


def _unquoted(value: str | None) -> str | None:
    if value and len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return value


def _digits(number: int) -> str:
    if not 0 <= number <= MAX_NUMBER:
        raise LocalError(f"No field can hold the number {number}")
    return str(number)


def _number(key: str, value: str) -> int:
    if _is_number(value) and (number := int(value)) <= MAX_NUMBER:
        return number
    raise RemoteError(Code.BAD_FIELD, f"The field {key} is a number from 0 to {MAX_NUMBER}.")


def _number_or_list(key: str, value: str) -> int | tuple[int, ...]:
    if not value.startswith("["):
        return _number(key, value)
    if not _is_numbers(value):
        raise RemoteError(Code.BAD_FIELD, f"The field {key} is a number or a list like [1,2].")
    return tuple(_number(key, item.strip()) for item in value[1:-1].split(",") if item)


def _digest(key: str, value: str) -> str:
    if _is_digest(value):
        return value
    raise RemoteError(Code.BAD_FIELD, f"The field {key} is 64 lower-case hexadecimal digits.")


def _response(_: str, value: str) -> str:
    return _RESPONSE_SPELLINGS.get(value, value)


_CONVERSIONS: Final = {
    "q": _number,
    "d": _number,
    "z": _number_or_list,
    "h": _digest,
    "a": _number,
    "b": _number,
    "n": _number,
    "p": _response,
}
"""What becomes of a value that is not simply text."""
