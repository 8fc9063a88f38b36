"""The protocol document says what the code does: its tables and examples are compared with it.

A table is found by the label in front of it. What prose says, these tests cannot see.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import importlib
import random
import re
import struct
from collections import deque
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from twisted.trial.unittest import SynchronousTestCase

from chatbox.chat import states, wire
from chatbox.chat.codes import Code
from chatbox.chat.limits import Limits
from chatbox.chat.names import LocalNames
from chatbox.chat.outbox import Outbox
from chatbox.chat.room import Room
from chatbox.chat.session import REQUESTS, Session
from chatbox.chat.sharing import Offer
from chatbox.chat.turn import Turn
from chatbox.client.exits import Exit
from chatbox.errors import RemoteError
from chatbox.log import open_log
from chatbox.options import Options
from chatbox.rdt import packet, pmtu, receiver, sender_states
from chatbox.rdt.admissions import Admissions, Taker
from chatbox.rdt.congestion.cubic import Cubic
from chatbox.rdt.demux import Demux
from chatbox.rdt.ends import End
from chatbox.rdt.packet import Kind, Phase, Train, Wish
from tests.helpers import permissions, vectors
from tests.helpers.chat import NOON, FakeShelf, File, Turns, Wire, tokens
from tests.helpers.processes import ROOT
from tests.link import MemorySource

TEXT = (ROOT / "docs" / "protocol.rst").read_text(encoding="utf-8")
README = (ROOT / "README.rst").read_text(encoding="utf-8")
OPERATIONS = (ROOT / "docs" / "operations.rst").read_text(encoding="utf-8")

CHAT_MODULES = [
    *("wire", "names", "history", "pipeline", "turn", "outbox", "presence", "register", "server"),
    *("closing", "tcp", "transport", "turnstile"),
]
RDT_MODULES = [
    *("ticket", "seal", "packet", "acks", "receiver", "asking", "sender", "admissions", "demux"),
    *("path", "recovery", "skips", "rtt", "pmtu"),
]

UNSEEN = {
    "turn.MAX_GATHERED",
    "outbox.MAX_OWN_BYTES",
    "path.DAMAGED",
    "path.FEWEST_PACKETS",
    "path.FIRST_SPAN",
    "path.LATE",
    "path.WATCHED_PACKETS",
    "receiver.BLOCKED_AFTER",
    "receiver.SLOW_RATE",
    "recovery.MAX_LOST_KEPT",
    "seal.LONGEST_DATAGRAM",
    "seal.MAX_SIZES",
    "seal.RECEIVE_BYTES",
    "seal.SEND_PACKETS",
    "seal.TRAIN_SENDS",
    "sender.READ_RETRY",
    "server.MAX_COMPLAINTS",
    "server.MAX_VISITS",
}
"""Constants that no peer can notice."""


def after(label: str) -> str:
    """Return what follows a label, up to the next one."""
    found = re.search(rf"^\.\. _{label}:\n(.*?)(?=^\.\. _|\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, f"the document has no label {label}"
    return found[1]


def table(label: str) -> list[list[str]]:
    """Return the rows of a table, without its head, markup of code taken away."""
    body = re.search(r"\.\. list-table::\n((?:   .*\n|\n)*)", after(label))
    assert body, label
    rows = re.split(r"^   \* - ", body[1], flags=re.MULTILINE)[2:]
    return [
        [" ".join(cell.replace("``", "").split()) for cell in re.split(r"\n     -", row)]
        for row in rows
    ]


def constants(module: ModuleType) -> dict[str, float]:
    """Return the public numbers that a module itself defines, by name."""
    assert module.__file__ is not None
    with open(module.__file__, encoding="utf-8") as source:
        tree = ast.parse(source.read())
    found = {}
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        for target in targets:
            value = getattr(module, target.id) if isinstance(target, ast.Name) else None
            if isinstance(value, int | float) and target.id.isupper() and target.id[0] != "_":  # type: ignore[attr-defined]  # a Name
                found[target.id] = value  # type: ignore[attr-defined]  # the same
    return found


def shown(value: float) -> str:
    """Write a number as the document does."""
    return str(int(value)) if value == int(value) else str(value)


class TableTests(SynchronousTestCase):
    """The tables have what the code has, no more and no less."""

    def test_fields(self) -> None:
        """Every key of a line, in the order in which they are written."""
        self.assertEqual(
            [(key, name) for key, name, *_ in table("field-table")],
            list(wire._ATTRIBUTES.items()),
        )

    def test_requests(self) -> None:
        """Every request, its answer, and when it may be asked."""
        self.assertEqual(
            {row[0]: (row[1], set(row[3].split(", "))) for row in table("request-table")},
            {
                name: (request.response, {state.name for state in request.states})
                for name, request in REQUESTS.items()
            },
        )

    def test_permissions(self) -> None:
        """Who may ask for what, and when; `tests.test_permissions` has it happen."""
        self.assertEqual(table("permission-table"), permissions.rows())

    def test_codes(self) -> None:
        """Every error code with its sentence, in order."""
        self.assertEqual(table("code-table"), [[code.value, code.sentence] for code in Code])

    def test_codes_have_their_place(self) -> None:
        """Every error code is also named where it can occur."""
        prose = TEXT.replace(after("code-table"), "")
        for code in Code:
            self.assertIn(f"``{code.value}``", prose)

    def test_kinds(self) -> None:
        """Every kind of packet."""
        self.assertEqual(
            [row[:2] for row in table("kind-table")],
            [[f"0x{kind:02x}", kind.name] for kind in Kind],
        )

    def test_ends(self) -> None:
        """Every end with its number and its sentence."""
        self.assertEqual(
            table("end-table"), [[str(int(end)), end.name, end.sentence] for end in End]
        )

    def test_wishes_and_phases(self) -> None:
        """Every wish and every phase, in the first row of its packet."""
        for label, words in (("layout-control", Wish), ("layout-status", Phase)):
            listed = ", ".join(f"{word.value} {word.name}" for word in words)
            self.assertIn(listed, table(label)[0][3])

    def check_transitions(self, label: str, transitions: Mapping[Any, frozenset[Any]]) -> None:
        """Compare a table of states with the code's."""
        rows = table(label)
        self.assertEqual(
            sorted((row[0], row[1]) for row in rows),
            sorted((start.name, end.name) for start in transitions for end in transitions[start]),
        )
        self.assertTrue(all(row[2] for row in rows))

    def test_transitions(self) -> None:
        """Every transition of a conversation and of both sides of a transfer, and no other."""
        self.check_transitions("conversation-states", states.TRANSITIONS)
        self.check_transitions("client-states", receiver.TRANSITIONS)
        self.check_transitions("server-states", sender_states.TRANSITIONS)


class LimitTests(SynchronousTestCase):
    """Every limit and every timer, by name and value."""

    def check(self, label: str, modules: dict[str, ModuleType]) -> None:
        """Compare a table with the constants of some modules."""
        expected = {
            f"{name}.{constant}": shown(value)
            for name, module in modules.items()
            for constant, value in constants(module).items()
        }
        rows = table(label)
        documented = {row[0]: row[1] for row in rows}
        self.assertEqual(len(documented), len(rows))
        self.assertEqual(
            {**documented, **dict.fromkeys(UNSEEN & set(expected))},
            {**expected, **dict.fromkeys(UNSEEN & set(expected))},
        )
        self.assertEqual(UNSEEN & set(documented), set())

    def test_chat(self) -> None:
        """Those of the chat and of the shelf."""
        modules = {name: importlib.import_module(f"chatbox.chat.{name}") for name in CHAT_MODULES}
        modules["shelf"] = importlib.import_module("chatbox.shelf")
        modules["text"] = importlib.import_module("chatbox.text")
        self.check("chat-limits", modules)

    def test_rdt(self) -> None:
        """Those of RDT."""
        modules = {name: importlib.import_module(f"chatbox.rdt.{name}") for name in RDT_MODULES}
        self.check("rdt-limits", modules)

    def test_unseen(self) -> None:
        """What is left out exists."""
        for name in UNSEEN:
            module, _, constant = name.partition(".")
            package = "chat" if module in CHAT_MODULES else "rdt"
            self.assertIn(
                constant, constants(importlib.import_module(f"chatbox.{package}.{module}"))
            )

    def test_sizes_of_probes(self) -> None:
        """The sizes that a server tries."""
        sizes = [str(size) for size in pmtu.SIZES]
        listed = f"{', '.join(sizes[:-1])} and {sizes[-1]}."
        self.assertIn(listed, " ".join(TEXT.split()))


class OptionTests(SynchronousTestCase):
    """Whoever looks for an option of the server finds it, from the README on."""

    def test_all(self) -> None:
        """Each is in the README, or is named there as one that the other page has."""
        head, _, rest = README.partition("More options are in ``docs/operations.rst``:")
        elsewhere = set(re.findall(r"``--([a-z-]+)``", rest.partition("\n\n")[0]))
        there = set(re.findall(r"``--([a-z-]+)", OPERATIONS))
        described = set(re.findall(r"``--([a-z-]+)", head))
        of_twisted = {"help", "version", "help-auth", "help-auth-type"}
        options = {name.rstrip("=") for name in Options().longOpt} - of_twisted
        self.assertEqual(options - described, elsewhere)
        self.assertEqual(elsewhere - there, set())


class BenchmarkTests(SynchronousTestCase):
    """The page of the benchmarks says which of them ``make bench`` runs."""

    def test_each_is_run_or_is_said_not_to_be(self) -> None:
        """All that are in the table, but for those that are named above it."""
        page = (ROOT / "benchmarks" / "README.rst").read_text(encoding="utf-8")
        listed = set(re.findall(r"^``([\w/]+)\.py`` ", page, re.MULTILINE))
        left_out = re.findall(r"``(\w+)\.py``", page[: page.index("\n====", 20)])
        recipe = (ROOT / "Makefile").read_text(encoding="utf-8").split("\nbench:")[1]
        words = recipe.split("\n\n")[0].replace("benchmarks/", "")
        run = set(re.findall(r"[\w/]+", words)) & listed
        self.assertEqual(run | set(left_out), listed)
        self.assertEqual(run & set(left_out), set())


class StatusTests(SynchronousTestCase):
    """Whoever writes a script finds what its commands end with."""

    def test_all(self) -> None:
        """Every exit status with its meaning, in order."""
        rule = r"^=+  =+\n"
        found = re.search(rf"{rule}status +meaning\n{rule}(.*?){rule}", README, re.M | re.S)
        assert found
        self.assertEqual(
            [row.split(maxsplit=1) for row in found[1].splitlines()],
            [[str(status.value), status.meaning] for status in Exit],
        )


class LayoutTests(SynchronousTestCase):
    """The fields of packets lie where the tables say."""

    def check(self, label: str, layout: struct.Struct, begins_at: int = 0) -> None:
        """Compare the offsets and sizes of a table with a layout."""
        codes = re.findall(r"\d*[a-zA-Z]", layout.format)
        sizes = [struct.calcsize(f">{code}") for code in codes]
        offsets = [sum(sizes[:index]) for index in range(len(sizes))]
        rows = [(int(row[0]), int(row[1])) for row in table(label)]
        expected = [pair for pair in zip(offsets, sizes, strict=True) if pair[0] >= begins_at]
        self.assertEqual(rows, expected, label)

    def test_layouts(self) -> None:
        """Every table of a packet."""
        self.check("layout-header", packet.HEADER)
        self.check("layout-data", packet.DATA_HEADER, begins_at=packet.HEADER.size)
        self.check("layout-control", packet._CONTROL)
        self.check("layout-gap", packet._GAP)
        self.check("layout-open", packet._OPEN)
        self.check("layout-have", packet._HAVE)
        self.check("layout-status", packet._STATUS)

    def test_names(self) -> None:
        """The fields are called as in the code, in the same order."""
        for label, value, head in (
            ("layout-control", packet.Control, ["ranges"]),
            ("layout-status", packet.Status, ["limited"]),
        ):
            names = [row[2] for row in table(label) if row[2] not in ("top", "count", "flags")]
            attributes = [name for name in value.__dataclass_fields__ if name not in head]
            self.assertEqual(names, attributes)


class TransferExampleTests(SynchronousTestCase):
    """The example of a transfer has the bytes of `tests.helpers.vectors`."""

    def test_bytes(self) -> None:
        """All of them, in order; `tests.test_seal` makes the same with our code and without it."""
        blocks = [
            "".join(block.split())
            for block in re.findall(r"::\n\n((?:    \S+\n)+)", after("rdt-example"))
        ]
        expected = [vectors.TICKET_TEXT, "".join(vectors.KEYS.values())]
        for example in vectors.PACKETS:
            if example.name in vectors.BODIES:
                expected.append(vectors.BODIES[example.name])
            expected.append(vectors.DATAGRAMS[example.name])
        self.assertEqual(blocks, expected)

    def test_story(self) -> None:
        """The words around the bytes name the numbers that are in them."""
        story = " ".join(after("rdt-example").split())
        for example in vectors.PACKETS:
            self.assertRegex(story, rf"(number|packet) {example.number}\b")
        self.assertIn(f"{vectors.TICKET.connection_id:08x}", story)


class Stranger:
    """A client written from the document, with nothing of ours: no module of chatbox is used.

    It is as simple as can be: it acknowledges every packet at once, on its own.
    """

    def __init__(self, ticket: str, size: int) -> None:
        raw = base64.urlsafe_b64decode(ticket)
        self.connection, self.secret = raw[:4], raw[4:]
        self.number = 0
        self.arrived: set[int] = set()
        self.there: set[int] = set()
        self.file = bytearray(size)
        self.status: dict[str, int] = {}
        self.status_number = -1
        self.digest: bytes | None = None
        self.pause_at = size // 2
        self.paused = 0

    def key(self, sender: bytes, number: int) -> AESGCM:
        """Keys and seal."""
        info = sender + (number >> 22).to_bytes(8, "big")
        return AESGCM(HKDF(SHA256(), 16, b"chatbox rdt 1", info).derive(self.secret))

    def say(self) -> bytes:
        """All that there is to say now."""
        done = self.digest is not None and len(self.there) == len(self.file)
        if done and hashlib.sha256(self.file).digest() != self.digest:
            raise AssertionError("The file is not the file")
        first_gap = next((n for n in range(len(self.file)) if n not in self.there), len(self.file))
        ranges: list[list[int]] = []
        for number in sorted(self.arrived, reverse=True):
            if ranges and ranges[-1][0] == number + 1:
                ranges[-1][0] = number
            else:
                ranges.append([number, number + 1])
        del ranges[139:]
        body = bytes([3, 1] if done else [1, 0])
        for value in (self.pause_at, first_gap + 20_000, (1 << 64) - 1, len(self.there)):
            body += value.to_bytes(8, "big")
        body += self.status.get("challenge", 0).to_bytes(8, "big") + bytes(4)
        floor = ranges[0][1] if ranges else 0
        body += floor.to_bytes(8, "big") + len(ranges).to_bytes(2, "big")
        for start, stop in ranges:
            body += (floor - stop).to_bytes(4, "big") + (stop - start).to_bytes(4, "big")
            floor = start
        kind = 0x12
        if not self.arrived:
            kind, body = 0x11, (1200).to_bytes(4, "big") + bytes(6) + body
        nonce = self.connection + self.number.to_bytes(8, "big")
        header = bytes([kind]) + nonce
        sealed = self.key(b"client", self.number).encrypt(nonce, body, header)
        self.number += 1
        return header + sealed

    def hear(self, datagram: bytes) -> None:
        """A datagram has come."""
        number = int.from_bytes(datagram[5:13], "big")
        clear = 21 if datagram[0] == 0x13 else 13
        body = self.key(b"server", number).decrypt(
            datagram[1:13], datagram[clear:], datagram[:clear]
        )
        self.arrived.add(number)
        if datagram[0] == 0x13:
            offset = int.from_bytes(datagram[13:21], "big")
            self.file[offset : offset + len(body)] = body
            self.there.update(range(offset, offset + len(body)))
        elif datagram[0] == 0x14 and number > self.status_number:
            self.status_number = number
            self.status = {"phase": body[0], "challenge": int.from_bytes(body[26:34], "big")}
            self.digest = body[43:] if body[42] else None
            if body[0] == 2 and self.pause_at < len(self.file):
                self.paused = len(self.there)
                self.pause_at = (1 << 64) - 1


class StrangerTests(SynchronousTestCase):
    """A client made from the document alone is served."""

    def fetch(self, seed: int, loss: float) -> Stranger:
        """Have it fetch a file from a real server over a link that loses so many packets."""
        rng = random.Random(seed)
        data = rng.randbytes(60_000)
        demux = Demux(Cubic, Admissions(), rng.randbytes)
        now = 1000.0
        client = Stranger(str(demux.admit(Taker("stranger"), MemorySource(data), now)), len(data))
        answers = [client.say()]
        for _ in range(20_000):
            for answer in answers:
                if rng.random() >= loss:
                    demux.receive(Train(memoryview(answer), len(answer)), "there", now)
            answers = []
            demux.on_timer(now)
            for train, _ in demux.trains_to_send(now):
                for datagram in train.datagrams():
                    if rng.random() >= loss:
                        client.hear(bytes(datagram))
                        answers.append(client.say())
            due = demux.next_timer()
            if due is None:
                self.assertEqual((client.status["phase"], bytes(client.file)), (4, data))
                return client
            # Ten milliseconds there and back; where nothing comes, it asks every quarter second.
            now += 0.01 if answers else max(0.01, min(due - now, 0.25))
            if not answers and client.status.get("phase") != 4:
                answers.append(client.say())
        raise AssertionError(f"seed {seed}: no end in sight, {len(client.there)} bytes there")

    def test_good_link(self) -> None:
        """It gets the file, and stands half way."""
        self.assertEqual(self.fetch(1, 0.0).paused, 30_000)

    def test_bad_links(self) -> None:
        """It gets the file though a fifth of everything is lost."""
        for seed in range(3):
            self.assertEqual(self.fetch(seed, 0.2).paused, 30_000)


class Shelf(FakeShelf):
    """The shelf of the example."""

    def offer(self, name: str, host: str, file_name: str) -> Offer:
        """Offer the file of the other example."""
        if file_name != "hello.txt":
            raise RemoteError("no-such-file")
        digest = hashlib.sha256(vectors.FILE).hexdigest()
        mtime_ms = vectors.MTIME_NS // 1_000_000
        return Offer(55000, vectors.TICKET_TEXT, len(vectors.FILE), mtime_ms, digest)


class ChatExampleTests(SynchronousTestCase):
    """The example of a chat is what really happens."""

    def test_replay(self) -> None:
        """What the clients of the example send makes the server say what it says there."""
        turns = Turns()
        room = Room(open_log("memory:", now=lambda: NOON), LocalNames(tokens()), Turn(turns.later))
        shelf = Shelf(File("hello.txt", len(vectors.FILE)), File("it's.iso", 1 << 32))
        people: dict[str, tuple[Session, Wire, deque[str]]] = {}

        def person(name: str) -> tuple[Session, Wire, deque[str]]:
            if name not in people:
                transport = Wire()
                outbox = Outbox(
                    room.fanout, transport, on_overflow=lambda: None, on_change=lambda: None
                )
                talk = Session(
                    room,
                    shelf,
                    shelf,
                    outbox,
                    server="server:192.0.2.1",
                    peer=name,
                    hang_up=outbox.close,
                    on_change=lambda: None,
                    complain=lambda _: None,
                    limits=Limits(),
                )
                people[name] = (talk, transport, deque())
            return people[name]

        lines = re.findall(r"^    (\w+) ([<>]) (.*)$", after("chat-example"), re.MULTILINE)
        self.assertEqual(
            len(lines), len(re.findall(r"^    \S", after("chat-example"), re.MULTILINE))
        )
        for name, direction, line in lines:
            talk, _, heard = person(name)
            if direction == ">":
                self.assertFalse(any(heard for _, _, heard in people.values()), line)
                talk.receive(line.encode())
                continue
            turns.end()
            for _, transport, inbox in people.values():
                written = transport.take().decode()
                self.assertTrue(written.endswith("\r\n") or not written)
                inbox.extend(written.split("\r\n")[:-1])
            self.assertTrue(heard, f"{name} hears nothing, but should hear {line}")
            self.assertEqual((name, heard.popleft()), (name, line))
        self.assertFalse(any(heard for _, _, heard in people.values()))
        self.assertTrue(len(lines) > 20)
