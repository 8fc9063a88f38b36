"""One client's conversation, line by line, with a log that takes its time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatbox.chat.codes import Code
from chatbox.chat.gate import NOWHERE, Gate, Origin
from chatbox.chat.history import DEFAULT_HISTORY, MAX_HISTORY, MAX_HISTORY_BYTES
from chatbox.chat.moderation import Moderation
from chatbox.chat.names import LocalNames
from chatbox.chat.outbox import Outbox
from chatbox.chat.pipeline import MAX_IN_PROGRESS
from chatbox.chat.room import Room
from chatbox.chat.session import REQUESTS, Session
from chatbox.chat.sharing import Offer
from chatbox.chat.states import TRANSITIONS, State
from chatbox.chat.turn import Turn
from chatbox.chat.wire import Message, format_line, parse_list
from chatbox.errors import LocalError, RemoteError
from chatbox.log import Kind, Record, gap
from tests.helpers.chat import DelayedLog, FakeShelf, File, Turns, Wire, tokens

SERVER = "server:192.0.2.1"


class Client:
    """The other end of a session."""

    def __init__(
        self,
        tests: SessionTests,
        gate: Gate | None = None,
        origin: Origin = NOWHERE,
        moderation: Moderation | None = None,
    ) -> None:
        self.tests = tests
        self.wire = Wire()
        self.hung_up = 0
        self.complaints: list[str] = []
        self.changes = 0
        self.outbox = Outbox(
            tests.room.fanout, self.wire, on_overflow=lambda: None, on_change=lambda: None
        )
        self.session = Session(
            tests.room,
            tests.shelf,
            tests.shelf,
            self.outbox,
            gate=gate,
            moderation=moderation,
            origin=origin,
            server=SERVER,
            peer="192.0.2.7",
            hang_up=self.on_hang_up,
            on_change=self.on_change,
            complain=lambda error: self.complaints.append(str(error.code)),
        )

    def on_hang_up(self) -> None:
        """Count."""
        self.hung_up += 1
        self.outbox.close()

    def on_change(self) -> None:
        """Count."""
        self.changes += 1

    def send(self, *lines: str | bytes) -> None:
        """Send lines."""
        for line in lines:
            self.session.receive(line.encode() if isinstance(line, str) else line)

    def heard(self) -> list[Message]:
        """Let everything happen and return what came."""
        self.tests.settle()
        return self.wire.take_messages()

    def ask_all(self, line: str | bytes) -> list[Message]:
        """Send a line and return all that comes."""
        self.send(line)
        return self.heard()

    def ask(self, line: str | bytes) -> Message:
        """Send a line and return the one that comes back."""
        self.send(line)
        [answer] = self.heard()
        return answer

    def error(self, line: str | bytes) -> str | None:
        """Send a line and return the code that comes back."""
        return self.ask(line).error


class SessionTests(SynchronousTestCase):
    """What clients ask and what they are answered."""

    def setUp(self) -> None:
        """Open a room with a shelf."""
        self.others: list[Client] = []
        """Everybody brought with a name."""
        self.turns = Turns()
        self.log = DelayedLog()
        self.room = Room(self.log, LocalNames(tokens()), Turn(self.turns.later))
        self.shelf = FakeShelf(File("a.txt", 5), File("it's.iso", 1 << 40))

    def settle(self) -> None:
        """Let everything happen that is on its way."""
        self.turns.end()
        while self.log.appended or self.log.asked:
            self.log.settle()
            self.turns.end()

    def client(self, name: str | None = None) -> Client:
        """Bring a client, named if it has a name."""
        client = Client(self)
        if name is not None:
            client.send(f"<s:{name}><r:{SERVER}><t:connect>")
            self.assertEqual(client.heard()[0].text, "True")
            for other in self.others:
                other.heard()
            self.others.append(client)
        return client

    # Connecting.

    def test_connect(self) -> None:
        """The answer comes first, with a token; then the client hears itself come."""
        client = self.client()
        client.send("<s:alice><r:server:192.0.2.1><t:connect><q:1>")
        answer, presence = client.heard()
        self.assertEqual(
            answer,
            Message(
                SERVER,
                "alice",
                text="True",
                response="connect_response",
                sequence=1,
                key="token-0000000000000001",
            ),
        )
        self.assertEqual(
            (presence.sender, presence.recipient, presence.text, presence.response),
            ("alice", "all", "joined", "presence"),
        )
        self.assertIs(client.session.state, State.HERE)

    def test_name_as_the_profile_has_it(self) -> None:
        """The client is told its name as it is known from now on."""
        client = self.client()
        client.send("<s: Al \u3000 ice ><t:connect>")
        self.assertEqual(client.heard()[0].recipient, "Al ice")

    def test_quoted(self) -> None:
        """Quotes of the listing are notation."""
        client = self.client()
        client.send('<s:"alice"><r:\'server:1.2.3.4\'><t:"connect">')
        self.assertEqual(client.heard()[0].recipient, "alice")

    def test_refused_names(self) -> None:
        """A refusal says why, in the connect's own answer; another name may be tried at once."""
        self.client("alice")
        client = self.client()
        for name, code in (
            ("<s:alice>", "name-taken"),
            ("<s:ALICE>", "name-taken"),
            ("<s:\uff41lice>", "name-taken"),
            ("", "name-empty"),
            ("<s:>", "name-empty"),
            ("<s:  >", "name-empty"),
            (f"<s:{'a' * 33}>", "name-too-long"),
            ("<s:a\x1b[0m>", "name-invalid"),
            (r"<s:a\nb>", "name-invalid"),
            ("<s:\u202egnp>", "name-invalid"),
            ("<s:all>", "name-reserved"),
            ("<s:server:1.2.3.4>", "name-reserved"),
            ("<s:bob><k:guess>", "bad-token"),
        ):
            answer = client.ask(f"{name}<t:connect><q:3>")
            self.assertEqual((name, answer.error), (name, code))
            self.assertEqual((answer.text, answer.response), ("False", "connect_response"))
            self.assertEqual((answer.sender, answer.sequence), (SERVER, 3))
        client.send("<s:bob><t:connect>")
        self.assertEqual(client.heard()[0].text, "True")

    def test_name_in_refusals(self) -> None:
        """Before it has a name, a client is called what it asked for, if that is a name."""
        self.client("alice")
        client = self.client()
        self.assertEqual(client.ask("<t:ping>").recipient, "")
        self.assertEqual(client.ask("<s: Alice ><t:connect>").recipient, "Alice")
        self.assertEqual(client.ask("<s:all><t:connect>").recipient, "")

    def test_connect_twice(self) -> None:
        """A connection has one name."""
        client = self.client("alice")
        for name in ("alice", "bob"):
            answer = client.ask(f"<s:{name}><t:connect>")
            self.assertEqual((answer.text, answer.error), ("False", "already-connected"))
        self.assertEqual(client.ask("<t:get_user_list>").text, "['alice']")

    def test_log_unavailable_at_connect(self) -> None:
        """Without a log nobody can come, but may try again."""
        client = self.client()
        client.send("<s:alice><t:connect>")
        self.turns.end()
        self.log.fail()
        [answer] = client.heard()
        self.assertEqual((answer.text, answer.error), ("False", "log-unavailable"))
        client.send("<s:alice><t:connect>")
        self.assertEqual(client.heard()[0].text, "True")

    def test_before_connect(self) -> None:
        """What needs a name is refused without one, each in its own way."""
        client = self.client()
        for request, (text, response) in {
            "get_user_list": (Code.NOT_CONNECTED.sentence, "error"),
            "get_file": (Code.NOT_CONNECTED.sentence, "error"),
            "message_request": ("False", "message_response"),
            "download": ("ERR", "download_response"),
            "probe": ("ERR", "probe_response"),
            "history": (Code.NOT_CONNECTED.sentence, "error"),
        }.items():
            answer = client.ask(f"<s:alice><r:all><t:{request}><m:x><q:9>")
            self.assertEqual(
                answer,
                Message(
                    SERVER, "", text=text, error="not-connected", response=response, sequence=9
                ),
            )

    def test_right_behind_the_connect(self) -> None:
        """What follows a connect at once waits until the name is held."""
        client = self.client()
        client.send(
            "<s:a><r:server:x><t:connect>",
            "<s:a><r:all><t:message_request><m:hi>",
            "<t:get_user_list>",
        )
        self.assertEqual(
            [(m.response, m.text) for m in client.heard()],
            [
                ("connect_response", "True"),
                ("presence", "joined"),
                ("message_received", "hi"),
                ("message_response", "True"),
                ("user_list", "['a']"),
            ],
        )

    def test_right_behind_a_refused_connect(self) -> None:
        """If the name is refused, what follows is refused too."""
        self.client("a")
        client = self.client()
        client.send("<s:a><t:connect>", "<r:all><t:message_request><m:hi>")
        self.assertEqual([m.error for m in client.heard()], ["name-taken", "not-connected"])

    # Resuming.

    def test_resume(self) -> None:
        """The token takes the name from the ghost, which is told and closed; no noise."""
        ghost, bob = self.client("alice"), self.client("bob")
        client = self.client()
        client.send("<s:alice><t:connect><k:token-0000000000000001>")
        [answer] = client.heard()
        self.assertEqual((answer.text, answer.key), ("True", "token-0000000000000001"))
        [farewell] = ghost.heard()
        self.assertEqual(
            (farewell.error, farewell.response, ghost.hung_up), ("replaced", "error", 1)
        )
        self.assertIs(ghost.session.state, State.GONE)
        ghost.session.connection_lost()
        self.assertEqual((bob.heard(), bob.ask("<t:get_user_list>").text), ([], "['alice','bob']"))

    def test_resume_with_something_on_its_way(self) -> None:
        """The ghost's message is said; nobody is told about it twice."""
        ghost = self.client("alice")
        ghost.send("<r:all><t:message_request><m:last words>")
        client = self.client()
        client.send("<s:alice><t:connect><k:token-0000000000000001>")
        self.assertEqual([m.text for m in client.heard()], ["True", "last words"])
        self.assertEqual([m.error for m in ghost.heard()], ["replaced"])

    # Disconnecting.

    def test_disconnect(self) -> None:
        """Goodbye is answered, then the server hangs up; the name is free."""
        alice, bob = self.client("alice"), self.client("bob")
        alice.send("<t:disconnect><q:5>", "<t:ping>")
        self.assertEqual(
            alice.heard(),
            [Message(SERVER, "alice", text="True", response="disconnect_response", sequence=5)],
        )
        self.assertEqual((alice.hung_up, alice.session.state), (1, State.GONE))
        self.assertEqual([(m.sender, m.text) for m in bob.heard()], [("alice", "left")])
        self.client("alice")

    def test_disconnect_without_a_name(self) -> None:
        """One may go without having been called anything."""
        client = self.client()
        self.assertEqual(client.ask("<t:disconnect>").text, "True")
        self.assertEqual(client.hung_up, 1)

    def test_disconnect_waits(self) -> None:
        """All that was asked before goodbye is answered before it."""
        client = self.client("alice")
        client.send("<r:all><t:message_request><m:hi>", "<t:disconnect>")
        self.turns.end()
        self.assertEqual((client.wire.take(), client.hung_up), (b"", 0))
        self.assertEqual(
            [m.response for m in client.heard()],
            ["message_received", "message_response", "disconnect_response"],
        )

    def test_lost(self) -> None:
        """A lost connection frees the name; answers on their way go nowhere."""
        alice, bob = self.client("alice"), self.client("bob")
        alice.send("<r:all><t:message_request><m:hi>", "<t:history>", "<t:ping>")
        alice.session.connection_lost()
        alice.session.connection_lost()
        self.assertEqual([m.text for m in bob.heard()], ["hi", "left"])
        self.assertEqual((alice.heard(), alice.hung_up), ([], 0))
        self.client("alice")

    def test_lost_while_joining(self) -> None:
        """The same before the name is held."""
        alice = self.client()
        alice.send("<s:alice><t:connect>", "<t:ping>")
        alice.session.connection_lost()
        self.assertEqual(alice.heard(), [])
        self.client("alice")

    def test_input_ended(self) -> None:
        """A client that sends no more gets its answers, then the server hangs up."""
        client = self.client()
        client.send("<s:a><t:connect>", "<s:a><r:all><t:message_request><m:hi>")
        client.session.input_ended()
        self.assertEqual(client.hung_up, 0)
        client.send("<t:ping>")
        self.assertEqual(
            [m.response for m in client.heard()],
            ["connect_response", "presence", "message_received", "message_response"],
        )
        self.assertEqual((client.hung_up, self.room.names()), (1, []))

    def test_input_ended_without_a_request(self) -> None:
        """Who asks nothing is owed nothing."""
        client = self.client("alice")
        client.session.input_ended()
        self.assertEqual(client.hung_up, 1)
        client.session.input_ended()
        self.assertEqual(client.hung_up, 1)

    def test_dismissed(self) -> None:
        """Who is sent away hears why; everybody else hears that they left."""
        alice, bob = self.client("alice"), self.client("bob")
        alice.session.dismiss(Code.TOO_SLOW)
        alice.session.dismiss(Code.SERVER_STOPPING)
        [farewell] = alice.heard()
        self.assertEqual(
            farewell,
            Message(
                SERVER, "alice", text=Code.TOO_SLOW.sentence, error="too-slow", response="error"
            ),
        )
        self.assertEqual(alice.hung_up, 1)
        self.assertEqual([m.text for m in bob.heard()], ["left"])

    # Talking.

    def test_broadcast(self) -> None:
        """Everybody hears it, the speaker too, with its place and time; then True."""
        alice, bob = self.client("alice"), self.client("bob")
        alice.send("<s:alice><r:all><t:message_request><m:hi><q:1>")
        heard, answer = alice.heard()
        self.assertEqual(
            heard,
            Message(
                "alice",
                "all",
                text="hi",
                response="message_received",
                sequence=3,
                time=1_700_000_000_000,
            ),
        )
        self.assertEqual(
            answer, Message(SERVER, "alice", text="True", response="message_response", sequence=1)
        )
        self.assertEqual(bob.heard(), [heard])

    def test_private(self) -> None:
        """A private message comes to its recipient, with the recipient's own name."""
        alice, bob, eve = (self.client(name) for name in ("alice", "Bob", "eve"))
        answer = alice.ask("<r:bob><t:message_request><m:psst>")
        self.assertEqual((answer.text, answer.response), ("True", "message_response"))
        [heard] = bob.heard()
        self.assertEqual((heard.sender, heard.recipient, heard.text), ("alice", "Bob", "psst"))
        self.assertEqual(eve.heard(), [])

    def test_refused_messages(self) -> None:
        """A refusal says why and costs nothing else."""
        alice, bob = self.client("alice"), self.client("bob")
        for fields, code in (
            ("<m:hi>", "missing-field"),
            ("<r:><m:hi>", "missing-field"),
            ("<r:all>", "text-empty"),
            ("<r:all><m:>", "text-empty"),
            (f"<r:all><m:{'x' * 4097}>", "text-too-long"),
            ("<r:all><m:\x07>", "control-character"),
            ("<r:all><m:\x00>", "control-character"),
            ("<r:all><m:\x1b]0;title>", "control-character"),
            ("<r:carol><m:hi>", "no-such-user"),
            ("<r:server:192.0.2.1><m:hi>", "no-such-user"),
            ("<s:bob><r:all><m:hi>", "wrong-sender"),
            ("<s:\x00><r:all><m:hi>", "wrong-sender"),
        ):
            answer = alice.ask(f"{fields}<t:message_request><q:4>")
            self.assertEqual((fields, answer.error), (fields, code))
            self.assertEqual(
                (answer.text, answer.response, answer.sequence), ("False", "message_response", 4)
            )
        self.assertEqual(bob.heard(), [])
        self.assertEqual(alice.complaints, [])

    def test_any_allowed_text(self) -> None:
        """What may be said is heard exactly as it was said."""
        alice = self.client("alice")
        for text in (r"\<b\> \\o/", r"a\nb\r\n", "\ttab", "\N{GRINNING FACE}", "\u202eabc\u200f"):
            alice.send(f"<r:all><t:message_request><m:{text}>")
            heard, answer = alice.heard()
            self.assertEqual(answer.text, "True")
            self.assertIn(f"<m:{text}>".encode(), format_line(heard))

    def test_own_name_in_any_spelling(self) -> None:
        """A sender that is the same name by the profile is the client itself."""
        alice = self.client("alice")
        for sender in ("alice", "ALICE", " \uff41lice", "", '"alice"'):
            self.assertEqual(alice.error(f"<s:{sender}><t:ping>"), None)
        self.assertEqual(alice.error("<s:alicia><t:ping>"), "wrong-sender")

    def test_log_unavailable(self) -> None:
        """True is said only of what is in the log."""
        alice = self.client("alice")
        alice.send("<r:all><t:message_request><m:hi><q:1>")
        self.turns.end()
        self.log.fail()
        self.assertEqual(
            alice.heard(),
            [
                Message(
                    SERVER,
                    "alice",
                    text="False",
                    error="log-unavailable",
                    response="message_response",
                    sequence=1,
                )
            ],
        )

    # Lists, files, ping.

    def test_user_list(self) -> None:
        """Who is here, quoted."""
        alice = self.client("alice")
        self.client("o'neill")
        answer = alice.ask("<t:get_user_list><q:0>")
        self.assertEqual(
            answer,
            Message(
                SERVER, "alice", text=r"['alice','o\'neill']", response="user_list", sequence=0
            ),
        )
        self.assertEqual(parse_list(answer.text or ""), ["alice", "o'neill"])

    def test_user_list_is_of_the_moment(self) -> None:
        """Who came while an answer ahead of the list waited is in the list."""
        alice, bob = self.client("alice"), Client(self)
        bob.send("<s:bob><t:connect>")
        self.turns.end()
        alice.send("<r:all><t:message_request><m:hi>", "<t:get_user_list>", "<t:ping>")
        self.assertEqual(
            [(m.response, m.text) for m in alice.heard()],
            [
                ("presence", "joined"),
                ("message_received", "hi"),
                ("message_response", "True"),
                ("user_list", "['alice','bob']"),
                ("ping_response", None),
            ],
        )

    def test_file_list(self) -> None:
        """Names and sizes in the same order."""
        answer = self.client("alice").ask("<t:get_file>")
        self.assertEqual(
            answer,
            Message(
                SERVER,
                "alice",
                text=r"['a.txt','it\'s.iso']",
                response="file_list",
                size=(5, 1 << 40),
            ),
        )

    def test_empty_shelf(self) -> None:
        """A list of nothing."""
        self.shelf.files = ()
        answer = self.client("alice").ask("<t:get_file>")
        self.assertEqual((answer.text, answer.size), ("[]", ()))

    def test_download(self) -> None:
        """The answer carries what the transfer needs, and the shelf learns who asked."""
        answer = self.client("alice").ask("<t:download><m:a.txt><q:1>")
        self.assertEqual(
            answer,
            Message(
                SERVER,
                "alice",
                text="55000",
                response="download_response",
                sequence=1,
                key="TICKET",
                size=5,
            ),
        )
        self.assertEqual(self.shelf.offered, [("alice", "a.txt")])

    def test_download_with_its_identity(self) -> None:
        """What is known of the file comes along, so that a client may resume it."""
        offer = Offer(port=55000, ticket="TICKET", size=5, mtime_ms=1234, digest="ab" * 32)
        with mock.patch.object(self.shelf, "offer", lambda *_: offer):
            answer = self.client("alice").ask("<t:download><m:a.txt><q:1>")
        self.assertEqual((answer.time, answer.size, answer.digest), (1234, 5, "ab" * 32))

    def test_probe(self) -> None:
        """A look at the path is offered like a file, with how many ports there are."""
        alice = self.client("alice")
        answer = alice.ask("<t:probe><z:5000><n:3><q:1>")
        expected = Message(
            SERVER,
            "alice",
            text="55003",
            response="probe_response",
            sequence=1,
            key="TICKET",
            size=5000,
            count=20,
        )
        self.assertEqual(answer, expected)
        self.assertEqual(alice.ask("<t:probe>").size, 7)
        self.assertEqual(self.shelf.offered, [("alice", "probe 3"), ("alice", "probe None")])

    def test_refused_probes(self) -> None:
        """Several sizes are none, and whatever the transfers say goes back as a code."""
        alice = self.client("alice")
        self.assertEqual(alice.ask("<t:probe><z:[1,2]>").error, "bad-field")
        self.shelf.error = RemoteError("too-many-downloads")
        answer = alice.ask("<t:probe>")
        self.assertEqual(
            (answer.text, answer.error, answer.response),
            ("ERR", "too-many-downloads", "probe_response"),
        )

    def test_refused_downloads(self) -> None:
        """Whatever the shelf says of a name goes back as a code."""
        alice = self.client("alice")
        for fields, error, code in (
            ("", None, "missing-field"),
            ("<m:>", None, "missing-field"),
            ("<m:b.txt>", None, "no-such-file"),
            ("<m:../a.txt>", RemoteError("bad-file-name"), "bad-file-name"),
            ("<m:a.txt>", RemoteError("too-many-downloads"), "too-many-downloads"),
            ("<m:a.txt>", OSError(24, "Too many open files"), "unavailable"),
        ):
            self.shelf.error = error
            answer = alice.ask(f"<t:download>{fields}")
            self.assertEqual(
                (answer.text, answer.error, answer.response), ("ERR", code, "download_response")
            )

    def test_unreadable_shelf(self) -> None:
        """A shelf that cannot be read is no shelf, for now."""
        self.shelf.error = RemoteError("unavailable")
        answer = self.client("alice").ask("<t:get_file>")
        self.assertEqual((answer.error, answer.response), ("unavailable", "error"))

    def test_ping(self) -> None:
        """The server is there, with or without a name."""
        self.assertEqual(
            self.client().ask("<t:ping><q:7>"),
            Message(SERVER, "", response="ping_response", sequence=7),
        )
        self.assertEqual(
            self.client("a").ask("<t:ping>"), Message(SERVER, "a", response="ping_response")
        )

    # History.

    def say(self, client: Client, *texts: str) -> list[int]:
        """Say things and return their places in the log."""
        client.send(*(f"<r:all><t:message_request><m:{text}>" for text in texts))
        return [m.sequence or 0 for m in client.heard() if m.response == "message_received"]

    def test_history(self) -> None:
        """The messages as they were heard, then how many they were."""
        alice = self.client("alice")
        ids = self.say(alice, "a", "b", "c")
        alice.send("<t:history><n:2><q:1>")
        *messages, answer = alice.heard()
        self.assertEqual(
            [(m.text, m.sequence, m.response) for m in messages],
            [("b", ids[1], "message_received"), ("c", ids[2], "message_received")],
        )
        expected = Message(
            SERVER, "alice", text="2", response="history_response", sequence=1, before=ids[1]
        )
        self.assertEqual(answer, expected)

    def test_history_page_by_page(self) -> None:
        """While there is more, the answer says after which place."""
        alice = self.client("alice")
        ids = self.say(alice, *"abcde")
        pages = []
        after: int | None = 0
        while after is not None:
            alice.send(f"<t:history><a:{after}><n:2>")
            *messages, answer = alice.heard()
            self.assertEqual(answer.text, str(len(messages)))
            pages.append("".join(m.text or "" for m in messages))
            after = answer.after
        self.assertEqual(pages, ["ab", "cd", "e"])
        self.assertEqual(alice.ask(f"<t:history><a:{ids[3]}><n:0>").after, ids[3])
        self.assertEqual(alice.ask(f"<t:history><a:{ids[4]}>").after, None)

    def test_history_backwards(self) -> None:
        """While there are older messages, the answer says before which place; then it says 0."""
        alice = self.client("alice")
        ids = self.say(alice, *"abcde")
        pages = []
        before = ids[4] + 1
        while before:
            alice.send(f"<t:history><b:{before}><n:2>")
            *messages, answer = alice.heard()
            self.assertEqual((answer.text, answer.after), (str(len(messages)), None))
            pages.append("".join(m.text or "" for m in messages))
            assert answer.before is not None
            before = answer.before
        self.assertEqual(pages, ["de", "bc", "a"])
        for fields, expected in (
            ("<n:0>", ids[4] + 1),
            ("<n:5>", 0),
            ("<n:4>", ids[1]),
            (f"<b:{ids[0]}>", 0),
            ("<b:0>", 0),
            ("<b:0><n:0>", 0),
            ("<a:0><n:2><b:3>", None),
        ):
            alice.send(f"<t:history>{fields}")
            self.assertEqual(alice.heard()[-1].before, expected, fields)

    def test_history_with_marks(self) -> None:
        """Where messages are gone a mark stands among the others, and does not count as one."""
        said = {id: Record(id, 0, Kind.MESSAGE, "bob", "all", str(id)) for id in range(1, 10)}
        kept = [gap(id) if id in (3, 4, 8) else record for id, record in said.items()]

        def history(
            after: int | None,
            count: int,
            reader: str,
            answer: Callable[[Sequence[Record] | None], None],
            before: int | None,
        ) -> None:
            rest = [r for r in kept if (after or 0) < r.id < (before or 100)]
            answer(rest[-count:] if after is None else rest[:count])

        self.patch(self.log, "history", history)
        alice = self.client("alice")
        for size in range(1, 11):
            shown: list[tuple[int | None, str]] = []
            after: int | None = 0
            while after is not None:
                alice.send(f"<t:history><a:{after}><n:{size}>")
                *lines, answer = alice.heard()
                shown += [(m.sequence, m.response or "") for m in lines]
                messages = [m for m in lines if m.response == "message_received"]
                self.assertEqual(answer.text, str(len(messages)))
                after = answer.after
            places = [place for place, _ in shown]
            self.assertEqual(places, list(said), f"{size} at a time")
            self.assertEqual([p for p, kind in shown if kind == "gap"], [3, 4, 8])
            shown.clear()
            before: int | None = 100
            while before:
                alice.send(f"<t:history><b:{before}><n:{size}>")
                *lines, answer = alice.heard()
                shown[:0] = [(m.sequence, m.response or "") for m in lines]
                before = answer.before
            self.assertEqual([place for place, _ in shown], list(said), f"{size} back at a time")
        alice.send("<t:history><n:3>")
        self.assertEqual([m.sequence for m in alice.heard()[:-1]], [6, 7, 8, 9])

    def test_history_sees_what_was_just_said(self) -> None:
        """History waits for the messages before it."""
        alice = self.client("alice")
        alice.send("<r:all><t:message_request><m:hi>", "<t:history>", "<t:ping>")
        self.assertEqual(
            [m.response for m in alice.heard()],
            [
                "message_received",
                "message_response",
                "message_received",
                "history_response",
                "ping_response",
            ],
        )

    def test_history_bounds(self) -> None:
        """However much is asked for, an answer is bounded; the rest can be asked for next."""
        alice = self.client("alice")
        big = "x" * 4000
        ids: list[int] = []
        for _ in range(MAX_HISTORY_BYTES // 4000 // 20 + 1):
            ids += self.say(alice, *[big] * 20)
        alice.send("<t:history><a:0><n:1000000>")
        size = len(b"".join(map(format_line, alice.heard()[:-1])))
        self.assertTrue(MAX_HISTORY_BYTES - 5000 < size <= MAX_HISTORY_BYTES)
        alice.send("<t:history><a:0><n:1000000>")
        *messages, answer = alice.heard()
        self.assertEqual(answer.after, messages[-1].sequence)
        alice.send("<t:history>")
        *messages, answer = alice.heard()
        self.assertEqual((messages[-1].sequence, answer.after), (ids[-1], None))
        self.assertEqual(answer.before, messages[0].sequence)

    def test_history_counts(self) -> None:
        """Without a number there are some; with a large one there is a bound."""
        alice = self.client("alice")
        for _ in range(MAX_HISTORY // 50 + 1):
            self.say(alice, *["x"] * 50)
        for fields, expected in (
            ("", DEFAULT_HISTORY),
            ("<a:0>", DEFAULT_HISTORY),
            ("<n:9999><a:0>", MAX_HISTORY),
            ("<n:9999>", MAX_HISTORY),
        ):
            alice.send(f"<t:history>{fields}")
            self.assertEqual(alice.heard()[-1].text, str(expected))

    def test_history_unavailable(self) -> None:
        """A log that cannot be read is said to be so."""
        alice = self.client("alice")
        self.log.reachable = False
        answer = alice.ask("<t:history>")
        self.assertEqual((answer.error, answer.response), ("log-unavailable", "error"))

    # What makes no sense.

    def test_bad_lines(self) -> None:
        """A line that makes no sense is answered, and the connection stays."""
        for client in (self.client(), self.client("alice")):
            for line, code in (
                (b"", "bad-line"),
                (b"GET / HTTP/1.1", "bad-line"),
                (b"<t:ping", "bad-line"),
                (b"<t:ping><t:ping>", "duplicate-field"),
                (b"<t:ping><q:x>", "bad-field"),
                (b"<m:\xff\xfe>", "not-utf8"),
            ):
                answer = client.ask(line)
                self.assertEqual((line, answer.error, answer.response), (line, code, "error"))
                self.assertTrue(answer.text)
            self.assertEqual(len(client.complaints), 6)
            self.assertEqual(client.ask("<t:ping>").response, "ping_response")

    def test_unknown_requests(self) -> None:
        """So is a request that does not exist, with its number."""
        alice = self.client("alice")
        for fields, code in (
            ("<t:fly>", "unknown-request"),
            ("<t:>", "unknown-request"),
            ("<t:PING>", "unknown-request"),
            ("<t:__init__>", "unknown-request"),
            ("<m:hi>", "missing-field"),
            ("<p:ping_response>", "missing-field"),
        ):
            answer = alice.ask(f"{fields}<q:6>")
            self.assertEqual((answer.error, answer.response, answer.sequence), (code, "error", 6))

    def test_line_that_was_never_handed_over(self) -> None:
        """A line that the owner refuses is answered in its place."""
        alice = self.client("alice")
        alice.send("<r:all><t:message_request><m:hi>")
        alice.session.refuse(RemoteError(Code.TOO_LONG))
        self.assertEqual([m.error for m in alice.heard()], [None, None, "too-long"])
        self.assertEqual(alice.complaints, ["too-long"])

    def test_our_own_mistake(self) -> None:
        """A bug costs one answer, is logged, and the connection stays."""
        self.shelf.error = ZeroDivisionError()
        alice = self.client("alice")
        answer = alice.ask("<t:download><m:a.txt><q:1>")
        self.assertEqual((answer.text, answer.error, answer.sequence), ("ERR", "internal-error", 1))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(alice.error("<t:ping>"), None)

    @given(
        st.lists(
            st.binary(max_size=50) | st.sampled_from([f"<t:{r}>".encode() for r in REQUESTS]),
            max_size=20,
        )
    )
    def test_any_lines(self, lines: list[bytes]) -> None:
        """Every line is answered once, in order, until goodbye, whatever it is."""
        self.setUp()
        client = self.client()
        for number, line in enumerate(lines):
            client.send(line.replace(b">", b"><q:%d>" % number, 1))
        answers = [m for m in client.heard() if m.sender == SERVER]
        numbers = [m.sequence for m in answers if m.sequence is not None]
        self.assertEqual(numbers, sorted(numbers))
        if not client.hung_up:
            self.assertEqual(len(answers), len(lines))

    # Order and bounds.

    def test_pipelined(self) -> None:
        """Answers come in the order of the requests, though some wait for the log."""
        alice = self.client("alice")
        alice.send(
            "<r:all><t:message_request><m:1><q:1>",
            "<t:ping><q:2>",
            "<r:nobody><t:message_request><m:x><q:3>",
            "nonsense",
            "<r:all><t:message_request><m:2><q:4>",
            "<t:ping><q:5>",
        )
        self.turns.end()
        self.assertEqual(alice.wire.take(), b"")
        self.assertEqual(len(self.log.appended), 1)
        answers = [m for m in alice.heard() if m.sender == SERVER]
        self.assertEqual([m.sequence for m in answers], [1, 2, 3, None, 4, 5])

    def test_busy(self) -> None:
        """Past a number of unanswered requests the session wants to read no more, for a while."""
        alice = self.client("alice")
        for _ in range(MAX_IN_PROGRESS - 1):
            alice.send("<r:all><t:message_request><m:hi>")
        self.assertFalse(alice.session.busy)
        alice.send("<r:all><t:message_request><m:hi>")
        self.assertTrue(alice.session.busy)
        before = alice.changes
        alice.heard()
        self.assertFalse(alice.session.busy)
        self.assertGreater(alice.changes, before)


class TableTests(SynchronousTestCase):
    """The tables."""

    def test_walk(self) -> None:
        """Every way in the table can be gone, and no other; nothing leads out of GONE."""
        room = Room(DelayedLog(), LocalNames(tokens()), Turn(lambda work: None))
        outbox = Outbox(room.fanout, Wire(), on_overflow=lambda: None, on_change=lambda: None)
        shelf = FakeShelf()
        for start, goal in product(State, State):
            session = Session(
                room,
                shelf,
                shelf,
                outbox,
                server=SERVER,
                peer="",
                hang_up=lambda: None,
                on_change=lambda: None,
                complain=lambda error: None,
            )
            session._state = start
            if goal in TRANSITIONS[start]:
                session._become(goal)
                self.assertIs(session.state, goal)
            else:
                self.assertRaises(LocalError, session._become, goal)
        self.assertEqual(set(TRANSITIONS), set(State))
        self.assertEqual(TRANSITIONS[State.GONE], frozenset())

    def test_requests(self) -> None:
        """Nothing can be asked while joining or once gone; what must be alone is."""
        for name, request in REQUESTS.items():
            self.assertTrue(request.states, name)
            self.assertFalse(request.states & {State.JOINING, State.GONE}, name)
        self.assertTrue(REQUESTS["connect"].alone)
