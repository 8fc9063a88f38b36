"""Who is banned or muted: whom it means, until when, and the file that remembers it.

A sanction is against a *target*: a name, which stands for its account, or an address, or a network
of them. Names are compared as the room compares them. Looking one up costs the same however many
there are: names lie in a dict, networks in one dict for each length of prefix.

The file is JSON, a few lines that a person can read. It is written whole with each change, so a
crash leaves the old one or the new one. Ten thousand lines take a tenth of a second to write, which
a thread does. What is over is forgotten at the next change.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, Final

from chatbox.addresses import read_address
from chatbox.chat.accounts import account_of
from chatbox.chat.codes import Code
from chatbox.chat.names import parse_name
from chatbox.chat.wire import MAX_NUMBER
from chatbox.errors import LocalError, RemoteError
from chatbox.files import Latest

__all__ = ["MAX_SANCTIONS", "Sanction", "SanctionKind", "Sanctions", "Target", "parse_target"]

MAX_SANCTIONS: Final = 10_000
"""Bans and mutes in all: more than people decide on. The file has 2 MB then."""

MAX_FILE_BYTES: Final = 16 << 20


def _is_text(value: object) -> bool:
    # JSON can say half a character, which no line can.
    return isinstance(value, str) and value == value.encode(errors="replace").decode()


def _is_time(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_NUMBER


_FORMS: Final[dict[str, Callable[[object], bool]]] = {
    **dict.fromkeys(("kind", "target", "by"), _is_text),
    "at": _is_time,
    "until": lambda value: value is None or _is_time(value),
    "reason": _is_text,
}
"""The fields of a row, as they are written, and what they may be."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class SanctionKind(Enum):
    """What somebody may not do."""

    BAN = "ban"
    """Come in."""
    MUTE = "mute"
    """Say anything."""


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a sanction means: a network, or the key of an account. `text` is as people write it."""

    text: str
    key: str = ""
    network: Network | None = None

    def means(self, account: str, host: str) -> bool:
        """Whether it means somebody with this account's key, who comes from this address."""
        if self.network is None:
            return account == self.key
        address = read_address(host)
        return address is not None and address in self.network


_OWN: Final = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


def parse_target(text: str) -> Target:
    """Read a name, an address or a network. Raises RemoteError if nobody can be meant.

    This machine itself cannot be: it is where operators come from when all else fails.
    """
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        account = account_of(parse_name(text))
        return Target(account.text, account.key)
    if isinstance(network, ipaddress.IPv6Network) and (
        mapped := network.network_address.ipv4_mapped
    ):
        network = ipaddress.IPv4Network((mapped, network.prefixlen - 96), strict=False)
    if any(network.version == own.version and network.overlaps(own) for own in _OWN):
        raise RemoteError(Code.BAD_TARGET)
    whole = network.num_addresses == 1
    return Target(str(network.network_address) if whole else str(network), network=network)


@dataclass(frozen=True, slots=True)
class Sanction:
    """One ban or mute."""

    kind: str
    """A `SanctionKind`, by its value."""
    target: str
    by: str
    """The operator's name."""
    at: int
    """When, in milliseconds since the epoch."""
    until: int | None
    """When it ends, in milliseconds since the epoch; None if it does not."""
    reason: str = ""

    def left(self, now: float) -> int | None:
        """How many seconds it goes on, at least 1; None if for good."""
        return None if self.until is None else max(1, -int(-(self.until / 1000 - now) // 1))


class Sanctions:
    """All bans and mutes of one server. `now`, in seconds since the epoch, is an argument."""

    def __init__(self, path: str, failed: Callable[[OSError], None] = lambda _: None) -> None:
        """`failed` is called, mostly in a thread, if the file cannot be written."""
        self.path = path
        self._file = Latest(path, failed)
        self._names: dict[tuple[str, str], Sanction] = {}
        self._networks: dict[tuple[str, int, int], dict[int, Sanction]] = {}
        """By kind, version of IP and length of the prefix; then by the prefix."""
        self._counts = dict.fromkeys(SanctionKind, 0)

    def __len__(self) -> int:
        return sum(self._counts.values())

    def load(self) -> None:
        """Read the file. Raises OSError, or LocalError if it makes no sense."""
        try:
            with open(self.path, "rb") as file:
                data = json.loads(file.read(MAX_FILE_BYTES))
            for row in data["sanctions"]:
                if not all(_FORMS[key](value) for key, value in row.items()):
                    raise ValueError("a value has the wrong form")
                self.add(Sanction(**row))
        except FileNotFoundError:
            return
        except (
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            RecursionError,
            RemoteError,
        ) as error:
            raise LocalError(
                f"the bans in {self.path} make no sense ({error}); mend the file or remove it"
            ) from error

    def save(self, now: float) -> None:
        """Write the file, without what is over, as soon as may be."""
        for sanction in list(self):
            if not _holds(sanction, now):
                self.remove(SanctionKind(sanction.kind), parse_target(sanction.target))
        self._file.put(partial(_encoded, tuple(self)))

    def flush(self) -> None:
        """Wait until the file has been written."""
        self._file.flush()

    def __iter__(self) -> Iterator[Sanction]:
        yield from self._names.values()
        for table in self._networks.values():
            yield from table.values()

    def add(self, sanction: Sanction) -> None:
        """Take one in, in place of one of the same kind against the same target."""
        target = parse_target(sanction.target)
        kind = SanctionKind(sanction.kind)
        table, key = self._slot(kind, target)
        self._counts[kind] += key not in table
        table[key] = sanction

    def remove(self, kind: SanctionKind, target: Target) -> bool:
        """Take one out; say whether there was one."""
        table, key = self._slot(kind, target)
        found = table.pop(key, None) is not None
        self._counts[kind] -= found
        return found

    def has(self, kind: SanctionKind, target: Target, now: float) -> bool:
        """Whether there is one against exactly this target."""
        table, key = self._slot(kind, target)
        found = table.get(key)
        return found is not None and _holds(found, now)

    def find(self, kind: SanctionKind, account: str, host: str, now: float) -> Sanction | None:
        """Return what holds against somebody, by the key of their account and by their address."""
        if not self._counts[kind]:
            return None  # As it is nearly always, and this is asked for each message.
        found = self._names.get((kind.value, account))
        if found is not None and _holds(found, now):
            return found
        address = read_address(host) if self._networks else None
        if address is None:
            return None
        bits = int(address)
        for (word, version, length), table in self._networks.items():
            if word == kind.value and version == address.version:
                found = table.get(bits >> (address.max_prefixlen - length))
                if found is not None and _holds(found, now):
                    return found
        return None

    def _slot(self, kind: SanctionKind, target: Target) -> tuple[dict[Any, Sanction], object]:
        """Return the dict that a target belongs into, and its key in it."""
        network = target.network
        if network is None:
            return self._names, (kind.value, target.key)
        length = network.prefixlen
        table = self._networks.setdefault((kind.value, network.version, length), {})
        return table, int(network.network_address) >> (network.max_prefixlen - length)


def _encoded(sanctions: Iterable[Sanction]) -> bytes:
    """What the file has."""
    rows = ",\n".join(json.dumps({key: getattr(one, key) for key in _FORMS}) for one in sanctions)
    return f'{{"sanctions": [\n{rows}\n]}}\n'.encode()


def _holds(sanction: Sanction, now: float) -> bool:
    return sanction.until is None or now * 1000 < sanction.until
