"""The client's side of the chat, line by line and without any transport."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatbox.chat.wire import Message, format_line, parse_line
from chatbox.client.chat.events import (
    EVERYONE,
    Event,
    Failed,
    FileList,
    Garbled,
    HistoryPage,
    Joined,
    JoinRefused,
    Kind,
    Left,
    Listed,
    Lost,
    Offer,
    Presence,
    Problem,
    Request,
    Said,
    Succeeded,
    UserList,
)
from chatbox.client.chat.lines import LineBuffer
from chatbox.client.chat.session import MAX_PENDING, TRANSITIONS, Cause, ClientSession, State
from chatbox.errors import LocalError


def events(session: ClientSession) -> list[Event]:
    """All that has happened since this was last asked."""
    happened = []
    while (event := session.next_event()) is not None:
        happened.append(event)
    return happened


def sent(session: ClientSession) -> list[Message]:
    """All that the session wants to send."""
    return [parse_line(line) for line in session.data_to_send().splitlines()]


def receive(session: ClientSession, *messages: Message | bytes) -> list[Event]:
    """Hand lines of the server to the session, and return what it makes of them."""
    for message in messages:
        session.receive_data(message if isinstance(message, bytes) else format_line(message))
    return events(session)


def joined(name: str = "alice", limits: str | None = None) -> ClientSession:
    """A session that has joined."""
    session = ClientSession()
    number = session.join(name, "192.0.2.1")
    fields = {"text": "True", "recipient": name, "key": "T", "limits": limits}
    receive(session, answer("connect_response", number, **fields))
    session.data_to_send()
    return session


def answer(response: str, number: int | None, **fields: object) -> Message:
    """An answer of the server."""
    values = {"sender": "server:192.0.2.1", "recipient": "alice", "sequence": number, **fields}
    return Message(response=response, **values)  # type: ignore[arg-type]


def said(text: str, id: int, recipient: str = EVERYONE) -> Message:
    """What somebody says, as the server passes it on."""
    return Message(
        sender="bob",
        recipient=recipient,
        text=text,
        response="message_received",
        sequence=id,
        time=1000 * id,
    )


class JoiningTests(SynchronousTestCase):
    """From connected to joined, and what may go wrong there."""

    def test_join(self) -> None:
        """A join asks for the name and is over when the server says True."""
        session = ClientSession()
        number = session.join("alice", "192.0.2.1", key="old", password="secret")
        self.assertEqual(
            sent(session),
            [
                Message(
                    sender="alice",
                    recipient="server:192.0.2.1",
                    request="connect",
                    text="secret",
                    key="old",
                    sequence=number,
                )
            ],
        )
        self.assertEqual(session.state, State.JOINING)
        happened = receive(
            session,
            answer(
                "connect_response",
                number,
                text="True",
                recipient="Alice",
                key="token",
                limits="rate=50 what burst=x text=4096 =1 a=1=2 line=9216",
            ),
        )
        limits = {"rate": 50, "text": 4096, "line": 9216}
        self.assertEqual(happened, [Joined("Alice", "token", limits)])
        self.assertEqual(session.limits, limits)
        self.assertEqual(
            (session.state, session.name, session.key), (State.JOINED, "Alice", "token")
        )

    def test_refused_name_may_be_followed_by_another(self) -> None:
        """After a refusal the same connection can ask for another name."""
        session = ClientSession()
        number = session.join("all", "x")
        happened = receive(
            session, answer("connect_response", number, text="False", error="name-reserved")
        )
        self.assertEqual(happened, [JoinRefused("all", Problem("name-reserved"))])
        self.assertEqual(session.state, State.FRESH)
        self.assertGreater(session.join("alice", "x"), number)

    def test_error_answers_a_join(self) -> None:
        """A refusal that comes as an error ends the wait, whether or not it has our number."""
        for number in (1, None):
            session = ClientSession()
            session.join("alice", "x")
            happened = receive(session, answer("error", number, text="Why.", error="busy"))
            self.assertEqual(happened, [JoinRefused("alice", Problem("busy", "Why."))])
            self.assertEqual(session.pending, ())

    def test_requests_need_a_name(self) -> None:
        """Asking for something before having joined is a bug of ours."""
        session = ClientSession()
        for ask in (session.ask_users, session.ask_files, session.ping, session.leave):
            self.assertRaises(LocalError, ask)
        self.assertEqual(session.data_to_send(), b"")

    def test_transitions_are_closed(self) -> None:
        """Every state is in the table, leads to states that are, and ends when the link does."""
        self.assertEqual(set(TRANSITIONS), set(State))
        for state, ways in TRANSITIONS.items():
            self.assertEqual(ways.get(Cause.LOST), None if state is State.ENDED else State.ENDED)


class RequestTests(SynchronousTestCase):
    """Each request, its line, and what becomes of its answer."""

    def test_too_long_to_be_read(self) -> None:
        """A refusal without a number, because the line was not read, is of the longest message."""
        session = joined()
        session.ping()
        for text in ("short", "<" * 6000, "x" * 10_000, "y" * 5000):
            session.say(text)
        happened: list[Event] = []
        for _ in range(2):
            refusal = answer("error", None, text="Long.", error="too-long")
            happened += receive(session, refusal)
        refused = [
            one.request and one.request.text[0] for one in happened if isinstance(one, Failed)
        ]
        self.assertEqual(refused, ["<", "x"])
        self.assertEqual([one.text for one in session.pending], ["", "short", "y" * 5000])
        session = joined()
        self.assertEqual(receive(session, refusal), [Failed(None, Problem("too-long", "Long."))])

    def test_say(self) -> None:
        """What was said is in the log once the server says True."""
        session = joined()
        number = session.say("hi <all>", "bob")
        self.assertEqual(
            sent(session),
            [Message(recipient="bob", request="message_request", text="hi <all>", sequence=number)],
        )
        request = Request(number, Kind.SAY, "bob", "hi <all>")
        self.assertEqual(session.pending, (request,))
        happened = receive(session, answer("message_response", number, text="True", time=5))
        self.assertEqual(happened, [Succeeded(request, 5)])
        self.assertEqual(session.pending, ())

    def test_say_refused(self) -> None:
        """Whatever is not True is a refusal."""
        for fields in ({"text": "False", "error": "no-such-user"}, {"error": "no-such-user"}):
            session = joined()
            number = session.say("hi", "bob")
            happened = receive(session, answer("message_response", number, **fields))
            request = Request(number, Kind.SAY, "bob", "hi")
            self.assertEqual(happened, [Failed(request, Problem("no-such-user"))])

    def test_how_long_it_may_be(self) -> None:
        """Of a text that is too long we say how long it is, where the server has told the limit."""
        for limits, text, code, detail in (
            ("text=4", "ééé", "text-too-long", "it has 6 bytes, and may have 4."),
            ("text=4", "ééé", "too-long", "it has 6 bytes, and may have 4."),
            ("text=4", "ééé", "muted", ""),
            ("text=6", "ééé", "text-too-long", ""),
            ("rate=4", "ééé", "text-too-long", ""),
        ):
            session = joined(limits=limits)
            number = session.say(text)
            refusal = answer("message_response", number, text="False", error=code)
            [failed] = receive(session, refusal)
            assert isinstance(failed, Failed)
            expected = f"The message is too long: {detail}" if detail else ""
            self.assertEqual(failed.problem, Problem(code, expected))
        number = session.moderate(Kind.KICK, "bob", reason="x" * 201)
        refusal = answer("kick_response", number, text="False", error="text-too-long")
        [failed] = receive(session, refusal)
        assert isinstance(failed, Failed)
        self.assertIn("it has 201 characters, and may have 200.", failed.problem.detail)

    def test_the_listed_spelling(self) -> None:
        """The response as the project's listing spells it is understood."""
        session = joined()
        number = session.say("hi")
        happened = receive(session, b"<m:True><p:messagee_response><q:%d>\r\n" % number)
        self.assertEqual(happened, [Succeeded(Request(number, Kind.SAY, EVERYONE, "hi"))])

    def test_lists(self) -> None:
        """Users and files come back in the server's order."""
        session = joined()
        users, files = session.ask_users(), session.ask_files()
        happened = receive(
            session,
            answer("user_list", users, text="['alice','b\\'ob']"),
            answer("file_list", files, text="['a.txt','b.iso']", size=(3, 5 << 30)),
        )
        self.assertEqual(
            happened,
            [
                UserList(Request(users, Kind.USERS), ("alice", "b'ob")),
                FileList(
                    Request(files, Kind.FILES), (Listed("a.txt", 3), Listed("b.iso", 5 << 30))
                ),
            ],
        )

    def test_file_list_without_sizes(self) -> None:
        """A server that sends no sizes, or not one for each name, leaves them unknown."""
        for size in (None, 7, (1, 2, 3)):
            session = joined()
            number = session.ask_files()
            happened = receive(session, answer("file_list", number, text="['a','b']", size=size))
            files = (Listed("a", None), Listed("b", None))
            self.assertEqual(happened, [FileList(Request(number, Kind.FILES), files)])

    def test_download(self) -> None:
        """An offer has port, ticket and size."""
        session = joined()
        number = session.download("b.iso")
        happened = receive(
            session, answer("download_response", number, text="55000", key="TICKET", size=9)
        )
        request = Request(number, Kind.DOWNLOAD, text="b.iso")
        self.assertEqual(happened, [Offer(request, 55000, "TICKET", 9)])

    def test_download_with_its_identity(self) -> None:
        """An offer may say when the file was changed, and its digest."""
        session = joined()
        number = session.download("b.iso")
        response = answer(
            "download_response",
            number,
            text="55000",
            key="TICKET",
            size=9,
            time=1234,
            digest="ab" * 32,
        )
        [offer] = receive(session, response)
        request = Request(number, Kind.DOWNLOAD, text="b.iso")
        self.assertEqual(offer, Offer(request, 55000, "TICKET", 9, 1234, b"\xab" * 32))

    def test_probe(self) -> None:
        """A probe asks for a size and a port, and is offered like a file, with how many ports."""
        session = joined()
        number = session.probe(5000, 3)
        self.assertIn(b"<t:probe>", sent := session.data_to_send())
        self.assertTrue(b"<z:5000>" in sent and b"<n:3>" in sent)
        response = answer("probe_response", number, text="55002", key="TICKET", size=5000, count=20)
        [offer] = receive(session, response)
        request = Request(number, Kind.PROBE)
        self.assertEqual(offer, Offer(request, 55002, "TICKET", 5000, ports=20))

    def test_download_refused(self) -> None:
        """A refused download says why."""
        session = joined()
        number = session.download("nope")
        happened = receive(
            session, answer("download_response", number, text="ERR", error="no-such-file")
        )
        request = Request(number, Kind.DOWNLOAD, text="nope")
        self.assertEqual(happened, [Failed(request, Problem("no-such-file"))])

    def test_nonsense_offers(self) -> None:
        """An offer without a port, ticket or size that could be used is a failure, told as one."""
        good: dict[str, object] = {"text": "55000", "key": "T", "size": 1}
        for bad in ({"text": "0"}, {"text": "65536"}, {"text": "x"}, {"key": None}, {"size": (1,)}):
            session = joined()
            number = session.download("f")
            happened = receive(session, answer("download_response", number, **{**good, **bad}))
            self.assertEqual([type(event) for event in happened], [Failed, Garbled], bad)
            self.assertEqual(session.pending, ())

    def test_pipelining(self) -> None:
        """Answers find their requests by number, in any order and mixed with news."""
        session = joined()
        first, second, third = session.say("1"), session.ping(), session.say("3")
        self.assertEqual([one.sequence for one in sent(session)], [first, second, third])
        happened = receive(
            session,
            answer("message_response", third, text="True"),
            said("news", 4),
            answer("ping_response", second),
            answer("message_response", first, text="False", error="busy"),
        )
        self.assertEqual([type(event) for event in happened], [Succeeded, Said, Succeeded, Failed])
        self.assertEqual(session.pending, ())

    def test_server_without_numbers(self) -> None:
        """Answers that carry no number belong to the oldest request of their kind."""
        session = joined()
        first, listing, second = session.say("1"), session.ask_users(), session.say("2")
        happened = receive(
            session,
            answer("user_list", None, text="[]"),
            answer("message_response", None, text="True"),
            answer("message_response", None, text="True"),
        )
        numbers = [event.request.number for event in happened if not isinstance(event, Lost)]  # type: ignore[union-attr]
        self.assertEqual(numbers, [listing, first, second])

    def test_refusals_without_numbers(self) -> None:
        """A history that is refused so is awaited no more, and news is shown again."""
        session = ClientSession()
        session.join("alice", "192.0.2.1")
        number = session.ask_history(3)
        _, *happened = receive(
            session,
            answer("connect_response", None, text="True"),
            Message(response="error", error="unknown-request"),
            said("news", 4),
        )
        failed, news = happened
        assert isinstance(failed, Failed) and failed.request is not None
        self.assertEqual(failed.request.number, number)
        assert isinstance(news, Said)

    def test_answers_that_nobody_asked_for(self) -> None:
        """An answer to no request, or of another kind than its request, changes nothing."""
        session = joined()
        number = session.ping()
        happened = receive(
            session,
            answer("user_list", number, text="[]"),
            answer("message_response", 999, text="True"),
            answer("ping_response", None),
            answer("ping_response", None),
        )
        self.assertEqual(happened, [Succeeded(Request(number, Kind.PING))])

    def test_bound_on_requests(self) -> None:
        """So many requests may wait, and a goodbye is always possible."""
        session = joined()
        for _ in range(MAX_PENDING):
            self.assertFalse(session.is_full)
            session.ping()
        self.assertTrue(session.is_full)
        self.assertRaises(LocalError, session.ping)
        session.leave()
        self.assertEqual(session.state, State.LEAVING)


class HistoryTests(SynchronousTestCase):
    """What was said before, among what is said now."""

    def test_history(self) -> None:
        """The messages right before the answer are the history, as many as it says."""
        session = joined()
        number = session.ask_history(2, after=3)
        self.assertEqual(
            sent(session), [Message(request="history", sequence=number, after=3, count=2)]
        )
        happened = receive(
            session,
            said("now", 9),
            Message(sender="carol", recipient="all", text="joined", response="presence"),
            said("old", 4),
            said("older no more", 5),
            answer("history_response", number, text="2"),
            said("later", 10),
        )
        self.assertEqual(
            happened,
            [
                Said("bob", "all", "now", 9, 9000),
                Presence("carol", True),
                HistoryPage(
                    Request(number, Kind.HISTORY),
                    (
                        Said("bob", "all", "old", 4, 4000),
                        Said("bob", "all", "older no more", 5, 5000),
                    ),
                ),
                Said("bob", "all", "later", 10, 10000),
            ],
        )
        self.assertEqual(session.last_id, 10)

    def test_last_messages(self) -> None:
        """The last ones may be those before a message, and the answer says if there are older."""
        session = joined()
        for before in (7, 0, None):
            number = session.ask_history(2, before=9)
            self.assertEqual(
                sent(session), [Message(request="history", sequence=number, before=9, count=2)]
            )
            happened = receive(
                session, said("x", 8), answer("history_response", number, text="1", before=before)
            )
            page = HistoryPage(
                Request(number, Kind.HISTORY),
                (Said("bob", "all", "x", 8, 8000),),
                before=before,
            )
            self.assertEqual(happened, [page])

    def test_refused_history_releases_the_news(self) -> None:
        """News that came while history was awaited is not lost if that fails."""
        for end in ("refused", "nonsense", "lost"):
            session = joined()
            number = session.ask_history(5)
            self.assertEqual(receive(session, said("now", 1)), [])
            if end == "refused":
                session.receive_data(
                    format_line(answer("history_response", number, error="log-unavailable"))
                )
            elif end == "nonsense":
                session.receive_data(format_line(answer("history_response", number, text="many")))
            else:
                session.connection_lost()
            self.assertEqual(events(session)[0], Said("bob", "all", "now", 1, 1000), end)

    def test_history_that_is_passed_over(self) -> None:
        """Answers come in order: when a later request is answered, no history will come."""
        session = joined()
        number = session.ask_history(5)
        later = session.say("hi")
        self.assertEqual(receive(session, said("one", 1), said("hi", 2)), [])
        self.assertEqual(
            receive(session, answer("message_response", later, text="True")),
            [
                Said("bob", "all", "one", 1, 1000),
                Said("bob", "all", "hi", 2, 2000),
                Failed(Request(number, Kind.HISTORY), Problem("", "This server knows no history.")),
                Succeeded(Request(later, Kind.SAY, "all", "hi")),
            ],
        )
        self.assertEqual(len(receive(session, said("three", 3))), 1)

    def test_history_that_claims_too_much(self) -> None:
        """A count larger than what came takes what there is."""
        session = joined()
        number = session.ask_history(5)
        happened = receive(
            session, said("one", 1), answer("history_response", number, text="99999999999999")
        )
        self.assertEqual(
            happened,
            [HistoryPage(Request(number, Kind.HISTORY), (Said("bob", "all", "one", 1, 1000),))],
        )


class NewsTests(SynchronousTestCase):
    """What the server says of itself."""

    def test_news(self) -> None:
        """Messages and presence become events, with place and time."""
        session = joined()
        happened = receive(
            session,
            said("psst", 7, "alice"),
            Message(sender="bob", recipient="all", text="left", response="presence", time=3),
        )
        self.assertEqual(
            happened, [Said("bob", "alice", "psst", 7, 7000), Presence("bob", False, 3)]
        )

    def test_word_about_the_connection(self) -> None:
        """An error that answers nothing is told, too."""
        happened = receive(joined(), answer("error", None, text="Slow.", error="too-slow"))
        self.assertEqual(happened, [Failed(None, Problem("too-slow", "Slow."))])

    def test_strangers_are_ignored(self) -> None:
        """Unknown responses, keys and empty lines mean nothing and cost nothing."""
        session = joined()
        happened = receive(
            session,
            b"<p:wave><x:1>\r\n",
            b"\r\n",
            b"<m:no response at all>\n",
            b"<s:bob><y:?><r:all><m:hi><p:message_received><q:1>\n",
        )
        self.assertEqual(happened, [Said("bob", "all", "hi", 1)])

    def test_nonsense_is_told_once(self) -> None:
        """Lines that make no sense cost one warning in all, and nothing else."""
        session = joined()
        happened = receive(
            session,
            b"no field\n",
            b"\xff\xfe\n",
            b"<p:presence><m:joined>\n",
            b"<p:message_received><s:x>\n",
            said("fine", 1),
        )
        self.assertEqual([type(event) for event in happened], [Garbled, Said])
        self.assertEqual(session.ignored, 4)

    def test_leaving(self) -> None:
        """A goodbye that is answered is an expected end."""
        session = joined()
        number = session.leave()
        self.assertEqual(
            receive(session, answer("disconnect_response", number, text="True")), [Left()]
        )
        session.connection_lost()
        self.assertEqual(events(session), [Lost(True, ())])

    def test_lost(self) -> None:
        """A cut connection tells what was never answered; what comes after it means nothing."""
        session = joined()
        first, second = session.say("a"), session.ask_users()
        session.connection_lost()
        unanswered = (Request(first, Kind.SAY, "all", "a"), Request(second, Kind.USERS))
        self.assertEqual(events(session), [Lost(False, unanswered)])
        session.connection_lost()
        self.assertEqual(receive(session, said("late", 1)), [])
        self.assertEqual(session.data_to_send(), b"")
        self.assertRaises(LocalError, session.say, "more")


class LineTests(SynchronousTestCase):
    """From bytes to lines."""

    @given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=8))
    def test_pieces_do_not_matter(self, data: bytes, cuts: list[int]) -> None:
        """The lines are the same however the bytes are cut up, and as many as there are LFs."""
        whole = LineBuffer(20).feed(data)
        pieces = LineBuffer(20)
        places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
        lines = [line for start, end in pairwise(places) for line in pieces.feed(data[start:end])]
        self.assertEqual(lines, whole)
        self.assertEqual(len(lines), data.count(b"\n"))

    def test_too_long(self) -> None:
        """A line that is too long leaves None in its place, and the next one is read."""
        lines = LineBuffer(4)
        self.assertEqual(lines.feed(b"12345678"), [])
        self.assertEqual(lines.feed(b"9\r\nabc\r\n"), [None, b"abc"])

    def test_end(self) -> None:
        """What stands after the last LF is a line, too, if there is anything."""
        lines = LineBuffer(10)
        self.assertEqual(lines.feed(b"a\nb"), [b"a"])
        self.assertEqual(lines.end(), [b"b"])
        self.assertEqual(lines.end(), [])

    @given(st.lists(st.binary(max_size=60).map(lambda line: line + b"\n"), max_size=6))
    def test_any_bytes(self, data: list[bytes]) -> None:
        """Whatever a server sends, the session goes on and hears the next good line."""
        session = joined()
        for line in data:
            session.receive_data(line)
        session.receive_data(format_line(said("fine", 1)))
        self.assertEqual(events(session)[-1], Said("bob", "all", "fine", 1, 1000))
