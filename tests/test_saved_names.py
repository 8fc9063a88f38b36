"""What a download's file is called here."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from chatbox.client.files.names import free_path, likely_name, save_path
from chatbox.errors import RemoteError


class SavePathTests(SynchronousTestCase):
    """Where a file goes."""

    def test_places(self) -> None:
        """Here under its own name, into a folder, or where it is said; ~ is the home folder."""
        folder = os.path.abspath(self.mktemp())
        os.mkdir(folder)
        self.assertEqual(save_path("b.iso", None), "b.iso")
        self.assertEqual(save_path("b.iso", folder), f"{folder}/b.iso")
        self.assertEqual(save_path("b.iso", "new/"), "new/b.iso")
        self.assertEqual(save_path("b.iso", "c.iso"), "c.iso")
        self.assertEqual(save_path("b.iso", "~/c"), os.path.expanduser("~/c"))

    def test_names_choose_no_place(self) -> None:
        """A name with a path in it is not followed, unless the person says where to save it."""
        for name in ("../x", "/etc/passwd", "a/b", "..", ".", "", "a\0b", "a\\b"):
            self.assertRaises(RemoteError, save_path, name, None)
            self.assertRaises(RemoteError, save_path, name, "new/")
            self.assertEqual(save_path(name, "c"), "c")

    def test_names_that_only_a_person_chooses(self) -> None:
        """What is hidden, or what a download of another file goes by, is saved under no such name
        unless that is what somebody wants.
        """
        for name, error in (
            (".bashrc", RemoteError),
            ("a\x1b[2J", RemoteError),
            ("b.iso.part", OSError),
            ("b.iso.Part", OSError),
            ("b.iso.part.journal", OSError),
        ):
            self.assertRaises(error, save_path, name, None)
            self.assertRaises(error, save_path, name, "new/")
            self.assertEqual(save_path(name, f"new/{name}"), f"new/{name}")

    def test_likely_names(self) -> None:
        """What is offered is a name that could be saved, and the file's own if that is one."""
        for name, likely in (
            ("b.iso", "b.iso"),
            ("b\N{REPLACEMENT CHARACTER}", "b\N{REPLACEMENT CHARACTER}"),
            ("../b\\c", "_b_c"),
            (".bashrc", "bashrc"),
            ("", "file"),
            ("...", "file"),
            ("a\0b\x1b[2J\u202ec", "a_b_[2J_c"),
            ("\u00e9" * 200, "\u00e9" * 127),
            ("b.iso.Part", "b.iso_Part"),
            ("b.iso.part.journal", "b.iso_part_journal"),
            (".part", "part"),
            ("/.part.part", "_.part_part"),
            ("x" * 250 + ".part\n", "x" * 250 + "_part"),
        ):
            self.assertEqual(likely_name(name), likely)
            self.assertEqual(save_path(likely, None), likely)

    def test_free_path(self) -> None:
        """A number makes the name another one as long as something is there, even a broken link."""
        folder = os.path.abspath(self.mktemp())
        os.mkdir(folder)
        for path in ("b.iso", "b (2).iso", "b (3).iso", "b (4).iso"):
            path = os.path.join(folder, path)
            self.assertEqual(free_path(folder, "b.iso"), path)
            os.symlink("nowhere", path)
        self.assertEqual(free_path(folder, "../c"), os.path.join(folder, "_c"))
