"""``chatbox passwd``: edits the file of accounts of ``twistd chatbox --auth argon2:FILE``.

A running server notices the change by itself. Passwords come from the keyboard, twice and unseen,
or from standard input, a line.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import Any

from chatbox.chat.codes import sentence
from chatbox.chat.names import parse_name
from chatbox.chat.wire import ACCOUNT_SEPARATOR
from chatbox.client.connect.access import ask_password
from chatbox.client.exits import Exit, Stop
from chatbox.errors import LocalError, RemoteError
from chatbox.passwords import (
    MAX_PASSWORD_BYTES,
    check_new_password,
    describe_trouble,
    editing,
    hash_password,
)
from chatbox.text import printable

__all__ = ["passwd"]


async def passwd(reactor: Any, options: Namespace) -> Exit:
    """Create an account, change its password, or delete it; or list them all."""
    if options.list != (options.name is None):
        raise Stop(Exit.USAGE, "Give the name of an account, or --list.")
    try:
        return _list(options.file) if options.list else _edit(options)
    except (LocalError, OSError) as error:
        trouble = describe_trouble(options.file, error)
        raise Stop(Exit.FAILED, f"{trouble[0].upper()}{trouble[1:]}.") from None


def _list(path: str) -> Exit:
    with open(path, "rb"):
        pass  # No file at all is no empty file.
    with editing(path) as accounts:
        for name, _ in accounts.values():
            print(printable(name))
    return Exit.OK


def _edit(options: Namespace) -> Exit:
    try:
        name = parse_name(options.name)
    except RemoteError as error:
        why = error.detail or sentence(error.code)
        raise Stop(Exit.USAGE, f"{printable(options.name)} can be nobody's name: {why}") from None
    if ACCOUNT_SEPARATOR in name.text:
        raise Stop(
            Exit.USAGE,
            f"An account has no {ACCOUNT_SEPARATOR} in its name: what follows it in the chat is"
            " not the account's.",
        )
    shown = printable(name.text)
    # Before the file is locked: people take their time.
    hashed = "" if options.delete else hash_password(_new_password(shown))
    with editing(options.file) as accounts:
        was_there = name.key in accounts
        if not options.delete:
            accounts[name.key] = name.text, hashed
        elif was_there:
            del accounts[name.key]
        else:
            raise Stop(Exit.NOT_THERE, f"There is no account {shown}.")
    what = "deleted" if options.delete else "changed" if was_there else "created"
    print(f"{shown}: {what}.", file=sys.stderr)
    return Exit.OK


def _new_password(name: str) -> str:
    """Get a new password. Raises Stop if it is none."""
    password = ask_password(name)
    if password is None:
        password = _read_line()
    elif password != ask_password(name, again=True):
        raise Stop(Exit.FAILED, "The two passwords differ; nothing has changed.")
    try:
        check_new_password(password)
    except ValueError as error:
        raise Stop(Exit.USAGE, str(error)) from None
    return password


def _read_line() -> str:
    line = sys.stdin.buffer.readline(MAX_PASSWORD_BYTES + 2).rstrip(b"\r\n")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise Stop(Exit.USAGE, "The password is not text in UTF-8.") from None
