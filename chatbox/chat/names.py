"""Who may be called what, and who is called what now.

A name is a nickname as RFC 8266 has it: nearly any characters, spaces inside, no control characters
and nothing invisible. It has two forms. `Name.text` is what people see (the profile's enforcement:
NFKC, spaces trimmed and joined). `Name.key` decides whether two names are the same (its comparison:
lower case besides), so ``Alice``, ``alice`` and ``alice`` in full-width letters are one person.

The profile sees no likeness across scripts: the Cyrillic letter that looks like ``a`` is another
letter. Refusing such mixtures needs tables (UTS 39) that would also refuse honest names.

A name is held with a *token*, the only proof of who somebody is while there are no accounts. Who
shows the token of a name that is held takes it over. Who shows a token for a free name has it with
that token, so it is still the same person, under this name or another. That person's `identity`,
a hash of the token, is what the log knows the readers of private messages by: whoever takes a name
after its owner has left does not inherit the owner's letters.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

from precis_i18n import get_profile

from chatbox.addresses import is_network
from chatbox.chat.codes import Code
from chatbox.errors import RemoteError

__all__ = [
    "ADDRESS_OF",
    "MAX_NAME_BYTES",
    "MAX_NAME_CHARACTERS",
    "Claim",
    "LocalNames",
    "Name",
    "Names",
    "Reservation",
    "is_same_name",
    "is_token",
    "parse_name",
]

MAX_NAME_CHARACTERS: Final = 32
"""The longest name as people see it: a line of chat begins with it and has room for text."""

MAX_NAME_BYTES: Final = 96
"""The longest name in UTF-8: 32 characters of nearly every script, or 24 emoji."""

ADDRESS_OF: Final = "address:"
"""In front of the name of somebody who is here: the address that they come from."""

_CACHED_NAMES: Final = 8192
"""Names remembered with both their forms. The profile takes 30 us a name, and each private message
names somebody; one entry takes some 500 bytes."""

_shown = get_profile("NicknameCasePreserved")
_compared = get_profile("NicknameCaseMapped")

is_token: Final = re.compile(r"[A-Za-z0-9_-]{22,64}").fullmatch
"""At least 128 bits in base64url, which is what `secrets.token_urlsafe(16)` makes."""


@dataclass(frozen=True, slots=True)
class Name:
    """A name that somebody may have."""

    text: str
    """As people see it."""
    key: str
    """As it is compared: equal keys, same name."""


@lru_cache(_CACHED_NAMES)
def parse_name(raw: str) -> Name:
    """Return the name that `raw` stands for, by the nickname profile.

    Raises RemoteError: name-empty, name-too-long, name-invalid or name-reserved.
    """
    # Checked first as well as last: the profile's time grows with the length of what it is given.
    _check_length(raw)
    try:
        text = _shown.enforce(raw)
        # Of what is shown, so that two names that look the same are the same (U+03F9 and sigma).
        name = Name(text, _compared.enforce(text))
    except UnicodeError as error:
        reason = str(getattr(error, "reason", ""))
        raise RemoteError(Code.NAME_EMPTY if "empty" in reason else Code.NAME_INVALID) from None
    _check_length(name.text)
    if name.text[0] in "'\"" and name.text[0] == name.text[-1]:
        # A server takes such quotes for notation, so nobody could ever address this name.
        raise RemoteError(Code.NAME_INVALID, "A name cannot stand in quotes.")
    if (
        name.key in ("all", "server")
        or name.key.startswith(("server:", ADDRESS_OF))
        or is_network(name.text)  # which is what an operator means who bans it
    ):
        raise RemoteError(Code.NAME_RESERVED)
    return name


def is_same_name(one: str, other: str) -> bool:
    """Whether two texts are the same name; what is no name is the same as itself only."""
    if one == other:
        return True
    try:
        return parse_name(one).key == parse_name(other).key
    except RemoteError:
        return False


def _check_length(text: str) -> None:
    if len(text) > MAX_NAME_CHARACTERS or len(text.encode(errors="replace")) > MAX_NAME_BYTES:
        raise RemoteError(
            Code.NAME_TOO_LONG,
            f"A name has at most {MAX_NAME_CHARACTERS} characters and {MAX_NAME_BYTES} bytes.",
        )


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """A name held by somebody. Two claims are never equal: a released one stays released."""

    name: Name
    token: str
    resumed: bool = False
    """Whether the name was held already, with this same token."""
    moved: bool = False
    """Whether another server had it until now: everybody knows that this person is here."""
    since: int = 0
    """The place in a shared log from which on the name is held."""

    @property
    def identity(self) -> str:
        """Who this is, whatever the name: a hash, since logs are no place for tokens."""
        return _identity_of(self.token)


@dataclass(frozen=True, slots=True, eq=False)
class Reservation(Claim):
    """A name that is held for its owner, who is not here and whose token is not known."""

    owner: str = ""

    @property
    def identity(self) -> str:
        """Who this is."""
        return self.owner


def _identity_of(token: str) -> str:
    return hashlib.sha256(b"chatbox identity " + token.encode()).hexdigest()[:32]


class Names(Protocol):
    """Gives names out, each to one person at a time.

    `answer` may be called before `claim` returns or any time later.
    """

    def claim(self, name: Name, token: str | None, answer: Callable[[Claim | Code], None]) -> None:
        """Try to hold `name`: a claim, or the code of the refusal.

        The codes are name-taken, bad-token and log-unavailable.
        """

    def release(self, claim: Claim) -> None:
        """Let go of a name, unless another claim has taken it over meanwhile."""


class LocalNames:
    """`Names` of one process. It answers at once.

    `make_token` returns a new secret, such as `secrets.token_urlsafe` does.
    """

    def __init__(self, make_token: Callable[[], str]) -> None:
        self._make_token = make_token
        self._claims: dict[str, Claim] = {}

    def claim(self, name: Name, token: str | None, answer: Callable[[Claim | Code], None]) -> None:
        """Give `name` to whoever comes first, or has its token."""
        if token is not None and not is_token(token):
            answer(Code.BAD_TOKEN)
            return
        held = self._claims.get(name.key)
        if held is None:
            claim = Claim(name, token or self._make_token())
        elif token is not None and hmac.compare_digest(held.identity, _identity_of(token)):
            claim = Claim(held.name, token, resumed=True)
        else:
            answer(Code.NAME_TAKEN)
            return
        self._claims[name.key] = claim
        answer(claim)

    def reserve(self, name: Name, identity: str) -> Reservation:
        """Hold a free name for somebody who had it, and may come back with their token."""
        reservation = Reservation(name, "", owner=identity)
        self._claims[name.key] = reservation
        return reservation

    def release(self, claim: Claim) -> None:
        """Make the name free, if this claim is the one that holds it."""
        if self._claims.get(claim.name.key) is claim:
            del self._claims[claim.name.key]
