"""A client without sockets: the test speaks for the server, and steers the transfers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from twisted.internet.testing import StringTransport

from chatbox.chat.wire import Message, format_line, parse_line
from chatbox.client.chat.events import Offer
from chatbox.client.chat.session import ClientSession
from chatbox.client.connect.connection import ChatConnection
from chatbox.client.files.download import PartFile
from chatbox.rdt.ends import End
from chatbox.rdt.progress import Progress
from chatbox.rdt.receiver import Ended


class Server:
    """The other end of a connection that has joined as alice; the test is the server."""

    def __init__(self) -> None:
        self.transport = StringTransport()
        self.connection = ChatConnection(ClientSession())
        self.connection.makeConnection(self.transport)
        self.connection.session.join("alice", self.connection.peer)
        self.connection.flush()
        self.requests()
        self.answer(1, "connect_response", text="True", recipient="alice", key="token")
        self.connection.session.next_event()

    def requests(self) -> list[Message]:
        """What the client has asked since this was last called."""
        lines = self.transport.value().splitlines()
        self.transport.clear()
        return [parse_line(line) for line in lines]

    def send(self, message: Message) -> None:
        """Say something to the client."""
        self.connection.dataReceived(format_line(message))

    def answer(self, number: int | None, response: str, **fields: object) -> None:
        """Answer a request."""
        self.send(Message(response=response, sequence=number, **fields))  # type: ignore[arg-type]

    def offer(self, number: int | None, size: int = 1000, **fields: object) -> None:
        """Let the client fetch a file."""
        self.answer(number, "download_response", text="55000", key="ticket", size=size, **fields)

    def close(self) -> None:
        """Close the connection."""
        self.connection.connectionLost()

    def restart(self) -> None:
        """Say that the server restarts, and close."""
        self.send(Message(text="Back soon.", response="error", error="restarting"))
        self.close()

    def come_back(self) -> list[Message]:
        """Be there again, for a session that survives; return what it asks when it is in."""
        self.transport = StringTransport()
        self.connection.makeConnection(self.transport)
        self.connection.session.rejoin("192.0.2.1")
        self.connection.flush()
        (connect,) = self.requests()
        self.answer(connect.sequence, "connect_response", text="True", key="token")
        (missed,) = self.requests()
        self.answer(missed.sequence, "history_response", text="0")
        return self.requests()


@dataclass
class FakeTransfer:
    """A transfer whose progress and events the test makes up; `asked` is what was asked of it."""

    offer: Offer
    target: PartFile
    listener: Callable[[object], None]
    pause_half_way: bool
    rate_limit: int | None = None
    rtt: float = 0.0
    asked: list[str] = field(default_factory=list)
    confirmed: int = 0
    reason: str = ""

    def pause(self) -> None:
        """Note it."""
        self.asked.append("pause")

    def proceed(self) -> None:
        """Note it."""
        self.asked.append("proceed")

    def cancel(self) -> None:
        """Note it."""
        self.asked.append("cancel")

    def doubt(self) -> None:
        """Note it."""
        self.asked.append("doubt")

    def interrupt(self) -> None:
        """Note it, and end."""
        self.asked.append("interrupt")
        self.listener(Ended(End.INTERRUPTED, End.INTERRUPTED.sentence, None, None))

    def set_rate_limit(self, rate: int | None) -> None:
        """Note it."""
        self.rate_limit = rate

    def progress(self) -> Progress:
        """What the test says."""
        return Progress(self.confirmed, self.offer.size, 100.0, 5.0, "receiving", self.reason)


class FakeFetch:
    """Begins fake transfers, or fails if `error` is set."""

    def __init__(self) -> None:
        self.begun: list[FakeTransfer] = []
        self.error: Exception | None = None
        self.resumed_from = 0
        """Bytes that a target is said to have already."""
        self.waiting: list[Callable[[], None]] | None = None
        """What is to be called when the disk is ready, if a test is to do that."""

    def __call__(
        self,
        offer: Offer,
        target: PartFile,
        listener: Callable[[object], None],
        *,
        pause_half_way: bool,
        rate_limit: int | None,
        rtt: float,
    ) -> FakeTransfer:
        """Begin one."""
        if self.error is not None:
            raise self.error
        if self.resumed_from:
            target.resumed_from = self.resumed_from
        self.begun.append(FakeTransfer(offer, target, listener, pause_half_way, rate_limit, rtt))
        return self.begun[-1]

    def prepare(self, target: PartFile, size: int, then: Callable[[], None]) -> None:
        """The disk is ready, or as soon as the test says so."""
        if self.waiting is None:
            then()
        else:
            self.waiting.append(then)
