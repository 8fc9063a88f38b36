"""What somebody who hosts a room has chosen, and is told of it."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from chatbox.certificates import show_fingerprint
from chatbox.client.exits import Stop
from chatbox.client.gui.host import Plan, Report, address_for_others
from chatbox.descriptions import DEFAULT_UDP_PORTS


class HostTests(SynchronousTestCase):
    """Hosting, as far as it is words."""

    def test_plan(self) -> None:
        """Only this computer, or everyone: where it listens follows."""
        folder = self.mktemp()
        os.mkdir(folder)
        alone = " ".join(Plan(folder).arguments("state"))
        self.assertIn("--listen tcp:50000:interface=127.0.0.1 --udp-ports 0", alone)
        everyone = " ".join(Plan(folder, True, "6000").arguments("state"))
        self.assertIn(f"--listen tcp:6000 --udp-ports {DEFAULT_UDP_PORTS}", everyone)
        self.assertIn(f"--files {os.path.abspath(folder)} --state-dir state", everyone)
        self.assertNotIn("--max-rate", everyone)

    def test_limit_and_tls(self) -> None:
        """The server is told both as on its command line."""
        folder = self.mktemp()
        os.mkdir(folder)
        limited = " ".join(Plan(folder, limit=" 2MB ").arguments("state"))
        self.assertIn("--max-rate 2MB", limited)
        for everyone, where in ((True, ""), (False, ":interface=127.0.0.1")):
            words = Plan(folder, everyone, "6000", tls=True).arguments("state")
            listens = words[words.index("--listen") + 1]
            self.assertEqual(listens, f"tls-self-signed:tcp:6000{where}")

    def test_bad_plans(self) -> None:
        """A port or a folder that is none is refused with advice."""
        folder = self.mktemp()
        os.mkdir(folder)
        for plan, advice in (
            (Plan(folder, port="x"), "1 to 65535"),
            (Plan(folder, port="65536"), "1 to 65535"),
            (Plan(" "), "Choose a folder"),
            (Plan(f"{folder}/none"), "Choose a folder"),
            (Plan(folder, limit="fast"), "such as 800kB"),
        ):
            stop = self.assertRaises(Stop, plan.arguments, "state")
            self.assertIn(advice, stop.sentence)

    def test_report(self) -> None:
        """The log says when it listens, and why it ended."""
        report = Report()
        report.read("2026-01-01T00:00:00+0000 [-] RDT on UDP starting on 55000")
        self.assertIsNone(report.port)
        report.read("2026-01-01T00:00:00+0000 [-] Chat starting on 6000")
        self.assertEqual(report.port, 6000)
        report.read(
            "2026-01-01T00:00:00+0000 [stderr#error] twisted.internet.error.CannotListenError:"
            " Couldn't listen on any:6000: [Errno 98] Address already in use. Does one run already?"
        )
        self.assertIn("Another program uses port 6000", report.why_it_ended())
        report.read("... Couldn't listen on any:80: [Errno 13] Permission denied. See --uid.")
        self.assertEqual(report.why_it_ended(), "Port 80 cannot be used: Permission denied.")

    def test_report_of_tls(self) -> None:
        """One can join when the certificate is there, too, which comes after the port."""
        for tls in (True, False):
            report = Report()
            report.read("... [-] RDT on UDP starting on 55000")
            self.assertFalse(report.is_ready)
            report.read(f"... [-] Chat{' (TLS)' if tls else ''} starting on 6000")
            self.assertIs(report.is_ready, not tls)
        self.assertIsNone(report.fingerprint)
        report = Report()
        report.read("... [-] Chat (TLS) starting on 6000")
        report.read(f"... and its fingerprint is {show_fingerprint('0a' * 32)}")
        self.assertTrue(report.is_ready)
        self.assertEqual((report.port, report.fingerprint), (6000, "0a" * 32))

    def test_other_reasons(self) -> None:
        """What is said last is the reason; if nothing was said, none is made up."""
        self.assertEqual(Report().why_it_ended(), "The server has stopped.")
        report = Report()
        report.read("twistd: --files x: No such file or directory.")
        self.assertEqual(
            report.why_it_ended(), "The server has stopped: --files x: No such file or directory."
        )

    def test_address(self) -> None:
        """The usual port need not be typed; an IPv6 address needs brackets with another."""
        self.assertEqual(address_for_others("192.0.2.1", 50000), "192.0.2.1")
        self.assertEqual(address_for_others("192.0.2.1", 6000), "192.0.2.1:6000")
        self.assertEqual(address_for_others("2001:db8::1", 6000), "[2001:db8::1]:6000")
        self.assertEqual(address_for_others("192.0.2.1", 50001, tls=True), "192.0.2.1")
        self.assertEqual(address_for_others("192.0.2.1", 50000, tls=True), "192.0.2.1:50000")
