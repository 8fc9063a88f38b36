"""The file of accounts: names, and hashes of their passwords.

A line is a name, a colon and an Argon2id hash in the usual form (PHC string, RFC 9106)::

    alice:$argon2id$v=19$m=19456,t=2,p=1$/62xfWongmEZV6BFoCfNHg$yhvINTquIn/yEmIWl5TrZEf4N2wAO+...

Empty lines and lines that begin with ``#`` are remarks. Hashes of argon2-cffi, libsodium and the
command argon2 can be put in. Names are compared as the chat compares them.

Hashing is Argon2id of the cryptography package, which the file transfers need anyway; argon2-cffi
would do the same with one more package. It is meant to take long, some 25 ms, and lets go of
Python's lock meanwhile; so all of this belongs into threads, and is made for several.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from chatbox.chat.names import parse_name
from chatbox.chat.wire import ACCOUNT_SEPARATOR
from chatbox.errors import LocalError, RemoteError
from chatbox.files import Stamp, stamp, write_whole
from chatbox.text import printable

__all__ = [
    "MAX_PASSWORD_BYTES",
    "MIN_PASSWORD_CHARACTERS",
    "Accounts",
    "check_new_password",
    "describe_trouble",
    "editing",
    "hash_password",
    "parse_accounts",
    "verify",
]

MIN_PASSWORD_CHARACTERS: Final = 8
"""What a password must have (NIST SP 800-63B, section 3.1.1.2)."""

MAX_PASSWORD_BYTES: Final = 1024
"""More is no password but a file by mistake; in a request it must fit into a line."""

MEMORY_KIB: Final = 19_456
ITERATIONS: Final = 2
LANES: Final = 1
"""The cost of new hashes: the first choice of OWASP's Password Storage Cheat Sheet. RFC 9106 would
take 64 MiB; a login flood keeps as many hashes going as we let it."""

MAX_MEMORY_KIB: Final = 1 << 20
MAX_ITERATIONS: Final = 100
MAX_LANES: Final = 64
"""What a hash in the file may ask for: a slip in it must not take the machine down."""

MAX_FILE_BYTES: Final = 16 << 20
"""More than a hundred thousand accounts."""

_match_hash: Final = re.compile(
    r"\$argon2id\$v=19\$m=(\d{1,9}),t=(\d{1,9}),p=(\d{1,9})"
    r"\$[A-Za-z0-9+/]{11,172}\$[A-Za-z0-9+/]{16,172}"
).fullmatch


def hash_password(password: str) -> str:
    """Return a new hash of a password."""
    salt = secrets.token_bytes(16)
    hasher = Argon2id(
        salt=salt, length=32, iterations=ITERATIONS, lanes=LANES, memory_cost=MEMORY_KIB
    )
    return hasher.derive_phc_encoded(password.encode())


def verify(password: str, hashed: str) -> bool:
    """Say whether a password is the one of a hash, which `parse_accounts` has let pass."""
    try:
        Argon2id.verify_phc_encoded(password.encode(), hashed)
    except (InvalidKey, ValueError):
        return False
    return True


def check_new_password(password: str) -> None:
    """Raise ValueError, with a sentence, if this is not a password for an account."""
    if len(password) < MIN_PASSWORD_CHARACTERS:
        raise ValueError(f"A password has at least {MIN_PASSWORD_CHARACTERS} characters.")
    try:
        size = len(password.encode())
    except UnicodeEncodeError:
        raise ValueError("The password is not text in UTF-8.") from None
    if size > MAX_PASSWORD_BYTES:
        raise ValueError(f"A password has at most {MAX_PASSWORD_BYTES} bytes.")


def parse_accounts(data: bytes) -> dict[str, tuple[str, str]]:
    """Read a file of accounts: by the key of each name, the name and the hash.

    Raises LocalError, with the number of the line but nothing that is in it, if it makes no sense.
    """
    if len(data) > MAX_FILE_BYTES:
        raise LocalError("it is too long")
    accounts: dict[str, tuple[str, str]] = {}
    # Only LF ends a line: names may hold what str.splitlines takes for an end.
    for number, raw in enumerate(data.split(b"\n"), 1):
        line = raw.strip()
        if not line or line.startswith(b"#"):
            continue
        try:
            name, _, hashed = line.decode().rpartition(":")
            parsed = parse_name(name)
            _check_hash(hashed)
            if ACCOUNT_SEPARATOR in parsed.text:
                raise ValueError(f"a name cannot have a {ACCOUNT_SEPARATOR}")
            if parsed.key in accounts:
                raise ValueError("this name has been there before")
        except UnicodeDecodeError:
            raise LocalError(f"line {number} is not UTF-8") from None
        except RemoteError as error:
            raise LocalError(f"line {number} has no name and colon ({error.code})") from None
        except ValueError as error:
            raise LocalError(f"line {number}: {error}") from None
        accounts[parsed.key] = parsed.text, hashed
    return accounts


def _check_hash(text: str) -> None:
    found = _match_hash(text)
    if found is None:
        raise ValueError("the hash is not one of Argon2id")
    memory, iterations, lanes = map(int, found.groups())
    if not (
        8 * lanes <= memory <= MAX_MEMORY_KIB
        and 1 <= iterations <= MAX_ITERATIONS
        and 1 <= lanes <= MAX_LANES
    ):
        raise ValueError("the hash costs too much or too little")


class Accounts:
    """The accounts in a file, read again when it has changed. May be used by several threads."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self._lock = threading.Lock()
        self._stamp: Stamp = None
        self._accounts: dict[str, tuple[str, str]] = {}
        self._nobody = hash_password(secrets.token_urlsafe())

    def load(self) -> None:
        """Read the file if it has changed. Raises LocalError or OSError."""
        with self._lock:
            seen = stamp(self.path)
            if seen is not None and seen == self._stamp:
                return
            self._accounts = parse_accounts(_read(self.path))
            self._stamp = seen

    def check(self, name: str, password: str) -> bool:
        """Say whether this is the password of an account. Raises LocalError or OSError.

        It takes as long for a name that has no account, so that guessing tells nothing about names.
        """
        self.load()
        try:
            key = parse_name(name).key
        except RemoteError:
            key = ""
        _, hashed = self._accounts.get(key, ("", self._nobody))
        return verify(password, hashed) and key in self._accounts


@contextmanager
def editing(path: str) -> Iterator[dict[str, tuple[str, str]]]:
    """Read the accounts, and write them when the block has changed them; none yet if no file.

    Two that edit at the same time wait for each other. Raises LocalError or OSError.
    """
    path = os.path.realpath(path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        try:
            data = _read(path)
        except FileNotFoundError:
            data = b""
        before = parse_accounts(data)
        accounts = dict(before)
        yield accounts
        if accounts != before:
            remarks = [line for line in data.split(b"\n") if line.strip().startswith(b"#")]
            lines = [f"{name}:{hashed}".encode() for name, hashed in accounts.values()]
            write_whole(path, b"".join(line + b"\n" for line in remarks + lines))
    finally:
        os.close(folder)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(MAX_FILE_BYTES + 1)


def describe_trouble(path: str, error: Exception) -> str:
    """Say what is wrong with a file of accounts."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"the accounts in {printable(path)} cannot be used: {printable(reason)}"
