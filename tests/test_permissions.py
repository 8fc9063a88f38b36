"""Every request in every state by everybody, generated from the table of requests."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

from chatbox.chat.codes import Code
from chatbox.chat.gate import Admission, OpenGate, Refusal, Visitor
from chatbox.chat.sanctions import Sanction
from chatbox.chat.session import REQUESTS
from chatbox.chat.states import State
from tests import test_moderation, test_session
from tests.helpers.chat import NOON
from tests.helpers.permissions import NO_ANSWER, ROLES, WAITS, YES, permission

FIELDS = {
    "connect": "<s:newcomer>",
    "message_request": "<r:all><m:hi>",
    "download": "<m:a.txt>",
    "kick": "<r:carol>",
    "ban": "<r:carol>",
    "mute": "<r:carol>",
    "unban": "<r:dave>",
    "unmute": "<r:erin>",
}
"""What a request needs to be granted."""

NAMES = {"user": "bob", "muted": "mia", "operator": "olga"}


class SlowGate(OpenGate):
    """Takes its time, as one does that checks passwords."""

    def __init__(self) -> None:
        self.answer: Callable[[Admission | Refusal], None] | None = None

    def admit(self, visitor: Visitor, answer: Callable[[Admission | Refusal], None]) -> None:
        """Wait for the test."""
        self.answer = answer


class PermissionTests(test_moderation.RoomTestCase):
    """The table of permissions is what happens, cell by cell."""

    def setUp(self) -> None:
        super().setUp()
        self.client("carol")
        for kind, target in (("ban", "dave"), ("mute", "erin"), ("mute", NAMES["muted"])):
            self.moderation.sanctions.add(Sanction(kind, target, "alice", int(NOON), None, "why"))

    def joining(self, role: str) -> tuple[test_session.Client, SlowGate]:
        """Somebody who waits to be let in."""
        gate = SlowGate()
        client = test_session.Client(self, gate, test_moderation.HERE, self.moderation)  # type: ignore[arg-type]  # has what it needs
        client.send(f"<s:{NAMES[role]}><t:connect><q:1>")
        self.assertEqual(client.heard(), [])
        self.assertIs(client.session.state, State.JOINING)
        return client, gate

    def ask(self, client: test_session.Client, name: str) -> str:
        """Ask for it and return what comes of that."""
        client.send(f"<t:{name}>{FIELDS.get(name, '')}<q:5>")
        return self.answer(client)

    def answer(self, client: test_session.Client) -> str:
        """What has come of the request."""
        found = [one for one in client.heard() if one.sequence == 5]
        return (found[0].error or YES) if found else NO_ANSWER

    def in_state(self, state: State, role: str) -> test_session.Client:
        """Somebody in NAMELESS, HERE or GONE."""
        if state is State.NAMELESS:
            return self.stranger()
        client = self.client(NAMES[role])
        if state is State.GONE:
            client.session.connection_lost()
            client.heard()
        return client

    def test_every_cell(self) -> None:
        """What is granted has no error, what is refused has the one of the table."""
        cells = 0
        for (name, request), state, role in product(REQUESTS.items(), State, ROLES):
            if state is State.JOINING:
                continue
            self.setUp()
            found = self.ask(self.in_state(state, role), name)
            self.assertEqual(found, permission(name, request, state, role), (name, state, role))
            cells += 1
        self.assertEqual(cells, len(REQUESTS) * 3 * len(ROLES))

    def test_every_cell_while_joining(self) -> None:
        """A request waits; then it is one of somebody who is here, or still has no name."""
        outcomes: tuple[tuple[State, Admission | Refusal], ...] = (
            (State.HERE, Admission(None)),
            (State.NAMELESS, Refusal(Code.WRONG_PASSWORD)),
        )
        for (name, request), role, (state, outcome) in product(REQUESTS.items(), ROLES, outcomes):
            self.setUp()
            client, gate = self.joining(role)
            self.assertEqual(permission(name, request, State.JOINING, role), WAITS)
            self.assertEqual(self.ask(client, name), NO_ANSWER)
            self.assertIs(client.session.state, State.JOINING)
            assert gate.answer is not None
            let_in, gate.answer = gate.answer, None
            let_in(outcome)
            found = self.answer(client)
            if gate.answer is not None:  # a connect behind a refused one asks the gate again
                gate.answer(Admission(None))
                found = self.answer(client)
            self.assertEqual(found, permission(name, request, state, role), (name, role, state))

    def test_gone_while_joining(self) -> None:
        """Whoever does not wait gets no answer, and comes in nowhere."""
        for name in REQUESTS:
            self.setUp()
            client, gate = self.joining("operator")
            self.ask(client, name)
            client.session.connection_lost()
            assert gate.answer is not None
            gate.answer(Admission(None))
            self.assertEqual(client.heard(), [])
            self.assertEqual(self.room.names(), ["carol"])

    def test_in_the_name_of_another(self) -> None:
        """Nothing is done for somebody who says to be another, an operator neither."""
        for name, role in product(REQUESTS, ROLES):
            self.setUp()
            client = self.client(NAMES[role])
            client.send(f"<t:{name}><s:carol>{FIELDS.get(name, '').replace('<s:newcomer>', '')}")
            expected = "already-connected" if name == "connect" else "wrong-sender"
            self.assertEqual([one.error for one in client.heard()], [expected], name)
            self.assertIn("carol", self.room.names())

    def test_which_are_for_operators(self) -> None:
        """Nothing became everybody's, or nobody's, by mistake."""
        self.assertEqual(
            {name for name, request in REQUESTS.items() if request.operator},
            {"kick", "ban", "mute", "unban", "unmute", "get_ban_list"},
        )
