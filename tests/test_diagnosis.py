"""From facts to findings: what each check says, and what it advises."""

from __future__ import annotations

import errno
import struct
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from chatbox.client.doctor import offload
from chatbox.client.doctor.diagnosis import (
    CLOCK_TOLERANCE,
    SAYS_AT,
    Attempt,
    Buffers,
    Finding,
    Offload,
    Outcome,
    PortProbe,
    ProbeResult,
    Verdict,
    judge_buffers,
    judge_certificate,
    judge_chat,
    judge_clock,
    judge_names,
    judge_offload,
    judge_packets,
    judge_ports,
    judge_rate,
    judge_tcp,
)
from chatbox.client.exits import Exit
from chatbox.rdt.socket_options import SOCKET_BUFFER


class FindingTestCase(SynchronousTestCase):
    """Checks that look at one finding."""

    def check(self, finding: Finding, verdict: Verdict, *parts: str) -> None:
        """It has this verdict, and its line these parts; only what is wrong gives advice."""
        line = str(finding)
        self.assertIs(finding.verdict, verdict, line)
        for part in parts:
            self.assertIn(part, line)
        self.assertEqual(bool(finding.advice), verdict is not Verdict.OK, line)
        self.assertEqual(finding.status is not Exit.OK, verdict is Verdict.PROBLEM, line)
        self.assertNotIn("\n", line)
        self.assertTrue(line[SAYS_AT:].startswith(finding.says), line)


class WayTests(FindingTestCase):
    """The name, TCP and TLS."""

    def test_names(self) -> None:
        """A name has addresses, is one, or has none."""
        both = ["192.0.2.1", "2001:db8::1"]
        self.check(judge_names("h", both, ""), Verdict.OK, "h is 192.0.2.1 and 2001:db8::1.")
        self.check(judge_names("192.0.2.1", both[:1], ""), Verdict.OK, "is an address.")
        lost = judge_names("h\x1b", [], "Name or service not known")
        self.check(lost, Verdict.PROBLEM, "(Name or service not known)", "spelling")
        self.assertEqual(lost.status, Exit.NO_CONNECTION)
        self.assertNotIn("\x1b", lost.says)

    def test_outcomes(self) -> None:
        """What the system says of a connection."""
        for number, outcome in {
            errno.ECONNREFUSED: Outcome.REFUSED,
            errno.ETIMEDOUT: Outcome.SILENT,
            errno.EHOSTUNREACH: Outcome.REJECTED,
            errno.EPERM: Outcome.REJECTED,
            errno.ENETUNREACH: Outcome.NO_ROUTE,
            0: Outcome.NO_ROUTE,
        }.items():
            self.assertIs(Outcome.of_errno(number), outcome)

    def test_tcp(self) -> None:
        """Each way to fail has its own advice, with the port in it where that helps."""
        good = Attempt("192.0.2.1", Outcome.OPEN)
        self.check(judge_tcp(50000, [good]), Verdict.OK, "192.0.2.1 accepts", "port 50000")
        for outcome, parts in {
            Outcome.REFUSED: ("nobody listens", "Is the server running"),
            Outcome.SILENT: ("did not answer", "ufw allow 50000/tcp", "firewall-cmd"),
            Outcome.REJECTED: ("says no", "firewalld"),
            Outcome.NO_ROUTE: ("no way there", "VPN"),
        }.items():
            found = judge_tcp(50000, [Attempt("192.0.2.1", outcome)])
            self.check(found, Verdict.PROBLEM, "192.0.2.1", *parts)
            self.assertEqual(found.status, Exit.NO_CONNECTION)

    def test_one_of_two_addresses(self) -> None:
        """An address that leads nowhere is worth a warning, unless this machine has no such way."""
        good = Attempt("192.0.2.1", Outcome.OPEN)
        self.check(
            judge_tcp(1, [Attempt("2001:db8::1", Outcome.SILENT), good]),
            Verdict.WARNING,
            "2001:db8::1 did not answer",
        )
        self.check(judge_tcp(1, [good, Attempt("2001:db8::1", Outcome.NO_ROUTE)]), Verdict.OK)

    def test_certificate(self) -> None:
        """How long it holds."""
        key = "ab" * 32
        self.check(judge_certificate(90, key, pinned=False), Verdict.OK, "90 days", "abababab")
        self.check(judge_certificate(90, key, pinned=True), Verdict.OK, "as expected")
        self.check(judge_certificate(3, key, pinned=False), Verdict.WARNING, "3 days", "Renew")
        self.check(judge_certificate(-3, key, pinned=False), Verdict.WARNING, "ended 3 days ago")


class ChatTests(FindingTestCase):
    """The chat and the clock."""

    def test_chat(self) -> None:
        """The round trip, in milliseconds."""
        self.check(judge_chat("192.0.2.1", 0.0012), Verdict.OK, "in 1.2 ms")
        self.check(judge_chat("192.0.2.1", 0.123), Verdict.OK, "in 123 ms")

    def test_clock(self) -> None:
        """A clock that is far off is worth a warning only."""
        self.check(judge_clock(None, 0.1), Verdict.OK, "does not tell")
        self.check(judge_clock(0.4, 0.1), Verdict.OK, "no more than a second")
        self.check(judge_clock(-30.0, 0.1), Verdict.OK, "by 30 s")
        self.check(judge_clock(CLOCK_TOLERANCE + 1, 0.1), Verdict.WARNING, "61 s ahead of")
        self.check(judge_clock(-3600.0, 0.1), Verdict.WARNING, "3600 s behind", "timedatectl")


class UdpTests(FindingTestCase):
    """The UDP ports, and what came through them."""

    def ports(self, answers: dict[int, bool], total: int = 0, refused: str = "") -> Finding:
        """Judge these ports."""
        probes = [PortProbe(port, answered) for port, answered in answers.items()]
        return judge_ports(probes, total or len(probes), refused)

    def test_open(self) -> None:
        """All ports answer."""
        self.check(self.ports({55000: True}), Verdict.OK, "UDP port 55000.")
        several = self.ports({55001: True, 55000: True, 55003: True})
        self.check(several, Verdict.OK, "UDP ports 55000-55001,55003.")

    def test_blocked(self) -> None:
        """Nothing comes: the ports to open are named, in the words of the firewalls."""
        found = self.ports(dict.fromkeys(range(55000, 55020), False))
        self.check(
            found,
            Verdict.PROBLEM,
            "nothing comes back from UDP ports 55000-55019.",
            "ufw allow 55000:55019/udp",
            "firewall-cmd --add-port=55000-55019/udp",
        )
        self.assertEqual(found.status, Exit.NO_UDP)
        self.assertNotIn("IPv6", found.advice)
        over_ipv6 = judge_ports([PortProbe(55000, False)], 1, "", ipv6=True)
        self.assertIn("no UDP over IPv6", over_ipv6.advice)

    def test_one_blocked(self) -> None:
        """The one port that is blocked is named."""
        found = self.ports({55000: True, 55001: False, 55002: True})
        self.check(found, Verdict.PROBLEM, "2 of 3 ports answer", "UDP port 55001.")

    def test_not_all_tried(self) -> None:
        """A server that allows no more probes is told about."""
        found = self.ports({55000: True}, 20, "You have 8 downloads already.")
        self.check(found, Verdict.OK, "19 more were not tried: You have 8")
        none = self.ports({}, 0, "There is no such request.")
        self.check(none, Verdict.PROBLEM, "no port could be tried: There is no such request.")

    def probe(self, *, arrived: int = 1000, sent: int = 1000, largest: int = 1472) -> ProbeResult:
        """A probe of a second."""
        return ProbeResult(1_000_000, 1.0, arrived, sent, largest, 25)

    def test_rate(self) -> None:
        """How fast, and how much got lost; what was not meant to arrive does not count."""
        self.check(judge_rate(self.probe()), Verdict.OK, "1.00 MB in 1.0 s", "0.0% of 1000")
        self.check(judge_rate(self.probe(arrived=990)), Verdict.OK, "0.0% of 1000")
        self.check(judge_rate(self.probe(arrived=900)), Verdict.WARNING, "7.5% of 1000", "cable")
        self.assertEqual(ProbeResult(0, 0.0, 0, 0, 0).loss, 0.0)
        self.check(judge_rate(ProbeResult(0, 0.0, 0, 0, 0)), Verdict.OK, "0 bytes/s")

    def test_packets(self) -> None:
        """The longest packet that arrived says how large the MTU is at least."""
        self.check(judge_packets(self.probe()), Verdict.OK, "1472 bytes", "at least 1500")
        six = ProbeResult(1, 1.0, 1, 1, 1452, ipv6=True)
        self.check(judge_packets(six), Verdict.OK, "at least 1500")
        self.check(judge_packets(self.probe(largest=1200)), Verdict.WARNING, "1200", "VPN")
        none = judge_packets(ProbeResult(0, 3.0, 4, 20, 86))
        self.check(none, Verdict.PROBLEM, "no packets of 1200 bytes", "at least 1228")
        self.assertIs(none.status, Exit.NO_UDP)


class MachineTests(FindingTestCase):
    """What concerns this machine alone."""

    def test_buffers(self) -> None:
        """The sysctl and its value are named, both if both are too small."""
        self.check(judge_buffers(Buffers(4 << 20, 4 << 20, 8 << 20)), Verdict.OK, "4.19 MB")
        self.check(
            judge_buffers(Buffers(4 << 20, 212_992, 4 << 20)),
            Verdict.WARNING,
            "213 kB only",
            "sysctl -w net.core.rmem_max=4194304;",
        )
        self.check(
            judge_buffers(Buffers(4 << 20, 1, 1)),
            Verdict.WARNING,
            "net.core.rmem_max=4194304 net.core.wmem_max=4194304",
        )

    def test_offload(self) -> None:
        """What is missing is slow; what is broken must be turned off."""
        works, missing, broken = Offload.WORKS, Offload.MISSING, Offload.BROKEN
        self.check(judge_offload(works, works), Verdict.OK, "GSO works, GRO works")
        self.check(judge_offload(missing, works), Verdict.WARNING, "GSO is missing", "one by one")
        self.check(judge_offload(works, broken), Verdict.WARNING, "GRO is broken", "--no-gso")

    def test_measured_buffers(self) -> None:
        """What the system grants is what its limits say."""
        found = offload.measure_buffers()
        self.assertEqual(found.asked, SOCKET_BUFFER)
        for granted, name in ((found.receive, "rmem_max"), (found.send, "wmem_max")):
            with open(f"/proc/sys/net/core/{name}") as limit:
                self.assertEqual(granted, min(SOCKET_BUFFER, int(limit.read())))

    def test_tried_offload(self) -> None:
        """A train arrives as it was sent, on a system that can; one that cannot is found out."""
        self.assertEqual(offload.try_offload(), (Offload.WORKS, Offload.WORKS))
        with mock.patch.object(offload, "UDP_GRO", 999):
            self.assertEqual(offload.try_offload(), (Offload.WORKS, Offload.MISSING))
        with mock.patch.object(offload, "UDP_SEGMENT", 999):
            self.assertEqual(offload.try_offload(), (Offload.MISSING, Offload.WORKS))

    def test_broken_offload(self) -> None:
        """Packets of another length than asked for are damage."""
        other = struct.pack("=H", offload.SEGMENT_BYTES // 2)
        with mock.patch("chatbox.client.doctor.offload.struct.pack", return_value=other):
            self.assertEqual(offload.try_offload()[0], Offload.BROKEN)
