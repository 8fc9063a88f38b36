"""One server in virtual time, and what befalls it: everything by chance, from one seed."""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from unittest.mock import patch

from twisted.logger import LogLevel, capturedLogs, formatEvent

from chatbox.chat import outbox, pipeline, room, server
from chatbox.chat.gate import Admission, OpenGate, Refusal, Visitor
from chatbox.chat.limits import NO_LIMITS, Limits
from chatbox.chat.moderation import ModeratedGate, Moderation
from chatbox.chat.names import parse_name
from chatbox.chat.room import Room
from chatbox.chat.server import ChatFactory, ChatProtocol
from chatbox.chat.session import REQUESTS
from chatbox.chat.states import State
from chatbox.chat.transport import DirectWriter, TransportWriter
from chatbox.chat.turn import Turn
from chatbox.chat.wire import Message, format_line
from chatbox.log import Entry, Kind, Record
from chatbox.log.keep import Keep
from tests.fuzz.target import memory_folder
from tests.helpers.chat import DelayedLog, DelayedNames, FakeShelf, File, tokens
from tests.storm.model import ORDERS, Annals, Asked, Client
from tests.storm.wire import Link, Reactor

STEPS: Final = 150
MAX_TURNS: Final = 10_000
"""Until all is at rest: half a second each, so nobody waits for so long."""
MAX_CLIENTS: Final = 7
NAMES: Final = ("bob", "Bob", "ann", "carl", "dora", "ANN", "bob+phone", "eve")
OPERATOR: Final = "olga"
HERE: Final = "127.0.0.1"
HOSTS: Final = ("192.0.2.7", "192.0.2.8", "2001:db8::7", HERE, HERE)
NONSENSE: Final = (
    (b"hello", "bad-line"),
    (b"", "bad-line"),
    (b"<t:ping><t:ping>", "duplicate-field"),
    (b"<q:x>", "bad-field"),
    (b"<m:\xff>", "not-utf8"),
    (b"<m:<>", "bad-line"),
    (b"<t:dance>", "unknown-request"),
    (b"<r:all>", "missing-field"),
    (b"<m:" + b"x" * 9300 + b">", "too-long"),
)

_folder = memory_folder()
with open(os.path.join(_folder, "operators"), "w") as _file:
    _file.write(f"{OPERATOR}\n")


class StormyLog(DelayedLog):
    """A log that refuses a part of what it is given, or nothing, when it is told to."""

    def __init__(self, now: Callable[[], float], keep: Keep) -> None:
        super().__init__(now, keep)
        self.before: Callable[[Sequence[Record]], None] = lambda records: None
        """Hears of each batch before the subscriber does."""
        self.after: Callable[[Sequence[Record]], None] = lambda records: None
        self.refused: Callable[[Sequence[Entry]], None] = lambda entries: None

    def subscribe(
        self,
        on_commit: Callable[[Sequence[Record]], None],
        on_failure: Callable[[Sequence[Entry]], None],
    ) -> None:
        """Name the one subscriber."""

        def commit(records: Sequence[Record]) -> None:
            self.before(records)
            on_commit(records)
            self.after(records)

        def fail(entries: Sequence[Entry]) -> None:
            self.refused(entries)
            on_failure(entries)

        super().subscribe(commit, fail)

    def append(self, entries: Sequence[Entry]) -> None:
        """Let these wait."""
        self.appended.append(entries)

    def split(self, count: int) -> None:
        """Make two batches of the oldest one."""
        first = self.appended.popleft()
        self.appended.extendleft([first[count:], first[:count]])


class SlowGate:
    """A gate that takes its time, and refuses some."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[Visitor, Callable[[Admission | Refusal], None]]] = deque()
        self.slow = False

    def start(self) -> None:
        """Begin."""

    def admit(self, visitor: Visitor, answer: Callable[[Admission | Refusal], None]) -> None:
        """Let somebody wait, or pass."""
        if self.slow:
            self.waiting.append((visitor, answer))
        else:
            OpenGate().admit(visitor, answer)

    def decide(self) -> None:
        """Let the first of those who wait pass."""
        OpenGate().admit(*self.waiting.popleft())


class Peer:
    """A client and its connection."""

    def __init__(self, world: World, host: str, room: int) -> None:
        self.world = world
        self.host = host
        self.link = Link(world.reactor, host, room)
        self.client = Client(world.annals, world.granted, is_local=host == HERE)
        protocol = world.factory.buildProtocol(None)
        assert protocol is not None
        self.protocol: ChatProtocol = protocol
        self.link.connect(protocol)
        self.unsent = b""
        self.half = False
        """Whether the last line that was sent is not whole."""
        self.gone = False
        self.silent = False
        """Whether it has ended its side."""

    def ask(self, kind: str, number: int | None = None, **fields: Any) -> None:
        """Write a request down, to be sent in pieces."""
        message = Message(request=kind, sequence=number, **fields)
        name = self.client.name
        annals = self.world.annals
        forbidden = annals.holding(fields.get("sender") or "" if kind == "connect" else name)
        self.client.ask(Asked(kind, message, forbidden=forbidden, floor=annals.last))
        self.unsent += format_line(message)

    def babble(self, line: bytes, word: str) -> None:
        """Write down what makes no sense."""
        self.client.ask(Asked("", Message(), word))
        self.unsent += line + b"\n"

    def send(self, size: int) -> None:
        """Send some of what is written down."""
        if not self.silent:
            if self.unsent[:size]:
                self.half = self.unsent[:size][-1:] != b"\n"
            self.link.send(self.unsent[:size])
            self.unsent = self.unsent[size:]

    def fall_silent(self, size: int) -> None:
        """Send some of what is written down, and then nothing more."""
        self.send(size)
        self.silent = True
        if self.unsent:
            # What was not sent is not asked; half a line is refused.
            for _ in range(self.unsent.count(b"\n")):
                self.client.owed.pop()
            if self.half:
                self.client.ask(Asked("", Message(), "bad-line"))
        self.link.end_input()

    def read(self, size: int) -> None:
        """Read some of what has come."""
        self.client.receive(self.link.read(size))

    @property
    def open(self) -> bool:
        """Whether anything may happen still."""
        return not (self.gone or self.silent or self.client.ended or self.link.over)


class World:
    """A server and all its clients; `seed` decides everything."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.reactor = Reactor()
        chance = self.chance
        self.keep = chance.choice((None, None, 5, 30))
        self.log = StormyLog(self.reactor.seconds, Keep(count=self.keep))
        self.names = DelayedNames(tokens())
        turn = Turn(lambda work: self.reactor.callLater(0, work))
        self.annals = Annals()
        self.limits = self._limits()
        self.room = Room(self.log, self.names, turn, self.limits.users)
        self.log.before, self.log.after = self._committed, self._heeded
        self.log.refused = self.annals.refuse
        self.gate = SlowGate()
        for name in ("bans.json", "audit.jsonl"):
            if os.path.exists(path := os.path.join(_folder, name)):
                os.unlink(path)
        self.moderation = Moderation(
            _folder, self.reactor.seconds, operators=os.path.join(_folder, "operators")
        )
        self.moderation.serve(self.room)
        gate = ModeratedGate(self.moderation, self.gate)
        gate.start()
        shelf = FakeShelf(File("a.txt", 5))
        self.factory = ChatFactory(
            self.room, shelf, shelf, self.reactor, gate, self.moderation, limits=self.limits
        )
        self.peers: list[Peer] = []
        self.addressed: list[tuple[Peer, int]] = []
        """Whom the letters are for that are just being committed."""
        self.known: list[tuple[str, str]] = []
        """Names that were had, and their tokens."""
        self.lost_words: dict[str, list[Message]] = {}
        """What has no answer, by the token of who said it over a connection that is gone."""
        self.away: list[tuple[str, str]] = []
        """Of these, who was cut off."""
        self.counter = 0
        self.names_used = chance.sample(NAMES, chance.randint(2, len(NAMES)))
        kinds = [one for one in REQUESTS if one not in ("connect", "disconnect")]
        self.kinds = (
            *("say",) * 8,
            *chance.sample(kinds, chance.randint(1, len(kinds))),
            *(("connect", "disconnect") if chance.random() < 0.7 else ()),
        )
        """What people ask for here: not everything everywhere, so that more of it meets."""
        self.quiet = chance.random() < 0.3
        """Whether nobody is cut off, put out or refused."""

    def _limits(self) -> Limits:
        chance = self.chance
        if chance.random() < 0.4:
            return NO_LIMITS
        return Limits(
            connections=chance.choice((0, 5)),
            connections_per_address=chance.choice((0, 3)),
            login_timeout=chance.choice((0, 20.0)),
            rate=chance.choice((0, 5.0)),
            burst=chance.choice((1, 20)),
            join_rate=chance.choice((0, 0.5)),
            join_burst=chance.choice((1, 5)),
            users=chance.choice((0, 0, 3)),
        )

    def _committed(self, records: Sequence[Record]) -> None:
        """Write down what the log has, and who should hear of it."""
        self.annals.commit(records)
        for record in records:
            if record.readers and not record.repeated:
                self._address(record)

    def _heeded(self, records: Sequence[Record]) -> None:
        """What operators have ordered is done."""
        for record in records:
            if record.kind is Kind.ORDER:
                self._check_order(record)
        addressed, self.addressed = self.addressed, []
        for peer in self.peers:
            if peer.protocol.session.state is State.HERE:  # else it went meanwhile
                peer.client.due = self.annals.public[-1]
                peer.client.letters.update(place for one, place in addressed if one is peer)

    def _address(self, record: Record) -> None:
        key = parse_name(record.recipient).key
        person = self.room._people.get(key)
        for peer in self.peers:
            session = peer.protocol.session
            if (
                session.state is State.HERE
                and person is not None
                and person.seat is session._seat
                and person.identity in record.readers
            ):
                self.addressed.append((peer, record.id))

    def _check_order(self, record: Record) -> None:
        """Who is kicked or banned is gone."""
        action, _, _ = record.text.partition(" ")
        if action not in ("kick", "ban") or record.recipient[:1].isdigit():
            return
        whom = parse_name(record.recipient).key
        for peer in self.peers:
            session = peer.protocol.session
            if session.state is State.HERE and not session.is_operator:
                mine = parse_name(session._called)
                assert mine.key != whom, f"{session._called} is here after {record}"

    def granted(self, client: Client, asked: Asked, line: Message) -> None:
        """Somebody has an answer."""
        if asked.kind == "connect":
            self.known.append((client.name, client.token))
            [peer] = [peer for peer in self.peers if peer.client is client]
            words = self.lost_words.pop(client.token, []) if peer.open else []
            for one in words:
                client.retries.add(one.text or "")
                peer.ask("message_request", one.sequence, recipient=one.recipient, text=one.text)

    # What happens.

    def run(self) -> None:
        """Let things happen, and then let them come to rest."""
        weights = {step: self.chance.choice((1, 2, 5)) * much for step, much in _STEPS.items()}
        steps, much = list(weights), list(weights.values())
        for _ in range(STEPS):
            [step] = self.chance.choices(steps, much)
            step(self)
            self._check_bounds()
            for peer in self.peers:
                peer.client.check(all_of_it=False)
        self._calm()

    def _some(self) -> Peer | None:
        able = [peer for peer in self.peers if peer.open]
        return self.chance.choice(able) if able else None

    def come(self) -> None:
        """Somebody connects, mostly to be here."""
        if sum(not peer.gone for peer in self.peers) >= MAX_CLIENTS:
            return
        chance = self.chance
        room = chance.choice((100, 3000, 1 << 16, 1 << 20))
        peer = Peer(self, chance.choice(HOSTS), room)
        self.peers.append(peer)
        if chance.random() < 0.9:
            self._introduce(peer)
        if chance.random() < 0.7:
            peer.send(1 << 20)

    def come_back(self) -> None:
        """Somebody who was cut off, or was not, is there again with their token."""
        if not self.known or sum(not peer.gone for peer in self.peers) > MAX_CLIENTS:
            return
        name, key = self.chance.choice(self.away[-3:] or self.known)
        peer = Peer(self, self.chance.choice(HOSTS), 1 << 20)
        self.peers.append(peer)
        peer.ask("connect", self._number(), sender=name, key=key)
        if self.chance.random() < 0.5:
            peer.ask("history", self._number(), after=0, count=1000)
        peer.send(1 << 20)

    def _introduce(self, peer: Peer) -> None:
        chance = self.chance
        name, key = chance.choice(self.names_used), None
        if self.known and chance.random() < 0.5:
            name, key = chance.choice(self.known)
            if chance.random() < 0.2:
                name = chance.choice(self.names_used)
        elif chance.random() < (0.5 if peer.host == HERE else 0.05):
            name = OPERATOR
        if chance.random() < 0.05:
            key = chance.choice(("", "short", "z" * 30))
        peer.ask("connect", self._number(), sender=name, key=key)
        if key and chance.random() < 0.4:
            peer.ask("history", self._number(), after=0, count=1000)

    def _number(self) -> int | None:
        self.counter += 1
        return self.counter if self.chance.random() < 0.8 else None

    def ask(self) -> None:
        """Somebody asks for something, or for much."""
        peer = self._some()
        if peer is None:
            return
        for _ in range(self.chance.choice((1, 1, 2, 10))):
            self._ask_one(peer)
        if self.chance.random() < 0.7:
            peer.send(1 << 20)

    def _ask_one(self, peer: Peer) -> None:
        chance = self.chance
        kind = chance.choice(self.kinds)
        number = self._number()
        fields: dict[str, Any] = {}
        if chance.random() < 0.05:
            fields["sender"] = chance.choice(NAMES)
        match kind:
            case "say" | "message_request":
                self._say(peer, number, fields)
                return
            case "connect":
                if chance.random() < 0.3:
                    self._introduce(peer)
                return
            case "disconnect":
                if self.quiet or chance.random() < 0.8:
                    return
            case "history":
                fields["count"] = chance.choice((None, 0, 1, 3, 1000))
                place = chance.randint(0, self.annals.last + 2)
                fields[chance.choice(("after", "before"))] = chance.choice((None, 0, place))
            case "download":
                fields["text"] = chance.choice(("a.txt", "b.txt", ""))
            case "probe":
                fields["size"] = chance.choice((None, 5, (1, 2)))
            case one if one in ORDERS:
                if self.quiet and one in ("kick", "ban", "mute"):
                    return
                whom = (*self.names_used, OPERATOR, "192.0.2.7", "address:bob", "", "all")
                fields |= {"recipient": chance.choice(whom), "count": chance.choice((None, 5))}
                fields["text"] = chance.choice((None, "spam"))
        peer.ask(kind, number, **fields)

    def _say(self, peer: Peer, number: int | None, fields: dict[str, Any]) -> None:
        chance = self.chance
        self.counter += 1
        padding = (
            "x" * chance.choice((0, 0, 0, 10, 1000, 4000, 4090, 5000))
            if chance.random() < 0.5
            else ""
        )
        text = chance.choice(
            (f"{self.counter} {padding}",) * 20 + ("", "\0", f"{self.counter} \\<\n>é")
        )
        whom = chance.choice(("all",) * 6 + ("ALL", "", *self.names_used, OPERATOR))
        peer.ask("message_request", number, recipient=whom, text=text, **fields)

    def babble(self) -> None:
        """Somebody talks nonsense."""
        if peer := self._some():
            peer.babble(*self.chance.choice(NONSENSE))
            peer.send(1 << 20)

    def send(self) -> None:
        """A piece of what somebody has written down is sent."""
        if peer := self._some():
            peer.send(self.chance.choice((1, 10, 100, 1 << 20)))

    def read(self) -> None:
        """Somebody reads, a little or all."""
        if self.peers:
            peer = self.chance.choice(self.peers)
            peer.read(self.chance.choice((1, 100, 1 << 20, 1 << 20)))

    def cut(self) -> None:
        """A connection breaks."""
        able = [peer for peer in self.peers if not peer.gone]
        if able and not self.quiet:
            peer = self.chance.choice(able)
            peer.gone = True
            if self.chance.random() < 0.5:
                peer.read(1 << 20)
            if peer.client.token and not peer.client.ended:
                self.away.append((peer.client.name, peer.client.token))
            words = [one.fields for one in peer.client.owed if one.kind == "message_request"]
            words = [one for one in words if one.sequence is not None and not one.sender]
            if peer.client.token and words:
                self.lost_words.setdefault(peer.client.token, []).extend(words)
            peer.link.cut()

    def fall_silent(self) -> None:
        """Somebody ends their side, perhaps amid a line."""
        if not self.quiet and (peer := self._some()):
            peer.fall_silent(self.chance.choice((0, 5, 1 << 30)))

    def turn(self) -> None:
        """The reactor turns."""
        for peer in self.chance.sample(self.peers, len(self.peers)):
            peer.link.run()
        self.reactor.turn()

    def wait(self) -> None:
        """Time passes."""
        self.reactor.rightNow += self.chance.choice((0.01, 1.0, 30.0))
        self.turn()

    def commit(self) -> None:
        """The log commits what it got first, or some of it."""
        if self.log.appended:
            if self.chance.random() < 0.2 and len(self.log.appended[0]) > 1:
                self.log.split(self.chance.randrange(1, len(self.log.appended[0])))
            self.log.commit()

    def fail(self) -> None:
        """The log refuses what it got first."""
        if self.log.appended and not self.quiet:
            if self.chance.random() < 0.3 and len(self.log.appended[0]) > 1:
                self.log.split(self.chance.randrange(1, len(self.log.appended[0])))
            self.log.fail()

    def reply(self) -> None:
        """The log answers a question, if it can."""
        self.log.reachable = self.quiet or self.chance.random() < 0.9
        if self.log.asked:
            self.log.reply()

    def decide(self) -> None:
        """Who waits for a name or at the gate waits no more, or whoever comes next has to."""
        self.names.delayed = self.chance.random() < 0.3
        self.gate.slow = self.chance.random() < 0.3
        if self.names.asked:
            self.names.give()
        if self.gate.waiting:
            self.gate.decide()

    # What must hold.

    def _check_bounds(self) -> None:
        for peer in self.peers:
            protocol = peer.protocol
            jobs: Any = protocol.session._pipeline
            waiting = len(jobs._waiting) + len(jobs._row)
            assert waiting <= pipeline.MAX_IN_PROGRESS + 1, f"{waiting} requests in progress"
            box: Any = protocol._outbox
            assert box._queued_bytes <= outbox.MAX_QUEUED_BYTES, box._queued_bytes
            assert box._queued_bytes == sum(map(len, box._queue))
            assert len(protocol._lines.rest) <= (1 << 16) + self.limits.line
        waiting_bytes = sum(
            one.origin.cost
            for batch in [*self.log.appended, self.room._gathered]
            for one in batch
            if isinstance(one.origin, room._Asked)
        )
        assert self.room._uncommitted_bytes == waiting_bytes <= room.MAX_UNCOMMITTED_BYTES

    def _calm(self) -> None:
        """All that was begun ends well."""
        self.log.reachable = True
        self.names.delayed = self.gate.slow = False
        for peer in self.peers:
            peer.link.room = 1 << 30
            if peer.open:
                peer.send(1 << 30)
        self._settle()
        here = [peer for peer in self.peers if peer.open and peer.client.name]
        self.annals_check(here)
        for peer in here:
            peer.ask("message_request", 1, recipient="all", text=f"at last {peer.client.name}")
            peer.ask("get_user_list", 1)
            peer.send(1 << 30)
        self._settle()
        self.annals_check([peer for peer in here if peer.open])
        self._end()

    def annals_check(self, here: Sequence[Peer]) -> None:
        """Everybody who is here has heard everything, and knows who else is."""
        names = [parse_name(peer.client.name).key for peer in here]
        assert len(names) == len(set(names)), f"twice here: {names}"
        for peer in self.peers:
            peer.client.check(all_of_it=peer in here)
            if not peer.gone and not peer.link.aborted:
                peer.client.check_end()
                assert not peer.silent or peer.link.over
        known = [key for key in self.annals.here if key not in self.annals.unheard]
        assert sorted(known) == sorted(names), f"{known} but {names}"
        assert [parse_name(one).key for one in self.room.names()] == known
        for peer in here:
            if peer.client.people is not None:
                assert peer.client.people - self.annals.unheard == set(names), (
                    f"{peer.client.name} knows {peer.client.people}"
                )

    def _settle(self) -> None:
        """Let time pass until nothing waits for anything."""
        at_rest = 0
        for _ in range(MAX_TURNS):
            for peer in self.peers:
                if not peer.gone:
                    peer.read(1 << 30)
                if peer.open:
                    peer.send(1 << 30)
            self.turn()
            self.log.settle()
            while self.names.asked:
                self.names.give()
            while self.gate.waiting:
                self.gate.decide()
            moving = any(peer.link.moving for peer in self.peers)
            waiting = any(one.active() for one in self.reactor.getDelayedCalls())
            at_rest = 0 if moving or waiting else at_rest + 1
            if at_rest == 3:
                return
            self.reactor.rightNow += 0.5

    def _end(self) -> None:
        for peer in self.peers:
            if not peer.gone:
                peer.link.cut()
        self._settle()
        self.moderation.sanctions.flush()
        assert not self.room._people and not self.names._claims, self.room._people
        fanout: Any = self.room.fanout
        assert not fanout._listeners and not fanout._aside and not fanout._attended
        gate: Any = self.factory.gate
        assert not getattr(gate, "_rows", None)
        assert not self.room._uncommitted_bytes and not self.factory._connections
        assert not self.factory.connections._total and not self.factory.logins._due
        assert not self.annals.here.keys() - self.annals.unheard
        left = [one for one in self.reactor.getDelayedCalls() if one.active()]
        assert not left, left


_STEPS: Final[dict[Callable[[World], None], int]] = {
    World.come: 5,
    World.come_back: 2,
    World.ask: 12,
    World.babble: 1,
    World.send: 4,
    World.read: 6,
    World.cut: 1,
    World.fall_silent: 1,
    World.turn: 20,
    World.wait: 3,
    World.commit: 8,
    World.fail: 1,
    World.reply: 4,
    World.decide: 2,
}


@contextmanager
def narrow(chance: random.Random) -> Iterator[None]:
    """Have bounds that are reached within a moment, or those that there are."""
    with ExitStack() as stack:
        choose = chance.choice
        stack.enter_context(patch.object(server, "writer", choose((DirectWriter, TransportWriter))))
        for module, name, less in (
            (outbox, "MAX_QUEUED_BYTES", 20_000),
            (outbox, "MAX_OWN_BYTES", 2000),
            (pipeline, "MAX_OWN_BYTES", 2000),
            (pipeline, "MAX_IN_PROGRESS", 4),
            (pipeline, "MAX_BYTES_IN_PROGRESS", 9000),
            (room, "MAX_UNCOMMITTED_BYTES", 9000),
        ):
            if chance.random() < 0.3:
                stack.enter_context(patch.object(module, name, less))
        yield


def storm(seed: int) -> None:
    """Run one world to its end."""
    with narrow(random.Random(seed)), capturedLogs() as logs:
        World(seed).run()
    for event in logs:
        wrong = event["log_level"] >= LogLevel.error or "log_failure" in event
        assert not wrong, formatEvent(event)
