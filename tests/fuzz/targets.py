"""The table of what is fuzzed: `TARGETS`.

A target is a function of bytes. It returns if all is well, which includes refusing them with the
one error that is documented for it; anything else that it raises is a finding. What must hold
besides stands in it as assertions: what was read and is written again means the same, nothing is
shown that a terminal obeys, nothing grows beyond its bound, nobody is answered who has no key.

What a target needs for all its inputs is made once, by the function that makes the target.
"""

from __future__ import annotations

import atexit
import hashlib
import ipaddress
import os
import random
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice

from twisted.internet.task import Clock

from chatbox import passwords
from chatbox.certificates import parse_fingerprint, show_fingerprint
from chatbox.chat.accounts import Seals
from chatbox.chat.codes import Code
from chatbox.chat.gate import OpenGate
from chatbox.chat.moderation import ModeratedGate, Moderation, Operators
from chatbox.chat.names import LocalNames, is_token, parse_name
from chatbox.chat.orders import heard_order, read_order
from chatbox.chat.register import Register
from chatbox.chat.sanctions import MAX_SANCTIONS, Sanctions, parse_target
from chatbox.chat.server import ChatFactory
from chatbox.chat.session import REQUESTS
from chatbox.chat.session import State as SessionState
from chatbox.chat.wire import (
    MAX_REQUEST_BYTES,
    Message,
    check_text,
    format_line,
    format_list,
    parse_line,
    parse_list,
    parse_request,
)
from chatbox.client import words
from chatbox.client.config import SETTINGS, Settings, read_file
from chatbox.client.events import Kind
from chatbox.client.exits import Stop
from chatbox.client.journal import PAGE_BYTES, Claim, Subject, pack, unpack
from chatbox.client.session import ClientSession, State
from chatbox.client.terminal.keys import Key, KeyDecoder, Pasted
from chatbox.client.trust import KnownServers
from chatbox.errors import LocalError, RemoteError
from chatbox.lan import MAX_ROOM, server_from
from chatbox.log import Kind as RecordKind
from chatbox.log import Record
from chatbox.rdt.congestion.cubic import Cubic
from chatbox.rdt.demux import Admissions, Demux
from chatbox.rdt.packet import (
    DATA_HEADER,
    HEADER,
    MAX_ACK_RANGES,
    MAX_HAVE_RANGES,
    TAG_BYTES,
    Open,
    Train,
    pack_control,
    pack_open,
    pack_status,
    unpack_control,
    unpack_open,
    unpack_status,
)
from chatbox.rdt.packet import Kind as PacketKind
from chatbox.rdt.receiver import Ended, Receiver, Verdict
from chatbox.rdt.receiver import State as ReceiverState
from chatbox.rdt.seal import Keys, TrainSealer, client_keys, seal_packet, server_keys
from chatbox.rdt.sender import Sender
from chatbox.rdt.ticket import Ticket
from chatbox.text import is_printable
from tests.helpers import vectors
from tests.helpers.chat import NOON, tokens
from tests.link import MemorySource
from tests.test_server import Connection, make_factory

Check = Callable[[bytes], None]


@dataclass(frozen=True)
class Target:
    """One thing to feed. `make` returns the function of bytes."""

    make: Callable[[], Check]
    seeds: Sequence[bytes]
    """What it usually gets, to begin from."""
    words: Sequence[bytes] = ()
    """What is worth putting into it anywhere."""
    max_bytes: int = 512


# ---- the chat


def _refused(error: RemoteError) -> None:
    """A refusal has a code that is in the table."""
    assert error.code in set(Code), error


def _line() -> Check:
    def check(data: bytes) -> None:
        try:
            message = parse_request(data)
        except RemoteError as error:
            _refused(error)
            return
        if message != Message():  # nothing but keys that nobody knows
            assert parse_line(format_line(message)) == message
        with suppress(RemoteError):
            check_text(message.text or "")
            assert len((message.text or "").encode()) <= MAX_REQUEST_BYTES

    return check


def _list() -> Check:
    def check(data: bytes) -> None:
        try:
            items = parse_list(data.decode(errors="replace"))
        except RemoteError as error:
            _refused(error)
            return
        assert parse_list(format_list(items)) == items

    return check


def _name() -> Check:
    def check(data: bytes) -> None:
        try:
            name = parse_name(data.decode(errors="replace"))
        except RemoteError as error:
            _refused(error)
            return
        assert parse_name(name.text) == name
        with suppress(RemoteError):
            target = parse_target(name.text)
            assert parse_target(target.text) == target

    return check


def _order() -> Check:
    def check(data: bytes) -> None:
        whom, _, text = data.decode(errors="replace").partition("\n")
        record = Record(1, 1, RecordKind.ORDER, "olga", whom, text)
        line = heard_order(record)
        try:
            order = read_order(record)
        except LocalError:
            assert line == b""
            return
        assert read_order(record._replace(text=order.text)) == order
        assert parse_line(line).sender == "olga"

    return check


def _token() -> Check:
    seals = Seals(bytes(32))

    def check(data: bytes) -> None:
        text = data.decode(errors="replace")
        assert not seals.opens(text, "alice", 0.0)
        is_token(text)
        try:
            ticket = Ticket.parse(text)
        except RemoteError:
            return
        assert str(ticket) == text

    return check


def _server() -> Check:
    """A whole server in memory, with bob in it and one who sends the bytes."""

    def check(data: bytes) -> None:
        clock = Clock()
        factory = make_factory(clock)
        bob, enemy = Connection(factory), Connection(factory)
        bob.send("<s:bob><t:connect>")
        if data[:1] != b"-":
            enemy.send("<s:mallory><t:connect>")
        clock.advance(0)
        cut = len(data) // 2
        for piece in (data[:cut], data[cut:]):
            enemy.protocol.dataReceived(piece)
            clock.advance(0)
        enemy.protocol.readConnectionLost()
        clock.advance(1)
        for message in (*enemy.messages(), *bob.messages()):
            assert message.error != "internal-error", message
        bob.send("<r:all><t:message_request><m:still here><q:1>")
        clock.advance(1)
        assert ("message_response", "True", 1) in [
            (one.response, one.text, one.sequence) for one in bob.messages()
        ]
        enemy.lose()
        bob.lose()
        clock.advance(0)
        assert factory.room.names() == []

    return check


def _operator() -> Check:
    """The same server, whose operator sends the bytes; bob and others may be gone after that."""
    folder = _memory_folder()
    with open(os.path.join(folder, "operators"), "w") as file:
        file.write("olga\n")

    def check(data: bytes) -> None:
        clock = Clock()
        clock.advance(NOON)
        plain = make_factory(clock)
        moderation = Moderation(
            folder, clock.seconds, operators=os.path.join(folder, "operators"), accounts=True
        )
        moderation.serve(plain.room)
        gate = ModeratedGate(moderation, OpenGate())
        gate.start()
        factory = ChatFactory(plain.room, plain.files, plain.downloads, clock, gate, moderation)
        bob, olga = Connection(factory), Connection(factory)
        bob.send("<s:bob><t:connect>")
        olga.send("<s:olga><t:connect>")
        clock.advance(0)
        bob.messages(), olga.messages()
        for line in data.split(b"\n")[:8]:
            olga.protocol.dataReceived(line + b"\n")
            clock.advance(1)
        olga.send("<t:get_ban_list><q:9>", "<t:ping><q:7>")
        clock.advance(1)
        for message in (*olga.messages(), *bob.messages()):
            assert message.error != "internal-error", message
        if olga.protocol.session.state is SessionState.HERE:
            assert "olga" in factory.room.names()
        moderation.sanctions.flush()
        for name in ("bans.json", "audit.jsonl"):
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(folder, name))

    return check


def _client() -> Check:
    """A client that has asked for everything, was cut off and is back, and shows all that it hears.

    A NUL stands for where the connection is cut.
    """

    def hear(session: ClientSession, data: bytes) -> None:
        session.receive_data(data)
        while (event := session.next_event()) is not None:
            for line in words.describe(event, "alice", now=NOON):
                assert is_printable(line), line
        for sent in session.data_to_send().splitlines():
            parse_line(sent)

    def check(data: bytes) -> None:
        session = ClientSession()
        session.survive()
        session.join("alice", "192.0.2.1")
        hear(session, b"<r:alice><m:True><p:connect_response><q:1><k:token>\n")
        session.say("hi")
        session.say("hi", "bob")
        session.ask_users()
        session.ask_files()
        session.ask_history(3)
        session.download("a.txt")
        session.probe(7, 1)
        session.moderate(Kind.KICK, "bob")
        session.ask_bans()
        session.ping()
        before, _, after = data.partition(b"\0")
        hear(session, before)
        session.connection_lost()
        if session.state is State.AWAY:
            session.rejoin("192.0.2.1")
            hear(session, after)
        session.leave() if session.state is State.JOINED else session.connection_lost()
        hear(session, after)
        session.survives = False
        session.connection_lost()
        hear(session, b"")
        assert session.state is not State.JOINED

    return check


def _keys() -> Check:
    def all_of(pieces: Iterable[bytes]) -> list[Key | str]:
        """The keys; characters one by one, however they came."""
        decoder = KeyDecoder()
        found: list[Key | str] = []
        for piece in pieces:
            for key in decoder.feed(piece):
                if isinstance(key, Key):
                    found.append(key)
                else:
                    assert isinstance(key, Pasted) or is_printable(key.text.replace("\u2028", ""))
                    found.extend(key.text)
        return found

    def check(data: bytes) -> None:
        assert all_of([data]) == all_of(data[at : at + 1] for at in range(len(data)))

    return check


# ---- files, and what is said on the local network


def _memory_folder() -> str:
    """A new folder, in memory where that is possible: this happens millions of times."""
    folder = tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _in_a_file(read: Callable[[str], None]) -> Callable[[], Check]:
    """A target that reads a file of its bytes."""

    def make() -> Check:
        path = os.path.join(_memory_folder(), "file")

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

    return check


def _journal_page(body: bytes) -> bytes:
    return b"chatbox\x01" + hashlib.blake2b(body, digest_size=16).digest() + body


# ---- downloads

TICKET = Ticket(0x01020304, bytes(range(32)))
FILE = random.Random(8).randbytes(20_000)


def _packet() -> Check:
    def check(data: bytes) -> None:
        body = data[1:]
        try:
            match data[:1]:
                case b"c":
                    control = unpack_control(body)
                    assert unpack_control(pack_control(control)) == control
                    assert len(control.ranges) <= MAX_ACK_RANGES
                case b"o":
                    opening = unpack_open(body)
                    assert unpack_open(pack_open(opening)) == opening
                    assert len(opening.have) <= MAX_HAVE_RANGES
                case _:
                    status = unpack_status(body)
                    assert unpack_status(pack_status(status)) == status
        except RemoteError as error:
            assert error.code == "bad-packet"

    return check


def _datagram() -> Check:
    """A server's port with two downloads, one that has begun, and somebody without their keys.

    The first byte says how long each datagram of the train is.
    """
    demux = Demux(Cubic, Admissions(), random.Random(1).randbytes)
    for _ in range(2):
        ticket = demux.admit("alice", MemorySource(FILE), 0.0)
    body = pack_open(Open(1200, 0.0, [], replace(vectors.CONTROL, window_end=0)))
    opening = seal_packet(
        client_keys(ticket.secret), PacketKind.OPEN, ticket.connection_id, 0, body
    )
    demux.receive(Train(memoryview(opening), len(opening)), "alice", 0.0)
    assert [address for _, address in demux.trains_to_send(0.0)]
    assert demux.next_event() is not None
    ids = [transfer.sender.connection_id for transfer in demux.transfers]

    def dropped() -> int:
        return demux.dropped + sum(one.sender.dropped for one in demux.transfers)

    def check(data: bytes) -> None:
        # The fuzzer need not guess 32 bits to get further.
        which = data[1:2]
        packet = bytearray(data[1:])
        if which and which[0] & 0x80 and len(packet) >= HEADER.size:
            packet[0] &= 0x3F
            packet[1:5] = ids[which[0] >> 6 & 1].to_bytes(4, "big")
        segment = max(len(packet) if data[:1] == b"\xff" else data[0] if data else 1, 1)
        before = dropped()
        demux.receive(Train(memoryview(packet), segment), "mallory", 0.0)
        assert dropped() - before == -(-len(packet) // segment)
        assert not list(demux.trains_to_send(0.0)), "somebody without keys was answered"
        assert demux.next_event() is None and len(demux) == 2

    return check


def _stray() -> Check:
    """A client's socket, and somebody without the keys; the first byte as in `_datagram`."""
    receiver = Receiver(TICKET, len(FILE), _Sink(), 0.0)
    assert list(receiver.trains_to_send(0.0))

    def check(data: bytes) -> None:
        packet = bytearray(data[1:])
        if data[1:2] >= b"\x80" and len(packet) >= HEADER.size:
            packet[0] &= 0x7F
            packet[1:5] = TICKET.connection_id.to_bytes(4, "big")
        segment = max(len(packet) if data[:1] == b"\xff" else data[0] if data else 1, 1)
        before = receiver.dropped
        receiver.receive(Train(memoryview(packet), segment), 0.0)
        assert receiver.dropped - before == -(-len(packet) // segment)
        assert receiver.state is ReceiverState.OPENING and receiver.next_event() is None
        assert not list(receiver.trains_to_send(0.0))

    return check


class _Sink:
    """A file in memory that takes nothing beyond its end."""

    have: Sequence[tuple[int, int]] = ()

    def __init__(self) -> None:
        self.reached_to = 0
        self.closed = 0
        self.finished = False

    def recognise(self, mtime_ns: int) -> bool:
        """Any will do."""
        return True

    def write(self, offset: int, data: memoryview) -> None:
        """Look at the bounds."""
        assert 0 <= offset <= len(FILE) - len(data) and not self.closed

    def reached(self, prefix: int) -> None:
        """It only grows."""
        assert self.reached_to < prefix <= len(FILE)
        self.reached_to = prefix

    def finish(self, digest: bytes) -> None:
        """It is whole."""
        assert self.reached_to == len(FILE) and len(digest) == 32 and not self.finished
        self.finished = True

    def verdict(self) -> Verdict | None:
        """Not yet."""
        return None

    def close(self, end: object) -> None:
        """Once."""
        self.closed += 1
        assert self.closed == 1


def _steps(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Cut bytes into things that happen: what, how far the number jumps, and a body."""
    at = 0
    while at + 3 <= len(data):
        what, jump, length = data[at : at + 3]
        if length == 0xFF and at + 5 <= len(data):
            length = int.from_bytes(data[at + 3 : at + 5], "big")
            at += 2
        yield what, jump, data[at + 3 : at + 3 + length]
        at += 3 + length


def _step(what: int, body: bytes, jump: int = 0) -> bytes:
    """What `_steps` reads."""
    size = bytes([len(body)]) if len(body) < 0xFF else b"\xff" + len(body).to_bytes(2, "big")
    return bytes([what, jump]) + size + body


def _sealed(keys: Keys, kind: int, number: int, body: bytes) -> bytes:
    """A datagram of any kind, one that does not exist too."""
    header = HEADER.pack(kind, TICKET.connection_id, number)
    return header + keys.at(number).encrypt(header[1:], body, header)


def _sender() -> Check:
    """A server whose client has the keys and says anything."""
    keys = client_keys(TICKET.secret)
    sealer = TrainSealer()

    def check(data: bytes) -> None:
        now, number = 0.0, 0
        sender = Sender(TICKET, MemorySource(FILE), Cubic, sealer, now)
        ended = 0
        for what, jump, body in islice(_steps(data), 40):
            if what >= 0xF0:
                now += jump * jump / 1000
                sender.on_timer(now)
            else:
                kind = (PacketKind.OPEN, PacketKind.CONTROL, what)[min(what, 2)]
                number += jump
                packet = _sealed(keys, kind, number, body)
                sender.receive(Train(memoryview(packet), len(packet)), what & 0x40, now)
                number += 1
            trains = list(islice(sender.trains_to_send(now), 1000))
            assert len(trains) < 1000, "it does not stop"
            while (event := sender.next_event()) is not None:
                ended += hasattr(event, "end")
            due = sender.next_timer()
            assert due is None if sender.closed else due is not None and due < now + 1e5
            assert 0 <= sender.confirmed <= len(FILE)
            assert ended == sender.ended

    return check


def _receiver() -> Check:
    """A client whose server has the keys and says anything."""
    keys = server_keys(TICKET.secret)
    orders = (Receiver.pause, Receiver.proceed, Receiver.cancel, Receiver.sink_ready)

    def check(data: bytes) -> None:
        now, number = 0.0, 0
        receiver = Receiver(TICKET, len(FILE), _Sink(), now)
        ended = 0
        for what, jump, body in islice(_steps(data), 40):
            if what >= 0xF0:
                now += jump * jump / 1000
                receiver.on_timer(now)
            elif what >= 0xE0:
                orders[what % len(orders)](receiver, now)
            else:
                number += jump << (what >> 2 & 0x1F)
                if what & 3 == 3 and len(body) >= 2:
                    offset = int.from_bytes(body[:8].rjust(8, b"\0"), "big")
                    header = DATA_HEADER.pack(PacketKind.DATA, TICKET.connection_id, number, offset)
                    plain = FILE[: int.from_bytes(body[-2:], "big") + 1]
                    sealed = keys.at(number).encrypt(header[1:13], plain, header)
                    packet = header + sealed
                else:
                    kind = (PacketKind.STATUS, PacketKind.PROBE, 0x20 + what)[min(what & 3, 2)]
                    packet = _sealed(keys, kind, number, body)
                number += 1
                receiver.receive(Train(memoryview(packet), len(packet)), now)
            for train in islice(receiver.trains_to_send(now), 3):
                assert len(train.data) <= 1400 + TAG_BYTES
            receiver.progress(now)
            while (event := receiver.next_event()) is not None:
                assert not ended, "something happened after the end"
                ended += isinstance(event, Ended)
            due = receiver.next_timer()
            assert (due is None) is receiver.closed
            assert 0 <= receiver.confirmed <= len(FILE)

    return check


# ---- what they begin from

_REQUEST_LINES = [f"<s:bob><r:alice><t:{name}><m:hi><n:3><q:7>".encode() for name in REQUESTS]
_FIELDS = [
    *(f"<{key}:".encode() for key in "srtmpeqkdzhanl"),
    *(f"<t:{name}>".encode() for name in REQUESTS),
    *(f"<p:{request.response}>".encode() for request in REQUESTS.values()),
    *(b">", b"\\<", b"\\n", b"\r\n", b"<z:[1,2]>", b"<m:True>", b"<m:False>", b"<m:['a','b']>"),
]
_ANSWERS = [
    b"<s:bob><r:all><m:hi><p:message_received><q:5><d:1700000000000>\n",
    b"<s:bob><r:all><m:joined><p:presence><q:6>\n<n:700><p:headcount>\n<p:gap><q:3>\n",
    b"<m:True><p:message_response><q:2>\n<m:['alice','bob']><p:user_list><q:4>\n",
    b"<m:['a.txt','b']><p:file_list><q:5><z:[1,2]>\n<s:b><m:x><p:message_received><q:2>\n"
    b"<m:1><p:history_response><q:6><a:2>\n",
    b"<m:55000><p:download_response><q:7><k:t><z:5><h:" + b"0a" * 32 + b">\n",
    b"<s:olga><r:bob><m:spam><p:banned><n:60><q:9>\n<s:olga><r:bob><p:mute><d:1><n:5>\n"
    b"<m:1><p:ban_list><q:10>\n<p:ping_response><q:11>\n",
    b"\0<m:True><p:connect_response><q:12>\n<m:0><p:history_response><q:13>\n",
    b"<m:no><e:restarting><p:error>\n\0<m:False><e:busy><p:connect_response><q:12>\n",
]
_HASH = b"$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$" + b"A" * 43
_BAN = (
    b'{"sanctions": [\n{"kind": "ban", "target": "192.0.2.0/24", "by": "olga",'
    b' "at": 1, "until": 1800000000000, "reason": "spam"},\n{"kind": "mute", "target": "bob",'
    b' "by": "olga", "at": 1, "until": null, "reason": ""}]}'
)
_CONTROL = pack_control(vectors.CONTROL)
_ACK = pack_control(replace(vectors.CONTROL, ranges=[(8, 9), (0, 3)]))
_OPEN = pack_open(Open(1400, 0.05, [(0, 100), (200, 300)], vectors.CONTROL))
_STATUS = pack_status(replace(vectors.STATUS, size=len(FILE)))
_CLAIM = pack(Claim(7, Subject(1, 1000, 5, bytes(32)), ((0, 10), (20, 30))))
_TYPED = [
    b"alice",
    b"\x1b[A\x1b[1;5C\x1bx\x1bOP",
    b"\x1b[200~a\r\nb\x1b[201~",
    "é\x9b".encode(),
]
_LISTS = [b"['alice','bob']", b"[\"it's\", 'a\\'b']"]
_TOKENS = [vectors.TICKET_TEXT.encode(), Seals(bytes(32)).resume("bob", NOON).encode()]
_PACKETS = [b"c" + _CONTROL, b"c" + _ACK, b"o" + _OPEN, b"s" + _STATUS]
_SETTINGS = [
    *(setting.example.encode() for setting in SETTINGS.values()),
    *(b"limit = " + b"9" * 5000, b"limit = " + b"[" * 5000, b"a." * 2000 + b"b = 1"),
]

TARGETS = {
    "line": Target(_line, _REQUEST_LINES, _FIELDS),
    "list": Target(_list, _LISTS, [b"','", b"\\'", b"\\\\"]),
    "name": Target(
        _name,
        [b"alice", "Ａlice é".encode(), b"alice+phone", b"192.0.2.0/24", b"::ffff:192.0.2.1"],
        ["\u200b".encode(), "ﬀ".encode(), "\u0345".encode(), b"server:", b"+", b"/", b"::"],
        128,
    ),
    "order": Target(_order, [b"bob\nban 60 spam", b"192.0.2.0/24\nunmute 0 "], [b"kick ", b" 0 "]),
    "token": Target(_token, _TOKENS),
    "server": Target(_server, [line + b"\n" for line in _REQUEST_LINES], _FIELDS, 1024),
    "operator": Target(
        _operator,
        [
            *(line + b"\n" for line in _REQUEST_LINES if b"ban" in line or b"mute" in line),
            b"<t:ban><r:bob><n:5><m:x>\n<t:unban><r:bob>\n<t:mute><r:192.0.2.0/24>\n",
            b"<t:ban><r:address:bob>\n<t:kick><r:bob>\n<t:unmute><r:2001:db8::/32>\n",
        ],
        [*_FIELDS, b"address:", b"192.0.2.7", b"/24", b"::1"],
        1024,
    ),
    "client": Target(_client, _ANSWERS, [*_FIELDS, b"\0"], 1024),
    "keys": Target(_keys, _TYPED, [b"\x1b[", b"\x1b[200~", b"\x1b[201~", b"\x1bO"], 128),
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
    "packet": Target(_packet, _PACKETS, max_bytes=1400),
    "datagram": Target(
        _datagram,
        [b"\xff\x91" + struct.pack(">IQ", 0, 1) + bytes(40), b"\x40\xd2" + bytes(200)],
    ),
    "stray": Target(
        _stray, [b"\xff\x93" + struct.pack(">IQQ", 0, 1, 0) + bytes(40), b"\x40\x94" + bytes(200)]
    ),
    "sender": Target(
        _sender,
        [
            _step(0, _OPEN) + _step(1, _ACK) + _step(0xF0, b"", 30) + _step(1, _CONTROL),
            _step(0, _OPEN) + _step(1, pack_control(replace(vectors.CONTROL, pause_at=5))),
        ],
        [_step(0xF0, b"", 255), _step(1, _CONTROL), _step(0, _OPEN)],
        1400,
    ),
    "receiver": Target(
        _receiver,
        [
            _step(0, _STATUS) + _step(3, b"\0\0\x04\x00") + _step(0xF0, b"", 30),
            _step(3, b"\0\0\x4e\x1f") + _step(0, _STATUS) + _step(0xE3, b""),
        ],
        [_step(0xF0, b"", 255), _step(0xE0, b""), _step(0, _STATUS), _step(3, b"\0\0\x4e\x1f")],
        1400,
    ),
}
"""Everything that is fuzzed, by its name."""
