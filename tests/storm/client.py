"""A client whose connection breaks, before a server that is slow, odd, restarts and forgets.

What the person at the client sees is held against what the server knows: each message once, in
order, and where some are missing it is said; what the person has typed is sent, refused or said to
be unknown, each once, and is in the log at most once.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any, Final

from chatbox.chat.wire import Message, format_line, parse_line
from chatbox.client.chat.events import (
    Failed,
    Gap,
    HistoryPage,
    Kind,
    Lost,
    Request,
    Said,
    Succeeded,
)
from chatbox.client.chat.session import ClientSession, State

STEPS: Final = 200
NAME: Final = "alice"
PASSING: Final = ("busy", "log-unavailable", "internal-error", "try-later", "room-full")
ODDITIES: Final = (
    b"nonsense\r\n",
    b"<p:novelty><m:what><q:7>\r\n",
    b"<p:message_received><s:bob>\r\n",
    b"<n:700><p:headcount>\r\n",
    b"<m:True><p:message_response><q:999999>\r\n",
    b"<m:0><p:history_response><q:999999>\r\n",
    b"<m:why><e:bad-line><p:error>\r\n",
    b"\r\n",
)


@dataclass
class Row:
    """What was said: `life` of the server, and place."""

    life: int
    id: int
    sender: str
    recipient: str
    text: str


class Server:
    """The other end, as simple as may be. It answers when it is told to."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.numbered = chance.random() < 0.8
        """Whether it gives numbers back."""
        self.page = chance.choice((2, 5, 1000))
        self.keep = chance.choice((3, 10, 1000, 1000))
        self.life = 1
        self.place = 0
        self.rows: list[Row] = []
        """All that was ever said."""
        self.known: dict[tuple[int | None, str], int] = {}
        self.here = self.held = False
        self.asked: deque[Message] = deque()
        self.out = b""
        self.rest = b""
        self.refuses = ""
        self.before: int | None = None
        """How many rows there were when the client came in."""

    @property
    def kept(self) -> list[Row]:
        """What history has."""
        return [row for row in self.rows if row.life == self.life][-self.keep :]

    def receive(self, data: bytes) -> None:
        """Take in requests."""
        *lines, self.rest = (self.rest + data).split(b"\r\n")
        self.asked.extend(map(parse_line, lines))

    def say(self, sender: str, recipient: str, text: str) -> None:
        """Somebody says something."""
        self.place += 1
        self.rows.append(row := Row(self.life, self.place, sender, recipient, text))
        if self.here and (recipient == "all" or recipient == NAME):
            self._hear(row)

    def _hear(self, row: Row) -> None:
        self.send(
            Message(
                row.sender,
                row.recipient,
                text=row.text,
                response="message_received",
                sequence=row.id,
                time=self.rows.index(row),
            )
        )

    def send(self, message: Message) -> None:
        """Write a line."""
        self.out += format_line(message)

    def cut(self) -> None:
        """The connection is gone; the name is kept, or not."""
        self.here, self.asked, self.out, self.rest = False, deque(), b"", b""
        self.held = self.held and self.chance.random() < 0.5

    def restart(self, *, forget: bool) -> None:
        """Start anew, with the log or without."""
        self.cut()
        self.held = False
        if forget:
            self.life += 1
            self.place = 0
            self.known.clear()

    def answer(self) -> None:
        """Answer the next request."""
        if not self.asked:
            return
        asked = self.asked.popleft()
        match asked.request:
            case "connect":
                self._connect(asked)
            case "message_request":
                self._said(asked)
            case "history":
                self._history(asked)
            case "get_user_list":
                self._answer(asked, "user_list", text="['alice','bob']")
            case "ping":
                self._answer(asked, "ping_response")
            case other:
                raise AssertionError(f"what is {other}?")

    def _answer(self, asked: Message, response: str, **fields: Any) -> None:
        number = asked.sequence if self.numbered else None
        self.send(Message("server:x", NAME, response=response, sequence=number, **fields))

    def _connect(self, asked: Message) -> None:
        if self.refuses:
            self._answer(asked, "connect_response", text="False", error=self.refuses)
            return
        if self.before is not None and self.held and self.chance.random() < 0.2:
            self.place += 1  # a letter that comes too early, as from older servers
            early = Row(self.life, self.place, "bob", NAME, f"early {len(self.rows)}")
            self.rows.append(early)
            self._hear(early)
        self._answer(asked, "connect_response", text="True", key="token")
        if self.before is None:
            self.before = len(self.rows)
        self.here = True
        if not self.held:
            self.place += 1
            line = Message(NAME, "all", text="joined", response="presence", sequence=self.place)
            self.send(line)
        self.held = True

    def _said(self, asked: Message) -> None:
        spelt = self.chance.choice(("message_response", "messagee_response"))
        key = asked.sequence, asked.text or ""
        if key in self.known:
            self._answer(asked, spelt, text="True")
        elif self.refuses:
            self._answer(asked, spelt, text="False", error=self.refuses)
        else:
            self.say(NAME, asked.recipient or "", asked.text or "")
            self.known[key] = self.place
            self._answer(asked, spelt, text="True")

    def _history(self, asked: Message) -> None:
        if self.refuses:
            self._answer(asked, "error", text="no", error=self.refuses)
            return
        count = min(asked.count or 100, self.page)
        mine = [row for row in self.kept if row.recipient in ("all", NAME) or row.sender == NAME]
        if asked.after is None:
            found = mine[-count:]
            more: dict[str, int] = {"before": found[0].id if len(mine) > count else 0}
        else:
            later = [row for row in mine if row.id > asked.after]
            found = later[:count]
            more = {"after": found[-1].id} if len(later) > count else {}
            lost = [row for row in self.rows if row.life == self.life][: -self.keep]
            if lost and asked.after < lost[-1].id:
                self.send(Message("server", "all", response="gap", sequence=lost[-1].id))
        for row in found:
            self._hear(row)
        self._answer(asked, "history_response", text=str(len(found)), **more)


class Person:
    """The client and who sits before it; `seed` decides everything."""

    def __init__(self, seed: int) -> None:
        self.chance = chance = random.Random(seed)
        self.server = Server(chance)
        self.session = ClientSession(chance.choice((0, 1 << 40)))
        self.session.survive()
        self.connected = True
        self.seen: list[Said | Gap] = []
        self.typed: dict[int, str] = {}
        self.ends: Counter[int] = Counter()
        self.sent: set[int] = set()
        self.unknown: set[int] = set()
        self.counter = 0
        self.session.join(NAME, "x")

    def run(self) -> None:
        """Let things happen, then come to rest, and look."""
        steps, much = list(_STEPS), list(_STEPS.values())
        much = [one * self.chance.choice((1, 3)) for one in much]
        for _ in range(STEPS):
            [step] = self.chance.choices(steps, much)
            step(self)
            self._exchange()
        self._come_to_rest()
        self._check()

    def _exchange(self, size: int = 0) -> None:
        """Carry bytes both ways, all that the client has and some of what the server has."""
        while (event := self.session.next_event()) is not None:
            self._see(event)
        data = self.session.data_to_send()
        if self.session.state is State.AWAY and self.connected:  # it gives this one up
            self.connected = False
            self.server.cut()
        if self.connected:
            self.server.receive(data)

    def _see(self, event: object) -> None:
        match event:
            case Said() | Gap():
                self.seen.append(event)
            case Succeeded(Request(number, Kind.SAY)):
                self.ends[number] += 1
                self.sent.add(number)
            case Failed(Request(number, Kind.SAY)):
                self.ends[number] += 1
            case Lost(_, unanswered):
                for request in unanswered:
                    if request.kind is Kind.SAY:
                        self.ends[request.number] += 1
                        self.unknown.add(request.number)
            case HistoryPage(_, said):
                places = [one.id for one in said]
                assert places == sorted(set(places)), places

    def hear(self) -> None:
        """Some of what the server has sent arrives."""
        if self.connected:
            size = self.chance.choice((1, 20, 200, 1 << 20, 1 << 20))
            data, self.server.out = self.server.out[:size], self.server.out[size:]
            self.session.receive_data(data)

    def answer(self) -> None:
        """The server gets on."""
        self.server.answer()

    def type(self) -> None:
        """The person says something."""
        if self.session.is_full or self.session.state is State.JOINING:
            return
        self.counter += 1
        text = f"t{self.counter}"
        whom = self.chance.choice(("all", "all", "bob"))
        self.typed[self.session.say(text, whom)] = text

    def others(self) -> None:
        """Somebody else says something."""
        self.counter += 1
        whom = self.chance.choice(("all", "all", NAME, "carl"))
        self.server.say("bob", whom, f"o{self.counter}")

    def ask(self) -> None:
        """The person looks around."""
        if self.session.state is State.JOINED and not self.session.is_full:
            match self.chance.randrange(4):
                case 0:
                    self.session.ask_users()
                case 1:
                    self.session.ping()
                case 2:
                    self.session.ask_history(self.chance.choice((1, 3, 50)))
                case 3:
                    self.session.ask_history(3, self.chance.randint(0, self.session.last_id))

    def odd(self) -> None:
        """The server says something odd."""
        if self.session.state is State.JOINED and self.server.numbered:
            self.server.out += self.chance.choice(ODDITIES)

    def cut(self) -> None:
        """The connection breaks."""
        if self.connected and self.session.state not in (State.FRESH, State.JOINING):
            self.hear()
            self.server.cut()
            self._lose()

    def _lose(self) -> None:
        self.connected = False
        self.session.connection_lost()

    def restart(self) -> None:
        """The server starts anew, and may have forgotten everything."""
        if self.session.state in (State.FRESH, State.JOINING):
            return
        self.server.restart(forget=self.chance.random() < 0.3)
        if self.connected:
            self._lose()
        self.come_back()

    def come_back(self) -> None:
        """There is a connection again."""
        if self.session.state is State.AWAY:
            self.server.cut()
            self.connected = True
            self.session.rejoin("x")

    def sulk(self) -> None:
        """The server refuses everything for a while, or does so no more."""
        calm = self.session.state in (State.FRESH, State.JOINING) or self.chance.random() < 0.6
        self.server.refuses = "" if calm else self.chance.choice(PASSING)

    def _come_to_rest(self) -> None:
        self.server.refuses = ""
        for _ in range(2000):
            if self.session.state is State.AWAY:
                self.come_back()
            elif not self.server.asked and not self.server.out and not self.session.pending:
                break
            self.server.answer()
            data, self.server.out = self.server.out, b""
            self.session.receive_data(data)
            if self.session.state is State.AWAY:
                self.server.cut()
                self.connected = False
            self._exchange()
        assert self.session.state is State.JOINED, self.session.state
        self.server.say("bob", "all", "at last")
        self.session.receive_data(self.server.out)
        self._exchange()

    def _check(self) -> None:
        texts = Counter(row.text for row in self.server.rows)
        for number, text in self.typed.items():
            assert self.ends[number] == 1, f"{text} has ended {self.ends[number]} times"
            assert number not in self.sent or texts[text], f"{text} was said to be sent"
            said = [row.life for row in self.server.rows if row.text == text]
            assert len(said) == len(set(said)), f"{text} is doubled"
        seen = Counter(one.text for one in self.seen if isinstance(one, Said))
        for text, count in seen.items():
            assert count <= texts[text], f"{text} is seen {count} times"
        self._check_order()

    def _check_order(self) -> None:
        """What is seen is all that is for the person; what is not is behind a gap."""
        rows = self.server.rows[self.server.before :]
        earlier = {row.text for row in self.server.rows[: self.server.before]}
        heard = [row for row in rows if row.recipient in ("all", NAME)]
        mine = [self.server.rows.index(row) for row in heard]
        letters = {row.text for row in rows if row.sender == NAME and row.recipient != "all"}
        at, gap, life = 0, False, 1
        for one in self.seen:
            if isinstance(one, Gap):
                gap = True
            elif one.text in earlier:  # which may be asked for if nothing else was heard
                assert not at, f"{one.text} is older"
            elif one.text not in letters:  # our own, which only history has
                assert one.at in mine[at:], f"{one} is out of order, at {heard[at:][:3]}"
                place = mine.index(one.at, at)
                # Who finds a log that began anew and is ahead of them already cannot tell.
                anew = heard[place].life != life
                assert gap or place == at or anew, f"missing without a word: {heard[at:place]}"
                at, gap, life = place + 1, False, heard[place].life
        anew = any(row.life != life for row in heard[at:])
        assert at == len(mine) or anew, f"never seen: {heard[at:]}"


_STEPS: Final = {
    Person.hear: 20,
    Person.answer: 20,
    Person.type: 5,
    Person.others: 6,
    Person.ask: 3,
    Person.odd: 1,
    Person.cut: 1,
    Person.restart: 1,
    Person.come_back: 3,
    Person.sulk: 2,
}


def wander(seed: int) -> None:
    """Run one client to its end."""
    Person(seed).run()
