"""What HOST may be, and what is said of one that cannot be reached."""

from __future__ import annotations

import errno
import socket
from typing import Any
from unittest import mock

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from chatbox.client.connect.access import Access
from chatbox.client.connect.connection import join_server
from chatbox.client.connect.hosts import endpoint_for, split_host
from chatbox.client.connect.secure import SecureEndpoint
from chatbox.client.exits import Exit, Stop
from chatbox.descriptions import DEFAULT_PORT


class HostTests(SynchronousTestCase):
    """What HOST may be."""

    def test_hosts(self) -> None:
        """Names and addresses, with a port or the usual one."""
        cases = {
            "example.org": ("example.org", DEFAULT_PORT),
            "example.org:6000": ("example.org", 6000),
            "192.0.2.1:1": ("192.0.2.1", 1),
            "::1": ("::1", DEFAULT_PORT),
            "2001:db8::1": ("2001:db8::1", DEFAULT_PORT),
            "[2001:db8::1]": ("2001:db8::1", DEFAULT_PORT),
            "[2001:db8::1]:6000": ("2001:db8::1", 6000),
        }
        for text, expected in cases.items():
            self.assertEqual(split_host(text), expected, text)

    def test_endpoints(self) -> None:
        """What is none of these may be an endpoint string."""
        for text in ("tls:example.org:6000", "unix:/run/chatbox", "tcp:host=h:port=1", ""):
            self.assertIsNone(split_host(text), text)
        endpoint, place = endpoint_for(MemoryReactorClock(), "example.org:6000")
        self.assertIsInstance(endpoint, HostnameEndpoint)
        self.assertEqual(place, "example.org, TCP port 6000")
        endpoint_for(MemoryReactorClock(), "unix:/run/chatbox")
        # An address that means something on one link only goes to the socket as it is.
        reactor = MemoryReactorClock()
        endpoint, _ = endpoint_for(reactor, "[fe80::1%lo]:6000")
        endpoint.connect(Factory())
        self.assertEqual(reactor.tcpClients[0][:2], ("fe80::1%lo", 6000))

    def test_nonsense(self) -> None:
        """What is not an address ends with a sentence that says what would be one."""
        for text in (
            "h:0",
            "h:65536",
            "[::1]:x",
            "h:99999999999",
            "foo:bar:baz",
            "",
            "tls:",
            "a:b",
            "tls:example.org",
            "unix:a:b:c:d:e",
        ):
            stop = self.assertRaises(Stop, endpoint_for, MemoryReactorClock(), text)
            self.assertEqual(stop.status, Exit.USAGE, text)
            self.assertTrue(stop.sentence)
            self.assertNotIn("()", stop.sentence)
            self.assertNotIn("endpoint type", stop.sentence)

    def test_fingerprint_takes_tls(self) -> None:
        """Who says which key the server must have does not get to one that shows none."""
        expected = "0" * 64
        for text in ("h", "h:1", "fe80::1%lo", "unix:/run/chatbox", "tcp:h:1"):
            access = Access(fingerprint=expected)
            stop = self.assertRaises(Stop, endpoint_for, MemoryReactorClock(), text, access)
            self.assertEqual(stop.status, Exit.USAGE, text)
            self.assertIn("--tls", stop.sentence)
        for text, tls in (("tls:h:1", False), ("h", True)):
            access = Access(tls=tls, fingerprint=expected)
            endpoint, _ = endpoint_for(MemoryReactorClock(), text, access)
            self.assertIsInstance(endpoint, SecureEndpoint)

    def test_why_it_cannot_be_reached(self) -> None:
        """The system's words, without Twisted's and the number."""
        reactor: Any = MemoryReactorClock()
        joining = Deferred.fromCoroutine(join_server(reactor, "unix:/run/chatbox", "ann"))
        failure = Failure(ConnectError(errno.ENOENT, "some words"))
        reactor.unixClients[0][1].clientConnectionFailed(None, failure)
        stop = self.failureResultOf(joining, Stop).value
        self.assertEqual(
            stop.sentence,
            "unix:/run/chatbox: it cannot be reached (No such file or directory)."
            " Is the address right?",
        )

    def test_no_such_link(self) -> None:
        """A number that is none of the system's errors is not read as one."""
        reactor: Any = MemoryReactorClock()
        no_such = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        with mock.patch.object(reactor, "connectTCP", side_effect=no_such):
            joining = Deferred.fromCoroutine(join_server(reactor, "fe80::1%nowhere", "ann"))
        stop = self.failureResultOf(joining, Stop).value
        self.assertIn("there is no such host", stop.sentence)

    def test_no_name_of_a_host(self) -> None:
        """What cannot be the name of any host is told as a host that is not there."""
        for text in ("a b", "-x", "a" * 70, "a..b", "tls:a b:1"):
            joining = Deferred.fromCoroutine(join_server(MemoryReactorClock(), text, "ann"))
            stop = self.failureResultOf(joining, Stop).value
            self.assertEqual(stop.status, Exit.NO_CONNECTION)
            self.assertIn("there is no such host", stop.sentence)

    def test_cancelled(self) -> None:
        """Whoever gives up, a name that is looked up even, is not told that there is no host."""
        reactor: Any = MemoryReactorClock()  # which finds no names by itself
        for name in ("example.org", "unix:/run/chatbox"):
            joining = Deferred.fromCoroutine(join_server(reactor, name, "ann"))
            joining.cancel()
            self.failureResultOf(joining, CancelledError)
