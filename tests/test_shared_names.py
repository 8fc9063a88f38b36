"""Names that several servers give out together, and the room that knows people elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from chatbox.chat.cluster import SharedNames
from chatbox.chat.codes import Code
from chatbox.chat.names import Claim, LocalNames, parse_name
from chatbox.chat.people import Person
from chatbox.chat.room import Room
from chatbox.chat.turn import Turn
from chatbox.errors import RemoteError
from chatbox.log import Kind, Record
from tests.helpers.chat import DelayedLog, Turns, tokens
from tests.test_room import Guest


class FakeRegistry:
    """A registry whose answers are given by the test."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], Callable[[str, int], None]]] = []
        self.released: list[tuple[str, str, Callable[[], bool]]] = []

    def claim(
        self,
        key: str,
        holder: dict[str, str],
        held: Callable[[], bool],
        answer: Callable[[str, int], None],
    ) -> None:
        """Remember who asks."""
        self.asked.append((key, holder, answer))

    def release(self, key: str, proof: str, held: Callable[[], bool]) -> None:
        """Remember who goes."""
        self.released.append((key, proof, held))


class SharedNamesTests(SynchronousTestCase):
    """A name belongs to one person on all servers."""

    def setUp(self) -> None:
        self.registry = FakeRegistry()
        self.names = SharedNames(self.registry, tokens())
        self.outcomes: list[Claim | Code] = []

    def claim(self, name: str, token: str | None = None) -> None:
        """Ask for a name."""
        self.names.claim(parse_name(name), token, self.outcomes.append)

    def give(self, outcome: str = "new", since: int = 0) -> Claim | Code:
        """Let the registry answer the oldest question; return what comes of it."""
        self.registry.asked.pop(0)[2](outcome, since)
        return self.outcomes[-1]

    def test_outcomes(self) -> None:
        """The registry decides; what it does not know of is not to be had now."""
        for outcome, code in {
            "taken": Code.NAME_TAKEN,
            "no-lease": Code.LOG_UNAVAILABLE,
            "unavailable": Code.LOG_UNAVAILABLE,
        }.items():
            self.claim("Ann")
            self.assertIs(self.give(outcome), code)
        for outcome in ("new", "moved"):
            self.claim(outcome)
            claim = self.give(outcome, 7)
            assert isinstance(claim, Claim)
            self.assertEqual((claim.name.text, claim.resumed), (outcome, False))
            self.assertEqual((claim.moved, claim.since), (outcome == "moved", 7))
        self.claim("x", "short")
        self.assertIs(self.outcomes[-1], Code.BAD_TOKEN)

    def test_the_registry_learns_no_token(self) -> None:
        """It gets the name, the identity, and a proof that is the same for the same token."""
        token = "t" * 22
        for _ in range(2):
            self.claim("Ann", token)
        (key, holder, _), (_, again, _) = self.registry.asked
        self.assertEqual((key, holder["name"], holder), ("ann", "Ann", again))
        self.assertNotIn(token, str(holder))
        self.assertNotEqual(holder["proof"], holder["identity"])

    def test_here_already(self) -> None:
        """Who holds a name here already resumes, if the registry agrees."""
        self.claim("Ann")
        held = self.give()
        assert isinstance(held, Claim)
        self.claim("ANN", held.token)
        resumed = self.give("new", 9)
        assert isinstance(resumed, Claim)
        self.assertEqual((resumed.name.text, resumed.resumed, resumed.since), ("Ann", True, 9))
        for token in (None, "y" * 22):
            self.claim("ann", token)
            self.assertIs(self.give("taken"), Code.NAME_TAKEN)

    def test_the_registry_knows_better(self) -> None:
        """Who gets a name that somebody else seems to hold here has it; the other one does not."""
        self.claim("ann")
        former = self.give()
        assert isinstance(former, Claim)
        self.claim("ann")
        claim = self.give()
        assert isinstance(claim, Claim)
        self.assertFalse(claim.resumed)
        self.names.release(former)
        self.assertEqual(self.registry.released, [])

    def test_both_at_once(self) -> None:
        """Two connections with one token: the second takes over from the first."""
        for _ in range(2):
            self.claim("ann", "t" * 22)
        first, second = self.give(), self.give()
        assert isinstance(first, Claim) and isinstance(second, Claim)
        self.assertEqual((first.resumed, second.resumed), (False, True))
        self.names.release(first)
        self.assertEqual(self.registry.released, [])
        self.names.release(second)
        self.assertEqual(len(self.registry.released), 1)

    def test_release_spares_who_comes_again(self) -> None:
        """A name that is asked for again meanwhile is not let go of."""
        self.claim("ann", "t" * 22)
        held = self.give()
        assert isinstance(held, Claim)
        self.names.release(held)
        [(key, _, still_held)] = self.registry.released
        self.assertEqual((key, still_held()), ("ann", False))
        self.claim("ann", "t" * 22)
        self.assertTrue(still_held())
        self.give()
        self.assertTrue(still_held())

    def test_all_lost(self) -> None:
        """After the lease is lost nothing is held here."""
        self.claim("ann")
        held = self.give()
        assert isinstance(held, Claim)
        self.names.forget_all()
        self.names.release(held)
        self.assertEqual(self.registry.released, [])


class ElsewhereTests(SynchronousTestCase):
    """A room knows who is at other servers from the log."""

    def setUp(self) -> None:
        self.turns = Turns()
        self.log = DelayedLog()
        self.room = Room(self.log, LocalNames(tokens()), Turn(self.turns.later))
        self.ann = Guest(self.room)
        self.expelled: list[int] = []
        self.ann.seat.expelled = lambda: self.expelled.append(1)
        self.ann.join("ann")
        self.turns.end()
        self.log.settle()
        self.turns.end()
        self.ann.heard()

    def tell(
        self, kind: Kind, sender: str, text: str = "", identity: str = "id-b", place: int = 99
    ) -> list[str]:
        """Let another server tell something; return what ann hears of it."""
        assert self.log._memory._on_commit is not None
        record = Record(place, 0, kind, sender, "all", text, identity=identity)
        self.log._memory._on_commit([record])
        self.turns.end()
        return self.ann.heard()

    def test_coming_and_going(self) -> None:
        """Who comes elsewhere is heard, listed, and can be spoken to in private; so who goes."""
        self.assertEqual(self.tell(Kind.PRESENCE, "Bob", "joined"), ["Bob joined"])
        self.assertEqual(self.room.names(), ["ann", "Bob"])
        self.ann.say("psst", "bob")
        self.turns.end()
        [[entry]] = self.log.appended
        person = self.ann.outcomes[0]
        assert isinstance(person, Person)
        self.assertEqual((entry.recipient, entry.readers), ("Bob", (person.identity, "id-b")))
        self.assertEqual(self.tell(Kind.PRESENCE, "Bob", "left"), ["Bob left"])
        self.assertEqual(self.room.names(), ["ann"])
        self.assertRaises(RemoteError, self.ann.say, "psst", "bob")

    def test_here_before_us(self) -> None:
        """Who was there already is listed, and nobody hears of it."""
        self.assertEqual(self.tell(Kind.HERE, "Bob"), [])
        self.assertEqual(self.room.names(), ["ann", "Bob"])

    def test_no_name_here(self) -> None:
        """What another version, or another Unicode, takes for a name is listed; no news is lost."""
        self.assertEqual(self.tell(Kind.HERE, "192.0.2.1"), [])
        self.assertEqual(self.tell(Kind.PRESENCE, "192.0.2.2", "joined"), ["192.0.2.2 joined"])
        self.assertEqual(self.room.names(), ["ann", "192.0.2.1", "192.0.2.2"])
        self.assertRaises(RemoteError, self.ann.say, "psst", "192.0.2.2")
        self.tell(Kind.GONE, "192.0.2.1")
        self.assertEqual(self.room.names(), ["ann", "192.0.2.2"])

    def test_a_late_farewell(self) -> None:
        """That an earlier Bob has left does not remove the one who is there."""
        self.tell(Kind.PRESENCE, "Bob", "joined", "second")
        self.tell(Kind.PRESENCE, "Bob", "left", "first")
        self.assertEqual(self.room.names(), ["ann", "Bob"])

    def test_moved(self) -> None:
        """A person whose name is held elsewhere now has been replaced here; nobody hears of it."""
        person = self.ann.outcomes[0]
        assert isinstance(person, Person)
        self.tell(Kind.MOVED, "ann", identity="somebody else")
        self.assertEqual(self.ann.replaced, 0)
        self.tell(Kind.MOVED, "ann", identity=person.identity)
        self.assertEqual((self.ann.replaced, self.room.names()), (1, ["ann"]))
        self.ann.leave()
        self.turns.end()
        self.assertEqual(len(self.log.appended), 0)

    def test_moved_back(self) -> None:
        """News of an earlier move does not concern who has come back since."""
        person = self.ann.outcomes[0]
        assert isinstance(person, Person)
        person.claim = replace(person.claim, since=50)
        self.tell(Kind.MOVED, "ann", identity=person.identity, place=50)
        self.assertEqual((self.ann.replaced, self.room.names()), (0, ["ann"]))

    def test_gone_and_the_roll(self) -> None:
        """Who is gone without a word is not listed; a new roll begins with nobody."""
        for name in ("Bob", "Cat"):
            self.tell(Kind.PRESENCE, name, "joined", f"id-{name}")
        self.assertEqual(self.tell(Kind.GONE, "Bob", identity="id-other"), [])
        self.assertEqual(self.tell(Kind.GONE, "Bob", identity="id-Bob"), [])
        self.assertEqual(self.room.names(), ["ann", "Cat"])
        self.assertEqual(self.tell(Kind.ROLL, "", identity=""), [])
        self.assertEqual(self.room.names(), ["ann"])

    def test_expelled(self) -> None:
        """When no name could be kept all are told, and nothing is said about it."""
        self.room.expel_all()
        self.turns.end()
        self.assertEqual((self.expelled, self.room.names()), ([1], []))
        self.assertEqual(len(self.log.appended), 0)

    def test_gap(self) -> None:
        """That something is lost is said to everybody."""
        self.assertEqual(
            self.tell(Kind.GAP, "", identity=""), ["server Messages up to here are gone."]
        )
