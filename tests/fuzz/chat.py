"""The chat: what clients, operators and servers say, and what is typed into a terminal."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from unicodedata import category

from twisted.internet.task import Clock

from chatbox.chat.accounts import Seals
from chatbox.chat.codes import Code
from chatbox.chat.gate import OpenGate
from chatbox.chat.moderation import ModeratedGate, Moderation
from chatbox.chat.names import is_token, parse_name
from chatbox.chat.orders import heard_order, read_order
from chatbox.chat.sanctions import parse_target
from chatbox.chat.server import ChatFactory
from chatbox.chat.session import REQUESTS
from chatbox.chat.states import State as SessionState
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
from chatbox.client.chat.events import Kind
from chatbox.client.chat.session import ClientSession, State
from chatbox.client.terminal.keys import Key, KeyDecoder, Pasted
from chatbox.errors import LocalError, RemoteError
from chatbox.log import Kind as RecordKind
from chatbox.log import Record
from chatbox.rdt.ticket import Ticket
from chatbox.text import is_printable
from tests.fuzz.target import Check, Target, memory_folder
from tests.helpers import vectors
from tests.helpers.chat import NOON
from tests.test_server import Connection, make_factory


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
    folder = memory_folder()
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
                    # No controls; what else should not be shown is for the line editor.
                    assert isinstance(key, Pasted) or "Cc" not in map(category, key.text)
                    found.extend(key.text)
        return found

    def check(data: bytes) -> None:
        assert all_of([data]) == all_of(data[at : at + 1] for at in range(len(data)))

    return check


# What they begin from.

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
    b"<m:1><p:history_response><q:6><a:2>\n<m:1><p:history_response><q:6><b:2>\n",
    b"<m:55000><p:download_response><q:7><k:t><z:5><h:" + b"0a" * 32 + b">\n",
    b"<s:olga><r:bob><m:spam><p:banned><n:60><q:9>\n<s:olga><r:bob><p:mute><d:1><n:5>\n"
    b"<m:1><p:ban_list><q:10>\n<p:ping_response><q:11>\n",
    b"\0<m:True><p:connect_response><q:12>\n<m:0><p:history_response><q:13>\n",
    b"<m:no><e:restarting><p:error>\n\0<m:False><e:busy><p:connect_response><q:12>\n",
]
_TYPED = [
    b"alice",
    b"\x1b[A\x1b[1;5C\x1bx\x1bOP",
    b"\x1b[200~a\r\nb\x1b[201~",
    "é\x9b\u202e\u2029".encode(),
]
_LISTS = [b"['alice','bob']", b"[\"it's\", 'a\\'b']"]
_TOKENS = [vectors.TICKET_TEXT.encode(), Seals(bytes(32)).resume("bob", NOON).encode()]

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
}
