"""Where a Redis is, and how to get in: what the URL of a log says."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

__all__ = ["SCHEMES", "Place", "parse_place", "without_passwords"]

SCHEMES: Final = ("redis", "rediss", "redis+sentinel", "rediss+sentinel")
"""What the URL of a Redis may begin with: straight or by its sentinels, without TLS or with it."""

REDIS_PORT: Final = 6379
SENTINEL_PORT: Final = 26379

_EXAMPLES: Final = (
    "Write redis://HOST:PORT/DB, rediss://USER:PASSWORD@HOST:PORT/DB for TLS, or"
    " redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB."
)

_FILES: Final = ("ca", "cert", "key")
_PASSWORD_FILE: Final = "password-file"
_SENTINEL: Final = ("sentinel-user", "sentinel-password", f"sentinel-{_PASSWORD_FILE}")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a Redis is, or who knows it, and how to get in."""

    hosts: tuple[tuple[str, int], ...]
    """Host and port: of Redis, or of the sentinels."""
    service: str = ""
    """What the sentinels call the Redis that is wanted; empty if there are none."""
    database: int = 0
    tls: bool = False
    username: str | None = None
    password: str | None = None
    sentinel_username: str | None = None
    """How the sentinels let us in, which have users of their own."""
    sentinel_password: str | None = None
    ca: str | None = None
    """The file of the certificates that are believed; None: those of the system."""
    cert: str | None = None
    """The file of our own certificate, and `key` of its key, if Redis asks for one."""
    key: str | None = None


def parse_place(url: str) -> Place:
    """Read the URL of a Redis.

    ::

        redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]
        redis+sentinel://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]...]/SERVICE[/DB]

    With ``rediss`` instead of ``redis`` it is TLS, and ``?ca=FILE``, ``cert=FILE`` and ``key=FILE``
    may follow; after sentinels ``sentinel-password=PASSWORD`` and ``sentinel-user=USER``. The first
    line of a ``password-file=FILE`` or ``sentinel-password-file=FILE`` is a password that nobody
    sees in a list of processes. Raises ValueError with a sentence for people, also if txredisapi is
    not installed.
    """
    from importlib.util import find_spec

    if find_spec("txredisapi") is None:
        raise ValueError("It needs txredisapi: pip install 'chatbox[redis]'.")
    parts = urlsplit(url)
    tls, sentinels = parts.scheme.startswith("rediss"), parts.scheme.endswith("+sentinel")
    if sentinels:
        path = re.fullmatch(r"/([^/]+)(?:/(\d{0,4}))?", parts.path)
    else:
        path = re.fullmatch(r"()/?(\d{0,4})", parts.path)
    if parts.scheme not in SCHEMES or not path:
        raise ValueError(_EXAMPLES)
    user, _, hosts = parts.netloc.rpartition("@")
    username, _, password = user.partition(":")
    options = _options(parts, tls=tls, sentinels=sentinels)
    port = SENTINEL_PORT if sentinels else REDIS_PORT
    return Place(
        tuple(_host(one, port) for one in (hosts.split(",") if sentinels else [hosts])),
        service=unquote(path[1]),
        database=int(path[2] or 0),
        tls=tls,
        username=unquote(username) or None,
        password=_secret(options, "", unquote(password) if user else None),
        sentinel_username=options.get("sentinel-user"),
        sentinel_password=_secret(options, "sentinel-", options.get("sentinel-password")),
        ca=options.get("ca"),
        cert=options.get("cert"),
        key=options.get("key"),
    )


def _secret(options: dict[str, str], whose: str, given: str | None) -> str | None:
    """Return a password that is given or in a file."""
    path = options.get(whose + _PASSWORD_FILE)
    if path is None:
        return given
    if given:
        raise ValueError(f"{whose}{_PASSWORD_FILE} and a password exclude each other.")
    try:
        with open(path, encoding="utf-8") as file:
            return file.readline().rstrip("\r\n")
    except (OSError, ValueError):
        raise ValueError(f"{path} cannot be read.") from None


def without_passwords(text: str) -> str:
    """Return a text without the passwords of a URL in it: what is shown to people ends in logs."""
    text = re.sub(r"(://[^:/@\s]*:)\S*@", r"\1...@", text)
    return re.sub(r"(sentinel-password=)[^&\s]*", r"\1...", text)


def _host(text: str, port: int) -> tuple[str, int]:
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^:\[\]/,]+))(?::(\d{1,5}))?", text)
    number = int(found[3]) if found and found[3] else port
    if not found or not 0 < number < 65536:
        raise ValueError(_EXAMPLES)
    return found[1] or found[2], number


def _options(parts: SplitResult, *, tls: bool, sentinels: bool) -> dict[str, str]:
    try:
        options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    except ValueError:
        options = {"": ""}
    allowed = (_PASSWORD_FILE, *(_FILES if tls else ()), *(_SENTINEL if sentinels else ()))
    if any(name not in allowed for name in options):
        raise ValueError(
            f"?{parts.query} means nothing here; password-file goes everywhere, rediss: takes ca, "
            "cert and key, and sentinels sentinel-user, sentinel-password and "
            "sentinel-password-file."
        )
    if ("cert" in options) != ("key" in options):
        raise ValueError("cert and key go together.")
    if "sentinel-user" in options and not options.keys() & set(_SENTINEL[1:]):
        raise ValueError("sentinel-user needs a sentinel-password.")
    for name in _FILES:
        if name in options and not os.access(options[name], os.R_OK):
            raise ValueError(f"{options[name]} cannot be read.")
    return options
