"""Every refusal that the chat can give: one word for programs, one sentence for people.

The word travels in the field ``e``. This table is the only place where it is spelt; the session
takes its sentences from here, and so do the clients and the table in the documentation.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

__all__ = ["Code", "sentence"]


class Code(str, Enum):
    """A refusal: its value is the word in ``e``, `sentence` says it to a person."""

    sentence: str

    def __new__(cls, word: str, sentence: str) -> Code:
        code = str.__new__(cls, word)
        code._value_ = word
        code.sentence = sentence
        return code

    def __str__(self) -> str:
        return str(self.value)

    # About one line.
    BAD_LINE = "bad-line", "The line is not a run of <key:value> fields."
    DUPLICATE_FIELD = "duplicate-field", "The line has the same field twice."
    BAD_FIELD = "bad-field", "A field has a value of the wrong form."
    NOT_UTF8 = "not-utf8", "The line is not UTF-8 text."
    TOO_LONG = "too-long", "The line is too long."

    # About a request.
    UNKNOWN_REQUEST = "unknown-request", "There is no such request."
    MISSING_FIELD = "missing-field", "The request lacks a field that it needs."
    NOT_CONNECTED = "not-connected", "Say who you are first: send a connect request."
    ALREADY_CONNECTED = "already-connected", "This connection already has a name."
    WRONG_SENDER = "wrong-sender", "The sender is not the name of this connection."

    # About a name.
    NAME_EMPTY = "name-empty", "The name is empty."
    NAME_TOO_LONG = (
        "name-too-long",
        "The name is too long: it may have 32 characters, and fewer on some servers.",
    )
    NAME_INVALID = "name-invalid", "The name has characters that a name cannot have."
    NAME_RESERVED = "name-reserved", "The name is reserved."
    NAME_TAKEN = "name-taken", "Somebody here already has this name, or one that looks the same."
    BAD_TOKEN = "bad-token", "The resume token is not one that this server gave."

    # About coming in.
    ROOM_FULL = "room-full", "The room is full. Try again later."
    TOO_MANY_JOINS = (
        "too-many-joins",
        "Too many people come in from your address. Try again in a moment.",
    )

    # About a password.
    TLS_NEEDED = "tls-needed", "This server takes passwords over TLS only. Connect with TLS."
    PASSWORD_NEEDED = "password-needed", "This name needs its password."
    WRONG_PASSWORD = "wrong-password", "The password is wrong, or there is no such account."
    TRY_LATER = "try-later", "There were too many wrong passwords. Try again later."
    ACCOUNTS_UNAVAILABLE = (
        "accounts-unavailable",
        "Passwords cannot be checked at the moment. Try again later.",
    )

    # About operators.
    NOT_ALLOWED = "not-allowed", "Only operators may do that."
    IS_OPERATOR = "is-operator", "Nobody can do that to an operator."
    BAD_TARGET = "bad-target", "That is nobody and no network that can be banned or muted."
    NO_SUCH_BAN = "no-such-ban", "There is no such ban, or nobody of that name is muted."
    TOO_MANY_BANS = "too-many-bans", "There are too many bans. Lift some first."
    BANNED = "banned", "You are banned from this server."
    KICKED = "kicked", "An operator has put you out."
    MUTED = "muted", "An operator has muted you."

    # About a message.
    NO_SUCH_USER = "no-such-user", "Nobody here has that name."
    TEXT_EMPTY = "text-empty", "The message has no text."
    TEXT_TOO_LONG = "text-too-long", "The message is too long."
    CONTROL_CHARACTER = "control-character", "The message has a control character."
    LOG_UNAVAILABLE = "log-unavailable", "The message log cannot be reached. Try again later."
    BUSY = "busy", "Too many messages wait to be stored. Try again in a moment."

    # About a download.
    NO_SUCH_FILE = "no-such-file", "There is no such file."
    BAD_FILE_NAME = "bad-file-name", "That cannot be the name of a shared file."
    FILE_UNREADABLE = "file-unreadable", "The file cannot be read."
    TOO_MANY_DOWNLOADS = (
        "too-many-downloads",
        "Too many downloads are running. Wait for one to end, or try again in a while.",
    )
    UNAVAILABLE = "unavailable", "This server offers no downloads at the moment."

    # About the connection, and the last thing said on it.
    TOO_MANY_CONNECTIONS = "too-many-connections", "The server is full. Try again later."
    TOO_MANY_FROM_ADDRESS = (
        "too-many-from-address",
        "There are too many connections from your address.",
    )
    LOGIN_TIMEOUT = "login-timeout", "You did not say who you are. Connect again."
    TOO_SLOW = "too-slow", "This connection reads too slowly and is closed. Come back."
    REPLACED = "replaced", "Another connection of yours has taken over your name."
    SERVER_STOPPING = "server-stopping", "The server is shutting down."
    RESTARTING = "restarting", "The server restarts. Come back in a moment."

    # About us.
    INTERNAL_ERROR = "internal-error", "The server made a mistake; it has been logged."


def sentence(code: str) -> str:
    """Return the sentence of a code, or one that names it if it is a stranger.

    A newer server may know codes that this table does not.
    """
    known = _BY_WORD.get(code)
    return f"The server refused: {code}" if known is None else known.sentence


_BY_WORD: Final = {code.value: code for code in Code}
