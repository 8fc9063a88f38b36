r"""Descriptions of where to listen, as Twisted writes them, and what of ours may stand in front.

``tcp:50000:interface=\:\:1`` is the kind of an endpoint and then words between colons, each a VALUE
or KEY=VALUE. Behind a backslash a colon is only a colon. Twisted makes endpoints of such a text; to
know what it says, neither that nor OpenSSL need be loaded.

In front may stand, for TLS: ``tls-self-signed:``, with a certificate of our own making, or
``tls-from:FOLDER:``, with those of a folder; and behind that ``haproxy:``, for a proxy that says
for whom it speaks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = [
    "DEFAULT_PORT",
    "DEFAULT_TLS_PORT",
    "DEFAULT_UDP_PORTS",
    "PROXIED",
    "SELF_SIGNED",
    "TLS_FROM",
    "Description",
    "read_description",
    "self_signed",
    "unescaped",
]

DEFAULT_PORT: Final = 50000
"""The TCP port of the chat, where servers and clients are told no other."""

DEFAULT_TLS_PORT: Final = 50001
"""The same with TLS."""

DEFAULT_UDP_PORTS: Final = "55000-55019"
"""The UDP ports of downloads, as the option takes them; it is what a firewall is told."""

SELF_SIGNED: Final = "tls-self-signed:"
"""In front of a description: speak TLS there, with a certificate of our own making."""

TLS_FROM: Final = "tls-from:"
"""The same with the certificates of a folder, which comes next."""

PROXIED: Final = "haproxy:"
"""In front of a description: a proxy connects there, and says for whom (`chatbox.proxied`)."""

_CHARACTER: Final = r"(?:\\.|[^:\\])"
_match: Final = re.compile(rf"({SELF_SIGNED}|{TLS_FROM}({_CHARACTER}+):)?(.*)", re.DOTALL).fullmatch
_find_words: Final = re.compile(rf"({_CHARACTER}*):", re.DOTALL).findall
_match_option: Final = re.compile(r"((?:\\.|[^=\\])*)=(.*)", re.DOTALL).fullmatch


@dataclass(frozen=True, slots=True)
class Description:
    """One that was taken apart."""

    front: str
    """What of ours stands in front, with its folder and its colon; "" without it."""
    folder: str
    """The folder in there, escaped as it was."""
    inner: str
    """What it stands in front of: the description of another endpoint, perhaps for a proxy."""
    kind: str
    """What kind of endpoint that is: ``tcp`` and the like."""
    values: Sequence[str]
    """Its words without a key, unescaped."""
    options: Mapping[str, str]
    """Those with one."""

    @property
    def has_tls(self) -> bool:
        """Whether it speaks TLS."""
        return bool(self.front) or self.kind in ("ssl", "tls")

    @property
    def is_proxied(self) -> bool:
        """Whether it is for a proxy."""
        return self.inner.startswith(PROXIED)

    @property
    def endpoint(self) -> str:
        """The description of the endpoint itself, without anything of ours in front."""
        return self.inner.removeprefix(PROXIED)

    @property
    def port(self) -> str:
        """The TCP port, as it was written; "" if there is none."""
        match self.kind:
            case "tcp" | "tcp6" | "ssl":
                return self.options.get("port") or "".join(self.values[:1])
            case "tls":
                return self.options.get("port", "")
            case _:
                return ""

    @property
    def interface(self) -> str:
        """The address; "" if it is not said."""
        return self.options.get("interface", "")


def read_description(text: str) -> Description:
    """Take a description apart. It need not make sense: see `chatbox.tls.check_endpoint`."""
    found = _match(text)
    assert found is not None  # it fits anything
    front, folder, inner = found.groups("")
    kind, *words = _find_words(f"{inner}:") or [""]
    values = [unescaped(word) for word in words if not _match_option(word)]
    pairs = [pair.groups() for pair in map(_match_option, words) if pair]
    options = {unescaped(key): unescaped(value) for key, value in pairs}
    return Description(front, folder, inner, kind, values, options)


def self_signed(interface: str = "") -> str:
    """Describe the usual port for TLS, with a certificate of our own making; "" is any address."""
    place = f"{SELF_SIGNED}tcp:{DEFAULT_TLS_PORT}"
    return f"{place}:interface={_escaped(interface)}" if interface else place


def _escaped(text: str) -> str:
    return re.sub(r"([\\:])", r"\\\1", text)


def unescaped(text: str) -> str:
    """Return what a word means: behind a backslash each character is only itself."""
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)
