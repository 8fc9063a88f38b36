"""Operators: who is one, what they may do to whom, and what everybody else may not."""

from __future__ import annotations

import ipaddress
import json
import os
import random
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import capturedLogs
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from chatbox import files
from chatbox.chat import moderation as moderation_module
from chatbox.chat.codes import Code
from chatbox.chat.gate import Admission, Gate, OpenGate, Origin, Refusal, Visitor
from chatbox.chat.moderation import (
    CHECK_SECONDS,
    IsMeant,
    ModeratedGate,
    Moderation,
    Operators,
)
from chatbox.chat.names import LocalNames, Name
from chatbox.chat.orders import MAX_SECONDS, Action, Order, heard_order, read_order
from chatbox.chat.room import OPERATOR_PLACES, Room
from chatbox.chat.sanctions import Sanction, SanctionKind, Sanctions, parse_target
from chatbox.chat.turn import Turn
from chatbox.chat.wire import MAX_REASON_CHARACTERS, Message
from chatbox.client import words
from chatbox.client.chat.events import (
    BanList,
    Banned,
    Cut,
    Failed,
    Kind,
    Lost,
    Moderated,
    Succeeded,
)
from chatbox.client.chat.session import State as ClientState
from chatbox.client.exits import Exit
from chatbox.errors import LocalError, RemoteError
from chatbox.log import Entry, Record
from chatbox.log import Kind as RecordKind
from chatbox.options import Options
from tests import test_session
from tests.helpers.chat import NOON, DelayedLog, FakeShelf, File, Turns, tokens
from tests.helpers.client import Server
from tests.helpers.processes import PATIENCE, Running, environment, script
from tests.helpers.server import free_port
from tests.helpers.talk import Talker
from tests.helpers.threads import no_threads

HERE = Origin("127.0.0.1")
FAR = Origin("192.0.2.7")
BAN, MUTE = SanctionKind.BAN, SanctionKind.MUTE


def sanction(target: str, kind: str = "ban", until: int | None = None) -> Sanction:
    """One by alice."""
    return Sanction(kind, target, "alice", int(NOON * 1000), until, "why")


class TargetTests(SynchronousTestCase):
    """Whom a ban means."""

    def test_meant(self) -> None:
        """Names stand for accounts, addresses for themselves, networks for what is in them."""
        for text, account, host, meant in (
            ("Bob", "bob", "", True),
            ("bob+phone", "bob", "", True),
            ("bob", "bobby", "", False),
            ("192.0.2.7", "", "192.0.2.7", True),
            ("192.0.2.7", "", "::ffff:192.0.2.7", True),
            ("::ffff:192.0.2.7", "", "192.0.2.7", True),
            ("::ffff:192.0.2.0/120", "", "192.0.2.9", True),
            ("192.0.2.7", "", "192.0.2.8", False),
            ("192.0.2.7/24", "", "192.0.2.200", True),
            ("192.0.2.0/24", "", "192.0.3.1", False),
            ("2001:db8::/32", "", "2001:db8:1::5", True),
            ("2001:db8::/32", "", "192.0.2.1", False),
            ("0::/96", "", "", False),
        ):
            if text == "0::/96":
                self.assertRaises(RemoteError, parse_target, text)
                continue
            self.assertEqual(parse_target(text).means(account, host), meant, (text, host))

    def test_never_this_machine(self) -> None:
        """Nobody can ban the machine itself, or all the world with it, or what is nobody."""
        for text in (
            *("127.0.0.1", "127.0.0.0/8", "0.0.0.0/0", "126.0.0.0/7", "::1", "::/0", "::/64"),
            *("::ffff:127.0.0.1", "::ffff:0:0/96"),
            *("", "all", "a" * 40, "\x00"),
        ):
            self.assertRaises(RemoteError, parse_target, text)

    @given(st.text(max_size=50))
    @settings(max_examples=200)
    def test_any_text(self, text: str) -> None:
        """Any text means somebody or is refused, and its own text means the same."""
        try:
            target = parse_target(text)
        except RemoteError:
            return
        again = parse_target(target.text)
        self.assertEqual((again.key, again.network), (target.key, target.network))


class SanctionsTests(SynchronousTestCase):
    """The table and its file."""

    def setUp(self) -> None:
        self.path = os.path.join(os.path.abspath(self.mktemp()), "bans.json")
        self.table = Sanctions(self.path)

    def test_found_as_a_list_would(self) -> None:
        """Whatever there is, it is found as if each was looked at."""
        seed = 11
        rng = random.Random(seed)

        def address() -> str:
            if rng.random() < 0.5:
                return f"10.0.{rng.randrange(3)}.{rng.randrange(8)}"
            return f"2001:db8:{rng.randrange(2)}::{rng.randrange(5)}"

        targets = ["bob", "eve"]
        for _ in range(60):
            host = address()
            length = rng.choice((31, 30, 24, 22) if "." in host else (128, 127, 64, 48))
            targets.append(str(ipaddress.ip_network(f"{host}/{length}", strict=False)))
        there: dict[str, Sanction] = {}
        for step in range(500):
            target = rng.choice(targets)
            if rng.random() < 0.4:
                removed = self.table.remove(BAN, parse_target(target))
                self.assertEqual(removed, there.pop(target, None) is not None)
            else:
                self.table.add(sanction(target))
                there[target] = sanction(target)
            self.assertEqual(len(self.table), len(there))
            who, host = rng.choice(("bob", "eve", "zoe")), address()
            expected = any(parse_target(one).means(who, host) for one in there)
            found = self.table.find(BAN, who, host, NOON) is not None
            self.assertEqual(found, expected, f"seed {seed}, step {step}")
            self.assertIsNone(self.table.find(MUTE, who, host, NOON))

    def test_over(self) -> None:
        """What has an end ends, to the millisecond, and is forgotten when the file is written."""
        self.table.add(sanction("bob", until=int(NOON * 1000) + 1500))
        self.table.add(sanction("192.0.2.0/24", until=int(NOON * 1000) + 1500))
        self.table.add(sanction("eve"))
        for who, host in (("bob", ""), ("", "192.0.2.1")):
            found = self.table.find(BAN, who, host, NOON + 1.4)
            assert found is not None
            self.assertEqual((found.left(NOON), found.left(NOON + 1.4)), (2, 1))
            self.assertIsNone(self.table.find(BAN, who, host, NOON + 1.5))
        self.table.save(NOON + 1.5)
        self.assertEqual([one.target for one in self.table], ["eve"])
        self.assertEqual(len(self.table), 1)

    def test_there_and_back(self) -> None:
        """What is written is read again, by its owner alone."""
        for target in ("Zoë", "192.0.2.7", "2001:db8::/32"):
            self.table.add(sanction(target))
            self.table.add(sanction(target, "mute", until=int(NOON * 1000) + 60_000))
        self.table.save(NOON)
        self.table.flush()
        again = Sanctions(self.path)
        again.load()
        self.assertEqual(list(again), list(self.table))
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        Sanctions(self.path + ".none").load()

    def test_nonsense_is_not_skipped(self) -> None:
        """A damaged file is refused, since nobody should be let in by damage."""
        good = {"kind": "ban", "target": "bob", "by": "a", "at": 1, "until": None, "reason": ""}
        os.mkdir(os.path.dirname(self.path))
        for text in (
            *("", "[]", "{}", '{"sanctions": 3}', '{"sanctions": [3]}', "\xff"),
            *(
                json.dumps({"sanctions": [{**good, **wrong}]})
                for wrong in (
                    *({"kind": "x"}, {"target": "all"}, {"target": 3}, {"at": "x"}),
                    *({"until": "x"}, {"until": 1.5}, {"more": 1}, {"at": None}),
                    *({"until": 1 << 63}, {"at": -1}, {"at": True}, {"reason": "\ud800"}),
                )
            ),
            "[" * 5000,
            json.dumps({"sanctions": [{"kind": "ban"}]}),
        ):
            Path(self.path).write_text(text, encoding="latin-1")
            error = self.assertRaises(LocalError, Sanctions(self.path).load)
            self.assertIn(self.path, str(error))
        Path(self.path).write_text(json.dumps({"sanctions": [good]}))
        Sanctions(self.path).load()


class LatestTests(SynchronousTestCase):
    """A file that is written in a thread."""

    def test_no_threads(self) -> None:
        """Where no thread can be had that is told, and the next time writes what is latest then."""
        path = self.mktemp()
        failures: list[OSError] = []
        file = files.Latest(path, failures.append)
        with no_threads():
            file.put(lambda: b"1")
        self.assertEqual(len(failures), 1)
        file.flush()
        file.put(lambda: b"2")
        file.flush()
        with open(path, "rb") as written:
            self.assertEqual(written.read(), b"2")

    def test_latest(self) -> None:
        """Of many states the last is written, none twice, and nobody waits for the disk."""
        path = os.path.abspath(self.mktemp())
        free, made = threading.Event(), list[int]()
        file = files.Latest(path, lambda _: None)

        def make(number: int) -> bytes:
            free.wait(PATIENCE)
            made.append(number)
            return b"%d" % number

        for number in range(100):
            file.put(partial(make, number))
        self.assertFalse(os.path.exists(path))
        free.set()
        file.flush()
        self.assertEqual(Path(path).read_bytes(), b"99")
        self.assertLessEqual(len(made), 2)  # the one that was being written, and the last
        file.put(partial(make, 100))
        file.flush()
        self.assertEqual(Path(path).read_bytes(), b"100")

    def test_a_program_that_ends(self) -> None:
        """It ends when the last state is on the disk."""
        path = os.path.abspath(self.mktemp())
        program = (
            "import sys; from chatbox.files import Latest; file = Latest(sys.argv[1], print);"
            "file.put(lambda: b'one'); file.put(lambda: b'two')"
        )
        subprocess.run(
            [sys.executable, "-c", program, path], check=True, env=environment(), timeout=PATIENCE
        )
        self.assertEqual(Path(path).read_bytes(), b"two")


class OperatorsTests(SynchronousTestCase):
    """The file of operators."""

    def setUp(self) -> None:
        self.path = self.mktemp()
        self.now = NOON
        self.operators = Operators(self.path, lambda: self.now)

    def test_read_again(self) -> None:
        """A change counts a second later, and damage leaves who there was, with an error."""
        Path(self.path).write_text("# keepers\n\n Alice \nbob+phone\n")
        self.assertIn("alice", self.operators)
        self.assertIn("bob", self.operators)
        self.assertNotIn("eve", self.operators)
        Path(self.path).write_text("eve\n")
        self.assertNotIn("eve", self.operators)
        self.now += CHECK_SECONDS
        self.assertIn("eve", self.operators)
        self.assertNotIn("alice", self.operators)
        os.remove(self.path)
        self.now += CHECK_SECONDS
        self.assertIn("eve", self.operators)

    def test_refused(self) -> None:
        """What is no name is refused with its line, before anything starts."""
        Path(self.path).write_text("alice\nall\n")
        error = self.assertRaises(LocalError, self.operators.load)
        self.assertEqual(str(error), f"line 2 of {self.path}: The name is reserved")
        folder = self.mktemp()
        os.mkdir(folder)
        for path, said in ((self.path, "line 2"), ("/does/not/exist", "No such file")):
            error = self.assertRaises(
                UsageError, Options().parseOptions, ["--files", folder, "--operators", path]
            )
            self.assertIn(said, str(error))

    def test_none(self) -> None:
        """Without a file nobody is an operator."""
        self.assertNotIn("alice", Operators(None, lambda: NOON))


class OrderTests(SynchronousTestCase):
    """Orders in the log, and as they are heard."""

    def test_there_and_back(self) -> None:
        """What is appended is read again."""
        for order in (
            Order(Action.KICK, "bob", None, "that is  enough"),
            Order(Action.BAN, "192.0.2.0/24", 60, ""),
            Order(Action.UNMUTE, "bob"),
        ):
            record = Record(1, 2, RecordKind.ORDER, "alice", order.target, order.text)
            self.assertEqual(read_order(record), order)
            self.assertTrue(heard_order(record).endswith(b"\r\n"))

    def test_nonsense(self) -> None:
        """Nonsense from another server is told to nobody, and does no harm."""
        for text in ("", "kick", "fly 0 x", "ban x y", "ban -1 ", f"ban {MAX_SECONDS + 1} "):
            record = Record(1, 2, RecordKind.ORDER, "alice", "bob", text)
            self.assertRaises(LocalError, read_order, record)
            self.assertEqual(heard_order(record), b"")

    def test_nobody_hears_addresses(self) -> None:
        """Who is banned by address is told without it."""
        for target in ("192.0.2.7", "192.0.2.0/24", "2001:db8::/32"):
            line = heard_order(Record(7, 9, RecordKind.ORDER, "alice", target, "ban 60 spam"))
            self.assertEqual(line, b"<s:alice><r:><m:spam><p:banned><q:7><d:9><n:60>\r\n")


class RoomTestCase(SynchronousTestCase):
    """A room with alice, who is an operator, and others."""

    accounts = False
    max_users = 0

    def setUp(self) -> None:
        self.others: list[test_session.Client] = []
        self.turns = Turns()
        self.log = DelayedLog()
        turn = Turn(self.turns.later)
        self.room = Room(self.log, LocalNames(tokens()), turn, self.max_users)
        self.shelf = FakeShelf(File("a.txt", 5))
        self.now = NOON
        self.folder = os.path.abspath(self.mktemp())
        os.mkdir(self.folder)
        self.list = os.path.join(self.folder, "operators")
        Path(self.list).write_text("alice\nolga\n")
        self.moderation = self.moderate()

    def moderate(self) -> Moderation:
        """What keeps order, as after a start."""
        made = Moderation(
            self.folder, lambda: self.now, operators=self.list, accounts=self.accounts
        )
        made.start()
        made.serve(self.room)
        self.addCleanup(made.sanctions.flush)  # no thread of one test writes in the next
        return made

    def settle(self) -> None:
        """Let everything happen that is on its way."""
        self.turns.end()
        while self.log.appended or self.log.asked:
            self.log.settle()
            self.turns.end()

    def stranger(self, origin: Origin = HERE) -> test_session.Client:
        """Somebody without a name."""
        gate: Gate = ModeratedGate(self.moderation, OpenGate())
        return test_session.Client(self, gate, origin, self.moderation)  # type: ignore[arg-type]  # has what it needs

    def client(self, name: str, origin: Origin = HERE) -> test_session.Client:
        """Somebody who is here; the others have heard of it."""
        client = self.stranger(origin)
        client.send(f"<s:{name}><t:connect>")
        self.assertEqual(client.heard()[0].text, "True", name)
        for other in self.others:
            other.heard()
        self.others.append(client)
        return client

    def refusal(self, name: str, origin: Origin = FAR) -> Message:
        """How somebody is refused who wants to come in."""
        [answer] = self.stranger(origin).ask_all(f"<s:{name}><t:connect>")
        self.assertEqual(answer.text, "False")
        return answer

    def audit(self) -> list[tuple[str, ...]]:
        """What the audit log says: who, what, whom, outcome."""
        with open(os.path.join(self.folder, "audit.jsonl"), encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        return [tuple(row[key] for key in ("who", "what", "whom", "outcome")) for row in rows]


class ProofTests(RoomTestCase):
    """Who is an operator. What they may is in `tests.test_permissions`."""

    def test_nobody_without_moderation(self) -> None:
        """A server without operators has none."""
        client = test_session.Client(self)  # type: ignore[arg-type]  # has what it needs
        client.send("<s:alice><t:connect>")
        client.heard()
        self.assertEqual(client.error("<t:kick><r:alice>"), "not-allowed")

    def test_names_are_proven(self) -> None:
        """Without accounts an operator's name is had from this machine only, in all its forms."""
        for name in ("alice", "ALICE", "alice+phone"):
            self.assertEqual(self.refusal(name).error, "name-reserved")
        alice = self.client("alice+phone", HERE)
        self.assertTrue(alice.session.is_operator)
        bob = self.client("bob", FAR)
        Path(self.list).write_text("bob\n")
        self.now += CHECK_SECONDS
        self.assertFalse(bob.session.is_operator, "nobody becomes one by being far away before")
        self.assertFalse(alice.session.is_operator)


class AccountPermissionTests(RoomTestCase):
    """With accounts passwords prove who is who."""

    accounts = True

    def test_from_anywhere(self) -> None:
        """The gate behind has asked for the password, so it does not matter from where."""
        self.assertTrue(self.client("alice", FAR).session.is_operator)
        self.assertFalse(self.client("bob", HERE).session.is_operator)


class FullRoomTests(RoomTestCase):
    """A room that has places for two."""

    max_users = 2

    def test_places_of_operators(self) -> None:
        """Operators come into a full room, so many of them; others only when enough have gone."""
        bob, _ = self.client("bob", FAR), self.client("carol", FAR)
        self.assertEqual(self.refusal("dave").error, "room-full")
        operators = [self.client(f"alice+{n}") for n in range(OPERATOR_PLACES)]
        self.assertTrue(all(one.session.is_operator for one in operators))
        self.assertEqual(self.refusal("olga", HERE).error, "room-full")
        self.assertEqual(self.refusal("dave", HERE).error, "room-full")
        for one in (bob, *operators):
            self.assertEqual(self.refusal("dave").error, "room-full")
            one.session.connection_lost()
            self.settle()
        self.client("dave", FAR)
        self.assertEqual(self.room.names(), ["carol", "dave"])


class ModerationTests(RoomTestCase):
    """What operators do, and what comes of it."""

    def test_kick(self) -> None:
        """Everybody hears who, whom and why; then who is kicked hears it, and is gone."""
        alice, bob = self.client("alice"), self.client("bob", FAR)
        carol = self.client("carol", FAR)
        alice.send("<t:kick><r:BOB><m:enough><q:3>")
        [news, answer, left] = alice.heard()
        self.assertEqual(
            (news.sender, news.recipient, news.text, news.response),
            ("alice", "BOB", "enough", "kicked"),
        )
        self.assertEqual(
            (answer.response, answer.text, answer.sequence), ("kick_response", "True", 3)
        )
        self.assertEqual((left.sender, left.text), ("bob", "left"))
        self.assertEqual([one.response for one in carol.heard()], ["kicked", "presence"])
        last = bob.heard()
        self.assertEqual([one.error for one in last], [None, "kicked"])
        self.assertEqual(last[-1].text, "An operator has put you out: enough")
        self.assertEqual(bob.hung_up, 1)
        self.assertEqual(self.room.names(), ["alice", "carol"])
        self.client("bob", FAR)

    def test_kick_one_of_two(self) -> None:
        """A kick means this name, not the account's others."""
        alice = self.client("alice")
        self.client("bob"), self.client("bob+phone")
        alice.send("<t:kick><r:bob+phone>")
        self.settle()
        self.assertEqual(self.room.names(), ["alice", "bob"])
        self.assertEqual(alice.ask_all("<t:kick><r:nobody>")[-1].error, "no-such-user")

    def test_ban_a_name(self) -> None:
        """All names of the account go, and none comes back until the time is over."""
        alice = self.client("alice")
        people = [self.client(name, FAR) for name in ("bob", "bob+phone", "bobby")]
        alice.send("<t:ban><r:Bob+x><n:60><m:spam>")
        self.settle()
        self.assertEqual(self.room.names(), ["alice", "bobby"])
        self.assertEqual([one.hung_up for one in people], [1, 1, 0])
        for name in ("bob", "BOB", "bob+other"):
            answer = self.refusal(name)
            self.assertEqual((answer.error, answer.count), ("banned", 60))
        self.now += 59.5
        self.assertEqual(self.refusal("bob").count, 1)
        self.now += 0.5
        self.client("bob", FAR)

    def test_ban_a_network(self) -> None:
        """Who comes from there goes, whatever the name; others and operators stay."""
        alice = self.client("alice")
        near, other = Origin("192.0.2.99"), Origin("198.51.100.1")
        for name, origin in (("bob", FAR), ("carol", near), ("dave", other)):
            self.client(name, origin)
        alice.send("<t:ban><r:192.0.2.0/24>")
        news = alice.heard()[0]
        self.assertEqual((news.recipient, news.count), ("", None))
        self.assertEqual(self.room.names(), ["alice", "dave"])
        self.assertEqual(self.refusal("erin", Origin("::ffff:192.0.2.1")).error, "banned")
        self.assertEqual(self.refusal("erin", Origin("192.0.2.1", True)).count, None)
        self.client("erin", other)

    def test_who_is_meant_is_told(self) -> None:
        """Whoever sends things to people hears whom a ban means; other orders are no such news."""
        bans: list[IsMeant] = []
        self.moderation.on_ban = bans.append
        alice, _ = self.client("alice"), self.client("bob", FAR)
        alice.send("<t:kick><r:bob>")
        alice.send("<t:mute><r:bob>")
        self.settle()
        self.assertEqual(bans, [])
        alice.send("<t:ban><r:bob+x>")
        alice.send("<t:ban><r:192.0.2.0/24>")
        self.settle()
        by_name, by_network = bans
        for account, host, meant in (
            ("bob", "", (True, False)),
            ("bob", "192.0.2.7", (True, True)),
            ("carol", "192.0.2.8", (False, True)),
            ("olga", "192.0.2.8", (False, True)),  # who is no operator there
            ("carol", "127.0.0.1", (False, False)),
        ):
            found = by_name(account, host), by_network(account, host)
            self.assertEqual(found, meant, (account, host))

    def test_odd_names_are_in_nobodys_way(self) -> None:
        """A name that is all but a plus is one like others: it talks, and shields nobody."""
        alice = self.client("alice")
        people = [self.client(name, FAR) for name in ("+x", "bob", "all+y")]
        self.assertEqual(people[0].ask_all("<r:all><t:message_request><m:hi>")[-1].text, "True")
        alice.send("<t:ban><r:+x>")
        self.settle()
        self.assertEqual(self.room.names(), ["alice", "bob", "all+y"])
        alice.send("<t:ban><r:192.0.2.0/24>")
        self.settle()
        self.assertEqual(self.room.names(), ["alice"])

    def test_named_like_an_address(self) -> None:
        """Who is called like somebody else's address goes, and the other one stays."""
        alice, mallory = self.client("alice"), self.client("192.0.2.7+x", Origin("198.51.100.1"))
        self.client("bob", FAR)
        alice.send("<t:ban><r:192.0.2.7+x>")
        self.settle()
        self.assertEqual(self.room.names(), ["alice", "bob"])
        self.assertEqual(mallory.hung_up, 1)
        self.assertEqual(self.refusal("192.0.2.7", Origin("198.51.100.1")).error, "name-reserved")

    def test_banned_while_the_password_is_checked(self) -> None:
        """Who is banned meanwhile does not get in by having asked before."""
        waiting: list[Callable[[Admission | Refusal], None]] = []

        class Slow(OpenGate):
            def admit(
                self, visitor: Visitor, answer: Callable[[Admission | Refusal], None]
            ) -> None:
                waiting.append(answer)

        answers: list[Admission | Refusal] = []
        gate = ModeratedGate(self.moderation, Slow())
        for name in ("bob", "carol"):
            gate.admit(Visitor(Name(name, name), None, "x", FAR), answers.append)
        self.moderation.sanctions.add(sanction("bob"))
        for answer in waiting:
            answer(Admission(None))
        self.assertEqual(answers, [Refusal(Code.BANNED), Admission(None)])

    def test_ban_where_somebody_comes_from(self) -> None:
        """address:NAME is the address of somebody here, the network /64 in IPv6."""
        alice = self.client("alice")
        for name, host, banned in (
            ("bob", "192.0.2.7", "192.0.2.7"),
            ("carol", "2001:db8::7", "2001:db8::/64"),
        ):
            self.client(name, Origin(host))
            alice.send(f"<t:ban><r:address:{name}>")
            self.settle()
            self.assertIn(banned, [one.target for one in self.moderation.bans()])
        self.assertEqual(self.room.names(), ["alice"])
        for whom, code in (("address:nobody", "no-such-user"), ("address:alice", "bad-target")):
            self.assertEqual(alice.ask_all(f"<t:ban><r:{whom}>")[-1].error, code)

    def test_mute(self) -> None:
        """Who is muted hears everything and says nothing, to nobody, until it is over."""
        alice, bob = self.client("alice"), self.client("bob", FAR)
        alice.send("<t:mute><r:bob><n:60>")
        self.settle()
        bob.heard(), alice.heard()
        for whom in ("all", "alice"):
            answer = bob.ask(f"<r:{whom}><t:message_request><m:hi>")
            self.assertEqual((answer.text, answer.error), ("False", "muted"))
        self.assertEqual(alice.heard(), [])
        self.assertEqual(bob.error("<t:get_user_list>"), None)
        self.now += 60
        self.assertEqual(bob.ask_all("<r:all><t:message_request><m:hi>")[-1].text, "True")
        alice.send("<t:mute><r:192.0.2.0/24>")
        self.settle()
        bob.heard()
        self.assertEqual(bob.error("<r:all><t:message_request><m:hi>"), "muted")
        alice.send("<t:unmute><r:192.0.2.0/24>")
        self.settle()
        bob.heard()
        self.assertEqual(bob.ask_all("<r:all><t:message_request><m:hi>")[-1].text, "True")

    def test_undone(self) -> None:
        """A ban is lifted by its target; what is not there cannot be lifted."""
        alice = self.client("alice")
        alice.send("<t:ban><r:bob>", "<t:ban><r:192.0.2.0/24>")
        self.settle()
        alice.heard()
        for line, code in (
            ("<t:unban><r:192.0.2.7>", "no-such-ban"),
            ("<t:unmute><r:bob>", "no-such-ban"),
            ("<t:unban><r:BOB>", None),
            ("<t:unban><r:bob>", "no-such-ban"),
            ("<t:unban><r:192.0.2.9/24>", None),
        ):
            self.assertEqual(alice.ask_all(line)[-1].error, code, line)
        self.client("bob", FAR)

    def test_refused(self) -> None:
        """Operators are safe from each other, and nonsense has its code; nobody hears of it."""
        alice, carol = self.client("alice"), self.client("carol", FAR)
        self.patch(moderation_module, "MAX_SANCTIONS", 1)
        alice.send("<t:ban><r:bob><n:99999999999>")
        self.settle()
        alice.heard(), carol.heard()
        self.assertIsNone(self.moderation.bans()[0].until)
        for line, code in (
            ("<t:kick><r:olga>", "is-operator"),
            ("<t:ban><r:olga+phone>", "is-operator"),
            ("<t:mute><r:alice>", "is-operator"),
            ("<t:kick>", "missing-field"),
            ("<t:kick><r:all>", "name-reserved"),
            ("<t:ban><r:127.0.0.1>", "bad-target"),
            ("<t:ban><r:::/0>", "bad-target"),
            ("<t:ban><r:eve>", "too-many-bans"),
            (f"<t:kick><r:carol><m:{'x' * (MAX_REASON_CHARACTERS + 1)}>", "text-too-long"),
            ("<t:kick><r:carol><m:\x1b[2J>", "control-character"),
        ):
            answer = alice.ask(line)
            self.assertEqual((answer.text, answer.error), ("False", code), line)
        self.assertEqual(carol.heard(), [])
        self.assertEqual(self.room.names(), ["alice", "carol"])

    def test_operators_pass_bans_of_networks(self) -> None:
        """Else one slip would lock them out."""
        self.moderation.sanctions.add(sanction("198.51.100.0/24"))
        gate = ModeratedGate(self.moderation, OpenGate())
        answers: list[Admission | Refusal] = []
        self.patch(self.moderation, "_accounts", True)
        for name in ("alice", "bob"):
            visitor = Visitor(Name(name, name), None, None, Origin("198.51.100.1"))
            gate.admit(visitor, answers.append)
        self.assertEqual(answers, [Admission(None), Refusal(Code.BANNED)])

    def test_in_order(self) -> None:
        """What was said before a kick is heard before it, and everybody hears one order."""
        alice, bob, carol = self.client("alice"), self.client("bob", FAR), self.client("carol", FAR)
        bob.send("<r:all><t:message_request><m:one>")
        alice.send("<t:kick><r:bob>", "<r:all><t:message_request><m:two>")
        heard = [(one.response, one.text) for one in carol.heard()]
        self.assertEqual(
            heard,
            [
                ("message_received", "one"),
                ("kicked", ""),
                ("presence", "left"),
                ("message_received", "two"),
            ],
        )

    def test_log_out_of_order(self) -> None:
        """What is not in the log has not happened."""
        alice, bob = self.client("alice"), self.client("bob", FAR)
        alice.send("<t:ban><r:bob>")
        self.turns.end()
        self.log.fail()
        [answer] = alice.heard()
        self.assertEqual((answer.text, answer.error), ("False", "log-unavailable"))
        self.assertEqual(bob.heard(), [])
        self.assertEqual(self.moderation.bans(), [])
        self.assertEqual(self.audit(), [("alice", "ban", "bob", "log-unavailable")])

    def test_listed(self) -> None:
        """Operators see who is banned or muted, by whom, why and for how long still."""
        alice = self.client("alice")
        self.assertEqual(
            [(one.response, one.text) for one in alice.ask_all("<t:get_ban_list>")],
            [("ban_list", "0")],
        )
        alice.send("<t:ban><r:192.0.2.0/24><n:60><m:spam>", "<t:mute><r:bob>", "<t:get_ban_list>")
        *_, mute, ban, answer = alice.heard()
        self.assertEqual(
            (ban.response, ban.recipient, ban.sender, ban.text, ban.count),
            ("ban", "192.0.2.0/24", "alice", "spam", 60),
        )
        self.assertEqual((mute.response, mute.recipient, mute.count), ("mute", "bob", None))
        self.assertEqual((answer.response, answer.text), ("ban_list", "2"))

    def test_after_a_restart(self) -> None:
        """Bans and mutes are there again."""
        alice = self.client("alice")
        alice.send("<t:ban><r:bob>", "<t:mute><r:192.0.2.7>")
        self.settle()
        self.moderation.sanctions.flush()
        self.moderation = self.moderate()
        self.assertEqual(self.refusal("bob").error, "banned")
        carol = self.client("carol", FAR)
        self.assertEqual(carol.error("<r:all><t:message_request><m:hi>"), "muted")

    def test_disk_full(self) -> None:
        """A ban holds though it cannot be written, and the server's log says so."""
        alice = self.client("alice")

        def fail(*_: object) -> None:
            raise OSError("no room")

        self.patch(files, "write_whole", fail)
        with capturedLogs() as logs:
            alice.send("<t:ban><r:bob>")
            self.settle()
            self.moderation.sanctions.flush()
        self.assertEqual([str(event["error"]) for event in logs if "error" in event], ["no room"])
        self.assertEqual(self.refusal("bob").error, "banned")

    def test_audited(self) -> None:
        """Every request of an operator is written down with its outcome; of others nothing is."""
        alice, bob = self.client("alice"), self.client("bob", FAR)
        bob.error("<t:kick><r:alice>")
        self.assertFalse(os.path.exists(os.path.join(self.folder, "audit.jsonl")))
        alice.send("<t:kick><r:bob><m:a\\nb>", "<t:ban><r:olga>", "<t:unban><r:x>")
        self.settle()
        self.assertEqual(
            self.audit(),
            [
                ("alice", "kick", "bob", "done"),
                ("alice", "ban", "olga", "is-operator"),
                ("alice", "unban", "x", "no-such-ban"),
            ],
        )
        path = os.path.join(self.folder, "audit.jsonl")
        first = json.loads(Path(path).read_text().splitlines()[0])
        self.assertEqual((first["from"], first["why"]), ("192.0.2.7", "a\nb"))
        self.assertEqual(first["at"], "2023-11-14T22:13:20Z")
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        self.moderation = self.moderate()
        alice.send("<t:unban><r:x>")
        self.settle()
        self.assertEqual(len(self.audit()), 4)

    def test_from_another_server(self) -> None:
        """An order of an operator elsewhere counts here: what is said, who goes, who stays out."""
        carol, bob = self.client("carol", FAR), self.client("bob", FAR)
        self.log.append([self.order_of("olga", Order(Action.BAN, "bob", 60, "spam"))])
        self.settle()
        self.assertEqual([one.response for one in carol.heard()], ["banned", "presence"])
        self.assertEqual(bob.hung_up, 1)
        self.assertEqual(self.refusal("bob").error, "banned")
        self.assertFalse(os.path.exists(os.path.join(self.folder, "audit.jsonl")))
        self.moderation.sanctions.flush()
        self.assertTrue(os.path.exists(os.path.join(self.folder, "bans.json")))
        for text in ("fly 0 x", "ban 0 x"):
            self.log.append([self.order_of("olga", Order(Action.BAN, "all"), text)])
            self.settle()
        self.assertEqual(len(self.moderation.bans()), 1)

    def order_of(self, by: str, order: Order, text: str = "") -> Entry:
        """An order as it comes from another server."""
        return Entry(RecordKind.ORDER, by, order.target, text or order.text)


class ClientTests(SynchronousTestCase):
    """What a client makes of it all."""

    def setUp(self) -> None:
        self.server = Server()
        self.session = self.server.connection.session
        self.events: list[object] = []
        self.server.connection.listen(self.events.append)

    def test_news(self) -> None:
        """What operators do is news, in its place."""
        self.server.send(
            Message("olga", "bob", text="spam", response="banned", sequence=5, time=9, count=60)
        )
        self.server.send(Message("olga", "", text="", response="unmuted", sequence=6, time=9))
        self.server.send(Message("olga", "x", text="", response="unmuted", sequence=6, time=9))
        self.server.send(Message(None, "x", text="", response="kicked", sequence=7, time=9))
        first, second, garbled = self.events
        self.assertEqual(first, Moderated("olga", "banned", "bob", 60, "spam", 9))
        self.assertEqual(second, Moderated("olga", "unmuted", "", None, "", 9))
        self.assertEqual(type(garbled).__name__, "Garbled")

    def test_asked(self) -> None:
        """Requests have what the server needs; answers are told apart."""
        number = self.session.moderate(Kind.BAN, "bob", seconds=60, reason="spam")
        refused = self.session.moderate(Kind.KICK, "olga")
        listed = self.session.ask_bans()
        self.server.connection.flush()
        [ban, kick, bans] = self.server.requests()
        self.assertEqual(
            (ban.request, ban.recipient, ban.count, ban.text), ("ban", "bob", 60, "spam")
        )
        self.assertEqual((kick.request, kick.count, kick.text), ("kick", None, None))
        self.assertEqual(bans.request, "get_ban_list")
        self.server.answer(number, "ban_response", text="True")
        self.server.answer(refused, "kick_response", text="False", error="is-operator")
        self.server.send(Message("olga", "bob", text="spam", response="ban", time=9, count=59))
        self.server.send(Message("olga", "192.0.2.7", text="", response="mute", time=9))
        self.server.answer(listed, "ban_list", text="2")
        done, failed, answer = self.events
        assert isinstance(done, Succeeded) and isinstance(failed, Failed)
        assert isinstance(answer, BanList)
        self.assertEqual(
            answer.bans,
            (
                Banned("ban", "bob", "olga", 59, "spam", 9),
                Banned("mute", "192.0.2.7", "olga", None, "", 9),
            ),
        )
        self.assertEqual(
            words.describe(failed, "alice", now=NOON),
            ["No kick of olga: Nobody can do that to an operator."],
        )
        self.assertEqual(
            words.describe(answer, "alice", now=NOON),
            [
                "  bob is banned for another 59 s, by olga: spam",
                "  192.0.2.7 is muted for good, by olga",
            ],
        )
        self.assertEqual(words.describe(done, "alice", now=NOON), [])

    def test_put_out(self) -> None:
        """Who was put out does not come back by itself, and reads why."""
        for code in ("kicked", "banned"):
            self.setUp()
            self.session.survive()
            self.server.send(Message(response="error", error=code, text="Out: spam \x1b[2J"))
            self.server.close()
            failed, lost = self.events
            assert isinstance(failed, Failed) and isinstance(lost, Lost)
            self.assertIs(self.session.state, ClientState.ENDED)
            [line] = words.describe(failed, "alice", now=NOON)
            self.assertIn("Out: spam", line)
            self.assertNotIn("\x1b", line)
            self.assertNotIn(Cut(), self.events)

    def test_read(self) -> None:
        """What people read of it, with nothing in it that a terminal obeys."""
        for event, text in (
            (Moderated("olga", "kicked", "b\x1bob", None, "x\x1b[2J"), "olga kicked b\ufffdob: x"),
            (Moderated("olga", "banned", "", 86_400, ""), "olga banned an address for 1 day"),
            (Moderated("olga", "muted", "bob", 5400, ""), "olga muted bob for 90 minutes"),
        ):
            [line] = words.describe(event, "alice", now=NOON)
            self.assertTrue(line.startswith(f"--:-- * {text}"), line)
        for seconds, text in ((1, "1 s"), (60, "1 minute"), (7199, "2 hours"), (172_800, "2 days")):
            self.assertEqual(words.long_text(seconds), text)


PATIENT = f"""
from chatbox.client.main import main
from chatbox.rdt import asking
asking.DOUBT_TIMEOUT = {PATIENCE}
main()
"""
"""A client that waits for a server however long that stands still after it has hung up."""


def test_banned_while_downloading(tmp_path: Path) -> None:
    """A ban ends the download that is under way, and who waits for it is told why; a kick does not.

    Even of somebody who is not connected any more, as after the kick.
    """
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / "film.bin").write_bytes(bytes(5_000_000))
    (tmp_path / "operators").write_text("alice\n")
    port, udp = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)
    command = [
        *script("twistd"),
        *("-n", "--pidfile=", "chatbox", "--files", "shelf", "--log", "memory:"),
        *("--state-dir", "state", "--no-announce", "--operators", "operators"),
        *("--listen", f"tcp:{port}:interface=127.0.0.1", "--udp-ports", str(udp)),
        *("--max-rate", "100KB", "--grace", "0"),
    ]

    def get(name: str) -> Running:
        words = ["get", f"127.0.0.1:{port}", "film.bin", "-o", f"{name}.bin", "--name", name]
        client = [sys.executable, "-c", PATIENT, *words]
        return Running(client, cwd=tmp_path, env=environment(HOME=str(tmp_path)))

    with Running(command, cwd=tmp_path) as server:
        server.read_until(f"starting on {port}")
        with Talker(port, "alice") as alice, get("bob+tv") as bob, get("carol") as carol:
            for _ in range(2):
                server.read_until("a download of .* has begun")
            alice.send("<t:kick><r:carol>")
            alice.read_until("kick_response", "True")
            alice.send("<t:ban><r:bob><m:that is enough>")
            alice.read_until("ban_response", "True")
            server.read_until("a download of bob has ended: REFUSED")
            assert bob.wait() == Exit.REFUSED
            assert "banned from this server: that is enough" in "".join(bob.said)
            alice.send("<t:ban><r:carol>")
            alice.read_until("ban_response", "True")
            server.read_until("a download of carol has ended: REFUSED")
            assert carol.wait() == Exit.REFUSED
            assert "no longer sends" in "".join(carol.said)
