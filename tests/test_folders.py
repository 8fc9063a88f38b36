"""Which folders are offered to somebody who types a path."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from chatbox.client.console.folders import folders_like


class FoldersTests(SynchronousTestCase):
    """Real folders, and what is none."""

    def setUp(self) -> None:
        self.here = os.path.abspath(self.mktemp())
        for name in ("Films/old", "Films/New", "music", ".hidden/x"):
            os.makedirs(os.path.join(self.here, name))
        for name in ("Films/a.mp4", "notes"):
            with open(os.path.join(self.here, name), "w", encoding="utf-8"):
                pass
        os.symlink("Films", os.path.join(self.here, "link"))
        os.symlink("nowhere", os.path.join(self.here, "broken"))

    def like(self, beginning: str) -> list[str]:
        """What is offered, by name."""
        return sorted(folders_like(beginning))

    def test_paths(self) -> None:
        """All folders beside the one that is typed, as it is typed."""
        here = self.here
        self.assertEqual(
            self.like(f"{here}/F"), [f"{here}/{one}/" for one in ("Films", "link", "music")]
        )
        self.assertEqual(self.like(f"{here}/Films/"), [f"{here}/Films/New/", f"{here}/Films/old/"])
        self.assertEqual(
            self.like(f"{here}/Films//n"), [f"{here}/Films//New/", f"{here}/Films//old/"]
        )
        self.assertEqual(
            self.like(f"{here}/."),
            [f"{here}/{one}/" for one in (".hidden", "Films", "link", "music")],
        )
        for nothing in (f"{here}/nowhere/x", f"{here}/notes/", f"{here}/music/", "a\0/b"):
            self.assertEqual(self.like(nothing), [], nothing)

    def test_home(self) -> None:
        """A tilde stays what is typed."""
        self.patch(os, "environ", {**os.environ, "HOME": self.here})
        self.assertEqual(self.like("~/Films/o"), ["~/Films/New/", "~/Films/old/"])

    def test_here(self) -> None:
        """Without a slash it is the folder that the program runs in."""
        before = os.getcwd()
        self.addCleanup(os.chdir, before)
        os.chdir(self.here)
        self.assertEqual(self.like("x"), ["Films/", "link/", "music/"])

    def test_what_cannot_be_typed(self) -> None:
        """Names that a terminal would obey, or that are no text, are left out."""
        for name in (b"\x1b[2J", b"caf\xe9", b"a\nb"):
            os.mkdir(os.path.join(os.fsencode(self.here), b"music", name))
        self.assertEqual(self.like(f"{self.here}/music/"), [])
