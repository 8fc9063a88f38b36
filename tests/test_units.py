"""Rates as people write them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatbox.units import MIN_RATE, parse_rate, port_ranges


class RateTests(SynchronousTestCase):
    """From text to bytes per second."""

    def test_rates(self) -> None:
        """Bytes and bits, with and without a factor, a point, a blank and the second."""
        for text, rate in {
            "10MB": 10_000_000,
            "800kB": 800_000,
            "800 KB/s": 800_000,
            "100Mbit": 12_500_000,
            "100 Mbit/s": 12_500_000,
            "10Mbps": 1_250_000,
            "1.5GB": 1_500_000_000,
            "2m": 2_000_000,
            " 5000 ": 5000,
            "1000": MIN_RATE,
            "8kbit": MIN_RATE,
        }.items():
            self.assertEqual(parse_rate(text), rate, text)

    def test_nonsense(self) -> None:
        """What may mean two things, or nothing, is refused with words that say what to write."""
        for text in ("", "fast", "10Mb", "10MB/h", "1e6", "-5MB", "10,5MB", "٣MB", "MB", "1MiB"):
            with self.assertRaisesRegex(ValueError, "no rate. Write .* such as 800kB", msg=text):
                parse_rate(text)
        for text in ("0", "999", "7kbit", "5000TB"):
            with self.assertRaisesRegex(ValueError, "go from 1kB to 1000TB", msg=text):
                parse_rate(text)

    @given(st.text(max_size=20))
    def test_anything(self, text: str) -> None:
        """Any text is a rate in bounds, or a ValueError."""
        try:
            self.assertGreaterEqual(parse_rate(text), MIN_RATE)
        except ValueError as error:
            self.assertTrue(str(error))


class PortTests(SynchronousTestCase):
    """Ports, written."""

    def test_ranges(self) -> None:
        """Those that follow each other are written as the option takes them."""
        self.assertEqual(port_ranges([55001, 55000, 55002, 7, 9, 10, 9]), "7, 9-10, 55000-55002")
        self.assertEqual(port_ranges([9, 7, 8, 1], ","), "1,7-9")
        self.assertEqual(port_ranges([]), "")
