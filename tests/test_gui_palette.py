"""The colours, and whether they can be told apart."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from chatbox.client.gui.palette import MIN_CONTRAST, PALETTES, Palette, colour_of, contrast


class PaletteTests(SynchronousTestCase):
    """The colours."""

    def pairs(self, p: Palette) -> list[tuple[str, str]]:
        """Each colour of text with each that it stands on."""
        return [
            *((text, ground) for text in (p.text, p.dim, p.accent) for ground in
              (p.ground, p.surface, p.private, p.failed)),
            *((text, ground) for text in (p.text, p.dim) for ground in (p.raised, p.hover)),
            *((colour, ground) for colour in (p.danger, p.good, p.warning) for ground in
              (p.ground, p.surface)),
            (p.danger, p.failed), (p.on_accent, p.accent), (p.on_accent, p.accent_hover),
            *((colour, ground) for colour in p.people for ground in (p.surface, p.private)),
        ]  # fmt: skip

    def test_contrast(self) -> None:
        """Everything can be read, in both themes."""
        for palette in PALETTES.values():
            for text, ground in self.pairs(palette):
                ratio = contrast(text, ground)
                self.assertGreaterEqual(ratio, MIN_CONTRAST, f"{palette.name} {text} on {ground}")

    def test_known_contrasts(self) -> None:
        """The formula gives what WCAG says of black, white and grey."""
        self.assertAlmostEqual(contrast("#000000", "#ffffff"), 21.0)
        self.assertAlmostEqual(contrast("#777777", "#ffffff"), 4.48, places=2)
        self.assertEqual(contrast("#123456", "#123456"), 1.0)

    def test_colour_of_a_name(self) -> None:
        """It is the same for names that count as the same, and the colours are all in use."""
        self.assertEqual(colour_of("Bob"), colour_of("bob"))
        used = {colour_of(f"name{number}") for number in range(200)}
        self.assertEqual(used, set(range(len(PALETTES["dark"].people))))
