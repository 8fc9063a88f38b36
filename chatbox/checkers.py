"""Checking passwords with the checkers of twisted.cred, and our own kind of checker among them.

``--auth KIND:ARGUMENT`` names a checker; Twisted finds it by its plugin. Stock ones are ``file:``,
``memory:`` and ``unix:``. Ours is ``argon2:FILE``, for the files of ``chatbox passwd``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

from twisted.cred.checkers import (
    ANONYMOUS,
    FilePasswordDB,
    ICredentialsChecker,
    InMemoryUsernamePasswordDatabaseDontUse,
)
from twisted.cred.credentials import IUsernamePassword, UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from twisted.plugins.cred_unix import UNIXChecker
from zope.interface import implementer

from chatbox.chat.accounts import AccountGate
from chatbox.chat.gate import Gate, OpenGate
from chatbox.errors import LocalError
from chatbox.passwords import Accounts

__all__ = ["Argon2Checker", "checking", "gate_for", "refuse_useless"]

_log = Logger()


@implementer(ICredentialsChecker)
class Argon2Checker:
    """Knows the accounts of a file. It works in the reactor's threads."""

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def requestAvatarId(self, credentials: Any) -> Deferred[bytes | tuple[()]]:
        """Fire with the name if the password is right; else fail with UnauthorizedLogin."""
        name: bytes = credentials.username

        def verdict(right: bool) -> bytes | tuple[()]:
            if not right:
                raise UnauthorizedLogin
            return name

        password = credentials.password.decode()
        checked = deferToThread(self._accounts.check, name.decode(), password)
        return checked.addCallback(verdict)


def refuse_useless(checker: Any) -> None:
    """Raise LocalError, in words, if a checker of Twisted's would let nobody in."""
    if isinstance(checker, FilePasswordDB) and not os.path.isfile(checker.filename):
        raise LocalError(
            f"there is no such file, with lines like alice:password: {checker.filename}"
        )
    if isinstance(checker, UNIXChecker) and find_spec("crypt") is None:
        raise LocalError("Python can check the machine's passwords up to version 3.12 only")


def gate_for(
    checkers: Sequence[Any], state_dir: str, now: Callable[[], float], *, allow_plain: bool
) -> Gate:
    """Make the gate: open, or if there are checkers for those who have a password."""
    if not checkers:
        return OpenGate()
    return AccountGate(checking(checkers), state_dir, now, allow_plain=allow_plain)


def checking(checkers: Sequence[Any]) -> Callable[[str, str, Callable[[bool | None], None]], None]:
    """Return what finds out whether any of these checkers knows a name and its password."""

    for checker in checkers:
        if isinstance(checker, InMemoryUsernamePasswordDatabaseDontUse):
            # memory: keeps text, where all credentials and all other checkers have bytes.
            checker.users = {_bytes(name): _bytes(word) for name, word in checker.users.items()}

    async def ask(name: str, password: str) -> bool | None:
        answer: bool | None = False
        for checker in checkers:
            credentials = UsernamePassword(name.encode(), password.encode())
            try:
                avatar = await maybeDeferred(checker.requestAvatarId, credentials)
            except UnauthorizedLogin:
                continue
            except (LocalError, OSError) as error:
                _log.error("a password could not be checked: {error}", error=error)
                answer = None
            except Exception:
                _log.failure("a password could not be checked")
                answer = None
            else:
                if avatar is not ANONYMOUS:
                    return True
        return answer

    def check(name: str, password: str, answer: Callable[[bool | None], None]) -> None:
        asked = Deferred.fromCoroutine(ask(name, password)).addCallback(answer)
        asked.addErrback(lambda failure: _log.failure("a login failed", failure))

    return check


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
