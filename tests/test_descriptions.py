"""What a description of an endpoint says, without an endpoint."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import endpoints
from twisted.trial.unittest import SynchronousTestCase

from chatbox.descriptions import read_description, self_signed
from chatbox.inherited import which
from tests.helpers.processes import PATIENCE, environment


class DescriptionTests(SynchronousTestCase):
    """One at a time."""

    def test_parts(self) -> None:
        """Kind, values and options, of what stands behind what is ours."""
        for front, folder in (
            ("", ""),
            ("tls-self-signed:", ""),
            (r"tls-from:/a\:b:", r"/a\:b"),
        ):
            said = read_description(rf"{front}tcp:1:interface=\:\:1:a=b=c")
            self.assertEqual((said.front, said.folder), (front, folder))
            self.assertEqual(said.inner, r"tcp:1:interface=\:\:1:a=b=c")
            self.assertEqual((said.kind, said.values), ("tcp", ["1"]))
            self.assertEqual(said.options, {"interface": "::1", "a": "b=c"})
            self.assertEqual(said.interface, "::1")
            self.assertIs(said.has_tls, front != "")

    def test_self_signed(self) -> None:
        """An address of IPv6 has colons, which are no more than colons in a description either."""
        for interface in ("", "192.0.2.1", "::1"):
            said = read_description(self_signed(interface))
            self.assertEqual((said.front, said.port), ("tls-self-signed:", "50001"))
            self.assertEqual(said.interface, interface)

    def test_tls(self) -> None:
        """Two of Twisted's kinds speak it by themselves."""
        for text in ("ssl:1", "tls:/certs:port=1", "tls-self-signed:unix:/x", "tls-from:/c:tcp:1"):
            self.assertTrue(read_description(text).has_tls, text)
        for text in ("tcp:1", "unix:/tls:", "tls-from::tcp:1", "tls-self-signed"):
            self.assertFalse(read_description(text).has_tls, text)

    def test_port(self) -> None:
        """Where each kind has it; what is no TCP port is none."""
        cases = {
            "tcp:1": "1",
            "tcp:port=2": "2",
            "tcp6:3:interface=x": "3",
            "ssl:4:privateKey=5": "4",
            "tls:/6": "",
            "tls:/6:port=7": "7",
            "tls-self-signed:tcp:8": "8",
            "haproxy:tcp:port=9": "",
            "systemd:domain=INET:index=1": "",
            "unix:1": "",
            "tcp": "",
            "tcp:": "",
            "": "",
        }
        for text, port in cases.items():
            self.assertEqual(read_description(text).port, port, text)

    @given(st.text(":=\\a\n"))
    def test_as_twisted_reads_it(self, text: str) -> None:
        """Twisted, which makes the endpoint, finds the same in it."""
        private: Any = endpoints
        said = read_description(f"kind:{text}")
        with contextlib.suppress(RuntimeError):  # a backslash at the end, with nothing behind it
            (kind, *values), options = private._parse(f"kind:{text}")
            self.assertEqual((said.kind, said.values, said.options), (kind, values, options))

    def test_inherited(self) -> None:
        """The sockets of systemd, all or those of a name, and nothing else."""
        self.assertEqual(which("systemd"), "")
        self.assertEqual(which(r"systemd:name=a\:b"), "a:b")
        for text in (
            "systemd:name=",
            "systemd:domain=INET:name=a",
            "systemd:a",
            "tcp:name=a",
            "tls-self-signed:systemd",
            "",
        ):
            self.assertIsNone(which(text), text)


def test_nothing_heavy_is_loaded() -> None:
    """A client that looks for servers nearby needs neither Twisted's endpoints nor OpenSSL."""
    program = (
        "import sys, chatbox.lan;"
        "sys.exit(any(name in sys.modules for name in ('OpenSSL', 'twisted.internet')))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env=environment(), timeout=PATIENCE)
