"""What the window remembers from one time to the next."""

from __future__ import annotations

import json
import os

from twisted.trial.unittest import SynchronousTestCase

from chatbox.client.gui.settings import Settings, on_screen


class SettingsTests(SynchronousTestCase):
    """What the window remembers."""

    def test_round(self) -> None:
        """What was saved is loaded."""
        path = os.path.join(self.mktemp(), "settings.json")
        kept = ("alice", "example.org", True, "dark", 2, "900x700+1+2", "/srv", "2MB", True)
        Settings(*kept).save(path)
        self.assertEqual(Settings.load(path), Settings(*kept))

    def test_nonsense(self) -> None:
        """Whatever cannot be read is as if it were not there; the rest counts."""
        path = self.mktemp()
        self.assertEqual(Settings.load(path), Settings())
        for content in ("", "[]", "{", json.dumps({"name": 3, "zoom": True, "other": 1})):
            with open(path, "w") as file:
                file.write(content)
            self.assertEqual(Settings.load(path), Settings())
        with open(path, "w") as file:
            json.dump({"name": 3, "address": "example.org"}, file)
        self.assertEqual(Settings.load(path), Settings(address="example.org"))

    def test_on_the_screen(self) -> None:
        """The window is where it was, and no larger, as far as that is on the screen of today."""
        for kept, expected in {
            "900x700+100+50": "900x700+100+50",
            "900x700+1500+40": "900x700+380+40",
            "900x700+100+600": "900x700+100+100",
            "900x700+-20+-5": "900x700+0+0",
            "1920x1080+0+20": "1280x800+0+0",
            "900x700": "900x700",
            "2000x700": "1280x700",
            "": "1080x720",
            "900x700-0-0": "1080x720",
            "٩00x700": "1080x720",
            f"{'9' * 9}x700+0+0": "1080x720",
        }.items():
            self.assertEqual(on_screen(kept, (1080, 720), (1280, 800)), expected, kept)
        self.assertEqual(on_screen("", (1080, 720), (1024, 600)), "1024x600")

    def test_nowhere(self) -> None:
        """Where nothing can be written nothing is kept, and nothing breaks."""
        Settings().save("/dev/null/settings.json")
