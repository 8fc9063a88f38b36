"""A gate for people with accounts: a name needs its password, and guessing is slow.

Who has shown the password gets a *resume token* that is good for a day: the time of its end, and a
code over that and the name of the account which only this server can make. So who was cut off comes
back without the hash of a password being taken again, which takes long on purpose, and after a
restart ten thousand people can. After a day, or if the server has lost its secret, a client shows
its password again.

Inside, a name is claimed with the *account's token*, which never leaves the server and is the same
at each login. So people have one identity for as long as they have the account: the letters in the
log are theirs at the next login too, and who logs in twice takes over from the first connection.

What comes after a ``+`` is not part of the account: ``alice+phone`` is alice, at her phone. Both
can be here at the same time.

Guessing. A check is paid for in advance with a token of the address and one of the name, which come
back if the password was right; see `chatbox.chat.throttle`. Whoever has been let in from an address
before need not pay for the name there, so that others who guess cannot lock them out. At most
`MAX_CHECKING` checks are made at a time and `MAX_WAITING` wait.

Ways not taken: an account's name in a field of its own (the ``+`` needs no new field, and works in
any client that can send a name); locking an account (it is the attacker's tool).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import os
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from chatbox.addresses import network_of
from chatbox.chat.codes import Code
from chatbox.chat.gate import Admission, Refusal, Visitor
from chatbox.chat.names import Name, parse_name
from chatbox.chat.throttle import MAX_BUCKETS, Throttle
from chatbox.chat.wire import ACCOUNT_SEPARATOR
from chatbox.errors import LocalError, RemoteError
from chatbox.files import write_whole

__all__ = ["TOKEN_SECONDS", "AccountGate", "Check", "Seals", "account_of"]

TOKEN_SECONDS: Final = 86_400
"""How long a resume token is good: who is away for longer than a night comes with the password. It
is also how long somebody whose account was deleted can come back."""

ADDRESS_BURST: Final = 20
ADDRESS_SECONDS: Final = 30
"""Wrong passwords from one address: so many at once, then one every so many seconds. A school
behind one address may mistype in the morning; a guesser has 2900 guesses a day."""

NAME_BURST: Final = 10
NAME_SECONDS: Final = 60
"""The same for one account, wherever the guesses come from: 1450 a day, and a year of that finds
one password in half a million."""

MAX_CHECKING: Final = 2
"""Passwords checked at a time: each takes a thread, a core and 19 MiB for 25 ms."""

MAX_WAITING: Final = 256
"""Passwords that wait to be checked: three seconds' worth. More are told to come again."""

SECRET_FILE: Final = "accounts.secret"
SECRET_BYTES: Final = 32

Check = Callable[[str, str, "Callable[[bool | None], None]"], None]
"""Finds out whether an account (its name) has a password, and tells; None if that cannot be found
out now."""


def account_of(name: Name) -> Name:
    """Return the name of the account that `name` belongs to.

    If what stands before the plus is nobody's name, as in ``+x``, it belongs to itself.
    """
    if ACCOUNT_SEPARATOR in name.text:
        with suppress(RemoteError):
            return parse_name(name.text.partition(ACCOUNT_SEPARATOR)[0])
    return name


class Seals:
    """What only this server can make: the tokens of an account. `secret` makes them ours."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def token(self, account: str) -> str:
        """The token inside, with which an account's names are claimed."""
        return _text(self._code(b"account", account.encode())[:24])

    def resume(self, account: str, now: float) -> str:
        """A token to come back with, good for `TOKEN_SECONDS` from `now` on."""
        return self._resume(account, (int(now) + TOKEN_SECONDS).to_bytes(5, "big"))

    def opens(self, token: str, account: str, now: float) -> bool:
        """Say whether this is a token to come back with that is good still."""
        try:
            until = base64.urlsafe_b64decode(token)[:5]
        except ValueError:
            return False
        expected = self._resume(account, until)
        return hmac.compare_digest(token.encode(), expected.encode()) and now < int.from_bytes(
            until, "big"
        )

    def _resume(self, account: str, until: bytes) -> str:
        return _text(until + self._code(b"resume", until + account.encode())[:19])

    def _code(self, what: bytes, message: bytes) -> bytes:
        return hmac.digest(self._secret, b"chatbox " + what + b"\0" + message, hashlib.sha256)


class AccountGate:
    """A `Gate` that asks for passwords; `check` finds out whether one is right.

    `state_dir` has the secret. `now` is a clock in seconds since the epoch. With `allow_plain`
    passwords are taken over connections that others can listen to.
    """

    def __init__(
        self, check: Check, state_dir: str, now: Callable[[], float], *, allow_plain: bool = False
    ) -> None:
        self._check = check
        self._state_dir = state_dir
        self._now = now
        self._allow_plain = allow_plain
        self._seals: Seals | None = None
        self._by_address = Throttle(ADDRESS_BURST, ADDRESS_SECONDS)
        self._by_name = Throttle(NAME_BURST, NAME_SECONDS)
        self._welcome: OrderedDict[tuple[str, str], None] = OrderedDict()
        """Accounts that have been let in, and from where; those of late last."""
        self._checking = 0
        self._waiting: deque[Callable[[], None]] = deque()

    def start(self) -> None:
        """Read the secret, or make it."""
        self._seals = Seals(_own_secret(os.path.join(self._state_dir, SECRET_FILE)))

    def admit(self, visitor: Visitor, answer: Callable[[Admission | Refusal], None]) -> None:
        """Let in who has the password, or a resume token that is good still."""
        if self._seals is None:
            raise LocalError("Nobody can come in before the start")
        account = account_of(visitor.name)
        now = self._now()
        key, origin = visitor.key, visitor.origin
        if not (origin.encrypted or origin.is_local or self._allow_plain):
            answer(Refusal(Code.TLS_NEEDED))
        elif key is not None and self._seals.opens(key, account.key, now):
            answer(Admission(self._seals.token(account.key), key))
        elif visitor.password is None:
            answer(Refusal(Code.PASSWORD_NEEDED))
        else:
            self._guess(account, visitor.password, network_of(origin.host), answer)

    def _guess(
        self,
        account: Name,
        password: str,
        address: str,
        answer: Callable[[Admission | Refusal], None],
    ) -> None:
        """Have a password checked, unless there have been too many wrong ones."""
        now = self._now()
        throttles = [(self._by_address, address)]
        if (account.key, address) not in self._welcome:
            throttles.append((self._by_name, account.key))
        wait = max(throttle.wait(key, now) for throttle, key in throttles)
        if wait > 0:
            answer(Refusal(Code.TRY_LATER, math.ceil(wait)))
            return
        if len(self._waiting) >= MAX_WAITING:
            answer(Refusal(Code.BUSY))
            return
        for throttle, key in throttles:
            throttle.take(key, now)

        def checked(right: bool | None) -> None:
            self._checking -= 1
            self._go_on()
            then = self._now()
            if right is not False:
                for throttle, key in throttles:
                    throttle.give_back(key, then)
            if right:
                answer(self._let_in(account, address, then))
            else:
                known = Code.ACCOUNTS_UNAVAILABLE if right is None else Code.WRONG_PASSWORD
                answer(Refusal(known))

        self._waiting.append(partial(self._check, account.text, password, checked))
        self._go_on()

    def _go_on(self) -> None:
        while self._waiting and self._checking < MAX_CHECKING:
            self._checking += 1
            self._waiting.popleft()()

    def _let_in(self, account: Name, address: str, now: float) -> Admission:
        assert self._seals is not None
        self._welcome[account.key, address] = None
        self._welcome.move_to_end((account.key, address))
        if len(self._welcome) > MAX_BUCKETS:
            self._welcome.popitem(last=False)
        return Admission(self._seals.token(account.key), self._seals.resume(account.key, now))


def _text(data: bytes) -> str:
    """Bytes, a multiple of three, in the letters of a token."""
    return base64.urlsafe_b64encode(data).decode()


def _own_secret(path: str) -> bytes:
    """Read the secret, or make it. Raises OSError, or LocalError if what is there is none."""
    with suppress(FileExistsError):
        write_whole(path, secrets.token_hex(SECRET_BYTES).encode() + b"\n", replace=False)
    with open(path, "rb") as file:
        text = file.read(4 * SECRET_BYTES).strip()
    try:
        secret = bytes.fromhex(text.decode())
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise LocalError(f"{path} is no secret; remove it, and people must log in again")
    return secret
