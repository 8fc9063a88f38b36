"""How people hear of each other, in small rooms and in large ones."""

from __future__ import annotations

from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from chatbox.chat.names import LocalNames, parse_name
from chatbox.chat.outbox import Outbox
from chatbox.chat.people import Person, Seat
from chatbox.chat.presence import HEADCOUNT_STEP, MAX_ANNOUNCED
from chatbox.chat.room import Room
from chatbox.chat.turn import Turn
from chatbox.chat.wire import MAX_ANSWER_BYTES, MAX_REQUEST_BYTES, Message, format_line, parse_list
from chatbox.client.chat.answers import headcount
from chatbox.client.chat.events import Headcount, Kind, UserList
from chatbox.client.chat.session import MAX_LINE, ClientSession
from chatbox.client.words import describe
from chatbox.errors import RemoteError
from tests.helpers.chat import DelayedLog, Turns, Wire, tokens


class PresenceTests(SynchronousTestCase):
    """One room that fills and empties."""

    def setUp(self) -> None:
        """Have an empty room."""
        self.turns = Turns()
        self.log = DelayedLog()
        self.make_token = tokens()
        self.room = Room(self.log, LocalNames(self.make_token), Turn(self.turns.later))
        self.wires: list[Wire] = []
        self.seats: list[Seat] = []
        self.tokens: list[str] = []

    def come(self, *names: str, token: str | None = None) -> None:
        """Let people come, all in one turn."""
        for name in names:
            wire = Wire()
            outbox = Outbox(
                self.room.fanout, wire, on_overflow=lambda: None, on_change=lambda: None
            )
            seat = Seat(outbox, answer=self.note, replaced=lambda: None)
            self.room.join(parse_name(name), token, seat)
            self.wires.append(wire)
            self.seats.append(seat)
        self.settle()

    def note(self, outcome: object) -> None:
        """Keep the token of somebody who is in."""
        assert isinstance(outcome, Person)
        self.tokens.append(outcome.claim.token)

    def fill(self, size: int) -> None:
        """Let people come until there are so many."""
        first = len(self.seats)
        self.come(*(f"u{number}" for number in range(first, first + size - self.room.size)))

    def settle(self) -> None:
        """Let everything happen."""
        for _ in range(3):
            self.turns.end()
            self.log.settle()
        self.turns.end()

    def hear(self, who: int) -> list[str]:
        """What one has heard since the last time."""
        return [
            f"{message.sender} {message.text}"
            if message.response == "presence"
            else f"{message.response} {message.count}"
            for message in self.wires[who].take_messages()
        ]

    def forget(self) -> None:
        """Nobody has heard anything."""
        for wire in self.wires:
            wire.take()

    def test_up_to_the_bound(self) -> None:
        """A room that is just not too large hears of everybody."""
        self.fill(MAX_ANNOUNCED - 1)
        self.forget()
        self.come("alice")
        for who in (0, -1):
            self.assertEqual(self.hear(who), ["alice joined"])
        self.room.leave(self.seats[5])
        self.settle()
        self.assertEqual(self.hear(0), ["u5 left"])

    def test_across_the_bound(self) -> None:
        """Above it everybody hears how many there are, and newcomers of themselves too."""
        self.fill(MAX_ANNOUNCED)
        self.forget()
        self.come("alice")
        self.assertEqual(self.hear(0), [f"headcount {MAX_ANNOUNCED + 1}"])
        mine, *counts = self.hear(-1)
        self.assertEqual(mine, "alice joined")
        self.assertEqual(set(counts), {f"headcount {MAX_ANNOUNCED + 1}"})
        self.come("bob")
        self.assertEqual(self.hear(0), [])
        self.assertEqual(self.hear(-1), ["bob joined", f"headcount {MAX_ANNOUNCED + 2}"])
        for seat in self.seats[10:12]:
            self.room.leave(seat)
        self.settle()
        self.assertEqual(self.hear(0), [f"headcount {MAX_ANNOUNCED}", "u10 left", "u11 left"])
        self.room.leave(self.seats[12])
        self.settle()
        self.assertEqual(self.hear(0), ["u12 left"])

    def test_a_stream_of_people(self) -> None:
        """What each person hears grows with the logarithm of how many come, one by one."""
        self.fill(MAX_ANNOUNCED + 1)
        self.forget()
        for number in range(MAX_ANNOUNCED):
            self.come(f"late{number}")
        heard = self.hear(0)
        self.assertLess(len(heard), HEADCOUNT_STEP)
        told = [int(line.split()[1]) for line in heard]
        self.assertLess(self.room.size - told[-1], self.room.size / HEADCOUNT_STEP)

    def test_coming_back(self) -> None:
        """Who takes a name over hears how many are here, and nobody else hears anything."""
        self.fill(MAX_ANNOUNCED + 5)
        self.forget()
        self.come("u3", token=self.tokens[3])
        self.assertEqual(self.hear(-1), [f"headcount {MAX_ANNOUNCED + 5}"])
        self.assertEqual(self.hear(0), [])

    def test_the_list_follows(self) -> None:
        """The list of names is made once, and anew when somebody has come or gone."""
        self.come("alice", "bob")
        self.assertEqual(self.room.name_list(), "['alice','bob']")
        self.assertIs(self.room.name_list(), self.room.name_list())
        self.come("carol")
        self.assertEqual(self.room.name_list(), "['alice','bob','carol']")
        self.room.leave(self.seats[0])
        self.assertEqual(self.room.name_list(), "['bob','carol']")
        self.settle()
        self.assertEqual(parse_list(self.room.name_list()), self.room.names())


class ClientTests(SynchronousTestCase):
    """What a client makes of a crowd."""

    def setUp(self) -> None:
        """Have joined."""
        self.session = ClientSession()
        number = self.session.join("alice", "192.0.2.1")
        self.answer(Message(text="True", response="connect_response", sequence=number))
        self.session.next_event()

    def answer(self, message: Message) -> bytes:
        """Let the server say something."""
        line = format_line(message)
        self.session.receive_data(line)
        return line

    def test_headcount(self) -> None:
        """It is an event with words of its own; one without a number makes no sense."""
        self.answer(Message(response="headcount", count=1234))
        event = self.session.next_event()
        self.assertEqual(event, Headcount(1234))
        assert event is not None
        self.assertEqual(describe(event, "alice", now=0), ["* 1234 people are here."])
        self.assertRaises(RemoteError, partial(headcount, Message(response="headcount")))

    def test_ten_thousand_names(self) -> None:
        """The longest names there are, all of them to be escaped twice, still fit into one list."""
        names = ["'\\" * 14 + f"{number:04}" for number in range(10_000)]
        number = self.session.ask_users()
        text = (
            "["
            + ",".join("'" + name.replace("\\", "\\\\").replace("'", "\\'") + "'" for name in names)
            + "]"
        )
        line = self.answer(Message(text=text, response="user_list", sequence=number))
        self.assertLess(len(line), MAX_ANSWER_BYTES)
        self.assertLessEqual(MAX_ANSWER_BYTES, MAX_LINE)
        self.assertLess(MAX_REQUEST_BYTES, MAX_LINE)
        event = self.session.next_event()
        assert isinstance(event, UserList)
        self.assertEqual(event.request.kind, Kind.USERS)
        self.assertEqual(list(event.names), names)
        [said] = describe(event, "alice", now=0)
        self.assertTrue(said.startswith("Online (10000): "))
