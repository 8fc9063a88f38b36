"""Files that programs read when they start or go on, and what is said on the local network."""

from __future__ import annotations

import hashlib
import ipaddress
import os
from collections.abc import Callable
from contextlib import suppress

from chatbox import passwords
from chatbox.certificates import parse_fingerprint, show_fingerprint
from chatbox.chat.moderation import Moderation, Operators
from chatbox.chat.names import LocalNames
from chatbox.chat.register import Register
from chatbox.chat.sanctions import MAX_SANCTIONS, Sanctions
from chatbox.chat.wire import (
    Message,
    format_line,
)
from chatbox.client.config import SETTINGS, Settings, read_file
from chatbox.client.connect.trust import KnownServers
from chatbox.client.exits import Stop
from chatbox.client.files.journal import PAGE_BYTES, Claim, Sample, Subject, pack, unpack
from chatbox.errors import LocalError
from chatbox.lan import MAX_ROOM, server_from
from chatbox.text import is_printable
from tests.fuzz.target import Check, Target, memory_folder
from tests.helpers.chat import NOON, tokens


def _in_a_file(read: Callable[[str], None]) -> Callable[[], Check]:
    """A target that reads a file of its bytes."""

    def make() -> Check:
        path = os.path.join(memory_folder(), "file")

        def check(data: bytes) -> None:
            with open(path, "wb") as file:
                file.write(data)
            read(path)

        return check

    return make


def _read_known_servers(path: str) -> None:
    known = KnownServers(path)
    try:
        found = known._read()
    except Stop as stop:
        assert is_printable(stop.sentence), stop.sentence
        return
    for place, digits in found.items():
        assert parse_fingerprint(show_fingerprint(digits)) == digits
        assert known.find(place) == digits
    known.remember("192.0.2.1:50001", "0a" * 32)
    assert known._read() == {**found, "192.0.2.1:50001": "0a" * 32}


def _read_operators(path: str) -> None:
    operators = Operators(path, lambda: NOON)
    with suppress(LocalError):
        operators.load()
        assert "" not in operators


def _read_bans(path: str) -> None:
    sanctions = Sanctions(path)
    try:
        sanctions.load()
    except LocalError as error:
        assert is_printable(str(error)), error
        return
    assert len(sanctions) <= MAX_SANCTIONS
    moderation = Moderation(os.path.dirname(path), lambda: NOON)
    moderation.sanctions = sanctions
    for one in moderation.bans():
        # What an operator is shown.
        format_line(Message(one.by, one.target, text=one.reason, time=one.at, count=one.left(NOON)))
    sanctions.save(NOON)
    sanctions.flush()
    again = Sanctions(path)
    again.load()
    assert set(again) == set(sanctions)


def _read_register(path: str) -> None:
    register = Register(path, LocalNames(tokens()).reserve, lambda: NOON)
    for claim in register.recall():
        assert len(claim.identity) == 32
    assert not os.path.exists(path)


def _accounts() -> Check:
    def check(data: bytes) -> None:
        try:
            accounts = passwords.parse_accounts(data)
        except LocalError as error:
            assert is_printable(str(error)), error
            return
        lines = [f"{name}:{hashed}\n" for name, hashed in accounts.values()]
        assert passwords.parse_accounts("".join(lines).encode()) == accounts
        for _, hashed in accounts.values():
            if "$m=8,t=1,p=1$" in hashed:  # others cost too much
                passwords.verify("password", hashed)

    return check


def _config() -> Check:
    def check(data: bytes) -> None:
        try:
            found = read_file(data, "config.toml")
        except Stop as stop:
            assert is_printable(stop.sentence), stop.sentence
            return
        assert found.keys() <= SETTINGS.keys()
        Settings(**found)

    return check


def _mdns() -> Check:
    def check(data: bytes) -> None:
        port, _, rest = data.partition(b"\0")
        addresses, _, rest = rest.partition(b"\0")
        pairs = (row.partition(b"=") for row in rest.split(b"\0"))
        server = server_from(
            {key: value if equals else None for key, equals, value in pairs},
            addresses.decode(errors="replace").split(),
            int.from_bytes(port[:3], "big"),
            ["192.0.2.1/24", "2001:db8::1/64"],
        )
        if server is not None:
            assert is_printable(server.room + server.version) and len(server.room) <= MAX_ROOM
            address = ipaddress.ip_address(server.address)
            assert server.host.endswith(f":{server.port}") and is_printable(server.host)
            assert (server.host[0] == "[") is (address.version == 6)

    return check


def _journal() -> Check:
    def check(data: bytes) -> None:
        assert unpack(data) is None or len(data) == PAGE_BYTES
        # The same with a seal that is right, as only chance or malice makes it.
        body = data[:2048].ljust(PAGE_BYTES - 24, b"\0")
        claim = unpack(_journal_page(body))
        if claim is None:
            return
        assert unpack(pack(claim)) == claim
        last = -1
        for start, stop in claim.ranges:
            assert last < start < stop <= claim.subject.size
            last = stop
        sample = claim.subject.sample
        assert sample is None or 0 < sample.size <= claim.subject.size - sample.start

    return check


def _journal_page(body: bytes) -> bytes:
    return _CLAIM[:8] + hashlib.blake2b(body, digest_size=16).digest() + body


# What they begin from.

_HASH = b"$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$" + b"A" * 43
_BAN = (
    b'{"sanctions": [\n{"kind": "ban", "target": "192.0.2.0/24", "by": "olga",'
    b' "at": 1, "until": 1800000000000, "reason": "spam"},\n{"kind": "mute", "target": "bob",'
    b' "by": "olga", "at": 1, "until": null, "reason": ""}]}'
)
_SUBJECT = Subject(1, 1000, 5, bytes(32), Sample(20, 10, bytes(16)))
_CLAIM = pack(Claim(7, _SUBJECT, ((0, 10), (20, 30))))
_SETTINGS = [
    *(setting.example.encode() for setting in SETTINGS.values()),
    *(b"limit = " + b"9" * 5000, b"limit = " + b"[" * 5000, b"a." * 2000 + b"b = 1"),
]

TARGETS = {
    "accounts": Target(
        _accounts, [b"alice:" + _HASH, b"# us\n\nbob:" + _HASH], [_HASH, b":", b"#"]
    ),
    "known-servers": Target(
        _in_a_file(_read_known_servers),
        [b"192.0.2.1:50001 " + b"0a1b " * 16 + b"\n# ours\n[::1]:5 sha256:" + b"0a" * 32],
        [b"0a" * 32, b" ", b"#", b"\n"],
    ),
    "config": Target(
        _config,
        _SETTINGS,
        [*(key.encode() for key in SETTINGS), b"[", b"[[", b'"', b" = ", b"1e9", b"10MB", b"_"],
        8192,
    ),
    "operators": Target(_in_a_file(_read_operators), [b"alice\n# them\nolga\n"], [b"#", b"+"]),
    "bans": Target(
        _in_a_file(_read_bans),
        [_BAN, b'{"sanctions": []}', b"[" * 5000],
        [b'"ban"', b'"mute"', b"null", b"[", b"{", b"1e999", b"\\ud800"],
        8192,
    ),
    "register": Target(
        _in_a_file(_read_register),
        [b'{"stopped_at": 1699999999, "people": [["bob", "' + b"0a" * 16 + b'"]]}', b"[" * 5000],
        [b'"people"', b"[", b"{", b"null", b"1e999"],
        8192,
    ),
    "mdns": Target(
        _mdns,
        [b"\xc3\x50\x00192.0.2.7 2001:db8::5\0room=ours\0tls=yes\0version=1"],
        [b"fe80::1%eth0", b"::ffff:192.0.2.1", b"224.0.0.1", b"room=", b"\0"],
    ),
    "journal": Target(_journal, [_CLAIM[24:200], _CLAIM], max_bytes=PAGE_BYTES),
}
