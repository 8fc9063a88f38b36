"""Who is here and who hears what, with a log and names that take their time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from twisted.trial.unittest import SynchronousTestCase

from chatbox.chat.codes import Code
from chatbox.chat.heard import heard
from chatbox.chat.names import Claim, parse_name
from chatbox.chat.orders import Action, Order
from chatbox.chat.outbox import Outbox
from chatbox.chat.people import PLACES, Person, Place, Seat
from chatbox.chat.room import MAX_UNCOMMITTED_BYTES, Room
from chatbox.chat.turn import Turn
from chatbox.chat.wire import Message, parse_line
from chatbox.errors import LocalError, RemoteError
from chatbox.log import Kind, Record
from tests.helpers.chat import DelayedLog, DelayedNames, Turns, Wire, tokens


class Guest:
    """Somebody with a seat, who remembers what happened."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.wire = Wire()
        self.outbox = Outbox(
            room.fanout, self.wire, on_overflow=lambda: None, on_change=lambda: None
        )
        self.outcomes: list[Person | Code] = []
        self.replaced = 0
        self.said: list[Code | None] = []
        self.seat = Seat(self.outbox, answer=self.outcomes.append, replaced=self.on_replaced)

    def on_replaced(self) -> None:
        """Count."""
        self.replaced += 1

    def join(self, name: str, token: str | None = None) -> None:
        """Ask to be here."""
        self.room.join(parse_name(name), token, self.seat)

    def say(self, text: str, recipient: str = "all") -> None:
        """Say something."""
        self.room.say(self.seat, recipient, text, self.said.append)

    def leave(self) -> None:
        """Go."""
        self.room.leave(self.seat)

    @property
    def token(self) -> str:
        """The token that the name was given with."""
        person = self.outcomes[-1]
        assert isinstance(person, Person), person
        return person.claim.token

    def heard(self) -> list[str]:
        """Return what was heard since the last time, in short."""
        return [
            f"{m.sender} {m.text}" + ("" if m.recipient == "all" else f" (to {m.recipient})")
            for m in self.wire.take_messages()
        ]


class PlaceTests(SynchronousTestCase):
    """Where a person can be."""

    def test_walk(self) -> None:
        """Every way in the table can be gone, and no other."""
        claim = Claim(parse_name("alice"), "x" * 22)
        for start, goal in product(Place, Place):
            person = Person(claim, None)
            person.place = start
            if goal in PLACES[start]:
                person.become(goal)
                self.assertIs(person.place, goal)
            else:
                self.assertRaises(LocalError, person.become, goal)
        self.assertEqual(set(PLACES), set(Place))


class RoomTestCase(SynchronousTestCase):
    """One room."""

    def setUp(self) -> None:
        """Open an empty one."""
        self.turns = Turns()
        self.log = DelayedLog()
        self.names = DelayedNames(tokens())
        self.room = Room(self.log, self.names, Turn(self.turns.later))

    def settle(self) -> None:
        """Let everything happen that is on its way."""
        self.turns.end()
        while self.log.appended:
            self.log.settle()
            self.turns.end()

    def guest(self, name: str | None = None, token: str | None = None) -> Guest:
        """Bring somebody, and seat them if they have a name."""
        guest = Guest(self.room)
        if name is not None:
            guest.join(name, token)
            self.settle()
            assert isinstance(guest.outcomes[-1], Person)
        return guest


class RoomTests(RoomTestCase):
    """Joining, leaving, speaking."""

    # Joining.

    def test_here_only_after_the_commit(self) -> None:
        """Nobody is here before the log says so; then everybody hears it, the newcomer too."""
        alice = self.guest("alice")
        alice.heard()
        bob = self.guest()
        bob.join("bob")
        self.turns.end()
        self.assertEqual((bob.outcomes, self.room.names()), ([], ["alice"]))
        self.log.commit()
        self.assertEqual(len(bob.outcomes), 1)
        self.assertEqual(self.room.names(), ["alice", "bob"])
        self.turns.end()
        self.assertEqual(alice.heard(), ["bob joined"])
        self.assertEqual(bob.heard(), ["bob joined"])

    def test_name_taken(self) -> None:
        """A name is taken from the moment of asking."""
        first, second = self.guest(), self.guest()
        first.join("alice")
        second.join("ALICE")
        self.assertEqual(second.outcomes, [Code.NAME_TAKEN])
        self.settle()
        self.assertEqual(self.room.names(), ["alice"])

    def test_log_fails_at_joining(self) -> None:
        """Who cannot be announced is not here, and the name is free again."""
        alice = self.guest()
        alice.join("alice")
        self.turns.end()
        self.log.fail()
        self.assertEqual(alice.outcomes, [Code.LOG_UNAVAILABLE])
        alice.leave()
        self.guest("alice")

    def test_names_given_later(self) -> None:
        """A name may be given any time later, or not at all."""
        self.names.delayed = True
        alice, other = self.guest(), self.guest()
        alice.join("alice")
        other.join("alice")
        self.settle()
        self.assertEqual(alice.outcomes, [])
        self.names.give()
        self.names.give()
        self.settle()
        self.assertEqual(other.outcomes, [Code.NAME_TAKEN])
        self.assertEqual(self.room.names(), ["alice"])

    def test_gone_before_the_name_is_given(self) -> None:
        """Who does not wait for the name leaves it free, unheard."""
        bob = self.guest("bob")
        bob.heard()
        self.names.delayed = True
        alice, other = self.guest(), self.guest()
        alice.join("alice")
        other.join("bob")
        alice.leave()
        other.leave()
        self.names.give()
        self.names.give()
        self.names.delayed = False
        self.settle()
        self.assertEqual((alice.outcomes, other.outcomes, bob.heard()), ([], [], []))
        self.guest("alice")

    def test_gone_before_the_commit(self) -> None:
        """Who is gone before being here comes and goes for the others, and the name is free."""
        alice, bob = self.guest(), self.guest("bob")
        bob.heard()
        alice.join("alice")
        self.turns.end()
        alice.leave()
        other = self.guest()
        other.join("alice")
        self.assertEqual(other.outcomes, [Code.NAME_TAKEN])
        self.settle()
        self.assertEqual(bob.heard(), ["alice joined", "alice left"])
        self.assertEqual((alice.outcomes, alice.heard()), ([], []))
        self.guest("alice")

    def test_gone_before_the_log_fails(self) -> None:
        """The same if the log cannot take it: then nobody hears anything."""
        alice, bob = self.guest(), self.guest("bob")
        bob.heard()
        alice.join("alice")
        self.turns.end()
        alice.leave()
        self.log.fail()
        self.settle()
        self.assertEqual((alice.outcomes, bob.heard()), ([], []))
        self.guest("alice")

    # Leaving.

    def test_leaving(self) -> None:
        """Who leaves is gone at once; the others hear it when the log has it; twice is once."""
        alice, bob = self.guest("alice"), self.guest("bob")
        alice.heard(), bob.heard()
        alice.leave()
        alice.leave()
        self.assertEqual(self.room.names(), ["bob"])
        self.settle()
        self.assertEqual((alice.heard(), bob.heard()), ([], ["alice left"]))

    def test_somebody_new_comes_later(self) -> None:
        """A name is free at once, but its old owner leaves before the new one joins, for all."""
        alice, bob = self.guest("alice"), self.guest("bob")
        bob.heard()
        alice.leave()
        other = self.guest()
        other.join("Alice")
        self.settle()
        self.assertEqual(bob.heard(), ["alice left", "Alice joined"])

    def test_leaving_without_a_log(self) -> None:
        """A departure that the log did not take is told when it takes something again."""
        alice, bob = self.guest("alice"), self.guest("bob")
        bob.heard()
        alice.leave()
        self.turns.end()
        self.log.fail()
        bob.say("1")
        self.turns.end()
        self.log.fail()
        bob.say("2")
        self.settle()
        self.assertEqual(bob.heard(), ["alice left", "bob 2"])
        self.assertEqual(bob.said, [Code.LOG_UNAVAILABLE, None])

    def test_departure_overtaken_by_a_return(self) -> None:
        """A departure that failed is not told once the name is held again."""
        alice, bob = self.guest("alice"), self.guest("bob")
        bob.heard()
        alice.leave()
        self.turns.end()
        again = self.guest()
        again.join("alice")
        self.turns.end()
        self.log.fail()
        bob.say("hi")
        self.settle()
        self.assertEqual(bob.heard(), ["alice joined", "bob hi"])
        self.assertEqual(sorted(self.room.names()), ["alice", "bob"])

    def test_departure_and_return_that_both_failed(self) -> None:
        """Who could not come back has left all the same, and is heard to before they come."""
        for batches in (1, 2):
            with self.subTest(batches=batches):
                alice, bob = self.guest("alice"), self.guest("bob")
                bob.heard()
                alice.leave()
                if batches == 2:
                    self.turns.end()
                again = self.guest()
                again.join("alice")
                self.turns.end()
                for _ in range(batches):
                    self.log.fail()
                self.assertEqual(again.outcomes, [Code.LOG_UNAVAILABLE])
                again.join("alice")
                self.settle()
                self.assertEqual(bob.heard(), ["alice left", "alice joined"])
                again.leave()
                bob.leave()
                self.settle()

    def test_leaving_at_once(self) -> None:
        """Who leaves on being told that they are here hears nothing more."""
        bob = self.guest("bob")
        bob.heard()
        alice = self.guest()
        alice.seat.answer = lambda outcome: alice.leave()
        alice.join("alice")
        self.settle()
        self.assertEqual((alice.heard(), bob.heard()), ([], ["alice joined", "alice left"]))

    # Talking.

    def test_heard_only_after_the_commit(self) -> None:
        """Nobody hears anything, and the speaker is not told, before it is in the log."""
        alice, bob = self.guest("alice"), self.guest("bob")
        alice.heard(), bob.heard()
        alice.say("hi")
        self.turns.end()
        self.assertEqual((alice.heard(), bob.heard(), alice.said), ([], [], []))
        self.log.commit()
        self.turns.end()
        self.assertEqual(alice.said, [None])
        self.assertEqual((alice.heard(), bob.heard()), (["alice hi"], ["alice hi"]))

    def test_one_batch_a_turn(self) -> None:
        """All that is said in one turn goes to the log together, in order, and out in one write."""
        alice, bob = self.guest("alice"), self.guest("bob")
        alice.heard(), bob.heard()
        for number in range(3):
            alice.say(f"a{number}")
            bob.say(f"b{number}")
        self.turns.end()
        self.assertEqual(
            [[entry.text for entry in batch] for batch in self.log.appended],
            [["a0", "b0", "a1", "b1", "a2", "b2"]],
        )
        self.log.commit()
        self.turns.end()
        self.assertEqual(len(alice.wire.writes), 1)
        self.assertIs(alice.wire.writes[0], bob.wire.writes[0])

    def test_log_fails(self) -> None:
        """A message that the log did not take is heard by nobody, and its speaker is told."""
        alice, bob = self.guest("alice"), self.guest("bob")
        alice.heard(), bob.heard()
        alice.say("hi")
        self.turns.end()
        self.log.fail()
        self.turns.end()
        self.assertEqual(alice.said, [Code.LOG_UNAVAILABLE])
        self.assertEqual((alice.heard(), bob.heard()), ([], []))

    def test_private(self) -> None:
        """A private message is heard by its recipient alone, in the recipient's spelling."""
        alice, bob, eve = (self.guest(name) for name in ("alice", "Bob", "eve"))
        for guest in (alice, bob, eve):
            guest.heard()
        alice.say("1")
        alice.say("psst", "bob")
        alice.say("2")
        self.settle()
        self.assertEqual(bob.heard(), ["alice 1", "alice psst (to Bob)", "alice 2"])
        self.assertEqual(alice.heard(), ["alice 1", "alice 2"])
        self.assertEqual(eve.heard(), ["alice 1", "alice 2"])
        self.assertEqual(alice.said, [None] * 3)

    def test_private_to_oneself(self) -> None:
        """Who talks to themselves hears it once."""
        alice = self.guest("alice")
        alice.heard()
        alice.say("hm", "ALICE")
        self.settle()
        self.assertEqual(alice.heard(), ["alice hm (to alice)"])

    def test_everybody_in_any_spelling(self) -> None:
        """ALL is all."""
        alice, bob = self.guest("alice"), self.guest("bob")
        bob.heard()
        alice.say("hi", "ALL")
        self.settle()
        self.assertEqual(bob.heard(), ["alice hi"])

    def test_nobody_of_that_name(self) -> None:
        """Who is not here, was here or is still coming cannot be spoken to."""
        alice, bob, carol = self.guest("alice"), self.guest("bob"), self.guest()
        bob.leave()
        carol.join("carol")
        for name in ("bob", "carol", "nobody", "", "server", "server:1.2.3.4", "\x00", "x" * 9999):
            error = self.assertRaises(RemoteError, alice.say, "hi", name)
            self.assertEqual(error.code, "no-such-user")

    def test_private_is_for_the_person_not_the_name(self) -> None:
        """Whoever takes a name gets none of what was meant for its last owner."""
        alice, bob = self.guest("alice"), self.guest("bob")
        alice.say("secret", "bob")
        bob.leave()
        other = self.guest()
        other.join("bob")
        self.settle()
        self.assertEqual(alice.said, [None])
        self.assertEqual(other.heard(), ["bob joined"])
        self.assertEqual(self.history(other), [])
        self.assertEqual(self.history(alice), ["secret"])

    def test_private_for_one_who_is_coming_back(self) -> None:
        """Who is not here yet hears nothing, also of what is meant for them: it is in the log."""
        alice, bob = self.guest("alice"), self.guest("bob")
        alice.say("secret", "bob")
        bob.leave()
        back = self.guest()
        back.join("bob", bob.token)
        self.settle()
        self.assertEqual(back.heard(), ["bob joined"])
        self.assertEqual(self.history(back), ["secret"])

    def test_gone_before_the_answer(self) -> None:
        """What somebody said before leaving is still said."""
        alice, bob = self.guest("alice"), self.guest("bob")
        bob.heard()
        alice.say("bye")
        alice.leave()
        self.settle()
        self.assertEqual(bob.heard(), ["alice bye", "alice left"])

    def test_bounded_waiting(self) -> None:
        """A log that stands still does not make the room swallow everything."""
        alice = self.guest("alice")
        text = "x" * 1_000_000
        with self.assertRaises(RemoteError) as caught:
            for _ in range(MAX_UNCOMMITTED_BYTES // len(text) + 1):
                alice.say(text)
        self.assertEqual(caught.exception.code, "busy")
        self.turns.end()
        self.log.fail()
        alice.say(text)
        self.settle()
        self.assertEqual(alice.said[-1], None)
        for _ in range(2 * MAX_UNCOMMITTED_BYTES // len(text)):
            alice.say(text)
            self.settle()

    def test_speaking_without_a_place(self) -> None:
        """Only somebody who is here can speak; anything else is a mistake of ours."""
        guest = self.guest()
        self.assertRaises(LocalError, guest.say, "hi")
        self.assertRaises(LocalError, self.room.history, guest.seat, None, 1, lambda found: None)
        guest.join("alice")
        self.assertRaises(LocalError, guest.say, "hi")

    def test_records_of_others(self) -> None:
        """What another process has appended is heard just so."""
        alice = self.guest("alice")
        alice.heard()
        record = Record(99, 1, Kind.MESSAGE, "far", "all", "hello from afar")
        odd = Record(100, 1, Kind.MESSAGE, "far", "\x00", "to a name unknown here", ("x",))
        readers = (alice.seat.person.identity,) if alice.seat.person else ()
        kinds = [kind for kind in Kind if kind not in (Kind.MESSAGE, Kind.PRESENCE, Kind.GAP)]
        private = [Record(100, 1, kind, "far", "alice", "odd", readers) for kind in kinds]
        self.room._committed([odd, *private, record])
        self.turns.end()
        self.assertEqual(alice.heard(), ["far hello from afar"])

    def test_a_letter_to_who_had_the_name_before(self) -> None:
        """A process that has yet to hear who has a name now may still append one."""
        alice = self.guest("alice")
        alice.heard()
        assert alice.seat.person is not None
        identity = alice.seat.person.identity
        for number, reader in enumerate(("another's", identity), 100):
            letter = Record(number, 1, Kind.MESSAGE, "far", "alice", reader, ("x", reader))
            self.room._committed([letter])
        self.turns.end()
        self.assertEqual(alice.heard(), [f"far {identity} (to alice)"])

    # Taking over.

    def test_take_over(self) -> None:
        """The token takes the name from a ghost at once, and nobody else notices."""
        alice, bob = self.guest("alice"), self.guest("bob")
        bob.heard(), alice.heard()
        again = self.guest()
        again.join("alice", alice.token)
        self.assertEqual(again.token, alice.token)
        self.assertEqual(alice.replaced, 1)
        bob.say("private", "alice")
        again.say("back")
        alice.leave()
        self.settle()
        self.assertEqual(bob.heard(), ["alice back"])
        self.assertEqual(again.heard(), ["bob private (to alice)", "alice back"])
        self.assertEqual(alice.heard(), [])
        self.assertEqual(self.room.names(), ["alice", "bob"])
        again.leave()
        self.settle()
        self.assertEqual(bob.heard(), ["alice left"])

    def test_take_over_in_the_middle_of_a_turn(self) -> None:
        """The ghost hears what was before, the new connection what comes after."""
        alice, bob = self.guest("alice"), self.guest("bob")
        alice.heard()
        bob.say("1")
        self.turns.end()
        self.log.commit()
        again = self.guest()
        again.join("alice", alice.token)
        bob.say("2")
        self.settle()
        self.assertEqual((alice.heard(), again.heard()), (["bob 1"], ["bob 2"]))

    def test_take_over_while_coming(self) -> None:
        """A connection may be replaced before it is here: still there is one arrival."""
        bob = self.guest("bob")
        bob.heard()
        token = "my-own-token-of-22-chr"
        for first_leaves in (False, True):
            first, second = self.guest(), self.guest()
            first.join("alice", token)
            self.turns.end()
            if first_leaves:
                first.leave()
            second.join("alice", token)
            self.settle()
            self.assertEqual((first.outcomes, first.replaced), ([], int(not first_leaves)))
            self.assertEqual(second.token, token)
            self.assertEqual(bob.heard(), ["alice joined"])
            second.leave()
            self.settle()
            self.assertEqual(bob.heard(), ["alice left"])

    def test_newcomer_gone_before_taking_over(self) -> None:
        """A take-over whose connection is gone already changes nothing, even for the name."""
        alice = self.guest("alice")
        self.names.delayed = True
        again = self.guest()
        again.join("alice", alice.token)
        again.leave()
        self.names.give()
        self.names.delayed = False
        self.assertEqual(alice.replaced, 0)
        alice.leave()
        self.guest("alice")

    # History.

    def history(self, guest: Guest, after: int | None = None) -> list[str]:
        """Return what somebody finds in the log."""
        found: list[Sequence[Record] | None] = []
        self.room.history(guest.seat, after, 100, found.append)
        self.log.settle()
        return [record.text for record in found[0] or ()]

    def test_history(self) -> None:
        """Everybody finds what was said to all, and the private messages of their own."""
        alice, bob, eve = (self.guest(name) for name in ("alice", "bob", "eve"))
        alice.say("open")
        alice.say("secret", "bob")
        self.settle()
        self.assertEqual(self.history(alice), ["open", "secret"])
        self.assertEqual(self.history(bob), ["open", "secret"])
        self.assertEqual(self.history(eve), ["open"])
        bob.leave()
        self.assertEqual(self.history(self.guest("robert", bob.token)), ["open", "secret"])


class RestartTests(RoomTestCase):
    """People who were here before the server started again."""

    def expect(self, *names: str) -> None:
        """Expect people whose tokens are their names, often enough."""
        claims = [Claim(parse_name(name), token_of(name)) for name in names]
        self.room.expect([self.names.reserve(one.name, one.identity) for one in claims])

    def test_back_unnoticed(self) -> None:
        """They are here all the time, and nobody hears that they come back."""
        self.expect("alice", "bob")
        alice = self.guest("alice", token_of("alice"))
        self.assertEqual(self.room.names(), ["alice", "bob"])
        self.assertEqual((alice.heard(), alice.token), ([], token_of("alice")))
        bob = self.guest("bob", token_of("bob"))
        bob.say("hi")
        self.settle()
        self.assertEqual(alice.heard(), ["bob hi"])

    def test_not_back(self) -> None:
        """Who does not come in time has left, and the name is free."""
        self.expect("alice", "bob")
        alice = self.guest("alice", token_of("alice"))
        self.room.stop_expecting()
        self.settle()
        self.assertEqual((alice.heard(), self.room.names()), (["bob left"], ["alice"]))
        self.guest("bob")

    def test_leaving_again(self) -> None:
        """Who has come back can leave like anybody."""
        self.expect("alice", "bob")
        alice = self.guest("alice", token_of("alice"))
        self.guest("bob", token_of("bob")).leave()
        self.settle()
        self.assertEqual(alice.heard(), ["bob left"])
        self.room.stop_expecting()
        self.settle()
        self.assertEqual(self.room.names(), ["alice"])

    def test_private_message_waits(self) -> None:
        """What is said to somebody who is expected is theirs to read when they are back."""
        self.expect("bob")
        alice = self.guest("alice")
        alice.say("psst", "bob")
        self.settle()
        self.assertEqual(alice.said, [None])
        bob = self.guest("bob", token_of("bob"))
        found: list[str] = []
        self.room.history(
            bob.seat, 0, 10, lambda records: found.extend(r.text for r in records or ())
        )
        self.settle()
        self.log.settle()
        self.assertEqual(found, ["psst"])

    def test_nobody_leaves_a_closed_room(self) -> None:
        """When the server stops, connections end one by one, and nobody is said to have left."""
        alice, bob = self.guest("alice"), self.guest("bob")
        bob.heard()
        people = [(name.text, identity) for name, identity in self.room.close()]
        assert isinstance(alice.outcomes[0], Person)
        self.assertEqual(people[0], ("alice", alice.outcomes[0].identity))
        alice.leave()
        self.settle()
        self.assertEqual((bob.heard(), self.room.names()), ([], ["alice", "bob"]))

    def test_half_in_when_it_closes(self) -> None:
        """Who was about to come in when the room closed, and has gone, is not let in any more."""
        alice, bob = self.guest("alice"), self.guest()
        bob.join("bob")
        self.turns.end()
        alice.heard()
        self.room.close()
        bob.leave()
        self.settle()
        self.assertEqual((alice.heard(), self.room.names()), ([], ["alice"]))


def token_of(name: str) -> str:
    """Return a token that is well formed."""
    return (name * 22)[:22]


class HeardTests(SynchronousTestCase):
    """The lines in which records are heard."""

    def test_message(self) -> None:
        """A message has its place and its time."""
        record = Record(7, 1234, Kind.MESSAGE, "bob", "all", "hi")
        self.assertEqual(
            heard(record), b"<s:bob><r:all><m:hi><p:message_received><q:7><d:1234>\r\n"
        )

    def test_presence(self) -> None:
        """So has somebody coming or going."""
        record = Record(8, 1234, Kind.PRESENCE, "bob", "all", "joined")
        self.assertEqual(
            parse_line(heard(record)),
            Message(
                sender="bob",
                recipient="all",
                text="joined",
                response="presence",
                sequence=8,
                time=1234,
            ),
        )


def mistake(_: object) -> None:
    """Be a mistake of ours."""
    raise ZeroDivisionError


class MistakeTests(RoomTestCase):
    """A mistake of ours with what one has said costs nobody else theirs."""

    def test_an_answer(self) -> None:
        """Whatever becomes of one who is answered, all hear what was said, and are answered."""
        alice, bob = self.guest("alice"), self.guest("bob")
        for work, outcome in ((self.log.commit, None), (self.log.fail, Code.LOG_UNAVAILABLE)):
            alice.heard()
            self.room.say(alice.seat, "all", "first", mistake)
            bob.say("second")
            self.turns.end()
            work()
            self.turns.end()
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
            self.assertEqual(bob.said.pop(), outcome)
            heard = ["alice first", "bob second"] if outcome is None else []
            self.assertEqual(alice.heard(), heard)

    def test_an_order(self) -> None:
        """Nor does an order that cannot take effect; who gave it is answered."""
        alice = self.guest("alice")
        self.room.on_order = mistake
        told: list[Code | None] = []
        self.room.order(alice.seat, Order(Action.UNBAN, "eve"), told.append)
        alice.say("and on")
        self.settle()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual((told, alice.said), ([None], [None]))
        self.assertEqual(alice.heard()[-1], "alice and on")
